"""Records that move data: gather a batch, store results, advance the counters."""

from __future__ import annotations

import numpy as np

from fastnn.backend.reference.instruction import Array, Counters, Instruction, executes
from fastnn.program.layout import Flag, Status


def _span(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """Return the first and last byte offset of elements."""
    ends = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
    return sum(min(end, 0) for end in ends), sum(max(end, 0) for end in ends)


def _fetch(i: Instruction, counters: Counters) -> tuple[Array, Array]:
    """Return the source's row numbers of the batch, and the rows themselves, flat."""
    source, index, d = i["source"], i.get("index"), i.dims
    if source.dtype != i.variant:
        raise ValueError(f"the record gathers from {i.variant}, got a source of {source.dtype}")
    rows = counters.cursor + np.arange(d["rows"])
    if index is not None:
        rows = index[rows]
    inner: tuple[int, ...] = (d["size"],)
    strides: tuple[int, ...] = (source.itemsize,)
    if d["size0"] != 0:
        inner = (d["size0"], d["size1"], d["size2"])
        strides = (d["stride0"], d["stride1"], d["stride2"])
    low, high = _span(inner, strides)
    least, most = _span(source.shape, source.strides)
    starts = rows * d["row_stride"]
    if starts.min() + low < least or starts.max() + high > most:
        raise IndexError(f"rows {rows.min()} to {rows.max()} are not all in a source of shape {source.shape}")
    shape, all_strides = (int(rows.max()) + 1, *inner), (d["row_stride"], *strides)
    return rows, np.lib.stride_tricks.as_strided(source, shape, all_strides)[rows].reshape(d["rows"], -1)


@executes("gather")
def gather(i: Instruction, counters: Counters) -> None:
    """Make rows `index[cursor ...]` (or `cursor ...`) of the source the rows of the batch, as reals."""
    rows, batch = _fetch(i, counters)
    i.write("batch", batch)
    if Flag.CHECK_FINITE in i.flags and batch.dtype.kind == "f":
        bad = ~np.isfinite(batch).all(axis=1)
        if bad.any() and counters.status == 0:
            counters.status = Status.NOT_FINITE_INPUT
            counters.status_detail = int(rows[bad.argmax()])


@executes("gather_labels")
def gather_labels(i: Instruction, counters: Counters) -> None:
    """Make rows of the source the rows of the batch, as int64."""
    i.write("batch", _fetch(i, counters)[1].astype(np.int64))


@executes("store")
def store(i: Instruction, counters: Counters) -> None:
    """Copy the batch to rows `cursor ...` of the target."""
    size = i.dims["size"]
    start = counters.cursor * size
    i["target"].reshape(-1)[start : start + i.dims["rows"] * size] = i["x"].reshape(-1)


@executes("tick")
def tick(i: Instruction, counters: Counters) -> None:
    """Advance the cursor and the step of this call, and in training the step of the model's life."""
    counters.cursor += i.dims["rows"]
    counters.chunk_step += 1
    if Flag.TRAINING in i.flags:
        counters.step += 1
