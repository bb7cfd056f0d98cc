"""Kernels that normalise rows and columns, and what they share."""
