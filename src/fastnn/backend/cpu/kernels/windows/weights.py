"""Gradients of convolutions for their weights, as products of taps: the sums run over pixels, line by line.

The rows of a product are neighbouring weights: those of one line of the window, (column, channel), lie beside each
other in the map, too. The batch is cut into as many chunks as the record says, whatever the number of threads,
and `sum_chunks` adds them up. Within a chunk, the sum of each block of lines starts from zero and is added to those
before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import address, int64_pointer, release, smaller, stack_bytes
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, note_raised, part, rows_part
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.shared import shared
from fastnn.backend.cpu.codegen.taps_tile import SHIFTS
from fastnn.backend.cpu.kernels.panels import copy_and_transpose
from fastnn.backend.cpu.kernels.windows.axes import three
from fastnn.backend.cpu.kernels.windows.bands import copy_band_of
from fastnn.backend.cpu.kernels.windows.by_channel import weights_by_channel
from fastnn.backend.cpu.kernels.windows.memory import STACK_BYTES, working_memory
from fastnn.backend.cpu.kernels.windows.taps import SHIFTED_ARGUMENTS, TAPS_ARGUMENTS
from fastnn.backend.cpu.layouts.shared import taps_of
from fastnn.backend.cpu.processor.blocking import Blocking

# The pixels of one sum.
_PIXELS = 512
_TABLE_BYTES = _PIXELS * 8


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
    def add_panel(form, left, left_line, lines, columns, table, right, right_row, right_line, to, h0, h1, count, fresh):
        """Add the products of pixels and a panel of filters to the weights of some lines of a slice of the window.

        Where they are `fresh`, they begin with zeros.
        """
        channels, group_channels, filters, window_w, stride_w, dil_h, dil_w, merged, shifts = form
        weights_row, tap_bytes = filters * size, group_channels * filters * size
        if shifts and columns >= SHIFTS:
            for line in range(h0, h1):
                shifted(group_channels, left + line * dil_h * left_line, channels * size, lines, table, columns, right,
                        right_row, right_line, to + line * window_w * tap_bytes, weights_row, tap_bytes, 1 - fresh,
                        count)  # fmt: skip
            return
        rows, each = (window_w * channels, 1) if merged else (group_channels, window_w)
        for number in range(h0 * each, h1 * each):
            line, step = number // each, number % each
            source = left + line * dil_h * left_line + step * dil_w * channels * size
            target = to + (line * window_w + step) * tap_bytes
            init, init_row, late = (0, 0, 0) if fresh == 1 else (target, weights_row, 1)
            if count > lanes:
                wide(1, 0, 0, rows, source, size, stride_w * channels * size, lines, table, columns, right, right_row,
                     right_line, 0, target, weights_row, init, init_row, late, count, 0)  # fmt: skip
            else:
                narrow(1, 0, 0, rows, source, size, stride_w * channels * size, lines, table, columns, right,
                       right_row, right_line, 0, target, weights_row, init, init_row, late, count, 0)  # fmt: skip

    @helper
    def add_block(form, group_filters, left, left_line, lines, columns, table, dy, dy_line, copy, to, h0, h1, fresh):
        """Add the products of a block of pixels and all filters; panels are copied to `copy`, if that is not 0."""
        channels, group_channels, filters = form[0], form[1], form[2]
        panels = (group_filters + width - 1) // width
        for panel in range(channels // group_channels * panels):
            group, j = panel // panels, panel % panels * width
            count, skip = smaller(width, group_filters - j), (group * group_filters + j) * size
            right, right_row, right_line = dy + skip, filters * size, dy_line
            if copy != 0:
                right, right_row, right_line = copy, packed_row, columns * packed_row
                for i in range(lines):
                    copy_panel(dy + skip + i * dy_line, filters * size, columns, count, copy + i * right_line,
                               packed_row)  # fmt: skip
            add_panel(form, left + group * group_channels * size, left_line, lines, columns, table, right, right_row,
                      right_line, to + skip, h0, h1, count, fresh)  # fmt: skip

    def conv_weights(record, context, ith, nth):
        r = int64_pointer(record)
        batch, groups, filters, channels = r[BATCH], r[GROUPS], r[FILTERS], r[CHANNELS]
        depth, height, map_width, out_depth, rows, cols = (
            r[DEPTH], r[HEIGHT], r[WIDTH], r[OUT_DEPTH], r[ROWS], r[COLS]
        )  # fmt: skip
        window_d, window_h, window_w = three(r[WINDOW])
        stride_d, stride_h, stride_w = three(r[STRIDE])
        dil_d, dil_h, dil_w = three(r[DILATION])
        pad_d, pad_h, pad_w = three(r[PADDING])
        chunks = smaller(r[CHUNKS], batch)
        taps = window_d * window_h
        unit, last_unit = rows_part(chunks * taps, ith, nth)
        if unit >= last_unit:
            return
        x, dy, dw = address(record, context, X), address(record, context, DY), address(record, context, DW)
        group_channels, group_filters = channels // groups, filters // groups
        # products of neighbouring pixels share what they read, where there are few filters
        shifts = window_w == SHIFTS and dil_w == 1 and stride_w == 1 and group_filters <= lanes
        merged = groups == 1 and dil_w == 1
        form = channels, group_channels, filters, window_w, stride_w, dil_h, dil_w, merged, shifts
        inside = (
            pad_d == 0 and pad_h == 0 and pad_w == 0
            and (out_depth - 1) * stride_d + (window_d - 1) * dil_d < depth
            and (rows - 1) * stride_h + (window_h - 1) * dil_h < height
            and (cols - 1) * stride_w + (window_w - 1) * dil_w < map_width
        )  # fmt: skip
        # blocks of pixels: some lines, or a part of one
        block_cols = smaller(cols, _PIXELS)
        block_rows = smaller(rows, _PIXELS // block_cols)
        blocks_w, blocks_h = (cols + block_cols - 1) // block_cols, (rows + block_rows - 1) // block_rows
        high = (window_h - 1) * dil_h + 1
        band_w, band_h = (block_cols - 1) * stride_w + (window_w - 1) * dil_w + 1, (block_rows - 1) * stride_h + high
        band_bytes = 0 if inside else (band_h * band_w * channels * size + 63) // 64 * 64
        copies = group_filters % lanes != 0
        needed = band_bytes + (block_rows * block_cols * packed_row if copies else 0) + 64
        memory, _, allocated = working_memory(context, ith, stack_bytes(STACK_BYTES), needed, needed)
        if memory == 0:
            note_raised(record, context)
            return
        copy = memory + band_bytes if copies else 0
        pixel, volume = channels * size, depth * height * map_width * channels * size
        left_line, dy_line = (map_width if inside else band_w) * pixel, cols * filters * size
        slice_bytes = window_h * window_w * group_channels * filters * size
        table = stack_bytes(_TABLE_BYTES)
        offsets = int64_pointer(table)
        for i in range(block_rows):
            offsets[i] = i * stride_h * left_line
        while unit < last_unit:
            chunk, first = unit // taps, unit % taps
            last = smaller(taps, first + last_unit - unit)
            unit += last - first
            target = dw + chunk * r[WEIGHTS] * size
            first_image = batch * chunk // chunks
            for image in range(first_image, batch * (chunk + 1) // chunks):
                for slice_d in range(window_d):
                    # lines of the window that this part has in this slice
                    h0, h1 = first - slice_d * window_h, last - slice_d * window_h
                    h0, h1 = h0 if h0 > 0 else 0, smaller(h1, window_h)
                    if h0 >= h1:
                        continue
                    fresh = 1 if image == first_image else 0
                    for block in range(out_depth * blocks_h * blocks_w):
                        i_d, ih = block // (blocks_h * blocks_w), block // blocks_w % blocks_h * block_rows
                        iw, z = block % blocks_w * block_cols, i_d * stride_d - pad_d + slice_d * dil_d
                        if z < 0 or z >= depth:
                            continue
                        lines, columns = smaller(block_rows, rows - ih), smaller(block_cols, cols - iw)
                        row, column = ih * stride_h - pad_h, iw * stride_w - pad_w
                        left = x + image * volume + ((z * height + row) * map_width + column) * pixel
                        if not inside:
                            left = memory
                            copy_band(x + image * volume, depth, height, map_width, channels, z, 1, 1, row,
                                      (lines - 1) * stride_h + high, band_h, column, band_w, left)  # fmt: skip
                        from_dy = ((image * out_depth + i_d) * rows + ih) * cols + iw
                        add_block(form, group_filters, left, left_line, lines, columns, table,
                                  dy + from_dy * filters * size, dy_line, copy, target + slice_d * slice_bytes, h0, h1,
                                  fresh)  # fmt: skip
                        fresh = 0
                    if fresh == 1:
                        # no line of the result reaches this slice of the map
                        y, line = reals(target + slice_d * slice_bytes), window_w * group_channels * filters
                        for i in range(h0 * line, h1 * line):
                            y[i] = zero
        if allocated != 0:
            release(allocated)

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
