"""What `compile` was given, resolved by output: losses and metrics, checked against what the outputs are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastnn import losses as loss_module
from fastnn import metrics as metric_module
from fastnn.losses import BinaryCrossEntropy, CrossEntropy, Hinge, Loss, Perceptron
from fastnn.metrics import Metric


@dataclass(frozen=True)
class Named:
    """A metric under the name that it is reported by."""

    name: str
    metric: Metric


def per_output(value: Any, names: Sequence[str], what: str) -> list[Any]:
    """Spread one value, a list or a dict by output name over the outputs; None where a dict has no entry."""
    if isinstance(value, Mapping):
        unknown = [name for name in value if name not in names]
        if unknown:
            raise ValueError(f"{what}: there is no output {unknown[0]!r}; the outputs are {list(names)}")
        return [value.get(name) for name in names]
    if isinstance(value, (list, tuple)):
        if len(value) != len(names):
            raise ValueError(f"{what}: expected one a output ({len(names)}: {list(names)}), got {len(value)}")
        return list(value)
    return [value] * len(names)


def resolve_losses(value: Any, names: Sequence[str]) -> tuple[Loss | None, ...]:
    """Return the loss of every output, None where it has none."""
    losses = tuple(None if one is None else loss_module.get(one) for one in per_output(value, names, "loss"))
    if all(one is None for one in losses):
        raise ValueError("loss: a model is compiled with at least one loss")
    return losses


def resolve_metrics(value: Any, names: Sequence[str], losses: Sequence[Loss | None], what: str) -> list[list[Named]]:
    """Spread metrics over the outputs: a flat list means every output, a list of lists or a dict one each."""
    if value is None:
        value = []
    if isinstance(value, (str, Metric)):
        value = [value]
    if not isinstance(value, (Mapping, list, tuple)):
        raise TypeError(f"{what}: expected a list of metrics, or a dict by output, got {value!r}")
    nested = isinstance(value, Mapping) or any(isinstance(part, (list, tuple)) for part in value)
    spread = per_output(value, names, what) if nested else [value] * len(names)
    found = []
    for part, loss in zip(spread, losses, strict=True):
        wanted = part if isinstance(part, (list, tuple)) else [] if part is None else [part]
        found.append([_named(one, loss) for one in wanted])
    return found


def _named(value: Any, loss: Loss | None) -> Named:
    """Return a metric by name or object; a name stays the name in logs.

    A metric by name that has a threshold takes it at 0 where the outputs are signed scores, not probabilities.
    """
    if isinstance(value, Named):
        return value
    metric = metric_module.get(value)
    if not isinstance(value, str):
        return Named(metric.name, metric)
    if is_signed(loss) and hasattr(metric, "threshold"):
        metric = replace(metric, threshold=0.0)  # type: ignore[call-arg]
    return Named(value, metric)


def is_signed(loss: Loss | None) -> bool:
    """Tell whether a loss takes signed scores, of which 0 is undecided, instead of probabilities."""
    return isinstance(loss, (Hinge, Perceptron)) or bool(getattr(loss, "from_logits", False))


def squash(metric: Metric, loss: Loss | None, columns: int) -> str | None:
    """Return the activation that a metric of probabilities needs in front, where outputs are signed scores."""
    if not is_signed(loss) or metric.prediction_range != (0.0, 1.0):
        return None
    return "softmax" if isinstance(loss, CrossEntropy) and columns > 1 else "sigmoid"


def check_names(loss: Any, metrics: Any, weighted_metrics: Any) -> None:
    """Find unknown names before the outputs are known."""
    for what, value, get in (
        ("loss", loss, loss_module.get),
        ("metrics", metrics, metric_module.get),
        ("weighted_metrics", weighted_metrics, metric_module.get),
    ):
        for one in _leaves(value, what):
            if not isinstance(one, Named):
                get(one)


def _leaves(value: Any, what: str, around: tuple[int, ...] = ()) -> list[Any]:
    """Return what is in nested lists and dicts, which are known to lie within those of the ids in `around`."""
    if value is None:
        return []
    if id(value) in around:
        raise ValueError(f"{what}: a {type(value).__name__} holds itself")
    parts = list(value.values()) if isinstance(value, Mapping) else value
    if isinstance(parts, (list, tuple)):
        return [leaf for part in parts for leaf in _leaves(part, what, (*around, id(value)))]
    return [value]


# Activations whose values are probabilities; all others that are known certainly give something else.
_PROBABILITIES: dict[type[Loss], frozenset[str]] = {
    CrossEntropy: frozenset({"softmax"}),
    BinaryCrossEntropy: frozenset({"sigmoid", "hard_sigmoid", "softmax", "step"}),
}


def check_activation(loss: Loss | None, activation: str | None, name: str) -> None:
    """Refuse a loss of probabilities on an output that is none, and one of logits on an output that is.

    Either would be trained to nonsense. `activation` is the output's last one, None where it is not known.
    """
    if loss is None or activation is None or type(loss) not in _PROBABILITIES:
        return
    good = _PROBABILITIES[type(loss)]
    kind, right = type(loss).__name__, "softmax" if isinstance(loss, CrossEntropy) else "sigmoid"
    if is_signed(loss):
        if activation in ("softmax", "log_softmax", "sigmoid", "hard_sigmoid"):
            raise ValueError(
                f"loss: {kind}(from_logits=True) takes logits, but the output {name!r} ends in {activation}: leave "
                "out from_logits, or the activation"
            )
    elif activation not in good:
        raise ValueError(
            f"loss: {kind} takes probabilities, but the output {name!r} ends in {activation}: use "
            f"activation={right!r} there, or {kind}(from_logits=True)"
        )
