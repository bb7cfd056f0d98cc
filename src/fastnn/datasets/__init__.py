"""Small data sets for examples and tests: bundled handwritten digits, and generated data."""

from fastnn.datasets.digits import load_digits
from fastnn.datasets.generators import make_moons, make_regression, make_spirals, make_xor
from fastnn.hints import install

__all__ = ["load_digits", "make_moons", "make_regression", "make_spirals", "make_xor"]

install(__name__)
