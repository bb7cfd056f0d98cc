"""Control records of loops: one says that a loop begins, the others move windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import address, has, int64_pointer
from fastnn.backend.cpu.codegen.kernel import Kit, kernel
from fastnn.program.layout import WINDOWS, Counter, Status
from fastnn.program.opcodes import OPS

_STATUS, _ROUND, _REPEATS, _WINDOWS = int(Counter.STATUS), int(Counter.ROUND), int(Status.REPEATS), int(WINDOWS)


@kernel("repeat")
def repeat(kit: Kit, variant: str) -> Callable[..., Any]:
    """Tell the executor that a loop begins, by the status, at which it looks after every record anyway."""

    def repeat(record, context, ith, nth):
        int64_pointer(context)[_STATUS] = _REPEATS

    return repeat


@kernel("window")
def window(kit: Kit, variant: str) -> Callable[..., Any]:
    """Write into the context where a window begins in the present round."""
    number, first, step, item = kit.words("number first step item")
    stacks = kit.words(" ".join(spec.name for spec in OPS["window"].operands))
    begin, end = min(stacks), max(stacks) + 1

    def window(record, context, ith, nth):
        r, words = int64_pointer(record), int64_pointer(context)
        for word in range(begin, end):
            if has(record, word):
                words[_WINDOWS + r[number]] = (
                    address(record, context, word) + (r[first] + words[_ROUND] * r[step]) * r[item]
                )

    return window
