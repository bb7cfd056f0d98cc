"""The slow backend: every record op in NumPy and float64, the living definition of what kernels compute."""
