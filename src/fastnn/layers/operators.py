"""The table of users' ops, and the operators of Python on the values that they take.

`fastnn.ops` enters its functions here. They are called on symbols, which become layers of a model, or on values of a
graph that is being made, to which they add nodes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn


@dataclass(frozen=True)
class Operator:
    """One op of users.

    Attributes
    ----------
    name : str
        As in `fastnn.ops`.
    add : callable
        ``add(place, *arguments, **options)`` adds the op to the graph of a place (`fastnn.layers.tracing`): values are
        tensors, numbers stay numbers. It returns a tensor or a tuple of them.
    infer : callable, optional
        The same for values of which only the shapes are known.
    """

    name: str
    add: Callable[..., Any]
    infer: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Apply the op where its first value is."""
        for value in values_in(arguments):
            return value.operate(self, arguments, options)
        return None


class _Table(dict[str, Operator]):
    """Ops by name. The first question imports `fastnn.ops`, which fills it."""

    def __missing__(self, name: str) -> Operator:
        if "add" not in self:
            import_module("fastnn.ops")
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def knows(self, name: str) -> bool:
        """Return whether there is an op of this name."""
        try:
            return bool(self[name])
        except KeyError:
            return False


OPERATORS = _Table()


def values_in(tree: Any) -> Iterator[Value]:
    """Iterate over the values among arguments, also in lists."""
    if isinstance(tree, Value):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for part in tree:
            yield from values_in(part)
    elif isinstance(tree, Mapping):
        yield from values_in(list(tree.values()))


def replaced(tree: Any, change: Callable[[Any], Any]) -> Any:
    """Return arguments with everything but lists changed by a function; lists become tuples."""
    if isinstance(tree, (list, tuple)):
        return tuple([replaced(part, change) for part in tree])
    return change(tree)


class Value:
    """What ops take: Python's operators call those of `fastnn.ops`."""

    #: NumPy's operators leave the operation to this class
    __array_ufunc__ = None

    def operate(self, operator: Operator, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Apply an op to arguments that hold this value."""
        raise NotImplementedError

    @property
    def whole(self) -> tuple[Any, ...]:
        """The shape with the batch axis."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        """The number of axes, with the batch axis."""
        return len(self.whole)

    @property
    def T(self) -> Any:
        """The value with its axes in the opposite order."""
        return OPERATORS["transpose"](self)

    if not TYPE_CHECKING:  # which would find any attribute

        def __getattr__(self, name: str) -> Any:
            hint = f": use fastnn.ops.{name}(x)" if OPERATORS.knows(name) else ""
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}")

    def __add__(self, other: Any) -> Any:
        return OPERATORS["add"](self, other)

    def __radd__(self, other: Any) -> Any:
        return OPERATORS["add"](other, self)

    def __sub__(self, other: Any) -> Any:
        return OPERATORS["subtract"](self, other)

    def __rsub__(self, other: Any) -> Any:
        return OPERATORS["subtract"](other, self)

    def __mul__(self, other: Any) -> Any:
        return OPERATORS["multiply"](self, other)

    def __rmul__(self, other: Any) -> Any:
        return OPERATORS["multiply"](other, self)

    def __truediv__(self, other: Any) -> Any:
        return OPERATORS["divide"](self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return OPERATORS["divide"](other, self)

    def __mod__(self, other: Any) -> Any:
        return OPERATORS["mod"](self, other)

    def __rmod__(self, other: Any) -> Any:
        return OPERATORS["mod"](other, self)

    def __pow__(self, other: Any) -> Any:
        return OPERATORS["power"](self, other)

    def __rpow__(self, other: Any) -> Any:
        return OPERATORS["power"](other, self)

    def __matmul__(self, other: Any) -> Any:
        return OPERATORS["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return OPERATORS["matmul"](other, self)

    def __neg__(self) -> Any:
        return OPERATORS["negative"](self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return OPERATORS["absolute"](self)

    def __invert__(self) -> Any:
        return OPERATORS["logical_not"](self)

    def __and__(self, other: Any) -> Any:
        return OPERATORS["logical_and"](self, other)

    def __rand__(self, other: Any) -> Any:
        return OPERATORS["logical_and"](other, self)

    def __or__(self, other: Any) -> Any:
        return OPERATORS["logical_or"](self, other)

    def __ror__(self, other: Any) -> Any:
        return OPERATORS["logical_or"](other, self)

    def __lt__(self, other: Any) -> Any:
        return OPERATORS["less"](self, other)

    def __le__(self, other: Any) -> Any:
        return OPERATORS["less_equal"](self, other)

    def __gt__(self, other: Any) -> Any:
        return OPERATORS["greater"](self, other)

    def __ge__(self, other: Any) -> Any:
        return OPERATORS["greater_equal"](self, other)

    def __eq__(self, other: object) -> Any:
        return OPERATORS["equal"](self, other)

    def __ne__(self, other: object) -> Any:
        return OPERATORS["not_equal"](self, other)

    __hash__ = object.__hash__

    def __getitem__(self, key: Any) -> Any:
        return OPERATORS["getitem"](self, key)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the first axis, if it is not the batch axis."""
        if not self.whole or not isinstance(self.whole[0], int):
            raise TypeError(f"{self!r} cannot be iterated over: its first axis has no fixed size")
        return iter([self[index] for index in range(self.whole[0])])

    def __len__(self) -> NoReturn:
        raise TypeError(f"{self!r} has no length before the batch is known: its shape is {self.whole}")

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} is computed later, so it is neither true nor false now: use fastnn.ops.where instead of `if`, "
            "and logical_and, logical_or instead of `and`, `or`"
        )

    def __float__(self) -> NoReturn:
        raise TypeError(f"{self!r} is computed later and is no number now: use functions of fastnn.ops, not of `math`")

    __int__ = __index__ = __float__

    def __array__(self, *args: object, **kwargs: object) -> NoReturn:
        raise TypeError(
            f"{self!r} has no values yet: use functions of fastnn.ops, not of NumPy; for values make a fastnn.Model "
            "and call predict"
        )
