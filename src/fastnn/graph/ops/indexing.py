"""Entries by number: from tensors of integers. A number below 0 counts from the end; one of no entry gives NaN."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.graph.extent import Size
from fastnn.graph.graph import Graph, Node, Tensor, output
from fastnn.graph.ops.strided import axis_of, product, refuse_integers, reshape
from fastnn.graph.rules import Gradients, gradient


def _check(x: Tensor, index: Tensor, name: str) -> None:
    refuse_integers(x, name)
    if index.kind != "int64":
        raise ValueError(f"{name}: indices are integers, got a tensor of real numbers; cast it first")


def take(graph: Graph, x: Tensor, index: Tensor, axis: int | None, label: str) -> Tensor:
    """Take entries of an axis by their numbers; the axes of `index` replace it. Without one x is seen as one row."""
    _check(x, index, "take")
    if axis is None:
        return take(graph, reshape(graph, x, (-1,), label), index, 0, label)
    place, whole = axis_of(axis, len(x.whole), "take"), x.whole
    dims = {
        "outer": product(whole[:place]), "count": product(index.whole), "inner": product(whole[place + 1 :]),
        "size": whole[place], "index_outer": 0, "index_count": 1, "index_inner": 0, "indices": product(index.whole),
    }  # fmt: skip
    result = (*whole[:place], *index.whole, *whole[place + 1 :])
    return graph.add("take", (x, index), [output(result, f"{label}.take")], label, source=whole, **dims)[0]


def take_along_axis(graph: Graph, x: Tensor, index: Tensor, axis: int | None, label: str) -> Tensor:
    """Take an entry of an axis for each number; `index` has the shape of x but for that axis.

    Where the axes behind it are all of size 1 in `index`, a number takes the entries of all of x's.
    """
    _check(x, index, "take_along_axis")
    if axis is None:
        x, index = reshape(graph, x, (-1,), label), reshape(graph, index, (-1,), label)
        axis = 0
    place, whole = axis_of(axis, len(x.whole), "take_along_axis"), x.whole
    behind = whole[place + 1 :]
    together = index.whole[place + 1 :] != behind and index.whole[place + 1 :] == (1,) * len(behind)
    if index.whole[:place] != whole[:place] or not (together or index.whole[place + 1 :] == behind):
        raise ValueError(
            f"take_along_axis: shapes must agree in all axes but axis {place}, got {whole} and {index.whole}"
        )
    dims = _along(index, place, whole[place])
    if together:
        dims |= {"inner": product(behind), "index_inner": 0}
    result = (*index.whole[: place + 1], *behind)
    return graph.add("take", (x, index), [output(result, f"{label}.take")], label, source=whole, **dims)[0]


def _along(index: Tensor, axis: int, size: Size) -> dict[str, Size]:
    inner = product(index.whole[axis + 1 :])
    count = index.whole[axis]
    return {
        "outer": product(index.whole[:axis]), "count": count, "inner": inner, "size": size,
        "index_outer": count * inner, "index_count": inner, "index_inner": 1, "indices": product(index.whole),
    }  # fmt: skip


@gradient("take")
def _take(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return _scattered(graph, dy, node.inputs[1], node), None


def _scattered(graph: Graph, x: Tensor, index: Tensor | None, node: Node) -> Tensor:
    attrs = node.attrs
    outputs = [output(attrs["source"], f"{node.label}.scatter")]
    return graph.add("scatter_add", (x, index), outputs, node.label, taken=x.whole, **attrs)[0]


def scatter_along(graph: Graph, x: Tensor, index: Tensor, axis: int, size: Size, label: str) -> Tensor:
    """Add each entry of x to that entry of an axis of `size` zeros which the number of the same place says."""
    dims = _along(index, axis, size)
    whole = (*x.whole[:axis], size, *x.whole[axis + 1 :])
    outputs = [output(whole, f"{label}.scatter")]
    return graph.add("scatter_add", (x, index), outputs, label, taken=x.whole, source=whole, **dims)[0]


@gradient("scatter_add")
def _scatter_add(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    attrs = {name: value for name, value in node.attrs.items() if name != "taken"}
    outputs = [output(node.attrs["taken"], f"{node.label}.take")]
    return graph.add("take", (dy, node.inputs[1]), outputs, node.label, **attrs)[0], None


def one_hot(graph: Graph, index: Tensor, depth: int, label: str) -> Tensor:
    """Make rows of `depth` numbers, 1 at the place of each integer and 0 elsewhere."""
    if index.kind != "int64":
        raise ValueError("one_hot: expected integers, got a tensor of real numbers; cast it first")
    if not isinstance(depth, int) or depth < 1:
        raise ValueError(f"one_hot: the number of classes is an integer of at least 1, got {depth!r}")
    return graph.add("one_hot", (index,), [output((*index.whole, depth), f"{label}.one_hot")], label)[0]


@gradient("one_hot")
def _one_hot(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return (None,)
