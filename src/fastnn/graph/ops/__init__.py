"""The ops of graphs by family: the constructor that layers call, with the shape rule, and after it the gradient rule.

Layers check the shapes before (their errors can name the layer).
"""

from __future__ import annotations

from fastnn.modules import import_all

# each module registers its gradient rules on import
import_all(__name__, __path__)
