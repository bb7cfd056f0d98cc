"""Vectors of channels in the windows of pooling, as LLVM IR.

A window is `slices` x `rows` x `columns` places, whose distances are three steps in bytes. All channels of neighbouring
results are computed, a vector at a time. Windows of 2 x 2 places have code of their own, without loops over the places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from numba import types
from numba.extending import intrinsic

from fastnn.backend.cpu.codegen.vectors import Lanes, Loop, constant

#: Updates what is carried through a window's places: the vectors' operations, a place's distance from the window's
#: first, the mask (None if all lanes exist), and the carried values.
Visit = Callable[[Lanes, Any, Any, list[Any]], list[Any]]


def _visit(v: Lanes, window: Any, mask: Any, initial: list[Any], visit: Visit, pairs: bool) -> list[Any]:
    """Go through all places of a window."""
    b = v.builder
    slices, slice_step, rows, row_step, columns, column_step = window
    if pairs:
        for place in (constant(0), column_step, row_step, b.add(row_step, column_step)):
            initial = visit(v, place, mask, initial)
        return initial
    with Loop(b, slices, [*initial, constant(0)]) as outer:
        *values, in_slice = outer.carried
        with Loop(b, rows, [*values, in_slice]) as middle:
            *values, in_row = middle.carried
            with Loop(b, columns, [*values, in_row]) as inner:
                *values, place = inner.carried
                values = visit(v, place, mask, values)
                inner.following = [*values, b.add(place, column_step)]
            middle.following = [*values, b.add(in_row, row_step)]
        outer.following = [*values, b.add(in_slice, slice_step)]
    return values


def by_vectors(v: Lanes, channels: Any, block: Callable[[Any, Any], None]) -> None:
    """Call `block` for the distance of each vector of channels, and its mask."""
    b = v.builder
    whole = b.sdiv(channels, constant(v.lanes))
    with b.if_then(b.icmp_signed(">", whole, constant(0))), Loop(b, whole, [constant(0)]) as loop:
        block(loop.carried[0], None)
        loop.following = [b.add(loop.carried[0], constant(v.width))]
    rest = b.sub(channels, b.mul(whole, constant(v.lanes)))
    with b.if_then(b.icmp_signed(">", rest, constant(0))):
        block(b.mul(whole, constant(v.width)), v.edge(rest, 0))


def load_some(v: Lanes, address: Any, mask: Any) -> Any:
    """Load the lanes of a mask, all if it is None."""
    return v.load(address) if mask is None else v.masked_load(address, mask)


def store_some(v: Lanes, value: Any, address: Any, mask: Any) -> None:
    """Store the lanes of a mask, all if it is None."""
    if mask is None:
        v.store(value, address)
    else:
        v.masked_store(value, address, mask)


def _is_nan(v: Lanes, value: Any) -> Any:
    return v.builder.fcmp_unordered("uno", value, value)


def _in_turn(v: Lanes, skip: Any, count: Any, steps: Sequence[Any], one: Callable[..., None]) -> None:
    """Call `one` for each of `count` results with distances that begin with `skip` and grow by `steps`."""
    b = v.builder
    with Loop(b, count, [skip] * len(steps)) as loop:
        one(*loop.carried)
        loop.following = [b.add(distance, step) for distance, step in zip(loop.carried, steps, strict=True)]


def make_pool(dtype: str, lanes: int, kind: str, *, pairs: bool = False) -> Any:
    """Make the intrinsic that computes neighbouring results: the "max" of each window, or its "average".

    Its arguments: x (the first window's first place), the window (slices, slice_step, rows, row_step, columns,
    column_step), y, channels, the number of results, and the bytes from one window to the next. A NaN is a maximum.

    Parameters
    ----------
    pairs : bool
        Whether windows have one slice of 2 x 2 places.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def pool(
        typingctx: Any, x: Any, slices: Any, slice_step: Any, rows: Any, row_step: Any, columns: Any, column_step: Any,
        y: Any, channels: Any, results: Any, move: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            b, v = builder, Lanes(builder, dtype, lanes)
            x, *window, y, channels, results, move = args
            pixel = b.mul(channels, constant(v.width // lanes))

            def block(skip: Any, mask: Any) -> None:
                _in_turn(v, skip, results, (move, pixel), partial(one, mask))

            def one(mask: Any, place_of_window: Any, to: Any) -> None:
                at = b.add(x, place_of_window)

                def larger(v: Lanes, place: Any, mask: Any, values: list[Any]) -> list[Any]:
                    (most,), value = values, load_some(v, b.add(at, place), mask)
                    wins = b.or_(b.fcmp_ordered(">", value, most), _is_nan(v, value))
                    return [b.select(wins, value, most)]

                def total(v: Lanes, place: Any, mask: Any, values: list[Any]) -> list[Any]:
                    return [b.fadd(values[0], load_some(v, b.add(at, place), mask))]

                if kind == "max":
                    (result,) = _visit(v, window, mask, [load_some(v, at, mask)], larger, pairs)
                else:
                    (result,) = _visit(v, window, mask, [v.zero], total, pairs)
                    result = b.fdiv(result, _count(v, window))
                store_some(v, result, b.add(y, to), mask)

            by_vectors(v, channels, block)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 11), codegen

    return pool


def _count(v: Lanes, window: Any) -> Any:
    """Return the number of a window's places in all lanes."""
    b = v.builder
    places = b.mul(window[0], b.mul(window[2], window[4]))
    return v.spread(b.sitofp(places, v.scalar))


def make_pool_gradient(dtype: str, lanes: int, kind: str, *, adds: bool = False, pairs: bool = False) -> Any:
    """Make the intrinsic that brings the gradients of neighbouring results to their windows' places.

    Its arguments: dx (of the first window's first place), x likewise, the window as in `make_pool`, y, dy, channels,
    rectify (whether maxima that are not positive take no gradient), the number of results, and the bytes from one
    window to the next; "average" does not read x, y and rectify. The first of equal maxima takes the gradient.

    Parameters
    ----------
    adds : bool
        Whether it is added to what is there, because windows overlap.
    pairs : bool
        As in `make_pool`.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def gradient(
        typingctx: Any, dx: Any, x: Any, slices: Any, slice_step: Any, rows: Any, row_step: Any, columns: Any,
        column_step: Any, y: Any, dy: Any, channels: Any, rectify: Any, results: Any, move: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            b, v = builder, Lanes(builder, dtype, lanes)
            dx, x, *window, y, dy, channels, rectify, results, move = args
            rectifies = v.spread(b.icmp_signed("!=", rectify, constant(0)))
            pixel = b.mul(channels, constant(v.width // lanes))

            def block(skip: Any, mask: Any) -> None:
                _in_turn(v, skip, results, (move, pixel), partial(one, mask))

            def one(mask: Any, place_of_window: Any, skip: Any) -> None:
                to, at = b.add(dx, place_of_window), b.add(x, place_of_window)
                slope = load_some(v, b.add(dy, skip), mask)

                def bring(place: Any, value: Any) -> None:
                    target = b.add(to, place)
                    if adds:
                        value = b.fadd(load_some(v, target, mask), value)
                    store_some(v, value, target, mask)

                def to_largest(v: Lanes, place: Any, mask: Any, values: list[Any]) -> list[Any]:
                    (free,), value = values, load_some(v, b.add(at, place), mask)
                    equal = b.or_(b.fcmp_ordered("==", value, most), _is_nan(v, value))
                    bring(place, b.select(b.and_(free, equal), slope, v.zero))
                    return [b.and_(free, b.not_(equal))]

                def to_all(v: Lanes, place: Any, mask: Any, values: list[Any]) -> list[Any]:
                    bring(place, values[0])
                    return values

                if kind == "max":
                    most = load_some(v, b.add(y, skip), mask)
                    blocked = b.and_(rectifies, b.fcmp_ordered("<=", most, v.zero))
                    slope = b.select(blocked, v.zero, slope)
                    _visit(v, window, mask, [v.first(lanes)], to_largest, pairs)
                else:
                    _visit(v, window, mask, [b.fdiv(slope, _count(v, window))], to_all, pairs)

            by_vectors(v, channels, block)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 14), codegen

    return gradient
