"""User-defined layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastnn import initializers
from fastnn.checks import size
from fastnn.config import register
from fastnn.formula_types import check_types
from fastnn.formulas import custom, custom_formulas
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.custom import row_function
from fastnn.initializers import Initializer
from fastnn.layers.base import Layer, ParameterSpec, Scope, Shape, shape_of

__all__ = ["Custom", "RowFunction"]


@register("function")
@dataclass(frozen=True, repr=False)
class RowFunction:
    """A function of arrays for `Custom`, with its gradient; also passed to `fastnn.load` for saved layers.

    Parameters
    ----------
    function, gradient : function
        As for `Custom`.
    name : str, optional
        The function's by default.
    """

    function: Callable[..., Any]
    gradient: Callable[..., Any] | None = None
    name: str = ""
    is_custom: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for function in (self.function, self.gradient):
            if function is not None:
                custom.plain_function(function)
        object.__setattr__(self, "name", custom.name_of(self.name, self.function))

    def __repr__(self) -> str:
        """Show only the name, because functions show addresses."""
        return self.name


@register("layer")
@dataclass(eq=False, repr=False)
class Custom(Layer):
    """A layer from a function of arrays, which is called row by row.

    ::

        fnn.layers.Custom(function, units=8)

    Parameters
    ----------
    function : function
        ``function(x, y)`` fills the array y, of `units` numbers, from the array x, the last axis of a sample; with
        weights ``function(x, w, y)``. y is zero before the call; x and w must not be changed. Written in the part of
        Python that Numba compiles, with or without `numba.njit`. An index out of bounds, or an exception, ends the
        program with a RuntimeError.
    units : int or tuple of int
        Length of y. A tuple says that the layer has several outputs: then a call gives a tuple, and the functions take
        an array for each output in the place of y or dy, as ``function(x, y0, y1)`` and ``gradient(x, dy0, dy1, dx)``
        do for ``units=(8, 1)``.
    gradient : function, optional
        ``gradient(x, dy, dx)`` fills dx, the gradient for x, from dy, that for y; with weights ``gradient(x, w, dy, dx,
        dw)``, which adds to dw. Without it, central differences of the function in float64 are used: four calls
        for each number in x and w, and more near a pole or the end of the function's domain.
        `fastnn.testing.check_op` compares the two.
    weight_shape : int or tuple of int, optional
        Shape of w.
    initializer : str or initializer
        Initial values of w.

    Notes
    -----
    Rows are computed one by one, on one thread. The input has shape (..., n), an output (..., units). Saved models
    contain only the function's name: pass the function to `fastnn.load`, as in ``custom_objects={"name":
    RowFunction(function, gradient)}``.
    """

    function: Callable[..., Any] | RowFunction
    units: int | tuple[int, ...]
    gradient: Callable[..., Any] | None = None
    weight_shape: Shape | None = None
    initializer: Initializer | str = "glorot_uniform"

    def prepare(self) -> None:
        if isinstance(self.units, tuple | list) and self.units:
            self.units = tuple(size(f"units[{number}]", each) for number, each in enumerate(self.units))
        else:
            self.units = size("units", self.units)
        self.weight_shape = None if self.weight_shape is None else shape_of("weight_shape", self.weight_shape)
        self.initializer = initializers.get(self.initializer)
        if not isinstance(self.function, RowFunction):
            self.function = RowFunction(self.function, self.gradient)
        elif self.gradient is not None:
            raise TypeError("gradient: a RowFunction already has one")
        self.gradient = None
        outputs, weights = list(self._outputs), ["w"] * bool(self.weight_shape)
        given = ["x", *weights, *outputs]
        custom.check_arity(self.function.function, len(given), "function", f"of ({', '.join(given)})")
        if self.function.gradient is not None:
            given = ["x", *weights, *(f"d{name}" for name in (*outputs, "x", *weights))]
            custom.check_arity(self.function.gradient, len(given), "gradient", f"of ({', '.join(given)})")
        shape, units = self.weight_shape or (0,), self.units if isinstance(self.units, tuple) else ()
        users = custom.make(
            self.function.name, self.function.function, self.function.gradient, shape=shape, units=units
        )
        object.__setattr__(self, "_custom", check_types(users, "layer"))
        object.__setattr__(self, "_tried", set())

    @property
    def _outputs(self) -> dict[str, int]:
        """The function's outputs: names, as in messages, and sizes."""
        if isinstance(self.units, int):
            return {"y": self.units}
        return {f"y{number}": units for number, units in enumerate(self.units)}

    def output_shape(self, *shapes: Shape) -> Shape | Sequence[Shape]:
        (shape,) = shapes
        if not shape:
            raise self.fail("takes inputs of shape (batch, ..., features), got (batch,)")
        if shape[-1] not in self._tried:
            self._try(shape[-1])
            self._tried.add(shape[-1])
        if isinstance(self.units, int):
            return (*shape[:-1], self.units)
        return [(*shape[:-1], units) for units in self.units]

    def _try(self, columns: int) -> None:
        """Call the functions once without compiling: NumPy reports wrong shapes and indices."""
        rng, untouched = np.random.default_rng(0), 7.25e77
        x, w = rng.uniform(0.1, 0.9, columns), rng.uniform(0.1, 0.9, self.weight_shape or (0,))
        total = sum(self._outputs.values())
        y, dx, dy = np.full(total, untouched), np.zeros(columns), rng.uniform(0.1, 0.9, total)
        for given in (x, w, dy):
            given.flags.writeable = False
        forward, backward = custom_formulas.rows(self._custom, lambda each: each)
        try:
            with np.errstate(all="ignore"):
                forward(x, w, y)
                if self._custom.functions[1] is not None:
                    backward(x, w, dy, dx, np.zeros(w.shape))
        except Exception as error:
            sizes = (
                f"x of {columns}{''.join(f' and {name} of {units}' for name, units in self._outputs.items())} numbers"
            )
            raise self.fail(f"the function {self.function!r} fails for {sizes}: {error}") from error
        for name, units in self._outputs.items():
            left, y = int((y[:units] == untouched).sum()), y[units:]
            if left:
                raise self.fail(f"the function {self.function!r} does not set {left} of the {units} numbers of {name}")

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        if self.weight_shape is None:
            return ()
        return (ParameterSpec("w", self.weight_shape, initializers.get(self.initializer)),)

    def apply(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope
    ) -> Tensor | Sequence[Tensor]:
        w = weights[0] if weights else None
        found = row_function(graph, inputs[0], w, [*self._outputs.values()], self._custom.key, scope.label)
        return found[0] if isinstance(self.units, int) else found
