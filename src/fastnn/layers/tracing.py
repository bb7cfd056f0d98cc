"""Functions of symbols, called on the values of a graph that is being made: ops add their nodes at once."""

from __future__ import annotations

import inspect
import itertools
import linecache
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.graph.extent import Extent
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.joins import concatenate
from fastnn.graph.ops.pointwise import cast, constant
from fastnn.graph.ops.reductions import reduce
from fastnn.graph.ops.strided import reshape
from fastnn.layers.operators import Operator, Value, replaced

_current: ContextVar[Place | None] = ContextVar("place", default=None)
#: Streams of random numbers are this far apart; those of layers are numbers of calls.
STREAMS = 1 << 20
#: how many numbers an array may have that a function of symbols contains
LARGEST_CONSTANT = 256


class Place:
    """Where ops add their nodes.

    Parameters
    ----------
    graph : Graph
    label : str
        The layer's or loss's name.
    number : int
        The number of the layer's call, which separates streams of random numbers.
    training : bool
        Whether dropout drops.
    """

    def __init__(self, graph: Graph, label: str, number: int = 0, *, training: bool = False) -> None:
        self.graph, self.label, self.training = graph, label, training
        self._number, self._streams = number, itertools.count()

    def stream(self) -> int:
        """Return the number of a stream of random numbers that no other op has."""
        return self._number + next(self._streams) * STREAMS

    def tensor(self, value: Any) -> Tensor:
        """Return a tensor: the argument, or a constant of a number's value."""
        if isinstance(value, Tensor):
            return value
        if isinstance(value, Extent):
            ones = constant(self.graph, 1.0, (value,), self.label)
            return reduce(self.graph, "sum", ones, None, False, self.label)
        if isinstance(value, np.ndarray):
            return self._array(value)
        if not isinstance(value, numbers.Real):
            raise TypeError(f"expected a symbol, a number or an array of numbers, got {value!r}")
        return constant(self.graph, float(value), (), self.label)

    def integers(self, value: Any) -> Tensor:
        """Return a tensor of integers: the argument, or a constant of numbers, lists or arrays of them."""
        if isinstance(value, Tensor):
            return value
        array = np.asarray(value)
        if array.dtype.kind not in "iu":
            raise TypeError(f"expected integers, got {value!r}")
        return cast(self.graph, self.tensor(array), "int64", self.label)

    def _array(self, values: NDArray[Any]) -> Tensor:
        """Return the tensor of a constant array, made of filled ones."""
        if values.size > LARGEST_CONSTANT:
            raise ValueError(
                f"an array of {values.size} numbers in a function of symbols: there may be {LARGEST_CONSTANT}; give "
                "larger ones as inputs, as weights of a layer, or as fastnn.ops.constant(array) from outside"
            )
        filled = [constant(self.graph, float(value), (1,), self.label) for value in values.ravel()]
        joined = filled[0] if len(filled) == 1 else concatenate(self.graph, filled, 0, self.label)
        return reshape(self.graph, joined, values.shape, self.label)

    def operate(self, operator: Operator, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Add an op whose values are traced ones, and return its results as such."""

        def plain(argument: Any) -> Any:
            if isinstance(argument, Traced):
                if argument.place.graph is not self.graph:
                    raise TypeError(f"{operator.name}: {argument!r} is the value of another function's call")
                return argument.tensor
            if isinstance(argument, Value):
                raise TypeError(
                    f"{operator.name}: {argument!r} is a symbol from outside the function: give it as an argument"
                )
            return checked(operator.name, argument)

        made = added(self, operator, [replaced(one, plain) for one in arguments],
                     {name: replaced(one, plain) for name, one in options.items()})  # fmt: skip
        return tuple(Traced(one, self) for one in made) if isinstance(made, tuple) else Traced(made, self)


def added(place: Place, operator: Operator, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Add an op to a graph, and return what it returns; errors point at the user's line."""
    try:
        return operator.add(place, *arguments, **options)
    except (ValueError, TypeError) as error:
        where = users_line()
        if where and not getattr(error, "__notes__", None):
            error.add_note(where)
        raise


def checked(name: str, argument: Any) -> Any:
    """Return an argument of an op that is no value, if ops can take it."""
    if argument is None or isinstance(argument, (bool, str, slice, type(Ellipsis), Extent, Tensor)):
        return argument
    if isinstance(argument, numbers.Integral):
        return int(argument)
    if isinstance(argument, numbers.Real):
        return float(argument)
    if isinstance(argument, np.ndarray) and argument.dtype.kind in "fiub":
        return argument
    raise TypeError(f"ops.{name}: expected symbols, numbers or arrays of numbers, got {type(argument).__name__}")


class Traced(Value):
    """A value in a function of symbols while its graph is made.

    Attributes
    ----------
    tensor : Tensor
    place : Place
    """

    def __init__(self, tensor: Tensor, place: Place) -> None:
        self.tensor, self.place = tensor, place

    @property
    def whole(self) -> tuple[Any, ...]:
        """The shape with the batch axis."""
        return self.tensor.whole

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shape with the batch axis; a size that depends on the batch is a polynomial of its size B."""
        return self.tensor.whole

    @property
    def kind(self) -> str:
        """Whether the values are numbers of the model's dtype ("real") or integers ("int64")."""
        return self.tensor.kind

    def operate(self, operator: Operator, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Add the op's nodes."""
        return self.place.operate(operator, arguments, options)

    def __repr__(self) -> str:
        kind = "" if self.kind == "real" else f", {self.kind}"
        return f"<value {shown(self.whole)}{kind} in {self.place.label}>"


def shown(whole: Sequence[Any]) -> str:
    """Return a shape as text: the batch size is B."""
    return f"({', '.join(map(repr, whole))}{',' * (len(whole) == 1)})"


@contextmanager
def at_place(place: Place) -> Iterator[None]:
    """Make a place the one where ops without values, such as random numbers, add their nodes."""
    token = _current.set(place)
    try:
        yield
    finally:
        _current.reset(token)


def current_place() -> Place | None:
    """Return where a function of symbols is being called, or None."""
    return _current.get()


def trace(
    place: Place, function: Callable[..., Any], tensors: Sequence[Tensor], **options: Any
) -> tuple[bool, list[Tensor]]:
    """Call a function of symbols on tensors; returns whether it has several results, and their tensors.

    Raises
    ------
    TypeError
        When a result is no value.
    """
    with at_place(place):
        made = function(*[Traced(tensor, place) for tensor in tensors], **options)
        results = list(made) if isinstance(made, (list, tuple)) else [made]
        if not results:
            raise TypeError(f"{place.label!r}: the function returned no results, expected at least one")
        found = []
        for one in results:
            if isinstance(one, (int, float)) and not isinstance(one, bool):
                one = Traced(place.tensor(one), place)
            if not isinstance(one, Traced) or one.place.graph is not place.graph:
                raise TypeError(
                    f"{place.label!r}: the function returned {one!r}, expected the result of operators and functions "
                    "of fastnn.ops on its arguments, or a tuple of such"
                )
            found.append(one.tensor)
    return isinstance(made, (list, tuple)), found


def takes(function: Callable[..., Any], name: str) -> bool:
    """Return whether a function has a parameter of this name."""
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def users_line() -> str:
    """Return the nearest line of code outside this package that is being executed, or an empty text."""
    frame = inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "fastnn":
        frame = frame.f_back
    if frame is None:
        return ""
    path, line = frame.f_code.co_filename, frame.f_lineno
    return f'in "{path}", line {line}, {frame.f_code.co_name}: {linecache.getline(path, line).strip()}'
