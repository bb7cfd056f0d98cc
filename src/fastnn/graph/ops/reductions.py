"""Reductions of tensors as whole shapes: sums, means, extrema, products; and broadcasting, the transpose of sums."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.graph.extent import Extent, Size
from fastnn.graph.graph import Graph, Node, Tensor, output
from fastnn.graph.ops.strided import (
    MOST_AXES,
    axis_of,
    dense_strides,
    merged,
    product,
    record_dims,
    refuse_integers,
    reshape,
)
from fastnn.graph.rules import Gradients, gradient

#: what `reduce` computes
KINDS = ("sum", "mean", "max", "min", "prod")
Axes = int | Sequence[int] | None
# A long sum of few results is cut into parts, which threads share; as many whatever the batch.
_PARTS, _LONG, _FEW = 32, 8192, 64
# what a batch is assumed to have where its size decides
_ROWS = 64


def axes_of(axes: Axes, rank: int, name: str) -> tuple[int, ...]:
    """Return axes as numbers from 0 on, in order; None stands for all of them.

    Raises
    ------
    ValueError
        If one is out of bounds, or there twice.
    """
    if axes is None:
        return tuple(range(rank))
    given = tuple(axes) if isinstance(axes, Sequence) else (axes,)
    found = sorted(axis_of(axis, rank, name) for axis in given)
    if len(set(found)) < len(found):
        raise ValueError(f"{name}: an axis is there twice in {given}")
    return tuple(found)


def kept_shape(whole: Sequence[Size], axes: Sequence[int]) -> tuple[Size, ...]:
    """Return a shape whose axes `axes` have the size 1."""
    return tuple(1 if axis in axes else size for axis, size in enumerate(whole))


def left_shape(whole: Sequence[Size], axes: Sequence[int], keepdims: bool) -> tuple[Size, ...]:
    """Return the shape of a reduction over axes."""
    return kept_shape(whole, axes) if keepdims else tuple(s for axis, s in enumerate(whole) if axis not in axes)


def reduce(graph: Graph, kind: str, x: Tensor, axes: Axes, keepdims: bool, label: str) -> Tensor:
    """Reduce x over axes, or over all of them: its sum, mean, max, min or prod.

    Parameters
    ----------
    kind : {"sum", "mean", "max", "min", "prod"}
    axes : int, sequence of int or None
        Of the whole shape, in which the batch is the first axis.
    keepdims : bool
        Whether these axes remain, of size 1.
    """
    refuse_integers(x, kind)
    chosen = axes_of(axes, len(x.whole), kind)
    result = left_shape(x.whole, chosen, keepdims)
    divisor = product(x.whole[axis] for axis in chosen) if kind == "mean" else 1
    # axes of size 1 between others do not separate them
    groups: list[list[int]] = []
    for axis in chosen:
        if x.whole[axis] == 1:
            continue
        between = x.whole[groups[-1][-1] + 1 : axis] if groups else (0,)
        if all(size == 1 for size in between):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    if not groups:
        return reshape(graph, x, result, label)
    # one group of neighbours after the other, those first that leave least
    groups.sort(key=lambda group: _assumed(product(x.whole[axis] for axis in group)), reverse=True)
    for number, group in enumerate(groups):
        last = number == len(groups) - 1
        shape = result if last else kept_shape(x.whole, group)
        x = _reduced(graph, "sum" if kind == "mean" else kind, x, group, shape, divisor if last else 1, label)
    return x


def _assumed(size: Size) -> int:
    return size.at(_ROWS) if isinstance(size, Extent) else size


def _reduced(
    graph: Graph, kind: str, x: Tensor, group: Sequence[int], result: Sequence[Size], divisor: Size, label: str
) -> Tensor:
    """Reduce neighbouring axes, and divide by a size."""
    whole, first, last = x.whole, group[0], group[-1]
    dims = {
        "outer": product(whole[:first]), "repeat": product(whole[first : last + 1]),
        "inner": product(whole[last + 1 :]), "divisor": divisor,
    }  # fmt: skip
    found = dims["outer"] * dims["inner"]
    outputs = [output(result, f"{label}.{kind}")]
    if isinstance(found, int) and found <= _FEW and _assumed(dims["repeat"]) >= _LONG:
        outputs.append(output((dims["outer"], _PARTS, dims["inner"]), f"{label}.parts"))
    kept = kept_shape(whole, range(first, last + 1))
    return graph.add(f"reduce_{kind}", (x,), outputs, label, formula=kind, kept=kept, **dims)[0]


@gradient("reduce_sum")
def _sum(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    (x,) = node.inputs
    assert x is not None
    return (broadcast_to(graph, divide_by(graph, kept(graph, node, dy), node.attrs["divisor"], node.label), x.whole,
                         node.label),)  # fmt: skip


def kept(graph: Graph, node: Node, y: Tensor) -> Tensor:
    """See what has the shape of a reduction's result with the reduced axes, of size 1."""
    return reshape(graph, y, node.attrs["kept"], node.label)


def divide_by(graph: Graph, x: Tensor, divisor: Size, label: str) -> Tensor:
    """Divide by a size, which may depend on the batch."""
    if divisor == 1:
        return x
    outputs = [output(x.whole, f"{label}.quotient")]
    return graph.add("divide_by", (x,), outputs, label, n=product(x.whole), divisor=divisor)[0]


@gradient("divide_by")
def _divide_by(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return (divide_by(graph, dy, node.attrs["divisor"], node.label),)


def broadcast_to(graph: Graph, x: Tensor, whole: Sequence[Size], label: str) -> Tensor:
    """Repeat x along new axes in front, and along axes of size 1."""
    shape = tuple(whole)
    given = (1,) * (len(shape) - len(x.whole)) + x.whole
    if len(given) != len(shape) or any(mine not in (1, size) for mine, size in zip(given, shape, strict=True)):
        raise ValueError(f"broadcast_to: {x.whole} does not broadcast to {shape}")
    wide = [axis for axis, mine in enumerate(given) if mine != shape[axis]]
    if not wide:
        return reshape(graph, x, shape, label)
    strides = dense_strides(given)
    axes = merged((size, 0 if axis in wide else strides[axis]) for axis, size in enumerate(shape))
    if len(axes) > MOST_AXES:
        some = [size if axis in wide[-2:] else given[axis] for axis, size in enumerate(shape)]
        return broadcast_to(graph, broadcast_to(graph, x, some, label), shape, label)
    dims = record_dims(axes, 0, product(given))
    return graph.add("broadcast", (x,), [output(shape, f"{label}.broadcast", x.kind)], label, wide=tuple(wide), **dims)[
        0
    ]


@gradient("broadcast", keeps=lambda node, count: len(node.outputs[0].whole) - 1 not in node.attrs["wide"])
def _broadcast(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    (x,) = node.inputs
    assert x is not None
    total = reduce(graph, "sum", dy, node.attrs["wide"], True, node.label)
    return (reshape(graph, total, x.whole, node.label),)
