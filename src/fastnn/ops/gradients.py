"""Derivatives as symbols, which can be part of a loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.checks import shorten
from fastnn.graph.gradients import gradients as gradients_of
from fastnn.graph.graph import Tensor
from fastnn.layers.tracing import Place
from fastnn.ops.definition import Operand, op

__all__ = ["gradients"]


def _like(place: Place, y: Operand, x: Any, unconnected: str = "error") -> Any:
    """Return values of the shapes that gradients have."""
    xs = _checked(y, x, unconnected)
    return tuple(xs) if isinstance(x, (list, tuple)) else x


def _checked(y: Operand, x: Any, unconnected: str) -> list[Tensor]:
    """Return x as a list, checked."""
    if unconnected not in ("error", "zeros"):
        raise ValueError(f"gradients: unconnected: expected 'error' or 'zeros', got {unconnected!r}")
    xs = list(x) if isinstance(x, (list, tuple)) else [x]
    if not xs:
        raise ValueError("gradients: x: expected at least one symbol")
    for name, one in (("y", y), *(("x", one) for one in xs)):
        if not isinstance(one, Tensor):
            raise TypeError(f"gradients: {name}: expected a symbol, got {shorten(one)}")
        if one.kind != "real":
            raise ValueError(f"gradients: {name}: {one.name!r} has integers, which have no gradient")
    return xs


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
    xs = _checked(y, x, unconnected)
    found = gradients_of(place.graph, y, xs, place.label, unconnected=unconnected)
    return tuple(found) if isinstance(x, (list, tuple)) else found[0]
