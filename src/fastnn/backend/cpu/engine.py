"""The CPU backend: a program whose records hold addresses of kernels, and the call that runs it."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu import library
from fastnn.backend.cpu.blocking import SCRATCH_BYTES, Blocking
from fastnn.program.layout import CONTEXT_WORDS, FLAGS_WORD, KERNEL_WORD, MAP_WORD, Buffer, Counter, Flag, Status
from fastnn.program.program import KernelKey, Program, aligned_zeros, dims_of

RUN = KernelKey("run", "int64")


@cache
def _run() -> Any:
    return library.native(RUN, 5)


def specialize(key: KernelKey, record: NDArray[np.int64]) -> KernelKey:
    """Return the kernel that runs a record: of some ops there are several, for different shapes."""
    if key.op != "matmul" or key.variant:
        return key
    dims, flags = dims_of(record), int(record[FLAGS_WORD])
    transposed = bool(flags & Flag.TRANSPOSE_A), bool(flags & Flag.TRANSPOSE_B)
    return replace(key, variant=Blocking.of(key.dtype).way(dims["m"], dims["n"], dims["k"], *transposed))


def prepare(keys: set[KernelKey]) -> None:
    """Load or compile functions, with a progress bar on a terminal when several have to be compiled."""
    missing = library.missing(keys)
    if len(missing) > 2 and sys.stderr is not None and sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(missing, desc="compiling kernels (once)", unit="kernel", leave=False) as bar:
            for key in bar:
                library.address(key)
    for key in keys:
        library.address(key)


class _Scratch(threading.local):
    """Memory for kernels' own use, one piece a part; the system gives pages as they are first written."""

    memory = aligned_zeros(0)


_threads = _Scratch()


def _scratch(parts: int) -> int:
    if _threads.memory.nbytes < parts * SCRATCH_BYTES:
        _threads.memory = aligned_zeros(parts * SCRATCH_BYTES)
    return _threads.memory.ctypes.data


class BoundProgram:
    """A verified program made ready for the CPU; many contexts may run it.

    Parameters
    ----------
    program : Program
        From `fastnn.lower.lower`; its kernels are loaded or compiled here.
    """

    def __init__(self, program: Program) -> None:
        kernels = [specialize(key, record) for key, record in zip(program.kernels, program.records, strict=True)]
        prepare({*kernels, *(key for key in program.maps if key is not None), RUN})
        records = program.records.copy()
        for record, key, mapped in zip(records, kernels, program.maps, strict=True):
            record[KERNEL_WORD] = library.address(key)
            if mapped is not None:
                record[MAP_WORD] = library.address(mapped)
                if key.op == "matmul" and mapped.variant == "relu":
                    record[FLAGS_WORD] |= Flag.RECTIFY
        records.flags.writeable = False
        self.program = program
        self._scratches = any(key.variant == "blocked" for key in kernels)
        self._records = records
        self._address = records.ctypes.data
        self._call = _run()

    def run(self, context: NDArray[np.int64], steps: int, parts: int = 1) -> int:
        """Run the program `steps` times and return how many steps were finished.

        Parameters
        ----------
        context : ndarray, int64, shape (CONTEXT_WORDS,)
            Addresses of all buffers that the program uses, and the counters. The caller keeps the buffers
            alive and large enough. The GIL is released.
        parts : int
            Into how many parts each kernel's work is cut.
        """
        if context.shape != (CONTEXT_WORDS,) or context.dtype != np.int64 or not context.flags.c_contiguous:
            raise ValueError(f"a context has {CONTEXT_WORDS} int64 words, got {context.dtype} {context.shape}")
        if self._scratches:
            context[Buffer.SCRATCH] = _scratch(parts)
        done: int = self._call(self._address, len(self._records), context.ctypes.data, steps, parts)
        if context[Counter.STATUS] == Status.KERNEL_RAISED:
            raise RuntimeError("a compiled kernel raised: this is a bug in fastnn")
        return done
