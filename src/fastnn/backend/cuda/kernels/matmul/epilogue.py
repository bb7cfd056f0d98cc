"""The epilogue of a product, before its elements are stored: bias, sum, activation, or an activation's gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import SCRATCH_WORD, Kit, Stage, ceil_div, ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.codegen.sizes import SIZES
from fastnn.backend.cuda.kernels.elementwise import formulas
from fastnn.program.layout import FLAGS_WORD, Flag
from fastnn.program.opcodes import OPS

u32 = np.uint32
load_int64, store_int64, as_double = ptx.LOADS["int64"], ptx.STORES["int64"], ptx.int_as_double

#: bytes before the partial products in scratch memory, which hold their number
HEADER = 64
_ACCUMULATE = int(Flag.ACCUMULATE)


@dataclass(frozen=True)
class Finish:
    """The functions that store elements of a product: one by one, or four neighbours at once.

    one(record, parts, place, column, value) stores element `place` of c, in column `column`; `parts` is the address
    of the block's part of the product, if c is a sum of several. pack(...) does it for a tuple of values.
    """

    one: Any
    pack: Any


def make_finish(kit: Kit, epilogue: str, result: str = "c") -> Finish:
    """Make the end of a product: "plain", "forward" (with an activation) or "gradient" (times an activation's).

    `result` is the name of the operand that it writes. The op may lack the others.
    """
    names = {operand.name for operand in OPS[kit.op].operands} | {*OPS[kit.op].params}
    biased, keeps = "bias" in names, "pre" in names
    C, PRE, BIAS, SAVED, A, B = (
        kit.words(name)[0] if name in names else 0 for name in (result, "pre", "bias", "saved", "p0", "p1")
    )
    real, load, store, load_pack, store_pack = kit.real, kit.load, kit.store, kit.load_pack, kit.store_pack
    forward, gradient = epilogue == "forward", epilogue == "gradient"
    f, g = formulas(kit, kit.variant or "linear")
    g = f if g is None else g  # step has no gradient, and none is needed

    @formula
    def one(record, parts, place, column, value):
        if biased and record[BIAS] != 0:
            value += load(record[BIAS], column)
        if forward:
            a, b = real(as_double(record[A])), real(as_double(record[B]))
            if keeps and record[PRE] != 0:
                store(record[PRE], place, value)
            store(record[C], place, f(value, a, b))
        elif gradient:
            a, b = real(as_double(record[A])), real(as_double(record[B]))
            store(record[C], place, g(load(record[SAVED], place), value, a, b))
        else:
            if record[FLAGS_WORD] & _ACCUMULATE != 0:
                value += load(record[C], place)
            store(record[C], place, value)

    @formula
    def plus(x, y):
        return x[0] + y[0], x[1] + y[1], x[2] + y[2], x[3] + y[3]

    @formula
    def pack(record, parts, place, column, v):
        if biased and record[BIAS] != 0:
            v = plus(v, load_pack(record[BIAS], column))
        if forward:
            a, b = real(as_double(record[A])), real(as_double(record[B]))
            if keeps and record[PRE] != 0:
                store_pack(record[PRE], place, v)
            store_pack(record[C], place, (f(v[0], a, b), f(v[1], a, b), f(v[2], a, b), f(v[3], a, b)))
        elif gradient:
            a, b = real(as_double(record[A])), real(as_double(record[B]))
            s = load_pack(record[SAVED], place)
            store_pack(record[C], place, (
                g(s[0], v[0], a, b), g(s[1], v[1], a, b), g(s[2], v[2], a, b), g(s[3], v[3], a, b),
            ))  # fmt: skip
        else:
            if record[FLAGS_WORD] & _ACCUMULATE != 0:
                v = plus(v, load_pack(record[C], place))
            store_pack(record[C], place, v)

    return Finish(one, pack)


def make_partial(kit: Kit) -> Finish:
    """Make the end of a part of a product, which goes to scratch memory unchanged."""
    store, store_pack = kit.store, kit.store_pack

    @formula
    def one(record, parts, place, column, value):
        store(parts, place, value)

    @formula
    def pack(record, parts, place, column, v):
        store_pack(parts, place, v)

    return Finish(one, pack)


@formula
def part_address(record, part, nbytes):
    """Return the address for a block's part of a product, of `nbytes` bytes."""
    return record[SCRATCH_WORD] + HEADER + np.int64(part) * nbytes


@formula
def note_parts(record, parts):
    """Store the number of parts of the product for the next stage."""
    store_int64(record[SCRATCH_WORD], 0, parts)


@formula
def same_row(record, row):
    """Return the row of c for a row of a product."""
    return row


def make_rows(
    kit: Kit, finish: Finish, rows: int, cols: int, pitch: int, width: int, threads: int, row_of: Any = None
) -> Any:
    """Make rows_out(...): store part of a block's result from shared memory, neighbours by neighbouring threads.

    Parameters
    ----------
    rows, cols, pitch : int
        The size of the part in shared memory, and elements from one row to the next there.
    width, threads : int
        Elements that a thread takes at once, 1 or `PACK`, and threads of the block.
    row_of : device function, optional
        row_of(record, row) -> the row of c for a row of the product, if it is another one.
    """
    row_of = same_row if row_of is None else row_of
    group, units, line = 16 // kit.itemsize, rows * cols // width, cols // width
    load, load_pack = ptx.SHARED_LOADS[kit.dtype], ptx.SHARED_LOAD_PACKS[kit.dtype]
    one, pack = finish.one, finish.pack

    @formula
    def rows_out(record, parts, memory, row, col, m, n, thread):
        unit = thread
        while unit < units:
            i, j = u32(unit // line), u32(unit % line * width)
            here_row, here_col, place = u32(row + i), u32(col + j), u32(i * pitch + j)
            if here_row < m and here_col < n:
                at = u32(row_of(record, here_row) * n + here_col)
                if width == 1:
                    one(record, parts, at, here_col, load(memory, place))
                elif group == 4:
                    pack(record, parts, at, here_col, load_pack(memory, place))
                else:
                    p, q = load_pack(memory, place), load_pack(memory, u32(place + 2))
                    pack(record, parts, at, here_col, (p[0], p[1], q[0], q[1]))
            unit = u32(unit + threads)

    return rows_out


def sum_parts(kit: Kit, epilogue: str, width: int, result: str = "c", sizes: Any = None, grid: Any = None) -> Stage:
    """Make the stage that adds the parts of a product in order, and applies the epilogue.

    Parameters
    ----------
    result : str
        The name of the operand that it writes.
    sizes, grid : callable, optional
        sizes(record) -> (elements of the result, columns), a device function, and the stage's grid; by default
        those of an op with m and n.
    """
    size, load, load_pack, threads = kit.itemsize, kit.load, kit.load_pack, SIZES.threads
    finish = make_finish(kit, epilogue, result)
    one, pack = finish.one, finish.pack
    if sizes is None:
        M, N = kit.words("m n")

        @formula
        def sizes(record):
            return record[M] * record[N], record[N]

        def grid(dims):
            return ceil_div(dims["m"] * dims["n"], width * threads), 1

    def sum_parts(record, context):
        all_, cols = sizes(record)
        n = u32(cols)
        i = width * (np.int64(cuda.blockIdx.x) * threads + cuda.threadIdx.x)
        if i >= all_:
            return
        parts, address = load_int64(record[SCRATCH_WORD], 0), record[SCRATCH_WORD] + HEADER
        column, part_stride = u32(u32(i) % n), all_ * size
        if width == 1:
            value = load(address, i)
            for _ in range(1, parts):
                address += part_stride
                value += load(address, i)
            one(record, 0, i, column, value)
        else:
            v0, v1, v2, v3 = load_pack(address, i)
            for _ in range(1, parts):
                address += part_stride
                p = load_pack(address, i)
                v0, v1, v2, v3 = v0 + p[0], v1 + p[1], v2 + p[2], v3 + p[3]
            pack(record, 0, i, column, (v0, v1, v2, v3))

    return Stage(sum_parts, grid, threads)
