"""Convolutions of each channel by itself ("depthwise"), and their gradients, by vectors of channels.

Maps are read in place: at the edges, windows have fewer places.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.by_channel import make_by_channel, make_by_channel_weight
from fastnn.backend.cpu.codegen.intrinsics import address, int64_pointer, smaller
from fastnn.backend.cpu.codegen.kernel import Kit, apply_map, rows_part
from fastnn.backend.cpu.codegen.options import helper
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
    places_inside,
    three,
)
from fastnn.backend.cpu.processor.blocking import Blocking

# Results of a line that are computed together: they share the weights that are loaded.
_PIXELS = 8
# Columns of the windows whose values neighbours share.
_SHIFTS = 3


def by_channel(kit: Kit, *, back: bool) -> Callable[..., Any]:
    """Make the kernel of as many channels, filters and groups: of the convolution, or of its gradient for inputs."""
    Y, X, W = kit.words("dx dy w" if back else "y x w")
    BATCH, CHANNELS = kit.words("batch channels")
    size, lanes = kit.itemsize, Blocking.of(kit.dtype).lanes
    axes, outputs, fill = axes_of(kit, back), outputs_of(kit, back), fill_of(kit)
    several, single = make_by_channel(kit.dtype, lanes, _PIXELS), make_by_channel(kit.dtype, lanes, 1)
    shifted = make_by_channel(kit.dtype, lanes, _PIXELS, _SHIFTS)

    @helper
    def phase_part(record, context, ith, nth, fd, fh, fw):
        """Compute a part of the lines of one phase."""
        r = int64_pointer(record)
        d, h, w = axes(record, fd, fh, fw)
        line, last_line = rows_part(r[BATCH] * d[COUNT] * h[COUNT], ith, nth)
        if line >= last_line:
            return
        channels, pixel = r[CHANNELS], r[CHANNELS] * size
        y, x, weights = address(record, context, Y), address(record, context, X), address(record, context, W)
        out, bias, rectify, rectified, mapped = outputs(record, context)
        # results whose windows lie within the lines
        full, end = 0, 0
        if w[TAPS] > 0:
            full = (w[MOVE] - 1 - w[PLACE]) // w[MOVE] if w[PLACE] < 0 else 0
            end = (w[SOURCE] - 1 - w[PLACE] - (w[TAPS] - 1) * w[PLACE_STEP]) // w[MOVE] + 1
        full, end = smaller(full, w[COUNT]), smaller(end, w[COUNT])
        shares = w[TAPS] == _SHIFTS and w[PLACE_STEP] == 1 and w[MOVE] == 1
        slice_step, row_step = d[PLACE_STEP] * h[SOURCE] * w[SOURCE] * pixel, h[PLACE_STEP] * w[SOURCE] * pixel
        w_slice, w_row, w_column = d[TAP_STEP] * h[WINDOW] * w[WINDOW], h[TAP_STEP] * w[WINDOW], w[TAP_STEP]
        while line < last_line:
            i, ih = line // h[COUNT], line % h[COUNT]
            image, i_d = i // d[COUNT], i % d[COUNT]
            begin = ((image * d[RESULT] + d[FIRST] + i_d * d[STEP]) * h[RESULT] + h[FIRST] + ih * h[STEP]) * w[RESULT]
            to = (begin + w[FIRST]) * pixel
            z, row = i_d * d[MOVE] + d[PLACE], ih * h[MOVE] + h[PLACE]
            first_z, slices = places_inside(z, d[PLACE_STEP], d[TAPS], d[SOURCE])
            first_row, rows = places_inside(row, h[PLACE_STEP], h[TAPS], h[SOURCE])
            if d[TAPS] * h[TAPS] * w[TAPS] == 0 or slices <= 0 or rows <= 0:
                fill(out + to, w[STEP] * pixel, w[COUNT], channels, bias, rectify)
            else:
                source = z + first_z * d[PLACE_STEP]
                source = (image * d[SOURCE] + source) * h[SOURCE] + row + first_row * h[PLACE_STEP]
                source *= w[SOURCE]
                tap = d[TAP] + first_z * d[TAP_STEP]
                tap = (tap * h[WINDOW] + h[TAP] + first_row * h[TAP_STEP]) * w[WINDOW] + w[TAP]
                column = 0
                while column < w[COUNT]:
                    kept = rectified + to if rectified != 0 else rectify
                    place = column * w[MOVE] + w[PLACE]
                    if column >= full and column + _PIXELS <= end:
                        if shares:
                            shifted(x + (source + place) * pixel, pixel, slices, slice_step, rows, row_step, _SHIFTS,
                                    pixel, weights + tap * pixel, w_slice * pixel, w_row * pixel, w_column * pixel,
                                    bias, out + to, w[STEP] * pixel, channels, kept)  # fmt: skip
                        else:
                            several(x + (source + place) * pixel, w[MOVE] * pixel, slices, slice_step, rows, row_step,
                                    w[TAPS], w[PLACE_STEP] * pixel, weights + tap * pixel, w_slice * pixel,
                                    w_row * pixel, w_column * pixel, bias, out + to, w[STEP] * pixel, channels,
                                    kept)  # fmt: skip
                        column += _PIXELS
                        to += _PIXELS * w[STEP] * pixel
                        continue
                    first, columns = places_inside(place, w[PLACE_STEP], w[TAPS], w[SOURCE])
                    if columns > 0:
                        single(x + (source + place + first * w[PLACE_STEP]) * pixel, 0, slices, slice_step, rows,
                               row_step, columns, w[PLACE_STEP] * pixel, weights + (tap + first * w_column) * pixel,
                               w_slice * pixel, w_row * pixel, w_column * pixel, bias, out + to, 0, channels,
                               kept)  # fmt: skip
                    else:
                        fill(out + to, 0, 1, channels, bias, rectify)
                    column += 1
                    to += w[STEP] * pixel
            if mapped:
                apply_map(record, context, y + begin * pixel, out + begin * pixel, 0, w[RESULT] * channels)
            line += 1

    return by_phase(kit, back, phase_part)


def weights_by_channel(kit: Kit) -> Callable[..., Any]:
    """Make the kernel of the gradient for the weights."""
    DW, X, DY = kit.words("dw x dy")
    BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS = kit.words("batch depth height width channels")
    OUT_DEPTH, ROWS, COLS, WEIGHTS, CHUNKS = kit.words("out_depth rows cols weights chunks")
    SIZES, STRIDE, DILATION, PADDING = kit.words("window stride dilation padding")
    size, reals, zero = kit.itemsize, kit.reals, kit.real(0.0)
    add = make_by_channel_weight(kit.dtype, Blocking.of(kit.dtype).lanes)

    def conv_weights(record, context, ith, nth):
        r = int64_pointer(record)
        x, dy, dw = address(record, context, X), address(record, context, DY), address(record, context, DW)
        chunks, batch, pixel = smaller(r[CHUNKS], r[BATCH]), r[BATCH], r[CHANNELS] * size
        depth, height, width, cols = r[DEPTH], r[HEIGHT], r[WIDTH], r[COLS]
        window_d, window_h, window_w = three(r[SIZES])
        stride_d, stride_h, stride_w = three(r[STRIDE])
        dil_d, dil_h, dil_w = three(r[DILATION])
        pad_d, pad_h, pad_w = three(r[PADDING])
        taps = window_d * window_h * window_w
        unit, last_unit = rows_part(chunks * taps, ith, nth)
        while unit < last_unit:
            chunk, first = unit // taps, unit % taps
            last = smaller(taps, first + last_unit - unit)
            unit += last - first
            sums = reals(dw + (chunk * r[WEIGHTS] + first * r[CHANNELS]) * size)
            for i in range((last - first) * r[CHANNELS]):
                sums[i] = zero
            # all weights of one sample, which stays in the second-level cache
            for image in range(batch * chunk // chunks, batch * (chunk + 1) // chunks):
                for tap in range(first, last):
                    td, th, tw = tap // (window_h * window_w), tap // window_w % window_h, tap % window_w
                    z, h, w = td * dil_d - pad_d, th * dil_h - pad_h, tw * dil_w - pad_w
                    # the results that this weight contributes to
                    first_d, count_d = places_inside(z, stride_d, r[OUT_DEPTH], depth)
                    first_h, count_h = places_inside(h, stride_h, r[ROWS], height)
                    first_w, count_w = places_inside(w, stride_w, cols, width)
                    if count_w <= 0:
                        continue
                    to = dw + (chunk * r[WEIGHTS] + tap * r[CHANNELS]) * size
                    for i_d in range(first_d, first_d + count_d):
                        for ih in range(first_h, first_h + count_h):
                            at = ((image * depth + z + i_d * stride_d) * height + h + ih * stride_h) * width
                            from_dy = ((image * r[OUT_DEPTH] + i_d) * r[ROWS] + ih) * cols + first_w
                            add(x + (at + w + first_w * stride_w) * pixel, stride_w * pixel, dy + from_dy * pixel,
                                pixel, count_w, to, r[CHANNELS])  # fmt: skip

    return conv_weights
