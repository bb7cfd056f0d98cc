"""Backends that run programs: `cpu` with compiled kernels, `reference` in NumPy float64."""
