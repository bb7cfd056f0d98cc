"""Sizes of the matmul's tiles and blocks, derived from the processor's vector registers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastnn.backend.cpu.processor.target import vector_bytes, vector_registers

# Scratch memory of one part: a packed block of a, for a second-level cache of 512 KiB or more, and one of b, which may
# be far: the next panel is prefetched. Twice as much of b packs a half as often: 0 to 3 % at 512 x 1024 x 4096.
_A_BYTES = 300 * 1024
_B_BYTES = 4096 * 1024
SCRATCH_BYTES = _A_BYTES + _B_BYTES
# A packed panel of b, which the tiles below each other read again and again, by vector width. With 64-byte vectors it
# comes from a second-level cache that feeds two of them in the 12 cycles that a tile takes for a k.
_PANEL_BYTES = {16: 32 * 1024, 32: 32 * 1024, 64: 64 * 1024}
# The smallest work (m n k times the bytes of an element) at which packing both matrices pays. Processors with 64-byte
# vectors have second-level caches that hold unpacked a: below, 128 x 256 x 128 took 1.1 times as long packed.
_BLOCKED_WORK = {16: 6 << 20, 32: 6 << 20, 64: 128 << 20}
# The depth of a block: with 512 instead of 256 the product of two 1024 x 1024 matrices gained 7 % with 32-byte vectors,
# because c is read and written half as often.
_MOST_K = 512
# One row times a matrix of up to this many bytes, half of a second-level cache, keeps its sums in registers.
_ROW_BYTES = {16: 256 * 1024, 32: 256 * 1024, 64: 1024 * 1024}

#: The ops whose kernels are products, by one of these algorithms.
PRODUCTS = ("matmul", "batched_matmul")
#: The ops whose kernels are products of taps.
CONVOLUTIONS = ("conv", "conv_back", "conv_weights")
#: The ops whose kernels multiply states by a recurrent kernel in each time step.
RECURRENT = ("simple_rnn", "gru", "lstm", "simple_rnn_grad", "gru_grad", "lstm_grad")
#: The ops whose kernels are products of blocks of scores.
ATTENTION = ("attention", "attention_grad")
#: The ops whose kernels need scratch memory, or allocate some where there is none.
ALLOCATING = (*CONVOLUTIONS, *ATTENTION, *RECURRENT)
#: The algorithms of the matrix product; see `kernels/matmul.py`.
ALGORITHMS = ("simple", "blocked", "single_row", "dot_rows", "single_column", "dot_column")


def algorithm_number(
    m: int, n: int, k: int, transpose_a: bool, transpose_b: bool, least_m: int, least_n: int, least_k: int, work: int
) -> int:
    """Return which of `ALGORITHMS` computes a product of this shape; `least_m` to `work` as in `Blocking.least`.

    Plain integers, because compiled code calls it too.
    """
    # one column first: the sum of a row has the same order for one row as for many
    if n == 1:
        return 4 if transpose_a and m > 1 else 5
    if transpose_b and m <= 3 and (m == 1 or not transpose_a):
        return 3
    if m == 1:
        return 2
    return 1 if m >= least_m and n >= least_n and k >= least_k and m * n * k >= work else 0


@dataclass(frozen=True)
class Blocking:
    """Tile heights and block sizes of one dtype.

    Attributes
    ----------
    lanes, width : int
        Elements of a vector; columns of a panel: two vectors.
    heights : tuple of int
        Rows of the tiles, from the highest, which fills the registers, to 1.
    m, n, k : int
        Rows, columns and depth of a block: a's block (m x k) fits the second-level cache, a panel of b (width x k)
        the first-level one.
    few_rows : int
        With fewer rows than this a panel of b is not packed.
    blocked_m, blocked_n, blocked_k, blocked_work : int
        The smallest sizes, and their product, at which packing both pays.
    """

    lanes: int
    heights: tuple[int, ...]
    m: int
    n: int
    k: int
    few_rows: int
    blocked_m: int
    blocked_n: int
    blocked_k: int
    blocked_work: int
    itemsize: int

    @classmethod
    def of(cls, dtype: str) -> Blocking:
        """Return the sizes for a dtype on this processor."""
        size = np.dtype(dtype).itemsize
        lanes = vector_bytes() // size
        # two accumulators per row; the remaining registers hold b's two vectors and one broadcast
        heights = (12, 8, 4, 2, 1) if vector_registers() == 32 else (6, 4, 2, 1)
        high = heights[0]
        width = 2 * lanes
        k = min(_MOST_K, _PANEL_BYTES[vector_bytes()] // (width * size))
        m = (_A_BYTES - 64) // (k * size) // high * high
        n = _B_BYTES // (k * size) // width * width
        work = _BLOCKED_WORK[vector_bytes()] // size
        return cls(lanes, heights, m, n, k, 2 * high, 2 * high, 4 * lanes, 32, work, size)

    def algorithm(self, m: int, n: int, k: int, transpose_a: bool, transpose_b: bool) -> str:
        """Return the algorithm for a product of this shape; see `kernels/matmul.py`."""
        return ALGORITHMS[algorithm_number(m, n, k, transpose_a, transpose_b, *self.least)]

    @property
    def least(self) -> tuple[int, int, int, int]:
        """The smallest m, n, k, and their product, at which packing both matrices pays."""
        return self.blocked_m, self.blocked_n, self.blocked_k, self.blocked_work

    @property
    def fetches(self) -> bool:
        """Whether tiles prefetch the next panel.

        With 64-byte vectors 1024 x 1024 x 1024 to 512 x 1024 x 4096 gained 5 to 10 %. A tile of smaller vectors takes
        half as long for each k, and the added instructions cost 3 % of that.
        """
        return self.lanes * self.itemsize == 64

    @property
    def unit_m(self) -> int:
        """The minimum number of rows of a part; each part begins at a multiple of it."""
        return self.heights[1]

    @property
    def unit_n(self) -> int:
        """The minimum number of columns of a part, if columns are cut."""
        return self.width

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return 2 * self.lanes

    @property
    def row_bytes(self) -> int:
        """Bytes of a matrix up to which a single row's product keeps its sums in registers."""
        return _ROW_BYTES[self.lanes * self.itemsize]

    @property
    def panel_bytes(self) -> int:
        """Bytes of a packed panel of b."""
        return self.k * self.width * self.itemsize

    @property
    def a_bytes(self) -> int:
        """Bytes reserved for a packed block of a."""
        return _A_BYTES
