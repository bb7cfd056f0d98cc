"""Records that reduce an axis, or run along it: sums, extrema, products, their places, recurrences."""

from __future__ import annotations

import numpy as np

from fastnn.backend.reference.instruction import Counters, Instruction, executes

_REDUCE = {"sum": (np.sum, 0.0), "max": (np.max, -np.inf), "min": (np.min, np.inf), "prod": (np.prod, 1.0)}


@executes("reduce")
def reduce(i: Instruction, counters: Counters) -> None:
    """Reduce every part of an axis, and divide."""
    function, initial = _REDUCE[i.variant]
    x, parts, repeat = i["x"], i.dims["parts"], i.dims["repeat"]
    for part in range(parts):
        piece = x[:, repeat * part // parts : repeat * (part + 1) // parts]
        i["y"][:, part] = function(piece, axis=1, initial=initial) / i.dims["divisor"]  # type: ignore[operator]


@executes("arg_reduce")
def arg_reduce(i: Instruction, counters: Counters) -> None:
    """Find the first of the largest or smallest numbers, or the first NaN."""
    i.write("y", (np.argmax if i.variant == "max" else np.argmin)(i["x"], axis=1))


@executes("recurrence")
def recurrence(i: Instruction, counters: Counters) -> None:
    """Make y_t = a_t y_(t-1) + b_t."""
    a, b, y = i.get("a"), i.get("b"), i["y"]
    state = np.full(y[:, 0].shape, i.params["initial"])
    for t in range(i.dims["size"])[:: -1 if i.dims["reverse"] else 1]:
        before = state
        state = (state if a is None else a[:, t] * state) + (0.0 if b is None else b[:, t])
        y[:, t] = before if i.dims["exclusive"] else state


@executes("largest")
def largest(i: Instruction, counters: Counters) -> None:
    """Find the k largest numbers of every row, and their places."""
    x = i["x"]
    order = np.argsort(np.where(np.isnan(x), -np.inf, -x), axis=1, kind="stable")
    # NaN comes before infinity
    order = np.take_along_axis(order, np.argsort(~np.isnan(np.take_along_axis(x, order, 1)), axis=1, kind="stable"), 1)
    order = order[:, : i.dims["k"]]
    i.write("indices", order)
    i.write("values", np.take_along_axis(x, order, axis=1))


@executes("divide_by")
def divide_by(i: Instruction, counters: Counters) -> None:
    """Make y = x / divisor."""
    i.write("y", i["x"] / i.dims["divisor"])
