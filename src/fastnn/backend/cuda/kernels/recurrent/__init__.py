"""Kernels of recurrent layers: one launch for all time steps."""
