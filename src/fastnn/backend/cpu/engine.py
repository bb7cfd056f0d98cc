"""The CPU backend: a program whose records hold addresses of kernels, and the call that runs it."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu import library
from fastnn.program.layout import CONTEXT_WORDS, KERNEL_WORD, MAP_WORD, Counter, Status
from fastnn.program.program import KernelKey, Program

RUN = KernelKey("run", "int64")


@cache
def _run() -> Any:
    return library.native(RUN, 5)


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


class BoundProgram:
    """A verified program made ready for the CPU; many contexts may run it.

    Parameters
    ----------
    program : Program
        From `fastnn.lower.lower`; its kernels are loaded or compiled here.
    """

    def __init__(self, program: Program) -> None:
        keys = {*program.kernels, *(key for key in program.maps if key is not None), RUN}
        prepare(keys)
        records = program.records.copy()
        for record, key, mapped in zip(records, program.kernels, program.maps, strict=True):
            record[KERNEL_WORD] = library.address(key)
            if mapped is not None:
                record[MAP_WORD] = library.address(mapped)
        records.flags.writeable = False
        self.program = program
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
        done: int = self._call(self._address, len(self._records), context.ctypes.data, steps, parts)
        if context[Counter.STATUS] == Status.KERNEL_RAISED:
            raise RuntimeError("a compiled kernel raised: this is a bug in fastnn")
        return done
