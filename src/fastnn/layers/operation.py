"""Ops on symbols, as layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import initializers
from fastnn.config import register
from fastnn.graph.extent import Extent
from fastnn.graph.graph import Graph, Tensor
from fastnn.initializers import Initializer
from fastnn.layers.base import Layer, ParameterSpec, Scope, Shape
from fastnn.layers.open_shapes import Described, Result, described
from fastnn.layers.operators import OPERATORS, Operator, Value, replaced
from fastnn.layers.symbols import Symbol, results_of
from fastnn.layers.tracing import Place, added, at_place, checked

# ops whose arrays of integers are indices; other ops take them as real numbers
_BY_NUMBER = frozenset(["one_hot", "take", "take_along_axis"])


@register("layer")
@dataclass(eq=False, repr=False)
class Operation(Layer):
    """An op of `fastnn.ops` on symbols; these functions make it.

    ::

        y = fnn.ops.exp(x)

    Parameters
    ----------
    op : str
        Its name.
    arguments : tuple
        Numbers, texts, None and tuples of such. "$0", "$1", ... stand for the symbols, and (":", start, stop, step) for
        a slice.
    options : tuple of (name, value)
    """

    op: str
    arguments: tuple[Any, ...] = ()
    options: tuple[Any, ...] = ()
    arity = (0, None)

    def prepare(self) -> None:
        if not isinstance(self.op, str) or not OPERATORS.knows(self.op):
            raise ValueError(f"op: expected the name of a function of fastnn.ops, got {self.op!r}")
        for option in self.options:
            if not isinstance(option, tuple) or len(option) != 2 or not isinstance(option[0], str):
                raise ValueError(f"options: expected pairs of names and values, got {option!r}")

    @property
    def word(self) -> str:
        """What the layer is named after."""
        return self.op

    @property
    def operator(self) -> Operator:
        """The op."""
        return OPERATORS[self.op]

    def __call__(self, inputs: Symbol | Sequence[Symbol]) -> Any:
        symbols = self.symbols(inputs)
        several, results = described(self.label, [symbol.result for symbol in symbols], self.described)
        found = results_of(self, symbols, results)
        return found if several else found[0]

    def described(self, inputs: Sequence[Result]) -> Described:
        place, operator = Place(Graph(), self.label), self.operator
        inferring = Operator(self.op, operator.infer or operator.add)
        made = self._added(place, inferring, [place.graph.placeholder(x.shape, x.batched, x.kind, "x") for x in inputs])
        tensors = made if isinstance(made, tuple) else (made,)
        return isinstance(made, tuple), [Result(x.shape, x.kind, x.batched) for x in tensors]

    def apply(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope
    ) -> Tensor | Sequence[Tensor]:
        made: Tensor | Sequence[Tensor] = self._added(
            Place(graph, scope.label, scope.number, training=scope.training), self.operator, inputs
        )
        return made

    def _added(self, place: Place, operator: Operator, inputs: Sequence[Tensor]) -> Any:
        def decoded(value: Any) -> Any:
            if isinstance(value, tuple):
                if value[:1] == (":",) and len(value) == 4:
                    return slice(*value[1:])
                if value[:1] == ("B",):
                    return Extent(value[1:])
                return tuple(map(decoded, value))
            if isinstance(value, str) and value[:1] == "$" and value[1:].isdigit():
                if int(value[1:]) >= len(inputs):
                    raise ValueError(f"layer {self.label!r}: has no input {value}")
                return inputs[int(value[1:])]
            return ... if value == "..." else value

        with at_place(place):
            return added(
                place, operator, [decoded(one) for one in self.arguments],
                {name: decoded(one) for name, one in self.options},
            )  # fmt: skip

    @classmethod
    def on(cls, operator: Operator, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Return the symbols of an op on arguments that hold symbols."""
        symbols: list[Symbol] = []

        def encoded(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                indices = operator.name in _BY_NUMBER and value.dtype.kind in "iu"
                value = cls.on(OPERATORS["cast"], [constant(value), "int64"], {}) if indices else constant(value)
            if isinstance(value, Symbol):
                position = next((at for at, known in enumerate(symbols) if known is value), len(symbols))
                if position == len(symbols):
                    symbols.append(value)
                return f"${position}"
            if isinstance(value, Value):
                raise TypeError(f"ops.{operator.name}: {value!r} and symbols of a model cannot be combined")
            if isinstance(value, slice):
                return (":", value.start, value.stop, value.step)
            if isinstance(value, Extent):
                return ("B", *value.coefficients)
            return "..." if value is ... else checked(operator.name, value)

        given = tuple([replaced(one, encoded) for one in arguments])
        layer = cls(operator.name, given, tuple([(name, replaced(one, encoded)) for name, one in options.items()]))
        return layer(symbols)


@dataclass(frozen=True)
class _Given(Initializer):
    """The numbers of an array."""

    values: NDArray[Any]

    def _sample(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        return np.asarray(self.values, np.float64)


@register("layer")
@dataclass(eq=False, repr=False)
class ConstantLayer(Layer):
    """An array that does not change: a weight that is not trained, so that model files hold it.

    ::

        scale = fnn.ops.constant([1.0, 2.0, 3.0])

    Parameters
    ----------
    shape : tuple of int
    """

    shape: tuple[int, ...]
    arity = (0, 0)

    @property
    def word(self) -> str:
        """What the layer is named after."""
        return "constant"

    def __call__(self, inputs: Symbol | Sequence[Symbol] = ()) -> Symbol:
        return results_of(self, self.symbols(inputs), [Result(self.shape, batched=False)])[0]

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        values = getattr(self, "_values", None)
        initializer = initializers.Zeros() if values is None else _Given(values)
        return (ParameterSpec("value", self.shape, initializer, trained=False),)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        return weights[0]


def constant(values: Any) -> Symbol:
    """Return the symbol of an array of numbers.

    Raises
    ------
    ValueError, TypeError
        When there are no numbers, or they are not real.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiub" or not array.size:
        raise TypeError(f"constant: expected real numbers, got an array of {array.dtype} of shape {array.shape}")
    layer = ConstantLayer(array.shape)
    object.__setattr__(layer, "_values", array.astype(np.float64))
    return layer()
