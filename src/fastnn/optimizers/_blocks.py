"""A cache of values per step, computed in aligned blocks.

A value is always computed as part of the same block, however the steps are asked for: by one, by the
thousand, or resumed in the middle. So vectorised functions whose last bit could depend on an element's
place in the array, and running products, give the same bits every time. And a single step costs a slice
instead of a dozen NumPy calls.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]

BLOCK = 2048


class Blocks:
    """The block of values used last."""

    def __init__(self) -> None:
        # One tuple, so that a thread never sees the number of one block with the values of another.
        self._last: tuple[int, Array] = (-1, np.empty(0))

    def get(self, first: int, n: int, compute: Callable[[int], Array]) -> Array:
        """Return the values of the steps ``first .. first + n - 1``, which are not to be written to.

        `compute` gives the values of `BLOCK` steps from its argument on, along axis 0.
        """
        block, start = divmod(first, BLOCK)
        values = self._block(block, compute)
        if start + n <= BLOCK:
            return values[start : start + n]
        parts = [values[start:]]
        missing = n - (BLOCK - start)
        while missing > 0:
            block += 1
            parts.append(self._block(block, compute)[:missing])
            missing -= BLOCK
        return np.concatenate(parts)

    def _block(self, block: int, compute: Callable[[int], Array]) -> Array:
        last, values = self._last
        if last != block:
            values = compute(block * BLOCK)
            self._last = (block, values)
        return values
