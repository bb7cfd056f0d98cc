"""User-defined activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.activations.base import Activation
from fastnn.formula_types import check_types
from fastnn.formulas import custom
from fastnn.registry import register


@register("activation")
@dataclass(frozen=True, repr=False)
class Custom(Activation):
    """An activation from a scalar function, compiled into fastnn's loops.

    A function passed as an activation, as in ``Dense(8, activation=function)``, becomes
    ``Custom(function)``.

    Parameters
    ----------
    function : function
        ``function(x) -> y`` of one number, written in the part of Python that Numba compiles, with or without
        `numba.njit`. It is compiled again for the model's dtype; functions that it calls must be `numba.njit` ones.
        Global values are constants. An exception, or an index out of bounds, ends the program with a RuntimeError.
    gradient : function, optional
        ``gradient(x) -> dy/dx``. Without it, central differences of the function in float64 are used:
        right to about ten digits where the function is smooth, the mean of both sides at a kink, at four times the
        cost. Near a pole, and at the end of the function's domain, shorter or one-sided steps keep it right
        to 0.1 %.
        `fastnn.testing.check_op` compares the two.
    name : str, optional
        The function's name by default. Saved models contain only the name: pass the function to `fastnn.load`.

    Raises
    ------
    TypeError
        When an argument is not a function, or does not take one number.
    ValueError
        When Numba cannot compile a function, or it does not return a number.
    """

    function: Callable[..., Any]
    gradient: Callable[..., Any] | None = None
    name: str = ""
    formula: str = field(init=False, repr=False, compare=False)  # type: ignore[misc]
    is_custom: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the functions, and register them with the compiler."""
        custom.check_arity(self.function, 1, "activation", "of one number")
        if self.gradient is not None:
            custom.check_arity(self.gradient, 1, "activation: gradient", "of one number")
        object.__setattr__(self, "name", custom.name_of(self.name, self.function))
        made = custom.make(self.name, self.function, self.gradient)
        object.__setattr__(self, "formula", check_types(made, "activation").key)

    def __repr__(self) -> str:
        """Show only the name, because functions show addresses."""
        return f"Custom({self.name})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Register the function in the process that unpickles the object."""
        return type(self), (self.function, self.gradient, self.name)

    def __call__(self, x: ArrayLike) -> NDArray[Any]:
        """Apply the function to every element of an array, one by one, in float64."""
        array = np.asarray(x)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{self.name}: expected an array of real numbers, got dtype {array.dtype}")
        dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
        values: NDArray[Any] = custom.over(self.function, np.asarray(array, np.float64)).astype(dtype)[()]
        return values
