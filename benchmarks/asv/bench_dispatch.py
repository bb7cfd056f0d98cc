"""The cost of dispatch from one record of a program to the next."""

from itertools import repeat

import numpy as np

from fastnn.backend.cpu.executor.engine import BoundProgram
from fastnn.program.layout import CONTEXT_WORDS, Buffer, encode
from fastnn.program.program import RecordDraft, aligned_zeros, make_program
from titles import titled

RECORDS = 100_000


@titled("Dispatch: 100 000 records of one addition")
class Dispatch:
    """100 000 additions of one number: as records of programs of several lengths, or as calls of `numpy.add`."""

    params = (["fastnn", "numpy"], [1, 10, 100])
    param_names = ("library", "records in the program")

    def setup(self, library: str, length: int) -> None:
        """Build the program, which adds the same two numbers repeatedly."""
        if library == "numpy" and length > 1:
            raise NotImplementedError("NumPy has no programs: its calls are measured once")
        self.numbers = aligned_zeros(3 * 64).view(np.float32).reshape(3, 16)[:, :1]
        operands = {name: encode(Buffer.DATA, 64 * place) for place, name in enumerate(("a", "b", "y"))}
        drafts = [RecordDraft("add", operands, {"n": 1})] * length
        self.program = BoundProgram(make_program("additions", 1, "float32", drafts, [], {}))
        self.context = np.zeros(CONTEXT_WORDS, np.int64)
        self.context[Buffer.DATA] = self.numbers.ctypes.data

    def time_100000_records(self, library: str, length: int) -> None:
        """Run: 1 ms is 10 ns per record."""
        if library == "fastnn":
            self.program.run(self.context, RECORDS // length, 1)
            return
        a, b, y = self.numbers
        for _ in repeat(None, RECORDS):
            np.add(a, b, y)
