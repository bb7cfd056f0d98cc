"""Pooling over windows, one place of the window after the other."""

from __future__ import annotations

import numpy as np

from fastnn.backend.reference.instruction import Array, Counters, Instruction, executes
from fastnn.backend.reference.ops.convolution import places
from fastnn.program.layout import Flag


def _results(i: Instruction) -> tuple[int, ...]:
    dims = i.dims
    return dims["batch"], dims["out_depth"], dims["rows"], dims["cols"], dims["channels"]


def _counts(i: Instruction) -> Array:
    """Return how many places of each window lie within the maps."""
    counts = np.zeros(_results(i)[1:4])
    for _, _, outside in places(i.dims):
        counts[outside] += 1.0
    return counts[..., None]


@executes("pool")
def pool(i: Instruction, counters: Counters) -> None:
    """Make y, the largest number of each window (NaN if there is one), or the average."""
    y = np.full(_results(i), -np.inf if i.variant == "max" else 0.0)
    for _, inside, outside in places(i.dims):
        here, x = (slice(None), *outside), i["x"][:, *inside]
        y[here] = np.maximum(y[here], x) if i.variant == "max" else y[here] + x
    i.write("y", y if i.variant == "max" else y / _counts(i))


@executes("max_pool_grad")
def max_pool_grad(i: Instruction, counters: Counters) -> None:
    """Bring dy to the first place of each window that equals y."""
    dx, free = np.zeros(i["x"].shape), np.ones(_results(i), bool)
    dy = np.where(i["y"] <= 0.0, 0.0, i["dy"]) if Flag.RECTIFY in i.flags else i["dy"]
    for _, inside, outside in places(i.dims):
        here, x = (slice(None), *outside), i["x"][:, *inside]
        equal = free[here] & ((x == i["y"][here]) | np.isnan(x))
        dx[:, *inside] += np.where(equal, dy[here], 0.0)
        free[here] &= ~equal
    i.write("dx", dx)


@executes("average_pool_grad")
def average_pool_grad(i: Instruction, counters: Counters) -> None:
    """Bring dy, divided by the number of places, to all places of each window."""
    dims = i.dims
    dx = np.zeros((dims["batch"], dims["depth"], dims["height"], dims["width"], dims["channels"]))
    share = i["dy"] / _counts(i)
    for _, inside, outside in places(dims):
        dx[:, *inside] += share[:, *outside]
    i.write("dx", dx)
