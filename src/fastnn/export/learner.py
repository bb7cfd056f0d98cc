"""Make learners of compiled models, which train in users' compiled code, and update models from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastnn.backend.cpu.frozen import learner as backend
from fastnn.backend.cpu.frozen.code import assemble, fingerprint
from fastnn.backend.cpu.frozen.learner import Learner, Numbers
from fastnn.backend.cpu.layouts.code import UNIT, Progress
from fastnn.checks import integer
from fastnn.export.network import checked_rows, freeze
from fastnn.objective.objective import Objective
from fastnn.optimizers import Optimizer
from fastnn.program.layout import Counter
from fastnn.runtime.programs.codes import step, weight_gradients
from fastnn.runtime.programs.independence import traits
from fastnn.runtime.runtime import Runtime

TARGETS = ("labels", "dense")


def learner(
    runtime: Runtime,
    *,
    gradients: bool,
    targets: Any,
    steps: int | None,
    metrics: bool = False,
    rows: int | None = None,
) -> Learner:
    """Make the learner of a model as it is; see `Model.learner`."""
    table, (objective, optimizer) = runtime.table.apart(), _compiled(runtime, metrics)
    if not objective.trains:
        raise ValueError("learner: no output of the model has a loss")
    labels = _labels(objective, targets)
    rows = checked_rows("learner", rows)
    # predictions are for any number of rows, if that is possible
    predicted = None if rows is None or traits(table, training=False).by_row else rows
    with _any_sizes(rows):
        code = assemble(step(table, objective, optimizer, labels, rows=rows))
        seeded = assemble(weight_gradients(table, optimizer, rows)) if gradients else None
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
        return backend.make(
            freeze(runtime, gradients=gradients and table.architecture.takes_numbers, rows=predicted),
            code,
            seeded,
            runtime.optimizer_state.view(table.dtype),
            numbers,
            objective.initial() if metrics else None,
        )


@contextmanager
def _any_sizes(rows: int | None) -> Iterator[None]:
    """Explain which learners take sizes that are not in proportion to the rows, where this one does not."""
    try:
        yield
    except NotImplementedError as error:
        if rows is not None:
            raise
        raise NotImplementedError(
            f"learner: a loss or a layer computes with all pairs of a batch's rows, or the like ({error}): compiled "
            "code for any number of rows takes sizes in proportion to the rows: give the number of rows that steps "
            "will have (rows=...)"
        ) from None


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
    if len(found) != len(objective.targeted):
        return False
    if any(labels and not objective.takes_labels(at) for at, labels in zip(objective.targeted, found, strict=True)):
        return False
    rows = backend.rows_of(learner)
    program = step(table, objective, optimizer, found, rows=rows or None).make(rows or UNIT)
    return fingerprint(program) == backend.fingerprint_of(learner)


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


def _compiled(runtime: Runtime, metrics: bool) -> tuple[Objective, Optimizer]:
    """Return a model's objective, with or without metrics, and its optimizer."""
    objective, optimizer = runtime.compiled()
    if not metrics:
        objective = objective.without_metrics()
    return objective, optimizer


def _labels(objective: Objective, targets: Any) -> list[bool]:
    """Return for each output that has targets whether they are labels."""
    outputs = objective.targeted
    wanted = list(targets) if isinstance(targets, list | tuple) else [targets] * len(outputs)
    if len(wanted) != len(outputs):
        raise ValueError(f"learner: targets: expected one for each of {len(outputs)} outputs, got {len(wanted)}")
    found = []
    for output, one in zip(outputs, wanted, strict=True):
        loss, labels = objective.losses[output], objective.takes_labels(output)
        if one is None and not objective.wants_labels(output):
            one = "dense"
        if one not in (None, *TARGETS):
            raise ValueError(f"learner: targets: expected one of {', '.join(map(repr, TARGETS))}, got {one!r}")
        if one == "labels" and not labels:
            name = "an output without loss" if loss is None else loss.name
            raise ValueError(f"learner: targets: {name} takes no labels")
        found.append(labels and one != "dense")
    return found


def _rates(optimizer: Optimizer, done: int, steps: int | None, dtype: str) -> Any:
    if isinstance(optimizer.learning_rate, float):
        optimizer.hyper_rows(done, 1, dtype)
        return optimizer.learning_rate
    if steps is None:
        raise ValueError(
            "learner: the learning rate is a schedule: give the number of steps to compute it for (steps=...)"
        )
    steps = integer("learner: steps", steps)
    optimizer.hyper_rows(done, steps, dtype)
    return optimizer.rates(done + steps)
