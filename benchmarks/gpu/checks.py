"""Every op on the GPU against the float64 reference: the tests' cases, and larger ones, on fresh random numbers."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from fastnn.backend.cuda.driver import available
from gpu import oracle, shapes
from gpu.child import RestartNeeded
from gpu.events import Job
from gpu.settings import Settings

# If everything raises, a few are enough.
TRACEBACKS = 5


def work(settings: Settings) -> Iterator[tuple[Any, str, str]]:
    """Yield (case, dtype, precision) in the order in which they are checked."""
    table = oracle.cases(settings)
    for dtype in settings.dtypes:
        for case in table:
            yield case, dtype, "float32"
    for precision in oracle.BITS:
        for case in table:
            if case.op in oracle.FACTORS and oracle.rounds_operands(case, precision):
                yield case, "float32", precision
    yield from shapes.larger(settings)


def run(job: Job) -> None:
    """Check all cases, starting after those of an earlier process."""
    check_all(job, available.open_device(0), list(work(job.settings)))


def check_all(job: Job, device: Any, todo: Sequence[tuple[Any, str, str]]) -> None:
    """Check cases as time allows."""
    job.fact(salt=job.salt)
    job.fact(cases=len(todo))
    raised = 0
    for number, (case, dtype, precision) in enumerate(todo[job.resume :], job.resume):
        if job.out():
            job.stop(f"{number} of {len(todo)} cases were checked")
            return
        name = f"{case.id} {dtype}" + (f" in {precision}" if precision != "float32" else "")
        job.begin(name)
        begin = time.perf_counter()
        try:
            found = oracle.check(case, dtype, precision, job.salt, device)
        except AssertionError as error:
            job.fail(f"{name}: {error}")
        except Exception as error:
            job.fail(f"{name}: {type(error).__name__}: {error}")
            if raised < TRACEBACKS:
                job.note(traceback.format_exc(limit=-3))
            raised += 1
            _go_on(device)
        else:
            seconds = round(time.perf_counter() - begin, 3)
            job.item(op=case.op, case=case.id, dtype=dtype, precision=precision, seconds=seconds, **found)
            if found["ratio"] > 1.0:
                job.fail(f"{name}: {found['output']} is off by {found['ratio']:.3g} of what it may be")
            if not found["same"]:
                job.fail(f"{name}: two runs differ in their bits")
            if found["wrong"]:
                job.fail(f"{name}: {found['wrong']}")


def _go_on(device: Any) -> None:
    """Request another process if the driver no longer responds in this one."""
    try:
        device.synchronize()
    except Exception:
        raise RestartNeeded from None
