"""Programs bound to compiled kernels, and their runs."""
