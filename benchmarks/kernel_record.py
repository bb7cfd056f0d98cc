"""One record of a program as a callable: a kernel without a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn
from fastnn.backend.cpu.executor.engine import BoundProgram
from fastnn.program.layout import CONTEXT_WORDS, NO_FLAGS, Buffer, Counter, Flag, encode
from fastnn.program.opcodes import OPS
from fastnn.program.program import RecordDraft, aligned_zeros, make_program
from fastnn.program.record import KernelKey

Array = NDArray[Any]


def aligned(values: Array) -> Array:
    """Copy an array to memory with the alignment of a model's buffers."""
    array = aligned_zeros(values.nbytes).view(values.dtype).reshape(values.shape)
    array[...] = values
    return array


class Record:
    """A program of one record, bound to arrays.

    Parameters
    ----------
    op : str
        A record op; its operands are the arrays in `operands`, by name.
    variant, formula : str
        The variant of the kernel, and the elementwise function that it maps.
    """

    def __init__(
        self,
        op: str,
        operands: Mapping[str, Array],
        dims: Mapping[str, int],
        *,
        dtype: str = "float32",
        params: Mapping[str, float] | None = None,
        flags: Flag = NO_FLAGS,
        variant: str = "",
        formula: str = "",
    ) -> None:
        self.op = op
        self.operands = dict(operands)
        self._context = np.zeros(CONTEXT_WORDS, np.int64)
        words = {}
        for number, (name, array) in enumerate(operands.items()):
            words[name] = encode(Buffer.DATA + number, 0)
            self._context[Buffer.DATA + number] = array.ctypes.data
        kind = "map_grad" if op == "activation_grad" else "map"
        mapped = KernelKey(kind, dtype, formula) if formula else None
        draft = RecordDraft(op, words, dims, params or {}, flags, variant, mapped)
        self._bound = BoundProgram(make_program(op, 1, dtype, [draft], [], {}))

    def __call__(self, times: int = 1) -> None:
        """Run the record several times in one call; counters are reset."""
        self._context[Counter.CURSOR] = self._context[Counter.CHUNK_STEP] = 0
        self._bound.run(self._context, times, fnn.get_num_threads())

    @property
    def nbytes(self) -> int:
        """Bytes that have to be read and written: every operand once, updated ones twice."""
        op = OPS[self.op]
        twice = {spec.name for spec in op.operands if spec.access == "update"}
        return sum(array.nbytes * (1 + (name in twice)) for name, array in self.operands.items())
