"""Scalar formulas of all elementwise operations, written once in plain Python for all compiled backends."""
