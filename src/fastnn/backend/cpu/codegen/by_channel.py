"""Convolutions of each channel by itself, as LLVM vector IR: vectors of channels, some pixels of a line at a time."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastnn.backend.cpu.codegen.vectors import Lanes, Loop, constant
from fastnn.backend.cpu.codegen.windows import by_vectors, load_some, store_some


def make_by_channel(dtype: str, lanes: int, pixels: int, shifts: int = 0) -> Any:
    """Make the intrinsic that computes all channels of `pixels` results of a line.

    Its arguments, all addresses and steps in bytes: x (the first place of the first result's window), x_step (from one
    result's window to the next), slices, slice_step, rows, row_step, columns, column_step (the window's places), w (the
    weights of its first place), w_slice, w_row, w_column (their steps), bias (0 for none), y, y_step, channels, rectify
    (0 for nothing, 1 to set negative results to zero, else the address of saved values, with y's steps: results become
    zero where they are not positive).

    Parameters
    ----------
    shifts : int
        If it is not 0, windows have so many columns, which neighbours share: a vector of x is loaded once for all of
        them.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def by_channel(
        typingctx: Any, x: Any, x_step: Any, slices: Any, slice_step: Any, rows: Any, row_step: Any, columns: Any,
        column_step: Any, w: Any, w_slice: Any, w_row: Any, w_column: Any, bias: Any, y: Any, y_step: Any,
        channels: Any, rectify: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            (
                x, x_step, slices, slice_step, rows, row_step, columns, column_step, w, w_slice, w_row, w_column, bias,
                y, y_step, channels, rectify,
            ) = args  # fmt: skip
            b, v = builder, Lanes(builder, dtype, lanes)
            has_bias, negative = b.icmp_signed("!=", bias, constant(0)), b.icmp_signed("==", rectify, constant(1))
            saves = b.icmp_unsigned(">", rectify, constant(1))

            def line(sums: list[Any], at: Any, w_at: Any, mask: Any) -> list[Any]:
                with Loop(b, columns, [*sums, at, w_at]) as inner:
                    *sums, at, w_at = inner.carried
                    weight, place, after = load_some(v, w_at, mask), at, []
                    for total in sums:
                        after.append(v.fma(load_some(v, place, mask), weight, total))
                        place = b.add(place, x_step)
                    inner.following = [*after, b.add(at, column_step), b.add(w_at, w_column)]
                return after

            def line_of_shifts(sums: list[Any], at: Any, w_at: Any, mask: Any) -> list[Any]:
                weights, after = [], list(sums)
                for _ in range(shifts):
                    weights.append(load_some(v, w_at, mask))
                    w_at = b.add(w_at, w_column)
                for place in range(pixels + shifts - 1):
                    value = load_some(v, at, mask)
                    at = b.add(at, x_step)
                    for shift, weight in enumerate(weights):
                        if 0 <= place - shift < pixels:
                            after[place - shift] = v.fma(value, weight, after[place - shift])
                return after

            def block(skip: Any, mask: Any) -> None:
                slot = stack_slot(b, v)
                b.store(v.zero, slot)
                with b.if_then(has_bias):
                    b.store(load_some(v, b.add(bias, skip), mask), slot)
                sums = [b.load(slot)] * pixels
                with Loop(b, slices, [*sums, b.add(x, skip), b.add(w, skip)]) as outer:
                    *sums, at_slice, w_at_slice = outer.carried
                    with Loop(b, rows, [*sums, at_slice, w_at_slice]) as middle:
                        *sums, at_row, w_at_row = middle.carried
                        after = (line_of_shifts if shifts else line)(sums, at_row, w_at_row, mask)
                        middle.following = [*after, b.add(at_row, row_step), b.add(w_at_row, w_row)]
                    outer.following = [*after, b.add(at_slice, slice_step), b.add(w_at_slice, w_slice)]
                to, saved = b.add(y, skip), b.add(rectify, skip)
                with b.if_else(saves) as (behind, forward):
                    with behind:
                        for number, total in enumerate(after):
                            more = b.mul(y_step, constant(number))
                            kept = load_some(v, b.add(saved, more), mask)
                            passes = b.select(b.fcmp_ordered("<=", kept, v.zero), v.zero, total)
                            store_some(v, passes, b.add(to, more), mask)
                    with forward:
                        for number, total in enumerate(after):
                            under = b.and_(v.spread(negative), b.fcmp_ordered("<", total, v.zero))
                            more = b.mul(y_step, constant(number))
                            store_some(v, b.select(under, v.zero, total), b.add(to, more), mask)

            by_vectors(v, channels, block)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 17), codegen

    return by_channel


#: Sums side by side, each of every fourth product.
_SUMS = 4


def make_by_channel_weight(dtype: str, lanes: int) -> Any:
    """Make the intrinsic that adds up the products of two lines for all channels: the gradient of one weight.

    Its arguments: x, x_step, dy, dy_step (all in bytes), count (of pixels, at least 1), dw, channels. The sum is added
    to dw.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def weight(
        typingctx: Any, x: Any, x_step: Any, dy: Any, dy_step: Any, count: Any, dw: Any, channels: Any
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            b, v = builder, Lanes(builder, dtype, lanes)
            x, x_step, dy, dy_step, count, dw, channels = args
            fours = b.sdiv(count, constant(_SUMS))
            rest = b.sub(count, b.mul(fours, constant(_SUMS)))

            def block(skip: Any, mask: Any) -> None:
                slots = [stack_slot(b, v) for _ in range(_SUMS)]
                ends = [stack_slot(b, None), stack_slot(b, None)]
                for slot in slots:
                    b.store(v.zero, slot)
                for end, start in zip(ends, (b.add(x, skip), b.add(dy, skip)), strict=True):
                    b.store(start, end)
                with b.if_then(b.icmp_signed(">", fours, constant(0))):
                    initial = [v.zero] * _SUMS
                    with Loop(b, fours, [*initial, b.add(x, skip), b.add(dy, skip)]) as loop:
                        *sums, at, dy_at = loop.carried
                        after = []
                        for total in sums:
                            after.append(v.fma(load_some(v, at, mask), load_some(v, dy_at, mask), total))
                            at, dy_at = b.add(at, x_step), b.add(dy_at, dy_step)
                        loop.following = [*after, at, dy_at]
                    for slot, total in zip(slots, after, strict=True):
                        b.store(total, slot)
                    b.store(at, ends[0])
                    b.store(dy_at, ends[1])
                with b.if_then(b.icmp_signed(">", rest, constant(0))):
                    with Loop(b, rest, [b.load(slots[0]), b.load(ends[0]), b.load(ends[1])]) as loop:
                        total, at, dy_at = loop.carried
                        last = v.fma(load_some(v, at, mask), load_some(v, dy_at, mask), total)
                        loop.following = [last, b.add(at, x_step), b.add(dy_at, dy_step)]
                    b.store(last, slots[0])
                first, second, third, fourth = (b.load(slot) for slot in slots)
                total = b.fadd(b.fadd(first, second), b.fadd(third, fourth))
                to = b.add(dw, skip)
                store_some(v, b.fadd(load_some(v, to, mask), total), to, mask)

            by_vectors(v, channels, block)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 7), codegen

    return weight


def stack_slot(b: Any, v: Lanes | None) -> Any:
    """Return a place on the stack for a vector, or an address, which LLVM turns into a register."""
    with b.goto_entry_block():
        return b.alloca(constant(0).type if v is None else v.vector)
