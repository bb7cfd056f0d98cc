"""Columns of a table: neighbouring threads have neighbouring columns, and a block's threads divide the rows.

Many rows are divided among blocks as well: each writes the result of its chunk to scratch memory, as a
row of a table of chunks, and another stage adds up that table.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from numba import cuda

from fastnn.backend.cuda.codegen.kernel import SCRATCH_WORD, Dims, Kit, Stage
from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.backend.cuda.codegen.sizes import SIZES
from fastnn.backend.cuda.kernels.rowwise import divide
from fastnn.program.layout import FLAGS_WORD, Flag

LANES = SIZES.lanes
THREADS = SIZES.lanes * SIZES.strips
ALGORITHMS = ("whole", "chunked")
_ACCUMULATE = int(Flag.ACCUMULATE)
# rows per thread: maximum in a reduction without chunks, minimum with chunks, and in a single pass
_WHOLE, _CHUNK, _PASS = 32, 16, 4
_MOST_CHUNKS, _MOST_BLOCKS = 512, 4096


def define(jit: Any, divide: Any) -> SimpleNamespace:
    """Define the division of a table, for the host and for kernels."""

    @jit
    def layout(cols):
        # blocks have equal numbers of columns: 33 are not 32 and 1
        groups = divide(cols + LANES - 1, LANES)
        lanes = divide(cols + groups - 1, groups)
        return groups, lanes, divide(THREADS, lanes)

    @jit
    def chunks(rows, cols):
        groups, _, strips = layout(cols)
        most = min(divide(rows, _CHUNK * strips), _MOST_CHUNKS, divide(_MOST_BLOCKS, groups))
        if rows <= _WHOLE * strips or most <= 1:
            return 1
        height = divide(rows + most - 1, most)
        return divide(rows + height - 1, height)

    return SimpleNamespace(layout=layout, chunks=chunks)


def _plain(function: Any) -> Any:
    return function


_HOST = define(_plain, lambda number, by: number // by)
_DEVICE = define(formula, divide)
layout_of, chunks_of = _DEVICE.layout, _DEVICE.chunks


def chunks(dims: Dims) -> int:
    """Return the number of chunks of rows of a reduction; 1 if a block does all rows of a column."""
    return int(_HOST.chunks(dims["rows"], dims["cols"]))


def algorithm_of(dims: Dims, flags: Flag) -> str:
    """Choose by the number of rows per thread."""
    return "chunked" if chunks(dims) > 1 else "whole"


def table_bytes(dims: Dims, itemsize: int, tables: int = 1) -> int:
    """Return the size of tables of chunks, or 0 without chunks."""
    parts = chunks(dims)
    return tables * parts * dims["cols"] * itemsize if parts > 1 else 0


def whole_stage(function: Any) -> Stage:
    """Make a stage in which a block has all rows of its columns."""
    return Stage(function, lambda dims: (_HOST.layout(dims["cols"])[0], 1), THREADS)


def chunk_stage(function: Any) -> Stage:
    """Make a stage in which a block has a chunk of the rows."""
    return Stage(function, lambda dims: (_HOST.layout(dims["cols"])[0], chunks(dims)), THREADS)


def _pass_grid(dims: Dims) -> tuple[int, int]:
    groups, _, strips = _HOST.layout(dims["cols"])
    parts = min(-(-dims["rows"] // (_PASS * strips)), max(1, 2 * _MOST_BLOCKS // groups))
    return groups, min(parts, 2 * _MOST_BLOCKS)


def pass_stage(function: Any) -> Stage:
    """Make a stage that passes over a table, with values held for each column."""
    return Stage(function, _pass_grid, THREADS)


@helper
def place_between(first, last, cols):
    """Return a thread's work on these rows: (lanes, strips, column, first row, last, whether it writes for its column).

    Its next row is `strips` rows away. A thread without a column has no rows, and gets the last column.
    """
    _, lanes, strips = layout_of(cols)
    strip = divide(cuda.threadIdx.x, lanes)
    column = cuda.blockIdx.x * lanes + cuda.threadIdx.x - strip * lanes
    busy = strip < strips and column < cols
    return lanes, strips, min(column, cols - 1), first + strip if busy else last, last, busy and strip == 0


@helper
def place(rows, cols):
    """Return a thread's work, where blocks share the rows; see `place_between`."""
    height = divide(rows + cuda.gridDim.y - 1, cuda.gridDim.y)
    first = cuda.blockIdx.y * height
    return place_between(first, min(first + height, rows), cols)


def cut_stage(function: Any) -> Stage:
    """Make a stage in which a block has one of the chunks that the record names."""
    return Stage(function, lambda dims: (_HOST.layout(dims["cols"])[0], dims["chunks"]), THREADS)


@helper
def chunk_start(rows, chunk, chunks):
    """Return the row at which one of a record's chunks begins; after the last one it is the number of rows."""
    height = divide(rows, chunks)
    return height * chunk + divide((rows - height * chunks) * chunk, chunks)  # rows * chunk may exceed 32 bits


@helper
def place_in_chunk(rows, cols, chunks):
    """Return a thread's work, where a block has one of a record's chunks; see `place_between`."""
    chunk = cuda.blockIdx.y
    return place_between(chunk_start(rows, chunk, chunks), chunk_start(rows, chunk + 1, chunks), cols)


def make_over_strips(kit: Kit, real: Any = None) -> Any:
    """Make `over_strips(value, lanes, strips)`: the sum over the threads of a column; all threads have to call it.

    Sums have the type `real`, by default the kit's.
    """
    real = real or kit.real

    @helper
    def over_strips(value, lanes, strips):
        thread, parts = cuda.threadIdx.x, cuda.shared.array(THREADS, real)
        cuda.syncthreads()
        parts[thread] = value
        cuda.syncthreads()
        count = strips
        while count > 1:
            half = (count + 1) // 2
            if thread < (count - half) * lanes:
                parts[thread] += parts[thread + half * lanes]
            cuda.syncthreads()
            count = half
        return parts[thread - divide(thread, lanes) * lanes]

    return over_strips


def make_sums(kit: Kit, hold: Any, term: Any, real: Any = None) -> Any:
    """Make `sums(record, column, row, last, strips, cols)`: two sums over the rows of a thread, four rows at a time.

    Parameters
    ----------
    hold : device function
        `hold(record, column)`: the values of a column that its terms need.
    term : device function
        `term(record, held, row, i)`: the two terms of an element.
    real : type, optional
        The type of the terms, by default the kit's.
    """
    zero = (real or kit.real)(0.0)

    @helper
    def sums(record, column, row, last, strips, cols):
        held = hold(record, column)
        m0, m1, m2, m3 = zero, zero, zero, zero
        t0, t1, t2, t3 = zero, zero, zero, zero
        i, step = row * cols + column, strips * cols
        while row + 3 * strips < last:
            a, b = term(record, held, row, i), term(record, held, row + strips, i + step)
            c, d = (
                term(record, held, row + 2 * strips, i + 2 * step),
                term(record, held, row + 3 * strips, i + 3 * step),
            )
            m0, m1, m2, m3 = m0 + a[0], m1 + b[0], m2 + c[0], m3 + d[0]
            t0, t1, t2, t3 = t0 + a[1], t1 + b[1], t2 + c[1], t3 + d[1]
            row += 4 * strips
            i += 4 * step
        # up to three rows are left; for a loop the compiler would add a division
        if row < last:
            a = term(record, held, row, i)
            m0, t0 = m0 + a[0], t0 + a[1]
        if row + strips < last:
            b = term(record, held, row + strips, i + step)
            m1, t1 = m1 + b[0], t1 + b[1]
        if row + 2 * strips < last:
            c = term(record, held, row + 2 * strips, i + 2 * step)
            m2, t2 = m2 + c[0], t2 + c[1]
        return (m0 + m1) + (m2 + m3), (t0 + t1) + (t2 + t3)

    return sums


def make_pass(kit: Kit, hold: Any, value: Any) -> Any:
    """Make `over_rows(record, out, rows, cols)`, which stores `value(record, held, i)` of every element at `out`."""
    store = kit.store

    @helper
    def over_rows(record, out, rows, cols):
        _, strips, column, row, last, _ = place(rows, cols)
        held = hold(record, column)
        i, step = row * cols + column, strips * cols
        while row + 3 * strips < last:
            # four rows are loaded before one is stored; the compiler may not reorder them by itself
            a, b = value(record, held, i), value(record, held, i + step)
            c, d = value(record, held, i + 2 * step), value(record, held, i + 3 * step)
            store(out, i, a)
            store(out, i + step, b)
            store(out, i + 2 * step, c)
            store(out, i + 3 * step, d)
            row += 4 * strips
            i += 4 * step
        if row < last:
            store(out, i, value(record, held, i))
        if row + strips < last:
            store(out, i + step, value(record, held, i + step))
        if row + 2 * strips < last:
            store(out, i + 2 * step, value(record, held, i + 2 * step))

    return over_rows


def sum_stages(kit: Kit, out: str, term: Any) -> list[Stage]:
    """Make the stages that sum terms over the rows to the operand `out`, or add to it if the flag is set.

    Parameters
    ----------
    out : str
        The operand's name, of shape (cols,).
    term : device function
        `term(record, row, i)`: the term of an element.
    """
    OUT, ROWS, COLS = kit.words(f"{out} rows cols")
    load, store, zero = kit.load, kit.store, kit.real(0.0)
    over_strips = make_over_strips(kit)

    @helper
    def nothing(record, column):
        return 0

    @helper
    def element(record, held, row, i):
        return zero, term(record, row, i)

    @helper
    def part(record, held, row, i):
        return zero, load(record[SCRATCH_WORD], i)

    sums, sums_of_parts = make_sums(kit, nothing, element), make_sums(kit, nothing, part)

    @helper
    def finish(record, column, total):
        if record[FLAGS_WORD] & _ACCUMULATE != 0:
            total += load(record[OUT], column)
        store(record[OUT], column, total)

    def whole(record, context):
        cols = record[COLS]
        lanes, strips, column, row, last, writes = place(record[ROWS], cols)
        _, total = sums(record, column, row, last, strips, cols)
        total = over_strips(total, lanes, strips)
        if writes:
            finish(record, column, total)

    def chunk(record, context):
        cols = record[COLS]
        lanes, strips, column, row, last, writes = place(record[ROWS], cols)
        _, total = sums(record, column, row, last, strips, cols)
        total = over_strips(total, lanes, strips)
        if writes:
            store(record[SCRATCH_WORD], cuda.blockIdx.y * cols + column, total)

    def add_chunks(record, context):
        cols = record[COLS]
        lanes, strips, column, row, last, writes = place(chunks_of(record[ROWS], cols), cols)
        _, total = sums_of_parts(record, column, row, last, strips, cols)
        total = over_strips(total, lanes, strips)
        if writes:
            finish(record, column, total)

    if kit.algorithm == "whole":
        return [whole_stage(whole)]
    return [chunk_stage(chunk), whole_stage(add_chunks)]
