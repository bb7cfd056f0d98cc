"""Losses and metrics bound to a model's outputs, and their accumulators.

All sums of a pass over the data are in one float64 buffer: the penalty, a scratch value, two values for each output's
loss, then the metrics' values. Records add to it; `logs` reads it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import number
from fastnn.graph.meaning import End
from fastnn.losses import CrossEntropy, Function, Loss
from fastnn.losses.base import mean_of
from fastnn.metrics import MeanLoss, Metric
from fastnn.objective.resolve import (
    Named,
    check_ends,
    check_log_names,
    log_names,
    per_output,
    resolve_losses,
    resolve_metrics,
    suited,
)
from fastnn.program.layout import Buffer, encode

PENALTY, SCRATCH, LOSSES = 0, 1, 2


@dataclass(frozen=True)
class Measure:
    """One accumulator: its inputs and its place in the buffer; several metrics may read it.

    `squash` is the activation that first turns the output into probabilities, if it is not one yet.
    """

    accumulator: str
    parameters: tuple[Any, ...]
    elementwise: bool
    output: int
    weighted: bool
    squash: str | None
    offset: int
    size: int


@dataclass(frozen=True)
class Reading:
    """One reported metric: its name in logs, the metric as requested and as adapted, and the measure that it reads."""

    name: str
    named: Named
    metric: Metric
    measure: Measure


class Results(dict[str, Any]):
    """Loss and metrics by name.

    A weighted metric is also found as "weighted_...", which is its name if an unweighted one has the plain name.
    """

    def __init__(self, logs: dict[str, Any], weighted: dict[str, str]) -> None:
        super().__init__(logs)
        self._weighted = weighted

    def __missing__(self, name: str) -> Any:
        plain = self._weighted.get(name)
        if plain is None or plain == name:
            raise KeyError(name)
        return self[plain]


@dataclass(frozen=True)
class Objective:
    """Losses, their weights and metrics of a compiled model.

    Attributes
    ----------
    losses : tuple of Loss or None
        One per output; an output without a loss is predicted but not trained.
    loss_weights : tuple of float
    readings : tuple of Reading
    size : int
        Number of float64 accumulators.
    extra_metrics : tuple of (name, place)
        For each number for the logs that the model computes besides its outputs, the place of its sum and count.
    has_extra_loss : bool
        Whether the model computes losses besides its outputs.
    """

    losses: tuple[Loss | None, ...]
    loss_weights: tuple[float, ...]
    readings: tuple[Reading, ...]
    output_names: tuple[str, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    size: int
    measures: tuple[Measure, ...] = field(default=())
    extra_metrics: tuple[tuple[str, int], ...] = ()
    has_extra_loss: bool = False

    @classmethod
    def bind(
        cls,
        loss: Any,
        loss_weights: Any,
        metrics: Any,
        weighted_metrics: Any,
        output_names: tuple[str, ...],
        output_shapes: tuple[tuple[int, ...], ...],
        output_ends: tuple[tuple[End, ...], ...],
        extras: Sequence[tuple[str, str]] = (),
    ) -> Objective:
        """Check `compile`'s arguments against the outputs and lay out the accumulators.

        `extras` are roles ("loss" or "metric") and names of what the model computes besides its outputs.
        """
        losses = resolve_losses(loss, output_names, needed=all(role != "loss" for role, _ in extras))
        for shape, name in zip(output_shapes, output_names, strict=True):
            if shape and shape[-1] is None:
                raise ValueError(
                    f"output {name!r} has a last axis of a size that fastnn.Input leaves open (None): losses and "
                    "metrics take (batch, ..., columns), such as Reshape((-1, 1)) gives"
                )
        for one, ends, shape, name in zip(losses, output_ends, output_shapes, output_names, strict=True):
            check_ends(one, ends, shape[-1] if shape else 1, name)
        wanted = per_output(1.0 if loss_weights is None else loss_weights, output_names, "loss_weights")
        weights = [1.0 if one is None else number("loss_weights", one) for one in wanted]
        size = LOSSES + 2 * len(output_names)
        measures: dict[tuple[Any, ...], Measure] = {}
        readings: list[Reading] = []
        plain = resolve_metrics(metrics, output_names, "metrics")
        weighed = resolve_metrics(weighted_metrics, output_names, "weighted_metrics")
        for output, (name, shape) in enumerate(zip(output_names, output_shapes, strict=True)):
            if not shape and _take_rows(losses[output], [*plain[output], *weighed[output]]):
                raise ValueError(
                    f"output {name!r} has the shape (batch,); losses and metrics, but for functions of symbols, take "
                    "(batch, ..., columns), such as Reshape((1,)) gives"
                )
            unweighted = {named.name for named in plain[output]}
            for weighted, chosen in ((False, plain[output]), (True, weighed[output])):
                for named in chosen:
                    metric, first = suited(named.metric, losses[output], output_ends[output], (shape or (1,))[-1])
                    if isinstance(metric, MeanLoss):
                        check_ends(metric.loss, output_ends[output], (shape or (1,))[-1], name)
                    key = (metric.accumulator, metric.parameters, metric.elementwise, output, weighted, first)
                    if key not in measures:
                        measures[key] = Measure(*key, offset=size, size=metric.size(shape))
                        size += measures[key].size
                    label = f"weighted_{named.name}" if weighted and named.name in unweighted else named.name
                    label = f"{name}_{label}" if len(output_names) > 1 else label
                    mine = {one.name for one in readings if one.measure.output == output}
                    readings.append(Reading(_unique(label, mine), named, metric, measures[key]))
        numbers = [name for role, name in extras if role == "metric"]
        check_log_names(output_names, losses, [*(reading.name for reading in readings), *numbers])
        extra_metrics = tuple([(name, size + 2 * index) for index, name in enumerate(numbers)])
        size += 2 * len(numbers)
        return cls(
            losses,
            tuple(weights),
            tuple(readings),
            output_names,
            output_shapes,
            size,
            tuple(measures.values()),
            extra_metrics,
            any(role == "loss" for role, _ in extras),
        )

    def at(self, output_shapes: tuple[tuple[int, ...], ...]) -> Objective:
        """Return the objective for outputs of known shapes, where the model leaves sizes open."""
        return self if output_shapes == self.output_shapes else replace(self, output_shapes=output_shapes)

    def without_metrics(self) -> Objective:
        """Return the losses alone."""
        size = LOSSES + 2 * len(self.losses)
        return replace(self, readings=(), measures=(), size=size, extra_metrics=())

    @property
    def trains(self) -> bool:
        """Whether there is a loss."""
        return self.has_extra_loss or any(loss is not None for loss in self.losses)

    @property
    def targeted(self) -> list[int]:
        """The outputs that have targets: those with a loss or a metric."""
        measured = {one.output for one in self.measures}
        return [output for output, loss in enumerate(self.losses) if loss is not None or output in measured]

    def takes_labels(self, output: int) -> bool:
        """Return whether the targets of an output may be labels."""
        return isinstance(self.losses[output], CrossEntropy | Function)

    def wants_labels(self, output: int) -> bool:
        """Return whether the targets of an output are labels unless something else is said."""
        return isinstance(self.losses[output], CrossEntropy)

    def functions(self, output: int) -> list[Function]:
        """Return the losses and metrics of an output that are functions of symbols."""
        found = [self.losses[output], *(one.parameters[0] for one in self.measures if _of_loss(one, output))]
        return [one for one in found if isinstance(one, Function)]

    @property
    def log_names(self) -> list[str]:
        """Names of the numbers that `logs` has."""
        metrics = [reading.name for reading in self.readings if reading.metric.is_number]
        return [*log_names(self.output_names, self.losses), *metrics, *(name for name, _ in self.extra_metrics)]

    def results(self, total: NDArray[np.float64], rows: int) -> Results:
        """Return `logs` with all metrics; weighted ones have both names."""
        names = {}
        for reading in self.readings:
            if reading.measure.weighted:
                output = self.output_names[reading.measure.output]
                label = f"weighted_{reading.named.name}"
                names[f"{output}_{label}" if len(self.output_names) > 1 else label] = reading.name
        return Results(self.logs(total, rows, arrays=True), names)

    def initial(self) -> NDArray[np.float64]:
        """Return empty accumulators."""
        total = np.zeros(self.size)
        for reading in self.readings:
            measure = reading.measure
            initial = reading.metric.initial(self.output_shapes[measure.output])
            total[measure.offset : measure.offset + measure.size] = initial
        return total

    def loss(self, total: NDArray[np.float64], rows: int) -> float:
        """Return the mean loss over `rows` samples: weighted losses of the outputs, and penalties."""
        # arithmetic with Python's floats is several times faster than with NumPy's
        sums: list[float] = total[: LOSSES + 2 * len(self.losses)].tolist()
        value = sums[PENALTY] / rows
        for output, (loss, weight) in enumerate(zip(self.losses, self.loss_weights, strict=True)):
            # a loss of weight 0 adds nothing, even if it is not finite
            if loss is not None and weight != 0.0:
                value += mean_of(weight * sums[LOSSES + 2 * output], sums[LOSSES + 2 * output + 1])
        return value

    def logs(self, total: NDArray[np.float64], rows: int, *, arrays: bool = False) -> dict[str, Any]:
        """Return loss and metrics by name; metrics that are arrays only if `arrays` is set.

        Parameters
        ----------
        rows : int
            Number of samples added, at least 1.
        """
        logs: dict[str, Any] = {"loss": self.loss(total, rows)}
        if len(self.losses) > 1:
            for output, (name, loss) in enumerate(zip(self.output_names, self.losses, strict=True)):
                if loss is not None:
                    at = LOSSES + 2 * output
                    logs[f"{name}_loss"] = mean_of(float(total[at]), float(total[at + 1]))
        for reading in self.readings:
            measure = reading.measure
            part = total[measure.offset : measure.offset + measure.size]
            result = reading.metric.result(part, self.output_shapes[measure.output])
            if isinstance(result, float) or arrays:
                logs[reading.name] = result
        for name, at in self.extra_metrics:
            logs[name] = _ratio(float(total[at]), float(total[at + 1]))
        return logs


def _of_loss(measure: Measure, output: int) -> bool:
    return measure.accumulator == "loss" and measure.output == output


def _take_rows(loss: Loss | None, metrics: Sequence[Named]) -> bool:
    """Return whether a loss and metrics need outputs that have columns: all but functions of symbols do."""
    kinds = [loss, *(one.metric.loss if isinstance(one.metric, MeanLoss) else one.metric for one in metrics)]
    return any(one is not None and not isinstance(one, Function) for one in kinds)


def _ratio(value: float, rows: float) -> float:
    """Divide as IEEE 754 does, while Python would raise for 0 rows."""
    if rows != 0.0:
        return value / rows
    return math.nan if value == 0.0 or math.isnan(value) else math.copysign(math.inf, value)


def _unique(name: str, taken: set[str]) -> str:
    """Return a name, numbered if an output has the metric already."""
    label, count = name, 1
    while label in taken:
        count += 1
        label = f"{name}_{count}"
    return label


def as_list(logs: dict[str, Any]) -> Any:
    """Return values as Keras does: a list, or only the loss."""
    values = list(logs.values())
    return values[0] if len(values) == 1 else values


def accumulator_word(index: int) -> int:
    """Write the place of an accumulator into an operand word."""
    return encode(Buffer.ACCUMULATORS, 8 * index)
