"""Functions of symbols, with NumPy's names and broadcasting: for layers, losses, metrics and functions of one's own.

Symbols are results of `fastnn.Input` and of layers, and the arguments of functions of symbols. The batch axis is the
first one. Numbers and arrays may stand beside symbols.
"""

# ruff: noqa: F403

from fastnn.hints import install
from fastnn.layers.operation import constant
from fastnn.ops.activations import *
from fastnn.ops.definition import NUMPY_NAMES
from fastnn.ops.elementwise import *
from fastnn.ops.gradients import *
from fastnn.ops.indexing import *
from fastnn.ops.products import *
from fastnn.ops.random import *
from fastnn.ops.reductions import *
from fastnn.ops.shapes import *
from fastnn.ops.windows import *

__all__ = ["constant"]
__all__ += [*NUMPY_NAMES]

install(__name__)
