"""Accumulators of metrics."""
