"""A cache of values per step, computed in aligned blocks, and products over all steps up to one.

A value is always computed as part of the same block, however the steps are asked for: by one, by the
thousand, or resumed in the middle. So vectorised functions whose last bit could depend on an element's
place in the array, and running products, give the same bits every time. And a single step costs a slice
instead of a dozen NumPy calls.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]

BLOCK = 2048


class Blocks:
    """The block of values used last."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        # One tuple, so that a thread never sees the number of one block with the values of another.
        self._last: tuple[int, Array] = (-1, np.empty(0))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the values, which can be computed again: 128 KB in each pickle of a model."""
        return {name: value for name, value in self.__dict__.items() if name != "_last"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._forget()
        self.__dict__.update(state)

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


class RepeatedBlocks(Blocks):
    """Values that stay the same for several steps: value i is that of the steps ``i * steps`` and the following.

    Parameters
    ----------
    steps : int
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps = steps

    def get(self, first: int, n: int, compute: Callable[[int], Array]) -> Array:
        """Return the values of the steps ``first .. first + n - 1``; `compute` counts values."""
        start = first // self._steps
        numbers = np.arange(first, first + n) // self._steps - start
        return super().get(start, int(numbers[-1]) + 1 if n else 0, compute)[numbers]


class RunningProduct:
    """The product of a factor a step, each made of the one before it, as a loop over the steps makes them.

    Parameters
    ----------
    factors : function
        Gives the factors of n steps, from a first one on; none is above 1.
    """

    # Below this 1 - product is 1, and what is made of the products has come to rest.
    _NOTHING = 2.0**-60

    def __init__(self, factors: Callable[[int, int], Array]) -> None:
        self._factors = factors
        # the product of all steps before each block, as far as it is known
        self._known = [1.0]

    def block(self, first: int) -> Array:
        """Return the products up to and with each of `BLOCK` steps from `first`, a multiple of `BLOCK`, on."""
        known, number = self._known, first // BLOCK
        while len(known) <= number and known[-1] > self._NOTHING:
            self._from(len(known) - 1)
        return self._from(number) if number < len(known) else np.zeros(BLOCK)

    def before(self, step: int) -> float:
        """Return the product of all steps before one."""
        return 1.0 if step == 0 else float(self.block((step - 1) // BLOCK * BLOCK)[(step - 1) % BLOCK])

    def _from(self, number: int) -> Array:
        factors = self._factors(number * BLOCK, BLOCK)
        factors[0] *= self._known[number]
        products: Array = np.cumprod(factors, dtype=np.float64)
        if len(self._known) == number + 1:
            self._known.append(float(products[-1]))
        return products


def powers(base: float) -> RunningProduct:
    """Return the powers of a number from 0 to below 1: the exponent is the number of steps."""
    return RunningProduct(partial(_constant, base))


def _constant(value: float, first: int, n: int) -> Array:
    return np.full(n, value)
