"""From a model to a frozen network: the program that reads its rows from one array and fills another."""

from __future__ import annotations

import math
from functools import partial

from fastnn.backend.cpu import frozen as backend
from fastnn.backend.cpu.frozen import FrozenNetwork
from fastnn.backend.cpu.frozen_code import Interface
from fastnn.graph import build
from fastnn.graph.graph import Graph, Tensor
from fastnn.lower.lower import lower
from fastnn.lower.task import Place, Task
from fastnn.model.parameters import ParameterTable
from fastnn.model.programs import network
from fastnn.model.runtime import Runtime
from fastnn.program.layout import Buffer
from fastnn.program.program import ITEM_SIZES, Program


def freeze(runtime: Runtime) -> FrozenNetwork:
    """Make the frozen network of a model's architecture and present weights.

    Raises
    ------
    ValueError
        When the model has several inputs or outputs.
    """
    table = runtime.table
    architecture = table.architecture
    ends = len(architecture.inputs), len(architecture.outputs)
    if ends != (1, 1):
        raise ValueError(
            f"freeze: expected a model with one input and one output, this one has {ends[0]} and {ends[1]}"
        )
    itemsize = ITEM_SIZES[table.dtype]
    weights = [(entry.offset // itemsize, entry.size) for entry in table]
    (input_shape,), (output_shape,) = architecture.input_shapes, architecture.output_shapes
    interface = Interface(input_shape, output_shape, table.nbytes // itemsize, weights)
    with runtime.lock:
        return backend.freeze(partial(program, table), interface, runtime.parameters.view(table.dtype))


def program(table: ParameterTable, batch: int) -> Program:
    """Make the program that reads `batch` rows in the first data slot, and fills the second."""
    graph, places, _, (x,), (y,) = network(table, training=False)
    root = _root(graph, y)
    if graph.producer(root) is None:
        # nothing computes it: it is the input or a parameter
        root = y = build.take_columns(graph, y, 0, y.columns, "output")
    places[x.id] = Place(Buffer.DATA, 0)
    places[root.id] = Place(Buffer.DATA + 1, 0)
    itemsize = ITEM_SIZES[table.dtype]
    sizes = {
        int(Buffer.PARAMETERS): table.nbytes,
        int(Buffer.DATA): batch * math.prod(x.shape) * itemsize,
        Buffer.DATA + 1: batch * math.prod(y.shape) * itemsize,
    }
    return lower(Task("network", graph, batch, table.dtype, {}, places, frozenset(), [], sizes))


def _root(graph: Graph, tensor: Tensor) -> Tensor:
    """Return the tensor whose memory a tensor sees."""
    node = graph.producer(tensor)
    while node is not None and node.op == "reshape":
        assert node.inputs[0] is not None
        tensor = node.inputs[0]
        node = graph.producer(tensor)
    return tensor
