"""The CPU backend: a program whose records hold addresses of kernels, and the call that runs it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastnn.addresses import address
from fastnn.backend.cpu.executor import sharing
from fastnn.backend.cpu.executor.chains import CHAIN, arrange
from fastnn.backend.cpu.executor.raised import raised
from fastnn.backend.cpu.layouts.team import FINER
from fastnn.backend.cpu.loading import library
from fastnn.backend.cpu.loading.entry_point import EntryPoint
from fastnn.backend.cpu.loading.helpers import helping
from fastnn.backend.cpu.loading.library import Loaded
from fastnn.backend.cpu.processor import cost
from fastnn.backend.cpu.processor.blocking import ALLOCATING, CONVOLUTIONS, PRODUCTS, SCRATCH_BYTES, Blocking
from fastnn.backend.cpu.processor.convolutions import convolution_variant
from fastnn.backend.cpu.threads import thread_pool
from fastnn.console import compiling
from fastnn.formulas import custom
from fastnn.program.layout import (
    CONTEXT_WORDS,
    DIMS_AT,
    FLAGS_WORD,
    KERNEL_WORD,
    MAP_WORD,
    PARAMS_AT,
    Buffer,
    Counter,
    Flag,
    Status,
)
from fastnn.program.program import Program, aligned_zeros
from fastnn.program.record import KernelKey, dims_of
from fastnn.threads import get_num_threads

RUN = KernelKey("run", "int64")
_SCRATCH = int(Buffer.SCRATCH)
#: the ops that apply relu, or its gradient, to sums in registers
RECTIFYING = ("matmul", "conv", "conv_back")
# the ops that have several kernels, for different shapes
_SPECIALIZED = frozenset((*PRODUCTS, *CONVOLUTIONS))


def specialize(key: KernelKey, record: NDArray[np.int64]) -> KernelKey:
    """Return the kernel that runs a record: some ops have several, for different shapes."""
    if key.op not in _SPECIALIZED or key.variant:
        return key
    dims = dims_of(record)
    if key.op in CONVOLUTIONS:
        return replace(key, variant=convolution_variant(key.op, key.dtype, dims))
    flags = int(record[FLAGS_WORD])
    transposed = bool(flags & Flag.TRANSPOSE_A), bool(flags & Flag.TRANSPOSE_B)
    algorithm = Blocking.of(key.dtype).algorithm(dims["m"], dims["n"], dims["k"], *transposed)
    many = key.op == "batched_matmul" and dims["samples"] * dims["count"] > 1
    return replace(key, variant="simple" if many and algorithm == "blocked" else algorithm)


def kernels_of(program: Program) -> list[KernelKey]:
    """Return the kernel of every record."""
    found: dict[tuple[KernelKey, bytes], KernelKey] = {}  # layers of a deep network are alike
    kernels = []
    for key, record in zip(program.kernels, program.records, strict=True):
        if key.op in _SPECIALIZED:
            described = key, record[FLAGS_WORD : FLAGS_WORD + 1].tobytes() + record[DIMS_AT:PARAMS_AT].tobytes()
            if described not in found:
                found[described] = specialize(key, record)
            key = found[described]
        kernels.append(key)
    return kernels


def functions_of(program: Program) -> set[KernelKey]:
    """Return all compiled functions that a program calls, kernels and mapped functions."""
    return {*kernels_of(program), *(key for key in program.maps if key is not None)}


def prepare(keys: set[KernelKey]) -> dict[KernelKey, Loaded]:
    """Load or compile functions, with a progress bar on a terminal when several have to be compiled.

    If there is much to compile, other processes help, on as many cores as fastnn may use.

    Returns
    -------
    dict
        The kernels of user-defined functions, which exist as long as they are referenced.
    """
    with helping(library.missing(keys), get_num_threads()) as absent:
        held = {key: library.ready(key) for key in compiling(absent, "kernels")}
    held.update((key, library.ready(key)) for key in keys)
    return {key: kernel for key, kernel in held.items() if kernel is not None}


def bind(program: Program, kernels: Sequence[KernelKey], held: Mapping[KernelKey, Loaded]) -> NDArray[np.int64]:
    """Return a program's records with the addresses of their kernels and mapped functions.

    Kernels of user-defined functions that are not in `held` are never freed.
    """
    wanted = {*kernels, *(key for key in program.maps if key is not None)}
    places = addresses_of(wanted, held)
    records = flagged(program)
    for record, key, mapped in zip(records, kernels, program.maps, strict=True):
        record[KERNEL_WORD] = places[key]
        if mapped is not None:
            record[MAP_WORD] = places[mapped]
    return records


def addresses_of(keys: Iterable[KernelKey], held: Mapping[KernelKey, Loaded]) -> dict[KernelKey, int]:
    """Return addresses of functions; user-defined ones that are not in `held` are never freed."""
    return {key: held[key].address if key in held else library.address(key) for key in keys}


def flagged(program: Program) -> NDArray[np.int64]:
    """Return a copy of a program's records, in which products say whether they rectify."""
    records = program.records.copy()
    for record, key, mapped in zip(records, program.kernels, program.maps, strict=True):
        if mapped is not None and key.op in RECTIFYING and mapped.variant == "relu":
            record[FLAGS_WORD] |= int(Flag.RECTIFY)  # NumPy loses a Ctrl-C that arrives while it converts an enum
    return records


class _Scratch(threading.local):
    """Scratch memory of kernels, one piece per part; the system allocates pages when they are first written.

    A run takes it and gives it back. A run that a signal handler or a finalizer starts in between finds none, and makes
    new memory, which is dropped unless it is larger.
    """

    memory: NDArray[np.uint8] | None = None

    def take(self, parts: int) -> NDArray[np.uint8]:
        """Return memory for `parts` parts, for exclusive use until it is given back."""
        memory, self.memory = self.memory, None
        if memory is None or memory.nbytes < parts * SCRATCH_BYTES:
            memory = aligned_zeros(parts * SCRATCH_BYTES)
        return memory

    def give(self, memory: NDArray[np.uint8]) -> None:
        """Keep memory for the next run."""
        kept = self.memory
        if kept is None or kept.nbytes < memory.nbytes:
            self.memory = memory


_scratch = _Scratch()


@contextmanager
def scratch(context: NDArray[np.int64], parts: int) -> Iterator[None]:
    """Give a context the calling thread's scratch memory."""
    memory = _scratch.take(parts)
    context[_SCRATCH] = address(memory)
    try:
        yield
    finally:
        _scratch.give(memory)


class BoundProgram:
    """A verified program prepared for the CPU; many contexts may run it.

    Parameters
    ----------
    program : Program
        From `fastnn.lower.lower`; its kernels are loaded or compiled here.
    """

    def __init__(self, program: Program) -> None:
        kernels = kernels_of(program)
        self._held = prepare({RUN, *functions_of(program), *([CHAIN] if program.chains else [])})
        records = bind(program, kernels, self._held)
        #: whether a user-defined function prints or enters object mode, and so runs Python in the middle of the program
        self.calls_python = any(kernel.calls_python for kernel in self._held.values())
        arranged = arrange(program, records)
        records = arranged.records
        #: the number that each record has in the program; -1 for those that stand for a chain
        self.numbers = arranged.numbers
        #: how many records a step runs: a chain is one of them
        self.count = arranged.run
        for place in arranged.chains():
            records[place, KERNEL_WORD] = library.address(CHAIN)
        #: nanoseconds of a step that a team can share; 0 if it calls Python, which needs the GIL and has one exception
        self.shared = cost.cut(records[: self.count], program.dtype)
        if self.calls_python:
            self.shared = 0.0
        #: for short programs, whether sharing pays on this machine
        self.sharing = sharing.of_work(cost.total(records[: self.count], program.dtype)) if self.shared else None
        records.flags.writeable = False
        self.program = program
        #: whether kernels need scratch memory
        self.scratches = any(key.variant == "blocked" or key.op in ALLOCATING for key in kernels)
        self._records = records
        self.address = int(records.ctypes.data)

    def shares(self, threads: int) -> bool:
        """Return whether a team of threads shares the next run."""
        if threads == 1 or self.shared == 0.0:
            return False
        return self.sharing is None or not self.sharing.alone(threads)

    def is_alone(self, threads: int) -> bool:
        """Return whether runs with a team stay on the calling thread: there is nothing to share, or it does not pay."""
        return not self.shares(threads) and (self.sharing is None or self.sharing.decided)

    def _index_of(self, record: int) -> int:
        """Return the number of the record at an address, -1 if it is none of the program's."""
        place, rest = divmod(record - self.address, self._records.strides[0])
        return int(self.numbers[place]) if rest == 0 and 0 <= place < len(self._records) else -1

    def allocating_at(self, record: int) -> str:
        """Return the layer of the record at an address if its kernel may allocate memory, or ""."""
        index = self._index_of(record)
        return self.program.labels[index] if index >= 0 and self.program.kernels[index].op in ALLOCATING else ""

    def function_at(self, record: int) -> str:
        """Return name and place of the user-defined function that the record at an address calls, or ""."""
        index = self._index_of(record)
        if index < 0:
            return ""
        keys = [key.variant for key in (self.program.kernels[index], self.program.maps[index]) if key is not None]
        users = custom.first(*keys)
        return "" if users is None else users.described()

    def run(self, context: NDArray[np.int64], steps: int, threads: int = 1, parts: int = 0) -> int:
        """Run the program on a context; see `Runner`, whose repeated runs are cheaper."""
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
        self._entry = EntryPoint(library.address(RUN), 0, 0, int(context.ctypes.data), 0, 1, 0)

    def run(self, bound: BoundProgram, steps: int, threads: int = 1, parts: int = 0) -> int:
        """Run a program `steps` times and return the number of finished steps. The GIL is released.

        Parameters
        ----------
        threads : int
            Maximum number of threads, used where that pays. Does not change the results.
        parts : int, optional
            Cut every record into this many parts, which run one by one on the calling thread; for tests.
        """
        measured = bound.sharing if threads > 1 and parts == 0 else None
        shares = parts == 0 and bound.shares(threads)
        together = thread_pool.gather(threads, steps * bound.shared) if shares else 0
        if measured is None or measured.decided:
            done = self._start(bound, steps, threads if together else parts or 1, together)
        else:
            started = measured.start()
            done = self._start(bound, steps, threads if together else 1, together)
            measured.finish(started, steps, shared=together != 0)
        if shares:
            thread_pool.ended()
        if done != steps:
            self.check(bound)
        return done

    def _start(self, bound: BoundProgram, steps: int, parts: int, together: int) -> int:
        """Run a program with at most this many parts of a record, by the team at an address or one by one."""
        words = self._entry.arguments
        words[0], words[1], words[3] = bound.address, bound.count, steps
        words[4], words[5] = parts, together
        if not bound.scratches:
            return self._entry.start()
        with scratch(self._context, parts * FINER if together else parts):
            return self._entry.start()

    def check(self, *programs: BoundProgram) -> None:
        """Raise if a kernel of one of the programs has raised."""
        context = self._context
        if context[Counter.STATUS] == Status.KERNEL_RAISED:
            context[Counter.STATUS] = Status.RUNNING  # the context may serve other calls
            record = int(context[Counter.STATUS_DETAIL])
            name = next(filter(None, (bound.function_at(record) for bound in programs)), "")
            layer = next(filter(None, (bound.allocating_at(record) for bound in programs)), "")
            if layer and not name:
                raise MemoryError(f"layer {layer!r}: no memory for the edges and the weights of its convolution")
            raise raised(name, int(context[Counter.ERROR]))
