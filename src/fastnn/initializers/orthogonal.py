"""The initializer of orthogonal kernels."""

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from fastnn.initializers.base import Initializer, set_reals
from fastnn.registry import register


@register("initializer")
@dataclasses.dataclass(frozen=True)
class Orthogonal(Initializer):
    """Orthonormal rows or columns, whichever are fewer, of the kernel as a matrix (Saxe et al. 2014).

    The matrix is (n_window * n_in, n_out): all but the last dimension are its rows.

    It needs a shape of at least two dimensions, and is uniformly distributed over the orthogonal matrices.

    Parameters
    ----------
    gain : float
        A factor on all values.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        set_reals(self, "gain")

    def _sample(self, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: expected a shape of at least two dimensions, got {shape}")
        n_rows, n_columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(rng.standard_normal((max(n_rows, n_columns), min(n_rows, n_columns))))
        # Q is Haar distributed only if R's diagonal is positive, and LAPACK leaves its signs open.
        q = q * np.where(np.diagonal(r) < 0.0, -1.0, 1.0)
        matrix = q if n_rows >= n_columns else q.T
        return self.gain * matrix.reshape(shape)
