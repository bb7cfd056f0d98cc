"""A warning about batches of one row, which have no variance for batch normalisation to learn."""

from __future__ import annotations

import inspect
import warnings

from fastnn.layers import BatchNorm
from fastnn.runtime.parameters import ParameterTable


def learns_variance(table: ParameterTable) -> list[str]:
    """Return the labels of BatchNorm layers to which a sample gives a single row in a training step."""
    architecture, trainable = table.architecture, table.trainable_layers()
    named = {
        architecture.labels[call.layer]: None
        for call in architecture.calls
        if isinstance(layer := architecture.layers[call.layer], BatchNorm)
        and trainable[call.layer]
        and layer.momentum < 1.0
        and len(call.shape) == 1
    }
    return list(named)


def warn_of_one_row(table: ParameterTable) -> None:
    """Warn the library's caller when a training step of one sample gives a BatchNorm layer a single row."""
    named = learns_variance(table)
    if named:
        warnings.warn(
            f"{', '.join(named)}: a training batch of one row has the variance 0, which enters the moving variance of "
            "batch normalisation and shrinks it; choose a batch_size that does not leave a single row over, or leave "
            "that row out",
            RuntimeWarning,
            stacklevel=_outside(),
        )


def _outside() -> int:
    """Return the stack level of the first caller that is not in this package."""
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("fastnn."):
        level, frame = level + 1, frame.f_back
    return level
