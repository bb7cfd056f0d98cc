"""Convolutions and their gradients for inputs, as products of taps.

The pixels of a line of the result are the rows of a product, whose sums run over the window's places, line by line and
channel by channel. The maps are read where they are. Where the window reaches over the edge, the part of a map
that some lines need, a *band*, is copied with zeros around it; it stays in the second-level cache.

The gradient for inputs is such a product, too: of the result's gradient, with the window turned around. With a stride s
every s-th pixel of a line has the same taps, so each of the s phases is a product with some of the window's places:
nothing is multiplied by inserted zeros, and nothing is added up in memory.

Each element is one chain of multiply-adds in an order that the window decides, so results do not depend on how the work
is cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import address, int64_pointer, release, smaller, stack_bytes
from fastnn.backend.cpu.codegen.kernel import Kit, apply_map, kernel, note_raised, rows_part
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.shared import shared
from fastnn.backend.cpu.codegen.taps_tile import SHIFTS
from fastnn.backend.cpu.kernels.panels import copy_and_transpose
from fastnn.backend.cpu.kernels.windows.axes import (
    COUNT,
    FIRST,
    MOVE,
    PLACE,
    PLACE_STEP,
    RESULT,
    SOURCE,
    STEP,
    TAP,
    TAP_STEP,
    TAPS,
    WINDOW,
    axes_of,
    by_phase,
    fill_of,
    outputs_of,
)
from fastnn.backend.cpu.kernels.windows.bands import copy_band_of
from fastnn.backend.cpu.kernels.windows.by_channel import by_channel
from fastnn.backend.cpu.kernels.windows.folded import folded
from fastnn.backend.cpu.kernels.windows.memory import STACK_BYTES, working_memory
from fastnn.backend.cpu.kernels.windows.taps import TAPS_ARGUMENTS
from fastnn.backend.cpu.layouts.shared import taps_of
from fastnn.backend.cpu.processor.blocking import Blocking
from fastnn.program.window import MOST_TAPS

# Pixels of a line that are computed at a time: eight of the highest tiles. A band of them has few pixels besides.
_COLUMNS = 112
# Bytes of the bands that are computed at a time, which stay in the second-level cache beside the weights.
_BAND_BYTES = 192 * 1024
# Segments of lines, of one map each, that are computed at a time, and the words that describe one.
_SEGMENTS, _WORDS = 32, 4
# Terms of a sum that are added up in registers: so much of a panel of weights stays in the first-level cache.
_TERMS = 256
_TABLE_BYTES, _LISTED_BYTES = MOST_TAPS * 8, _SEGMENTS * _WORDS * 8
# Weights of more bytes than this are packed panel by panel, each time that they are needed.
_PACKED_BYTES = 3 << 20


def _packing(kit: Kit, shape: Blocking, back: bool) -> Any:
    """Make the function that writes the weights of one panel of columns in the order in which tiles read them."""
    copy_panel, transpose_panel = copy_and_transpose(kit, shape, whole_panels=True)
    size, width, packed_row = kit.itemsize, shape.width, shape.width * kit.itemsize

    @helper
    def pack(weights, filters, depth, panel_columns, panel, panels, d, h, w, buffer):
        group, j, at = panel // panels, panel % panels * width, buffer
        columns, rows = smaller(width, panel_columns - j), panel_columns if back else depth
        first = weights + (j * filters + group * depth if back else group * panel_columns + j) * size
        for i_d in range(d[TAPS]):
            for i_h in range(h[TAPS]):
                line = (d[TAP] + i_d * d[TAP_STEP]) * h[WINDOW] + h[TAP] + i_h * h[TAP_STEP]
                for i_w in range(w[TAPS]):
                    tap = line * w[WINDOW] + w[TAP] + i_w * w[TAP_STEP]
                    source = first + tap * rows * filters * size
                    if back:
                        transpose_panel(source, filters * size, depth, columns, at)
                    else:
                        copy_panel(source, filters * size, depth, columns, at, packed_row)
                    at += depth * packed_row

    return pack


@helper
def _stays_inside(axis):
    """Return whether no window reaches over the ends of an axis."""
    last = (axis[COUNT] - 1) * axis[MOVE] + axis[PLACE] + (axis[TAPS] - 1) * axis[PLACE_STEP]
    return axis[PLACE] >= 0 and last < axis[SOURCE]


@helper
def _place_of(line, d, h, blocks_w):
    """Return the image, the slice, the line and the first column of a line's number."""
    block, ih = line // h[COUNT], line % h[COUNT]
    rest, iw = block // blocks_w, block % blocks_w * _COLUMNS
    return rest // d[COUNT], rest % d[COUNT], ih, iw


@helper
def _result_of(image, i_d, ih, iw, d, h, w):
    """Return the number of a pixel of the results."""
    line = (image * d[RESULT] + d[FIRST] + i_d * d[STEP]) * h[RESULT] + h[FIRST] + ih * h[STEP]
    return line * w[RESULT] + w[FIRST] + iw * w[STEP]


@helper
def _bands(d, h, w, source_c, size, room):
    """Return how bands are made: pixels of a line, lines, lines of results, how many at a time, bytes of one."""
    columns = (smaller(w[COUNT], _COLUMNS) - 1) * w[MOVE] + (w[TAPS] - 1) * w[PLACE_STEP] + 1
    slices, high = d[TAPS] * columns * source_c * size, (h[TAPS] - 1) * h[PLACE_STEP] + 1
    lines = (room // slices - high) // h[MOVE] + 1
    lines = smaller(h[COUNT], lines if lines > 1 else 1)
    rows = (lines - 1) * h[MOVE] + high
    nbytes = (slices * rows + 63) // 64 * 64
    count = smaller(_SEGMENTS, room // nbytes)
    return columns, rows, lines, count if count > 1 else 1, nbytes


def _convolution(kit: Kit, *, back: bool) -> Callable[..., Any]:
    """Make the kernel: of the convolution, or of the gradient for its inputs."""
    Y, X, W = kit.words("dx dy w" if back else "y x w")
    BATCH, CHANNELS, FILTERS, GROUPS = kit.words("batch channels filters groups")
    size, shape = kit.itemsize, Blocking.of(kit.dtype)
    lanes, width, few, packed_row = shape.lanes, shape.width, shape.few_rows, shape.width * kit.itemsize
    wide, narrow, shifts = (shared(key, TAPS_ARGUMENTS) for key in taps_of("conv", kit.dtype))
    pack, copy_band = _packing(kit, shape, back), copy_band_of(kit)
    axes, outputs, fill = axes_of(kit, back), outputs_of(kit, back), fill_of(kit)

    @helper
    def fill_lines(line, last_line, blocks_w, d, h, w, out, pixel, columns, bias, rectify):
        """Write lines of pixels without taps."""
        while line < last_line:
            image, i_d, ih, iw = _place_of(line, d, h, blocks_w)
            to = _result_of(image, i_d, ih, iw, d, h, w) * pixel
            fill(out + to, w[STEP] * pixel, smaller(_COLUMNS, w[COUNT] - iw), columns, bias, rectify)
            line += 1

    @helper
    def gather(line, last_line, blocks_w, d, h, w, x, source_c, inside, bands, memory, segment):
        """List segments of lines, with a band for each if windows reach over the edge; returns the next line."""
        columns, rows, lines_each, most, nbytes = bands
        count, volume = 0, d[SOURCE] * h[SOURCE] * w[SOURCE] * source_c * size
        while count < most and line < last_line:
            image, i_d, ih, iw = _place_of(line, d, h, blocks_w)
            lines = smaller(smaller(h[COUNT] - ih, lines_each), last_line - line)
            z, row, column = i_d * d[MOVE] + d[PLACE], ih * h[MOVE] + h[PLACE], iw * w[MOVE] + w[PLACE]
            at = x + image * volume + ((z * h[SOURCE] + row) * w[SOURCE] + column) * source_c * size
            if not inside:
                at = memory + count * nbytes
                copy_band(x + image * volume, d[SOURCE], h[SOURCE], w[SOURCE], source_c, z, d[PLACE_STEP], d[TAPS], row,
                          (lines - 1) * h[MOVE] + (h[TAPS] - 1) * h[PLACE_STEP] + 1, rows, column, columns,
                          at)  # fmt: skip
            words = count * _WORDS
            segment[words], segment[words + 1] = at, _result_of(image, i_d, ih, iw, d, h, w)
            segment[words + 2], segment[words + 3] = lines, smaller(w[COUNT] - iw, _COLUMNS)
            count += 1
            line += lines
        return line, count

    @helper
    def phase_part(record, context, ith, nth, fd, fh, fw):
        """Compute a part of the lines of one phase."""
        r = int64_pointer(record)
        d, h, w = axes(record, fd, fh, fw)
        blocks_w = (w[COUNT] + _COLUMNS - 1) // _COLUMNS
        line, last_line = rows_part(r[BATCH] * d[COUNT] * blocks_w * h[COUNT], ith, nth)
        if line >= last_line:
            return
        y, x, weights = address(record, context, Y), address(record, context, X), address(record, context, W)
        out, bias, rectify, rectified, mapped = outputs(record, context)
        filters, groups = r[FILTERS], r[GROUPS]
        source_c, result_c = (filters, r[CHANNELS]) if back else (r[CHANNELS], filters)
        depth, panel_columns, pixel = source_c // groups, result_c // groups, result_c * size
        taps = d[TAPS] * h[TAPS] * w[TAPS]
        if taps == 0:
            fill_lines(line, last_line, blocks_w, d, h, w, out, pixel, result_c, bias, rectify)
            return
        # neighbouring taps of a line without gaps are one: rows that are shifted, where results have few channels
        shifted = w[TAPS] == SHIFTS and w[PLACE_STEP] == 1 and w[MOVE] == 1 and panel_columns <= lanes
        merged = groups == 1 and (w[PLACE_STEP] == 1 or w[TAPS] == 1) and w[TAPS] * depth <= _TERMS
        places, k, apart = taps, depth, 1
        if shifted:
            places, apart = d[TAPS] * h[TAPS], SHIFTS
        elif merged:
            places, k = d[TAPS] * h[TAPS], w[TAPS] * depth
        # the sums' blocks: some places, or a part of one
        cuts = (k * apart + _TERMS - 1) // _TERMS
        block_places = 1 if cuts > 1 else smaller(places, _TERMS // (k * apart))
        blocks = cuts * ((places + block_places - 1) // block_places)
        # memory: bands, then panels of weights, all of them if there is room
        inside = _stays_inside(d) and _stays_inside(h) and _stays_inside(w)
        panels, panel_bytes = (panel_columns + width - 1) // width, taps * depth * packed_row
        packs = back or panel_columns % lanes != 0
        packs = packs or (result_c * size > packed_row and (last_line - line) * w[COUNT] >= few)
        all_bytes, one_band = groups * panels * panel_bytes if packs else 0, 0
        if not inside:
            one_band = _bands(d, h, w, source_c, size, 0)[4]
        needed = one_band + (panel_bytes if packs else 0)
        wanted = one_band + (panel_bytes if panel_bytes > all_bytes or all_bytes > _PACKED_BYTES else all_bytes)
        memory, room, allocated = working_memory(context, ith, stack_bytes(STACK_BYTES), needed, wanted)
        if memory == 0:
            note_raised(record, context)
            return
        together = packs and all_bytes <= _PACKED_BYTES and one_band + all_bytes <= room
        packed_bytes = (all_bytes if together else panel_bytes) if packs else 0
        bands = w[SOURCE], h[SOURCE], h[COUNT], _SEGMENTS, 0
        if not inside:
            bands = _bands(d, h, w, source_c, size, smaller(room - packed_bytes, _BAND_BYTES))
        panels_at = memory + (0 if inside else bands[3] * bands[4])
        # the places of taps in a band, or in the maps
        table = stack_bytes(_TABLE_BYTES)
        offsets, at = int64_pointer(table), 0
        for i in range(d[TAPS]):
            for j in range(h[TAPS]):
                for step in range(w[TAPS] if places == taps else 1):
                    row = i * (d[PLACE_STEP] if inside else 1) * bands[1] + j * h[PLACE_STEP]
                    offsets[at] = (row * bands[0] + step * w[PLACE_STEP]) * source_c * size
                    at += 1
        if together:
            for panel in range(groups * panels):
                pack(weights, filters, depth, panel_columns, panel, panels, d, h, w, panels_at + panel * panel_bytes)
        listed = stack_bytes(_LISTED_BYTES)
        segment = int64_pointer(listed)
        a_row, a_line = w[MOVE] * source_c * size, h[MOVE] * bands[0] * source_c * size
        c_row, c_line = w[STEP] * pixel, h[STEP] * w[RESULT] * pixel
        while line < last_line:
            line, count = gather(line, last_line, blocks_w, d, h, w, x, source_c, inside, bands, memory, segment)
            for panel in range(groups * panels):
                group, j = panel // panels, panel % panels * width
                columns, skip = smaller(width, panel_columns - j), (group * panel_columns + j) * size
                right, right_row = panels_at + (panel * panel_bytes if together else 0), packed_row
                if not packs:
                    right, right_row = weights + skip, filters * size
                elif not together:
                    pack(weights, filters, depth, panel_columns, panel, panels, d, h, w, right)
                for block in range(blocks):
                    first, cut = block // cuts * block_places, block % cuts
                    k0, k1 = k * cut // cuts, k * (cut + 1) // cuts
                    some, at_first = smaller(block_places, places - first), table + first * 8
                    here, step = right + (first * apart * k + k0) * right_row, apart * k * right_row
                    for words in range(0, count * _WORDS, _WORDS):
                        left, to = segment[words] + (group * depth + k0) * size, segment[words + 1] * pixel + skip
                        lines, rows = segment[words + 2], segment[words + 3]
                        init, init_row, late = out + to, c_row, 1
                        if block == 0:
                            init, init_row, late = (bias + skip if bias != 0 else 0), 0, 0
                        saved = 0
                        if block == blocks - 1:
                            saved = rectified + to if rectified != 0 else rectify
                        if shifted:
                            shifts(lines, a_line, c_line, rows, left, a_row, size, some, at_first, k1 - k0, here,
                                   right_row, step, k * right_row, out + to, c_row, init, init_row, late, columns,
                                   saved)  # fmt: skip
                        elif columns > lanes:
                            wide(lines, a_line, c_line, rows, left, a_row, size, some, at_first, k1 - k0, here,
                                 right_row, step, 0, out + to, c_row, init, init_row, late, columns, saved)  # fmt: skip
                        else:
                            narrow(lines, a_line, c_line, rows, left, a_row, size, some, at_first, k1 - k0, here,
                                   right_row, step, 0, out + to, c_row, init, init_row, late, columns,
                                   saved)  # fmt: skip
            if mapped:
                for words in range(0, count * _WORDS, _WORDS):
                    runs, pixels = segment[words + 2], segment[words + 3]
                    if pixels == w[RESULT]:
                        runs, pixels = 1, runs * pixels
                    for run in range(runs):
                        to = (segment[words + 1] + run * w[RESULT]) * pixel
                        apply_map(record, context, y + to, out + to, 0, pixels * result_c)
        if allocated != 0:
            release(allocated)

    return by_phase(kit, back, phase_part)


def _variant(kit: Kit, variant: str, back: bool) -> Callable[..., Any]:
    made = {"by_channel": by_channel, "folded": folded}.get(variant, _convolution)
    return made(kit, back=back)


@kernel("conv")
def conv(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make y = f(x * w + bias)."""
    return _variant(kit, variant, back=False)


@kernel("conv_back")
def conv_back(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make the gradient of a convolution for its input, which is also the transposed convolution."""
    return _variant(kit, variant, back=True)
