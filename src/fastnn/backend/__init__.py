"""Backends that run programs: `cpu` and `cuda` with compiled kernels, `reference` in NumPy float64."""
