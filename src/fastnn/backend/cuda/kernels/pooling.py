"""Pooling over windows of maps, and its gradients: one thread for each element of the result, in a fixed order.

A gradient is gathered by the entries of a map: each visits the windows that cover it, from the first to the last.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Kit, Stage, elements, kernel
from fastnn.backend.cuda.codegen.options import helper
from fastnn.backend.cuda.codegen.sizes import SIZES
from fastnn.backend.cuda.kernels.moves import split
from fastnn.backend.cuda.kernels.windows import covered, covering, pixel_of, tap_of, three
from fastnn.program.layout import FLAGS_WORD, Flag

_THREADS = SIZES.threads
_RECTIFY = int(Flag.RECTIFY)


@kernel("pool", variants=lambda algorithm: ("max", "average"))
def pool(kit: Kit) -> list[Stage]:
    """Make the maximum or the average of every window; places outside of the maps do not count."""
    Y, X, BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS = kit.words("y x batch depth height width channels")
    OUT_DEPTH, ROWS, COLS = kit.words("out_depth rows cols")
    WINDOW, STRIDE, DILATION, PADDING = kit.words("window stride dilation padding")
    load, store, real, average = kit.load, kit.store, kit.real, kit.variant == "average"
    start = real(0.0 if average else -np.inf)

    def pool(record, context):
        i, channels = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x, record[CHANNELS]
        if i < record[BATCH] * record[OUT_DEPTH] * record[ROWS] * record[COLS] * channels:
            pixel, channel = split(i, channels)
            image, slice_, row, column = pixel_of(pixel, record[OUT_DEPTH], record[ROWS], record[COLS])
            window_d, window_h, window_w = three(record[WINDOW])
            stride_d, stride_h, stride_w = three(record[STRIDE])
            dil_d, dil_h, dil_w = three(record[DILATION])
            pad_d, pad_h, pad_w = three(record[PADDING])
            z, _, slices = covered(slice_, record[DEPTH], window_d, stride_d, dil_d, pad_d)
            y, _, rows = covered(row, record[HEIGHT], window_h, stride_h, dil_h, pad_h)
            x, _, columns = covered(column, record[WIDTH], window_w, stride_w, dil_w, pad_w)
            found = start
            for a in range(slices):
                for b in range(rows):
                    line = ((image * record[DEPTH] + z + a * dil_d) * record[HEIGHT] + y + b * dil_h) * record[WIDTH]
                    at = (line + x) * channels + channel
                    for _ in range(columns):
                        value = load(record[X], at)
                        if average:
                            found += value
                        elif value > found or value != value:
                            found = value
                        at += dil_w * channels
            if average:
                found = found / real(slices * rows * columns)
            store(record[Y], i, found)

    return [Stage(pool, elements("batch", "out_depth", "rows", "cols", "channels"), _THREADS)]


@kernel("average_pool_grad")
def average_pool_grad(kit: Kit) -> list[Stage]:
    """Bring an equal share of every gradient to all places of its window."""
    DX, DY, BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS = kit.words("dx dy batch depth height width channels")
    OUT_DEPTH, ROWS, COLS = kit.words("out_depth rows cols")
    WINDOW, STRIDE, DILATION, PADDING = kit.words("window stride dilation padding")
    load, store, real = kit.load, kit.store, kit.real
    zero = real(0.0)

    def average_pool_grad(record, context):
        i, channels = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x, record[CHANNELS]
        if i < record[BATCH] * record[DEPTH] * record[HEIGHT] * record[WIDTH] * channels:
            pixel, channel = split(i, channels)
            image, z, y, x = pixel_of(pixel, record[DEPTH], record[HEIGHT], record[WIDTH])
            window_d, window_h, window_w = three(record[WINDOW])
            stride_d, stride_h, stride_w = three(record[STRIDE])
            dil_d, dil_h, dil_w = three(record[DILATION])
            pad_d, pad_h, pad_w = three(record[PADDING])
            slice_, last_slice = covering(z, record[OUT_DEPTH], window_d, stride_d, dil_d, pad_d)
            first_row, last_row = covering(y, record[ROWS], window_h, stride_h, dil_h, pad_h)
            first_column, last_column = covering(x, record[COLS], window_w, stride_w, dil_w, pad_w)
            total = zero
            while slice_ < last_slice:
                _, _, slices = covered(slice_, record[DEPTH], window_d, stride_d, dil_d, pad_d)
                row = first_row if tap_of(z, slice_, stride_d, dil_d, pad_d) >= 0 else last_row
                while row < last_row:
                    _, _, rows = covered(row, record[HEIGHT], window_h, stride_h, dil_h, pad_h)
                    column = first_column if tap_of(y, row, stride_h, dil_h, pad_h) >= 0 else last_column
                    while column < last_column:
                        if tap_of(x, column, stride_w, dil_w, pad_w) >= 0:
                            _, _, columns = covered(column, record[WIDTH], window_w, stride_w, dil_w, pad_w)
                            line = (image * record[OUT_DEPTH] + slice_) * record[ROWS] + row
                            dy = load(record[DY], (line * record[COLS] + column) * channels + channel)
                            total += dy / real(slices * rows * columns)
                        column += 1
                    row += 1
                slice_ += 1
            store(record[DX], i, total)

    return [Stage(average_pool_grad, elements("batch", "depth", "height", "width", "channels"), _THREADS)]


@kernel("max_pool_grad")
def max_pool_grad(kit: Kit) -> list[Stage]:
    """Bring every gradient to the first maximum of its window; with RECTIFY only if that is positive, or NaN."""
    DX, DY, X, Y = kit.words("dx dy x y")
    BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS = kit.words("batch depth height width channels")
    OUT_DEPTH, ROWS, COLS = kit.words("out_depth rows cols")
    WINDOW, STRIDE, DILATION, PADDING = kit.words("window stride dilation padding")
    load, store, zero = kit.load, kit.store, kit.real(0.0)

    @helper
    def is_first(record, image, z, y, x, channel, here, sizes, dilations, largest):
        """Return whether no entry of a window before number `here` is its maximum.

        The window's first entry is (z, y, x), and it covers as many entries along each axis as `sizes` says.
        """
        _, rows, columns = sizes
        dil_d, dil_h, dil_w = dilations
        number = 0
        while number < here:
            rest, c = split(number, columns)
            a, b = split(rest, rows)
            line = (image * record[DEPTH] + z + a * dil_d) * record[HEIGHT] + y + b * dil_h
            value = load(record[X], (line * record[WIDTH] + x + c * dil_w) * record[CHANNELS] + channel)
            if value == largest or value != value:
                return False
            number += 1
        return True

    def max_pool_grad(record, context):
        i, channels = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x, record[CHANNELS]
        if i < record[BATCH] * record[DEPTH] * record[HEIGHT] * record[WIDTH] * channels:
            pixel, channel = split(i, channels)
            image, z, y, x = pixel_of(pixel, record[DEPTH], record[HEIGHT], record[WIDTH])
            window_d, window_h, window_w = three(record[WINDOW])
            stride_d, stride_h, stride_w = three(record[STRIDE])
            dil_d, dil_h, dil_w = three(record[DILATION])
            pad_d, pad_h, pad_w = three(record[PADDING])
            slice_, last_slice = covering(z, record[OUT_DEPTH], window_d, stride_d, dil_d, pad_d)
            first_row, last_row = covering(y, record[ROWS], window_h, stride_h, dil_h, pad_h)
            first_column, last_column = covering(x, record[COLS], window_w, stride_w, dil_w, pad_w)
            value, rectifies = load(record[X], i), record[FLAGS_WORD] & _RECTIFY != 0
            total = zero
            while slice_ < last_slice:
                at_z, skipped_d, slices = covered(slice_, record[DEPTH], window_d, stride_d, dil_d, pad_d)
                tap_d = tap_of(z, slice_, stride_d, dil_d, pad_d)
                row = first_row if tap_d >= 0 else last_row
                while row < last_row:
                    at_y, skipped_h, rows = covered(row, record[HEIGHT], window_h, stride_h, dil_h, pad_h)
                    tap_h = tap_of(y, row, stride_h, dil_h, pad_h)
                    column = first_column if tap_h >= 0 else last_column
                    while column < last_column:
                        tap_w = tap_of(x, column, stride_w, dil_w, pad_w)
                        line = (image * record[OUT_DEPTH] + slice_) * record[ROWS] + row
                        at = (line * record[COLS] + column) * channels + channel
                        largest = load(record[Y], at)
                        if tap_w >= 0 and (value == largest or value != value) and not (rectifies and largest <= zero):
                            at_x, skipped_w, columns = covered(column, record[WIDTH], window_w, stride_w, dil_w, pad_w)
                            here = ((tap_d - skipped_d) * rows + tap_h - skipped_h) * columns + tap_w - skipped_w
                            if is_first(record, image, at_z, at_y, at_x, channel, here, (slices, rows, columns),
                                        (dil_d, dil_h, dil_w), largest):  # fmt: skip
                                total += load(record[DY], at)
                        column += 1
                    row += 1
                slice_ += 1
            store(record[DX], i, total)

    return [Stage(max_pool_grad, elements("batch", "depth", "height", "width", "channels"), _THREADS)]
