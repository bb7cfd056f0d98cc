"""The ops of graphs by family: the constructor that layers call, with the shape rule, and after it the gradient rule.

Layers check the shapes before (their errors can name the layer).

Each module registers its gradient rules when it is imported. Those that no constructor was imported from are imported
when a rule is looked for.
"""
