"""Make learners of compiled models, which train in users' compiled code, and update models from them."""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastnn.backend.cpu.frozen import learner as backend
from fastnn.backend.cpu.frozen.code import LEARN, Interface, Make, Training, assemble, fingerprint
from fastnn.backend.cpu.frozen.learner import Learner, Numbers
from fastnn.backend.cpu.layouts.frozen import MOST_TOTALS, UNIT, Progress
from fastnn.export.network import ends, freeze, interface, of_any_batch
from fastnn.graph.gradients import differentiate
from fastnn.graph.graph import Tensor
from fastnn.losses import CrossEntropy
from fastnn.losses.targets import SUM_TOLERANCE
from fastnn.lower.task import Place, Source, Task
from fastnn.lower.update import tick
from fastnn.objective.objective import LOSSES, PENALTY, Objective
from fastnn.optimizers import Optimizer
from fastnn.program.layout import Buffer, Counter
from fastnn.program.record import ITEM_SIZES
from fastnn.runtime.programs import Request, TargetLayout, WeightLayout, network, place_gradients, task_of

if TYPE_CHECKING:
    from fastnn.model.model import Model

_X, _Y, _WEIGHT = range(3)
TARGETS = ("labels", "dense")


def learner(model: Model, *, gradients: bool, targets: str | None, steps: int | None) -> Learner:
    """Make the learner of a model as it is; see `Model.learner`."""
    objective = _objective(model)
    runtime, table, optimizer = model._runtime, model._table, model.optimizer
    ends(table, "learner")
    loss = objective.losses[0]
    if loss is None:
        raise ValueError("learner: the model's output has no loss")
    if loss.normalize == "weights":
        raise ValueError(
            "learner: expected a loss that is divided by the number of rows, got one with normalize='weights'; scale "
            "the sample weights of each step to the mean 1 instead"
        )
    labels = _labels(loss, targets)
    formula = optimizer.description
    (output_shape,) = table.architecture.output_shapes
    accumulated = optimizer.gradient_accumulation_steps or 0
    knows = Training(columns=output_shape[-1], slots=len(optimizer.slots), accumulated=accumulated)
    training = replace(
        knows,
        loss_weight=objective.loss_weights[0],
        penalty_at=PENALTY,
        loss_at=LOSSES,
        labels=labels,
        tolerance=SUM_TOLERANCE if isinstance(loss, CrossEntropy) else 0.0,
        target_range=(0.0, 1.0) if isinstance(loss, CrossEntropy) else loss.target_range,
        allowed=loss.target_values,
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
            _rates(optimizer, done, steps, model.dtype),
            optimizer.progress(done),
        )
        seeded = None
        if gradients:
            seeded = assemble(seeded_program(model), interface(table), LEARN, knows)
        return backend.make(
            freeze(runtime, gradients=gradients),
            assemble(program(model, objective, labels), _with_targets(interface(table), labels), LEARN, training),
            seeded,
            runtime.optimizer_state.view(table.dtype),
            numbers,
        )


def _with_targets(interface: Interface, labels: bool) -> Interface:
    """Replace the outputs by targets."""
    if not labels:
        return interface
    return replace(interface, output_shape=interface.output_shape[:-1], output_itemsize=ITEM_SIZES["int64"])


def update_from(model: Model, learner: Any) -> None:
    """Copy a learner's weights and state into a model; see `Model.update_from`."""
    if not isinstance(learner, Learner):
        raise TypeError(f"update_from: expected a Learner from Model.learner, got {type(learner).__name__}")
    model._fail_in_training("update_from")
    objective, runtime = _objective(model), model._runtime
    with runtime.lock:
        made_for = backend.fingerprint_of(learner)
        fits = learner.parameters.dtype == model.dtype and any(
            labels in _kinds(objective)
            and fingerprint(program(model, objective, labels)(UNIT, planned=True)) == made_for
            for labels in (False, True)
        )
        if not fits:
            raise ValueError(
                "update_from: the learner was made from a model of another architecture, loss, optimizer or set of "
                "trainable layers, or the model has changed since"
            )
        progress = backend.checked_progress(learner)
        runtime.parameters.view(model.dtype)[...] = learner.parameters
        runtime.optimizer_state.view(model.dtype)[...] = backend.slots_of(learner)
        runtime.training[Counter.STEP] = progress[Progress.STEP]
        runtime.begin_optimizer(int(progress[Progress.STEP] - progress[Progress.OPTIMIZER_STEP]))


def program(model: Model, objective: Objective, labels: bool) -> Make:
    """Return what makes the program of a training step, whose inputs, targets and weights are data slots."""
    table = model._table
    target_kind = "int64" if labels else table.dtype
    request = Request(
        "train",
        1,
        True,
        (Source(_X, table.dtype, 0),),
        (TargetLayout(Source(_Y, target_kind, 0), labels),),
        (WeightLayout(Source(_WEIGHT, table.dtype, 0)),),
        trained=model._trained(),
    )
    task = task_of(table, objective, model.optimizer, request)
    places, sizes = dict(task.places), dict(task.sizes)
    for tensor in task.graph.inputs:
        slot = task.sources[tensor.id].slot
        places[tensor.id] = Place(Buffer.DATA + slot, 0)
        sizes[Buffer.DATA + slot] = tensor.size * _itemsize(tensor, table.dtype)
    return of_any_batch(replace(task, sources={}, places=places, sizes=sizes))


def seeded_program(model: Model) -> Make:
    """Return what makes the program of the gradients for the weights from gradients of the outputs: both data slots."""
    table = model._table
    graph, places, parameters, (x,), (y,) = network(table, training=True)
    seed = graph.input(y.shape, "seed")
    wanted = [tensor for tensor, is_trained in zip(parameters, model._trained(), strict=True) if is_trained]
    accumulating = place_gradients(table, parameters, differentiate(graph, (), wanted, [(y, seed)]), places)
    sizes = {int(buffer): table.nbytes for buffer in (Buffer.PARAMETERS, Buffer.GRADIENTS)}
    for slot, tensor in ((_X, x), (_Y, seed)):
        places[tensor.id] = Place(Buffer.DATA + slot, 0)
        sizes[Buffer.DATA + slot] = tensor.size * _itemsize(tensor, table.dtype)
    tail = [tick(1, training=True)]
    return of_any_batch(Task("gradients", graph, 1, table.dtype, {}, places, accumulating, tail, sizes))


def _itemsize(tensor: Tensor, dtype: str) -> int:
    return ITEM_SIZES[dtype if tensor.kind == "real" else tensor.kind]


def _objective(model: Model) -> Objective:
    """Return the model's objective without metrics."""
    objective = model._objective_or_fail()
    size = LOSSES + 2 * len(objective.losses)
    assert size <= MOST_TOTALS or len(objective.losses) > 1
    return replace(objective, readings=(), measures=(), size=size)


def _kinds(objective: Objective) -> tuple[bool, ...]:
    """Return which targets the loss takes: labels (True), targets like the outputs (False)."""
    return (True, False) if isinstance(objective.losses[0], CrossEntropy) else (False,)


def _labels(loss: Any, targets: str | None) -> bool:
    """Return whether targets are labels."""
    if targets not in (None, *TARGETS):
        raise ValueError(f"learner: targets: expected one of {', '.join(map(repr, TARGETS))}, got {targets!r}")
    if targets == "labels" and not isinstance(loss, CrossEntropy):
        raise ValueError(f"learner: targets: {loss.name} takes no labels")
    return isinstance(loss, CrossEntropy) and targets != "dense"


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
