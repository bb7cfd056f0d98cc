"""Convolutions and their gradients, one place of the window after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np

from fastnn.backend.reference.activations import apply, apply_gradient
from fastnn.backend.reference.instruction import Array, Counters, Instruction, executes
from fastnn.program.layout import Flag
from fastnn.program.window import unpacked

Slices = tuple[slice, ...]


def places(dims: Mapping[str, int]) -> Iterator[tuple[tuple[int, ...], Slices, Slices]]:
    """For each place of the window return its number, where it is in the maps, and in the results it belongs to."""
    sizes = dims["depth"], dims["height"], dims["width"]
    results = dims["out_depth"], dims["rows"], dims["cols"]
    window, stride, dilation, padding = (unpacked(dims[name]) for name in ("window", "stride", "dilation", "padding"))
    for place in product(*(range(size) for size in window)):
        inside: list[slice] = []
        outside: list[slice] = []
        for axis, number in enumerate(place):
            start = number * dilation[axis] - padding[axis]
            first = max(0, -(start // stride[axis]) if start < 0 else 0)
            last = min(results[axis] - 1, (sizes[axis] - 1 - start) // stride[axis])
            if last < first:
                break
            begin = start + first * stride[axis]
            inside.append(slice(begin, begin + (last - first) * stride[axis] + 1, stride[axis]))
            outside.append(slice(first, last + 1))
        else:
            yield place, tuple(inside), tuple(outside)


def _weights(i: Instruction) -> Array:
    """Return w as (*window, groups, channels of a group, filters of a group)."""
    return _by_groups(i["w"], i.dims)


def _by_groups(w: Array, dims: Mapping[str, int]) -> Array:
    groups, channels = dims["groups"], dims["channels"] // dims["groups"]
    shaped = w.reshape(*unpacked(dims["window"]), channels, groups, dims["filters"] // groups)
    moved: Array = np.moveaxis(shaped, 4, 3)
    return moved


def _grouped(x: Array, dims: Mapping[str, int]) -> Array:
    return x.reshape(*x.shape[:-1], dims["groups"], -1)


@executes("conv")
def conv(i: Instruction, counters: Counters) -> None:
    """Add up the window's places."""
    dims = i.dims
    x, w = _grouped(i["x"], dims), _weights(i)
    y = np.zeros((dims["batch"], dims["out_depth"], dims["rows"], dims["cols"], dims["filters"]))
    sums = _grouped(y, dims)
    for place, inside, outside in places(dims):
        sums[:, *outside] += np.einsum("bdhwgc,gck->bdhwgk", x[:, *inside], w[place])
    if i.get("bias") is not None:
        y += i["bias"]
    if Flag.MAP_FORWARD in i.flags:
        i.write("pre", y)
        y = apply(i, y)
    i.write("y", y)


@executes("conv_back")
def conv_back(i: Instruction, counters: Counters) -> None:
    """Add every result's gradient to where its window is."""
    dims = i.dims
    dy, w = _grouped(i["dy"], dims), _weights(i)
    dx = np.zeros((dims["batch"], dims["depth"], dims["height"], dims["width"], dims["channels"]))
    sums = _grouped(dx, dims)
    for place, inside, outside in places(dims):
        sums[:, *inside] += np.einsum("bdhwgk,gck->bdhwgc", dy[:, *outside], w[place])
    if i.get("bias") is not None:
        dx += i["bias"]
    if Flag.MAP_FORWARD in i.flags:
        dx = apply(i, dx)
    elif Flag.MAP_GRADIENT in i.flags:
        dx = apply_gradient(i, i["saved"], dx)
    i.write("dx", dx)


@executes("conv_weights")
def conv_weights(i: Instruction, counters: Counters) -> None:
    """Multiply maps and gradients, for chunks of the batch; chunks without samples stay what they were."""
    dims = i.dims
    x, dy = _grouped(i["x"], dims), _grouped(i["dy"], dims)
    chunks = min(dims["chunks"], dims["batch"])
    out = i["dw"]
    for chunk in range(chunks):
        part = slice(dims["batch"] * chunk // chunks, dims["batch"] * (chunk + 1) // chunks)
        dw = np.zeros(dims["weights"])
        sums = _by_groups(dw, dims)
        for place, inside, outside in places(dims):
            sums[place] += np.einsum("bdhwgc,bdhwgk->gck", x[part, *inside], dy[part, *outside])
        out[chunk] = dw


@executes("sum_chunks")
def sum_chunks(i: Instruction, counters: Counters) -> None:
    """Add up the chunks that have samples."""
    i.write("y", i["x"][: min(i.dims["chunks"], i.dims["batch"])].sum(axis=0))
