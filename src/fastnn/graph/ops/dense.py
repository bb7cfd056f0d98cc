"""Products with weights, biases, and products of matrices that are both computed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from fastnn.graph.extent import BATCH, Size
from fastnn.graph.graph import Graph, Node, Shape, Tensor, output
from fastnn.graph.ops.reductions import broadcast_to, reduce
from fastnn.graph.ops.strided import reshape, transpose
from fastnn.graph.rules import Gradients, gradient


def matmul(graph: Graph, x: Tensor, w: Tensor, label: str) -> Tensor:
    """Multiply x (..., k) by w (k, n)."""
    whole = (*x.whole[:-1], w.whole[1])
    return graph.add("matmul", (x, w), [output(whole, f"{label}.matmul")], label)[0]


@gradient("matmul", unbounded="linear")
def _matmul(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    x, w = node.inputs
    assert x is not None and w is not None
    dw = matmul_tn(graph, x, dy, node.label) if needs[1] else None
    return matmul_nt(graph, dy, w, node.label) if needs[0] else None, dw


def matmul_nt(graph: Graph, dy: Tensor, w: Tensor, label: str) -> Tensor:
    """Multiply dy (..., n) by the transpose of w (k, n): the gradient of `matmul` for x."""
    whole = (*dy.whole[:-1], w.whole[0])
    return graph.add("matmul_nt", (dy, w), [output(whole, f"{label}.dx")], label)[0]


@gradient("matmul_nt", unbounded="linear")
def _matmul_nt(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    a, b = node.inputs
    assert a is not None and b is not None
    db = matmul_tn(graph, dy, a, node.label) if needs[1] else None
    return matmul(graph, dy, b, node.label) if needs[0] else None, db


def matmul_tn(graph: Graph, x: Tensor, dy: Tensor, label: str) -> Tensor:
    """Multiply the transpose of x (rows, k) by dy (rows, n): the gradient of `matmul` for w."""
    whole = (x.whole[-1], dy.whole[-1])
    return graph.add("matmul_tn", (x, dy), [output(whole, f"{label}.dkernel")], label)[0]


@gradient("matmul_tn", unbounded="linear")
def _matmul_tn(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    a, b = node.inputs
    assert a is not None and b is not None
    db = matmul(graph, a, dy, node.label) if needs[1] else None
    return matmul_nt(graph, b, dy, node.label) if needs[0] else None, db


def matmul_tt(graph: Graph, a: Tensor, b: Tensor, label: str) -> Tensor:
    """Multiply the transpose of a (k, m) by the transpose of b (n, k)."""
    whole = (a.whole[1], b.whole[0])
    return graph.add("matmul_tt", (a, b), [output(whole, f"{label}.matmul")], label)[0]


@gradient("matmul_tt", unbounded="linear")
def _matmul_tt(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    a, b = node.inputs
    assert a is not None and b is not None
    db = matmul_tt(graph, dy, a, node.label) if needs[1] else None
    return matmul_tt(graph, b, dy, node.label) if needs[0] else None, db


def bias_add(graph: Graph, x: Tensor, bias: Tensor, label: str) -> Tensor:
    """Add bias (n,) to every row of x (..., n)."""
    return graph.like("bias_add", (x, bias), label)


@gradient("bias_add", unbounded="linear")
def _bias_add(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return dy, sum_rows(graph, dy, node.label) if needs[1] else None


def sum_rows(graph: Graph, dy: Tensor, label: str) -> Tensor:
    """Sum dy (rows, n) over its rows."""
    return graph.add("sum_rows", (dy,), [((dy.columns,), False, f"{label}.dbias")], label)[0]


@gradient("sum_rows")
def _sum_rows(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    (x,) = node.inputs
    assert x is not None
    return (broadcast_to(graph, dy, x.whole, node.label),)


def batched_matmul(
    graph: Graph,
    a: Tensor,
    b: Tensor,
    label: str,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    scale: float = 1.0,
    samples: Size = BATCH,
) -> Tensor:
    """Multiply the matrices of a (..., m, k) by those of b (..., k, n), in every sample; `scale` is a factor.

    A flag says that the last two axes of an operand are in the other order. Axes before these are broadcast as those of
    `numpy.matmul` are, within a sample; with `samples` = 1 the batch is an axis of the operands like others.
    """
    shape_a, shape_b = _shape(a, samples), _shape(b, samples)
    leading, groups = _groups(shape_a[:-2], shape_b[:-2])
    if len(groups) > 2:
        return _sorted_axes(
            graph, a, b, label, transpose_a=transpose_a, transpose_b=transpose_b, scale=scale, samples=samples
        )
    m, k = reversed(shape_a[-2:]) if transpose_a else shape_a[-2:]
    n = shape_b[-2 if transpose_b else -1]
    sizes = {"count": prod(leading), "inner": groups[-1][0] if groups else 1, "m": m, "n": n, "k": k}
    flags = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    for number, name in enumerate("ab", 1):
        flags[f"repeat_{name}"] = bool(groups) and not groups[-1][number]
        flags[f"cycle_{name}"] = len(groups) == 2 and not groups[0][number]
    made = output((*_batch(samples), *leading, m, n), f"{label}.matmul")
    return graph.add("batched_matmul", (a, b), [made], label, scale=scale, samples=samples, **flags, **sizes)[0]


def _shape(x: Tensor, samples: Size) -> Shape:
    """Return the shape of a sample, or of all that there is if that counts as one."""
    return x.whole if samples == 1 else x.shape


def _batch(samples: Size) -> Shape:
    return () if samples == 1 else (samples,)


def _groups(a: Shape, b: Shape) -> tuple[Shape, list[tuple[int, bool, bool]]]:
    """Broadcast two shapes; returns also groups of neighbouring axes: their size, and whether a and b have them."""
    rank = max(len(a), len(b))
    groups: list[tuple[int, bool, bool]] = []
    leading = []
    for x, y in zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True):
        leading.append(max(x, y))
        if x == y == 1:
            continue
        if groups and groups[-1][1:] == (x > 1, y > 1):
            groups[-1] = (groups[-1][0] * leading[-1], x > 1, y > 1)
        else:
            groups.append((leading[-1], x > 1, y > 1))
    return tuple(leading), groups


def _sorted_axes(
    graph: Graph,
    a: Tensor,
    b: Tensor,
    label: str,
    *,
    transpose_a: bool,
    transpose_b: bool,
    scale: float,
    samples: Size,
) -> Tensor:
    """Multiply matrices whose leading axes make up more than two groups: those that only a has become rows of it."""
    batch = _batch(samples)

    def viewed(x: Tensor, shape: Sequence[Size]) -> Tensor:
        return reshape(graph, x, (*batch, *shape), label)

    def ordered(x: Tensor, axes: Sequence[int]) -> Tensor:
        return transpose(graph, x, [*range(len(batch)), *(axis + len(batch) for axis in axes)], label)

    of_each = _shape(a, samples), _shape(b, samples)
    leading, _ = _groups(of_each[0][:-2], of_each[1][:-2])
    rank = len(leading)
    mine, other = ((1,) * (rank + 2 - len(shape)) + shape for shape in of_each)
    of_a, of_b = ([i for i in range(rank) if x[i] > y[i]] for x, y in ((mine, other), (other, mine)))
    order = [*(i for i in range(rank) if mine[i] == other[i]), *of_b, *of_a]
    left = ordered(viewed(a, mine), [*order, *((rank + 1, rank) if transpose_a else (rank, rank + 1))])
    right = ordered(viewed(b, other), [*order, rank, rank + 1])
    kept = rank - len(of_a)
    shape_a, shape_b = _shape(left, samples), _shape(right, samples)
    left = viewed(left, (*shape_a[:kept], prod(shape_a[kept:-1]), shape_a[-1]))
    right = viewed(right, (*shape_b[:kept], *shape_b[-2:]))
    y = batched_matmul(graph, left, right, label, transpose_b=transpose_b, scale=scale, samples=samples)
    m = mine[-1 if transpose_a else -2]
    y = viewed(y, (*(leading[i] for i in order), m, y.whole[-1]))
    return ordered(y, [*(order.index(i) for i in range(rank)), rank, rank + 1])


@gradient("batched_matmul", unbounded="matmul")
def _batched_matmul(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    a, b = node.inputs
    assert a is not None and b is not None
    ta, tb, samples = (node.attrs[name] for name in ("transpose_a", "transpose_b", "samples"))

    def product(x: Tensor, y: Tensor, transpose_x: bool, transpose_y: bool) -> Tensor:
        return batched_matmul(
            graph, x, y, node.label, transpose_a=transpose_x, transpose_b=transpose_y, scale=node.attrs["scale"],
            samples=samples,
        )  # fmt: skip

    da = db = None
    if needs[0]:
        da = _summed(graph, product(b, dy, tb, True) if ta else product(dy, b, False, not tb), node, a, "a")
    if needs[1]:
        db = _summed(graph, product(dy, a, True, ta) if tb else product(a, dy, not ta, False), node, b, "b")
    return da, db


def _summed(graph: Graph, dx: Tensor, node: Node, x: Tensor, name: str) -> Tensor:
    """Sum the gradient of an operand over the matrices that it was broadcast to."""
    inner, size = node.attrs["inner"], prod(x.whole[-2:])
    if node.attrs[f"repeat_{name}"]:
        shape = (inner, size)
    elif node.attrs[f"cycle_{name}"]:
        shape = (node.attrs["count"] // inner, inner * size)
    else:
        return reshape(graph, dx, x.whole, node.label)
    groups = reshape(graph, dx, (prod(dx.whole) // prod(shape), *shape), node.label)
    return reshape(graph, reduce(graph, "sum", groups, -2, False, node.label), x.whole, node.label)
