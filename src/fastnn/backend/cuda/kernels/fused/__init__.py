"""Several products in one kernel, forward and backward."""
