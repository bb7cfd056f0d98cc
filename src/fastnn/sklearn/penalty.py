"""The penalty of scikit-learn's multi-layer perceptrons."""

from __future__ import annotations

from dataclasses import dataclass

from fastnn.registry import register
from fastnn.regularizers import L2


@register("regularizer")
@dataclass(frozen=True)
class BatchL2(L2):
    """The penalty l2 * sum w**2 / s, where s is the sum of the weights of a batch's samples, as scikit-learn has it.

    Only trainings of estimators give s; for others it is 1.
    """

    @property
    def by_step(self) -> bool:
        """Whether each step has a factor of its own."""
        return True
