"""The base class of activations: a name, a formula, parameters, and a call on NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.activations.arrays import FUNCTIONS


@dataclass(frozen=True)
class Activation:
    """Base of the activation objects, which are immutable, comparable and hashable.

    Attributes
    ----------
    formula : str
        Name of the scalar formula, or of the row-wise kernel if `rowwise` is true.
    rowwise : bool
        Whether an output element depends on the whole last axis (softmax, log_softmax).
    parameters : tuple of float
        Parameters of the formula, at most two.
    """

    formula: ClassVar[str]
    rowwise: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Name by which `get` finds the activation."""
        return self.formula

    @property
    def parameters(self) -> tuple[float, ...]:
        """Parameters of the formula, in its order."""
        return ()

    def __call__(self, x: ArrayLike) -> NDArray[Any]:
        """Apply the activation to an array, computing in float64.

        Parameters
        ----------
        x : array_like of real numbers, any shape
            Row-wise activations work along the last axis, which must not be empty.

        Returns
        -------
        numpy.ndarray
            Same shape; same dtype if `x` is floating, else float64.

        Raises
        ------
        TypeError
            If `x` does not hold real numbers.
        ValueError
            If a row-wise activation gets an array without a last axis.
        """
        array = np.asarray(x)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{self.name}: expected an array of real numbers, got dtype {array.dtype}")
        if self.rowwise and (array.ndim == 0 or array.shape[-1] == 0):
            raise ValueError(f"{self.name}: expected shape (..., n) with n >= 1, got {array.shape}")
        dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
        # NaN gives NaN, and so does inf - inf in a row of infinities: the values show it, no warning is needed.
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            y = FUNCTIONS[self.formula](np.asarray(array, dtype=np.float64), *self.parameters)
            result: NDArray[Any] = np.asarray(y).astype(dtype)[()]
        return result
