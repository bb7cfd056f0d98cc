"""Runtimes of architectures: checks of what has a kernel, and initial weights."""

from __future__ import annotations

from fastnn import casts
from fastnn.constraints import MaxNorm
from fastnn.layers.architecture import Architecture
from fastnn.runtime.parameters import ParameterTable
from fastnn.runtime.runtime import Runtime

# inputs, targets, weights and results share the data slots of a context
_MAX_ENDS = 20


def make_runtime(architecture: Architecture, dtype: str, seed: int, *, initialize: bool) -> Runtime:
    """Make the buffers of an architecture and, unless they come from a file, initial weights.

    Raises
    ------
    ValueError
        When there are too many inputs and outputs, a hyperparameter does not fit the dtype, or a constraint or an
        initializer does not fit its weight.
    """
    if len(architecture.inputs) + len(architecture.outputs) > _MAX_ENDS:
        raise ValueError(f"a model has at most {_MAX_ENDS} inputs and outputs together")
    for layer, label in zip(architecture.layers, architecture.labels, strict=True):
        casts.check_hyperparameters(layer, dtype, label)
    table = ParameterTable(architecture, dtype)
    for entry in table:
        constraint = entry.spec.constraint
        if constraint is None:
            continue
        if not isinstance(constraint, MaxNorm):
            raise ValueError(f"{entry.name}: the constraint {constraint!r} has no kernel; there is MaxNorm")
        if not -len(entry.spec.shape) <= constraint.axis < len(entry.spec.shape):
            raise ValueError(f"{entry.name}: the constraint's axis {constraint.axis} is not in {entry.spec.shape}")
    runtime = Runtime(table, seed)
    if initialize:
        table.initialize(runtime.parameters, seed)
    return runtime
