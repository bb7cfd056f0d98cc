"""Views: permutations and columns that products of many matrices read and write in place, instead of copies.

A product finds its matrices by the distances between them and between their rows. So it reads an operand where the
elements were before they were reshaped, permuted or taken, if rows stay whole there, or columns, which are rows of a
transposed operand. And it writes its result in the order of a permutation that follows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from fastnn.graph.graph import Node, Tensor

_VIEWS = ("reshape", "permute", "slice")


@dataclass(frozen=True)
class _View:
    """Elements of the samples of a tensor: the first one, and sizes and strides of axes."""

    root: Tensor
    first: int
    axes: tuple[tuple[int, int], ...]


def in_place(nodes: Sequence[Node], kept: Iterable[int]) -> tuple[list[Node], list[str]]:
    """Let products of many matrices read and write views.

    Parameters
    ----------
    nodes : sequence of Node
        In order.
    kept : iterable of int
        Ids of tensors that are used outside the graph.

    Returns
    -------
    nodes, descriptions
        Nodes whose views nobody else reads are still there.
    """
    if all(node.op != "batched_matmul" for node in nodes):
        return list(nodes), []
    made = {node.outputs[0].id: node for node in nodes if _is_view(node)}
    uses = Counter(kept)
    uses.update(x.id for node in nodes for x in node.inputs if x is not None)
    permuted = {node.inputs[0].id: node for node in nodes if node.op == "permute" and node.inputs[0] is not None}
    found, notes, dropped = [], [], set()
    for node in nodes:
        if id(node) in dropped:
            continue
        # a vector's algorithm takes it as it is
        if node.op == "batched_matmul" and min(node.attrs[name] for name in "mnk") > 1:
            said = []
            for position, name in enumerate("ab"):
                node, done = _read(node, position, name, made)
                said += [f"reads {name}"] if done else []
            after = permuted.get(node.outputs[0].id)
            if after is not None and uses[node.outputs[0].id] == 1:
                places = _written(node, after)
                if places is not None:
                    node = replace(node, outputs=after.outputs, attrs={**node.attrs, **places})
                    dropped.add(id(after))
                    # what is a view of it is one of the product's result
                    del made[after.outputs[0].id]
                    said.append("writes c")
            if said:
                notes.append(f"{node.label}: batched_matmul {', '.join(said)} in place")
        found.append(node)
    return found, notes


def _is_view(node: Node) -> bool:
    """Return whether a node's output is made of elements of the same sample, by steps that do not go back."""
    if node.op not in _VIEWS:
        return False
    (x,), (y,) = node.inputs, node.outputs
    if x is None or not (x.batched and y.batched):
        return False
    if any(not isinstance(size, int) for size in (*x.shape, *y.shape)):
        return False
    ranges = node.attrs.get("ranges", ())
    return not ranges or (ranges[0] == (0, 1, x.whole[0]) and all(step > 0 for _, step, _ in ranges))


def _read(node: Node, position: int, name: str, made: Mapping[int, Node]) -> tuple[Node, bool]:
    """Return a product that reads an operand in the tensor that it is a view of, and whether it is one."""
    x = node.inputs[position]
    assert x is not None
    for view in _views(x, made):
        between = _merged(view.axes[:-2])
        (_, row), (_, col) = view.axes[-2:]
        if len(between) > 1 or 1 not in (row, col):
            continue
        inputs = list(node.inputs)
        inputs[position] = view.root
        places = {
            f"{name}_first": view.first,
            f"{name}_between": between[0][1] if between else view.root.size,
            f"{name}_row": row if col == 1 else col,
            f"transpose_{name}": node.attrs[f"transpose_{name}"] != (col != 1),
        }
        return replace(node, inputs=tuple(inputs), attrs={**node.attrs, **places}), True
    return node, False


def _views(x: Tensor, made: Mapping[int, Node]) -> Iterable[_View]:
    """Iterate over the views of earlier tensors that a tensor is, from the earliest on; reshapes alone are none."""
    chain = []
    at = x
    while at.id in made and at.batched:
        chain.append(made[at.id])
        source = chain[-1].inputs[0]
        assert source is not None
        at = source
    while chain and any(node.op != "reshape" for node in chain):
        root = chain[-1].inputs[0]
        assert root is not None
        view: _View | None = _View(root, 0, _dense(root.shape))
        for node in reversed(chain):
            view = None if view is None else _seen(view, node)
        if view is not None:
            yield view
        chain.pop()


def _seen(view: _View, node: Node) -> _View | None:
    """Return what a node makes of a view; None if that takes a copy."""
    axes = view.axes
    if node.op == "permute":
        return replace(view, axes=tuple(axes[axis] for axis in node.attrs["axes"]))
    first = view.first
    if node.op == "slice":
        taken = []
        for (start, step, count), (_, stride) in zip(node.attrs["ranges"][1:], axes, strict=True):
            first += start * stride
            taken.append((count, stride * step))
        axes = tuple(taken)
    reshaped = _reshaped(axes, node.outputs[0].shape)
    return None if reshaped is None else replace(view, first=first, axes=reshaped)


def _dense(shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple((size, prod(shape[axis + 1 :])) for axis, size in enumerate(shape))


def _merged(axes: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the same places by as few axes as possible."""
    found: list[tuple[int, int]] = []
    for size, stride in axes:
        if size == 1:
            continue
        if found and found[-1][1] == size * stride:
            found[-1] = (found[-1][0] * size, stride)
        else:
            found.append((size, stride))
    return found


def _reshaped(axes: Iterable[tuple[int, int]], shape: Sequence[int]) -> tuple[tuple[int, int], ...] | None:
    """Return the axes of a shape over the same places; None if it has an axis with several strides."""
    left = _merged(axes)
    found: list[tuple[int, int]] = []
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


def _written(node: Node, after: Node) -> dict[str, int] | None:
    """Return the places of a product's rows in the permutation that follows, or None if rows do not stay whole."""
    y, z = node.outputs[0], after.outputs[0]
    axes = [(0, 0)] * len(y.shape)
    for axis, place in zip(after.attrs["axes"], _dense(z.shape), strict=True):
        axes[axis] = place
    between = _merged(axes[:-2])
    if len(between) > 1 or axes[-1][1] != 1:
        return None
    return {"c_between": between[0][1] if between else z.size, "c_row": axes[-2][1]}
