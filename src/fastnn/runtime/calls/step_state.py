"""The part of a training's state that steps read and write."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn.runtime.runtime import Runtime


class StepState(Protocol):
    """The part of a training's state that a step sets.

    Attributes
    ----------
    runtime : Runtime
    totals : ndarray
        The accumulators.
    earlier_rows : int
        The rows that they are of.
    """

    runtime: Runtime
    totals: NDArray[np.float64]
    earlier_rows: int

    def logs_so_far(self) -> dict[str, float]:
        """Return loss and metrics of the accumulators."""
