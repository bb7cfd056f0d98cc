"""Symbols: the results of calling layers on inputs or on other layers' outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastnn.layers.base import Layer


@dataclass(frozen=True, eq=False)
class Symbol:
    """A batch of values that a model will compute: its shape without the batch axis, and its origin.

    Attributes
    ----------
    shape : tuple of int
        Shape of one sample.
    layer : Layer
        The layer whose call gave this symbol.
    inputs : tuple of Symbol
        The inputs of that call; empty for `fastnn.Input`.
    """

    shape: tuple[int, ...]
    layer: Layer
    inputs: tuple[Symbol, ...]

    def __repr__(self) -> str:
        return f"<Symbol {(None, *self.shape)} of {self.layer.label}>"

    def __array__(self, *args: object, **kwargs: object) -> None:
        raise TypeError("a Symbol has no values: make a fastnn.Model of it and call predict")
