"""The places of a window along one axis: of a convolution, and of the phases of its gradient."""

from __future__ import annotations

from fastnn.backend.cpu.codegen.options import helper


@helper
def forward_axis(size, out, window, stride, dilation, padding, phase):
    """Return the taps of an axis: how many, the first one's number and the step, the places likewise; then moves.

    The moves are the distance of two outputs' places in the source, how many outputs there are, the first of them and
    the distance to the next.
    """
    return window, 0, 1, -padding, dilation, stride, out, 0, 1


@helper
def backward_axis(size, out, window, stride, dilation, padding, phase):
    """Return the same for the outputs of one phase of the gradient, each of which is a pixel of the map."""
    # taps t for which phase + padding - t dilation is a multiple of the stride
    first = 0
    while first < window and (phase + padding - first * dilation) % stride != 0:
        first += 1
    if first == window:
        return 0, 0, 1, 0, 1, 1, (size - phase + stride - 1) // stride, phase, stride
    step = 1
    while step * dilation % stride != 0:
        step += 1
    count = (window - 1 - first) // step + 1
    last = first + (count - 1) * step
    place = (phase + padding - last * dilation) // stride
    return count, last, -step, place, step * dilation // stride, 1, (size - phase + stride - 1) // stride, phase, stride


@helper
def taps_inside(start: int, step: int, count: int, size: int) -> tuple[int, int]:
    """Return the first tap that is at an entry of an axis, and how many are, from the first one's place on."""
    first = (step - 1 - start) // step if start < 0 else 0
    last = (size - 1 - start) // step
    last = last if last < count - 1 else count - 1
    return first, last - first + 1
