"""Losses as metrics: their mean over all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastnn import losses
from fastnn.losses import Loss
from fastnn.losses.arguments import of_rows
from fastnn.losses.targets import Kind, Shape
from fastnn.metrics.base import Array, Metric
from fastnn.registry import register


@register("metric")
@dataclass(frozen=True)
class MeanLoss(Metric):
    """Mean of a loss over all rows; what a loss, or its name, means among the metrics of `compile`.

    Weighted, it is the sum of weights times losses over the sum of the weights, as Keras' metrics are; penalties of
    weights are not part of it. Of an output that is trained from logits, a cross-entropy is computed from them too.

    Parameters
    ----------
    of : str, Loss or function
        As for `compile`.
    """

    of: Loss | str
    accumulator: ClassVar[str] = "loss"
    better: ClassVar[str] = "min"

    def __post_init__(self) -> None:
        """Find the loss."""
        object.__setattr__(self, "of", losses.get(self.of))

    @property
    def loss(self) -> Loss:
        """The loss."""
        return losses.get(self.of)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The loss's name."""
        return self.loss.name

    @property
    def parameters(self) -> tuple[Any, ...]:
        """The loss, which says all about the accumulator."""
        return (self.of,)

    @property
    def prediction_range(self) -> tuple[float, float]:  # type: ignore[override]
        """Bounds of meaningful predictions: the loss's."""
        return self.loss.prediction_range

    def check_targets(self, y: NDArray[Any], output_shape: Shape, where: str) -> Kind:
        """Check targets as the loss does; see `Loss.check_targets`."""
        return self.loss.check_targets(y, output_shape, where)

    def size(self, output_shape: Shape) -> int:
        """Two: the sum of the rows' losses, and that of their weights, or their number."""
        return 2

    def accumulate(self, total: Array, targets: NDArray[Any], predictions: Array, weights: Array | None = None) -> None:
        """Add rows to an accumulator; see `Metric.accumulate`."""
        rows = self.loss.rows(targets, predictions)
        if weights is None:
            total += (rows.sum(), rows.size)
        else:
            each = of_rows(weights, rows.shape)
            total += ((each * rows).sum(), each.sum())

    def _result(self, total: Array, output_shape: Shape) -> float:
        return float(total[0] / total[1]) if total[1] != 0.0 else float(np.nan)


@register("metric")
@dataclass(frozen=True)
class Perplexity(MeanLoss):
    """Exponential of the mean cross-entropy: among how many classes alike a prediction seems to choose.

    A prediction that is certain of the right class has a perplexity of 1, one that calls all `n` classes equally likely
    of `n`. Language models are compared by it, over all words of a text. Of several batches it is that of all their
    rows, weighted ones by their weights; it shares the sums of a cross-entropy among the losses and metrics.

    Parameters
    ----------
    of : str or CrossEntropy
        The cross-entropy. Of an output that is trained from logits it is computed from them without more ado; used
        alone, logits need ``CrossEntropy(from_logits=True)``.

    Raises
    ------
    TypeError
        If it is another loss.
    """

    of: Loss | str = "cross_entropy"
    name: ClassVar[str] = "perplexity"

    def __post_init__(self) -> None:
        """Find the loss."""
        super().__post_init__()
        if not isinstance(self.of, losses.CrossEntropy):
            raise TypeError(f"Perplexity: expected a CrossEntropy, got {self.of!r}")

    def _result(self, total: Array, output_shape: Shape) -> float:
        mean = total[0] / total[1] if total[1] != 0.0 else np.nan
        with np.errstate(over="ignore"):  # infinite beyond a cross-entropy of 709
            return float(np.exp(mean))


@register("metric")
@dataclass(frozen=True)
class Function(MeanLoss):
    """Mean of a function of symbols; what such a function means among the metrics of `compile`.

    The function gives a value for each sample, row or element, or one for the batch (`fastnn.losses.Function`). A value
    of a batch counts by the number of its rows: the metric of several batches is their mean, not the value of all rows
    at once, and depends on the batch size. (So the F1 score of a whole epoch is no such mean: `F1Score`.)

    Parameters
    ----------
    of : function or losses.Function
        ``function(y_true, y_pred)``.
    """

    better: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Make a loss of the function."""
        given: Any = self.of
        object.__setattr__(self, "of", given if isinstance(given, losses.Function) else losses.Function(given))
