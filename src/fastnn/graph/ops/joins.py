"""Tensors made of several, or of one several times: joined, split, padded, rolled, tiled."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from fastnn.graph.extent import Extent, Size
from fastnn.graph.graph import Graph, Node, Tensor, output
from fastnn.graph.ops.reductions import broadcast_to
from fastnn.graph.ops.strided import (
    Range,
    along,
    axis_of,
    expand_dims,
    place,
    product,
    refuse_integers,
    reshape,
    sliced,
)
from fastnn.graph.rules import Gradients, gradient


def concatenate(graph: Graph, inputs: Sequence[Tensor], axis: int, label: str) -> Tensor:
    """Join tensors along an axis."""
    if not inputs:
        raise ValueError("concatenate: need at least one tensor")
    first = inputs[0].whole
    place = axis_of(axis, len(first), "concatenate")
    for x in inputs:
        refuse_integers(x, "concatenate")
        if len(x.whole) != len(first) or {**dict(enumerate(x.whole)), place: 0} != {**dict(enumerate(first)), place: 0}:
            shapes = ", ".join(str(each.whole) for each in inputs)
            raise ValueError(f"concatenate: shapes must agree in all axes but axis {place}, got {shapes}")
    if len(inputs) == 1:
        return inputs[0]
    total = sum((x.whole[place] for x in inputs[1:]), start=first[place])
    outputs = [output((*first[:place], total, *first[place + 1 :]), f"{label}.concatenate")]
    return graph.add("concatenate", inputs, outputs, label, axis=place)[0]


def _keeps(node: Node, count: int) -> bool:
    last = node.attrs["axis"] == len(node.outputs[0].whole) - 1
    columns = [x.columns for x in node.inputs if x is not None]
    return not last or all(isinstance(size, int) and size % count == 0 for size in columns)


@gradient("concatenate", keeps=_keeps)
def _concatenate(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    axis = node.attrs["axis"]
    found: list[Tensor | None] = []
    first: Size = 0
    for x, need in zip(node.inputs, needs, strict=True):
        assert x is not None
        count = x.whole[axis]
        found.append(_entries(graph, dy, axis, first, count, node.label) if need else None)
        first = first + count
    return found


def _entries(graph: Graph, x: Tensor, axis: int, first: Size, count: Size, label: str) -> Tensor:
    """Take neighbouring entries of an axis."""
    ranges = along(x.whole, axis, (first, 1, count))
    return sliced(graph, x, ranges, [taken for _, _, taken in ranges], label)


def joined(graph: Graph, parts: Sequence[Tensor], label: str) -> Tensor | None:
    """Join gradients of slices that make up a tensor; None if they do not."""
    nodes = [node for node in map(graph.producer, parts) if node is not None and node.op == "place"]
    if len(nodes) < 2 or len(nodes) < len(parts):
        return None
    if any(node.attrs["step"] != 1 or node.attrs["fill"] != 0.0 for node in nodes):
        return None
    axis, whole = nodes[0].attrs["axis"], nodes[0].outputs[0].whole
    if any(node.attrs["axis"] != axis or node.outputs[0].whole != whole for node in nodes):
        return None
    ordered: list[Tensor] = []
    at: Size = 0
    while len(ordered) < len(nodes):
        following = next((node for node in nodes if node.attrs["first"] == at), None)
        if following is None or following.inputs[0] is None:
            return None
        ordered.append(following.inputs[0])
        at = at + following.attrs["count"]
    return concatenate(graph, ordered, axis, label) if at == whole[axis] else None


def stack(graph: Graph, inputs: Sequence[Tensor], axis: int, label: str) -> Tensor:
    """Join tensors of equal shapes along a new axis."""
    if not inputs:
        raise ValueError("stack: need at least one tensor")
    if any(x.whole != inputs[0].whole for x in inputs):
        shapes = ", ".join(str(x.whole) for x in inputs)
        raise ValueError(f"stack: all tensors must have the same shape, got {shapes}")
    place = axis_of(axis, len(inputs[0].whole) + 1, "stack")
    whole = _side_by_side(graph, inputs, place, label)
    if whole is not None:
        return reshape(graph, whole, (*whole.whole[:place], len(inputs), *inputs[0].whole[place:]), label)
    return concatenate(graph, [expand_dims(graph, x, place, label) for x in inputs], place, label)


def _side_by_side(graph: Graph, parts: Sequence[Tensor], axis: int, label: str) -> Tensor | None:
    """Take equal slices of a tensor that follow each other along an axis as one slice, or return None."""
    nodes = [node for node in map(graph.producer, parts) if node is not None and node.op == "slice"]
    if len(nodes) < len(parts) or any(node.inputs[0] is not nodes[0].inputs[0] for node in nodes):
        return None
    first, (x, *_) = nodes[0].attrs["ranges"], nodes[0].inputs
    # an axis of the tensor, not one that it was reshaped to
    if x is None or axis == len(first) or parts[0].whole != tuple(count for _, _, count in first):
        return None
    start, _, count = first[axis]

    def part(begin: Size, size: Size) -> tuple[Range, ...]:
        return (*first[:axis], (begin, 1, size), *first[axis + 1 :])

    if any(node.attrs["ranges"] != part(start + number * count, count) for number, node in enumerate(nodes)):
        return None
    whole = part(start, len(parts) * count)
    return sliced(graph, x, whole, [size for _, _, size in whole], label)


def split(graph: Graph, x: Tensor, sections: int | Sequence[Size], axis: int, label: str) -> list[Tensor]:
    """Cut a tensor into equal parts, or before some entries of an axis."""
    place = axis_of(axis, len(x.whole), "split")
    size = x.whole[place]
    if isinstance(sections, int):
        if sections < 1 or (isinstance(size, int) and size % sections):
            raise ValueError(f"split: axis {place} of {x.whole} does not divide into {sections} equal parts")
        part = size // sections
        ends: list[Size] = [part * number for number in range(sections + 1)]
    else:
        ends = [0, *sections, size]
    if any(end <= start for start, end in pairwise(ends)):
        raise ValueError(f"split: {tuple(ends[1:-1])} leave empty parts of axis {place} of {x.whole}")
    return [_entries(graph, x, place, start, end - start, label) for start, end in pairwise(ends)]


PAD_MODES = ("constant", "edge", "reflect", "symmetric")


def pad(
    graph: Graph,
    x: Tensor,
    widths: Sequence[tuple[int, int]] | tuple[int, int] | int,
    label: str,
    mode: str = "constant",
    value: float = 0.0,
) -> Tensor:
    """Add entries before and after those of each axis: (before, after) for each axis, or for all, or one number.

    Parameters
    ----------
    mode : {"constant", "edge", "reflect", "symmetric"}
        What they are: `value`, the outermost entry, or the entries near it in reverse, without or with itself.
    """
    if mode not in PAD_MODES:
        raise ValueError(f"pad: mode must be one of {PAD_MODES}, got {mode!r}")
    rank = len(x.whole)
    if isinstance(widths, int):
        pairs = [(widths, widths)] * rank
    elif len(widths) == 2 and all(isinstance(each, int) for each in widths):
        pairs = [(widths[0], widths[1])] * rank  # type: ignore[list-item]
    else:
        pairs = [tuple(each) for each in widths]  # type: ignore[arg-type, misc]
    if len(pairs) != rank or any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
        raise ValueError(f"pad: expected (before, after) for each axis of {x.whole}, got {widths}")
    for axis, (before, after) in enumerate(pairs):
        size = x.whole[axis]
        if before == after == 0:
            continue
        if mode == "constant":
            x = place(graph, x, axis, size + before + after, before, 1, float(value), label)
            continue
        least = 0 if mode == "edge" else max(before, after) + (mode == "reflect")
        if isinstance(size, int) and size < least:
            raise ValueError(f"pad: axis {axis} of {x.whole} has fewer than the {least} entries that are reflected")
        parts = [_outside(graph, x, axis, before, mode, True, label)] if before else []
        parts += [x, *([_outside(graph, x, axis, after, mode, False, label)] if after else [])]
        x = concatenate(graph, parts, axis, label)
    return x


def _outside(graph: Graph, x: Tensor, axis: int, count: int, mode: str, before: bool, label: str) -> Tensor:
    """Return what is before or after the entries of an axis."""
    size = x.whole[axis]
    if mode == "edge":
        edge = _entries(graph, x, axis, 0 if before else size - 1, 1, label)
        return broadcast_to(graph, edge, (*x.whole[:axis], count, *x.whole[axis + 1 :]), label)
    skip = mode == "reflect"
    ranges = along(x.whole, axis, (count - 1 + skip if before else size - 1 - skip, -1, count))
    return sliced(graph, x, ranges, [taken for _, _, taken in ranges], label)


def roll(graph: Graph, x: Tensor, shift: int | Sequence[int], axis: int | Sequence[int] | None, label: str) -> Tensor:
    """Move entries along axes; those that leave at an end come in at the other. Without axes x is seen as one row."""
    if axis is None:
        if not isinstance(shift, int):
            raise ValueError(f"roll: without an axis the shift is a number, got {shift}")
        return reshape(graph, roll(graph, reshape(graph, x, (-1,), label), shift, 0, label), x.whole, label)
    axes = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    shifts = tuple(shift) if isinstance(shift, Sequence) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise ValueError(f"roll: expected a shift for each axis, got {shifts} for {axes}")
    for each, distance in zip(axes, shifts, strict=True):
        x = _rolled(graph, x, axis_of(each, len(x.whole), "roll"), distance, label)
    return x


def _rolled(graph: Graph, x: Tensor, axis: int, shift: int, label: str) -> Tensor:
    size = x.whole[axis]
    if isinstance(size, Extent):
        if shift == 0:
            return x
        # a batch may have a single row, which is no two slices; in two copies of it there is one
        if abs(shift) > 1:
            raise ValueError(f"roll: axis {axis} of {x.whole} may have fewer than {abs(shift)} entries")
        twice = concatenate(graph, [x, x], axis, label)
        return _entries(graph, twice, axis, size - 1 if shift > 0 else 1, size, label)
    shift %= size
    if shift == 0:
        return x
    tail = _entries(graph, x, axis, size - shift, shift, label)
    return concatenate(graph, [tail, _entries(graph, x, axis, 0, size - shift, label)], axis, label)


def tile(graph: Graph, x: Tensor, repeats: int | Sequence[int], label: str) -> Tensor:
    """Lay copies of x side by side, so many along each axis."""
    given = tuple(repeats) if isinstance(repeats, Sequence) else (repeats,)
    rank = max(len(given), len(x.whole))
    counts = (1,) * (rank - len(given)) + given
    whole = (1,) * (rank - len(x.whole)) + x.whole
    if min(counts, default=1) < 1:
        raise ValueError(f"tile: repeats are at least 1, got {repeats}")
    return _copies(graph, x, [(count, size) for count, size in zip(counts, whole, strict=True)], counts, True, label)


def repeat(graph: Graph, x: Tensor, repeats: int, axis: int | None, label: str) -> Tensor:
    """Repeat every entry of an axis so many times; without an axis x is seen as one row."""
    if not isinstance(repeats, int) or repeats < 1:
        raise ValueError(f"repeat: repeats is an integer of at least 1, got {repeats!r}")
    if axis is None:
        return repeat(graph, reshape(graph, x, (-1,), label), repeats, 0, label)
    place = axis_of(axis, len(x.whole), "repeat")
    counts = [repeats if number == place else 1 for number in range(len(x.whole))]
    return _copies(graph, x, [(size, count) for count, size in zip(counts, x.whole, strict=True)], counts, False, label)


def _copies(
    graph: Graph, x: Tensor, pairs: Sequence[tuple[Size, Size]], counts: Sequence[int], outer: bool, label: str
) -> Tensor:
    """Make each axis of x two, of which the one that counts copies comes first if `outer`."""
    apart: list[Size] = []
    for (a, b), count in zip(pairs, counts, strict=True):
        size = b if outer else a
        # an axis without copies stays one
        apart += [size] if count == 1 else [1, size] if outer else [size, 1]
    wide: list[Size] = []
    for (a, b), count in zip(pairs, counts, strict=True):
        wide += [b if outer else a] if count == 1 else [a, b]
    spread = broadcast_to(graph, reshape(graph, x, apart, label), wide, label)
    return reshape(graph, spread, [product(pair) for pair in pairs], label)
