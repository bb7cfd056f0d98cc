"""The penalty of scikit-learn's multi-layer perceptrons."""

from __future__ import annotations

from dataclasses import dataclass

from fastnn.registry import register
from fastnn.regularizers import L2


@register("regularizer")
@dataclass(frozen=True)
class BatchL2(L2):
    """The penalty l2 * sum w**2 times a factor of each batch, alpha / 2 / s, where its samples' weights have the sum s.

    Only trainings of estimators give factors; for others they are 1. Programs do not depend on them, so networks of
    different alpha share theirs.
    """

    l2: float = 1.0

    @property
    def by_step(self) -> bool:
        """Whether each step has a factor of its own."""
        return True
