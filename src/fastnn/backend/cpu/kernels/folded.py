"""Convolutions whose results have few channels: the columns of the window are columns of one product, which are added.

A vector that holds the results of all columns of the window wastes no lanes: a product of lines, whose rows are all
pixels of the source, gives for each of them what it contributes to its neighbours, and a second pass adds that up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.fold import make_fold
from fastnn.backend.cpu.codegen.intrinsics import (
    address,
    allocate,
    flags_of,
    has,
    int64_pointer,
    release,
    smaller,
    stack_bytes,
)
from fastnn.backend.cpu.codegen.kernel import Kit, apply_map, note_raised, rows_part
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.shared import shared
from fastnn.backend.cpu.kernels.axes import backward_axis, forward_axis
from fastnn.backend.cpu.kernels.bands import copy_band_of
from fastnn.backend.cpu.kernels.taps import TAPS_ARGUMENTS
from fastnn.backend.cpu.layouts.shared import taps_of
from fastnn.backend.cpu.processor.blocking import SCRATCH_BYTES, Blocking
from fastnn.program.layout import Buffer, Flag
from fastnn.program.window import BITS, MOST, MOST_TAPS

_FORWARD, _RECTIFY = int(Flag.MAP_FORWARD), int(Flag.RECTIFY)
_SCRATCH = int(Buffer.SCRATCH)
_BITS, _MOST = BITS, MOST
_TABLE_BYTES = MOST_TAPS * 8
_STACK_BYTES = 48 * 1024
# Pixels of a line that are computed at a time, and bytes of the products of some lines.
_COLUMNS, _LINES_BYTES = 112, 96 * 1024


def folded(kit: Kit, *, back: bool) -> Callable[..., Any]:
    """Make the kernel of one group and strides of 1: of the convolution, or of the gradient for its inputs."""
    Y, X, W, BIAS = kit.words("dx dy w bias" if back else "y x w bias")
    EXTRA = kit.words("saved" if back else "pre")[0]
    BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS = kit.words("batch depth height width channels")
    OUT_DEPTH, ROWS, COLS, FILTERS = kit.words("out_depth rows cols filters")
    WINDOW, DILATION, PADDING = kit.words("window dilation padding")
    size, reals, zero, shape = kit.itemsize, kit.reals, kit.real(0.0), Blocking.of(kit.dtype)
    lanes, width = shape.lanes, shape.width
    packed_row = width * size
    wide, narrow, _ = (shared(key, TAPS_ARGUMENTS) for key in taps_of("conv", kit.dtype))
    axis_of = backward_axis if back else forward_axis
    copy_band, fold = copy_band_of(kit), make_fold(kit.dtype, lanes)

    @helper
    def pack(w, channels, filters, d, h, w_taps, buffer):
        """Write for each line of the window and each channel of the source the weights of all columns."""
        weights, to = reals(w), reals(buffer)
        terms, results = (filters, channels) if back else (channels, filters)
        at = 0
        for i in range(d[0]):
            for j in range(h[0]):
                line = (d[1] + i * d[2]) * h[3] + h[1] + j * h[2]
                for term in range(terms):
                    for place in range(width):
                        to[at + place] = zero
                    for step in range(w_taps[0]):
                        tap = line * w_taps[3] + w_taps[1] + step * w_taps[2]
                        for c in range(results):
                            source = (tap * channels + (c if back else term)) * filters + (term if back else c)
                            to[at + step * results + c] = weights[source]
                    at += width

    @helper
    def some_lines(record, context, ith, nth):
        """Compute a part of the lines."""
        r, flags = int64_pointer(record), flags_of(record)
        source_d, source_h, source_w, source_c = r[DEPTH], r[HEIGHT], r[WIDTH], r[CHANNELS]
        result_d, result_h, result_w, result_c = r[OUT_DEPTH], r[ROWS], r[COLS], r[FILTERS]
        window_w, window_h, dilation, padding = r[WINDOW] & _MOST, r[WINDOW] >> _BITS & _MOST, r[DILATION], r[PADDING]
        nd, td, sd, od, pd, gd, count_d, first_d, step_d = axis_of(
            source_d, result_d, r[WINDOW] >> 2 * _BITS, 1, dilation >> 2 * _BITS, padding >> 2 * _BITS, 0
        )
        nh, th, sh, oh, ph, gh, count_h, first_h, step_h = axis_of(
            source_h, result_h, window_h, 1, dilation >> _BITS & _MOST, padding >> _BITS & _MOST, 0
        )
        nw, tw, sw, ow, pw, gw, count_w, first_w, step_w = axis_of(
            source_w, result_w, window_w, 1, dilation & _MOST, padding & _MOST, 0
        )
        if back:
            source_d, result_d = result_d, source_d
            source_h, result_h = result_h, source_h
            source_w, result_w = result_w, source_w
            source_c, result_c = result_c, source_c
        blocks_w = (result_w + _COLUMNS - 1) // _COLUMNS
        line, last_line = rows_part(r[BATCH] * result_d * blocks_w * result_h, ith, nth)
        if line >= last_line:
            return 0
        y, x, w = address(record, context, Y), address(record, context, X), address(record, context, W)
        bias = address(record, context, BIAS) if has(record, BIAS) else 0
        mapped, rectify, rectified, out = False, 0, 0, y
        if back:
            if has(record, EXTRA):
                rectified = address(record, context, EXTRA)
            elif flags & _RECTIFY != 0:
                rectify = 1
        else:
            mapped = flags & _FORWARD != 0
            if has(record, EXTRA):
                out = address(record, context, EXTRA)
            elif flags & _RECTIFY != 0:
                rectify, mapped = 1, False
        # memory: the weights, a band, the products of its lines
        wide_columns = smaller(result_w, _COLUMNS) + (nw - 1) * pw
        packed_bytes, high = nd * nh * source_c * packed_row, (nh - 1) * ph + 1
        lines_each = smaller(result_h, _LINES_BYTES // (wide_columns * packed_row))
        lines_each = lines_each if lines_each > 1 else 1
        band_h = lines_each + high - 1
        band_bytes = (nd * band_h * wide_columns * source_c * size + 63) // 64 * 64
        # a vector is read at the last pixel's last place, too
        needed = packed_bytes + band_bytes + lines_each * wide_columns * packed_row + lanes * size
        memory, allocated = stack_bytes(_STACK_BYTES), 0
        if int64_pointer(context)[_SCRATCH] != 0 and needed <= SCRATCH_BYTES:
            memory = int64_pointer(context)[_SCRATCH] + ith * SCRATCH_BYTES
        elif needed > _STACK_BYTES:
            allocated = allocate(needed + 64)
            if allocated == 0:
                return 1
            memory = (allocated + 63) // 64 * 64
        band, products = memory + packed_bytes, memory + packed_bytes + band_bytes
        pack(w, r[CHANNELS], r[FILTERS], (nd, td, sd, 0), (nh, th, sh, window_h), (nw, tw, sw, window_w), memory)
        table = stack_bytes(_TABLE_BYTES)
        offsets = int64_pointer(table)
        for i in range(nd):
            for j in range(nh):
                offsets[i * nh + j] = (i * band_h + j * ph) * wide_columns * source_c * size
        pixel, columns, volume = result_c * size, nw * result_c, source_d * source_h * source_w * source_c * size
        while line < last_line:
            block, ih = line // result_h, line % result_h
            rest, wb = block // blocks_w, block % blocks_w
            image, i_d = rest // result_d, rest % result_d
            iw = wb * _COLUMNS
            lines = smaller(smaller(result_h - ih, lines_each), last_line - line)
            count = smaller(result_w - iw, _COLUMNS)
            copy_band(x + image * volume, source_d, source_h, source_w, source_c, i_d + od, pd, nd, ih + oh,
                      lines + high - 1, band_h, iw + ow, wide_columns, band)  # fmt: skip
            rows, a_line, step = count + (nw - 1) * pw, wide_columns * source_c * size, source_c * packed_row
            c_line = wide_columns * packed_row
            if columns > lanes:
                wide(lines, a_line, c_line, rows, band, source_c * size, size, nd * nh, table, source_c, memory,
                     packed_row, step, 0, products, packed_row, 0, 0, 0, width, 0)  # fmt: skip
            else:
                narrow(lines, a_line, c_line, rows, band, source_c * size, size, nd * nh, table, source_c, memory,
                       packed_row, step, 0, products, packed_row, 0, 0, 0, lanes, 0)  # fmt: skip
            place = (((image * result_d + i_d) * result_h + ih) * result_w + iw) * pixel
            for i in range(lines):
                to = place + i * result_w * pixel
                fold(products + i * c_line, packed_row, nw, pw * packed_row + pixel, bias, out + to, pixel, count,
                     result_c, rectified + to if rectified != 0 else rectify)  # fmt: skip
                if mapped:
                    apply_map(record, context, y + to, out + to, 0, count * result_c)
            line += lines
        if allocated != 0:
            release(allocated)
        return 0

    def convolution(record, context, ith, nth):
        if some_lines(record, context, ith, nth) != 0:
            note_raised(record, context)

    return convolution
