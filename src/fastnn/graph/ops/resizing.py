"""Maps at other places by interpolation, made of simpler ops.

Places are real numbers: entry i of an axis is at i. What lies between two entries is on the line between them
("bilinear"), or the nearer one ("nearest").
"""

from __future__ import annotations

from fastnn.graph.algebra import Term, terms
from fastnn.graph.extent import Size
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.indexing import take, take_along_axis
from fastnn.graph.ops.joins import pad, stack
from fastnn.graph.ops.pointwise import cast, constant, pointwise
from fastnn.graph.ops.reductions import broadcast_to
from fastnn.graph.ops.scans import cumsum
from fastnn.graph.ops.strided import along, reshape, sliced

INTERPOLATIONS = ("bilinear", "nearest")
#: what is beyond the ends of an axis: a number, the outermost entry, all in reverse, or all once more
FILL_MODES = ("constant", "nearest", "reflect", "wrap")
# float32 holds the numbers of so many pixels
_MOST_PIXELS = 2**24


def magnify(graph: Graph, x: Tensor, times: int, axis: int, label: str) -> Tensor:
    """Make an axis some times as long: entries lie on lines between the centres of x's, and at the ends as they do.

    Entry i times + p is at the place (i times + p + 1/2) / times - 1/2 among those of x.
    """
    size = x.whole[axis]
    pairs = [(int(number == axis),) * 2 for number in range(len(x.whole))]
    wide = pad(graph, x, pairs, label, "edge")
    whole = wide.whole

    def taken(first: int) -> Tensor:
        ranges = along(whole, axis, (first, 1, size))
        return sliced(graph, wide, ranges, [count for _, _, count in ranges], label)

    phases = []
    for phase in range(times):
        # from the centre of an entry of x
        distance = (phase + 0.5) / times - 0.5
        neighbour = taken(0 if distance < 0.0 else 2)
        part = abs(distance)
        near = pointwise(graph, "multiply", (x, 1.0 - part), label)
        phases.append(near if part == 0.0 else pointwise(
            graph, "add", (near, pointwise(graph, "multiply", (neighbour, part), label)), label
        ))  # fmt: skip
    together = stack(graph, phases, axis + 1, label)
    return reshape(graph, together, (*x.whole[:axis], size * times, *x.whole[axis + 1 :]), label)


def counted(graph: Graph, size: int, label: str) -> Tensor:
    """Make the numbers 0, 1, ..., size - 1."""
    return cumsum(graph, constant(graph, 1.0, (size,), label), 0, label, exclusive=True)


def centres(graph: Graph, size: int, count: int, label: str) -> Tensor:
    """Return the places of `count` entries that divide an axis of `size` entries: (i + 1/2) size / count - 1/2."""
    (number,) = terms(graph, label, counted(graph, count, label))
    # rounded once: up to the division all numbers are whole
    return ((number * (2.0 * size) + float(size - count)) / (2.0 * count)).tensor


def _neighbours(
    graph: Graph, places: Tensor, size: int, interpolation: str, fill_mode: str, label: str
) -> tuple[list[Term], Term | None]:
    """Return the numbers of the entries around places, and the way from the first to the second of them.

    With "constant", the axis is to have one more entry at each end.
    """
    (place,) = terms(graph, label, places)
    if interpolation == "nearest":
        first, part = (place + 0.5).apply("floor"), None
        numbers = [first]
    else:
        first = place.apply("floor")
        numbers, part = [first, first + 1.0], place - first
    last = float(size - 1)

    def within(number: Term, period: float) -> Term:
        # exact, and vectorised, which the remainder is not
        return number - (number / period).apply("floor") * period

    def inside(number: Term) -> Term:
        if fill_mode == "constant":
            return (number + 1.0).apply("maximum", 0.0).apply("minimum", last + 2.0)
        if fill_mode == "wrap":
            return within(number, float(size))
        if fill_mode == "reflect":
            around = within(number, 2.0 * size)
            return around.apply("minimum", -around + (2.0 * last + 1.0))
        return number.apply("maximum", 0.0).apply("minimum", last)

    return [inside(number) for number in numbers], part


def _between(graph: Graph, found: list[Tensor], part: Term | None, whole: tuple[Size, ...], label: str) -> Tensor:
    """Return what is between two tensors, `part` of the way from the first to the second; or the only one."""
    if part is None:
        return found[0]
    first, second = terms(graph, label, *found)
    return (first + (second - first) * part.reshaped(whole)).tensor


def resampled(
    graph: Graph,
    x: Tensor,
    places: Tensor,
    axis: int,
    label: str,
    interpolation: str = "bilinear",
    fill_mode: str = "nearest",
    fill_value: float = 0.0,
) -> Tensor:
    """Take what is at places of an axis of samples.

    Parameters
    ----------
    places : Tensor
        Of shape (n,), the same for all samples, or (B, n).
    axis : int
        Of the whole shape, at least 1.
    interpolation : {"bilinear", "nearest"}
    fill_mode : {"constant", "nearest", "reflect", "wrap"}
        What is beyond the ends: `fill_value`, the outermost entry, or the entries in reverse or once more.
    """
    size = x.whole[axis]
    assert isinstance(size, int)
    numbers, part = _neighbours(graph, places, size, interpolation, fill_mode, label)
    if fill_mode == "constant":
        x = pad(graph, x, [(int(number == axis),) * 2 for number in range(len(x.whole))], label, value=fill_value)
    behind = (1,) * (len(x.whole) - axis - 1)
    found = []
    for number in numbers:
        index = cast(graph, number.tensor, "int64", label)
        if not places.batched:
            found.append(take(graph, x, index, axis, label))
            continue
        own = reshape(graph, index, (index.whole[0], *(1,) * (axis - 1), index.whole[1]), label)
        every = broadcast_to(graph, own, (*x.whole[:axis], index.whole[1]), label)
        found.append(take_along_axis(graph, x, reshape(graph, every, (*every.whole, *behind), label), axis, label))
    before = (places.whole[0], *(1,) * (axis - 1)) if places.batched else ()
    return _between(graph, found, part, (*before, places.whole[-1], *behind), label)


def sampled(
    graph: Graph,
    x: Tensor,
    rows: Tensor,
    columns: Tensor,
    label: str,
    interpolation: str = "bilinear",
    fill_mode: str = "nearest",
    fill_value: float = 0.0,
) -> Tensor:
    """Take the pixels of images (B, height, width, channels) at places, which differ for each pixel and sample.

    Parameters
    ----------
    rows, columns : Tensor
        Of shape (B, new height, new width).
    interpolation, fill_mode, fill_value
        Those of `resampled`.

    Raises
    ------
    ValueError
        If an image has more pixels than float32 can count.
    """
    batch, height, width, channels = x.whole
    assert isinstance(height, int) and isinstance(width, int)
    above, down = _neighbours(graph, rows, height, interpolation, fill_mode, label)
    left, right = _neighbours(graph, columns, width, interpolation, fill_mode, label)
    if fill_mode == "constant":
        x = pad(graph, x, [(0, 0), (1, 1), (1, 1), (0, 0)], label, value=fill_value)
        height, width = height + 2, width + 2
    if height * width > _MOST_PIXELS:
        raise ValueError(f"takes images of up to {_MOST_PIXELS} pixels, got {height} x {width} of them")
    flat, whole = reshape(graph, x, (batch, height * width, channels), label), rows.whole

    def pixels(row: Term, column: Term) -> Tensor:
        index = cast(graph, (row * float(width) + column).tensor, "int64", label)
        taken = take_along_axis(graph, flat, reshape(graph, index, (batch, -1, 1), label), 1, label)
        return reshape(graph, taken, (*whole, channels), label)

    lines = [
        _between(graph, [pixels(row, column) for column in left], right, (*whole, 1), label) for row in above
    ]  # fmt: skip
    return _between(graph, lines, down, (*whole, 1), label)
