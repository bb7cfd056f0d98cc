"""Losses of signed scores: the hinge and the perceptron."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastnn.losses.base import Loss
from fastnn.losses.targets import check_elements, hint_of_two
from fastnn.registry import register


@register("loss")
@dataclass(frozen=True)
class Hinge(Loss):
    """Mean of max(0, 1 - t y_pred), the loss of support vector machines (Keras `hinge`).

    Targets are -1 or 0 for one class, 1 for the other; 0 counts as -1.
    """

    formula: ClassVar[str] = "hinge"
    target_values: ClassVar[tuple[float, ...]] = (-1.0, 0.0, 1.0)

    def check_values(self, y: NDArray[Any], where: str) -> None:
        """Check that targets are among `target_values`."""
        expected = "targets -1 (or 0) and 1"
        check_elements(y, lambda t: np.isin(t, self.target_values), expected, where, lambda: hint_of_two(y))


@register("loss")
@dataclass(frozen=True)
class Perceptron(Loss):
    """Mean of max(0, -t y_pred): only scores of the wrong sign cost something (Rosenblatt 1958).

    Targets are -1 and 1.
    """

    formula: ClassVar[str] = "perceptron"
    target_values: ClassVar[tuple[float, ...]] = (-1.0, 1.0)

    def check_values(self, y: NDArray[Any], where: str) -> None:
        """Check that targets are among `target_values`."""
        hint = partial(hint_of_two, y, signed=True)
        check_elements(y, lambda t: np.isin(t, self.target_values), "targets -1 and 1", where, hint)
