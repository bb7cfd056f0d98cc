"""Networks inside users' CUDA kernels that move, reduce and accumulate values, beside `Model.predict`."""

from dataclasses import dataclass

import numpy as np
import pytest

import fastnn as fnn
from device_networks import ROWS, check
from fastnn import ops
from fastnn.graph.ops.indexing import take
from fastnn.graph.ops.joins import concatenate
from fastnn.graph.ops.reductions import broadcast_to
from fastnn.graph.ops.strided import transpose
from fastnn.initializers import RandomNormal
from fastnn.layers.base import Layer, ParameterSpec

# on a GPU, where these tests run as well, numba-cuda finds the kernels small and the arrays far away
pytestmark = pytest.mark.filterwarnings("ignore:.*(Grid size|Host array)")

FUNCTIONS = {
    "sum": lambda x: ops.sum(x, axis=1),
    "mean": lambda x: ops.mean(x, axis=2),
    "max": lambda x: ops.max(x, axis=(1, 2), keepdims=True),
    "min": lambda x: ops.min(x, axis=-1, keepdims=True),
    "prod": lambda x: ops.prod(x, axis=1),
    "running sums": lambda x: ops.cumsum(x, axis=1),
    "backwards": lambda x: x[:, ::-1, 1:3],
    "steps": lambda x: x[:, :, ::2],
    "one": lambda x: x[:, 1],
    "padded": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 1))),
    "joined": lambda x: ops.concatenate([x, x[:, :1]], axis=1),
    "rolled": lambda x: ops.roll(x, 1, axis=2),
    "tiled": lambda x: ops.tile(x, (1, 2, 1)),
    "turned": lambda x: ops.transpose(x, (0, 2, 1)),
    "repeated": lambda x: ops.repeat(x, 2, axis=1),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, dtype):
    x = fnn.Input((3, 4))
    check(fnn.Model(x, FUNCTIONS[name](x), dtype=dtype))


@dataclass(eq=False, repr=False)
class Rows(Layer):
    """Rows of a weight, by number, plus a weight that is turned."""

    def output_shape(self, *shapes):
        return (*shapes[0], 6)

    def parameters(self, *shapes):
        return ParameterSpec("w", (5, 3), RandomNormal()), ParameterSpec("v", (3, *shapes[0]), RandomNormal())

    def accepts(self, kind, position):
        return kind == "int64"

    def input_range(self, position, *shapes):
        return -5, 4

    def apply(self, graph, inputs, weights, scope):
        rows = take(graph, weights[0], inputs[0], 0, scope.label)
        turned = transpose(graph, weights[1], None, scope.label)
        return concatenate(graph, [rows, broadcast_to(graph, turned, rows.whole, scope.label)], -1, scope.label)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_weights(dtype):
    x = fnn.Input(4, dtype="int64")
    model = fnn.Model(x, Rows()(x), dtype=dtype, seed=1)
    check(model, np.random.default_rng(0).integers(-5, 5, (ROWS, 4)))
