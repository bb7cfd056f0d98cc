"""Checks of user-defined functions, and of fastnn in the place of other libraries."""

from fastnn.hints import install
from fastnn.testing.derivatives import Derivative, check_op

__all__ = ["Derivative", "check_op"]

install(__name__)
