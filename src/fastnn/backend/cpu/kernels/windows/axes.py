"""What the kernels of convolutions share: the places of windows along the axes, the phases, what becomes of sums.

An axis is a tuple, whose entries have the names below. Of a convolution every result has all taps of the window. Of
its gradient for inputs the results are the pixels of the maps; with a stride of s, only every s-th of them, a phase,
has the same taps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import address, flags_of, has, int64_pointer, smaller
from fastnn.backend.cpu.codegen.kernel import Kit
from fastnn.backend.cpu.codegen.options import helper
from fastnn.program.layout import Flag
from fastnn.program.window import unpacked

_FORWARD, _RECTIFY = int(Flag.MAP_FORWARD), int(Flag.RECTIFY)
#: Returns the numbers of a record's word: along depth, height and width.
three = helper(unpacked)
#: The entries of an axis: how many taps there are, the first one's number in the window and the step to the next; the
#: place of the first tap of the first result in the source, and the step; from a result's place to the next one's; how
#: many results there are, the first one's number, and the step; the sizes of the window, the source and the result.
TAPS, TAP, TAP_STEP, PLACE, PLACE_STEP, MOVE, COUNT, FIRST, STEP, WINDOW, SOURCE, RESULT = range(12)


@helper
def _forward_axis(size, out, window, stride, dilation, padding, phase):
    return window, 0, 1, -padding, dilation, stride, out, 0, 1, window, size, out


@helper
def _backward_axis(size, out, window, stride, dilation, padding, phase):
    # taps t for which phase + padding - t dilation is a multiple of the stride
    first, count = 0, (size - phase + stride - 1) // stride
    while first < window and (phase + padding - first * dilation) % stride != 0:
        first += 1
    if first == window:
        return 0, 0, 1, 0, 1, 1, count, phase, stride, window, out, size
    step = 1
    while step * dilation % stride != 0:
        step += 1
    taps = (window - 1 - first) // step + 1
    last = first + (taps - 1) * step
    place = (phase + padding - last * dilation) // stride
    return taps, last, -step, place, step * dilation // stride, 1, count, phase, stride, window, out, size


def axes_of(kit: Kit, back: bool) -> Any:
    """Make the function that returns the three axes of a record, for the phases along them."""
    DEPTH, HEIGHT, WIDTH, OUT_DEPTH, ROWS, COLS = kit.words("depth height width out_depth rows cols")
    SIZES, STRIDE, DILATION, PADDING = kit.words("window stride dilation padding")
    axis = _backward_axis if back else _forward_axis

    @helper
    def axes(record, fd, fh, fw):
        r = int64_pointer(record)
        window_d, window_h, window_w = three(r[SIZES])
        stride_d, stride_h, stride_w = three(r[STRIDE])
        dil_d, dil_h, dil_w = three(r[DILATION])
        pad_d, pad_h, pad_w = three(r[PADDING])
        return (
            axis(r[DEPTH], r[OUT_DEPTH], window_d, stride_d, dil_d, pad_d, fd),
            axis(r[HEIGHT], r[ROWS], window_h, stride_h, dil_h, pad_h, fh),
            axis(r[WIDTH], r[COLS], window_w, stride_w, dil_w, pad_w, fw),
        )

    return axes


def by_phase(kit: Kit, back: bool, compute: Any) -> Callable[..., Any]:
    """Make the kernel that computes all phases by ``compute(record, context, ith, nth, fd, fh, fw)``."""
    DEPTH, HEIGHT, WIDTH, STRIDE = kit.words("depth height width stride")

    def convolution(record, context, ith, nth):
        r = int64_pointer(record)
        along_d, along_h, along_w = 1, 1, 1
        if back:
            stride_d, stride_h, stride_w = three(r[STRIDE])
            along_d, along_h, along_w = (
                smaller(stride_d, r[DEPTH]), smaller(stride_h, r[HEIGHT]), smaller(stride_w, r[WIDTH])
            )  # fmt: skip
        for phase in range(along_d * along_h * along_w):
            fd, fh, fw = phase // (along_h * along_w), phase // along_w % along_h, phase % along_w
            compute(record, context, ith, nth, fd, fh, fw)

    return convolution


def outputs_of(kit: Kit, back: bool) -> Any:
    """Make the function that returns where sums go: (out, bias, rectify, rectified, mapped).

    They are written to `out`, begin with the bias (0: with zeros), and become zero where they are negative (`rectify`
    is 1), or where the values at `rectified`, if that is not 0, are not positive; another function is `mapped`
    afterwards.
    """
    Y, BIAS = kit.words("dx bias" if back else "y bias")
    EXTRA = kit.words("saved" if back else "pre")[0]

    @helper
    def outputs(record, context):
        flags, out = flags_of(record), address(record, context, Y)
        bias = address(record, context, BIAS) if has(record, BIAS) else 0
        rectifies = flags & _RECTIFY != 0
        if back:
            rectified = address(record, context, EXTRA) if has(record, EXTRA) else 0
            return out, bias, 1 if rectifies and rectified == 0 else 0, rectified, False
        if has(record, EXTRA):
            return address(record, context, EXTRA), bias, 0, 0, True
        return out, bias, 1 if rectifies else 0, 0, flags & _FORWARD != 0 and not rectifies

    return outputs


def fill_of(kit: Kit) -> Any:
    """Make the function that writes results that no tap reaches: the bias, or zeros."""
    reals, zero = kit.reals, kit.real(0.0)

    @helper
    def fill(y, step, count, columns, bias, rectify):
        start = reals(bias)
        for pixel in range(count):
            to = reals(y + pixel * step)
            for i in range(columns):
                value = start[i] if bias != 0 else zero
                to[i] = zero if rectify == 1 and value < zero else value

    return fill


@helper
def places_inside(start: int, step: int, count: int, size: int) -> tuple[int, int]:
    """Return which of `count` places, `step` apart from `start` on, are entries of an axis: the first, and how many."""
    first = (step - 1 - start) // step if start < 0 else 0
    last = count - 1
    if start + last * step >= size:
        last = (size - 1 - start) // step
    return first, last - first + 1
