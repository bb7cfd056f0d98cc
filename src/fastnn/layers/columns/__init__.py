"""Layers that prepare numbers and categories, in models and on arrays."""
