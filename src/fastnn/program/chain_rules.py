"""The rules of chains: what makes it right to run records piece by piece."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastnn.program.chains import MOST_LOCAL, Chain, is_whole, locals_of, touched
from fastnn.program.layout import FLAGS_WORD, Buffer, Flag
from fastnn.program.record import OperandView, elements_of, op_of, operands_of
from fastnn.program.value import Value


def broken_chains(
    records: NDArray[np.int64], chains: Sequence[Chain], values: Sequence[Value], dtype: str
) -> str | None:
    """Return what is wrong with a program's chains, or None.

    Parameters
    ----------
    records : ndarray of int64
        All records of a program, which are right if they run one after the other.
    values : sequence of Value
        The plan of the arena.
    """
    end = -1
    for chain in chains:
        if not end < chain.first < chain.last < len(records):
            return f"{chain} does not have several records that follow those of the chain before it"
        end = chain.last
        members = records[chain.first : chain.last + 1]
        why = _broken_members(members) or _broken_places(members, dtype) or _broken_lives(chain, records, values)
        if why is not None:
            return f"{chain} {why}"
    return None


def _broken_members(members: NDArray[np.int64]) -> str | None:
    sizes = set()
    for record in members:
        op = op_of(record)
        if not op.elementwise or Flag.ACCUMULATE in Flag(int(record[FLAGS_WORD])):
            return f"contains {op.name!r}, which does not make elements from those at the same place"
        sizes.add(elements_of(record))
    return f"has values of {sorted(sizes)} elements" if len(sizes) > 1 else None


def _broken_places(members: NDArray[np.int64], dtype: str) -> str | None:
    """Return which operand is read or written at other places than its elements have in another record."""
    made: set[tuple[int, int]] = set()
    views = [(record, view) for record in members for view in operands_of(record, dtype)]
    for record, view in views:
        if view.spec.access == "write":
            made.add((view.buffer, view.offset))
        elif (view.buffer, view.offset) in made and not is_whole(record, view):
            return f"reads {view.spec.name!r}, which it makes, at other places"
    outside = [view for _, view in views if view.buffer != Buffer.ARENA]
    for out in outside:
        for other in outside if out.spec.access == "write" else ():
            if other.buffer == out.buffer and not _same(out, other) and not _apart(out, other):
                return f"writes {out.spec.name!r} over elements of {other.spec.name!r} at other places"
    return None


def _same(one: OperandView, other: OperandView) -> bool:
    return (one.offset, one.nbytes) == (other.offset, other.nbytes)


def _apart(one: OperandView, other: OperandView) -> bool:
    return one.offset + one.nbytes <= other.offset or other.offset + other.nbytes <= one.offset


def _broken_lives(chain: Chain, records: NDArray[np.int64], values: Sequence[Value]) -> str | None:
    if max(locals_of(chain, values).values(), default=0) >= MOST_LOCAL:
        return f"has more than {MOST_LOCAL} local values at a time"
    for _, _, value in touched(chain, records, values):
        if value.last < chain.last and not chain.has(value):
            return f"reads {value.name!r}, which lives until record {value.last} only"
    return None
