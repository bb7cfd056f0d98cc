"""Make the programs of codes: they read the caller's rows, and fill the caller's arrays.

A code is for any number of rows, or for exactly n (`rows`). Then its program is that of a batch of n, as calls from
Python run it, and its arrays are whole batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from fastnn.backend.cpu.frozen.code import Interface, Recipe, SlotSpec, State, Training
from fastnn.backend.cpu.layouts.code import BLOCK, Role
from fastnn.graph.extent import BATCH, Extent, Size, at
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.moves import take_columns
from fastnn.graph.rules import NoGradientError
from fastnn.layers.tracing import shown
from fastnn.layers.transformers.stepping import StateInput
from fastnn.losses import CrossEntropy, Function
from fastnn.losses.targets import SUM_TOLERANCE
from fastnn.lower.lower import lower, rewrite
from fastnn.lower.update import for_batch
from fastnn.objective.objective import LOSSES, PENALTY, Objective
from fastnn.optimizers import Optimizer
from fastnn.program.layout import SHARED, Buffer, encode
from fastnn.program.program import Program, RecordDraft
from fastnn.program.record import ITEM_SIZES
from fastnn.runtime.parameters import ParameterTable
from fastnn.runtime.programs.computation import Computation
from fastnn.runtime.programs.functions import weights_shape
from fastnn.runtime.programs.measures import check_found, measure, measure_extras

#: Values of codes for exactly n rows have at most this many numbers.
MOST_NUMBERS = 1 << 40

#: A tensor that is an array of the caller's, and the array's description.
Array = tuple[Tensor, SlotSpec]


def network(table: ParameterTable, rows: int | None = None) -> Recipe:
    """Return what the code of a network is made of: it reads inputs, and fills outputs."""
    made = _computation(table, rows, training=False)
    recipe = _recipe(made, "network", _inputs(made), _numbers(made, made.outputs, Role.OUTPUT), rows=rows)
    return recipe._replace(state=_state_of(table))


def next_steps(table: ParameterTable, rows: int) -> Program:
    """Return the program of the next steps of sequences, for a device, which reads and fills the memory of arrays.

    Its data slots are the inputs, which are x and the halves of the state, and the output. What is carried to the next
    step is copied to the first half when all else is computed.
    """
    made, state = _computation(table, rows, training=False), _state_of(table)
    assert state is not None
    read = _inputs(made)
    inputs = [x for x, _ in read]
    results = _results(made.graph, made.outputs, {x.id for x in inputs})
    made.count(training=False)
    task = made.task("predict", arrays=[*inputs, *results])
    first, second = (slot for slot, (_, each) in enumerate(read, Buffer.DATA) if each.role == Role.STATE)
    size = inputs[-1].columns
    dims = {"rows": rows, "cols": state.carried, "target_cols": size, "target_first": 0}
    dims |= {"source_cols": size, "source_first": 0}
    copy = RecordDraft("copy_columns", {"y": encode(first, 0), "x": encode(second, 0)}, dims, label="state")
    return lower(replace(task, tail=[copy, *task.tail]), rewrite(task))


def input_gradients(table: ParameterTable, rows: int | None = None) -> Recipe:
    """Return the same for a code that reads inputs and gradients of outputs, and fills gradients of inputs.

    Inputs of integers have none.

    Raises
    ------
    NoGradientError
        When no output depends on an input.
    """
    made = _computation(table, rows, training=False)
    seeds, real = made.seeds(), [x for x in made.inputs if x.kind == "real"]
    found = made.gradients(real, seeds)
    for x in real:
        if x.id not in found:
            which = "the input" if len(made.inputs) == 1 else f"the input {x.name!r}"
            raise NoGradientError(f"freeze: the output does not depend on {which}, so there is no gradient")
    read = [*_inputs(made), *_numbers(made, seeds, Role.SEED)]
    return _recipe(made, "network", read, _numbers(made, [found[x.id] for x in real], Role.GRADIENT), rows=rows)


def weight_gradients(table: ParameterTable, optimizer: Optimizer, rows: int | None = None) -> Recipe:
    """Return the same for a code that reads inputs and gradients of outputs, and computes gradients of the weights."""
    made = _computation(table, rows, training=True)
    seeds = made.seeds()
    made.gradients(made.weights(table.trained()), seeds)
    made.count(training=True)
    training = Training(len(optimizer.slots), optimizer.gradient_accumulation_steps or 0, loss_totals=1, totals=1)
    read = [*_inputs(made), *_numbers(made, seeds, Role.SEED)]
    return _recipe(made, "gradients", read, training=training, rows=rows)


def step(
    table: ParameterTable, objective: Objective, optimizer: Optimizer, labels: Sequence[bool], *, as_one: bool = True,
    rows: int | None = None,
) -> Recipe:  # fmt: skip
    """Return the same for the code of a training step, which reads inputs, targets and weights.

    Parameters
    ----------
    labels : sequence of bool
        For each output that has targets whether they are labels.
    as_one : bool
        Whether there may be losses that are one number for the batch: with weights they count as that of every sample.
    rows : int, optional
        For which number of rows the code is, if not for any.

    Raises
    ------
    ValueError
        When a function of symbols does not take targets of such a shape.
    """
    made = _computation(table, rows, training=True)
    targets: list[Array] = []
    weights: list[Tensor] = []
    for output, is_labels in zip(objective.targeted, labels, strict=True):
        # weights are for the rows of the output; where a call has fewer, compiled code repeats them
        weighted = objective.output_shapes[output][:-1]
        loss = objective.losses[output]
        if isinstance(loss, Function):
            weighted = _weighted(table, loss, output, is_labels)
        target, weight = measure(made, objective, output, is_labels, weighted, gradients=True, as_one=as_one)
        assert weight is not None
        targets.append((target, _target(objective, output, target, is_labels, table.dtype)))
        weights.append(weight)
    measure_extras(made, objective)
    made.gradients(made.weights(table.trained()))
    if any(table.trained()):
        check_found(made, objective)
    made.penalize()
    made.update(optimizer)
    made.count(training=True)
    formula = optimizer.description
    training = Training(
        len(optimizer.slots), optimizer.gradient_accumulation_steps or 0, PENALTY,
        loss_totals=LOSSES + 2 * len(objective.losses), totals=objective.size,
        rates=len(formula.rates), correction=formula.correction,
    )  # fmt: skip
    read = [*_inputs(made), *targets, *_numbers(made, weights, Role.WEIGHT)]
    return _recipe(made, "train", read, training=training, rows=rows)


def _weighted(table: ParameterTable, loss: Function, output: int, is_labels: bool) -> tuple[int, ...]:
    """Return the shape of a sample's weights for a function of symbols."""
    apart = Computation(table, training=True)
    prediction = apart.outputs[output]
    shape, kind = (prediction.shape[:-1], "int64") if is_labels else (prediction.shape, "real")
    return weights_shape(apart, loss, output, apart.graph.input(shape, "targets", kind))


def _computation(table: ParameterTable, rows: int | None, *, training: bool) -> Computation:
    """Return the computation of a code."""
    return Computation(table, rows or 1, training=training)


def _recipe(
    made: Computation, name: str, read: Sequence[Array], filled: Sequence[Array] = (),
    training: Training | None = None, rows: int | None = None,
) -> Recipe:  # fmt: skip
    """Return what a code is made of, whose program reads and fills the memory of tensors."""
    table, itemsize = made.table, ITEM_SIZES[made.table.dtype]
    inputs = [x for x, _ in read]
    results = _results(made.graph, [y for y, _ in filled], {x.id for x in inputs})
    task = made.task(name, arrays=[*inputs, *results])
    rewritten = rewrite(task)
    for node in rewritten.nodes:
        if rows is None:
            _check_sizes(node.outputs)
        else:
            _check_rows(node.outputs, rows)

    def make_any(batch: int, *, planned: bool = True) -> Program:
        sizes = {buffer: size * (batch if Buffer.DATA <= buffer < SHARED else 1) for buffer, size in task.sizes.items()}
        tail = for_batch(task.tail, batch)
        return lower(replace(task, batch=batch, sizes=sizes, tail=tail), rewritten, planned=planned, most_rows=BLOCK)

    def make_one(batch: int, *, planned: bool = True) -> Program:
        assert batch == task.batch
        return lower(task, rewritten, planned=planned)

    if rows is not None:
        read, filled = _whole(read, rows), _whole(filled, rows)
    interface = Interface(
        tuple(described for _, described in read),
        tuple(described for _, described in filled),
        table.own_nbytes // itemsize,
        table.nbytes // itemsize,
        [(entry.offset // itemsize, entry.size) for entry in table],
    )
    return Recipe(make_any if rows is None else make_one, interface, training, rows or 0)


def _whole(arrays: Iterable[Array], rows: int) -> list[Array]:
    """Return arrays with the shapes that they have in a batch of n rows."""
    return [(x, replace(described, shape=_shape_at(x, rows))) for x, described in arrays]


def _shape_at(tensor: Tensor, rows: int) -> tuple[int, ...]:
    return tuple([at(size, rows) for size in tensor.whole])


def _check_rows(tensors: Iterable[Tensor], rows: int) -> None:
    """Check that no value has more bytes than memory could ever have."""
    for tensor in tensors:
        if prod(_shape_at(tensor, rows)) > MOST_NUMBERS:
            raise ValueError(f"rows: expected fewer than {rows}: {tensor.name!r} has {shown(tensor.whole)} numbers")


def _check_sizes(tensors: Iterable[Tensor]) -> None:
    """Check that values fit wherever a code places them: at a place that grows in proportion to the rows."""
    for tensor in tensors:
        size: Size = tensor.size * BATCH if tensor.batched else tensor.size
        if isinstance(size, Extent) and (len(size.coefficients) > 2 or size.coefficients[0] < 0):
            raise NotImplementedError(
                f"{tensor.name!r} has {size} numbers in a batch of B rows, and codes of any number of rows hold values "
                "whose size is in proportion to it"
            )


def _inputs(made: Computation) -> list[Array]:
    """Return the model's inputs."""
    architecture = made.table.architecture
    found = []
    for x, spec, call in zip(made.inputs, architecture.input_specs, architecture.inputs, strict=True):
        layer = architecture.layers[architecture.calls[call].layer]
        role = Role.STATE if isinstance(layer, StateInput) else Role.INPUT
        dtype = made.table.dtype if x.kind == "real" else x.kind
        found.append((x, SlotSpec(role, x.shape, dtype, (spec.low, spec.high))))
    return found


def _state_of(table: ParameterTable) -> State | None:
    """Return what is carried from step to step, if the inputs have a state."""
    architecture = table.architecture
    layers = [architecture.layers[architecture.calls[call].layer] for call in architecture.inputs]
    found = [layer for layer in layers if isinstance(layer, StateInput)]
    return State(found[0].carried, found[0].limit, found[0].steps) if found else None


def _numbers(made: Computation, tensors: Iterable[Tensor], role: Role) -> list[Array]:
    """Return tensors of real numbers as arrays."""
    return [(x, SlotSpec(role, x.shape, made.table.dtype)) for x in tensors]


def _target(objective: Objective, output: int, tensor: Tensor, is_labels: bool, dtype: str) -> SlotSpec:
    """Describe the targets of an output."""
    loss, columns = objective.losses[output], (objective.output_shapes[output] or (1,))[-1]
    # a function of symbols takes labels as numbers
    exact = 1 << np.finfo(dtype).nmant + 1
    integers = (-exact, exact) if isinstance(loss, Function) else (0, columns - 1)
    described = SlotSpec(
        Role.LABEL if is_labels else Role.TARGET,
        tensor.shape,
        "int64" if is_labels else dtype,
        integers=integers,
        columns=columns,
        loss_weight=objective.loss_weights[output] if loss is not None else 0.0,
        loss_at=LOSSES + 2 * output,
    )
    if loss is None:
        return described
    if isinstance(loss, CrossEntropy):
        return replace(described, tolerance=SUM_TOLERANCE, target_range=(0.0, 1.0))
    return replace(described, target_range=loss.target_range, allowed=loss.target_values)


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
