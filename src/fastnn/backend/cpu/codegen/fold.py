"""Sums of shifted columns, as LLVM vector IR: what remains of a convolution whose columns were computed apart."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastnn.backend.cpu.codegen.vectors import Lanes, Loop, constant


def make_fold(dtype: str, lanes: int) -> Any:
    """Make the intrinsic that adds up `taps` vectors for each of `count` pixels: y = init + the sum of x at its places.

    Its arguments, addresses and steps in bytes: x (the first pixel's first vector), x_step (from pixel to pixel), taps,
    tap_step, init (of all pixels, 0 for zeros), y, y_step, count, columns (how many lanes are stored), rectify (0 for
    nothing, 1 to set negative sums to zero, else the address of saved values, with y's steps: sums become zero where
    they are not positive). Whole vectors of x are read.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def fold(
        typingctx: Any, x: Any, x_step: Any, taps: Any, tap_step: Any, init: Any, y: Any, y_step: Any, count: Any,
        columns: Any, rectify: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            b, v = builder, Lanes(builder, dtype, lanes)
            x, x_step, taps, tap_step, init, y, y_step, count, columns, rectify = args
            mask = v.edge(columns, 0)
            with b.goto_entry_block():
                slot = b.alloca(v.vector)
            b.store(v.zero, slot)
            with b.if_then(b.icmp_signed("!=", init, constant(0))):
                b.store(v.masked_load(init, mask), slot)
            start = b.load(slot)
            negative = v.spread(b.icmp_signed("==", rectify, constant(1)))
            saves = b.icmp_unsigned(">", rectify, constant(1))
            none = v.edge(constant(0), 0)
            kept_lanes = b.select(saves, mask, none)
            # without saved values nothing is read, from any address
            with Loop(b, count, [x, y, b.select(saves, rectify, y)]) as loop:
                from_x, to, saved = loop.carried
                with Loop(b, taps, [start, from_x]) as inner:
                    total, at = inner.carried
                    after = b.fadd(total, v.load(at))
                    inner.following = [after, b.add(at, tap_step)]
                kept = v.masked_load(saved, kept_lanes)
                under = b.and_(negative, b.fcmp_ordered("<", after, v.zero))
                behind = b.and_(kept_lanes, b.fcmp_ordered("<=", kept, v.zero))
                v.masked_store(b.select(b.or_(under, behind), v.zero, after), to, mask)
                loop.following = [b.add(from_x, x_step), b.add(to, y_step), b.add(saved, y_step)]
            return context.get_dummy_value()

        return types.void(*[types.intp] * 10), codegen

    return fold
