"""Pooling over windows of maps, and its gradients, by vectors of channels. Nothing but the results is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import address, flags_of, int64_pointer, smaller
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, rows_part
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.windows import make_pool, make_pool_gradient
from fastnn.backend.cpu.kernels.windows.axes import places_inside, three
from fastnn.backend.cpu.processor.blocking import Blocking
from fastnn.program.layout import Flag

_RECTIFY = int(Flag.RECTIFY)


@helper
def covered(number: int, size: int, window: int, stride: int, dilation: int, padding: int) -> tuple[int, int]:
    """Return the first entry of an axis that a window covers, and how many of its places are entries."""
    start = number * stride - padding
    first, count = places_inside(start, dilation, window, size)
    return start + first * dilation, count


@helper
def whole_windows(results: int, size: int, window: int, stride: int, dilation: int, padding: int) -> tuple[int, int]:
    """Return the first result of an axis whose window is within it, and the one after the last."""
    first = (padding + stride - 1) // stride
    reach = size - 1 - (window - 1) * dilation + padding
    last = smaller(results, reach // stride + 1) if reach >= 0 else 0
    return (first, last) if first < last else (results, results)


@helper
def neighbours(column: int, first: int, last: int, results: int) -> int:
    """Return how many results from `column` on are computed at once: all with whole windows, and others one by one."""
    return last - column if column == first and first < results else 1


@kernel("pool")
def pool(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make the maximum or the average of every window; places outside of the maps do not count."""
    X, Y = kit.words("x y")
    BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS = kit.words("batch depth height width channels")
    OUT_DEPTH, ROWS, COLS = kit.words("out_depth rows cols")
    WINDOW, STRIDE, DILATION, PADDING = kit.words("window stride dilation padding")
    size, lanes = kit.itemsize, Blocking.of(kit.dtype).lanes
    some, pairs = (make_pool(kit.dtype, lanes, variant, pairs=pairs) for pairs in (False, True))

    def pool(record, context, ith, nth):
        r = int64_pointer(record)
        depth, height, width, pixel = r[DEPTH], r[HEIGHT], r[WIDTH], r[CHANNELS] * size
        window_d, window_h, window_w = three(r[WINDOW])
        stride_d, stride_h, stride_w = three(r[STRIDE])
        dil_d, dil_h, dil_w = three(r[DILATION])
        pad_d, pad_h, pad_w = three(r[PADDING])
        x, y = address(record, context, X), address(record, context, Y)
        line, last = rows_part(r[BATCH] * r[OUT_DEPTH] * r[ROWS], ith, nth)
        to, results, move = y + line * r[COLS] * pixel, r[COLS], stride_w * pixel
        first_whole, last_whole = whole_windows(results, width, window_w, stride_w, dil_w, pad_w)
        while line < last:
            i, row = line // r[ROWS], line % r[ROWS]
            image, i_d = i // r[OUT_DEPTH], i % r[OUT_DEPTH]
            z, slices = covered(i_d, depth, window_d, stride_d, dil_d, pad_d)
            h, rows = covered(row, height, window_h, stride_h, dil_h, pad_h)
            at = x + ((image * depth + z) * height + h) * width * pixel
            column = 0
            while column < results:
                count = neighbours(column, first_whole, last_whole, results)
                w, columns = covered(column, width, window_w, stride_w, dil_w, pad_w)
                if slices == 1 and rows == 2 and columns == 2:
                    pairs(at + w * pixel, slices, 0, rows, dil_h * width * pixel, columns, dil_w * pixel, to,
                          r[CHANNELS], count, move)  # fmt: skip
                else:
                    some(at + w * pixel, slices, dil_d * height * width * pixel, rows, dil_h * width * pixel, columns,
                         dil_w * pixel, to, r[CHANNELS], count, move)  # fmt: skip
                to += count * pixel
                column += count
            line += 1

    return pool


def _gradient(kit: Kit, kind: str) -> Callable[..., Any]:
    DX, DY = kit.words("dx dy")
    X, Y = kit.words("x y") if kind == "max" else (DY, DY)
    BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS = kit.words("batch depth height width channels")
    OUT_DEPTH, ROWS, COLS = kit.words("out_depth rows cols")
    WINDOW, STRIDE, DILATION, PADDING = kit.words("window stride dilation padding")
    size, lanes, reals, zero = kit.itemsize, Blocking.of(kit.dtype).lanes, kit.reals, kit.real(0.0)
    bring, add = (make_pool_gradient(kit.dtype, lanes, kind, adds=adds) for adds in (False, True))
    bring_pairs = make_pool_gradient(kit.dtype, lanes, kind, pairs=True)

    @helper
    def covers(size, results, window, stride, dilation, padding):
        """Return whether windows do not overlap, and whether they leave out an entry."""
        apart = dilation == 1 and stride >= window
        return apart, stride != window or results * stride - padding < size

    def gradient(record, context, ith, nth):
        r = int64_pointer(record)
        depth, height, width, pixel = r[DEPTH], r[HEIGHT], r[WIDTH], r[CHANNELS] * size
        window_d, window_h, window_w = three(r[WINDOW])
        stride_d, stride_h, stride_w = three(r[STRIDE])
        dil_d, dil_h, dil_w = three(r[DILATION])
        pad_d, pad_h, pad_w = three(r[PADDING])
        dx, dy = address(record, context, DX), address(record, context, DY)
        x, y = address(record, context, X), address(record, context, Y)
        rectify = flags_of(record) & _RECTIFY
        image, last = rows_part(r[BATCH], ith, nth)
        apart_d, gap_d = covers(depth, r[OUT_DEPTH], window_d, stride_d, dil_d, pad_d)
        apart_h, gap_h = covers(height, r[ROWS], window_h, stride_h, dil_h, pad_h)
        apart_w, gap_w = covers(width, r[COLS], window_w, stride_w, dil_w, pad_w)
        apart = apart_d and apart_h and apart_w
        if not apart or gap_d or gap_h or gap_w:
            sums = reals(dx + image * depth * height * width * pixel)
            for i in range((last - image) * depth * height * width * r[CHANNELS]):
                sums[i] = zero
        skip, results, move = image * r[OUT_DEPTH] * r[ROWS] * r[COLS] * pixel, r[COLS], stride_w * pixel
        first_whole, last_whole = whole_windows(results, width, window_w, stride_w, dil_w, pad_w)
        while image < last:
            for i_d in range(r[OUT_DEPTH]):
                z, slices = covered(i_d, depth, window_d, stride_d, dil_d, pad_d)
                for row in range(r[ROWS]):
                    h, rows = covered(row, height, window_h, stride_h, dil_h, pad_h)
                    line = ((image * depth + z) * height + h) * width
                    column = 0
                    while column < results:
                        count = neighbours(column, first_whole, last_whole, results)
                        w, columns = covered(column, width, window_w, stride_w, dil_w, pad_w)
                        at = (line + w) * pixel
                        if apart and slices == 1 and rows == 2 and columns == 2:
                            bring_pairs(dx + at, x + at, slices, 0, rows, dil_h * width * pixel, columns, dil_w * pixel,
                                        y + skip, dy + skip, r[CHANNELS], rectify, count, move)  # fmt: skip
                        elif apart:
                            bring(dx + at, x + at, slices, dil_d * height * width * pixel, rows, dil_h * width * pixel,
                                  columns, dil_w * pixel, y + skip, dy + skip, r[CHANNELS], rectify, count,
                                  move)  # fmt: skip
                        else:
                            add(dx + at, x + at, slices, dil_d * height * width * pixel, rows, dil_h * width * pixel,
                                columns, dil_w * pixel, y + skip, dy + skip, r[CHANNELS], rectify, count,
                                move)  # fmt: skip
                        skip += count * pixel
                        column += count
            image += 1

    return gradient


@kernel("max_pool_grad")
def max_pool_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Bring every gradient to the first maximum of its window."""
    return _gradient(kit, "max")


@kernel("average_pool_grad")
def average_pool_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Bring an equal share of every gradient to all places of its window."""
    return _gradient(kit, "average")
