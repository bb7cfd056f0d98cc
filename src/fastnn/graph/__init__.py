"""Graphs of tensors and nodes: shapes, the ops that layers use, and reverse-mode differentiation."""
