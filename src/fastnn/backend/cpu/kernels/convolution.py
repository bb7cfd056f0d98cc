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
from fastnn.backend.cpu.codegen.kernel import Kit, apply_map, kernel, note_raised, rows_part
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.shared import shared
from fastnn.backend.cpu.codegen.taps_tile import SHIFTS
from fastnn.backend.cpu.kernels.axes import backward_axis, forward_axis
from fastnn.backend.cpu.kernels.bands import copy_band_of
from fastnn.backend.cpu.kernels.by_channel import by_channel
from fastnn.backend.cpu.kernels.folded import folded
from fastnn.backend.cpu.kernels.panels import copy_and_transpose
from fastnn.backend.cpu.kernels.taps import TAPS_ARGUMENTS
from fastnn.backend.cpu.layouts.shared import taps_of
from fastnn.backend.cpu.processor.blocking import SCRATCH_BYTES, Blocking
from fastnn.program.layout import Buffer, Flag
from fastnn.program.window import BITS, MOST, MOST_TAPS

_FORWARD, _RECTIFY = int(Flag.MAP_FORWARD), int(Flag.RECTIFY)
_SCRATCH = int(Buffer.SCRATCH)
_BITS, _MOST = BITS, MOST
# Pixels of a line that are computed at a time: eight of the highest tiles. A band of them has few pixels besides.
_COLUMNS = 112
# Bytes of the bands that are computed at a time, which stay in the second-level cache beside the weights.
_BAND_BYTES = 192 * 1024
# Segments of lines, of one map each, that are computed at a time.
_SEGMENTS = 32
# Terms of a sum that are added up in registers: so much of a panel of weights stays in the first-level cache. With all
# 576 of 3 x 3 x 64 at once, tiles of 8 x 8 maps ran at 0.65 of the speed of a product.
_TERMS = 256
_TABLE_BYTES, _LISTED_BYTES = MOST_TAPS * 8, _SEGMENTS * 4 * 8
# Bytes of memory on the stack, for small networks in users' functions, which have no scratch memory.
_STACK_BYTES = 48 * 1024
# Weights of more bytes than this are packed panel by panel, each time that they are needed.
_PACKED_BYTES = 3 << 20


def _packing(kit: Kit, shape: Blocking, back: bool) -> Any:
    """Make the function that writes the weights of one panel of columns in the order in which tiles read them."""
    copy_panel, transpose_panel = copy_and_transpose(kit, shape, whole_panels=True)
    size, packed_row = kit.itemsize, shape.width * kit.itemsize

    @helper
    def pack(w, filters, depth, group_rows, d, h, w_taps, columns, buffer):
        # d, h and w_taps: (count, first number, step) along each axis, and the window's size
        at = buffer
        for i in range(d[0]):
            for j in range(h[0]):
                for k in range(w_taps[0]):
                    tap = ((d[1] + i * d[2]) * h[3] + h[1] + j * h[2]) * w_taps[3] + w_taps[1] + k * w_taps[2]
                    source = w + tap * group_rows * filters * size
                    if back:
                        transpose_panel(source, filters * size, depth, columns, at)
                    else:
                        copy_panel(source, filters * size, depth, columns, at, packed_row)
                    at += depth * packed_row

    return pack


def _convolution(kit: Kit, *, back: bool) -> Callable[..., Any]:
    """Make the kernel: of the convolution, or of the gradient for its inputs."""
    Y, X, W, BIAS = kit.words("dx dy w bias" if back else "y x w bias")
    EXTRA = kit.words("saved" if back else "pre")[0]
    BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS = kit.words("batch depth height width channels")
    OUT_DEPTH, ROWS, COLS, FILTERS, GROUPS = kit.words("out_depth rows cols filters groups")
    WINDOW, STRIDE, DILATION, PADDING = kit.words("window stride dilation padding")
    size, reals, real, shape = kit.itemsize, kit.reals, kit.real, Blocking.of(kit.dtype)
    lanes, width, few = shape.lanes, shape.width, shape.few_rows
    packed_row = width * size
    wide, narrow, shifts = (shared(key, TAPS_ARGUMENTS) for key in taps_of("conv", kit.dtype))
    axis_of = backward_axis if back else forward_axis
    pack, copy_band = _packing(kit, shape, back), copy_band_of(kit)
    zero = real(0.0)

    @helper
    def fill(line, step, count, columns, bias, rectify):
        """Write pixels without taps: the bias, or zeros."""
        start = reals(bias)
        for pixel in range(count):
            y = reals(line + pixel * step)
            for i in range(columns):
                value = start[i] if bias != 0 else zero
                y[i] = zero if rectify == 1 and value < zero else value

    @helper
    def phase_part(record, context, ith, nth, fd, fh, fw, stack, stack_size):
        """Compute a part of the lines of one phase."""
        r, flags = int64_pointer(record), flags_of(record)
        batch, filters, groups = r[BATCH], r[FILTERS], r[GROUPS]
        source_d, source_h, source_w, source_c = r[DEPTH], r[HEIGHT], r[WIDTH], r[CHANNELS]
        result_d, result_h, result_w, result_c = r[OUT_DEPTH], r[ROWS], r[COLS], r[FILTERS]
        window_w, window_h = r[WINDOW] & _MOST, r[WINDOW] >> _BITS & _MOST
        nd, td, sd, od, pd, gd, count_d, first_d, step_d = axis_of(
            source_d, result_d, r[WINDOW] >> 2 * _BITS, r[STRIDE] >> 2 * _BITS, r[DILATION] >> 2 * _BITS,
            r[PADDING] >> 2 * _BITS, fd)  # fmt: skip
        nh, th, sh, oh, ph, gh, count_h, first_h, step_h = axis_of(
            source_h, result_h, window_h, r[STRIDE] >> _BITS & _MOST, r[DILATION] >> _BITS & _MOST,
            r[PADDING] >> _BITS & _MOST, fh)  # fmt: skip
        nw, tw, sw, ow, pw, gw, count_w, first_w, step_w = axis_of(
            source_w, result_w, window_w, r[STRIDE] & _MOST, r[DILATION] & _MOST, r[PADDING] & _MOST, fw
        )
        if back:
            source_d, result_d = result_d, source_d
            source_h, result_h = result_h, source_h
            source_w, result_w = result_w, source_w
            source_c, result_c = result_c, source_c
        blocks_w = (count_w + _COLUMNS - 1) // _COLUMNS
        line, last_line = rows_part(batch * count_d * blocks_w * count_h, ith, nth)
        if line >= last_line:
            return 0
        y, x, w = address(record, context, Y), address(record, context, X), address(record, context, W)
        bias = address(record, context, BIAS) if has(record, BIAS) else 0
        mapped, rectify, rectified = False, 0, 0
        if back:
            if has(record, EXTRA):
                rectified = address(record, context, EXTRA)
            elif flags & _RECTIFY != 0:
                rectify = 1
        else:
            mapped = flags & _FORWARD != 0
            if flags & _RECTIFY != 0 and not has(record, EXTRA):
                rectify, mapped = 1, False
        out = y
        if not back and has(record, EXTRA):
            out = address(record, context, EXTRA)
        depth, panel_columns = source_c // groups, result_c // groups
        taps = nd * nh * nw
        pixel = result_c * size
        if taps == 0:
            while line < last_line:
                block, ih = line // count_h, line % count_h
                rest, wb = block // blocks_w, block % blocks_w
                image, i_d = rest // count_d, rest % count_d
                iw = wb * _COLUMNS
                place = ((image * result_d + first_d + i_d * step_d) * result_h + first_h + ih * step_h) * result_w
                fill(y + (place + first_w + iw * step_w) * pixel, step_w * pixel, smaller(_COLUMNS, count_w - iw),
                     result_c, bias, rectify)  # fmt: skip
                line += 1
            return 0
        # neighbouring taps of a line without gaps are one: rows that are shifted, where results have few channels
        shifted = nw == SHIFTS and pw == 1 and gw == 1 and panel_columns <= lanes
        merged = shifted or (groups == 1 and (pw == 1 or nw == 1) and nw * depth <= _TERMS)
        places, k = (nd * nh, nw * depth) if merged else (taps, depth)
        apart = 1
        if shifted:
            k, apart = depth, SHIFTS
        total_k = taps * depth
        # the sums' blocks: some places, or a part of one
        cuts = (k * apart + _TERMS - 1) // _TERMS
        block_places = 1 if cuts > 1 else smaller(places, _TERMS // (k * apart))
        blocks = cuts * ((places + block_places - 1) // block_places)
        # whether some window reaches over the edge
        inside = (
            od >= 0 and (count_d - 1) * gd + od + (nd - 1) * pd < source_d
            and oh >= 0 and (count_h - 1) * gh + oh + (nh - 1) * ph < source_h
            and ow >= 0 and (count_w - 1) * gw + ow + (nw - 1) * pw < source_w
        )  # fmt: skip
        panels = (panel_columns + width - 1) // width
        panel_bytes = total_k * packed_row
        pixels = (last_line - line) * count_w
        whole = panel_columns % lanes == 0 and not back
        packs = not whole or (result_c * size > packed_row and pixels >= few)
        # memory: bands, then panels
        block_columns = smaller(count_w, _COLUMNS)
        band_w = (block_columns - 1) * gw + (nw - 1) * pw + 1
        row_bytes = band_w * source_c * size
        high = (nh - 1) * ph + 1
        memory, room, allocated = stack, stack_size, 0
        if int64_pointer(context)[_SCRATCH] != 0:
            memory, room = int64_pointer(context)[_SCRATCH] + ith * SCRATCH_BYTES, SCRATCH_BYTES
        all_bytes = groups * panels * panel_bytes
        needed = 64 + (0 if inside else nd * high * row_bytes + 64) + (panel_bytes if packs else 0)
        if needed > room:
            room = needed + smaller(all_bytes, _PACKED_BYTES)
            memory = allocate(room + 64)
            if memory == 0:
                return 1
            allocated = memory
            memory = (memory + 63) // 64 * 64
        together = packs and all_bytes <= _PACKED_BYTES and all_bytes + needed - panel_bytes <= room
        packed_bytes = (all_bytes if together else panel_bytes) if packs else 0
        lines_each, segments, segment_bytes = count_h, _SEGMENTS, 0
        band_h = source_h
        if not inside:
            free = smaller(room - 64 - packed_bytes, _BAND_BYTES)
            most = (free // (nd * row_bytes) - high) // gh + 1
            lines_each = smaller(count_h, most if most > 1 else 1)
            band_h = (lines_each - 1) * gh + high
            segment_bytes = (nd * band_h * row_bytes + 63) // 64 * 64
            segments = smaller(_SEGMENTS, free // segment_bytes)
            if segments < 1:
                segments = 1
        else:
            band_w = source_w
        panels_at = memory + (0 if inside else segments * segment_bytes)
        # the places of taps in a band
        table = stack_bytes(_TABLE_BYTES)
        offsets, at = int64_pointer(table), 0
        slices = 1 if not inside else pd
        for i in range(nd):
            for j in range(nh):
                for step in range(1 if merged else nw):
                    offsets[at] = ((i * slices * band_h + j * ph) * band_w + step * pw) * source_c * size
                    at += 1
        taps_d, taps_h, taps_w = (nd, td, sd, 0), (nh, th, sh, window_h), (nw, tw, sw, window_w)
        group_rows = panel_columns if back else depth
        if together:
            for panel in range(groups * panels):
                group, j = panel // panels, panel % panels * width
                here = w + (j * filters + group * depth if back else group * panel_columns + j) * size
                pack(here, filters, depth, group_rows, taps_d, taps_h, taps_w, smaller(width, panel_columns - j),
                     panels_at + panel * panel_bytes)  # fmt: skip
        listed = stack_bytes(_LISTED_BYTES)
        segment = int64_pointer(listed)
        while line < last_line:
            count = 0
            while count < segments and line < last_line:
                block, ih = line // count_h, line % count_h
                rest, wb = block // blocks_w, block % blocks_w
                image, i_d = rest // count_d, rest % count_d
                iw = wb * _COLUMNS
                lines, columns = smaller(smaller(count_h - ih, lines_each), last_line - line), count_w - iw
                columns = smaller(columns, _COLUMNS)
                z, row, column = i_d * gd + od, ih * gh + oh, iw * gw + ow
                volume = source_d * source_h * source_w * source_c * size
                here = x + (((image * source_d + z) * source_h + row) * source_w + column) * source_c * size
                if not inside:
                    band = memory + count * segment_bytes
                    copy_band(x + image * volume, source_d, source_h, source_w, source_c, z, pd, nd, row,
                              (lines - 1) * gh + high, band_h, column, band_w, band)  # fmt: skip
                    here = band
                place = ((image * result_d + first_d + i_d * step_d) * result_h + first_h + ih * step_h) * result_w
                segment[4 * count], segment[4 * count + 1] = here, (place + first_w + iw * step_w) * pixel
                segment[4 * count + 2], segment[4 * count + 3] = lines, columns
                count += 1
                line += lines
            for panel in range(groups * panels):
                group, j = panel // panels, panel % panels * width
                columns, skip = smaller(width, panel_columns - j), (group * panel_columns + j) * size
                right, right_row = panels_at + (panel * panel_bytes if together else 0), packed_row
                if not packs:
                    right, right_row = w + skip, filters * size
                elif not together:
                    here = w + (j * filters + group * depth if back else group * panel_columns + j) * size
                    pack(here, filters, depth, group_rows, taps_d, taps_h, taps_w, columns, right)
                start = bias + skip if bias != 0 else 0
                for block in range(blocks):
                    first, cut = block // cuts * block_places, block % cuts
                    k0, k1 = k * cut // cuts, k * (cut + 1) // cuts
                    some, at_first = smaller(block_places, places - first), table + first * 8
                    here, step = right + (first * apart * k + k0) * right_row, apart * k * right_row
                    for number in range(count):
                        left = segment[4 * number] + (group * depth + k0) * size
                        to = segment[4 * number + 1] + skip
                        lines, rows = segment[4 * number + 2], segment[4 * number + 3]
                        init, init_row, late = (start, 0, 0) if block == 0 else (out + to, step_w * pixel, 1)
                        saved = 0
                        if block == blocks - 1:
                            saved = rectified + to if rectified != 0 else rectify
                        a_line, c_line = gh * band_w * source_c * size, step_h * result_w * pixel
                        if shifted:
                            shifts(lines, a_line, c_line, rows, left, gw * source_c * size, size, some, at_first,
                                   k1 - k0, here, right_row, step, k * right_row, out + to, step_w * pixel, init,
                                   init_row, late, columns, saved)  # fmt: skip
                        elif columns > lanes:
                            wide(lines, a_line, c_line, rows, left, gw * source_c * size, size, some, at_first, k1 - k0,
                                 here, right_row, step, 0, out + to, step_w * pixel, init, init_row, late, columns,
                                 saved)  # fmt: skip
                        else:
                            narrow(lines, a_line, c_line, rows, left, gw * source_c * size, size, some, at_first,
                                   k1 - k0, here, right_row, step, 0, out + to, step_w * pixel, init, init_row, late,
                                   columns, saved)  # fmt: skip
            if mapped:
                for number in range(count):
                    runs, elements = segment[4 * number + 2], segment[4 * number + 3] * result_c
                    if segment[4 * number + 3] == result_w:
                        runs, elements = 1, runs * elements
                    for run in range(runs):
                        to = segment[4 * number + 1] + run * result_w * pixel
                        apply_map(record, context, y + to, out + to, 0, elements)
        if allocated != 0:
            release(allocated)
        return 0

    def convolution(record, context, ith, nth):
        r = int64_pointer(record)
        stack = stack_bytes(_STACK_BYTES)
        phases_d, phases_h, phases_w = 1, 1, 1
        if back:
            phases_d = smaller(r[STRIDE] >> 2 * _BITS, r[DEPTH])
            phases_h, phases_w = smaller(r[STRIDE] >> _BITS & _MOST, r[HEIGHT]), smaller(r[STRIDE] & _MOST, r[WIDTH])
        for phase in range(phases_d * phases_h * phases_w):
            fd, fh, fw = phase // (phases_h * phases_w), phase // phases_w % phases_h, phase % phases_w
            if phase_part(record, context, ith, nth, fd, fh, fw, stack, _STACK_BYTES) != 0:
                note_raised(record, context)
                return

    return convolution


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
