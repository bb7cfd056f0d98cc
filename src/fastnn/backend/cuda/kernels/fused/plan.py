"""The division of fused layers: tiles of rows, pieces of weights, sums of gradients; and when fusion pays.

Nothing here queries a device, so results do not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastnn.backend.cuda.codegen.kernel import ceil_div
from fastnn.backend.cuda.codegen.sizes import FUSED, PACK
from fastnn.program.layout import DIMS_AT, OPERANDS_AT, RECORD_WORDS

# words of a launch's record: rows of the batch, layers, elements of a slab, in which a block sums gradients, and slabs
ROWS, LAYERS, SLAB, SLABS = range(DIMS_AT, DIMS_AT + 4)

# words of a row of its table, which is resolved like a record: a layer
A, W, BIAS, C, PRE, SAVED, DZ = range(OPERANDS_AT, OPERANDS_AT + 7)
K, N, WHICH, DEPTH, SPLITS, HAS_WEIGHT, WEIGHT_AT, HAS_BIAS, BIAS_AT, P0, P1 = range(DIMS_AT, DIMS_AT + 11)
# or, after the layers, a gradient
TARGET = OPERANDS_AT
HEIGHT, WIDTH, HIGH, OFFSET = range(DIMS_AT, DIMS_AT + 4)
ROW = RECORD_WORDS

#: elements from one row of a tile to the next: then 16-byte accesses of neighbouring rows have no bank conflicts
PITCH = FUSED.widest | PACK


VARIANTS = ("linear+relu", "gelu+linear", "linear+relu+sigmoid", "exponential+gelu+mish+selu+softsign")


def padded(count: int) -> int:
    """Round up to whole packs."""
    return ceil_div(count, PACK) * PACK


@dataclass(frozen=True)
class Tile:
    """The contents of a block's shared memory: rows of activations, and two pieces of weights.

    Attributes
    ----------
    tall : int
        Rows that a thread has in registers, with `PACK` columns each.
    depth : int
        Rows of a piece, if the weights are the widest.
    """

    rows: int
    tall: int
    depth: int

    @property
    def groups(self) -> int:
        """Threads along the rows."""
        return self.rows // self.tall

    @property
    def chunk(self) -> int:
        """Elements of a piece."""
        return self.depth * PITCH

    @property
    def units(self) -> int:
        """Packs of a piece that each thread fetches."""
        return self.depth * FUSED.widest // PACK // FUSED.threads

    @property
    def pair(self) -> int:
        """The number of neighbouring threads that fetch neighbouring packs of transposed weights."""
        return min(2, self.depth // PACK)


def tile_of(algorithm: str, itemsize: int) -> Tile:
    """Return the tile of an algorithm."""
    rows, tall, depth = next(sizes for sizes in FUSED.forward if str(sizes[0]) == algorithm)
    return Tile(rows * 4 // itemsize, tall, depth * 4 // itemsize)


def algorithms_of(tiles: Sequence[tuple[int, int, int]]) -> tuple[str, ...]:
    """Return the algorithms of these tiles."""
    return tuple(str(rows) for rows, _, _ in tiles)


def variants_of(algorithm: str) -> tuple[str, ...]:
    """Return variants for tests that compile kernels: any set of activations is one, by name and joined by "+"."""
    return VARIANTS if int(algorithm) == max(rows for rows, _, _ in FUSED.backward) else VARIANTS[:1]


def choose_algorithm(rows: int, itemsize: int, tiles: Sequence[tuple[int, int, int]]) -> str:
    """Choose the largest tile that leaves work for all multiprocessors: small ones are slower, but more numerous."""
    heights = [height for height, _, _ in tiles]
    fitting = [height for height in heights if rows * itemsize >= height * 4 * FUSED.processors]
    return str(max(fitting, default=min(heights)))


def pieces(tile: Tile, k: int, n: int, itemsize: int, turned: bool) -> tuple[int, int]:
    """Return the number of rows of k x n weights in shared memory at once, and of threads that share a sum over k."""
    packs, pitch = tile.units * FUSED.threads, padded(n) | PACK
    depth = tile.chunk // pitch
    if turned:
        step = tile.pair * PACK
        depth = min(depth // step, packs // (n * tile.pair)) * step
    else:
        depth = min(depth, packs * PACK // padded(n)) // PACK * PACK
    depth, splits = min(depth, padded(k)), 1
    threads, steps = tile.groups * padded(n) // PACK, depth * itemsize // 16
    while 2 * splits * threads <= FUSED.threads and 2 * splits <= steps and splits * tile.rows * pitch <= tile.chunk:
        splits *= 2
    return depth, splits


def shared_bytes(tile: Tile, tables: int, itemsize: int) -> int:
    """Return the dynamic shared memory of a block: tables of its rows, and two pieces of weights."""
    return (tables * tile.rows * PITCH + 2 * tile.chunk) * itemsize


@dataclass(frozen=True)
class Sum:
    """A gradient in a slab: threads add blocks of `high` rows and `PACK` columns of it.

    Element e of row i of block u is at `offset + (i * blocks + u) * PACK + e`.
    """

    height: int
    width: int
    high: int
    offset: int

    @property
    def packs(self) -> int:
        """Packs in the slab."""
        return ceil_div(self.height, self.high) * self.high * ceil_div(self.width, PACK)

    @property
    def end(self) -> int:
        """The element of the slab after it."""
        return self.offset + self.packs * PACK


def worthwhile(
    rows: int, multiplications: int, bytes_saved: int, launches_saved: int, widest: int, precision: str
) -> bool:
    """Return whether fused layers take less time than their records one by one.

    Parameters
    ----------
    multiplications : int
        Of all layers, for one row.
    bytes_saved : int
        Of activations that stay on the multiprocessor, for one row.
    widest : int
        Maximum inputs or outputs of a layer.

    Notes
    -----
    Each saved launch is worth 2 µs, also in a graph, and each saved byte its time at 3 TB/s. The cost: tiles of rows
    keep 24 of 100 arithmetic units busy, single products 51 (an H200 took 269 µs for the backward pass of
    64-64-64-64-64 with 65536 rows, and 18.5 for one product of 65536 x 64 x 64; on a smaller GPU all of this takes
    longer except the launches). So networks are fused up to the batch size at which launches stop mattering. Tensor
    cores are not used here: products of at least 32 columns gain more from them.
    """
    if launches_saved < 1 or (precision != "float32" and widest > 32):
        return False
    peak = 132 * 128 * 1.7e9
    lost = rows * multiplications / peak * (1 / 0.24 - 1 / 0.51)
    return lost <= 2e-6 * launches_saved + rows * bytes_saved / 3e12
