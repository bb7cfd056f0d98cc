"""Runtimes of architectures: checks of what has a kernel, and initial weights."""

from __future__ import annotations

from fastnn import casts
from fastnn.constraints import MaxNorm
from fastnn.layers.architecture import Architecture
from fastnn.runtime.parameters import ParameterTable
from fastnn.runtime.runtime import Runtime
from fastnn.runtime.shared_weights import links

# inputs, targets, weights and results share the data slots of a context
_MAX_ENDS = 20


def make_runtime(architecture: Architecture, dtype: str, seed: int, *, initialize: bool) -> Runtime:
    """Make the buffers of an architecture and, unless they come from a file, initial weights.

    Raises
    ------
    ValueError
        When there are too many inputs and outputs, a hyperparameter does not fit the dtype, a constraint or an
        initializer does not fit its weight, or as for `links`.
    """
    if len(architecture.inputs) + len(architecture.outputs) > _MAX_ENDS:
        raise ValueError(f"a model has at most {_MAX_ENDS} inputs and outputs together")
    for layer, label in zip(architecture.layers, architecture.labels, strict=True):
        casts.check_hyperparameters(layer, dtype, label)
    owners, places, sizes = links(architecture, dtype)
    table = ParameterTable(architecture, dtype, places, sizes)
    for entry in table:
        constraint = entry.spec.constraint
        if constraint is None:
            continue
        if not isinstance(constraint, MaxNorm):
            raise ValueError(f"{entry.name}: the constraint {constraint!r} has no kernel; there is MaxNorm")
        if not -len(entry.spec.shape) <= constraint.axis < len(entry.spec.shape):
            raise ValueError(f"{entry.name}: the constraint's axis {constraint.axis} is not in {entry.spec.shape}")
    runtime = Runtime(table, seed, owners)
    if initialize:
        table.initialize(runtime.parameters, seed)
    return runtime
