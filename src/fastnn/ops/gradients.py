"""Derivatives as symbols, which can be part of a loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.graph.gradients import gradients as gradients_of
from fastnn.graph.graph import Tensor
from fastnn.layers.tracing import Place
from fastnn.ops.definition import Operand, op

__all__ = ["gradients"]


def _like(place: Place, y: Tensor, x: Any, unconnected: str = "error") -> Any:
    """Return values of the shapes that gradients have."""
    return x


@op(numpy="", infer=_like)
def gradients(
    place: Place, y: Operand, x: Operand | Sequence[Operand], unconnected: str = "error"
) -> Tensor | tuple[Tensor, ...]:
    """Return the gradient of the sum of y for x, of x' shape; a tuple of them for several x.

    x are inputs, weights (``layer.kernel``) or what y was computed from. The gradients are symbols like others: they
    have gradients, too, so a loss may contain them. The sum over a batch has as gradient for x that of each sample, if
    samples do not depend on each other. `unconnected` says what becomes of an x that y does not depend on: "error" or
    "zeros".

    Raises
    ------
    ValueError
        When y does not depend on x, and `unconnected` is not "zeros".
    """
    xs: Any = x if isinstance(x, (list, tuple)) else [x]
    found = gradients_of(place.graph, place.tensor(y), xs, place.label, unconnected=unconnected)
    return tuple(found) if isinstance(x, (list, tuple)) else found[0]
