"""Views: slices, permutations and columns that products read and write in place, instead of copies.

A product of many matrices finds them by the distances between them and between their rows. So it reads an operand where
the elements were before they were reshaped, permuted or taken, if rows stay whole there, or columns, which are rows of
a transposed operand. And it writes its result in the order of a permutation that follows. A product with one matrix
whose operand is a view becomes one of many, unless it is one record with what follows, or is added to what is there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Node, Shape, Tensor
from fastnn.graph.ops.strided import dense_strides, merged

#: ops that put axes into another order: of samples, or of whole tensors
_ORDERS = ("permute", "transpose")
#: products with one matrix, and which operands they transpose
_SINGLE = {
    "matmul": (False, False), "matmul_nt": (False, True), "matmul_tn": (True, False), "matmul_tt": (True, True),
}  # fmt: skip


@dataclass(frozen=True)
class _View:
    """Elements of a tensor or of each of its samples: the first one, and sizes and strides of axes.

    `slices` are the nodes that take some of the elements: emission checks that a batch has them.
    """

    root: Tensor
    first: Any
    axes: tuple[tuple[Any, Any], ...]
    slices: tuple[Node, ...] = ()


def in_place(
    nodes: Sequence[Node], kept: Iterable[int], accumulating: Container[int] = ()
) -> tuple[list[Node], list[str]]:
    """Let products read views, and those of many matrices write them.

    Parameters
    ----------
    nodes : sequence of Node
        In order.
    kept : iterable of int
        Ids of tensors that are used outside the graph.
    accumulating : container of int
        Ids of tensors that are added to what is in memory.

    Returns
    -------
    nodes, descriptions
        Nodes whose views nobody else reads are still there.
    """
    ops = {node.op for node in nodes}
    if ops.isdisjoint((*_ORDERS, "slice")) or ops.isdisjoint(("batched_matmul", *_SINGLE)):
        return list(nodes), []
    seen = {whole: {node.outputs[0].id: node for node in nodes if _is_view(node, whole)} for whole in (False, True)}
    uses = Counter(kept)
    uses.update(x.id for node in nodes for x in node.inputs if x is not None)
    users: dict[int, set[str]] = defaultdict(set)
    for node in nodes:
        for x in node.inputs:
            if x is not None:
                users[x.id].add(node.op)
    permuted = {node.inputs[0].id: node for node in nodes if node.op in _ORDERS and node.inputs[0] is not None}
    found, notes, dropped = [], [], set()
    for node in nodes:
        if id(node) in dropped:
            continue
        if node.op in _SINGLE and not (node.outputs[0].id in accumulating or _joined(node, users)):
            single, said = _reading(_as_one_of_many(node), seen)
            if said:
                node = single
                notes.append(f"{node.label}: matmul {', '.join(said)} in place")
            found.append(node)
            continue
        if node.op == "batched_matmul":
            node, said = _reading(node, seen)
            whole = node.attrs["samples"] == 1
            after = permuted.get(node.outputs[0].id)
            # a column is written as it is, and what depends on the batch may be one
            matrices = all(isinstance(node.attrs[side], int) and node.attrs[side] > 1 for side in "mn")
            if matrices and after is not None and uses[node.outputs[0].id] == 1 and (whole or after.op == "permute"):
                places = _written(node, after, whole)
                if places is not None:
                    node = replace(node, outputs=after.outputs, attrs={**node.attrs, **places})
                    dropped.add(id(after))
                    # what is a view of it is one of the product's result
                    for views in seen.values():
                        views.pop(after.outputs[0].id, None)
                    said.append("writes c")
            if said:
                notes.append(f"{node.label}: batched_matmul {', '.join(said)} in place")
        found.append(node)
    return found, notes


def _joined(node: Node, users: Mapping[int, set[str]]) -> bool:
    """Return whether a product with one matrix may be one record with what follows, which is worth more than a view."""
    joining = {"matmul": ("bias_add", "activation"), "matmul_nt": ("activation_grad",)}.get(node.op, ())
    return not users[node.outputs[0].id].isdisjoint(joining)


def _as_one_of_many(node: Node) -> Node:
    """Return the product of one matrix for which a product with one matrix stands: all rows are those of one."""
    a, b = node.inputs
    assert a is not None and b is not None
    turned_a, turned_b = _SINGLE[node.op]
    (rows, cols), (depth, columns) = _matrix(a.whole), _matrix(b.whole)
    m, k = (cols, rows) if turned_a else (rows, cols)
    n = depth if turned_b else columns
    attrs: dict[str, Any] = {"m": m, "n": n, "k": k, "samples": 1, "count": 1, "inner": 1, "scale": 1.0}
    attrs |= {f"{flag}_{name}": False for flag in ("repeat", "cycle") for name in "ab"}
    return replace(node, op="batched_matmul", attrs={**attrs, "transpose_a": turned_a, "transpose_b": turned_b})


def _matrix(shape: Shape) -> Shape:
    """Return the shape of all rows as one matrix."""
    return prod(shape[:-1]), shape[-1]


def _reading(node: Node, seen: Mapping[bool, Mapping[int, Node]]) -> tuple[Node, list[str]]:
    """Return a product that reads its operands in tensors that they are views of, and which.

    One of samples may also be one of whole tensors, in which the matrices of all samples follow each other, unless
    those of an operand are the same in each part of a sample.
    """
    ways = [node]
    if node.attrs["samples"] != 1 and not (node.attrs["cycle_a"] or node.attrs["cycle_b"]):
        ways.append(replace(node, attrs={**node.attrs, "samples": 1, "count": BATCH * node.attrs["count"]}))
    best: tuple[Node, list[str]] = node, []
    for way in ways:
        said = []
        whole = way.attrs["samples"] == 1
        for position, name in enumerate("ab"):
            way, done = _read(way, position, name, seen[whole], whole)
            said += [f"reads {name}"] if done else []
        if len(said) > len(best[1]):
            best = way, said
    return best


def _is_view(node: Node, whole: bool) -> bool:
    """Return whether a node's output is made of elements of its input, by steps that do not go back.

    Parameters
    ----------
    whole : bool
        Whether the batch is an axis like others; else all elements of a sample have to be of the same one.
    """
    if node.op != "reshape" and node.op != "slice" and node.op not in _ORDERS:
        return False
    (x,), (y,) = node.inputs, node.outputs
    if x is None:
        return False
    ranges = node.attrs.get("ranges", ())
    if any(step < 0 for _, step, _ in ranges):
        return False
    if whole:
        return True
    if not (x.batched and y.batched) or any(not isinstance(size, int) for size in (*x.shape, *y.shape)):
        return False
    return node.op != "transpose" and (not ranges or ranges[0] == (0, 1, x.whole[0]))


def _read(node: Node, position: int, name: str, made: Mapping[int, Node], whole: bool) -> tuple[Node, bool]:
    """Return a product that reads an operand in the tensor that it is a view of, and whether it is one."""
    x = node.inputs[position]
    assert x is not None
    for view in _views(x, made, whole):
        # rows of one matrix may have several axes
        axes = view.axes if node.attrs["count"] != 1 else _reshaped(view.axes, _matrix(_shape(x, whole)))
        if axes is None:
            continue
        between = merged(axes[:-2])
        (_, row), (_, col) = axes[-2:]
        if len(between) > 1 or 1 not in (row, col):
            continue
        turned = node.attrs[f"transpose_{name}"] != (col != 1)
        apart = row if col == 1 else col
        if apart != 1 and turned == (name == "a") and _may_be_one(node.attrs["m" if name == "a" else "n"]):
            continue  # a vector whose elements are apart, as no algorithm reads it
        inputs = list(node.inputs)
        inputs[position] = view.root
        places = {
            f"{name}_first": view.first,
            f"{name}_between": between[0][1] if between else prod(_shape(view.root, whole)),
            f"{name}_row": apart,
            f"transpose_{name}": turned,
            "slices": (*node.attrs.get("slices", ()), *view.slices),
        }
        return replace(node, inputs=tuple(inputs), attrs={**node.attrs, **places}), True
    return node, False


def _may_be_one(size: Any) -> bool:
    """Return whether a size is 1, or may be for some batch."""
    return size == 1 or not isinstance(size, int)


def _shape(x: Tensor, whole: bool) -> Shape:
    """Return the shape with the batch as an axis, or that of a sample."""
    return x.whole if whole else x.shape


def _views(x: Tensor, made: Mapping[int, Node], whole: bool) -> Iterable[_View]:
    """Iterate over the views of earlier tensors that a tensor is, from the earliest on; reshapes alone are none."""
    chain = []
    at = x
    while at.id in made:
        chain.append(made[at.id])
        source = chain[-1].inputs[0]
        assert source is not None
        at = source
    while chain and any(node.op != "reshape" for node in chain):
        root = chain[-1].inputs[0]
        assert root is not None
        view: _View | None = _View(root, 0, _dense(_shape(root, whole)))
        for node in reversed(chain):
            view = None if view is None else _seen(view, node, whole)
        if view is not None:
            yield view
        chain.pop()


def _order(node: Node, whole: bool) -> tuple[int, ...]:
    """Return the order of axes that a node makes; that of a permutation is one of the axes of samples."""
    axes: tuple[int, ...] = tuple(node.attrs["axes"])
    if whole and node.op == "permute":
        return (0, *(axis + 1 for axis in axes))
    return axes


def _seen(view: _View, node: Node, whole: bool) -> _View | None:
    """Return what a node makes of a view; None if that takes a copy."""
    axes = view.axes
    if node.op in _ORDERS:
        return replace(view, axes=tuple(axes[axis] for axis in _order(node, whole)))
    first = view.first
    if node.op == "slice":
        taken = []
        for (start, step, count), (_, stride) in zip(node.attrs["ranges"][not whole :], axes, strict=True):
            first += start * stride
            taken.append((count, stride * step))
        axes = tuple(taken)
        view = replace(view, slices=(*view.slices, node))
    reshaped = _reshaped(axes, _shape(node.outputs[0], whole))
    return None if reshaped is None else replace(view, first=first, axes=reshaped)


def _dense(shape: Sequence[Any]) -> tuple[tuple[Any, Any], ...]:
    return tuple(zip(shape, dense_strides(shape), strict=True))


def _reshaped(axes: Iterable[tuple[Any, Any]], shape: Sequence[Any]) -> tuple[tuple[Any, Any], ...] | None:
    """Return the axes of a shape over the same places; None if it has an axis with several strides."""
    left = merged(axes)
    found: list[tuple[Any, Any]] = []
    for extent in reversed(shape):
        if extent == 1:
            found.append((1, 1))
            continue
        size, stride = left.pop()
        if size % extent:
            return None
        found.append((extent, stride))
        if size > extent:
            left.append((size // extent, stride * extent))
    return tuple(reversed(found))


def _written(node: Node, after: Node, whole: bool) -> dict[str, Any] | None:
    """Return the places of a product's rows in the permutation that follows, or None if rows do not stay whole."""
    z = _shape(after.outputs[0], whole)
    axes: list[tuple[Any, Any]] = [(0, 0)] * len(z)
    for axis, place in zip(_order(after, whole), _dense(z), strict=True):
        axes[axis] = place
    between = merged(axes[:-2])
    if len(between) > 1 or axes[-1][1] != 1:
        return None
    return {"c_between": between[0][1] if between else prod(z), "c_row": axes[-2][1]}
