"""Rewriting before differentiation: a loss of probabilities or rates takes the logits instead."""

from __future__ import annotations

from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.meaning import before

#: the function that makes probabilities or rates, the loss of these, and the same loss of logits
_FUSED = (
    ("softmax", "cross_entropy", "cross_entropy_logits"),
    ("sigmoid", "binary_cross_entropy", "binary_cross_entropy_logits"),
    ("exponential", "poisson", "poisson_logits"),
)


def from_logits(graph: Graph, prediction: Tensor, formula: str) -> tuple[Tensor, str]:
    """Take a loss from the logits if the prediction is computed from them: stable, and one record less.

    Parameters
    ----------
    prediction : Tensor
    formula : str
        Of the loss.

    Returns
    -------
    tensor, formula
        The logits and the loss of logits; or the arguments.
    """
    for function, of_predictions, of_logits in _FUSED:
        if formula == of_predictions:
            logits = before(graph, prediction, function)
            if logits is not None:
                return logits, of_logits
    return prediction, formula
