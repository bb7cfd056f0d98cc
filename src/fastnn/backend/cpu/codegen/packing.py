"""Copies of parts of matrices in the order in which the tiles read them, and of rows, as LLVM vector IR."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastnn.backend.cpu.codegen.vectors import Lanes, Loop, constant


def make_transpose(dtype: str, lanes: int, rows: int) -> Any:
    """Make the intrinsic that writes the transpose of a block of `rows` x `lanes` elements, rows at most lanes.

    All of `lanes` vectors of `lanes` elements are written, those past `rows` as zeros. Its arguments: source,
    source_row, target, target_row; addresses and strides in bytes.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def transpose(typingctx: Any, source: Any, source_row: Any, target: Any, target_row: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            b, v = builder, Lanes(builder, dtype, lanes)
            at, row, to, to_row = args
            block = [v.load(b.add(at, b.mul(row, constant(i)))) for i in range(rows)]
            _store_rows(v, v.transposed(block + [v.zero] * (lanes - rows)), to, to_row)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 4), codegen

    return transpose


def make_transpose_edge(dtype: str, lanes: int) -> Any:
    """Make the intrinsic that writes the transpose of a block of up to `lanes` x `lanes` elements.

    It also takes the number of the source's rows, at least 1; the last one stands for those past it.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def transpose_edge(typingctx: Any, source: Any, row: Any, target: Any, target_row: Any, rows: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            b, v = builder, Lanes(builder, dtype, lanes)
            at, row, to, to_row, rows = args
            last, block = b.sub(rows, constant(1)), []
            for i in range(lanes):
                exists = b.icmp_signed("<", constant(i), rows)
                block.append(v.load(b.add(at, b.mul(row, b.select(exists, constant(i), last)))))
            _store_rows(v, v.transposed(block), to, to_row)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 5), codegen

    return transpose_edge


def _store_rows(v: Lanes, values: Any, to: Any, to_row: Any) -> None:
    b = v.builder
    for i, value in enumerate(values):
        v.store(value, b.add(to, b.mul(to_row, constant(i))))


def make_copy_rows(dtype: str, lanes: int, vectors: int) -> Any:
    """Make the intrinsic that copies `lanes * vectors` columns of k rows, with zeros after the last existing one.

    Its arguments: source, source_row, k (at least 1), columns (how many of the source are read), target,
    target_row; addresses and strides in bytes.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def copy_rows(typingctx: Any, source: Any, source_row: Any, k: Any, columns: Any, target: Any, to: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            b, v = builder, Lanes(builder, dtype, lanes)
            source, source_row, k, columns, target, target_row = args
            masks = [v.edge(columns, j * lanes) for j in range(vectors)]
            full = b.icmp_signed(">=", columns, constant(lanes * vectors))
            with b.if_else(full) as (whole, edge):
                for branch, masked in ((whole, False), (edge, True)):
                    with branch, Loop(b, k, [source, target]) as loop:
                        at, to = loop.carried
                        for j in range(vectors):
                            here = b.add(at, constant(j * v.width))
                            value = v.masked_load(here, masks[j]) if masked else v.load(here)
                            v.store(value, b.add(to, constant(j * v.width)))
                        loop.following = [b.add(at, source_row), b.add(to, target_row)]
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), codegen

    return copy_rows


def make_copy_strip(dtype: str, count: int) -> Any:
    """Make the intrinsic that copies `count` contiguous elements of each of k rows, and touches nothing else.

    Its arguments: source, source_row, k (at least 1), target, target_row; addresses and strides in bytes.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def copy_strip(typingctx: Any, source: Any, source_row: Any, k: Any, target: Any, target_row: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            # a vector of `count` elements, for which LLVM makes loads and stores of exactly its bytes
            b, v = builder, Lanes(builder, dtype, count)
            source, source_row, k, target, target_row = args
            with Loop(b, k, [source, target]) as loop:
                at, to = loop.carried
                v.store(v.load(at), to)
                loop.following = [b.add(at, source_row), b.add(to, target_row)]
            return context.get_dummy_value()

        return types.void(*[types.intp] * 5), codegen

    return copy_strip


def make_take(dtype: str, lanes: int, rows: int, apart: int) -> Any:
    """Make the intrinsic that copies up to a vector of columns of some rows to whole vectors, `apart` bytes apart.

    Its arguments: source, source_row, columns, target; addresses, a stride in bytes. Behind the last column are zeros.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def take(typingctx: Any, source: Any, source_row: Any, columns: Any, target: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            b, v = builder, Lanes(builder, dtype, lanes)
            source, source_row, columns, target = args
            full = b.icmp_signed(">=", columns, constant(lanes))
            mask = v.edge(columns, 0)
            with b.if_else(full) as branches:
                for branch, whole in zip(branches, (True, False), strict=True):
                    with branch:
                        for i in range(rows):
                            at = b.add(source, b.mul(source_row, constant(i)))
                            value = v.load(at) if whole else v.masked_load(at, mask)
                            v.store(value, b.add(target, constant(i * apart)))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 4), codegen

    return take


def make_put(dtype: str, lanes: int, rows: int, apart: int) -> Any:
    """Make the intrinsic that copies vectors, `apart` bytes apart, to up to a vector of columns of some rows.

    Its arguments: source, columns, target, target_row; addresses, a stride in bytes.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def put(typingctx: Any, source: Any, columns: Any, target: Any, target_row: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            b, v = builder, Lanes(builder, dtype, lanes)
            source, columns, target, target_row = args
            full = b.icmp_signed(">=", columns, constant(lanes))
            mask = v.edge(columns, 0)
            with b.if_else(full) as branches:
                for branch, whole in zip(branches, (True, False), strict=True):
                    with branch:
                        for i in range(rows):
                            value = v.load(b.add(source, constant(i * apart)))
                            at = b.add(target, b.mul(target_row, constant(i)))
                            if whole:
                                v.store(value, at)
                            else:
                                v.masked_store(value, at, mask)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 4), codegen

    return put


def make_row_maker(dtype: str, lanes: int, operation: str) -> Any:
    """Make an intrinsic that makes a row of n elements: y = a ("copy"), a + b, or a b.

    Its arguments: y, a, b (ignored by a copy), n; addresses of rows, which are the same or do not overlap.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def make_row(typingctx: Any, y: Any, a: Any, b: Any, n: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            v = Lanes(builder, dtype, lanes)
            _emit_rows(builder, v, args, operation)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 4), codegen

    return make_row


def _emit_rows(b: Any, v: Lanes, args: Any, operation: str) -> None:
    y, first, second, n = args

    def made(skip: Any, load: Any) -> Any:
        value = load(b.add(first, skip))
        if operation == "copy":
            return value
        other = load(b.add(second, skip))
        return b.fadd(value, other) if operation == "add" else b.fmul(value, other)

    _by_vectors(b, v, n, made, y)


def _by_vectors(b: Any, v: Lanes, n: Any, made: Any, y: Any) -> None:
    """Store n elements: vectors that `made` gives for a place in bytes and a function that loads, then an edge."""
    vectors = b.sdiv(n, constant(v.lanes))
    with b.if_then(b.icmp_signed(">", vectors, constant(0))), Loop(b, vectors, []) as loop:
        skip = b.mul(loop.index, constant(v.width))
        v.store(made(skip, v.load), b.add(y, skip))
    rest = b.sub(n, b.mul(vectors, constant(v.lanes)))
    with b.if_then(b.icmp_signed(">", rest, constant(0))):
        mask, skip = v.edge(rest, 0), b.mul(vectors, constant(v.width))
        v.masked_store(made(skip, lambda at: v.masked_load(at, mask)), b.add(y, skip), mask)


def make_zeros(dtype: str, lanes: int) -> Any:
    """Make the intrinsic that writes n zeros. Its arguments: an address, n."""

    @intrinsic  # type: ignore[untyped-decorator]
    def zeros(typingctx: Any, y: Any, n: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            v = Lanes(builder, dtype, lanes)
            y, n = args
            _by_vectors(builder, v, n, lambda skip, load: v.zero, y)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 2), codegen

    return zeros
