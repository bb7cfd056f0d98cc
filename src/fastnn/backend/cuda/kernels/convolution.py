"""Convolutions and their gradients: as matrix products, or one thread for each element of a result.

They are products (`matmul/implicit.py`) if channels and filters are in one group, and multiples of a pack. Otherwise
neighbouring threads have neighbouring channels of one pixel: they read the same numbers of the maps, and neighbouring
weights. The gradient for inputs visits the windows that cover a pixel, so nothing is added up in memory.
The gradient for weights is the sum over many pixels: the threads of a block share it, and add theirs in order.

An algorithm is that of a product (`matmul/plan.py`), or the epilogue alone. Products may be rounded for tensor cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from math import prod

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Dims, Key, Kit, Stage, ceil_div, elements, kernel
from fastnn.backend.cuda.codegen.sizes import CONVOLUTIONS, PACK, SIZES
from fastnn.backend.cuda.kernels.matmul.epilogue import make_finish
from fastnn.backend.cuda.kernels.matmul.gathered import TAPS
from fastnn.backend.cuda.kernels.matmul.implicit import implicit_product
from fastnn.backend.cuda.kernels.matmul.implicit_frame import implicit_sum, product_dims
from fastnn.backend.cuda.kernels.matmul.implicit_tensor import tensor_implicit_product
from fastnn.backend.cuda.kernels.matmul.plan import PRECISIONS, Algorithm, choose, scratch_bytes
from fastnn.backend.cuda.kernels.moves import split
from fastnn.backend.cuda.kernels.windows import covered, covering, pixel_of, tap_of, three
from fastnn.formulas import activations
from fastnn.program.layout import Flag
from fastnn.program.window import unpacked

_THREADS, _LANES, _STRIPS = SIZES.threads, SIZES.lanes, SIZES.strips
# neighbouring results whose products are added in the dtype
_STRETCH = 64


def _direct(flags: Flag) -> str:
    return "forward" if Flag.MAP_FORWARD in flags else "gradient" if Flag.MAP_GRADIENT in flags else "plain"


def _algorithm(op: str, turned: Flag) -> Callable[..., str]:
    """Return the choice of an op's algorithm; its products have a matrix that is `turned`."""

    def choice(dims: Dims, flags: Flag, precision: str = "float32") -> str:
        packs = dims["channels"] % PACK == dims["filters"] % PACK == 0
        if packs and dims["groups"] == 1 and prod(unpacked(dims["window"])) <= TAPS:
            found = choose(product_dims(op, dims), flags | turned, precision, sizes=CONVOLUTIONS[op])
            if found.precision or found.shape in CONVOLUTIONS[op].tiles:
                return str(found)
        return _direct(flags)

    return choice


def _algorithms(op: str, *epilogues: str) -> tuple[str, ...]:
    sizes = CONVOLUTIONS[op]
    tiles = [("", shape) for shape in sizes.tiles] + list(product(PRECISIONS, sizes.tensor_tiles))
    products = (
        Algorithm(op == "conv_weights", op == "conv_back", epilogue, shape, split, precision=precision)
        for epilogue in epilogues
        for precision, shape in tiles
        for split in (False, True)
    )
    return (*epilogues, *map(str, products))


def _dtypes(algorithm: str) -> tuple[str, ...]:
    rounded = "-" in algorithm and Algorithm.parse(algorithm).precision
    return ("float32",) if rounded else ("float32", "float64")


def _variants(algorithm: str) -> Sequence[str]:
    epilogue = Algorithm.parse(algorithm).epilogue if "-" in algorithm else algorithm
    if epilogue == "plain":
        return ("",)
    return tuple(name for name in activations.SAVES if epilogue == "forward" or name != "step")


def _scratch(op: str) -> Callable[[Dims, int, str], int]:
    def nbytes(dims: Dims, itemsize: int, algorithm: str) -> int:
        return scratch_bytes(product_dims(op, dims), itemsize, algorithm, CONVOLUTIONS[op]) if "-" in algorithm else 0

    return nbytes


def _product(kit: Kit) -> list[Stage]:
    """Make the stages of a product."""
    algorithm = Algorithm.parse(kit.algorithm)
    if not algorithm.split:
        return [_multiplies(kit, algorithm)]
    return [_makes_parts(kit.op, kit.dtype, replace(algorithm, epilogue="plain")), implicit_sum(kit, algorithm)]


def _multiplies(kit: Kit, algorithm: Algorithm) -> Stage:
    return (tensor_implicit_product if algorithm.precision else implicit_product)(kit, algorithm)


@cache
def _makes_parts(op: str, dtype: str, algorithm: Algorithm) -> Stage:
    """Make the first stage of a product in parts, which is the same for all activations."""
    return _multiplies(Kit(Key(op, dtype, "", str(algorithm))), algorithm)


@kernel(
    "conv",
    algorithms=_algorithms("conv", "plain", "forward"),
    variants=_variants,
    algorithm=_algorithm("conv", Flag(0)),
    scratch=_scratch("conv"),
    dtypes=_dtypes,
)
def conv(kit: Kit) -> list[Stage]:
    """Make y = f(x * w + bias)."""
    if "-" in kit.algorithm:
        return _product(kit)
    X, W, BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS = kit.words("x w batch depth height width channels")
    OUT_DEPTH, ROWS, COLS, FILTERS, GROUPS = kit.words("out_depth rows cols filters groups")
    WINDOW, STRIDE, DILATION, PADDING = kit.words("window stride dilation padding")
    load, zero, finish = kit.load, kit.real(0.0), make_finish(kit, kit.algorithm, "y").one

    def conv(record, context):
        i, filters = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x, record[FILTERS]
        if i < record[BATCH] * record[OUT_DEPTH] * record[ROWS] * record[COLS] * filters:
            pixel, filter_ = split(i, filters)
            image, slice_, row, column = pixel_of(pixel, record[OUT_DEPTH], record[ROWS], record[COLS])
            group, _ = split(filter_, filters // record[GROUPS])
            depth = record[CHANNELS] // record[GROUPS]
            window_d, window_h, window_w = three(record[WINDOW])
            stride_d, stride_h, stride_w = three(record[STRIDE])
            dil_d, dil_h, dil_w = three(record[DILATION])
            pad_d, pad_h, pad_w = three(record[PADDING])
            z, tap_d, slices = covered(slice_, record[DEPTH], window_d, stride_d, dil_d, pad_d)
            y, tap_h, rows = covered(row, record[HEIGHT], window_h, stride_h, dil_h, pad_h)
            x, tap_w, columns = covered(column, record[WIDTH], window_w, stride_w, dil_w, pad_w)
            total = zero
            for a in range(slices):
                for b in range(rows):
                    line = ((image * record[DEPTH] + z + a * dil_d) * record[HEIGHT] + y + b * dil_h) * record[WIDTH]
                    at = (line + x) * record[CHANNELS] + group * depth
                    weight = ((tap_d + a) * window_h + tap_h + b) * window_w + tap_w
                    weight = weight * depth * filters + filter_
                    for _ in range(columns):
                        for channel in range(depth):
                            total += load(record[X], at + channel) * load(record[W], weight)
                            weight += filters
                        at += dil_w * record[CHANNELS]
            finish(record, np.int64(0), i, filter_, total)

    return [Stage(conv, elements("batch", "out_depth", "rows", "cols", "filters"), _THREADS)]


@kernel(
    "conv_back",
    algorithms=_algorithms("conv_back", "plain", "forward", "gradient"),
    variants=_variants,
    algorithm=_algorithm("conv_back", Flag.TRANSPOSE_B),
    scratch=_scratch("conv_back"),
    dtypes=_dtypes,
)
def conv_back(kit: Kit) -> list[Stage]:
    """Make the gradient of a convolution for its input, which is also the transposed convolution."""
    if "-" in kit.algorithm:
        return _product(kit)
    DY, W, BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS = kit.words("dy w batch depth height width channels")
    OUT_DEPTH, ROWS, COLS, FILTERS, GROUPS = kit.words("out_depth rows cols filters groups")
    WINDOW, STRIDE, DILATION, PADDING = kit.words("window stride dilation padding")
    load, zero, finish = kit.load, kit.real(0.0), make_finish(kit, kit.algorithm, "dx").one

    def conv_back(record, context):
        i, channels = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x, record[CHANNELS]
        if i < record[BATCH] * record[DEPTH] * record[HEIGHT] * record[WIDTH] * channels:
            pixel, channel = split(i, channels)
            image, z, y, x = pixel_of(pixel, record[DEPTH], record[HEIGHT], record[WIDTH])
            group_channels, filters = channels // record[GROUPS], record[FILTERS]
            group, within = split(channel, group_channels)
            depth = filters // record[GROUPS]
            window_d, window_h, window_w = three(record[WINDOW])
            stride_d, stride_h, stride_w = three(record[STRIDE])
            dil_d, dil_h, dil_w = three(record[DILATION])
            pad_d, pad_h, pad_w = three(record[PADDING])
            slice_, last_slice = covering(z, record[OUT_DEPTH], window_d, stride_d, dil_d, pad_d)
            first_row, last_row = covering(y, record[ROWS], window_h, stride_h, dil_h, pad_h)
            first_column, last_column = covering(x, record[COLS], window_w, stride_w, dil_w, pad_w)
            total = zero
            while slice_ < last_slice:
                tap_d = tap_of(z, slice_, stride_d, dil_d, pad_d)
                row = first_row if tap_d >= 0 else last_row
                while row < last_row:
                    tap_h = tap_of(y, row, stride_h, dil_h, pad_h)
                    column = first_column if tap_h >= 0 else last_column
                    while column < last_column:
                        tap_w = tap_of(x, column, stride_w, dil_w, pad_w)
                        if tap_w >= 0:
                            line = (image * record[OUT_DEPTH] + slice_) * record[ROWS] + row
                            at = (line * record[COLS] + column) * filters + group * depth
                            tap = (tap_d * window_h + tap_h) * window_w + tap_w
                            weight = (tap * group_channels + within) * filters + group * depth
                            for k in range(depth):
                                total += load(record[DY], at + k) * load(record[W], weight + k)
                        column += 1
                    row += 1
                slice_ += 1
            finish(record, np.int64(0), i, channel, total)

    return [Stage(conv_back, elements("batch", "depth", "height", "width", "channels"), _THREADS)]


@kernel(
    "conv_weights",
    algorithms=_algorithms("conv_weights", "plain"),
    algorithm=_algorithm("conv_weights", Flag.TRANSPOSE_A),
    scratch=_scratch("conv_weights"),
    dtypes=_dtypes,
)
def conv_weights(kit: Kit) -> list[Stage]:
    """Make the sums of dw over chunks of the batch; a block makes neighbouring filters of one weight of a window."""
    if "-" in kit.algorithm:
        return _product(kit)
    DW, X, DY, BATCH, DEPTH, HEIGHT, WIDTH = kit.words("dw x dy batch depth height width")
    CHANNELS, OUT_DEPTH, ROWS, COLS, FILTERS, GROUPS = kit.words("channels out_depth rows cols filters groups")
    WINDOW, STRIDE, DILATION, PADDING = kit.words("window stride dilation padding")
    WEIGHTS, CHUNKS = kit.words("weights chunks")
    load, store, real, zero = kit.load, kit.store, kit.real, kit.real(0.0)
    threads = _LANES * _STRIPS

    def conv_weights(record, context):
        lane, strip, filters = cuda.threadIdx.x % _LANES, cuda.threadIdx.x // _LANES, record[FILTERS]
        sums = cuda.shared.array(threads, np.float64)
        number, block = split(cuda.blockIdx.x, (filters + _LANES - 1) // _LANES)
        filter_, chunk, chunks = block * _LANES + lane, cuda.blockIdx.y, min(record[CHUNKS], record[BATCH])
        first = record[BATCH] * chunk // chunks
        images = record[BATCH] * (chunk + 1) // chunks - first
        total = 0.0
        if filter_ < filters:
            _, window_h, window_w = three(record[WINDOW])
            stride_d, stride_h, stride_w = three(record[STRIDE])
            dil_d, dil_h, dil_w = three(record[DILATION])
            pad_d, pad_h, pad_w = three(record[PADDING])
            depth = record[CHANNELS] // record[GROUPS]
            tap, channel = split(number, depth)
            tap, tap_w = split(tap, window_w)
            tap_d, tap_h = split(tap, window_h)
            group, _ = split(filter_, filters // record[GROUPS])
            channel += group * depth
            stretches = (record[COLS] + _STRETCH - 1) // _STRETCH
            unit = np.int64(strip)
            while unit < images * record[OUT_DEPTH] * record[ROWS] * stretches:
                line, stretch = split(unit, stretches)
                rest, row = split(line, record[ROWS])
                image, slice_ = split(rest, record[OUT_DEPTH])
                z = slice_ * stride_d - pad_d + tap_d * dil_d
                y = row * stride_h - pad_h + tap_h * dil_h
                if z >= 0 and z < record[DEPTH] and y >= 0 and y < record[HEIGHT]:
                    column, last = stretch * _STRETCH, min((stretch + 1) * _STRETCH, record[COLS])
                    x = column * stride_w - pad_w + tap_w * dil_w
                    at = ((first + image) * record[DEPTH] + z) * record[HEIGHT] + y
                    at = (at * record[WIDTH] + x) * record[CHANNELS] + channel
                    on = ((first + image) * record[OUT_DEPTH] + slice_) * record[ROWS] + row
                    on = (on * record[COLS] + column) * filters + filter_
                    near = zero
                    while column < last:
                        if x >= 0 and x < record[WIDTH]:
                            near += load(record[X], at) * load(record[DY], on)
                        column += 1
                        x += stride_w
                        at += stride_w * record[CHANNELS]
                        on += filters
                    total += np.float64(near)
                unit += _STRIPS
        sums[cuda.threadIdx.x] = total
        cuda.syncthreads()
        if strip == 0 and filter_ < filters:
            for other in range(1, _STRIPS):
                total += sums[other * _LANES + lane]
            store(record[DW], chunk * record[WEIGHTS] + number * filters + filter_, real(total))

    def grid(dims: Dims) -> tuple[int, int]:
        blocks = dims["weights"] // dims["filters"] * ceil_div(dims["filters"], _LANES)
        return blocks, min(dims["chunks"], dims["batch"])

    return [Stage(conv_weights, grid, threads)]


@kernel("sum_chunks")
def sum_chunks(kit: Kit) -> list[Stage]:
    """Make y, the sum of the chunks that a batch has."""
    Y, X, BATCH, CHUNKS, N = kit.words("y x batch chunks n")
    load, store = kit.load, kit.store

    def sum_chunks(record, context):
        i, n = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x, record[N]
        if i < n:
            total = load(record[X], i)
            for chunk in range(1, min(record[CHUNKS], record[BATCH])):
                total += load(record[X], chunk * n + i)
            store(record[Y], i, total)

    return [Stage(sum_chunks, elements("n"), _THREADS)]
