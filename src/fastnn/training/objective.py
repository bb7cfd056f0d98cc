"""What is measured: losses and metrics bound to a model's outputs, and their accumulators.

All sums of a pass over the data live in one float64 buffer: the penalty, a scratch value, two values an output's
loss, then the metrics'. Records add to it; `logs` reads it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.losses import Loss
from fastnn.metrics import Metric
from fastnn.program.layout import Buffer, encode
from fastnn.training.criteria import Named, check_activation, per_output, resolve_losses, resolve_metrics, squash

PENALTY, SCRATCH, LOSSES = 0, 1, 2


@dataclass(frozen=True)
class Measure:
    """One accumulator: what fills it and where it stands; several metrics may read it.

    `squash` is the activation that makes probabilities of the output first, where it is not one yet.
    """

    accumulator: str
    parameters: tuple[float, ...]
    elementwise: bool
    output: int
    weighted: bool
    squash: str | None
    offset: int
    size: int


@dataclass(frozen=True)
class Reading:
    """One reported metric: its name in logs, the metric as it was asked for, and the measure that it reads."""

    name: str
    named: Named
    measure: Measure

    @property
    def metric(self) -> Metric:
        """The metric."""
        return self.named.metric


@dataclass(frozen=True)
class Objective:
    """Losses, their weights and metrics of a compiled model.

    Attributes
    ----------
    losses : tuple of Loss or None
        One an output; an output without a loss is predicted but not trained.
    loss_weights : tuple of float
    readings : tuple of Reading
    size : int
        Number of float64 accumulators.
    """

    losses: tuple[Loss | None, ...]
    loss_weights: tuple[float, ...]
    readings: tuple[Reading, ...]
    output_names: tuple[str, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    size: int
    measures: tuple[Measure, ...] = field(default=())

    @classmethod
    def bind(
        cls,
        loss: Any,
        loss_weights: Any,
        metrics: Any,
        weighted_metrics: Any,
        output_names: tuple[str, ...],
        output_shapes: tuple[tuple[int, ...], ...],
        output_activations: tuple[str | None, ...],
    ) -> Objective:
        """Check `compile`'s arguments against the outputs and lay out the accumulators."""
        losses = resolve_losses(loss, output_names)
        for one, activation, name in zip(losses, output_activations, output_names, strict=True):
            check_activation(one, activation, name)
        weights = []
        for one in per_output(1.0 if loss_weights is None else loss_weights, output_names, "loss_weights"):
            weight = 1.0 if one is None else one
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not np.isfinite(weight):
                raise ValueError(f"loss_weights: expected finite numbers, got {weight!r}")
            weights.append(float(weight))
        size = LOSSES + 2 * len(output_names)
        measures: dict[tuple[Any, ...], Measure] = {}
        readings: list[Reading] = []
        plain = resolve_metrics(metrics, output_names, losses, "metrics")
        weighed = resolve_metrics(weighted_metrics, output_names, losses, "weighted_metrics")
        for output, (name, shape) in enumerate(zip(output_names, output_shapes, strict=True)):
            if not shape and (losses[output] is not None or plain[output] or weighed[output]):
                raise ValueError(
                    f"output {name!r} has the shape (batch,); losses and metrics take (batch, ..., columns), such as "
                    "Reshape((1,)) gives"
                )
            for weighted, wanted in ((False, plain[output]), (True, weighed[output])):
                for named in wanted:
                    metric = named.metric
                    first = squash(metric, losses[output], shape[-1])
                    key = (metric.accumulator, metric.parameters, metric.elementwise, output, weighted, first)
                    if key not in measures:
                        measures[key] = Measure(*key, offset=size, size=metric.size(shape))
                        size += measures[key].size
                    label = f"weighted_{named.name}" if weighted else named.name
                    label = f"{name}_{label}" if len(output_names) > 1 else label
                    readings.append(Reading(_unique(label, readings), named, measures[key]))
        return cls(
            losses,
            tuple(weights),
            tuple(readings),
            output_names,
            output_shapes,
            size,
            tuple(measures.values()),
        )

    def initial(self) -> NDArray[np.float64]:
        """Return accumulators of nothing."""
        total = np.zeros(self.size)
        for reading in self.readings:
            measure = reading.measure
            initial = reading.metric.initial(self.output_shapes[measure.output])
            total[measure.offset : measure.offset + measure.size] = initial
        return total

    def loss(self, total: NDArray[np.float64], rows: int) -> float:
        """Return the mean loss over `rows` samples: weighted losses of the outputs, and penalties."""
        # arithmetic of Python's floats is several times faster than that of NumPy's
        sums: list[float] = total[: LOSSES + 2 * len(self.losses)].tolist()
        value = sums[PENALTY] / rows
        for output, (loss, weight) in enumerate(zip(self.losses, self.loss_weights, strict=True)):
            # a loss of weight 0 adds nothing, even if it is not finite
            if loss is not None and weight != 0.0:
                value += _ratio(weight * sums[LOSSES + 2 * output], sums[LOSSES + 2 * output + 1])
        return value

    def logs(self, total: NDArray[np.float64], rows: int, *, arrays: bool = False) -> dict[str, Any]:
        """Return loss and metrics by name; metrics that are arrays only where asked for.

        Parameters
        ----------
        rows : int
            Number of samples that were added, at least 1.
        """
        logs: dict[str, Any] = {"loss": self.loss(total, rows)}
        if len(self.losses) > 1:
            for output, (name, loss) in enumerate(zip(self.output_names, self.losses, strict=True)):
                if loss is not None:
                    at = LOSSES + 2 * output
                    logs[f"{name}_loss"] = _ratio(float(total[at]), float(total[at + 1]))
        for reading in self.readings:
            measure = reading.measure
            part = total[measure.offset : measure.offset + measure.size]
            result = reading.metric.result(part, self.output_shapes[measure.output])
            if isinstance(result, float) or arrays:
                logs[reading.name] = result
        return logs


def _ratio(value: float, rows: float) -> float:
    """Divide as IEEE 754 does, where Python would raise for no rows."""
    if rows != 0.0:
        return value / rows
    return math.nan if value == 0.0 or math.isnan(value) else math.copysign(math.inf, value)


def _unique(name: str, readings: Sequence[Reading]) -> str:
    taken = {reading.name for reading in readings}
    label, count = name, 1
    while label in taken or label == "loss":
        count += 1
        label = f"{name}_{count}"
    return label


def accumulator_word(index: int) -> int:
    """Write the place of an accumulator into an operand word."""
    return encode(Buffer.ACCUMULATORS, 8 * index)
