"""The verifier: it checks a program once, before any backend runs it, because kernels check nothing."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from fastnn.program.chain_rules import broken_chains
from fastnn.program.layout import (
    ABSENT,
    ALIGNMENT,
    BY_CODE,
    DIMS_AT,
    FLAGS_WORD,
    MAX_BUFFERS,
    OP_WORD,
    OPERANDS_AT,
    RECORD_WORDS,
    SHARED,
    Buffer,
    Flag,
    decode,
    is_window,
)
from fastnn.program.loop_rules import LoopState
from fastnn.program.op import Op
from fastnn.program.program import Program, Value
from fastnn.program.record import KernelKey, OperandView, dims_of, op_of, operands_of, params_of
from fastnn.program.rules import broken_place, broken_rule


class ProgramError(RuntimeError):
    """A program breaks a rule that kernels rely on: a bug in fastnn, never caused by the user's input."""


def verify(program: Program) -> None:
    """Check every record and the arena plan.

    Raises
    ------
    ProgramError
        When an op is unknown, a required operand is missing, an operand is out of its buffer's range or not
        aligned, a value is read before it is written or outside its planned life, two values that live at the
        same time overlap, a dimension or parameter is out of range, the records of a chain cannot run piece by piece,
        or a loop leaves its windows or loses what a round leaves for the next one.
    """
    if program.records.shape[1:] != (RECORD_WORDS,) or program.records.dtype != np.int64:
        raise ProgramError(f"records have shape {program.records.shape} and dtype {program.records.dtype}")
    _check_overlaps(program)
    by_offset: dict[int, list[Value]] = defaultdict(list)
    for value in sorted(program.values, key=lambda value: value.first):
        by_offset[value.offset].append(value)
    forms = _Forms(program)
    written: set[int] = set()
    loops = LoopState(program.records, program.dtype)
    for index in range(len(program)):
        where, views = _Where(program, index), forms.views(index)
        broken = broken_place(views) or loops.broken(index, views)
        if broken is not None:
            raise ProgramError(f"{where} {broken}")
        accumulates = bool(int(program.records[index, FLAGS_WORD]) & Flag.ACCUMULATE.value)
        for view in views:
            _check_place(view, program, where, BY_CODE[int(program.records[index, OP_WORD])])
            if view.buffer == Buffer.ARENA:
                value = _owner(view, by_offset[view.offset], index, where)
                broken = loops.broken_life(index, value)
                if broken is not None:
                    raise ProgramError(f"{where} {broken}")
                # if the gradients of gamma and beta accumulate, dx is still overwritten
                if view.spec.access == "write" and not (accumulates and view.spec.name != "dx"):
                    written.add(id(value))
                elif id(value) not in written:
                    raise ProgramError(f"{where} reads {value.name!r} before anything wrote it")
    broken = broken_chains(program.records, program.chains, program.values, program.dtype)
    if broken is not None:
        raise ProgramError(broken)


class _Where:
    """Names a record in an error; the text is made only if there is one."""

    __slots__ = ("index", "program")

    def __init__(self, program: Program, index: int) -> None:
        self.program, self.index = program, index

    def __str__(self) -> str:
        program, index = self.program, self.index
        return f"record {index} ({program.kernels[index]}, {program.labels[index]})"


class _Forms:
    """The operands of a program's records, checked except for their places.

    Records that differ only in places have the same form, which is checked once: the layers of a deep network are
    alike. This takes two thirds off the time to verify a program of 2,000 layers.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._records = program.records.tolist()
        described = program.records.copy()
        described[:, OPERANDS_AT:DIMS_AT] = described[:, OPERANDS_AT:DIMS_AT] == ABSENT
        self._described = described
        self._known: dict[tuple[bytes, KernelKey, KernelKey | None], list[tuple[int, OperandView]]] = {}

    def views(self, index: int) -> list[OperandView]:
        """Return the operands of a record.

        Raises
        ------
        ProgramError
            If the record breaks a rule that does not depend on places.
        """
        program = self._program
        form = self._described[index].tobytes(), program.kernels[index], program.maps[index]
        known = self._known.get(form)
        if known is None:
            known = self._known[form] = self._checked(index)
        words = self._records[index]
        return [OperandView(view.spec, *decode(words[at]), view.shape, view.nbytes) for at, view in known]

    def _checked(self, index: int) -> list[tuple[int, OperandView]]:
        program, where = self._program, _Where(self._program, index)
        record = program.records[index]
        _check_words(record, where)
        views = operands_of(record, program.dtype)
        broken = broken_rule(record, program.kernels[index], program.maps[index], program.dtype, views)
        if broken is not None:
            raise ProgramError(f"{where} {broken}")
        return [(op_of(record).word(view.spec.name), view) for view in views]


def _check_overlaps(program: Program) -> None:
    # the live values, by offset: as they are disjoint, a new one can overlap only its neighbours
    alive: list[tuple[int, int, Value]] = []
    ends: list[tuple[int, int, int, Value]] = []
    for number, value in enumerate(sorted(program.values, key=lambda value: value.first)):
        if value.offset % ALIGNMENT or value.nbytes < 0 or value.first > value.last:
            raise ProgramError(f"value {value} is not aligned or has no life")
        if value.offset + value.nbytes > program.arena_bytes:
            raise ProgramError(f"value {value.name!r} ends past the arena's {program.arena_bytes} bytes")
        while ends and ends[0][0] < value.first:
            _, offset, dead, _ = heappop(ends)
            del alive[bisect_left(alive, (offset, dead))]
        at = bisect_left(alive, (value.offset, number))
        for _, _, other in alive[max(at - 1, 0) : at + 1]:
            if other.offset < value.offset + value.nbytes and value.offset < other.offset + other.nbytes:
                raise ProgramError(f"values {other} and {value} live at the same time and overlap")
        alive.insert(at, (value.offset, number, value))
        heappush(ends, (value.last, value.offset, number, value))


def _check_words(record: NDArray[np.int64], where: _Where) -> None:
    code = int(record[OP_WORD])
    if not 0 <= code < len(BY_CODE):
        raise ProgramError(f"{where} has the unknown op {code}")
    op = BY_CODE[code]
    for index, operand in enumerate(op.operands):
        if not operand.optional and int(record[OPERANDS_AT + index]) == ABSENT:
            raise ProgramError(f"{where} lacks the operand {operand.name!r}")
    if (record[OPERANDS_AT + len(op.operands) : DIMS_AT] != ABSENT).any():
        raise ProgramError(f"{where} has more operands than {op.name!r} takes")
    for name, size in dims_of(record).items():
        if (size < 0 and name not in op.may_be_any) or (size == 0 and name not in op.may_be_zero):
            raise ProgramError(f"{where} has the dimension {name}={size}")
    for name, number in params_of(record).items():
        if not np.isfinite(number):
            raise ProgramError(f"{where} has the parameter {name}={number}")


def _check_place(view: OperandView, program: Program, where: _Where, op: Op) -> None:
    name = view.spec.name
    if is_window(view.buffer):
        return  # its loop has been asked
    if not 0 <= view.buffer < MAX_BUFFERS:
        raise ProgramError(f"{where}: operand {name!r} names buffer {view.buffer}")
    is_data = Buffer.DATA <= view.buffer < SHARED
    if is_data and view.buffer not in program.sizes:
        if view.offset or view.spec.kind != "any":
            raise ProgramError(f"{where}: operand {name!r} may not lie in a data slot")
        return
    if view.buffer == Buffer.INDEX:
        return
    size = program.sizes.get(view.buffer)
    if size is None or view.offset + view.nbytes > size:
        raise ProgramError(
            f"{where}: operand {name!r} takes bytes {view.offset} to {view.offset + view.nbytes} "
            f"of buffer {view.buffer}, which has {size}"
        )
    alignment = 8 if view.buffer in (Buffer.ACCUMULATORS, Buffer.HYPER) else ALIGNMENT
    if is_data and view.spec.access == "update" and not op.keeps_state:
        raise ProgramError(f"{where}: operand {name!r} would be read from an array that is to be filled")
    if view.offset % alignment:
        raise ProgramError(f"{where}: operand {name!r} at {view.offset} is not aligned to {alignment}")
    if view.spec.access == "write" and (view.buffer == Buffer.PARAMETERS or view.buffer >= SHARED):
        raise ProgramError(f"{where}: operand {name!r} would overwrite parameters")


def _owner(view: OperandView, candidates: list[Value], index: int, where: _Where) -> Value:
    at = bisect_right(candidates, index, key=lambda value: value.first)
    while at:
        at -= 1
        value = candidates[at]
        if view.nbytes <= value.nbytes and value.first <= index <= value.last:
            return value
        if value.nbytes:
            break  # earlier ones are dead: values at one place do not live at the same time
    raise ProgramError(
        f"{where}: operand {view.spec.name!r} (arena +{view.offset:#x}, {view.nbytes} bytes) is no value that "
        f"lives then; planned there: {candidates}"
    )
