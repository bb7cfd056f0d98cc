"""Records that move values: blocks of columns, strided views and their transposes, entries by number."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.backend.reference.instruction import Counters, Instruction, executes


@executes("copy_columns")
def copy_columns(i: Instruction, counters: Counters) -> None:
    """Copy columns from `source_first` on to columns from `target_first` on."""
    cols, target, source = i.dims["cols"], i.dims["target_first"], i.dims["source_first"]
    y = i["y"].reshape(i.dims["rows"], i.dims["target_cols"])
    y[:, target : target + cols] = i["x"][:, source : source + cols]


@executes("strided", "strided_integers")
def strided(i: Instruction, counters: Counters) -> None:
    """Fill y from the elements of x that its strides name."""
    dims = i.dims
    sizes = [dims[f"n{axis}"] for axis in range(1, 5)]
    sizes = [dims["rows"] // int(np.prod(sizes)), *sizes, dims["cols"]]
    strides = [*(dims[f"stride{axis}"] for axis in range(5)), dims["stride"]]
    places = dims["first"] + sum(np.indices(sizes)[axis] * stride for axis, stride in enumerate(strides))
    i.write("y", i["x"][places].reshape(dims["rows"], dims["cols"]))


@executes("place")
def place(i: Instruction, counters: Counters) -> None:
    """Make entries first, first + step, ... those of x, and fill the others."""
    dims = i.dims
    y = np.full(i["y"].shape, i.params["fill"])
    y[:, dims["first"] + dims["step"] * np.arange(dims["count"])] = i["x"]
    i.write("y", y)


def _numbers(i: Instruction) -> tuple[Any, Any]:
    """Return the entry's number for every (outer, count, inner), and whether there is such an entry."""
    dims = i.dims
    places = np.indices((dims["outer"], dims["count"], dims["inner"]))
    strides = (dims["index_outer"], dims["index_count"], dims["index_inner"])
    numbers = i["index"][sum(place * stride for place, stride in zip(places, strides, strict=True))]
    numbers = np.where(numbers < 0, numbers + dims["size"], numbers)
    known = (numbers >= 0) & (numbers < dims["size"])
    return np.where(known, numbers, 0), known


@executes("take")
def take(i: Instruction, counters: Counters) -> None:
    """Take entries by their numbers; NaN where there is none."""
    numbers, known = _numbers(i)
    i.write("y", np.where(known, np.take_along_axis(i["x"], numbers, axis=1), np.nan))


@executes("scatter_add")
def scatter_add(i: Instruction, counters: Counters) -> None:
    """Add entries to those that they would be taken from."""
    numbers, known = _numbers(i)
    outer, _, inner = np.indices(numbers.shape)
    y = np.zeros(i["y"].shape)
    np.add.at(y, (outer[known], numbers[known], inner[known]), i["x"][known])
    i.write("y", y)
