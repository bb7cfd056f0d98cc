"""Kernels that work on whole rows: softmax, log-softmax, their gradients, and the sum over rows."""

from __future__ import annotations

from fastnn.backend.cuda.codegen.kernel import Kit, Stage, kernel
from fastnn.backend.cuda.codegen.options import helper
from fastnn.backend.cuda.kernels import columnwise, register_rows
from fastnn.backend.cuda.kernels.rowwise import ALGORITHMS, algorithm_of, make_exp_sum, row_functions, row_stage, sum_of
from fastnn.program.layout import Flag

_ACCUMULATE = int(Flag.ACCUMULATE)


@kernel("softmax", algorithms=ALGORITHMS, algorithm=algorithm_of)
def softmax(kit: Kit) -> list[Stage]:
    """Make every row exp(x - max) / sum."""
    if register_rows.is_held(kit):
        return register_rows.softmax(kit)
    Y, X, ROWS, COLS = kit.words("y x rows cols")
    r, exp_weight = row_functions(kit), kit.math.exp_weight
    place, load, store, stride, team_total, team_largest = r.place, r.load, r.store, r.stride, r.total, r.largest
    exp_sum, one = make_exp_sum(kit, r), kit.real(1.0)

    def softmax(record, context):
        x_at, y_at, cols = record[X], record[Y], record[COLS]
        _, begin, i, last, _ = place(record[ROWS], cols)
        end = begin + cols
        peak, total = exp_sum(x_at, begin, i, end)
        largest = team_largest(peak)
        total = team_total(total * exp_weight(peak - largest))
        scale = one / total
        while i < last:
            x = load(x_at, i, begin, end, largest)
            store(y_at, i, begin, end, (
                exp_weight(x[0] - largest) * scale, exp_weight(x[1] - largest) * scale,
                exp_weight(x[2] - largest) * scale, exp_weight(x[3] - largest) * scale,
            ))  # fmt: skip
            i += stride

    return [row_stage(kit, softmax)]


@kernel("log_softmax", algorithms=ALGORITHMS, algorithm=algorithm_of)
def log_softmax(kit: Kit) -> list[Stage]:
    """Make every row x - max - log(sum(exp(x - max)))."""
    if register_rows.is_held(kit):
        return register_rows.log_softmax(kit)
    Y, X, ROWS, COLS = kit.words("y x rows cols")
    r, log, exp_weight = row_functions(kit), kit.math.log, kit.math.exp_weight
    place, load, store, stride, team_total, team_largest = r.place, r.load, r.store, r.stride, r.total, r.largest
    exp_sum = make_exp_sum(kit, r)

    def log_softmax(record, context):
        x_at, y_at, cols = record[X], record[Y], record[COLS]
        _, begin, i, last, _ = place(record[ROWS], cols)
        end = begin + cols
        peak, total = exp_sum(x_at, begin, i, end)
        largest = team_largest(peak)
        total = team_total(total * exp_weight(peak - largest))
        total = log(total)
        while i < last:
            x = load(x_at, i, begin, end, largest)
            store(y_at, i, begin, end, (
                x[0] - largest - total, x[1] - largest - total, x[2] - largest - total, x[3] - largest - total,
            ))  # fmt: skip
            i += stride

    return [row_stage(kit, log_softmax)]


@kernel("softmax_grad", algorithms=ALGORITHMS, algorithm=algorithm_of)
def softmax_grad(kit: Kit) -> list[Stage]:
    """Make dx = y (dy - sum(dy y)) in every row."""
    if register_rows.is_held(kit, 2):
        return register_rows.softmax_grad(kit)
    DX, DY, Y, ROWS, COLS = kit.words("dx dy y rows cols")
    r, zero = row_functions(kit), kit.real(0.0)
    place, load, store, stride, team_total = r.place, r.load, r.store, r.stride, r.total

    def softmax_grad(record, context):
        dx_at, dy_at, y_at, cols = record[DX], record[DY], record[Y], record[COLS]
        _, begin, first, last, _ = place(record[ROWS], cols)
        end, i, total = begin + cols, first, zero
        while i < end:
            dy, y = load(dy_at, i, begin, end, zero), load(y_at, i, begin, end, zero)
            total += sum_of((dy[0] * y[0], dy[1] * y[1], dy[2] * y[2], dy[3] * y[3]))
            i += stride
        total, i = team_total(total), first
        while i < last:
            dy, y = load(dy_at, i, begin, end, zero), load(y_at, i, begin, end, zero)
            store(dx_at, i, begin, end, (
                y[0] * (dy[0] - total), y[1] * (dy[1] - total), y[2] * (dy[2] - total), y[3] * (dy[3] - total),
            ))  # fmt: skip
            i += stride

    return [row_stage(kit, softmax_grad)]


@kernel("log_softmax_grad", algorithms=ALGORITHMS, algorithm=algorithm_of)
def log_softmax_grad(kit: Kit) -> list[Stage]:
    """Make dx = dy - exp(y) sum(dy) in every row."""
    DX, DY, Y, ROWS, COLS = kit.words("dx dy y rows cols")
    r, zero, exp = row_functions(kit), kit.real(0.0), kit.math.exp
    place, load, store, stride, team_total = r.place, r.load, r.store, r.stride, r.total

    def log_softmax_grad(record, context):
        dx_at, dy_at, y_at, cols = record[DX], record[DY], record[Y], record[COLS]
        _, begin, first, last, _ = place(record[ROWS], cols)
        end, i, total = begin + cols, first, zero
        while i < end:
            total += sum_of(load(dy_at, i, begin, end, zero))
            i += stride
        total, i = team_total(total), first
        while i < last:
            dy, y = load(dy_at, i, begin, end, zero), load(y_at, i, begin, end, zero)
            store(dx_at, i, begin, end, (
                dy[0] - exp(y[0]) * total, dy[1] - exp(y[1]) * total,
                dy[2] - exp(y[2]) * total, dy[3] - exp(y[3]) * total,
            ))  # fmt: skip
            i += stride

    return [row_stage(kit, log_softmax_grad)]


@kernel(
    "sum_rows",
    algorithms=columnwise.ALGORITHMS,
    algorithm=columnwise.algorithm_of,
    scratch=lambda dims, itemsize, algorithm: columnwise.table_bytes(dims, itemsize),
)
def sum_rows(kit: Kit) -> list[Stage]:
    """Sum over rows."""
    (X,), load = kit.words("x"), kit.load

    @helper
    def element(record, row, i):
        return load(record[X], i)

    return columnwise.sum_stages(kit, "y", element)
