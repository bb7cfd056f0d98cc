"""The executor: the one loop that runs programs, N steps without touching Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.intrinsics import call_kernel, int64_pointer
from fastnn.backend.cpu.kernels.kit import Kit, kernel
from fastnn.program.layout import KERNEL_WORD, RECORD_WORDS, Counter, Status

_RECORD_BYTES = RECORD_WORDS * 8
_STATUS = int(Counter.STATUS)
_RAISED = int(Status.KERNEL_RAISED)


@kernel("run", arguments=5, returns=True)
def run(kit: Kit, variant: str) -> Callable[..., Any]:
    """Run `count` records `steps` times and return how many steps were finished.

    Each kernel's work is cut into `nth` parts, which run one after the other; the results do not depend on
    their number. A record that sets the context's status stops the program there.
    """

    def run(records, count, context, steps, nth):
        counters = int64_pointer(context)
        for step in range(steps):
            for index in range(count):
                record = records + index * _RECORD_BYTES
                kernel_address = int64_pointer(record)[KERNEL_WORD]
                for ith in range(nth):
                    if call_kernel(kernel_address, record, context, ith, nth) != 0:
                        counters[_STATUS] = _RAISED
                if counters[_STATUS] != 0:
                    return step
        return steps

    return run
