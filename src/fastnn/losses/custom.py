"""User-defined losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import flag
from fastnn.formula_types import check_types
from fastnn.formulas import custom
from fastnn.losses.base import Loss
from fastnn.registry import register


@register("loss")
@dataclass(frozen=True, repr=False)
class Custom(Loss):
    """A loss from a scalar function of a target and a prediction, compiled into fastnn's loops.

    A function passed as a loss, as in ``compile("adam", function)``, becomes ``Custom(function)``.

    Parameters
    ----------
    function : function
        ``function(target, prediction) -> loss`` of one element, written in the part of Python that Numba compiles, with
        or without `numba.njit`.
    gradient : function, optional
        ``gradient(target, prediction) -> dloss/dprediction``. Without it, central differences of the function in
        float64 are used: right to about ten digits where the function is smooth, at four times the cost. Near
        a pole, and at the end of the function's domain, shorter or one-sided steps keep it right to 0.1 %.
        `fastnn.testing.check_op` compares the two.
    name : str, optional
        The function's name by default. Saved models contain only the name: pass the function to `fastnn.load`.
    row_mean : bool
        Whether the loss of a row is the mean over its elements; else it is the sum.
    normalize : {"rows", "weights"}
        As for all losses: what the sum over the rows is divided by.

    Raises
    ------
    TypeError
        When an argument is not a function, or does not take two numbers.
    ValueError
        When Numba cannot compile a function, or it does not return a number.
    """

    function: Callable[..., Any]
    gradient: Callable[..., Any] | None = None
    name: str = ""
    row_mean: bool = field(default=True, kw_only=True)  # type: ignore[misc]
    formula: str = field(init=False, repr=False, compare=False)  # type: ignore[misc]
    is_custom: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the functions, and register them with the compiler."""
        super().__post_init__()
        flag("row_mean", self.row_mean)
        custom.check_arity(self.function, 2, "loss", "of a target and a prediction")
        if self.gradient is not None:
            custom.check_arity(self.gradient, 2, "loss: gradient", "of a target and a prediction")
        object.__setattr__(self, "name", custom.name_of(self.name, self.function))
        made = custom.make(self.name, self.function, self.gradient)
        object.__setattr__(self, "formula", check_types(made, "loss").key)

    def __repr__(self) -> str:
        """Show only the name, because functions show addresses."""
        return f"Custom({self.name})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Register the function in the process that unpickles the object."""
        return partial(type(self), row_mean=self.row_mean, normalize=self.normalize), (
            self.function,
            self.gradient,
            self.name,
        )

    def rows(self, targets: NDArray[Any], predictions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute the loss of every row, element by element and in float64."""
        elements = custom.over(self.function, targets, predictions)
        rows: NDArray[np.float64] = elements.mean(axis=-1) if self.row_mean else elements.sum(axis=-1)
        return rows
