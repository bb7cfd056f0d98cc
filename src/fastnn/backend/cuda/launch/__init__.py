"""Programs as launches of kernels: records, fusions, graphs."""
