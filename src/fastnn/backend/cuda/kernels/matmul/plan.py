"""The choice of a matrix product's kernel, by its shape alone, so that results do not depend on the device.

The only exception are rounded products on GPUs with warpgroups, whose instructions no other GPU has.

An algorithm is written "tf32-nt-gradient-large-split-scalar": the rounding for tensor cores, if they are used; how a
and b are stored ("n"ormal or "t"ransposed); the epilogue; the shape of the blocks; whether a second stage adds parts of
k; and whether single elements are loaded, because rows do not begin at multiples of 16 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

from fastnn.backend.cuda.codegen.kernel import ceil_div
from fastnn.backend.cuda.codegen.sizes import PACK, PRODUCTS, Products, TensorTile, Tile, WarpgroupTile
from fastnn.backend.cuda.kernels.matmul.epilogue import HEADER
from fastnn.program.layout import Flag

#: cycles until a block's loads have arrived in shared memory, and of one more stage
LATENCY, STAGE = 800, 4000
#: multiplications per cycle of one multiprocessor, by the rounding of factors, and bytes between it and memory
MULTIPLICATIONS, BYTES = {"": 128, "tf32": 512, "bf16": 1024}, 16
#: bytes of a number rounded for tensor cores, and of a line of a tile of such numbers
ROUNDED, LINE_BYTES = {"tf32": 4, "bf16": 2}, 128
PRECISIONS = tuple(ROUNDED)
#: maximum bytes of rounded operands in scratch memory
MOST_ROUNDED = 2**30
#: maximum number of parts of a product, and of their elements together: they stay in the second-level cache
MOST_PARTS, MOST_SUMS = 64, 2**23
#: a float32 sum over a longer k than this is split into parts: the error of a single sum grows with k
DEEPEST = 16384


@dataclass(frozen=True)
class Algorithm:
    """An algorithm, parsed."""

    transpose_a: bool
    transpose_b: bool
    epilogue: str
    shape: str
    split: bool = False
    scalar: bool = False
    precision: str = ""

    def __str__(self) -> str:
        stored = "nt"[self.transpose_a] + "nt"[self.transpose_b]
        begins = (self.precision,) if self.precision else ()
        ends = ("split",) * self.split + ("scalar",) * self.scalar
        return "-".join((*begins, stored, self.epilogue, self.shape, *ends))

    @classmethod
    def parse(cls, text: str) -> Algorithm:
        """Parse the string of an algorithm."""
        words = text.split("-")
        precision = words.pop(0) if words[0] in PRECISIONS else ""
        stored, epilogue, shape, *ends = words
        return cls(stored[0] == "t", stored[1] == "t", epilogue, shape, "split" in ends, "scalar" in ends, precision)


def blocks_of(tile: Tile | TensorTile | WarpgroupTile, m: int, n: int) -> int:
    """Return the number of tiles of a result."""
    return ceil_div(m, tile.rows) * ceil_div(n, tile.cols)


def _whole(tiles: int, parts: int) -> int:
    """Return the number of parts if none may be empty."""
    return ceil_div(tiles, ceil_div(tiles, parts))


def _least_parts(m: int, n: int, deep: int) -> int:
    """Return the minimum number of parts of a product whose threads add up `deep` products in a single sum."""
    return max(1, min(ceil_div(deep, DEEPEST), MOST_SUMS // (m * n)))


@lru_cache(maxsize=4096)
def _estimate(tile: Tile | TensorTile, precision: str, m: int, n: int, k: int, processors: int) -> tuple[float, int]:
    """Estimate the cycles of a product with tiles of one shape, and choose the number of parts of k."""
    tiles, best = ceil_div(k, tile.depth), (float("inf"), 1)
    work = tile.rows * tile.cols * tile.depth / MULTIPLICATIONS[precision] / tile.speed
    latency, blocks = LATENCY / tile.ahead, blocks_of(tile, m, n)
    least = _least_parts(m, n, k)
    most = max(least, min(MOST_PARTS, tiles, MOST_SUMS // (m * n)))
    for parts in sorted({_whole(tiles, parts) for parts in range(least, most + 1)}):
        mine = ceil_div(blocks * parts, processors)
        at_once = min(mine, tile.at_once)
        # a block waits for its first tile
        time = ceil_div(mine, at_once) * (ceil_div(tiles, parts) + 1) * max(latency, at_once * work)
        if parts > 1:
            time += STAGE + 2 * 4 * parts * m * n / processors / BYTES
        best = min(best, (time, parts))
    return best


def depth_of(precision: str) -> int:
    """Return the depth of k in a tile of rounded numbers."""
    return LINE_BYTES // ROUNDED[precision]


def rounded_bytes(dims: Mapping[str, int], algorithm: Algorithm, sizes: Products = PRODUCTS) -> int:
    """Return the bytes of both operands of a product by warpgroups, rounded and padded to whole tiles."""
    tile = sizes.warpgroup_tiles[algorithm.shape]
    lines = ceil_div(dims["m"], tile.rows) * tile.rows + ceil_div(dims["n"], tile.cols) * tile.cols
    return lines * ceil_div(dims["k"], depth_of(algorithm.precision)) * LINE_BYTES


def _estimate_rounded(tile: WarpgroupTile, precision: str, m: int, n: int, k: int, processors: int) -> float:
    """Estimate the cycles of a product by warpgroups, and of the stage before it."""
    work = tile.rows * tile.cols * depth_of(precision) / MULTIPLICATIONS[precision] / tile.speed
    steps = ceil_div(blocks_of(tile, m, n), processors) * (ceil_div(k, depth_of(precision)) + 1)
    moved = (m + n) * k * (4 + ROUNDED[precision])
    return steps * max(LATENCY / tile.ahead, work) + STAGE + moved / processors / BYTES


def along_k(algorithm: Algorithm) -> bool:
    """Return whether neighbours in the matrix by which a few rows are multiplied differ in k."""
    return not algorithm.transpose_a if algorithm.shape == "column" else algorithm.transpose_b


def outputs_of_block(algorithm: Algorithm, sizes: Products = PRODUCTS) -> int:
    """Return the number of columns per block in a product of a few rows."""
    if along_k(algorithm):
        return sizes.strips * sizes.at_once
    return sizes.lanes * (1 if algorithm.scalar else PACK)


def parts_of(dims: Mapping[str, int], algorithm: Algorithm, sizes: Products = PRODUCTS) -> int:
    """Return the number of parts of k of a product."""
    if not algorithm.split or algorithm.shape in sizes.warpgroup_tiles:
        return 1
    m, n, k = dims["m"], dims["n"], dims["k"]
    tiles = sizes.tensor_tiles if algorithm.precision else sizes.tiles
    if algorithm.shape in tiles:
        return _estimate(tiles[algorithm.shape], algorithm.precision, m, n, k, sizes.processors)[1]
    blocks = ceil_div(m if algorithm.shape == "column" else n, outputs_of_block(algorithm, sizes))
    steps = ceil_div(k, sizes.step)
    least = _least_parts(m, n, ceil_div(k, sizes.strips))
    return _whole(steps, max(least, min(MOST_PARTS, steps // 2, 2 * sizes.processors // blocks)))


def _plain(algorithm: Algorithm) -> Algorithm:
    """Return the algorithm for a row or column, which equals its transpose, as stored normally."""
    if algorithm.shape == "row":
        return replace(algorithm, transpose_a=False)
    return replace(algorithm, transpose_b=False) if algorithm.shape == "column" else algorithm


def choose(
    dims: Mapping[str, int],
    flags: Flag,
    precision: str = "float32",
    warpgroups: bool = False,
    sizes: Products = PRODUCTS,
) -> Algorithm:
    """Choose the algorithm of a product.

    Parameters
    ----------
    precision : {"float32", "tf32", "bf16"}
        The allowed rounding of factors for tensor cores, if these are faster; only for float32 products.
    warpgroups : bool
        Whether the GPU has them.
    """
    m, n, k = dims["m"], dims["n"], dims["k"]
    transpose_a, transpose_b = Flag.TRANSPOSE_A in flags, Flag.TRANSPOSE_B in flags
    epilogue = "forward" if Flag.MAP_FORWARD in flags else "gradient" if Flag.MAP_GRADIENT in flags else "plain"
    row_a, row_b = m if transpose_a else k, k if transpose_b else n
    rounded = ""
    if m <= sizes.few:
        shape, scalar = "row" if m == 1 else "rows", row_b % PACK != 0
    elif n == 1:
        shape, scalar = "column", row_a % PACK != 0
    else:
        rounded, shape = _quickest(m, n, k, precision, warpgroups, sizes)
        scalar = any(row % PACK for row in (row_a, row_b, n))
    algorithm = _plain(Algorithm(transpose_a, transpose_b, epilogue, shape, True, scalar, rounded))
    return algorithm if parts_of(dims, algorithm, sizes) > 1 else replace(algorithm, split=False)


def _quickest(m: int, n: int, k: int, precision: str, warpgroups: bool, sizes: Products) -> tuple[str, str]:
    """Return the rounding of factors, "" for none, and the name of a tile."""
    processors = sizes.processors
    times = {("", name): _estimate(tile, "", m, n, k, processors)[0] for name, tile in sizes.tiles.items()}
    if precision in PRECISIONS:
        for name, tile in sizes.tensor_tiles.items():
            times[precision, name] = _estimate(tile, precision, m, n, k, processors)[0]
        for name, huge in sizes.warpgroup_tiles.items() if warpgroups else ():
            if (m + n) * k * ROUNDED[precision] <= MOST_ROUNDED:
                times[precision, name] = _estimate_rounded(huge, precision, m, n, k, processors)
    return min(times, key=times.__getitem__)


def scratch_bytes(dims: Mapping[str, int], itemsize: int, algorithm: str, sizes: Products = PRODUCTS) -> int:
    """Return the scratch memory of a product: rounded operands, or a header and the parts of the result."""
    parsed = Algorithm.parse(algorithm)
    if parsed.shape in sizes.warpgroup_tiles:
        return rounded_bytes(dims, parsed, sizes)
    return HEADER + parts_of(dims, parsed, sizes) * dims["m"] * dims["n"] * itemsize if parsed.split else 0


def all_algorithms() -> Iterator[Algorithm]:
    """Iterate over the algorithms of all products that lowering makes, and of plain ones of all transpositions.

    An activation is applied to a product of normal matrices, an activation's gradient to one with transposed b.
    """
    stored = [("plain", a, b) for a in (False, True) for b in (False, True)]
    for epilogue, a, b in (*stored, ("forward", False, False), ("gradient", False, True)):
        for shape in (*PRODUCTS.tiles, "row", "rows", "column"):
            for split, scalar in product((False, True), repeat=2):
                algorithm = Algorithm(a, b, epilogue, shape, split, scalar)
                if _plain(algorithm) == algorithm or epilogue == "gradient":
                    yield _plain(algorithm)
                if shape in PRODUCTS.tensor_tiles:
                    yield from (replace(algorithm, precision=precision) for precision in PRECISIONS)
        for shape, precision, scalar in product(PRODUCTS.warpgroup_tiles, PRECISIONS, (False, True)):
            yield Algorithm(a, b, epilogue, shape, False, scalar, precision)
