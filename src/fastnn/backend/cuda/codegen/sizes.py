"""The table of launch sizes: threads, tiles, and minimum compute capabilities.

Numba's simulator runs every CUDA thread as a Python thread, at a millisecond each. There blocks are tiny, with warps
of four threads: the arithmetic of indices is the same, and a few threads reach every edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from numba import config

SIMULATED = bool(config.ENABLE_CUDASIM)


@dataclass(frozen=True)
class Sizes:
    """Sizes that kernels are compiled with.

    Attributes
    ----------
    warp : int
        Threads that exchange values by shuffles.
    threads : int
        Threads of a block of an elementwise kernel; each works on `PACK` neighbouring elements.
    team : int
        Threads of a block that share one long row, or one reduction.
    longest_warp_row : int
        Rows of more columns get a whole block instead of a warp.
    lanes, strips : int
        Columns of a block that reduces over rows, and its threads per column.
    """

    warp: int = 32
    threads: int = 256
    team: int = 256
    longest_warp_row: int = 1024
    lanes: int = 32
    strips: int = 8


DEVICE = Sizes()
TOY = Sizes(warp=4, threads=8, team=8, longest_warp_row=64, lanes=4, strips=2)
SIZES = TOY if SIMULATED else DEVICE

#: elements that a thread of an elementwise kernel loads at once: 16 bytes of float32
PACK = 4

#: compute capabilities for which the tests compile fastnn; GPUs older than the first are refused
ARCHITECTURES = ("75", "80", "86", "89", "90a", "100")
MINIMUM = (7, 5)
#: the capability that rounding and products by tensor cores need, and the only architecture with warpgroups
TENSOR_CORES, WARPGROUPS = (8, 0), "90a"
# whose special instructions are compiled; a later one of the same family runs the general code
_SPECIFIC = {(9, 0): WARPGROUPS}


def architecture_of(capability: tuple[int, int]) -> str:
    """Return the architecture for which kernels are compiled on GPUs of a compute capability."""
    return _SPECIFIC.get(capability, "{}{}".format(*capability))


#: operands of more elements are refused: kernels count in 32 bits
MOST_ELEMENTS = 2**31 - 1


# --- matrix products --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    """A block's part of a matrix product, and how its threads share it.

    Attributes
    ----------
    rows, cols, depth : int
        The block's part of the result, and the depth of k in shared memory at once (for float32; half of it for
        float64). Powers of two, like all others.
    tall, wide : int
        Rows and columns of the result that one thread keeps in registers.
    across : int
        Threads of a warp along a row.
    at_once : int
        Blocks that a multiprocessor runs at the same time.
    speed : float
        The fraction of the peak multiplications per second that this many blocks reach, for the choice among tiles.
    """

    rows: int
    cols: int
    depth: int
    tall: int
    wide: int
    across: int
    at_once: int
    speed: float

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows // self.tall * (self.cols // self.wide)

    @property
    def ahead(self) -> int:
        """Tiles that are loaded while one is multiplied."""
        return 1


@dataclass(frozen=True)
class TensorTile:
    """A block's part of a product by tensor cores, at compute capability 8.0 or more.

    Attributes
    ----------
    rows, cols : int
        The block's part of the result.
    warp_rows, warp_cols : int
        A warp's part, multiples of 32.
    stages : int
        Tiles in shared memory: one is multiplied while the others are loaded.
    at_once, speed
        As for a `Tile`.
    """

    rows: int
    cols: int
    warp_rows: int
    warp_cols: int
    stages: int
    at_once: int
    speed: float

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * (self.rows // self.warp_rows) * (self.cols // self.warp_cols)

    @property
    def depth(self) -> int:
        """The depth of k in a tile: 128 bytes."""
        return 32

    @property
    def ahead(self) -> int:
        """Tiles that are loaded while one is multiplied."""
        return self.stages - 1


#: threads of a warpgroup, and rows of its product
WARPGROUP, WARPGROUP_ROWS = 128, 64


@dataclass(frozen=True)
class WarpgroupTile:
    """A block's part of a product by warpgroups, at compute capability 9.0.

    Attributes
    ----------
    rows, cols : int
        The block's part of the result: 64 rows for each warpgroup, and a multiple of 8 columns, at most 256.
    stages, speed
        As for a `TensorTile`; a speed above 1 is faster than the instructions of a `TensorTile`.
    """

    rows: int
    cols: int
    stages: int
    speed: float

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return WARPGROUP * (self.rows // WARPGROUP_ROWS)

    @property
    def ahead(self) -> int:
        """Tiles that are loaded while one is multiplied."""
        return self.stages - 1


@dataclass(frozen=True)
class BatchedTile:
    """A block's part of one of many matrix products.

    Attributes
    ----------
    rows, cols, depth : int
        The block's part of the result, and the depth of k in shared memory at once.
    tall, wide : int
        Rows and columns of the result that one thread keeps in registers.
    """

    rows: int
    cols: int
    depth: int
    tall: int
    wide: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows // self.tall * (self.cols // self.wide)


@dataclass(frozen=True)
class Products:
    """Sizes of matrix products.

    Attributes
    ----------
    tiles : mapping of str to Tile
        By the name of the kernel's algorithm.
    few : int
        Up to this many rows use kernels that read the other matrix once.
    lanes, strips : int
        Threads of such a block along a row, and along a column (for float32; half of these for float64).
    at_once : int
        Columns whose dot products a warp computes at once.
    step : int
        Parts of k of such a product are multiples of this.
    processors : int
        Multiprocessors that should have work: those of an H100 or H200.
    tensor_tiles : mapping of str to TensorTile
        By the name of the algorithm, as `tiles`.
    warpgroup_tiles : mapping of str to WarpgroupTile
        The same.
    batched_tiles : mapping of str to BatchedTile
        Of products of many matrices, from the largest on.
    """

    tiles: Mapping[str, Tile]
    few: int
    lanes: int
    strips: int
    at_once: int
    step: int
    processors: int
    tensor_tiles: Mapping[str, TensorTile]
    warpgroup_tiles: Mapping[str, WarpgroupTile]
    batched_tiles: Mapping[str, BatchedTile]


DEVICE_PRODUCTS = Products(
    tiles={
        "large": Tile(rows=128, cols=128, depth=16, tall=8, wide=8, across=8, at_once=2, speed=0.85),
        "medium": Tile(rows=64, cols=64, depth=16, tall=8, wide=4, across=8, at_once=4, speed=0.7),
        "small": Tile(rows=32, cols=32, depth=32, tall=4, wide=4, across=8, at_once=6, speed=0.5),
        "tall": Tile(rows=128, cols=16, depth=16, tall=4, wide=4, across=4, at_once=5, speed=0.45),
        "flat": Tile(rows=16, cols=128, depth=16, tall=4, wide=4, across=8, at_once=5, speed=0.45),
    },
    few=8, lanes=32, strips=8, at_once=2, step=128, processors=132,
    # three stages of a large tile are 96 KiB, which a block may have on all of these GPUs
    tensor_tiles={
        "large": TensorTile(rows=128, cols=128, warp_rows=64, warp_cols=64, stages=3, at_once=2, speed=0.6),
        "medium": TensorTile(rows=64, cols=64, warp_rows=32, warp_cols=32, stages=3, at_once=4, speed=0.4),
    },
    # four stages are 192 KiB of 227
    warpgroup_tiles={"huge": WarpgroupTile(rows=128, cols=256, stages=4, speed=1.4)},
    batched_tiles={"medium": BatchedTile(64, 64, depth=16, tall=4, wide=4), "small": BatchedTile(16, 16, 16, 2, 2)},
)  # fmt: skip
TOY_PRODUCTS = Products(
    tiles={
        "large": Tile(rows=32, cols=16, depth=16, tall=8, wide=8, across=2, at_once=2, speed=0.85),
        "medium": Tile(rows=16, cols=16, depth=8, tall=8, wide=4, across=2, at_once=4, speed=0.7),
        "small": Tile(rows=8, cols=8, depth=8, tall=4, wide=4, across=2, at_once=6, speed=0.5),
        "tall": Tile(rows=32, cols=4, depth=8, tall=4, wide=4, across=1, at_once=6, speed=0.45),
        "flat": Tile(rows=4, cols=32, depth=8, tall=4, wide=4, across=4, at_once=5, speed=0.45),
    },
    few=2, lanes=4, strips=2, at_once=2, step=16, processors=4,
    # fragments always belong to 32 threads
    tensor_tiles={
        "large": TensorTile(rows=32, cols=64, warp_rows=32, warp_cols=32, stages=3, at_once=2, speed=0.6),
        "medium": TensorTile(rows=64, cols=32, warp_rows=64, warp_cols=32, stages=3, at_once=4, speed=0.4),
    },
    warpgroup_tiles={"huge": WarpgroupTile(rows=128, cols=16, stages=2, speed=1.4)},
    batched_tiles={"medium": BatchedTile(8, 16, depth=8, tall=4, wide=4), "small": BatchedTile(4, 4, 4, 2, 2)},
)  # fmt: skip
PRODUCTS = TOY_PRODUCTS if SIMULATED else DEVICE_PRODUCTS

# besides a tile there is a table of places; with the one for all GPUs, 128 x 128 in three stages, it would not fit
_FOR_MAPS = replace(
    DEVICE_PRODUCTS,
    tensor_tiles={
        "large": TensorTile(rows=128, cols=64, warp_rows=64, warp_cols=32, stages=3, at_once=2, speed=0.5),
        "medium": DEVICE_PRODUCTS.tensor_tiles["medium"],
    },
    warpgroup_tiles={},
)
_CONVOLUTION = TOY_PRODUCTS if SIMULATED else _FOR_MAPS
# with the largest tile the sums of a gradient leave too few registers
_GRADIENT = replace(_CONVOLUTION, tiles={name: tile for name, tile in PRODUCTS.tiles.items() if name != "large"})
#: sizes of the products of convolutions, by op
CONVOLUTIONS = {"conv": _CONVOLUTION, "conv_back": _GRADIENT, "conv_weights": _GRADIENT}


# --- attention --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttentionTile:
    """A block's tile of scores, and how its threads share it.

    Attributes
    ----------
    rows, cols, depth : int
        The tile, and the terms of its products in shared memory at once. Powers of two, like all others.
    tall, wide : int
        Rows and columns of the tile that one thread has.
    """

    rows: int
    cols: int
    depth: int
    tall: int
    wide: int

    @property
    def across(self) -> int:
        """Threads along a row, a part of a warp."""
        return self.cols // self.wide

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.across * self.rows // self.tall

    def for_itemsize(self, itemsize: int) -> AttentionTile:
        """Return the tile for a dtype: of float64 with half the rows and columns."""
        if itemsize == 4:
            return self
        return replace(self, rows=self.rows // 2, cols=self.cols // 2, tall=self.tall // 2, wide=self.wide // 2)


DEVICE_ATTENTION = AttentionTile(rows=64, cols=64, depth=16, tall=4, wide=4)
TOY_ATTENTION = AttentionTile(rows=8, cols=16, depth=4, tall=4, wide=4)
ATTENTION = TOY_ATTENTION if SIMULATED else DEVICE_ATTENTION


# --- fused networks ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fused:
    """Sizes of kernels that run several layers.

    Attributes
    ----------
    widest : int
        Maximum inputs and outputs of a layer: threads hold all outputs of a tile of rows in registers. At most four
        times the threads of a warp.
    layers : int
        Maximum layers of one kernel.
    threads : int
        Threads of a block.
    forward, backward : tuple of (rows, tall, depth)
        The rows of tiles, the rows that one thread holds in registers, and the rows of the widest weights in
        shared memory at once. Rows and depth are for float32; half of them for float64.
    high : int
        Rows of a weight's gradient that one thread holds in registers.
    processors : int
        Tiles are as large as possible while this many multiprocessors have one each.
    slabs : int
        Blocks of a backward pass, each of which sums separate gradients.
    """

    widest: int
    layers: int
    threads: int
    forward: tuple[tuple[int, int, int], ...]
    backward: tuple[tuple[int, int, int], ...]
    high: int
    processors: int
    slabs: int


# small tiles wait for weights, so they load more of them at a time
DEVICE_FUSED = Fused(
    widest=128, layers=8, threads=256, forward=((8, 4, 32), (16, 4, 32), (32, 4, 16), (64, 8, 16)),
    backward=((8, 4, 32), (16, 4, 32), (32, 4, 16)), high=8, processors=132, slabs=264,
)  # fmt: skip
TOY_FUSED = Fused(
    widest=16, layers=4, threads=8, forward=((4, 2, 16), (8, 4, 8)), backward=((4, 2, 16), (8, 4, 8)), high=4,
    processors=4, slabs=3,
)  # fmt: skip
FUSED = TOY_FUSED if SIMULATED else DEVICE_FUSED


# --- recurrent layers -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recurrent:
    """Sizes of the kernels of recurrent layers, in which a block takes some samples through all time steps.

    Attributes
    ----------
    threads : int
        Threads of a block.
    samples : tuple of int
        Samples that a block may have, at most `along`.
    strips : int
        Threads of a warp that share a sum over the rows of the recurrent kernel; the others have other columns.
    along : int
        Threads of a warp that share a sum along a row of it; the others have other rows.
    ahead : int
        Most loads of the recurrent kernel that a thread has under way.
    elements : int
        Numbers in a block's shared memory. With more, states are in scratch memory.
    processors : int
        Multiprocessors that should have a block before blocks get more samples.
    """

    threads: int
    samples: tuple[int, ...]
    strips: int
    along: int
    ahead: int
    elements: int
    processors: int


# 8192 numbers of float64 are 64 KiB, which a block may have on all of these GPUs
DEVICE_RECURRENT = Recurrent(
    threads=256, samples=(1, 4, 8), strips=4, along=8, ahead=8, elements=8192, processors=132
)  # fmt: skip
TOY_RECURRENT = Recurrent(threads=8, samples=(1, 2), strips=2, along=2, ahead=2, elements=400, processors=4)
RECURRENT = TOY_RECURRENT if SIMULATED else DEVICE_RECURRENT
