"""The CPU backend: a program whose records hold addresses of kernels, and the call that runs it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu import library, team, work
from fastnn.backend.cpu.blocking import SCRATCH_BYTES, Blocking
from fastnn.backend.cpu.entry import Entry
from fastnn.backend.cpu.team_layout import FINER
from fastnn.console import compiling
from fastnn.formulas.own import find
from fastnn.program.layout import CONTEXT_WORDS, FLAGS_WORD, KERNEL_WORD, MAP_WORD, Buffer, Counter, Flag, Status
from fastnn.program.program import KernelKey, Program, aligned_zeros, dims_of

_USERS = "a function of your own"
RAISED = (
    f"a compiled kernel raised: {_USERS} (an exception, a failed assert, an index out of bounds), or a bug in fastnn"
)
RUN = KernelKey("run", "int64")
_SCRATCH = int(Buffer.SCRATCH)


def raised(program: Program) -> str:
    """Say that a kernel raised, with the names of the user's functions that the program calls."""
    keys = {key.variant for key in (*program.kernels, *program.maps) if key is not None}
    names = [own.described() for own in map(find, sorted(keys)) if own is not None]
    return RAISED.replace(_USERS, f"{_USERS}, {' or '.join(names)}") if names else RAISED


def specialize(key: KernelKey, record: NDArray[np.int64]) -> KernelKey:
    """Return the kernel that runs a record: of some ops there are several, for different shapes."""
    if key.op != "matmul" or key.variant:
        return key
    dims, flags = dims_of(record), int(record[FLAGS_WORD])
    transposed = bool(flags & Flag.TRANSPOSE_A), bool(flags & Flag.TRANSPOSE_B)
    return replace(key, variant=Blocking.of(key.dtype).way(dims["m"], dims["n"], dims["k"], *transposed))


def kernels_of(program: Program) -> list[KernelKey]:
    """Return the kernel of every record."""
    return [specialize(key, record) for key, record in zip(program.kernels, program.records, strict=True)]


def functions_of(program: Program) -> set[KernelKey]:
    """Return all compiled functions that a program calls, kernels and mapped functions."""
    return {*kernels_of(program), *(key for key in program.maps if key is not None)}


def prepare(keys: set[KernelKey]) -> None:
    """Load or compile functions, with a progress bar on a terminal when several have to be compiled."""
    for key in compiling(library.missing(keys), "kernels"):
        library.address(key)
    for key in keys:
        library.address(key)


def bind(program: Program, kernels: Sequence[KernelKey]) -> NDArray[np.int64]:
    """Return a program's records with the addresses of their kernels and mapped functions."""
    prepare({*kernels, *(key for key in program.maps if key is not None)})
    records = program.records.copy()
    for record, key, mapped in zip(records, kernels, program.maps, strict=True):
        record[KERNEL_WORD] = library.address(key)
        if mapped is not None:
            record[MAP_WORD] = library.address(mapped)
            if key.op == "matmul" and mapped.variant == "relu":
                record[FLAGS_WORD] |= int(Flag.RECTIFY)  # NumPy drops a Ctrl-C that meets its look at an enum
    return records


class _Scratch(threading.local):
    """Memory for kernels' own use, one piece a part; the system gives pages as they are first written."""

    def __init__(self) -> None:
        self.parts, self.memory, self.address = 0, aligned_zeros(0), 0

    def of(self, parts: int) -> int:
        """Return the address of the pieces for so many parts."""
        if parts > self.parts:
            self.parts, self.memory = parts, aligned_zeros(parts * SCRATCH_BYTES)
            self.address = int(self.memory.ctypes.data)
        return self.address


_scratch = _Scratch()


def scratch(parts: int) -> int:
    """Return the address of the calling thread's memory for kernels' own use."""
    return _scratch.of(parts)


class BoundProgram:
    """A verified program made ready for the CPU; many contexts may run it.

    Parameters
    ----------
    program : Program
        From `fastnn.lower.lower`; its kernels are loaded or compiled here.
    """

    def __init__(self, program: Program) -> None:
        kernels = kernels_of(program)
        prepare({RUN, *functions_of(program)})
        records = bind(program, kernels)
        #: nanoseconds of a step that a team can share
        self.shared = work.cut(records, program.dtype)
        records.flags.writeable = False
        self.program = program
        #: whether kernels need scratch memory
        self.scratches = any(key.variant == "blocked" for key in kernels)
        self._records = records
        self.address = int(records.ctypes.data)

    def run(self, context: NDArray[np.int64], steps: int, threads: int = 1, parts: int = 0) -> int:
        """Run the program once on a context; see `Runner`, which does it many times at less cost."""
        return Runner(context).run(self, steps, threads, parts)


class Runner:
    """Runs programs on one context, one at a time.

    Parameters
    ----------
    context : ndarray, int64, shape (CONTEXT_WORDS,)
        Addresses of all buffers that the programs use, and the counters. The caller keeps the buffers alive and
        large enough.
    """

    def __init__(self, context: NDArray[np.int64]) -> None:
        if context.shape != (CONTEXT_WORDS,) or context.dtype != np.int64 or not context.flags.c_contiguous:
            raise ValueError(f"a context has {CONTEXT_WORDS} int64 words, got {context.dtype} {context.shape}")
        self._context = context
        self._entry = Entry(library.address(RUN), 0, 0, int(context.ctypes.data), 0, 1, 0)

    def run(self, bound: BoundProgram, steps: int, threads: int = 1, parts: int = 0) -> int:
        """Run a program `steps` times and return how many steps were finished. The GIL is released.

        Parameters
        ----------
        threads : int
            How many threads may work, where that pays. Does not change the results.
        parts : int, optional
            Cut every record into so many parts, which run in turn on the calling thread; for tests.
        """
        shares = threads > 1 and parts == 0 and bound.shared > 0.0
        together = team.gather(threads, steps * bound.shared) if shares else 0
        done = self.starter(bound, steps, threads if together else parts or 1, together)()
        if shares:
            team.ended()
        if done != steps:
            self.check(bound.program)
        return done

    def prepared(self, bound: BoundProgram, steps: int, threads: int) -> Callable[[], int]:
        """Return what runs a program as `run` does, with less to do a call where no work is shared; see `starter`."""
        if threads == 1 or bound.shared == 0.0:
            return self.starter(bound, steps)
        return lambda: self.run(bound, steps, threads)

    def starter(self, bound: BoundProgram, steps: int, parts: int = 1, together: int = 0) -> Callable[[], int]:
        """Return what runs a program, as `run` does; to be called until the runner is given another program.

        Parameters
        ----------
        parts : int
            Into how many parts each record is cut at most.
        together : int
            The address of the team that the parts are shared with; without one they run in turn.

        The caller keeps the program alive, and calls `check` where fewer steps were finished.
        """
        words = self._entry.arguments
        words[0], words[1], words[3] = bound.address, len(bound.program), steps
        words[4], words[5] = parts, together
        if not bound.scratches:
            return self._entry.start
        context, scratch, start = memoryview(self._context.data), _scratch, self._entry.start

        def start_with_scratch() -> int:
            # the calling thread's own: another may have prepared the call
            context[_SCRATCH] = scratch.of(parts * FINER if together else parts)
            return start()

        return start_with_scratch

    def check(self, program: Program) -> None:
        """Raise where a kernel stopped the program that was run in a way that it must not."""
        if self._context[Counter.STATUS] == Status.KERNEL_RAISED:
            self._context[Counter.STATUS] = Status.RUNNING  # the context may serve other calls
            raise RuntimeError(raised(program))
