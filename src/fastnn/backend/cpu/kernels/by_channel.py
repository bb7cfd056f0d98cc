"""Convolutions of each channel by itself ("depthwise"), and their gradients, by vectors of channels.

Maps are read in place: at the edges, windows have fewer places.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.by_channel import make_by_channel, make_by_channel_weight
from fastnn.backend.cpu.codegen.intrinsics import address, flags_of, has, int64_pointer, smaller
from fastnn.backend.cpu.codegen.kernel import Kit, apply_map, rows_part
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.kernels.axes import backward_axis, forward_axis, taps_inside
from fastnn.backend.cpu.processor.blocking import Blocking
from fastnn.program.layout import Flag
from fastnn.program.window import BITS, MOST

_FORWARD, _RECTIFY = int(Flag.MAP_FORWARD), int(Flag.RECTIFY)
_BITS, _MOST = BITS, MOST
# Results of a line that are computed together: they share the weights that are loaded.
_PIXELS = 8
# Columns of the windows whose values neighbours share.
_SHIFTS = 3


def by_channel(kit: Kit, *, back: bool) -> Callable[..., Any]:
    """Make the kernel of as many channels, filters and groups: of the convolution, or of the gradient for its inputs."""
    Y, X, W, BIAS = kit.words("dx dy w bias" if back else "y x w bias")
    EXTRA = kit.words("saved" if back else "pre")[0]
    BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS = kit.words("batch depth height width channels")
    OUT_DEPTH, ROWS, COLS = kit.words("out_depth rows cols")
    WINDOW, STRIDE, DILATION, PADDING = kit.words("window stride dilation padding")
    size, lanes, reals, zero = kit.itemsize, Blocking.of(kit.dtype).lanes, kit.reals, kit.real(0.0)
    axis_of = backward_axis if back else forward_axis
    several, single = make_by_channel(kit.dtype, lanes, _PIXELS), make_by_channel(kit.dtype, lanes, 1)
    shifted = make_by_channel(kit.dtype, lanes, _PIXELS, _SHIFTS)

    @helper
    def fill(y, step, count, channels, bias, rectify):
        """Write results that no place of the window reaches."""
        start = reals(bias)
        for pixel in range(count):
            to = reals(y + pixel * step)
            for i in range(channels):
                value = start[i] if bias != 0 else zero
                to[i] = zero if rectify == 1 and value < zero else value

    @helper
    def phase_part(record, context, ith, nth, fd, fh, fw):
        """Compute a part of the lines of one phase."""
        r, flags = int64_pointer(record), flags_of(record)
        channels, window_h, window_w = r[CHANNELS], r[WINDOW] >> _BITS & _MOST, r[WINDOW] & _MOST
        source_d, source_h, source_w = r[DEPTH], r[HEIGHT], r[WIDTH]
        result_d, result_h, result_w = r[OUT_DEPTH], r[ROWS], r[COLS]
        nd, td, sd, od, pd, gd, count_d, first_d, step_d = axis_of(
            source_d, result_d, r[WINDOW] >> 2 * _BITS, r[STRIDE] >> 2 * _BITS, r[DILATION] >> 2 * _BITS,
            r[PADDING] >> 2 * _BITS, fd)  # fmt: skip
        nh, th, sh, oh, ph, gh, count_h, first_h, step_h = axis_of(
            source_h, result_h, window_h, r[STRIDE] >> _BITS & _MOST, r[DILATION] >> _BITS & _MOST,
            r[PADDING] >> _BITS & _MOST, fh)  # fmt: skip
        nw, tw, sw, ow, pw, gw, count_w, first_w, step_w = axis_of(
            source_w, result_w, window_w, r[STRIDE] & _MOST, r[DILATION] & _MOST, r[PADDING] & _MOST, fw)
        if back:
            source_d, result_d = result_d, source_d
            source_h, result_h = result_h, source_h
            source_w, result_w = result_w, source_w
        line, last_line = rows_part(r[BATCH] * count_d * count_h, ith, nth)
        if line >= last_line:
            return
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
        pixel = channels * size
        # results whose windows lie within the lines
        full, end = 0, 0
        if nw > 0:
            full = (gw - 1 - ow) // gw if ow < 0 else 0
            end = (source_w - 1 - ow - (nw - 1) * pw) // gw + 1
        full = smaller(full, count_w)
        end = smaller(end, count_w)
        while line < last_line:
            i, ih = line // count_h, line % count_h
            image, i_d = i // count_d, i % count_d
            place = ((image * result_d + first_d + i_d * step_d) * result_h + first_h + ih * step_h) * result_w
            to = (place + first_w) * pixel
            z, slices = taps_inside(i_d * gd + od, pd, nd, source_d)
            row, rows = taps_inside(ih * gh + oh, ph, nh, source_h)
            if nd * nh * nw == 0 or slices <= 0 or rows <= 0:
                fill(out + to, step_w * pixel, count_w, channels, bias, rectify)
            else:
                line_at = ((image * source_d + i_d * gd + od + z * pd) * source_h + ih * gh + oh + row * ph) * source_w
                tap = ((td + z * sd) * window_h + th + row * sh) * window_w + tw
                column = 0
                while column < count_w:
                    kept = rectified + to if rectified != 0 else rectify
                    if column >= full and column + _PIXELS <= end:
                        if nw == _SHIFTS and pw == 1 and gw == 1:
                            shifted(x + (line_at + column + ow) * pixel, pixel, slices, pd * source_h * source_w * pixel,
                                    rows, ph * source_w * pixel, nw, pixel, w + tap * pixel,
                                    sd * window_h * window_w * pixel, sh * window_w * pixel, sw * pixel, bias, out + to,
                                    step_w * pixel, channels, kept)  # fmt: skip
                        else:
                            several(x + (line_at + column * gw + ow) * pixel, gw * pixel, slices,
                                    pd * source_h * source_w * pixel, rows, ph * source_w * pixel, nw, pw * pixel,
                                    w + tap * pixel, sd * window_h * window_w * pixel, sh * window_w * pixel,
                                    sw * pixel, bias, out + to, step_w * pixel, channels, kept)  # fmt: skip
                        column += _PIXELS
                        to += _PIXELS * step_w * pixel
                        continue
                    first, columns = taps_inside(column * gw + ow, pw, nw, source_w)
                    if columns > 0:
                        single(x + (line_at + column * gw + ow + first * pw) * pixel, gw * pixel, slices,
                               pd * source_h * source_w * pixel, rows, ph * source_w * pixel, columns, pw * pixel,
                               w + (tap + first * sw) * pixel, sd * window_h * window_w * pixel,
                               sh * window_w * pixel, sw * pixel, bias, out + to, step_w * pixel, channels,
                               kept)  # fmt: skip
                    else:
                        fill(out + to, 0, 1, channels, bias, rectify)
                    column += 1
                    to += step_w * pixel
            if mapped:
                at = (place + first_w) * pixel
                apply_map(record, context, y + at, out + at, 0, result_w * channels)
            line += 1

    def convolution(record, context, ith, nth):
        r = int64_pointer(record)
        phases_d, phases_h, phases_w = 1, 1, 1
        if back:
            phases_d = smaller(r[STRIDE] >> 2 * _BITS, r[DEPTH])
            phases_h, phases_w = smaller(r[STRIDE] >> _BITS & _MOST, r[HEIGHT]), smaller(r[STRIDE] & _MOST, r[WIDTH])
        for phase in range(phases_d * phases_h * phases_w):
            fd, fh, fw = phase // (phases_h * phases_w), phase // phases_w % phases_h, phase % phases_w
            phase_part(record, context, ith, nth, fd, fh, fw)

    return convolution


def weights_by_channel(kit: Kit) -> Callable[..., Any]:
    """Make the kernel of the gradient for the weights."""
    DW, X, DY = kit.words("dw x dy")
    BATCH, DEPTH, HEIGHT, WIDTH, CHANNELS = kit.words("batch depth height width channels")
    OUT_DEPTH, ROWS, COLS, WEIGHTS, CHUNKS = kit.words("out_depth rows cols weights chunks")
    WINDOW, STRIDE, DILATION, PADDING = kit.words("window stride dilation padding")
    size, reals, zero = kit.itemsize, kit.reals, kit.real(0.0)
    add = make_by_channel_weight(kit.dtype, Blocking.of(kit.dtype).lanes)

    @helper
    def results_inside(start, stride, count, entries):
        """Return the first result whose place is an entry, and how many there are."""
        first = (stride - 1 - start) // stride if start < 0 else 0
        last = (entries - 1 - start) // stride
        last = last if last < count - 1 else count - 1
        return first, last - first + 1

    def conv_weights(record, context, ith, nth):
        r = int64_pointer(record)
        x, dy, dw = address(record, context, X), address(record, context, DY), address(record, context, DW)
        chunks, batch, pixel = smaller(r[CHUNKS], r[BATCH]), r[BATCH], r[CHANNELS] * size
        depth, height, width, cols = r[DEPTH], r[HEIGHT], r[WIDTH], r[COLS]
        window_h, window_w = r[WINDOW] >> _BITS & _MOST, r[WINDOW] & _MOST
        stride_d, stride_h, stride_w = r[STRIDE] >> 2 * _BITS, r[STRIDE] >> _BITS & _MOST, r[STRIDE] & _MOST
        taps = (r[WINDOW] >> 2 * _BITS) * window_h * window_w
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
                    z = td * (r[DILATION] >> 2 * _BITS) - (r[PADDING] >> 2 * _BITS)
                    h = th * (r[DILATION] >> _BITS & _MOST) - (r[PADDING] >> _BITS & _MOST)
                    w = tw * (r[DILATION] & _MOST) - (r[PADDING] & _MOST)
                    first_d, count_d = results_inside(z, stride_d, r[OUT_DEPTH], depth)
                    first_h, count_h = results_inside(h, stride_h, r[ROWS], height)
                    first_w, count_w = results_inside(w, stride_w, cols, width)
                    if count_w <= 0:
                        continue
                    to = dw + (chunk * r[WEIGHTS] + tap * r[CHANNELS]) * size
                    for i_d in range(first_d, first_d + count_d):
                        for ih in range(first_h, first_h + count_h):
                            at = ((image * depth + z + i_d * stride_d) * height + h + ih * stride_h) * width
                            from_dy = ((image * r[OUT_DEPTH] + i_d) * r[ROWS] + ih) * cols + first_w
                            add(x + (at + w + first_w * stride_w) * pixel, stride_w * pixel, dy + from_dy * pixel, pixel,
                                count_w, to, r[CHANNELS])  # fmt: skip

    return conv_weights
