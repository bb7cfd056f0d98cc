"""Attention: weighted means of values, with the softmax of products of queries and keys as weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.graph.graph import Graph, Node, Output, Shape, Tensor, output
from fastnn.graph.ops.strided import product
from fastnn.graph.rules import Gradients, NoGradientError, gradient


def attention(
    graph: Graph,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    label: str,
    *,
    scale: float,
    causal: bool = False,
    rate: float = 0.0,
    stream: int = 0,
) -> Tensor:
    """Make dropout(softmax(scale q k^T + mask)) v in every sample and head.

    Parameters
    ----------
    q : Tensor
        Shape (batch, queries, heads, size).
    k, v : Tensor
        Shapes (batch, keys, kv_heads, size); `heads` is a multiple of `kv_heads`, and neighbouring heads share keys.
    mask : Tensor or None
        Added to the scores (batch, heads, queries, keys), to which it is broadcast; minus infinity excludes a key. No
        gradient reaches it. A query without any key gives zeros.
    causal : bool
        Whether a query has the keys up to its own place alone.
    rate, stream : float, int
        Of dropout, which sets weights to zero; 0 in inference.
    """
    (batch, queries, heads, size), (_, keys, kv_heads, _) = q.whole, k.whole
    dims: dict[str, Any] = {
        "batch": batch, "queries": queries, "keys": keys, "heads": heads, "kv_heads": kv_heads, "size": size,
        "causal": int(causal), "node": stream if rate else 0, **_strides(mask, (batch, heads, queries, keys)),
    }  # fmt: skip
    outputs = [output(q.whole, f"{label}.attention"), output((batch, heads, queries), f"{label}.lse")]
    return graph.add("attention", (q, k, v, mask), outputs, label, scale=scale, rate=rate, **dims)[0]


def _strides(mask: Tensor | None, scores: Shape) -> dict[str, Any]:
    """Return a mask's elements, and the distances from one sample, head and query to the next: 0 where it is broadcast.

    Raises
    ------
    ValueError
        When it cannot be broadcast to the scores.
    """
    strides: list[Any] = [0, 0, 0]
    if mask is None:
        return dict(zip(("mask_sample", "mask_head", "mask_query", "mask_size"), [*strides, 0], strict=True))
    whole = (1,) * (4 - len(mask.whole)) + mask.whole
    if len(whole) != 4 or whole[3] != scores[3] or any(a not in (1, b) for a, b in zip(whole, scores, strict=True)):
        raise ValueError(f"attention: a mask of shape {mask.whole} cannot be broadcast to scores of shape {scores}")
    for axis in range(3):
        strides[axis] = product(whole[axis + 1 :]) if whole[axis] != 1 else 0
    names = ("mask_sample", "mask_head", "mask_query", "mask_size")
    return dict(zip(names, [*strides, product(whole)], strict=True))


@gradient("attention", unbounded="attention")
def _attention(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    q, k, v, mask = node.inputs
    y, lse = node.outputs
    assert q is not None and k is not None and v is not None
    if needs[3]:
        raise NoGradientError(f"layer {node.label!r}: attention has no gradient for its mask")
    attrs, label = node.attrs, node.label
    rows = 2 * attrs["batch"] * attrs["heads"] * attrs["queries"] + attrs["mask_size"]
    outputs: list[Output] = [output(x.whole, f"{label}.d{name}") for name, x in (("q", q), ("k", k), ("v", v))]
    outputs.append(output((rows,), f"{label}.rows"))
    dq, dk, dv, _ = graph.add("attention_grad", (dy, q, k, v, y, lse, mask), outputs, label, **attrs, rows_size=rows)
    return dq, dk, dv, None
