"""The losses and metrics of `compile`, resolved by output and checked against the outputs' values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastnn import losses as loss_module
from fastnn import metrics as metric_module
from fastnn.graph.meaning import End
from fastnn.losses import BinaryCrossEntropy, CrossEntropy, Hinge, KLDivergence, Loss, Perceptron, Poisson
from fastnn.metrics import MeanLoss, Metric
from fastnn.metrics.confusion import Confusion


@dataclass(frozen=True)
class Named:
    """A metric and the name under which it is reported."""

    name: str
    metric: Metric


def per_output(value: Any, names: Sequence[str], what: str) -> list[Any]:
    """Spread one value, a list or a dict by output name over the outputs; None if a dict has no entry."""
    if isinstance(value, Mapping):
        unknown = [name for name in value if name not in names]
        if unknown:
            raise ValueError(f"{what}: there is no output {unknown[0]!r}; the outputs are {list(names)}")
        return [value.get(name) for name in names]
    if isinstance(value, (list, tuple)):
        if len(value) != len(names):
            raise ValueError(f"{what}: expected one per output ({len(names)}: {list(names)}), got {len(value)}")
        return list(value)
    return [value] * len(names)


def resolve_losses(value: Any, names: Sequence[str], *, needed: bool = True) -> tuple[Loss | None, ...]:
    """Return the loss of every output, or None for outputs without one; `needed` says that there must be one."""
    losses = tuple(None if one is None else loss_module.get(one) for one in per_output(value, names, "loss"))
    if needed and all(one is None for one in losses):
        raise ValueError("loss: a model is compiled with at least one loss")
    return losses


def resolve_metrics(value: Any, names: Sequence[str], what: str) -> list[list[Named]]:
    """Spread metrics over the outputs: a flat list applies to every output, a list of lists or a dict to one each."""
    if value is None:
        value = []
    if isinstance(value, (str, Metric, Loss)) or callable(value):
        value = [value]
    if not isinstance(value, (Mapping, list, tuple)):
        raise TypeError(f"{what}: expected a list of metrics, or a dict by output, got {value!r}")
    nested = isinstance(value, Mapping) or any(isinstance(part, (list, tuple)) for part in value)
    spread = per_output(value, names, what) if nested else [value] * len(names)
    found = []
    for part in spread:
        wanted = part if isinstance(part, (list, tuple)) else [] if part is None else [part]
        found.append([_named(one) for one in wanted])
    return found


def _named(value: Any) -> Named:
    """Return a metric given by name or as an object; a given name is also used in logs."""
    if isinstance(value, Named):
        return value
    metric = metric_module.get(value)
    return Named(value if isinstance(value, str) else metric.name, metric)


# Names that callbacks and log files use otherwise.
_RESERVED = frozenset({"epoch", "batch", "learning_rate"})


def log_names(outputs: Sequence[str], losses: Sequence[Loss | None]) -> list[str]:
    """Return the names of the losses in logs."""
    each = [f"{name}_loss" for name, loss in zip(outputs, losses, strict=True) if loss is not None]
    return ["loss", *each] if len(outputs) > 1 else ["loss"]


def check_log_names(outputs: Sequence[str], losses: Sequence[Loss | None], metrics: Sequence[str]) -> None:
    """Refuse names of outputs and metrics that would give two quantities the same name in logs.

    Raises
    ------
    ValueError
        When two quantities have the same name, or one has the name of another one's validation.
    """
    if len(outputs) > 1 and "loss" in outputs:
        raise ValueError("an output named 'loss' has the name of the sum of all losses: give its layer another name")
    names = [*log_names(outputs, losses), *metrics]
    taken: set[str] = set()
    for name in names:
        clash = name in taken or name in _RESERVED
        if clash or f"val_{name}" in names:
            found = name if clash else f"val_{name}"
            what = "another quantity" if clash else f"the validation's {name!r}"
            raise ValueError(
                f"logs: {found!r} would be the name of {what}, too: rename a metric, or the layer of an output (the "
                f"outputs are {list(outputs)})"
            )
        taken.add(name)


def is_signed(loss: Loss | None, ends: Sequence[End]) -> bool:
    """Return whether outputs are signed scores, with the threshold 0, instead of probabilities.

    A margin loss has scores of both signs, unless the output's activation leaves none below 0.
    """
    if isinstance(loss, (Hinge, Perceptron)):
        return not ends or min(end.low for end in ends) < 0.0
    return bool(getattr(loss, "from_logits", False)) and not isinstance(loss, Poisson)


# Activations whose outputs are probabilities of their own, each of something that may be there or not.
_INDEPENDENT = frozenset({"sigmoid", "hard_sigmoid"})


def has_labels(loss: Loss | None, ends: Sequence[End], columns: int) -> bool:
    """Return whether the columns of an output are labels, of which a row has any number, instead of classes."""
    if columns == 1 or isinstance(loss, CrossEntropy):
        return False
    if isinstance(loss, (BinaryCrossEntropy, Hinge, Perceptron)):
        return True
    return bool(ends) and all(end.op in _INDEPENDENT for end in ends)


def suited(metric: Metric, loss: Loss | None, ends: Sequence[End], columns: int) -> tuple[Metric, str | None]:
    """Return a metric adapted to the values of an output, whether given by name or as an object.

    A missing threshold is set to 0 for signed scores and 0.5 for probabilities, and a missing `multi_label` to what
    the loss means. Metrics of probabilities need an activation first if the outputs are signed scores.

    Returns
    -------
    metric, activation or None
    """
    signed = is_signed(loss, ends)
    if isinstance(metric, MeanLoss):
        alike = Poisson if isinstance(loss, Poisson) else (CrossEntropy, BinaryCrossEntropy)
        if getattr(loss, "from_logits", False) and isinstance(metric.loss, alike):
            metric = replace(metric, of=replace(metric.loss, from_logits=True))
        return metric, None
    alone = metric.elementwise
    if isinstance(metric, Confusion):
        labels = metric.has_labels(columns)
        alone = has_labels(loss, ends, columns) if labels is None else labels
        metric = replace(metric, multi_label=alone)
    probabilities = "softmax" if isinstance(loss, CrossEntropy) and columns > 1 else "sigmoid"
    squashed = metric.prediction_range == (0.0, 1.0)
    if getattr(metric, "threshold", 0.0) is None:
        # a score has no threshold of its own if the others of its row count too
        squashed = alone and probabilities == "softmax"
        threshold = 0.0 if signed and not squashed else 0.5
        metric = replace(metric, threshold=threshold)  # type: ignore[call-arg]
    return metric, probabilities if signed and squashed else None


def check_names(loss: Any, metrics: Any, weighted_metrics: Any) -> None:
    """Check names before the outputs are known."""
    for what, value, get in (
        ("loss", loss, loss_module.get),
        ("metrics", metrics, metric_module.get),
        ("weighted_metrics", weighted_metrics, metric_module.get),
    ):
        for one in _leaves(value, what):
            if not isinstance(one, Named):
                get(one)


def _leaves(value: Any, what: str, around: tuple[int, ...] = ()) -> list[Any]:
    """Return the leaves of nested lists and dicts; `around` has the ids of the containers around `value`."""
    if value is None:
        return []
    if id(value) in around:
        raise ValueError(f"{what}: a {type(value).__name__} holds itself")
    parts = list(value.values()) if isinstance(value, Mapping) else value
    if isinstance(parts, (list, tuple)):
        return [leaf for part in parts for leaf in _leaves(part, what, (*around, id(value)))]
    return [value]


# The activation to suggest for a loss that takes only certain values.
_SUITABLE: dict[type[Loss], str] = {
    CrossEntropy: "softmax",
    KLDivergence: "softmax",
    BinaryCrossEntropy: "sigmoid",
    Poisson: "exponential",
}
# Functions that make probabilities or rates of logits.
_OF_LOGITS = frozenset({"softmax", "log_softmax", "sigmoid", "hard_sigmoid", "exponential"})


def check_ends(loss: Loss | None, ends: Sequence[End], columns: int, name: str) -> None:
    """Refuse a loss that does not fit the values of its output, with which training would be meaningless.

    Parameters
    ----------
    ends : sequence of End
        What is known about the output's values.
    columns : int
        Extent of the output's last axis.
    """
    if loss is None:
        return
    kind = type(loss).__name__
    if getattr(loss, "from_logits", False):
        for end in ends:
            if end.op in _OF_LOGITS:
                raise ValueError(
                    f"loss: {kind}(from_logits=True) takes logits, but the output {name!r} ends in {end.op}: leave "
                    "out from_logits, or the activation"
                )
        return
    for end in ends:
        wanted = _unmet(loss, end, columns)
        if wanted:
            hint = next(
                (f"; use activation={right!r} there" for of, right in _SUITABLE.items() if isinstance(loss, of)), ""
            )
            hint += f", or {kind}(from_logits=True)" if hasattr(loss, "from_logits") else ""
            raise ValueError(f"loss: {kind} takes {wanted}, but the output {name!r} ends in {end.op}{hint}")


def _unmet(loss: Loss, end: End, columns: int) -> str:
    """Return which values a loss takes, if an op gives others, or an empty string."""
    low, high = loss.prediction_range
    inside = low <= end.low and end.high <= high
    # a Kullback-Leibler divergence is also used on values that are no distribution over all columns, such as sigmoids
    if isinstance(loss, CrossEntropy) or (isinstance(loss, KLDivergence) and not (inside and end.op != "softmax")):
        if end.op == "softmax" and end.sums_to_one != columns:
            return f"probabilities of {columns} classes that sum to 1 (Reshape or Concatenate has divided the classes)"
        good = end.sums_to_one == columns or (inside and end.op in ("add", "multiply"))
        return "" if good else "probabilities that sum to 1"
    if inside:
        return ""
    if (low, high) == (0.0, 1.0):
        return "probabilities"
    return f"predictions of at least {low:g}" + (f" and at most {high:g}" if high < math.inf else "")
