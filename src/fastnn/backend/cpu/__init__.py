"""The CPU backend: kernels compiled by Numba on first use, cached on disk, run by a small native loop."""
