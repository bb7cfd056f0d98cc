"""Kernels of recurrent layers: all time steps of a slice of the batch."""
