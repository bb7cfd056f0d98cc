"""The left operand of a convolution's product, which no memory holds: its elements are gathered from maps.

A row of the operand is a place from which a window begins, and a column is one of the window's taps and a channel.
A table in shared memory holds the places of a block's rows (or, for the gradient of weights, those of the next values
of k), so that registers hold only the tap that a thread is at. Elements beyond the edges of the maps are zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.backend.cuda.codegen.kernel import Kit, ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.codegen.sizes import PACK
from fastnn.program.window import BITS, MOST

i32, u32 = np.int32, np.uint32
_BITS, _MOST = BITS, MOST

#: numbers that describe an axis in shared memory: how many taps there are, the first one and the distance to the next;
#: the entry that the first tap of the first place reads; from there to the next place's and to the next tap's; places,
#: the result of the first of them and the distance to the next one's
AXIS = 9
COUNT, TAP, TAP_STEP, ENTRY, PLACE_STEP, MOVE, PLACES, RESULT, RESULT_STEP = range(AXIS)


@formula
def forward_axis(axes, at, size, results, window, stride, dilation, padding, phase):
    """Describe an axis of a convolution, from axes[at] on."""
    axes[at + COUNT], axes[at + TAP], axes[at + TAP_STEP] = window, 0, 1
    axes[at + ENTRY], axes[at + PLACE_STEP], axes[at + MOVE] = -padding, stride, dilation
    axes[at + PLACES], axes[at + RESULT], axes[at + RESULT_STEP] = results, 0, 1


@formula
def backward_axis(axes, at, size, results, window, stride, dilation, padding, phase):
    """Describe an axis of a convolution's gradient: of every `stride`-th entry of the map, from `phase` on.

    Their taps are those whose distance from `phase` is a multiple of the stride.
    """
    first, step = 0, 1
    while first < window and (phase + padding - first * dilation) % stride != 0:
        first += 1
    while step * dilation % stride != 0:
        step += 1
    axes[at + COUNT], axes[at + TAP], axes[at + TAP_STEP] = (window - first + step - 1) // step, first, step
    axes[at + ENTRY], axes[at + PLACE_STEP] = (phase + padding - first * dilation) // stride, 1
    axes[at + MOVE] = -(step * dilation // stride)
    axes[at + PLACES], axes[at + RESULT], axes[at + RESULT_STEP] = (size - phase + stride - 1) // stride, phase, stride


@formula
def phases_of(stride, size):
    """Return the phases of an axis, each of which has an entry."""
    return min(stride, size)


@formula
def of_axis(word, axis):
    """Return the number of an axis in a record's word."""
    return word >> (2 - axis) * _BITS & _MOST


#: places of a gradient for weights in the table at once, and in the half of it that is filled while the other is read
SLOTS, STRETCH = 128, 64
#: taps of a window that are listed in shared memory, and how many windows may have
TAPS = 128


@dataclass(frozen=True)
class Gather:
    """The functions with which threads gather a tile of an operand.

    Attributes
    ----------
    write : device function
        write(bases, zs, ys, xs, slot, number, axes, depth, height, width, channels) writes the place of a number to
        a slot of the table: its first element, and where that is in the map.
    write_taps : device function
        write_taps(taps, axes, height, width, channels, window_h, window_w, apart, thread, threads) lists taps in
        five lines of `TAPS`: from a place to the tap, entries along each axis, and elements; and the number of the
        tap's weights, which are `apart` elements.
    unit : device function
        unit(values, at, address, bases, zs, ys, xs, slot, taps, tap, channel, depth, height, width) gathers `PACK`
        neighbours.
    copy : device function
        copy(target, address, ..., wanted), with the arguments of `unit` from `bases` on, copies them to shared memory,
        asynchronously; zeros if they are not wanted. Only of float32.
    """

    write: Any
    write_taps: Any
    unit: Any
    copy: Any


@formula
def later(tap, channel, step, channels):
    """Return the tap and the channel of a column that is `step` later."""
    channel = i32(channel + step)
    while channel >= channels:
        channel = i32(channel - channels)
        tap = i32(tap + i32(1))
    return tap, channel


def make_gather(kit: Kit) -> Gather:
    """Make the functions for a dtype."""
    load_pack, zero, copy_pack_if = kit.load_pack, kit.real(0.0), ptx.COPIES_IF[PACK]

    @formula
    def write(bases, zs, ys, xs, slot, number, axes, depth, height, width, channels):
        rest = u32(u32(number) // u32(axes[2 * AXIS + PLACES]))
        column = i32(u32(number) - u32(rest * u32(axes[2 * AXIS + PLACES])))
        image_slice = u32(rest // u32(axes[AXIS + PLACES]))
        row = i32(rest - u32(image_slice * u32(axes[AXIS + PLACES])))
        image = u32(image_slice // u32(axes[PLACES]))
        slice_ = i32(image_slice - u32(image * u32(axes[PLACES])))
        z = i32(axes[ENTRY] + slice_ * axes[PLACE_STEP])
        y = i32(axes[AXIS + ENTRY] + row * axes[AXIS + PLACE_STEP])
        x = i32(axes[2 * AXIS + ENTRY] + column * axes[2 * AXIS + PLACE_STEP])
        bases[slot] = i32(i32(i32(i32(i32(image) * depth + z) * height + y) * width + x) * channels)
        zs[slot], ys[slot], xs[slot] = z, y, x

    @formula
    def write_taps(taps, axes, height, width, channels, window_h, window_w, apart, thread, threads):
        count = u32(u32(axes[COUNT]) * u32(axes[AXIS + COUNT]) * u32(axes[2 * AXIS + COUNT]))
        tap = thread
        while tap < count:
            line = u32(tap // u32(axes[2 * AXIS + COUNT]))
            w = i32(tap - u32(line * u32(axes[2 * AXIS + COUNT])))
            slice_ = u32(line // u32(axes[AXIS + COUNT]))
            h, d = i32(line - u32(slice_ * u32(axes[AXIS + COUNT]))), i32(slice_)
            z, y, x = i32(d * axes[MOVE]), i32(h * axes[AXIS + MOVE]), i32(w * axes[2 * AXIS + MOVE])
            taps[tap], taps[tap + TAPS], taps[tap + 2 * TAPS] = z, y, x
            taps[tap + 3 * TAPS] = i32(i32(i32(i32(z * height) + y) * width + x) * channels)
            number = i32(axes[TAP] + d * axes[TAP_STEP])
            number = i32(i32(number * window_h) + axes[AXIS + TAP] + h * axes[AXIS + TAP_STEP])
            number = i32(i32(number * window_w) + axes[2 * AXIS + TAP] + w * axes[2 * AXIS + TAP_STEP])
            taps[tap + 4 * TAPS] = i32(number * apart)
            tap = u32(tap + threads)

    @formula
    def unit(values, at, address, bases, zs, ys, xs, slot, taps, tap, channel, depth, height, width):
        z, y = i32(zs[slot] + taps[tap]), i32(ys[slot] + taps[tap + TAPS])
        x = i32(xs[slot] + taps[tap + 2 * TAPS])
        if z >= 0 and z < depth and y >= 0 and y < height and x >= 0 and x < width:
            pack = load_pack(address, i32(i32(bases[slot] + taps[tap + 3 * TAPS]) + channel))
            values[at], values[at + 1], values[at + 2], values[at + 3] = pack[0], pack[1], pack[2], pack[3]
        else:
            for e in range(PACK):
                values[at + e] = zero

    @formula
    def copy(target, address, bases, zs, ys, xs, slot, taps, tap, channel, depth, height, width, wanted):
        z, y = i32(zs[slot] + taps[tap]), i32(ys[slot] + taps[tap + TAPS])
        x = i32(xs[slot] + taps[tap + 2 * TAPS])
        inside = z >= 0 and z < depth and y >= 0 and y < height and x >= 0 and x < width
        there = inside and wanted
        index = u32(i32(i32(bases[slot] + taps[tap + 3 * TAPS]) + channel)) if there else u32(0)
        copy_pack_if(target, address, index, there)

    return Gather(write, write_taps, unit, copy)


def make_fill(write: Any, depth: int, threads: int) -> Any:
    """Make fill(bases, zs, ys, xs, number, first, origin, last, axes, depth, height, width, channels, thread).

    It writes half `number` of the places of k, in turn to the two halves of the table. The first tile, of `first`
    places, is followed by whole ones, of `depth`.
    """
    half = SLOTS // 2

    @formula
    def fill(bases, zs, ys, xs, number, first, origin, last, axes, d, h, w, c, thread):
        slot = thread
        while slot < STRETCH:
            v = i32(number * STRETCH + slot)
            at = i32(v if v < depth else v + first - depth)
            write(bases, zs, ys, xs, i32(number % 2 * half + slot), min(i32(origin + at), last), axes, d, h, w, c)
            slot = u32(slot + threads)

    return fill
