"""Models: architectures with weights, which are trained, predict, and are saved."""

from fastnn.hints import install
from fastnn.model.model import Model
from fastnn.model.sequential import Sequential

__all__ = ["Model", "Sequential"]

install(__name__)
