"""Other sizes of maps by interpolation, made of simpler ops."""

from __future__ import annotations

from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.joins import pad, stack
from fastnn.graph.ops.pointwise import pointwise
from fastnn.graph.ops.strided import along, reshape, sliced


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
