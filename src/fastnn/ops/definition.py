"""How functions of `fastnn.ops` are defined: once, as functions that add nodes to a graph."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from fastnn.layers.operation import Operation
from fastnn.layers.operators import OPERATORS, Operator, values_in
from fastnn.layers.tracing import current_place, users_line

#: a symbol; where a number or an array may stand beside one, this too
Operand = Any
#: the name in NumPy of an op, if it is another than here, by the op's name; "" where NumPy has none
NUMPY_NAMES: dict[str, str] = {}


def op(
    *, numpy: str | None = None, free: bool = False, infer: Callable[..., Any] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that enters a function into the table of ops, and returns what users call.

    The function is ``function(place, x, ..., options)``: it adds nodes to ``place.graph``, and returns a tensor or a
    tuple of them. Users call it without the place, with symbols for tensors.

    Parameters
    ----------
    numpy : str, optional
        The name that NumPy has for it: the same by default, "" for none.
    free : bool
        Whether it needs no symbol among its arguments.
    infer : callable, optional
        Takes what the function takes, and returns tensors of the results' shapes, where these are all that is wanted.
    """
    return lambda function: _entered(function, numpy, free, infer)


def _entered(
    function: Callable[..., Any], numpy: str | None, free: bool, infer: Callable[..., Any] | None
) -> Callable[..., Any]:
    name = function.__name__
    operator = OPERATORS[name] = Operator(name, function, infer)
    NUMPY_NAMES[name] = name if numpy is None else numpy
    signature = inspect.signature(function)
    public = signature.replace(parameters=list(signature.parameters.values())[1:])

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            public.bind(*arguments, **options)
        except TypeError as error:
            raise TypeError(f"ops.{name}: {error}; its arguments are {public}") from None
        for value in values_in([arguments, options]):
            return value.operate(operator, arguments, options)
        place = current_place()
        if place is not None:
            return place.operate(operator, arguments, options)
        if free:
            return Operation.on(operator, arguments, options)
        failure = TypeError(
            f"ops.{name}: expected at least one symbol (fastnn.Input(...), the result of a layer, or the argument of a "
            f"function of symbols), got {', '.join(type(one).__name__ for one in arguments) or 'nothing'}; for values "
            "use NumPy, or fastnn.function"
        )
        failure.add_note(users_line())
        raise failure

    call.__signature__ = public  # type: ignore[attr-defined]
    call.__annotations__ = {key: kind for key, kind in function.__annotations__.items() if key in public.parameters}
    return call
