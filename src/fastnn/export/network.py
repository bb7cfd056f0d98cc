"""Make frozen networks of models: programs that read rows from one array and fill another."""

from __future__ import annotations

import math
from dataclasses import replace

from fastnn.backend.cpu.frozen import network as backend
from fastnn.backend.cpu.frozen.code import Interface, Make
from fastnn.backend.cpu.frozen.network import FrozenNetwork
from fastnn.backend.cuda.codegen.numba_cuda import simulated
from fastnn.backend.cuda.device_function import network as device_backend
from fastnn.backend.cuda.device_function.network import FrozenDeviceNetwork
from fastnn.backend.cuda.driver import available
from fastnn.graph.gradients import differentiate
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.moves import take_columns
from fastnn.graph.rules import NoGradientError
from fastnn.lower.lower import lower, rewrite
from fastnn.lower.task import Place, Task
from fastnn.lower.update import for_batch
from fastnn.program.layout import Buffer
from fastnn.program.program import Program
from fastnn.program.record import ITEM_SIZES
from fastnn.runtime.parameters import ParameterTable
from fastnn.runtime.programs import network
from fastnn.runtime.runtime import Runtime


def freeze(runtime: Runtime, *, gradients: bool) -> FrozenNetwork:
    """Make the frozen network of a model's architecture and current weights.

    Raises
    ------
    ValueError
        When the model has several inputs or outputs, or there is no gradient.
    """
    table = runtime.table
    ends(table, "freeze")
    with runtime.lock:
        gradient = gradient_program(table) if gradients else None
        return backend.freeze(program(table), gradient, interface(table), runtime.parameters.view(table.dtype))


def freeze_on_device(runtime: Runtime, device: str) -> FrozenDeviceNetwork:
    """Make the network of a model's architecture and current weights in the memory of a GPU.

    Raises
    ------
    ValueError
        When the model has several inputs or outputs, or there is no such device.
    NotImplementedError
        When it contains a user-defined function.
    DeviceError
        When no GPU can be used.
    """
    table = runtime.table
    ends(table, "freeze")
    number = available.parse(device)
    if not simulated():
        # registers `fastnn.nopython.predict` with numba-cuda, for kernels
        from fastnn.nopython import cuda_overloads  # noqa: F401
    described = interface(table)
    sizes = math.prod(described.input_shape), math.prod(described.output_shape)
    weights = sum(count for _, count in described.weights)
    with runtime.lock:
        return device_backend.freeze(
            program(table)(1, planned=True), runtime.parameters.view(table.dtype), sizes, weights, number
        )


def ends(table: ParameterTable, what: str) -> None:
    """Raise unless a model has one input, of numbers, and one output."""
    found = len(table.architecture.inputs), len(table.architecture.outputs)
    if found != (1, 1):
        raise ValueError(
            f"{what}: expected a model with one input and one output, this one has {found[0]} and {found[1]}"
        )
    if table.architecture.takes_integers:
        raise ValueError(
            f"{what}: expected an input of numbers, the input {table.architecture.input_names[0]!r} holds integers, "
            "whose range compiled code does not check yet"
        )


def interface(table: ParameterTable) -> Interface:
    """Describe inputs, outputs and weights of a model that has one input and one output."""
    (input_shape,), (output_shape,) = table.architecture.input_shapes, table.architecture.output_shapes
    itemsize = ITEM_SIZES[table.dtype]
    weights = [(entry.offset // itemsize, entry.size) for entry in table]
    return Interface(input_shape, output_shape, table.nbytes // itemsize, weights)


def program(table: ParameterTable) -> Make:
    """Return what makes the program that reads rows in the first data slot, and fills the second."""
    graph, places, _, (x,), (y,) = network(table, training=False)
    places[x.id] = Place(Buffer.DATA, 0)
    places[_result(graph, y).id] = Place(Buffer.DATA + 1, 0)
    return _of_any_batch(table, graph, places, [x, y])


def gradient_program(table: ParameterTable) -> Make:
    """Return what makes the program that reads rows and gradients of outputs, and fills the third data slot."""
    graph, places, _, (x,), (y,) = network(table, training=False)
    seed = graph.input(y.shape, "seed")
    found = differentiate(graph, (), [x], [(y, seed)])
    if x.id not in found:
        raise NoGradientError("freeze: the output does not depend on the input, so there is no gradient")
    (dx,) = found[x.id]
    for slot, tensor in enumerate((x, seed, _result(graph, dx))):
        places[tensor.id] = Place(Buffer.DATA + slot, 0)
    return _of_any_batch(table, graph, places, [x, seed, x])


def _of_any_batch(table: ParameterTable, graph: Graph, places: dict[int, Place], slots: list[Tensor]) -> Make:
    """Return what makes programs that compute in the caller's arrays, which are like the tensors of `slots`."""
    itemsize = ITEM_SIZES[table.dtype]
    sizes = {int(Buffer.PARAMETERS): table.nbytes}
    for slot, tensor in enumerate(slots):
        sizes[Buffer.DATA + slot] = math.prod(tensor.shape) * itemsize
    return of_any_batch(Task("network", graph, 1, table.dtype, {}, places, frozenset(), [], sizes))


def of_any_batch(task: Task) -> Make:
    """Return what makes the programs of a task of one row for any number of rows, whose data slots grow with it."""
    rewritten = rewrite(task)

    def make(batch: int, *, planned: bool = True) -> Program:
        sizes = {slot: size * (batch if slot >= Buffer.DATA else 1) for slot, size in task.sizes.items()}
        tail = for_batch(task.tail, batch)
        return lower(replace(task, batch=batch, sizes=sizes, tail=tail), rewritten, planned=planned)

    return make


def _result(graph: Graph, tensor: Tensor) -> Tensor:
    """Return the tensor whose memory a result views, adding a copy if nothing computes it."""
    root = _root(graph, tensor)
    return take_columns(graph, tensor, 0, tensor.columns, "output") if graph.producer(root) is None else root


def _root(graph: Graph, tensor: Tensor) -> Tensor:
    """Return the tensor whose memory a tensor views."""
    node = graph.producer(tensor)
    while node is not None and node.op == "reshape":
        assert node.inputs[0] is not None
        tensor = node.inputs[0]
        node = graph.producer(tensor)
    return tensor
