"""The gradients of attention's gradients: what these compute, with whole matrices of scores, by ops that have rules."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.graph.algebra import Term, terms
from fastnn.graph.graph import Graph, Node, Tensor
from fastnn.graph.ops.elementwise import activation
from fastnn.graph.ops.pointwise import constant, pointwise, random
from fastnn.graph.ops.products import matmul
from fastnn.graph.ops.scans import cumsum
from fastnn.graph.ops.strided import along, sliced, transpose
from fastnn.graph.vjp import composed

# added to the scores of keys that are left out, whose weights then are zero beside those of others
_NONE = -1e30


def _times(a: Term, b: Term, *, transpose_a: bool = False, transpose_b: bool = False) -> Term:
    """Multiply the matrices of the last two axes."""
    left, right = (_turned(x) if turned else x for x, turned in ((a, transpose_a), (b, transpose_b)))
    return Term(a.graph, matmul(a.graph, left.tensor, right.tensor, a.label), a.label)


def _turned(x: Term) -> Term:
    rank = len(x.tensor.whole)
    return Term(x.graph, transpose(x.graph, x.tensor, (*range(rank - 2), rank - 1, rank - 2), x.label), x.label)


def _by_head(x: Term, groups: int, each: int) -> Term:
    """Turn (batch, steps, heads, size) into (batch, groups, heads of a group, steps, size)."""
    batch, steps, _, size = x.tensor.whole
    split = x.reshaped((batch, steps, groups, each, size))
    return Term(x.graph, transpose(x.graph, split.tensor, (0, 2, 3, 1, 4), x.label), x.label)


def _by_step(x: Term) -> Term:
    batch, groups, each, steps, size = x.tensor.whole
    turned = Term(x.graph, transpose(x.graph, x.tensor, (0, 3, 1, 2, 4), x.label), x.label)
    return turned.reshaped((batch, steps, groups * each, size))


def _weights(graph: Graph, node: Node, q: Term, k: Term) -> Term:
    """Return the weights (batch, groups, heads of a group, queries, keys); zeros where there is no key."""
    attrs, mask, label = node.attrs, node.inputs[6], node.label
    scores = _times(q, k, transpose_b=True) * attrs["scale"]
    there: Term | None = None
    if mask is not None:
        whole = (1,) * (4 - len(mask.whole)) + mask.whole
        groups, each = attrs["kv_heads"], attrs["heads"] // attrs["kv_heads"]
        heads = (1, 1) if whole[1] == 1 else (groups, each)
        (added,) = terms(graph, label, mask)
        added = added.reshaped((whole[0], *heads, *whole[2:]))
        there = added.apply("greater", _NONE)
        scores = scores + added.apply("maximum", _NONE)
    if attrs["causal"]:
        places = []
        for shape, axis in (((attrs["queries"], 1), 0), ((1, attrs["keys"]), 1)):
            places.append(cumsum(graph, constant(graph, 1.0, shape, label), axis, label))
        reached = Term(graph, pointwise(graph, "greater_equal", places, label), label)
        scores = scores + (reached - 1.0) * -_NONE
        there = reached if there is None else there * reached
    weights = Term(graph, activation(graph, scores.tensor, "softmax", (), label), label)
    return weights if there is None else weights * there


def _kept(graph: Graph, node: Node) -> Term | None:
    """Return the factors of dropout, by the words that the record has; None without dropout."""
    attrs, rate = node.attrs, node.attrs["rate"]
    if rate == 0.0:
        return None
    queries, groups, each = attrs["queries"], attrs["kv_heads"], attrs["heads"] // attrs["kv_heads"]
    whole = (attrs["batch"], groups, each, attrs["keys"], -(-queries // 64) * 64)
    drawn = random(graph, "bernoulli", whole, attrs["node"], node.label, p=rate)
    ranges = along(whole, 4, (0, 1, queries))
    dropped = Term(graph, sliced(graph, drawn, ranges, (*whole[:4], queries), node.label), node.label)
    return _turned((1.0 - dropped) * (1.0 / (1.0 - rate)))


@composed("attention_grad")
def _attention_grad(graph: Graph, node: Node) -> Sequence[Tensor]:
    dy, q, k, v = terms(graph, node.label, *node.inputs[:4])
    groups, each = node.attrs["kv_heads"], node.attrs["heads"] // node.attrs["kv_heads"]
    dy, q, k, v = (_by_head(x, groups, count) for x, count in ((dy, each), (q, each), (k, 1), (v, 1)))
    weights, kept = _weights(graph, node, q, k), _kept(graph, node)
    dweights = _times(dy, v, transpose_b=True)
    used = weights
    if kept is not None:
        dweights, used = dweights * kept, weights * kept
    dscores = weights * (dweights - (weights * dweights).last("sum")) * node.attrs["scale"]
    dk, dv = (_times(a, b, transpose_a=True).reduce("sum", [2], keepdims=True) for a, b in ((dscores, q), (used, dy)))
    return [_by_step(x).tensor for x in (_times(dscores, k), dk, dv)]
