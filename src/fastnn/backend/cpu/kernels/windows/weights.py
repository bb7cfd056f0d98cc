"""Gradients of convolutions for their weights, as products of taps: the sums run over pixels, line by line.

The rows of a product are neighbouring weights: those of one line of the window, (column, channel), lie beside each
other in the map, too. The batch is cut into as many chunks as the record says, whatever the number of threads,
and `sum_chunks` adds them up. Within a chunk, the sum of each block of lines starts from zero and is added to those
before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import address, allocate, int64_pointer, release, smaller, stack_bytes
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, note_raised, part, rows_part
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.shared import shared
from fastnn.backend.cpu.codegen.taps_tile import SHIFTS
from fastnn.backend.cpu.kernels.panels import copy_and_transpose
from fastnn.backend.cpu.kernels.windows.bands import copy_band_of
from fastnn.backend.cpu.kernels.windows.by_channel import weights_by_channel
from fastnn.backend.cpu.kernels.windows.taps import SHIFTED_ARGUMENTS, TAPS_ARGUMENTS
from fastnn.backend.cpu.layouts.shared import taps_of
from fastnn.backend.cpu.processor.blocking import SCRATCH_BYTES, Blocking
from fastnn.program.layout import Buffer
from fastnn.program.window import BITS, MOST

_SCRATCH = int(Buffer.SCRATCH)
_BITS, _MOST = BITS, MOST
# The pixels of one sum.
_PIXELS = 512
_TABLE_BYTES = _PIXELS * 8
_STACK_BYTES = 48 * 1024


@kernel("conv_weights")
def conv_weights(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make the sums of dw over chunks of the batch."""
    if variant == "by_channel":
        return weights_by_channel(kit)
    DW, X, DY = kit.words("dw x dy")
    BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS = kit.words("batch depth height width channels")
    OUT_DEPTH, ROWS, COLS, FILTERS, GROUPS = kit.words("out_depth rows cols filters groups")
    WINDOW, STRIDE, DILATION, PADDING = kit.words("window stride dilation padding")
    WEIGHTS, CHUNKS = kit.words("weights chunks")
    size, reals, zero, shape = kit.itemsize, kit.reals, kit.real(0.0), Blocking.of(kit.dtype)
    lanes, width, packed_row = shape.lanes, shape.width, shape.width * kit.itemsize
    wide, narrow, shifted = (
        shared(key, arguments)
        for key, arguments in zip(
            taps_of("conv_weights", kit.dtype), (TAPS_ARGUMENTS, TAPS_ARGUMENTS, SHIFTED_ARGUMENTS), strict=True
        )
    )
    copy_panel, _ = copy_and_transpose(kit, shape, whole_panels=True)
    copy_band = copy_band_of(kit)

    @helper
    def weights_part(record, context, ith, nth, stack, stack_size):
        r = int64_pointer(record)
        batch, groups, filters, channels = r[BATCH], r[GROUPS], r[FILTERS], r[CHANNELS]
        depth, height, map_width, out_depth, rows, cols = (
            r[DEPTH], r[HEIGHT], r[WIDTH], r[OUT_DEPTH], r[ROWS], r[COLS]
        )  # fmt: skip
        window_d, window_h, window_w = r[WINDOW] >> 2 * _BITS, r[WINDOW] >> _BITS & _MOST, r[WINDOW] & _MOST
        stride_d, stride_h, stride_w = r[STRIDE] >> 2 * _BITS, r[STRIDE] >> _BITS & _MOST, r[STRIDE] & _MOST
        dil_d, dil_h, dil_w = r[DILATION] >> 2 * _BITS, r[DILATION] >> _BITS & _MOST, r[DILATION] & _MOST
        pad_d, pad_h, pad_w = r[PADDING] >> 2 * _BITS, r[PADDING] >> _BITS & _MOST, r[PADDING] & _MOST
        chunks = smaller(r[CHUNKS], batch)
        taps = window_d * window_h
        unit, last_unit = rows_part(chunks * taps, ith, nth)
        if unit >= last_unit:
            return 0
        x, dy, dw = address(record, context, X), address(record, context, DY), address(record, context, DW)
        group_channels, group_filters = channels // groups, filters // groups
        merged = groups == 1 and dil_w == 1
        # products of neighbouring pixels share what they read, where there are few filters
        shifts = window_w == SHIFTS and dil_w == 1 and stride_w == 1 and group_filters <= lanes
        each_rows, each = (window_w * channels, 1) if merged else (group_channels, window_w)
        panels = (group_filters + width - 1) // width
        inside = (
            pad_d == 0 and pad_h == 0 and pad_w == 0
            and (out_depth - 1) * stride_d + (window_d - 1) * dil_d < depth
            and (rows - 1) * stride_h + (window_h - 1) * dil_h < height
            and (cols - 1) * stride_w + (window_w - 1) * dil_w < map_width
        )  # fmt: skip
        copies = group_filters % lanes != 0
        memory, room, allocated = stack, stack_size, 0
        if int64_pointer(context)[_SCRATCH] != 0:
            memory, room = int64_pointer(context)[_SCRATCH] + ith * SCRATCH_BYTES, SCRATCH_BYTES
        # a block of pixels: some lines, or a part of one
        block_cols = smaller(cols, _PIXELS)
        lines_each = smaller(rows, _PIXELS // block_cols)
        band_w = (block_cols - 1) * stride_w + (window_w - 1) * dil_w + 1
        high = (window_h - 1) * dil_h + 1
        band_h = (lines_each - 1) * stride_h + high
        band_bytes = 0 if inside else (band_h * band_w * channels * size + 63) // 64 * 64
        panel_bytes = lines_each * block_cols * packed_row if copies else 0
        needed = band_bytes + panel_bytes + 64
        if needed > room:
            memory = allocate(needed + 64)
            if memory == 0:
                return 1
            allocated = memory
            memory = (memory + 63) // 64 * 64
        panel_at = memory + band_bytes
        if inside:
            band_w, band_h = map_width, height
        table = stack_bytes(_TABLE_BYTES)
        offsets = int64_pointer(table)
        for i in range(lines_each):
            offsets[i] = i * stride_h * band_w * channels * size
        while unit < last_unit:
            chunk, first = unit // taps, unit % taps
            last = smaller(taps, first + last_unit - unit)
            unit += last - first
            target = dw + chunk * r[WEIGHTS] * size
            fresh = 1
            for image in range(batch * chunk // chunks, batch * (chunk + 1) // chunks):
                for slice_d in range(window_d):
                    # lines of the window that this part has in this slice
                    h0, h1 = first - slice_d * window_h, last - slice_d * window_h
                    h0, h1 = h0 if h0 > 0 else 0, smaller(h1, window_h)
                    if h0 >= h1:
                        continue
                    slice_fresh = fresh
                    for i_d in range(out_depth):
                        z = i_d * stride_d - pad_d + slice_d * dil_d
                        if z < 0 or z >= depth:
                            continue
                        # a range with a step that is no constant may raise
                        for block_h in range((rows + lines_each - 1) // lines_each):
                            ih = block_h * lines_each
                            lines = smaller(lines_each, rows - ih)
                            for block_w in range((cols + block_cols - 1) // block_cols):
                                iw = block_w * block_cols
                                columns = smaller(block_cols, cols - iw)
                                row, column = ih * stride_h - pad_h, iw * stride_w - pad_w
                                here = x + (((image * depth + z) * height + row) * map_width + column) * channels * size
                                if not inside:
                                    here = memory
                                    copy_band(x + image * depth * height * map_width * channels * size, depth, height,
                                              map_width, channels, z, 1, 1, row, (lines - 1) * stride_h + high, band_h,
                                              column, band_w, here)  # fmt: skip
                                pixel = ((image * out_depth + i_d) * rows + ih) * cols + iw
                                for panel in range(groups * panels):
                                    group, j = panel // panels, panel % panels * width
                                    count = smaller(width, group_filters - j)
                                    right = dy + (pixel * filters + group * group_filters + j) * size
                                    right_row, b_step = filters * size, cols * filters * size
                                    if copies:
                                        for i in range(lines):
                                            copy_panel(right + i * cols * filters * size, filters * size, columns,
                                                       count, panel_at + i * columns * packed_row,
                                                       packed_row)  # fmt: skip
                                        right, right_row, b_step = panel_at, packed_row, columns * packed_row
                                    for line in range(h0 if shifts and columns >= SHIFTS else h1, h1):
                                        left = here + (line * dil_h * band_w * channels + group * group_channels) * size
                                        weight = (slice_d * window_h + line) * window_w * group_channels
                                        to = target + (weight * filters + group * group_filters + j) * size
                                        shifted(group_channels, left, channels * size, lines, table, columns, right,
                                                right_row, b_step, to, filters * size, group_channels * filters * size,
                                                1 - slice_fresh, count)  # fmt: skip
                                    for number in range(
                                        h1 * each if shifts and columns >= SHIFTS else h0 * each, h1 * each
                                    ):
                                        line, step = number // each, number % each
                                        left = here + (
                                            (line * dil_h * band_w + step * dil_w) * channels + group * group_channels
                                        ) * size  # fmt: skip
                                        weight = ((slice_d * window_h + line) * window_w + step) * group_channels
                                        to = target + (weight * filters + group * group_filters + j) * size
                                        init, init_row, late = (
                                            (0, 0, 0) if slice_fresh == 1 else (to, filters * size, 1)
                                        )
                                        if count > lanes:
                                            wide(1, 0, 0, each_rows, left, size, stride_w * channels * size, lines,
                                                 table, columns, right, right_row, b_step, 0, to, filters * size, init,
                                                 init_row, late, count, 0)  # fmt: skip
                                        else:
                                            narrow(1, 0, 0, each_rows, left, size, stride_w * channels * size, lines,
                                                   table, columns, right, right_row, b_step, 0, to, filters * size,
                                                   init,
                                                 init_row, late, count, 0)  # fmt: skip
                                slice_fresh = 0
                    if slice_fresh == 1:
                        # no line of the result reaches this slice of the map
                        y = reals(target + slice_d * window_h * window_w * group_channels * filters * size)
                        for i in range(
                            h0 * window_w * group_channels * filters, h1 * window_w * group_channels * filters
                        ):
                            y[i] = zero
                fresh = 0
        if allocated != 0:
            release(allocated)
        return 0

    def conv_weights(record, context, ith, nth):
        stack = stack_bytes(_STACK_BYTES)
        if weights_part(record, context, ith, nth, stack, _STACK_BYTES) != 0:
            note_raised(record, context)

    return conv_weights


@kernel("sum_chunks")
def sum_chunks(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make y, the sum of the chunks that a batch has."""
    Y, X, BATCH, CHUNKS, N = kit.words("y x batch chunks n")
    at = kit.at

    def sum_chunks(record, context, ith, nth):
        r, y, x = int64_pointer(record), at(record, context, Y), at(record, context, X)
        n, chunks = r[N], smaller(r[CHUNKS], r[BATCH])
        start, stop = part(n, ith, nth)
        for i in range(start, stop):
            y[i] = x[i]
        for chunk in range(1, chunks):
            skip = chunk * n
            for i in range(start, stop):
                y[i] += x[skip + i]

    return sum_chunks
