"""Initial values of parameters: the initializers of Keras 3, with its defaults and formulas.

Kernels have the shape (..., n_in, n_out): a dense kernel is (n_in, n_out), one of a convolution (height,
width, n_in, n_out).
"""

from fastnn.hints import install
from fastnn.initializers.base import Initializer
from fastnn.initializers.distributions import (
    Constant,
    Ones,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    Zeros,
)
from fastnn.initializers.orthogonal import Orthogonal
from fastnn.initializers.scaling import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    VarianceScaling,
    compute_fans,
)
from fastnn.registry import resolve

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "compute_fans",
    "get",
]

_ALIASES = {"zero": "Zeros", "one": "Ones", "normal": "RandomNormal", "uniform": "RandomUniform"}


def get(value: str | Initializer) -> Initializer:
    """Return the initializer for an argument.

    Parameters
    ----------
    value : str or Initializer
        A name (``"he_normal"``, ``"zeros"``, ...) or an object.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is neither.
    """
    return resolve("initializer", value, _ALIASES, Initializer)


install(__name__)
