"""Losses that are functions of symbols."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import shorten
from fastnn.formulas.custom_identity import nested
from fastnn.losses.base import Loss
from fastnn.losses.targets import Kind, Shape, check_array, check_range
from fastnn.modules import import_later
from fastnn.registry import register

#: the module of the functions that take symbols
_OPS = "fastnn.ops"
#: the module that calls functions on symbols, which this room does not know: it is imported on first use
_TRACING = "fastnn.layers.checking"
#: how deep functions that a function calls are looked at
_DEPTH = 4


@register("loss")
@dataclass(frozen=True, repr=False)
class Function(Loss):
    """A loss from a function of symbols, which may mix the rows of a batch.

    ::

        def dice(y_true, y_pred):
            both = fnn.ops.sum(y_true * y_pred)
            return 1.0 - 2.0 * both / (fnn.ops.sum(y_true) + fnn.ops.sum(y_pred))

        model.compile("adam", dice)

    A function that uses `fastnn.ops` becomes ``Function(function)`` when it is passed as a loss.

    Parameters
    ----------
    function : function
        ``function(y_true, y_pred)`` of symbols; the first axis of both is that of the batch. It returns a symbol made
        by operators and functions of `fastnn.ops`: a loss for every sample, or for every row or element of a sample,
        whose mean is taken; or a single number for the batch, for which there are no sample weights. Where the output
        has a mask of steps, a loss for each step, or each element of it: those of the steps that there are not count
        for nothing.
    name : str, optional
        The function's name by default. Saved models contain only the name: pass the function to `fastnn.load`.
    normalize : {"rows", "weights"}
        As for all losses.

    Notes
    -----
    The function is called whenever a program is made, not for each batch; its gradient is derived from it. Over several
    batches the loss of a batch counts by the number of its samples. A loss that mixes rows depends on the batch size,
    which is 256 in `evaluate` unless another is given.

    Targets may have any shape (n, ...), such as labels (n,) for outputs (n, 8). A last axis of length 1 may be missing
    or too much, as for all losses: targets (n,) of outputs (n, 1) are symbols (B, 1). They are numbers of the model's
    dtype, also where they are labels: ``fnn.ops.cast(y_true, "int64")`` makes integers of them.
    """

    function: Callable[..., Any]
    name: str = ""
    formula: ClassVar[str] = "function"
    row_mean: ClassVar[bool] = False
    is_custom: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the function, and take its name."""
        super().__post_init__()
        if not callable(self.function) or isinstance(self.function, type):
            raise TypeError(f"loss: expected a function of y_true and y_pred, got {shorten(self.function)}")
        if not isinstance(self.name, str):
            raise TypeError(f"name: expected a string, got {self.name!r}")
        try:
            inspect.signature(self.function).bind(0, 1)
        except TypeError as error:
            raise TypeError(f"loss: expected a function of y_true and y_pred: {error}") from None
        except ValueError:  # there is no signature
            pass
        object.__setattr__(self, "name", self.name or _name_of(self.function))

    def __repr__(self) -> str:
        """Show only the name, because functions show addresses."""
        return f"Function({self.name})"

    def check_targets(self, y: NDArray[Any], output_shape: Shape, where: str) -> Kind:
        """Check that targets are finite numbers; see `Loss.check_targets`."""
        check_range(check_array(y, where), where)
        return "any"

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """Refuse to compute values: there is no program."""
        raise TypeError(f"the loss {self.name!r} is a function of symbols: model.evaluate computes its values")

    def rows(self, targets: NDArray[Any], predictions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Refuse to compute values: there is no program."""
        raise TypeError(f"the loss {self.name!r} is a function of symbols: model.evaluate computes its values")


def target_shape(shape: Shape, output_shape: Shape) -> Shape:
    """Return the shape of a sample's targets for a function of symbols, from that of the data.

    It is the output's where only a last axis of length 1 is missing or too much.
    """
    return output_shape if output_shape == (*shape, 1) or shape == (*output_shape, 1) else shape


def is_of_symbols(value: Any) -> bool:
    """Return whether this can only be a function of symbols: it uses `fastnn.ops`, or is no plain function."""
    if isinstance(value, partial) or inspect.ismethod(value):
        return True
    return inspect.isfunction(value) and _uses_ops(value, _DEPTH)


def _name_of(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _uses_ops(function: types.FunctionType, depth: int) -> bool:
    """Return whether a function, or one that it calls, refers to `fastnn.ops` or to a function of it."""
    codes = list(nested(function.__code__))
    names = {name for code in codes for name in code.co_names}
    values = [function.__globals__[name] for name in names if name in function.__globals__]
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    values += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    if _OPS in names or {"fastnn", "ops"} <= names:  # imported in the function
        return True
    return any(_is_ops(value, names) or (depth and _calls_ops(value, depth)) for value in values)


def _is_ops(value: Any, names: set[str]) -> bool:
    """Return whether a value that a function refers to, whose code has these names, is of `fastnn.ops`."""
    if isinstance(value, types.ModuleType):
        return value.__name__ == _OPS or (value.__name__ == _OPS.partition(".")[0] and "ops" in names)
    return inspect.isfunction(value) and f"{value.__module__}.".startswith(f"{_OPS}.")


def _calls_ops(value: Any, depth: int) -> bool:
    """Return whether a value is another function of the user's that refers to `fastnn.ops`."""
    plain = inspect.isfunction(value) and not str(value.__module__).startswith("fastnn.")
    return plain and _uses_ops(value, depth - 1)


def check_traced(loss: Function) -> Function:
    """Return a loss whose function can be called on symbols.

    Raises
    ------
    Exception
        Whatever the function raises on symbols.
    """
    import_later(_TRACING).check_of_symbols(loss)
    return loss
