"""Convolutions whose results have few channels: the columns of the window are columns of one product, which are added.

A vector that holds the results of all columns of the window wastes no lanes: a product of lines, whose rows are all
pixels of the source, gives for each of them what it contributes to its neighbours, and a second pass adds that up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.fold import make_fold
from fastnn.backend.cpu.codegen.intrinsics import address, int64_pointer, release, smaller, stack_bytes
from fastnn.backend.cpu.codegen.kernel import Kit, apply_map, note_raised, rows_part
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.shared import shared
from fastnn.backend.cpu.kernels.windows.axes import (
    PLACE,
    PLACE_STEP,
    RESULT,
    SOURCE,
    TAP,
    TAP_STEP,
    TAPS,
    WINDOW,
    axes_of,
    by_phase,
    outputs_of,
)
from fastnn.backend.cpu.kernels.windows.bands import copy_band_of
from fastnn.backend.cpu.kernels.windows.memory import STACK_BYTES, working_memory
from fastnn.backend.cpu.kernels.windows.taps import TAPS_ARGUMENTS
from fastnn.backend.cpu.layouts.shared import taps_of
from fastnn.backend.cpu.processor.blocking import Blocking
from fastnn.program.window import MOST_TAPS

_TABLE_BYTES = MOST_TAPS * 8
# Pixels of a line that are computed at a time, and bytes of the products of some lines.
_COLUMNS, _LINES_BYTES = 112, 96 * 1024


def folded(kit: Kit, *, back: bool) -> Callable[..., Any]:
    """Make the kernel of one group and strides of 1: of the convolution, or of the gradient for its inputs."""
    Y, X, W = kit.words("dx dy w" if back else "y x w")
    BATCH, CHANNELS, FILTERS = kit.words("batch channels filters")
    size, reals, zero, shape = kit.itemsize, kit.reals, kit.real(0.0), Blocking.of(kit.dtype)
    lanes, width = shape.lanes, shape.width
    packed_row = width * size
    wide, narrow, _ = (shared(key, TAPS_ARGUMENTS) for key in taps_of("conv", kit.dtype))
    axes, outputs = axes_of(kit, back), outputs_of(kit, back)
    copy_band, fold = copy_band_of(kit), make_fold(kit.dtype, lanes)

    @helper
    def pack(w, channels, filters, along_d, along_h, along_w, buffer):
        """Write for each line of the window and each channel of the source the weights of all columns."""
        weights, to = reals(w), reals(buffer)
        terms, results = (filters, channels) if back else (channels, filters)
        at = 0
        for i in range(along_d[TAPS]):
            for j in range(along_h[TAPS]):
                line = along_d[TAP] + i * along_d[TAP_STEP]
                line = line * along_h[WINDOW] + along_h[TAP] + j * along_h[TAP_STEP]
                for term in range(terms):
                    for place in range(width):
                        to[at + place] = zero
                    for step in range(along_w[TAPS]):
                        tap = line * along_w[WINDOW] + along_w[TAP] + step * along_w[TAP_STEP]
                        for c in range(results):
                            source = (tap * channels + (c if back else term)) * filters + (term if back else c)
                            to[at + step * results + c] = weights[source]
                    at += width

    @helper
    def some_lines(record, context, ith, nth, fd, fh, fw):
        """Compute a part of the lines."""
        r = int64_pointer(record)
        d, h, w = axes(record, fd, fh, fw)
        source_c, result_c = (r[FILTERS], r[CHANNELS]) if back else (r[CHANNELS], r[FILTERS])
        blocks_w = (w[RESULT] + _COLUMNS - 1) // _COLUMNS
        line, last_line = rows_part(r[BATCH] * d[RESULT] * blocks_w * h[RESULT], ith, nth)
        if line >= last_line:
            return
        y, x, weights = address(record, context, Y), address(record, context, X), address(record, context, W)
        out, bias, rectify, rectified, mapped = outputs(record, context)
        # memory: the weights, a band, the products of its lines
        wide_columns = smaller(w[RESULT], _COLUMNS) + (w[TAPS] - 1) * w[PLACE_STEP]
        packed_bytes, high = d[TAPS] * h[TAPS] * source_c * packed_row, (h[TAPS] - 1) * h[PLACE_STEP] + 1
        lines_each = smaller(h[RESULT], _LINES_BYTES // (wide_columns * packed_row))
        lines_each = lines_each if lines_each > 1 else 1
        band_h = lines_each + high - 1
        band_bytes = (d[TAPS] * band_h * wide_columns * source_c * size + 63) // 64 * 64
        # a vector is read at the last pixel's last place, too
        needed = packed_bytes + band_bytes + lines_each * wide_columns * packed_row + lanes * size
        memory, _, allocated = working_memory(context, ith, stack_bytes(STACK_BYTES), needed, needed)
        if memory == 0:
            note_raised(record, context)
            return
        band, products = memory + packed_bytes, memory + packed_bytes + band_bytes
        pack(weights, r[CHANNELS], r[FILTERS], d, h, w, memory)
        table = stack_bytes(_TABLE_BYTES)
        offsets = int64_pointer(table)
        for i in range(d[TAPS]):
            for j in range(h[TAPS]):
                offsets[i * h[TAPS] + j] = (i * band_h + j * h[PLACE_STEP]) * wide_columns * source_c * size
        pixel, columns, places = result_c * size, w[TAPS] * result_c, d[TAPS] * h[TAPS]
        volume = d[SOURCE] * h[SOURCE] * w[SOURCE] * source_c * size
        a_line, c_line, step = wide_columns * source_c * size, wide_columns * packed_row, source_c * packed_row
        while line < last_line:
            block, ih = line // h[RESULT], line % h[RESULT]
            rest, iw = block // blocks_w, block % blocks_w * _COLUMNS
            image, i_d = rest // d[RESULT], rest % d[RESULT]
            lines = smaller(smaller(h[RESULT] - ih, lines_each), last_line - line)
            count = smaller(w[RESULT] - iw, _COLUMNS)
            copy_band(x + image * volume, d[SOURCE], h[SOURCE], w[SOURCE], source_c, i_d + d[PLACE], d[PLACE_STEP],
                      d[TAPS], ih + h[PLACE], lines + high - 1, band_h, iw + w[PLACE], wide_columns, band)  # fmt: skip
            rows = count + (w[TAPS] - 1) * w[PLACE_STEP]
            if columns > lanes:
                wide(lines, a_line, c_line, rows, band, source_c * size, size, places, table, source_c, memory,
                     packed_row, step, 0, products, packed_row, 0, 0, 0, width, 0)  # fmt: skip
            else:
                narrow(lines, a_line, c_line, rows, band, source_c * size, size, places, table, source_c, memory,
                       packed_row, step, 0, products, packed_row, 0, 0, 0, lanes, 0)  # fmt: skip
            begin = (((image * d[RESULT] + i_d) * h[RESULT] + ih) * w[RESULT] + iw) * pixel
            for i in range(lines):
                to = begin + i * w[RESULT] * pixel
                fold(products + i * c_line, packed_row, w[TAPS], w[PLACE_STEP] * packed_row + pixel, bias, out + to,
                     pixel, count, result_c, rectified + to if rectified != 0 else rectify)  # fmt: skip
                if mapped:
                    apply_map(record, context, y + to, out + to, 0, count * result_c)
            line += lines
        if allocated != 0:
            release(allocated)

    return by_phase(kit, back, some_lines)
