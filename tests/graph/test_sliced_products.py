"""Products with one matrix whose operands are slices: they are read in place, against NumPy; also their derivatives."""

import numpy as np
import pytest

from computed import Computed, check_derivatives, whole_at
from fastnn.backend.cuda.launch.gaps import without_gaps
from fastnn.backend.reference.interpreter import Interpreter  # noqa: F401
from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Graph
from fastnn.graph.ops.dense import bias_add
from fastnn.graph.ops.pointwise import pointwise
from fastnn.graph.ops.products import matmul
from fastnn.graph.ops.strided import getitem, swapaxes
from fastnn.program.verify import verify

RNG = np.random.default_rng(0)
B = BATCH
ALL = slice(None)
