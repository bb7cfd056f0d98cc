"""What is measured: losses and metrics bound to a model's outputs, and their accumulators.

All sums of a pass over the data live in one float64 buffer: the penalty, a scratch value, two values an output's
loss, then the metrics'. Records add to it; `logs` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import losses as loss_module
from fastnn import metrics as metric_module
from fastnn.losses import Hinge, Loss, Perceptron
from fastnn.metrics import Metric
from fastnn.program.layout import Buffer, encode

PENALTY, SCRATCH, LOSSES = 0, 1, 2


@dataclass(frozen=True)
class Measure:
    """One accumulator: what fills it and where it stands; several metrics may read it."""

    accumulator: str
    parameters: tuple[float, ...]
    elementwise: bool
    output: int
    weighted: bool
    offset: int
    size: int


@dataclass(frozen=True)
class Reading:
    """One reported metric: its name in logs, and the measure that it reads."""

    name: str
    metric: Metric
    measure: Measure


def _per_output(value: Any, names: Sequence[str], what: str) -> list[Any]:
    """Spread one value, a list or a dict by output name over the outputs; None where a dict has no entry."""
    if isinstance(value, Mapping):
        unknown = sorted(set(value) - set(names))
        if unknown:
            raise ValueError(f"{what}: there is no output {unknown[0]!r}; the outputs are {list(names)}")
        return [value.get(name) for name in names]
    if isinstance(value, (list, tuple)):
        if len(value) != len(names):
            raise ValueError(f"{what}: expected one a output ({len(names)}: {list(names)}), got {len(value)}")
        return list(value)
    return [value] * len(names)


def _metric(value: Any, loss: Loss | None) -> Metric:
    """Return a metric by name or object.

    A named metric with a threshold takes it at 0 where the loss says that the outputs are signed scores (logits,
    hinge, perceptron), not probabilities.
    """
    metric = metric_module.get(value)
    scores = isinstance(loss, (Hinge, Perceptron)) or getattr(loss, "from_logits", False)
    if isinstance(value, str) and scores and hasattr(metric, "threshold"):
        return replace(metric, threshold=0.0)  # type: ignore[call-arg]
    return metric


def _metric_lists(value: Any, names: Sequence[str], losses: Sequence[Loss | None], what: str) -> list[list[Metric]]:
    """Spread metrics over the outputs: a flat list means every output, a list of lists or a dict one each."""
    if value is None:
        value = []
    if isinstance(value, (str, Metric)):
        value = [value]
    nested = isinstance(value, Mapping) or any(isinstance(part, (list, tuple)) for part in value)
    spread = _per_output(value, names, what) if nested else [value] * len(names)
    found = []
    for part, loss in zip(spread, losses, strict=True):
        if part is None:
            part = []
        found.append([_metric(one, loss) for one in (part if isinstance(part, (list, tuple)) else [part])])
    return found


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
    ) -> Objective:
        """Check `compile`'s arguments against the outputs and lay out the accumulators."""
        losses = tuple(None if one is None else loss_module.get(one) for one in _per_output(loss, output_names, "loss"))
        if all(one is None for one in losses):
            raise ValueError("loss: a model is compiled with at least one loss")
        weights = []
        for one in _per_output(1.0 if loss_weights is None else loss_weights, output_names, "loss_weights"):
            weight = 1.0 if one is None else one
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not np.isfinite(weight):
                raise ValueError(f"loss_weights: expected finite numbers, got {weight!r}")
            weights.append(float(weight))
        size = LOSSES + 2 * len(output_names)
        measures: dict[tuple[Any, ...], Measure] = {}
        readings: list[Reading] = []
        plain = _metric_lists(metrics, output_names, losses, "metrics")
        weighed = _metric_lists(weighted_metrics, output_names, losses, "weighted_metrics")
        for output, (name, shape) in enumerate(zip(output_names, output_shapes, strict=True)):
            for weighted, wanted in ((False, plain[output]), (True, weighed[output])):
                for metric in wanted:
                    key = (metric.accumulator, metric.parameters, metric.elementwise, output, weighted)
                    if key not in measures:
                        measures[key] = Measure(*key, offset=size, size=metric.size(shape))
                        size += measures[key].size
                    label = f"weighted_{metric.name}" if weighted else metric.name
                    label = f"{name}_{label}" if len(output_names) > 1 else label
                    readings.append(Reading(_unique(label, readings), metric, measures[key]))
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
        value = total[PENALTY] / rows
        for output, (loss, weight) in enumerate(zip(self.losses, self.loss_weights, strict=True)):
            if loss is not None:
                value += weight * total[LOSSES + 2 * output] / total[LOSSES + 2 * output + 1]
        return float(value)

    def logs(self, total: NDArray[np.float64], rows: int, *, arrays: bool = False) -> dict[str, Any]:
        """Return loss and metrics by name; metrics that are arrays only where asked for.

        Parameters
        ----------
        rows : int
            Number of samples that were added, at least 1.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            logs: dict[str, Any] = {"loss": self.loss(total, rows)}
            if len(self.losses) > 1:
                for output, (name, loss) in enumerate(zip(self.output_names, self.losses, strict=True)):
                    if loss is not None:
                        at = LOSSES + 2 * output
                        logs[f"{name}_loss"] = float(total[at] / total[at + 1])
        for reading in self.readings:
            measure = reading.measure
            part = total[measure.offset : measure.offset + measure.size]
            result = reading.metric.result(part, self.output_shapes[measure.output])
            if isinstance(result, float) or arrays:
                logs[reading.name] = result
        return logs


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
