"""Memory: values with disjoint lives share the arena's bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastnn.program.layout import align
from fastnn.program.program import Value

#: Values begin at least so many bytes apart. Compiled loops that read one and write another leave their vector code
#: where the two are nearer than a few vectors, and then add in another order: results depended on the plan.
APART = 512


@dataclass
class Life:
    """A value's size and the first and last record that touch it."""

    name: str
    nbytes: int
    first: int
    last: int


def plan(lives: Mapping[int, Life]) -> tuple[dict[int, int], list[Value], int]:
    """Give every value an offset: the largest first, each at the lowest gap among those alive with it.

    Parameters
    ----------
    lives : mapping of tensor id to Life

    Returns
    -------
    offsets, values, total
        Byte offsets by tensor id, the plan, and the arena's size in bytes.

    Notes
    -----
    The greedy-by-size heuristic of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
    Inference", 2020.
    """
    placed: list[tuple[int, int, Life]] = []
    offsets: dict[int, int] = {}
    for tensor, life in sorted(lives.items(), key=lambda item: (-item[1].nbytes, item[1].first, item[0])):
        size = max(align(life.nbytes), APART)
        offset = 0
        for start, end, other in placed:
            if other.first <= life.last and life.first <= other.last:
                if offset + size <= start:
                    break
                offset = max(offset, end)
        offsets[tensor] = offset
        placed.append((offset, offset + size, life))
        placed.sort(key=lambda entry: entry[0])
    values = [Value(life.name, offsets[tensor], life.nbytes, life.first, life.last) for tensor, life in lives.items()]
    values.sort(key=lambda value: (value.first, value.offset))
    return offsets, values, max((end for _, end, _ in placed), default=0)
