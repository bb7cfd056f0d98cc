"""Matrix products: a plan by shape, and one file per algorithm."""
