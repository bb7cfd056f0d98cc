"""What products of convolutions and of their gradients have in common: their sizes, and the blocks that make them.

The rows of a convolution's product are places of the window, and the sums run over taps and channels. In the gradient
for maps the rows are entries of a map, one phase of a stride after the other, and no zeros are inserted. In the
gradient for weights the rows are taps and channels, and sums run over the places of the images of a chunk. A record is
one product for each phase, or for each chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Dims, Kit, Stage, ceil_div
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import CONVOLUTIONS, PACK, SIZES, TensorTile, Tile
from fastnn.backend.cuda.kernels.matmul.epilogue import note_parts, part_address, sum_parts
from fastnn.backend.cuda.kernels.matmul.gathered import (
    AXIS,
    COUNT,
    PLACES,
    backward_axis,
    forward_axis,
    of_axis,
    phases_of,
)
from fastnn.backend.cuda.kernels.matmul.plan import Algorithm, blocks_of, parts_of
from fastnn.backend.cuda.kernels.matmul.tiles import tile_of
from fastnn.program.window import unpacked

i32, u32 = np.int32, np.uint32
RESULT_OF = {"conv": "y", "conv_back": "dx", "conv_weights": "dw"}


def product_dims(op: str, dims: Mapping[str, int]) -> dict[str, int]:
    """Return the dimensions of the product of a record: those of all phases, or of all chunks, together."""
    batch, filters, channels = dims["batch"], dims["filters"], dims["channels"]
    places = batch * dims["out_depth"] * dims["rows"] * dims["cols"]
    if op == "conv":
        return {"m": places, "n": filters, "k": dims["weights"] // filters}
    if op == "conv_back":
        entries = batch * dims["depth"] * dims["height"] * dims["width"]
        window, stride = unpacked(dims["window"]), unpacked(dims["stride"])
        taps = prod(ceil_div(size, step) for size, step in zip(window, stride, strict=True))
        return {"m": entries, "n": channels, "k": taps * filters}
    chunks = min(dims["chunks"], batch)
    return {"m": chunks * (dims["weights"] // filters), "n": filters, "k": ceil_div(places, chunks)}


def _groups(op: str, dims: Mapping[str, int]) -> tuple[int, int]:
    """Return how many products a record is, and the rows of the largest one."""
    if op == "conv":
        return 1, product_dims(op, dims)["m"]
    if op == "conv_weights":
        return min(dims["chunks"], dims["batch"]), dims["weights"] // dims["filters"]
    sizes = dims["depth"], dims["height"], dims["width"]
    phases = [min(step, size) for step, size in zip(unpacked(dims["stride"]), sizes, strict=True)]
    rows = (ceil_div(size, step) for size, step in zip(sizes, unpacked(dims["stride"]), strict=True))
    return prod(phases), dims["batch"] * prod(rows)


def tile_for(op: str, algorithm: Algorithm) -> Tile | TensorTile:
    """Return the tile of an algorithm."""
    sizes = CONVOLUTIONS[op]
    return sizes.tensor_tiles[algorithm.shape] if algorithm.precision else sizes.tiles[algorithm.shape]


def grid_of(op: str, algorithm: Algorithm) -> Any:
    """Return the grid of a product."""
    tile = tile_for(op, algorithm)

    def grid(dims: Dims) -> tuple[int, int]:
        count, most = _groups(op, dims)
        found = product_dims(op, dims)
        return count * blocks_of(tile, most, found["n"]), parts_of(found, algorithm, CONVOLUTIONS[op])

    return grid


@dataclass(frozen=True)
class Frame:
    """The device functions that say what a block of a product computes.

    Attributes
    ----------
    maps : device function
        maps(record) -> depth, height, width and channels of the maps that are gathered.
    columns : device function
        columns(record) -> the columns of the result.
    block : device function
        block(record) -> the number of the block's product, and the first row and column of its tile.
    describe : device function
        describe(record, axes, number, thread) writes the axes of a product to shared memory (see `gathered.py`).
    extents : device function
        extents(record, axes, number) -> rows, k, the first image, and the places of an image.
    stretch_of_k : device function
        stretch_of_k(k) -> the block's tiles of k, the k at which they begin, and those of the first tile: others are
        whole. It may be no tile, which is one of zeros then.
    parts : device function
        parts(record, thread) -> the address for the block's part of the result, of a product in parts.
    row_of : device function or None
        row_of(record, row): the row of the result for a row of a product; None if it is the same one.
    """

    maps: Any
    columns: Any
    block: Any
    describe: Any
    extents: Any
    stretch_of_k: Any
    parts: Any
    row_of: Any


def make_frame(kit: Kit, algorithm: Algorithm, depth: int) -> Frame:
    """Make the functions for tiles with a depth of k."""
    op, back, for_weights, split = kit.op, kit.op == "conv_back", kit.op == "conv_weights", algorithm.split
    BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS = kit.words("batch depth height width channels")
    OUT_DEPTH, ROWS, COLS, FILTERS, WEIGHTS = kit.words("out_depth rows cols filters weights")
    WINDOW, STRIDE, DILATION, PADDING = kit.words("window stride dilation padding")
    CHUNKS = kit.words("chunks")[0] if for_weights else 0
    tile, size = tile_for(op, algorithm), kit.itemsize
    rows, cols = tile.rows, tile.cols
    axis_of = backward_axis if back else forward_axis

    @formula
    def maps(record):
        if back:
            return i32(record[OUT_DEPTH]), i32(record[ROWS]), i32(record[COLS]), i32(record[FILTERS])
        return i32(record[DEPTH]), i32(record[HEIGHT]), i32(record[WIDTH]), i32(record[CHANNELS])

    @formula
    def columns(record):
        return u32(record[CHANNELS] if back else record[FILTERS])

    @helper
    def block(record):
        n = columns(record)
        most = record[BATCH] * record[OUT_DEPTH] * record[ROWS] * record[COLS]
        if for_weights:
            most = record[WEIGHTS] // record[FILTERS]
        if back:
            down_d, down_h, down_w = of_axis(record[STRIDE], 0), of_axis(record[STRIDE], 1), of_axis(record[STRIDE], 2)
            most = (record[BATCH] * ((record[DEPTH] + down_d - 1) // down_d)
                    * ((record[HEIGHT] + down_h - 1) // down_h) * ((record[WIDTH] + down_w - 1) // down_w))  # fmt: skip
        tiles_across, tiles_down = u32((n + cols - 1) // cols), u32((most + rows - 1) // rows)
        number = u32(cuda.blockIdx.x // u32(tiles_across * tiles_down))
        tile_row, tile_col = tile_of(u32(cuda.blockIdx.x % u32(tiles_across * tiles_down)), tiles_across, tiles_down)
        return number, u32(tile_row * rows), u32(tile_col * cols)

    @helper
    def describe(record, axes, number, thread):
        if thread < 3:
            axis, phase = np.int64(thread), np.int64(0)
            extent = record[DEPTH] if axis == 0 else (record[HEIGHT] if axis == 1 else record[WIDTH])
            results = record[OUT_DEPTH] if axis == 0 else (record[ROWS] if axis == 1 else record[COLS])
            if back:
                down_h, down_w = of_axis(record[STRIDE], 1), of_axis(record[STRIDE], 2)
                across_w, across_h = u32(phases_of(down_w, record[WIDTH])), u32(phases_of(down_h, record[HEIGHT]))
                phase = np.int64(number % across_w)
                if axis == 0:
                    phase = np.int64(number // u32(across_w * across_h))
                if axis == 1:
                    phase = np.int64(number // across_w % across_h)
            axis_of(axes, axis * AXIS, extent, results, of_axis(record[WINDOW], axis), of_axis(record[STRIDE], axis),
                    of_axis(record[DILATION], axis), of_axis(record[PADDING], axis), phase)  # fmt: skip

    @helper
    def extents(record, axes, number):
        places = u32(u32(axes[PLACES]) * u32(axes[AXIS + PLACES]) * u32(axes[2 * AXIS + PLACES]))
        taps = u32(u32(axes[COUNT]) * u32(axes[AXIS + COUNT]) * u32(axes[2 * AXIS + COUNT]))
        channels = u32(record[FILTERS] if back else record[CHANNELS])
        m, k, first_image = u32(u32(record[BATCH]) * places), u32(taps * channels), u32(0)
        if for_weights:
            chunks = min(record[CHUNKS], record[BATCH])
            first_image = u32(record[BATCH] * number // chunks)
            m, k = k, u32(u32(u32(record[BATCH] * (number + 1) // chunks) - first_image) * places)
        return m, k, first_image, places

    @helper
    def stretch_of_k(k):
        tiles, part = i32((k + depth - 1) // depth), u32(0)
        if split:
            each = i32(i32(tiles + i32(cuda.gridDim.y) - 1) // i32(cuda.gridDim.y))
            before = i32(i32(cuda.blockIdx.y) * each)
            tiles = min(each, i32(tiles - before))
            part = u32(before * depth)
        first = u32(0)
        if tiles > 0:
            first = u32(min(k, u32(part + u32(tiles * depth))) - part - u32((tiles - 1) * depth))
        else:
            tiles, part = i32(1), u32(0)
        return tiles, part, first

    @helper
    def parts(record, thread):
        if not split:
            return np.int64(0)
        elements = record[BATCH]
        if for_weights:
            elements = min(record[CHUNKS], record[BATCH]) * (record[WEIGHTS] // record[FILTERS])
        elif back:
            elements *= record[DEPTH] * record[HEIGHT] * record[WIDTH]
        else:
            elements *= record[OUT_DEPTH] * record[ROWS] * record[COLS]
        elements *= record[CHANNELS] if back else record[FILTERS]
        if cuda.blockIdx.x == 0 and cuda.blockIdx.y == 0 and thread == 0:
            note_parts(record, np.int64(cuda.gridDim.y))
        return part_address(record, cuda.blockIdx.y, elements * size)

    return Frame(maps, columns, block, describe, extents, stretch_of_k, parts, _row_of(kit, tile))


def _row_of(kit: Kit, tile: Tile | TensorTile) -> Any:
    """Make `row_of(record, row)`: the row of the result for a row of a product; None if it is the same one."""
    if kit.op == "conv":
        return None
    rows, cols = tile.rows, tile.cols
    if kit.op == "conv_weights":
        WEIGHTS, FILTERS = kit.words("weights filters")

        @helper
        def row_of_chunk(record, row):
            m, n = u32(record[WEIGHTS] // record[FILTERS]), u32(record[FILTERS])
            blocks = u32(u32((m + rows - 1) // rows) * u32((n + cols - 1) // cols))
            return u32(u32(cuda.blockIdx.x // blocks) * m + row)

        return row_of_chunk
    BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS, STRIDE = kit.words("batch depth height width channels stride")

    @helper
    def row_of_phase(record, row):
        d, h, w = of_axis(record[STRIDE], 0), of_axis(record[STRIDE], 1), of_axis(record[STRIDE], 2)
        if d * h * w == 1:
            return row
        depth, height, width = record[DEPTH], record[HEIGHT], record[WIDTH]
        most = record[BATCH] * ((depth + d - 1) // d) * ((height + h - 1) // h) * ((width + w - 1) // w)
        blocks = u32((most + rows - 1) // rows * ((record[CHANNELS] + cols - 1) // cols))
        phase = u32(cuda.blockIdx.x // blocks)
        across, down = u32(phases_of(w, width)), u32(phases_of(h, height))
        rest, phase_w = u32(phase // across), u32(phase % across)
        phase_d, phase_h = u32(rest // down), u32(rest % down)
        places = u32((width - phase_w + w - 1) // w)
        rest, x = u32(row // places), u32(row % places)
        places = u32((height - phase_h + h - 1) // h)
        rest, y = u32(rest // places), u32(rest % places)
        places = u32((depth - phase_d + d - 1) // d)
        image, z = u32(rest // places), u32(rest % places)
        line = (image * depth + z * d + phase_d) * height + y * h + phase_h
        return u32(line * width + x * w + phase_w)

    return row_of_phase


def implicit_sum(kit: Kit, algorithm: Algorithm) -> Stage:
    """Make the stage that adds the parts of a product."""
    op = kit.op
    BATCH, FILTERS = kit.words("batch filters")
    axes = {"conv": "out_depth rows cols filters", "conv_back": "depth height width channels",
            "conv_weights": "weights weights weights weights"}[op]  # fmt: skip
    ONE, TWO, THREE, COLUMNS = kit.words(axes)
    CHUNKS = kit.words("chunks")[0] if op == "conv_weights" else 0
    for_weights, threads = op == "conv_weights", SIZES.threads

    @formula
    def sizes(record):
        if for_weights:
            return record[COLUMNS] * min(record[CHUNKS], record[BATCH]), record[FILTERS]
        return record[BATCH] * record[ONE] * record[TWO] * record[THREE] * record[COLUMNS], record[COLUMNS]

    def grid(dims: Dims) -> tuple[int, int]:
        found = product_dims(op, dims)
        return ceil_div(found["m"] * found["n"], PACK * threads), 1

    return sum_parts(kit, algorithm.epilogue, PACK, RESULT_OF[op], sizes, grid)
