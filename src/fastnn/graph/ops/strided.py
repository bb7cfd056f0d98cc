"""Views of tensors as whole shapes: other shapes, axes in another order, slices; and their transposes.

The functions follow NumPy's of the same names. The batch is the first axis, and sizes may depend on it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

from fastnn.graph.extent import Extent, Size
from fastnn.graph.graph import Graph, Node, Shape, Tensor, output
from fastnn.graph.rules import Gradients, gradient

#: axes that a record can tell apart
MOST_AXES = 6


def product(sizes: Iterable[Size]) -> Size:
    """Multiply sizes."""
    total: Size = 1
    for size in sizes:
        total = total * size
    return total


def dense_strides(whole: Sequence[Size]) -> list[Size]:
    """Return the distances between neighbours along each axis of an array without gaps."""
    strides: list[Size] = []
    total: Size = 1
    for size in reversed(whole):
        strides.append(total)
        total = total * size
    return strides[::-1]


def axis_of(axis: Any, rank: int, name: str) -> int:
    """Return an axis as a number from 0 on.

    Raises
    ------
    ValueError
        If there is no such axis.
    """
    number = operator.index(axis)
    if not -rank <= number < rank:
        raise ValueError(f"{name}: axis {number} is out of bounds for a tensor of {rank} axes")
    return number % rank


def refuse_integers(x: Tensor, name: str) -> None:
    """Raise ValueError for a tensor of integers."""
    if x.kind != "real":
        raise ValueError(f"{name}: expected real numbers, got a tensor of integers; cast it first")


# --- other shapes -----------------------------------------------------------------------------------------


def reshape(graph: Graph, x: Tensor, whole: Sequence[Size], label: str) -> Tensor:
    """View the same elements in another shape; one size may be -1. Costs nothing."""
    sizes = list(whole)
    unknown = [axis for axis, size in enumerate(sizes) if size == -1]
    total = product(x.whole)
    if len(unknown) > 1:
        raise ValueError(f"reshape: only one size can be -1, got {tuple(sizes)}")
    if unknown:
        rest = product(size for size in sizes if size != -1)
        try:
            sizes[unknown[0]] = total // rest
        except (ValueError, ZeroDivisionError):
            sizes[unknown[0]] = 0
    if product(sizes) != total or any(isinstance(size, int) and size < 1 for size in sizes):
        raise ValueError(f"reshape: cannot reshape {x.whole} into {tuple(whole)}")
    return x if tuple(sizes) == x.whole else _seen(graph, x, sizes, label)


def _seen(graph: Graph, x: Tensor, whole: Sequence[Size], label: str) -> Tensor:
    return graph.add("reshape", (x,), [output(whole, f"{label}.reshape", x.kind)], label)[0]


def stop_gradient(graph: Graph, x: Tensor, label: str) -> Tensor:
    """View the same elements as a constant of the gradient."""
    return graph.add("reshape", (x,), [(x.shape, x.batched, f"{label}.constant", x.kind)], label, stop=True)[0]


@gradient("reshape", keeps=lambda node, count: True)
def _reshape(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    (x,) = node.inputs
    assert x is not None
    return (
        (None,)
        if node.attrs.get("stop")
        else graph.add("reshape", (dy,), [(x.shape, x.batched, f"{node.label}.reshape", dy.kind)], node.label)
    )


def expand_dims(graph: Graph, x: Tensor, axis: int | Sequence[int], label: str) -> Tensor:
    """Insert axes of size 1 at places of the result."""
    given = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    rank = len(x.whole) + len(given)
    places = [axis_of(each, rank, "expand_dims") for each in given]
    if len(set(places)) < len(places):
        raise ValueError(f"expand_dims: repeated axis in {given}")
    sizes = iter(x.whole)
    return reshape(graph, x, [1 if place in places else next(sizes) for place in range(rank)], label)


def squeeze(graph: Graph, x: Tensor, axis: int | Sequence[int] | None, label: str) -> Tensor:
    """Remove axes of size 1: all of them, or those given."""
    whole = x.whole
    if axis is None:
        return reshape(graph, x, [size for size in whole if size != 1], label)
    given = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    places = [axis_of(each, len(whole), "squeeze") for each in given]
    for place in places:
        if whole[place] != 1:
            raise ValueError(f"squeeze: axis {place} of {whole} has another size than 1")
    return reshape(graph, x, [size for place, size in enumerate(whole) if place not in places], label)


# --- records ----------------------------------------------------------------------------------------------


def merged(axes: Iterable[tuple[Size, Size]]) -> list[tuple[Size, Size]]:
    """Return the same places by as few axes, of sizes and strides, as possible."""
    found: list[tuple[Size, Size]] = []
    for size, stride in axes:
        if size == 1:
            continue
        if found and found[-1][1] == size * stride:
            found[-1] = (found[-1][0] * size, stride)
        else:
            found.append((size, stride))
    return found


def record_dims(axes: Sequence[tuple[Size, Size]], first: Size, size: Size) -> dict[str, Size]:
    """Return the dimensions of a record "strided" by at most `MOST_AXES` merged axes."""
    *leading, (cols, stride) = axes or [(1, 1)]
    dims: dict[str, Size] = {"rows": product(each for each, _ in leading), "cols": cols, "stride": stride}
    padded = [(1, 0)] * (MOST_AXES - 1 - len(leading)) + list(leading)
    for number, (each, distance) in enumerate(padded):
        dims[f"stride{number}"] = distance
        if number:
            dims[f"n{number}"] = each
    return {**dims, "first": first, "size": size}


# --- axes in another order --------------------------------------------------------------------------------


def transpose(graph: Graph, x: Tensor, axes: Sequence[int] | None, label: str) -> Tensor:
    """Put axes into another order: axis i of the result is axis `axes[i]` of x; None reverses them."""
    rank = len(x.whole)
    order = tuple(range(rank))[::-1] if axes is None else tuple(axis_of(axis, rank, "transpose") for axis in axes)
    if sorted(order) != list(range(rank)):
        raise ValueError(f"transpose: expected each axis of {x.whole} once, got {tuple(axes or ())}")
    return _ordered(graph, x, order, label)


def _ordered(graph: Graph, x: Tensor, order: tuple[int, ...], label: str) -> Tensor:
    whole, strides = x.whole, dense_strides(x.whole)
    result = [whole[axis] for axis in order]
    places = merged((whole[axis], strides[axis]) for axis in order)
    if len(places) <= 1:
        # what moves has the size 1
        return x if tuple(result) == whole else _seen(graph, x, result, label)
    if len(places) > MOST_AXES:
        # first the next two axes of the result, which are then in place
        done = next(axis for axis, each in enumerate(order) if axis != each)
        head = [*order[: done + 2]]
        before = (*head, *(axis for axis in range(len(order)) if axis not in head))
        later = tuple(before.index(axis) for axis in order)
        return _ordered(graph, _ordered(graph, x, before, label), later, label)
    dims = record_dims(places, 0, product(whole))
    outputs = [output(result, f"{label}.transpose", x.kind)]
    if x.batched and order[0] == 0:
        # the axes of samples
        axes = tuple(axis - 1 for axis in order[1:])
        return graph.add("permute", (x,), outputs, label, axes=axes, **dims)[0]
    return graph.add("transpose", (x,), outputs, label, axes=order, **dims)[0]


def _keeps_last(node: Node, count: int) -> bool:
    return bool(node.attrs["axes"][-1] == len(node.attrs["axes"]) - 1)


@gradient("permute", "transpose", keeps=_keeps_last)
def _transposed(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    axes = node.attrs["axes"]
    inverse = sorted(range(len(axes)), key=lambda axis: axes[axis])
    if node.op == "permute" and dy.batched:
        inverse = [0, *(axis + 1 for axis in inverse)]
    return (transpose(graph, dy, inverse, node.label),)


def swapaxes(graph: Graph, x: Tensor, first: int, second: int, label: str) -> Tensor:
    """Exchange two axes."""
    rank = len(x.whole)
    order = list(range(rank))
    a, b = axis_of(first, rank, "swapaxes"), axis_of(second, rank, "swapaxes")
    order[a], order[b] = order[b], order[a]
    return _ordered(graph, x, tuple(order), label)


def moveaxis(graph: Graph, x: Tensor, source: int | Sequence[int], to: int | Sequence[int], label: str) -> Tensor:
    """Move axes to other places; the rest keep their order."""
    rank = len(x.whole)
    sources, places = (
        [axis_of(each, rank, "moveaxis") for each in (given if isinstance(given, Sequence) else (given,))]
        for given in (source, to)
    )
    if len(sources) != len(places) or len(set(sources)) < len(sources) or len(set(places)) < len(places):
        raise ValueError(f"moveaxis: expected as many axes as places, each once, got {source} and {to}")
    order = [axis for axis in range(rank) if axis not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return _ordered(graph, x, tuple(order), label)


# --- slices -----------------------------------------------------------------------------------------------

#: the entries of an axis that a slice takes: the first one, the distance, and how many
Range = tuple[Size, int, Size]


def getitem(graph: Graph, x: Tensor, key: Any, label: str) -> Tensor:
    """Take x[key]: integers, slices with any steps, `...` and None, as in NumPy.

    Raises
    ------
    ValueError
        If an integer is out of bounds, a slice is empty, or its size depends on the batch in another way than a
        polynomial does.
    TypeError
        If the key has something else; `take` takes tensors of integers.
    """
    keys = list(key) if isinstance(key, tuple) else [key]
    whole = x.whole
    given = sum(each is not None and each is not Ellipsis for each in keys)
    if given > len(whole):
        raise ValueError(f"too many indices: a tensor of shape {whole} takes {len(whole)}, got {given}")
    dots = [number for number, each in enumerate(keys) if each is Ellipsis]
    if len(dots) > 1:
        raise ValueError("an index can only have a single ellipsis ('...')")
    if not dots:
        dots, keys = [len(keys)], [*keys, Ellipsis]
    keys[dots[0] : dots[0] + 1] = [slice(None)] * (len(whole) - given)
    ranges: list[Range] = []
    result: list[Size] = []
    for each in keys:
        if each is None:
            result.append(1)
            continue
        size = whole[len(ranges)]
        if isinstance(each, slice):
            ranges.append(_range(each, size, len(ranges), whole))
            result.append(ranges[-1][2])
        else:
            ranges.append((_entry(each, size, len(ranges), whole), 1, 1))
    return sliced(graph, x, ranges, result, label)


def _number(given: Any) -> Size:
    if isinstance(given, Extent):
        return given
    if isinstance(given, bool) or not hasattr(given, "__index__"):
        raise TypeError(f"an index is made of integers, slices, None and '...', got {given!r}; see `take` for tensors")
    return operator.index(given)


def _entry(given: Any, size: Size, axis: int, whole: Shape) -> Size:
    number = _number(given)
    at = number + size if number < 0 else number
    if not (at >= 0 and at < size):
        raise ValueError(f"index {given} is out of bounds for axis {axis} of {whole}")
    return at


def _range(given: slice, size: Size, axis: int, whole: Shape) -> Range:
    """Return the entries that a slice takes."""
    step = 1 if given.step is None else _number(given.step)
    if not isinstance(step, int) or step == 0:
        raise ValueError(f"the step of a slice is an integer other than 0, got {given.step}")

    def end(number: Any, default: Size) -> Size:
        if number is None:
            return default
        at = _number(number)
        at = at + size if at < 0 else at
        low, high = (0, size) if step > 0 else (-1, size - 1)
        return low if at < low else high if at > high else at

    start = end(given.start, 0 if step > 0 else size - 1)
    stop = end(given.stop, size if step > 0 else -1)
    length = stop - start if step > 0 else start - stop
    if length <= 0:
        raise ValueError(f"a slice of axis {axis} of {whole} is empty: sizes are at least 1")
    count, rest = divmod(length + (abs(step) - 1), abs(step))
    if not isinstance(rest, int):
        raise ValueError(f"a slice takes every {abs(step)}th of {length} entries: B is a multiple of it only sometimes")
    return start, step, count


def along(whole: Shape, axis: int, taken: Range) -> list[Range]:
    """Return ranges that take some entries of one axis, and all of the others."""
    ranges: list[Range] = [(0, 1, size) for size in whole]
    ranges[axis] = taken
    return ranges


def sliced(graph: Graph, x: Tensor, ranges: Sequence[Range], result: Sequence[Size], label: str) -> Tensor:
    """Take entries along all axes, and see what is taken in the shape `result`."""
    whole = x.whole
    if all(each == (0, 1, size) for each, size in zip(ranges, whole, strict=True)):
        return reshape(graph, x, result, label)
    return copied(graph, x, ranges, result, label)


def copied(
    graph: Graph, x: Tensor, ranges: Sequence[Range] | None, result: Sequence[Size] | None, label: str
) -> Tensor:
    """Copy entries along all axes, also if these are all there are."""
    whole, strides = x.whole, dense_strides(x.whole)
    ranges = [(0, 1, size) for size in whole] if ranges is None else ranges
    first: Size = 0
    for (start, _, _), stride in zip(ranges, strides, strict=True):
        first = first + start * stride
    axes = merged((count, step * stride) for (_, step, count), stride in zip(ranges, strides, strict=True))
    if len(axes) > MOST_AXES:
        # the axes that are cut, two at a time
        cut = [axis for axis, size in enumerate(whole) if ranges[axis] != (0, 1, size)]
        some = [
            each if axis in cut[:2] else (0, 1, size)
            for axis, (each, size) in enumerate(zip(ranges, whole, strict=True))
        ]
        part = copied(graph, x, some, None, label)
        rest = [each if axis in cut[2:] else (0, 1, part.whole[axis]) for axis, each in enumerate(ranges)]
        return copied(graph, part, rest, result, label)
    dims = record_dims(axes, first, product(whole))
    shape = [count for _, _, count in ranges] if result is None else result
    outputs = [output(shape, f"{label}.slice", x.kind)]
    return graph.add("slice", (x,), outputs, label, ranges=tuple(ranges), **dims)[0]


def _keeps_groups(node: Node, count: int) -> bool:
    """Return whether groups of neighbours along the last axis are taken as wholes."""
    (x,), (y,) = node.inputs, node.outputs
    assert x is not None
    if not x.shape or not y.shape:
        return count == 1
    start, step, taken = node.attrs["ranges"][-1]
    if (start, step, taken) == (0, 1, x.columns):
        return True
    cut = (start, taken, y.columns)
    return step == 1 and all(isinstance(size, int) and size % count == 0 for size in cut)


@gradient("slice", keeps=_keeps_groups)
def _slice(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    (x,) = node.inputs
    assert x is not None
    ranges = node.attrs["ranges"]
    dx = reshape(graph, dy, [count for _, _, count in ranges], node.label)
    for axis in reversed(range(len(ranges))):
        start, step, count = ranges[axis]
        if (start, step, count) != (0, 1, x.whole[axis]):
            dx = place(graph, dx, axis, x.whole[axis], start, step, 0.0, node.label)
    return (dx,)


def flip(graph: Graph, x: Tensor, axis: int | Sequence[int] | None, label: str) -> Tensor:
    """Reverse the order of entries along axes, or along all of them."""
    rank = len(x.whole)
    given = range(rank) if axis is None else axis if isinstance(axis, Sequence) else (axis,)
    flipped = {axis_of(each, rank, "flip") for each in given}
    ranges: list[Range] = [
        (size - 1, -1, size) if number in flipped else (0, 1, size) for number, size in enumerate(x.whole)
    ]
    return sliced(graph, x, ranges, x.whole, label)


def place(graph: Graph, x: Tensor, axis: int, size: Size, first: Size, step: int, fill: float, label: str) -> Tensor:
    """Make x the entries first, first + step, ... of an axis of `size` entries, and fill the others with a number."""
    refuse_integers(x, "pad")
    whole = x.whole
    dims = {
        "outer": product(whole[:axis]), "count": whole[axis], "inner": product(whole[axis + 1 :]), "size": size,
        "first": first, "step": step,
    }  # fmt: skip
    outputs = [output((*whole[:axis], size, *whole[axis + 1 :]), f"{label}.place")]
    return graph.add("place", (x,), outputs, label, axis=axis, fill=fill, **dims)[0]


@gradient("place")
def _place(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    attrs = node.attrs
    ranges = along(dy.whole, attrs["axis"], (attrs["first"], attrs["step"], attrs["count"]))
    return (copied(graph, dy, ranges, None, node.label),)
