"""Make learners of compiled models, which train in users' compiled code, and update models from them."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.backend.cpu.frozen import learner as backend
from fastnn.backend.cpu.frozen.code import SlotSpec, Training, assemble, fingerprint
from fastnn.backend.cpu.frozen.learner import Learner, Numbers
from fastnn.backend.cpu.frozen.network import Program
from fastnn.backend.cpu.layouts.code import UNIT, Progress, Role
from fastnn.export.network import freeze, input_slots, inputs_with_gradients, interface, of_any_batch, slots_of
from fastnn.graph.gradients import differentiate
from fastnn.graph.graph import Tensor
from fastnn.losses import CrossEntropy
from fastnn.losses.targets import SUM_TOLERANCE
from fastnn.lower.task import Place, Request, Source, TargetLayout, Task, WeightLayout
from fastnn.lower.update import tick
from fastnn.objective.objective import LOSSES, PENALTY, Objective
from fastnn.optimizers import Optimizer
from fastnn.program.layout import Buffer, Counter
from fastnn.program.record import ITEM_SIZES
from fastnn.runtime.parameters import ParameterTable
from fastnn.runtime.programs import network, place_gradients, task_of
from fastnn.runtime.runtime import Runtime

TARGETS = ("labels", "dense")


def learner(runtime: Runtime, *, gradients: bool, targets: Any, steps: int | None, metrics: bool = False) -> Learner:
    """Make the learner of a model as it is; see `Model.learner`."""
    table, (objective, optimizer) = runtime.table.apart(), _compiled(runtime, metrics)
    if not any(loss is not None for loss in objective.losses):
        raise ValueError("learner: no output of the model has a loss")
    labels = _labels(objective, targets)
    formula = optimizer.description
    accumulated = optimizer.gradient_accumulation_steps or 0
    knows = Training(slots=len(optimizer.slots), accumulated=accumulated, loss_totals=1, totals=1)
    training = replace(
        knows,
        penalty_at=PENALTY,
        loss_totals=LOSSES + 2 * len(objective.losses),
        totals=objective.size,
        rates=len(formula.rates),
        correction=formula.correction,
    )
    with runtime.lock:
        done = runtime.optimizer_step()
        numbers = Numbers(
            runtime.step_count(),
            done,
            int(runtime.training[Counter.SEED]),
            optimizer.unit_row(done),
            _rates(optimizer, done, steps, table.dtype),
            optimizer.progress(done),
        )
        seeded = assemble(*seeded_program(table), knows) if gradients else None
        return backend.make(
            freeze(runtime, gradients=gradients and bool(inputs_with_gradients(table))),
            assemble(*program(table, objective, optimizer, labels), training),
            seeded,
            runtime.optimizer_state.view(table.dtype),
            numbers,
            objective.initial() if metrics else None,
        )


def update_from(runtime: Runtime, learner: Learner) -> None:
    """Copy a learner's weights and state into a model's runtime; see `Model.update_from`."""
    table = runtime.table
    with runtime.lock:
        if not _fits(runtime, learner):
            raise ValueError(
                "update_from: the learner was made from a model of another architecture, loss, optimizer or set of "
                "trainable layers, or the model has changed since"
            )
        progress = backend.checked_progress(learner)
        runtime.scatter(learner.parameters.view(np.uint8))
        runtime.optimizer_state.view(table.dtype)[...] = backend.slots_of(learner)
        runtime.training[Counter.STEP] = progress[Progress.STEP]
        runtime.begin_optimizer(int(progress[Progress.STEP] - progress[Progress.OPTIMIZER_STEP]))


def _fits(runtime: Runtime, learner: Learner) -> bool:
    """Return whether a learner was made of a model like this one."""
    table, (objective, optimizer) = runtime.table.apart(), _compiled(runtime, learner.totals.size > 0)
    if learner.parameters.dtype != table.dtype:
        return False
    found = backend.labels_of(learner)
    if len(found) != sum(_has_target(objective, output) for output in range(len(objective.losses))):
        return False
    if any(is_labels and not isinstance(objective.losses[output], CrossEntropy)
           for output, is_labels in zip(_targeted(objective), found, strict=True)):  # fmt: skip
        return False
    make, _ = program(table, objective, optimizer, found)
    return fingerprint(make(UNIT, planned=True)) == backend.fingerprint_of(learner)


def logs(runtime: Runtime, learner: Any) -> dict[str, Any]:
    """Return the loss and metrics of a learner's steps; see `Model.learner_logs`."""
    objective = _reporting(runtime, learner, "learner_logs")
    totals, rows = backend.totals_of(learner)
    if rows == 0:
        raise ValueError("learner_logs: the learner has taken no step since its metrics were reset")
    return objective.logs(totals, rows)


def reset(runtime: Runtime, learner: Any) -> None:
    """Start a learner's metrics again; see `Model.reset_learner_logs`."""
    backend.reset_totals(learner, _reporting(runtime, learner, "reset_learner_logs").initial())


def _reporting(runtime: Runtime, learner: Any, what: str) -> Objective:
    """Return the objective of a learner that reports metrics."""
    if not isinstance(learner, Learner):
        raise TypeError(f"{what}: expected a Learner from Model.learner, got {type(learner).__name__}")
    objective, _ = _compiled(runtime, True)
    if learner.totals.size == 0:
        raise ValueError(f"{what}: the learner was made without metrics: model.learner(metrics=True)")
    if not _fits(runtime, learner):
        raise ValueError(f"{what}: the learner was made from a model of another architecture, loss or metrics")
    return objective


def program(table: ParameterTable, objective: Objective, optimizer: Optimizer, labels: Sequence[bool]) -> Program:
    """Return what makes the program of a training step, whose inputs, targets and weights are data slots.

    `labels` says for each output that has targets whether they are labels.
    """
    outputs = _targeted(objective)
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
    places, sizes = dict(task.places), dict(task.sizes)
    read: dict[int, Tensor] = {}
    for tensor in task.graph.inputs:
        slot = task.sources[tensor.id].slot
        read[slot] = tensor
        places[tensor.id] = Place(Buffer.DATA + slot, 0)
        sizes[Buffer.DATA + slot] = tensor.size * ITEM_SIZES[table.dtype if tensor.kind == "real" else tensor.kind]
    targets = [_target(objective, output, read[places_of[output]], kinds[output], table.dtype) for output in outputs]
    weights = slots_of(table, [read[places_of[output] + len(outputs)] for output in outputs], Role.WEIGHT)
    described = interface(table, [*input_slots(table), *targets, *weights])
    return of_any_batch(replace(task, sources={}, places=places, sizes=sizes)), described


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
    for slot, (tensor, spec) in enumerate(zip((*inputs, *seeds), described.inputs, strict=True)):
        places[tensor.id] = Place(Buffer.DATA + slot, 0)
        sizes[Buffer.DATA + slot] = spec.nbytes
    tail = [tick(1, training=True)]
    return of_any_batch(Task("gradients", graph, 1, table.dtype, {}, places, accumulating, tail, sizes)), described


def _compiled(runtime: Runtime, metrics: bool) -> tuple[Objective, Optimizer]:
    """Return a model's objective, with or without metrics, and its optimizer."""
    objective, optimizer = runtime.compiled()
    if not metrics:
        objective = replace(objective, readings=(), measures=(), size=LOSSES + 2 * len(objective.losses))
    return objective, optimizer


def _has_target(objective: Objective, output: int) -> bool:
    return objective.losses[output] is not None or any(one.output == output for one in objective.measures)


def _targeted(objective: Objective) -> list[int]:
    """Return the outputs that have targets."""
    return [output for output in range(len(objective.losses)) if _has_target(objective, output)]


def _labels(objective: Objective, targets: Any) -> list[bool]:
    """Return for each output that has targets whether they are labels."""
    outputs = _targeted(objective)
    wanted = list(targets) if isinstance(targets, list | tuple) else [targets] * len(outputs)
    if len(wanted) != len(outputs):
        raise ValueError(f"learner: targets: expected one for each of {len(outputs)} outputs, got {len(wanted)}")
    found = []
    for output, one in zip(outputs, wanted, strict=True):
        loss = objective.losses[output]
        if one not in (None, *TARGETS):
            raise ValueError(f"learner: targets: expected one of {', '.join(map(repr, TARGETS))}, got {one!r}")
        if one == "labels" and not isinstance(loss, CrossEntropy):
            name = "an output without loss" if loss is None else loss.name
            raise ValueError(f"learner: targets: {name} takes no labels")
        found.append(isinstance(loss, CrossEntropy) and one != "dense")
    return found


def _rates(optimizer: Optimizer, done: int, steps: int | None, dtype: str) -> Any:
    if isinstance(optimizer.learning_rate, float):
        optimizer.hyper_rows(done, 1, dtype)
        return optimizer.learning_rate
    if steps is None:
        raise ValueError(
            "learner: the learning rate is a schedule: give the number of steps to compute it for (steps=...)"
        )
    steps = operator.index(steps)
    if steps < 1:
        raise ValueError(f"learner: steps: expected at least 1, got {steps}")
    optimizer.hyper_rows(done, steps, dtype)
    return optimizer.rates(done + steps)
