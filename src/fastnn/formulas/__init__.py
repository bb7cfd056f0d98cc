"""Scalar meaning of every elementwise operation, written once as plain Python for all compiled backends."""
