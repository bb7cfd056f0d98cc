"""Losses of rows. Their gradient rule is in `loss_values.py`."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.graph.graph import Graph, Tensor


def loss(
    graph: Graph,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    *,
    formula: str,
    parameters: Sequence[float],
    row_mean: bool,
    loss_weight: float,
    label: str,
) -> Tensor:
    """Compute the loss of every row, and the gradient of the weighted mean loss.

    Parameters
    ----------
    row_mean : bool
        Whether a row's loss is the mean over its columns, instead of the sum.
    loss_weight : float
        The factor of the gradient.
    """
    return graph.add(
        "loss",
        (x, target, weight),
        [(x.shape[:-1], True, f"{label}.row_loss"), (x.shape, True, f"{label}.dloss")],
        label,
        formula=formula,
        parameters=parameters,
        row_mean=row_mean,
        loss_weight=loss_weight,
    )[0]


def normalize_weights(graph: Graph, weight: Tensor, rows: int, label: str) -> Tensor:
    """Scale a batch's weights to the mean 1 over all rows; `rows` are those of a sample."""
    return graph.like("normalize_weights", (weight,), label, rows=rows)


def mask_weights(graph: Graph, mask: Tensor, weight: Tensor | None, label: str, *, normalized: bool) -> Tensor:
    """Multiply a mask of rows by weights, of rows or of samples; `normalized` makes sums means over the mask's rows."""
    return graph.like("mask_weights", (mask, weight), label, normalized=int(normalized))
