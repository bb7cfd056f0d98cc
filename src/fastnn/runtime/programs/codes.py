"""Make the programs of networks as codes: they read the caller's rows, and fill the caller's arrays, of any number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fastnn.backend.cpu.frozen.code import Interface, Make, SlotSpec
from fastnn.backend.cpu.frozen.network import Program
from fastnn.backend.cpu.layouts.code import Role
from fastnn.graph.gradients import differentiate
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.moves import take_columns
from fastnn.graph.rules import NoGradientError
from fastnn.lower.lower import lower, rewrite
from fastnn.lower.task import Place, Task
from fastnn.lower.update import for_batch
from fastnn.program.layout import SHARED, Buffer
from fastnn.program.program import Program as Records
from fastnn.program.record import ITEM_SIZES
from fastnn.runtime.parameters import ParameterTable
from fastnn.runtime.programs.build import network


def inputs_with_gradients(table: ParameterTable) -> list[int]:
    """Return the numbers of a model's inputs that do not hold integers."""
    return [index for index, spec in enumerate(table.architecture.input_specs) if spec.kind == "real"]


def input_slots(table: ParameterTable) -> tuple[SlotSpec, ...]:
    """Describe the arrays that a model's inputs are read from."""
    return tuple(
        SlotSpec(Role.INPUT, spec.shape, table.dtype)
        if spec.kind == "real"
        else SlotSpec(Role.INPUT, spec.shape, spec.kind, integers=(spec.low, spec.high))
        for spec in table.architecture.input_specs
    )


def slots_of(table: ParameterTable, tensors: Sequence[Tensor], role: Role) -> tuple[SlotSpec, ...]:
    """Describe the arrays of real numbers that tensors are read from or stored to."""
    return tuple(SlotSpec(role, tensor.shape, table.dtype) for tensor in tensors)


def interface(table: ParameterTable, inputs: Sequence[SlotSpec], results: Sequence[SlotSpec] = ()) -> Interface:
    """Describe the arrays of a call, and the model's weights."""
    itemsize = ITEM_SIZES[table.dtype]
    weights = [(entry.offset // itemsize, entry.size) for entry in table]
    counts = table.own_nbytes // itemsize, table.nbytes // itemsize
    return Interface(tuple(inputs), tuple(results), *counts, weights)


def program(table: ParameterTable) -> Program:
    """Return what makes the program that reads inputs, and fills outputs; and what it reads and fills."""
    graph, places, _, inputs, outputs = network(table, training=False)
    results = _results(graph, outputs, {x.id for x in inputs})
    described = interface(table, input_slots(table), slots_of(table, outputs, Role.OUTPUT))
    return of_any_batch(on_arrays(_task(table, graph, places), [*inputs, *results], described)), described


def gradient_program(table: ParameterTable) -> Program:
    """Return what makes the program that reads inputs and gradients of outputs, and fills gradients of inputs.

    Inputs of integers have none.

    Raises
    ------
    NoGradientError
        When no output depends on an input.
    """
    graph, places, _, inputs, outputs = network(table, training=False)
    seeds = [graph.input(y.shape, "seed") for y in outputs]
    wanted = [inputs[index] for index in inputs_with_gradients(table)]
    found = differentiate(graph, (), wanted, list(zip(outputs, seeds, strict=True)))
    for x in wanted:
        if x.id not in found:
            which = "the input" if len(inputs) == 1 else f"the input {x.name!r}"
            raise NoGradientError(f"freeze: the output does not depend on {which}, so there is no gradient")
    results = _results(graph, [found[x.id][0] for x in wanted], {each.id for each in (*inputs, *seeds)})
    read = input_slots(table) + slots_of(table, seeds, Role.SEED)
    described = interface(table, read, slots_of(table, wanted, Role.GRADIENT))
    return of_any_batch(on_arrays(_task(table, graph, places), [*inputs, *seeds, *results], described)), described


def _task(table: ParameterTable, graph: Graph, places: dict[int, Place]) -> Task:
    sizes = {int(Buffer.PARAMETERS): table.own_nbytes, **table.shared_sizes}
    return Task("network", graph, 1, table.dtype, {}, places, frozenset(), [], sizes)


def on_arrays(task: Task, tensors: Sequence[Tensor], described: Interface) -> Task:
    """Return the task of a program whose data slots are the memory of tensors, in the order of an interface."""
    places, sizes = dict(task.places), dict(task.sizes)
    for slot, (tensor, spec) in enumerate(zip(tensors, (*described.inputs, *described.results), strict=True)):
        places[tensor.id] = Place(Buffer.DATA + slot, 0)
        sizes[Buffer.DATA + slot] = spec.nbytes
    return replace(task, sources={}, places=places, sizes=sizes)


def of_any_batch(task: Task) -> Make:
    """Return what makes the programs of a task of one row for any number of rows, whose data slots grow with it."""
    rewritten = rewrite(task)

    def make(batch: int, *, planned: bool = True) -> Records:
        sizes = {buffer: size * (batch if Buffer.DATA <= buffer < SHARED else 1) for buffer, size in task.sizes.items()}
        tail = for_batch(task.tail, batch)
        return lower(replace(task, batch=batch, sizes=sizes, tail=tail), rewritten, planned=planned)

    return make


def _results(graph: Graph, tensors: Sequence[Tensor], taken: set[int]) -> list[Tensor]:
    """Return the tensors whose memory results view, with a copy where that is an input's or another result's."""
    found = []
    for tensor in tensors:
        root = _root(graph, tensor)
        if root.id in taken or graph.producer(root) is None:
            root = take_columns(graph, tensor, 0, tensor.columns, "output")
        taken.add(root.id)
        found.append(root)
    return found


def _root(graph: Graph, tensor: Tensor) -> Tensor:
    """Return the tensor whose memory a tensor views."""
    node = graph.producer(tensor)
    while node is not None and node.op == "reshape":
        assert node.inputs[0] is not None
        tensor = node.inputs[0]
        node = graph.producer(tensor)
    return tensor
