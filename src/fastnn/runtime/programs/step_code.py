"""Make the programs of training steps as codes, whose inputs, targets and weights are the caller's arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fastnn.backend.cpu.frozen.code import SlotSpec, Training
from fastnn.backend.cpu.frozen.network import Program
from fastnn.backend.cpu.layouts.code import Role
from fastnn.graph.gradients import differentiate
from fastnn.graph.graph import Tensor
from fastnn.losses import CrossEntropy
from fastnn.losses.targets import SUM_TOLERANCE
from fastnn.lower.task import Request, Source, TargetLayout, Task, WeightLayout
from fastnn.lower.update import tick
from fastnn.objective.objective import LOSSES, PENALTY, Objective
from fastnn.optimizers import Optimizer
from fastnn.program.layout import Buffer
from fastnn.runtime.parameters import ParameterTable
from fastnn.runtime.programs.build import network, place_gradients, task_of
from fastnn.runtime.programs.codes import input_slots, interface, of_any_batch, on_arrays, slots_of


def program(table: ParameterTable, objective: Objective, optimizer: Optimizer, labels: Sequence[bool]) -> Program:
    """Return what makes the program of a training step, whose inputs, targets and weights are data slots.

    `labels` says for each output that has targets whether they are labels.
    """
    outputs = targeted(objective)
    kinds = dict(zip(outputs, labels, strict=True))
    first = len(table.architecture.inputs)
    places_of = {output: first + index for index, output in enumerate(outputs)}
    request = Request(
        "train",
        1,
        True,
        tuple(Source(slot, table.dtype, 0) for slot in range(first)),
        tuple(
            TargetLayout(Source(places_of[output], "int64" if kinds[output] else table.dtype, 0), kinds[output])
            if output in kinds
            else None
            for output in range(len(objective.losses))
        ),
        tuple(
            # one for each row of the output; where a call has fewer, compiled code repeats them
            WeightLayout(Source(places_of[output] + len(outputs), table.dtype, 0), objective.output_shapes[output][:-1])
            if output in kinds
            else None
            for output in range(len(objective.losses))
        ),
        trained=table.trained(),
    )
    task = task_of(table, objective, optimizer, request)
    read = {task.sources[tensor.id].slot: tensor for tensor in task.graph.inputs}
    targets = [_target(objective, output, read[places_of[output]], kinds[output], table.dtype) for output in outputs]
    weights = slots_of(table, [read[places_of[output] + len(outputs)] for output in outputs], Role.WEIGHT)
    described = interface(table, [*input_slots(table), *targets, *weights])
    return of_any_batch(on_arrays(task, [read[slot] for slot in sorted(read)], described)), described


def _target(objective: Objective, output: int, tensor: Tensor, is_labels: bool, dtype: str) -> SlotSpec:
    """Describe the targets of an output."""
    loss, weight = objective.losses[output], objective.loss_weights[output]
    shape = objective.output_shapes[output]
    described = SlotSpec(
        Role.LABEL if is_labels else Role.TARGET,
        tensor.shape,
        "int64" if is_labels else dtype,
        integers=(0, shape[-1] - 1),
        columns=shape[-1],
        loss_weight=weight if loss is not None else 0.0,
        loss_at=LOSSES + 2 * output,
    )
    if loss is None:
        return described
    if isinstance(loss, CrossEntropy):
        return replace(described, tolerance=SUM_TOLERANCE, target_range=(0.0, 1.0))
    return replace(described, target_range=loss.target_range, allowed=loss.target_values)


def seeded_program(table: ParameterTable) -> Program:
    """Return what makes the program of the gradients for the weights from gradients of the outputs: both data slots."""
    graph, places, parameters, inputs, outputs = network(table, training=True)
    seeds = [graph.input(y.shape, "seed") for y in outputs]
    wanted = [tensor for tensor, is_trained in zip(parameters, table.trained(), strict=True) if is_trained]
    found = differentiate(graph, (), wanted, list(zip(outputs, seeds, strict=True)))
    accumulating = place_gradients(table, parameters, found, places)
    described = interface(table, input_slots(table) + slots_of(table, seeds, Role.SEED))
    sizes = {int(buffer): table.nbytes for buffer in (Buffer.PARAMETERS, Buffer.GRADIENTS)}
    task = Task("gradients", graph, 1, table.dtype, {}, places, accumulating, [tick(1, training=True)], sizes)
    return of_any_batch(on_arrays(task, [*inputs, *seeds], described)), described


def training_of(objective: Objective, optimizer: Optimizer) -> Training:
    """Return what the code of a training step holds besides its program."""
    formula = optimizer.description
    return replace(
        seeded_training_of(optimizer),
        penalty_at=PENALTY,
        loss_totals=LOSSES + 2 * len(objective.losses),
        totals=objective.size,
        rates=len(formula.rates),
        correction=formula.correction,
    )


def seeded_training_of(optimizer: Optimizer) -> Training:
    """Return the same for the code of `seeded_program`."""
    accumulated = optimizer.gradient_accumulation_steps or 0
    return Training(slots=len(optimizer.slots), accumulated=accumulated, loss_totals=1, totals=1)


def targeted(objective: Objective) -> list[int]:
    """Return the outputs that have targets: they have a loss or a metric."""
    measured = {one.output for one in objective.measures}
    return [output for output, loss in enumerate(objective.losses) if loss is not None or output in measured]
