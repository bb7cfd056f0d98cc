"""Losses that are functions of symbols."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import shorten
from fastnn.losses.base import Loss
from fastnn.registry import register


@register("loss")
@dataclass(frozen=True, repr=False)
class Function(Loss):
    """A loss from a function of symbols, which may mix the rows of a batch.

    ::

        def dice(y_true, y_pred):
            both = fnn.ops.sum(y_true * y_pred)
            return 1.0 - 2.0 * both / (fnn.ops.sum(y_true) + fnn.ops.sum(y_pred))

        model.compile("adam", dice)

    Parameters
    ----------
    function : function
        ``function(y_true, y_pred)`` of symbols with the batch axis, of the shape of the output. It returns a symbol
        made by operators and functions of `fastnn.ops`: a loss for every sample, or for every row or element of a
        sample, whose mean is taken; or a single number for the batch, for which there are no sample weights.
    name : str, optional
        The function's name by default. Saved models contain only the name: pass the function to `fastnn.load`.
    normalize : {"rows", "weights"}
        As for all losses.

    Notes
    -----
    The function is called whenever a program is made, not for each batch; its gradient is derived from it. Over several
    batches the loss of a batch counts by the number of its samples. Targets are numbers of the model's dtype, also
    where they are labels: ``fnn.ops.cast(y_true, "int64")`` makes integers of them.
    """

    function: Callable[..., Any]
    name: str = ""  # type: ignore[misc]
    formula: ClassVar[str] = "function"
    row_mean: ClassVar[bool] = False
    is_custom: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the function, and take its name."""
        super().__post_init__()
        if not callable(self.function) or isinstance(self.function, type):
            raise TypeError(f"loss: expected a function of y_true and y_pred, got {shorten(self.function)}")
        object.__setattr__(self, "name", self.name or getattr(self.function, "__name__", "function"))

    def __repr__(self) -> str:
        """Show only the name, because functions show addresses."""
        return f"Function({self.name})"

    def rows(self, targets: NDArray[Any], predictions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Refuse to compute values: there is no program."""
        raise TypeError(f"the loss {self.name!r} is a function of symbols: model.evaluate computes it")
