"""Programs with other records in the place of some: labels, lives of values, chains, bodies of loops follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastnn.program.layout import Buffer, align
from fastnn.program.loop_rules import loops_of
from fastnn.program.opcodes import OPS
from fastnn.program.program import Program, RecordDraft, Value, make_program
from fastnn.program.record import KernelKey

#: what takes the place of a record: drafts, and None for the record itself
Parts = Sequence[RecordDraft | None]
_ITSELF: Parts = (None,)


def rewritten(
    program: Program, records: NDArray[np.int64], parts: Mapping[int, Parts], values: Sequence[Value]
) -> Program:
    """Return a program in which other records take the place of some.

    Parameters
    ----------
    records : ndarray of int64, shape (n_records, RECORD_WORDS)
        The program's, whose operands may have changed.
    parts : mapping of int to sequence
        What takes the place of a record, by its number. If the record itself is not among it, the last one takes its
        part in lives and chains.
    values : sequence of Value
        New ones at the arena's end. Their lives are numbers of records of the program that is given: they begin with
        what takes the place of the first one, and end with what takes that of the last.
    """
    table: list[NDArray[np.int64]] = []
    kernels: list[KernelKey] = []
    maps: list[KernelKey | None] = []
    labels: list[str] = []
    # in the new program: where what takes the place of each record begins and ends, and what takes its part
    begins: list[int] = []
    places: list[int] = []
    ends: list[int] = []
    for index, record in enumerate(records):
        here = parts.get(index, _ITSELF)
        begins.append(len(table))
        places.append(len(table) + (here.index(None) if None in here else len(here) - 1))
        for draft in here:
            if draft is None:
                table.append(record)
                kernels.append(program.kernels[index])
                maps.append(program.maps[index])
            else:
                made = make_program(program.name, program.batch, program.dtype, [draft], (), {})
                table.append(made.records[0])
                kernels += made.kernels
                maps += made.maps
            labels.append(program.labels[index])
        ends.append(len(table) - 1)
    stacked = np.stack(table)
    for loop in loops_of(records):
        stacked[places[loop.start], OPS["repeat"].word("body")] = ends[loop.last] - places[loop.start]
    stacked.flags.writeable = False
    known = [replace(each, first=places[each.first], last=ends[each.last]) for each in program.values]
    added = [replace(each, first=begins[each.first], last=ends[each.last]) for each in values]
    chains = [each._replace(first=places[each.first], last=places[each.last]) for each in program.chains]
    end = max([program.arena_bytes, *(each.offset + align(each.nbytes) for each in added)])
    return replace(
        program, records=stacked, kernels=tuple(kernels), maps=tuple(maps), labels=tuple(labels),
        values=(*known, *added), sizes={**program.sizes, Buffer.ARENA: end}, chains=tuple(chains),
    )  # fmt: skip
