"""Kernels whose windows slide over maps: convolutions, their gradients, pooling."""
