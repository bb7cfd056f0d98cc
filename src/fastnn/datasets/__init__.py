"""Small data sets for examples and tests: bundled digits, generated data, and files in the format of MNIST's."""

from __future__ import annotations

from fastnn.datasets.digits import load_digits
from fastnn.datasets.generators import make_moons, make_regression, make_spirals, make_xor
from fastnn.datasets.idx import load_idx
from fastnn.datasets.images import make_edges, make_shapes
from fastnn.hints import install

__all__ = [
    "load_digits", "load_idx", "make_edges", "make_moons", "make_regression", "make_shapes", "make_spirals", "make_xor",
]  # fmt: skip

install(__name__)
