"""Kernels of batch normalisation for tables of many rows, whose columns are summed in chunks of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import (
    address,
    float64_pointer,
    has,
    int64_pointer,
    smaller,
    stack_bytes,
)
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, part, rows_part
from fastnn.backend.cpu.kernels.norms.column_sums import BLOCK, chunk_start, column_functions, put_together
from fastnn.backend.cpu.kernels.norms.passes import WIDE, accumulating, finishing, holding, normalizing, writing


@kernel("column_moments")
def column_moments(kit: Kit, variant: str) -> Callable[..., Any]:
    """Set the moments of columns in each chunk of rows."""
    MOMENTS, X, ROWS, COLS, CHUNKS = kit.words("moments x rows cols chunks")
    at, moments, double_bytes = kit.at, column_functions(kit).moments, BLOCK * 8

    def column_moments(record, context, ith, nth):
        r = int64_pointer(record)
        rows, cols, chunks = r[ROWS], r[COLS], r[CHUNKS]
        x, found = at(record, context, X), float64_pointer(address(record, context, MOMENTS))
        means, squares = float64_pointer(stack_bytes(double_bytes)), float64_pointer(stack_bytes(double_bytes))
        low, high = rows_part(chunks, ith, nth)
        for chunk in range(low, high):
            begin, end = chunk_start(rows, chunk, chunks), chunk_start(rows, chunk + 1, chunks)
            for first in range(0, cols, BLOCK):
                count = smaller(BLOCK, cols - first)
                moments(x, begin, end, cols, first, count, means, squares)
                place = 2 * chunk * cols + first
                for j in range(count):
                    found[place + j], found[place + cols + j] = means[j], squares[j]

    return column_moments


@kernel("batch_statistics")
def batch_statistics(kit: Kit, variant: str) -> Callable[..., Any]:
    """Put the moments of chunks together, and move the moving statistics towards the batch's."""
    MOMENTS, ROWS, COLS, CHUNKS = kit.words("moments rows cols chunks")
    finish, double_bytes = finishing(kit), BLOCK * 8

    def batch_statistics(record, context, ith, nth):
        r = int64_pointer(record)
        rows, cols, chunks = r[ROWS], r[COLS], r[CHUNKS]
        found = float64_pointer(address(record, context, MOMENTS))
        means, squares = float64_pointer(stack_bytes(double_bytes)), float64_pointer(stack_bytes(double_bytes))
        more_means, more_squares = (
            float64_pointer(stack_bytes(double_bytes)),
            float64_pointer(stack_bytes(double_bytes)),
        )
        low, high = part(cols, ith, nth)
        for first in range(low, high, BLOCK):
            count = smaller(BLOCK, high - first)
            for j in range(count):
                means[j], squares[j] = found[first + j], found[cols + first + j]
            for chunk in range(1, chunks):
                begin, end = chunk_start(rows, chunk, chunks), chunk_start(rows, chunk + 1, chunks)
                place = 2 * chunk * cols + first
                for j in range(count):
                    more_means[j], more_squares[j] = found[place + j], found[place + cols + j]
                put_together(means, squares, begin, more_means, more_squares, end - begin, count)
            finish(record, context, first, count, means, squares)

    return batch_statistics


@kernel("normalize_columns")
def normalize_columns(kit: Kit, variant: str) -> Callable[..., Any]:
    """Normalise columns by given statistics."""
    ROWS, COLS = kit.words("rows cols")
    reals, real_bytes, passes = kit.reals, WIDE * kit.itemsize, normalizing(kit, adds=True)
    hold, normalize, normalize_exactly = holding(kit), passes.normalize, passes.normalize_exactly

    def normalize_columns(record, context, ith, nth):
        r = int64_pointer(record)
        begin, end = part(r[ROWS], ith, nth)
        centres, lacks = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        scales, shifts = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        for first in range(0, r[COLS], WIDE):
            count = smaller(WIDE, r[COLS] - first)
            hold(record, context, first, count, centres, lacks, scales)
            normalize(record, context, begin, end, first, count, centres, lacks, scales, shifts)
            normalize_exactly(record, context, begin, end, first, count)

    return normalize_columns


@kernel("column_products")
def column_products(kit: Kit, variant: str) -> Callable[..., Any]:
    """Set the sums over each chunk of rows of dy xhat, and of dy."""
    PRODUCTS, DY, X, ROWS, COLS, CHUNKS = kit.words("products dy x rows cols chunks")
    at, reals, real_bytes, double_bytes = kit.at, kit.reals, BLOCK * kit.itemsize, BLOCK * 8
    products, hold = column_functions(kit).products, holding(kit, normal=True)

    def column_products(record, context, ith, nth):
        r = int64_pointer(record)
        rows, cols, chunks = r[ROWS], r[COLS], r[CHUNKS]
        dy, x = at(record, context, DY), at(record, context, X)
        found = float64_pointer(address(record, context, PRODUCTS))
        moments, totals = float64_pointer(stack_bytes(double_bytes)), float64_pointer(stack_bytes(double_bytes))
        centres, lacks = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        factors = reals(stack_bytes(real_bytes))
        low, high = rows_part(chunks, ith, nth)
        for first in range(0, cols, BLOCK):
            count = smaller(BLOCK, cols - first)
            hold(record, context, first, count, centres, lacks, factors)
            for chunk in range(low, high):
                begin, end = chunk_start(rows, chunk, chunks), chunk_start(rows, chunk + 1, chunks)
                products(dy, x, begin, end, cols, first, count, centres, lacks, factors, moments, totals)
                place = 2 * chunk * cols + first
                for j in range(count):
                    found[place + j], found[place + cols + j] = moments[j], totals[j]

    return column_products


@kernel("add_products")
def add_products(kit: Kit, variant: str) -> Callable[..., Any]:
    """Add up the sums of chunks: for gamma and beta, and the means over the rows."""
    MEANS, PRODUCTS, ROWS, COLS, CHUNKS = kit.words("means products rows cols chunks")
    keep_sums, double_bytes = accumulating(kit), BLOCK * 8

    def add_products(record, context, ith, nth):
        r = int64_pointer(record)
        cols, share = r[COLS], 1.0 / r[ROWS]
        found = float64_pointer(address(record, context, PRODUCTS))
        means = float64_pointer(address(record, context, MEANS))
        moments, totals = float64_pointer(stack_bytes(double_bytes)), float64_pointer(stack_bytes(double_bytes))
        low, high = part(cols, ith, nth)
        for first in range(low, high, BLOCK):
            count = smaller(BLOCK, high - first)
            for j in range(count):
                moments[j], totals[j] = found[first + j], found[cols + first + j]
            for chunk in range(1, r[CHUNKS]):
                place = 2 * chunk * cols + first
                for j in range(count):
                    moments[j] += found[place + j]
                    totals[j] += found[place + cols + j]
            keep_sums(record, context, first, count, moments, totals)
            for j in range(count):
                means[first + j], means[cols + first + j] = moments[j] * share, totals[j] * share

    return add_products


@kernel("normalize_columns_grad")
def normalize_columns_grad(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make dx = rstd gamma (dy - mean(dy) - xhat mean(dy xhat)) by given means, or rstd gamma dy without them."""
    MEANS, ROWS, COLS = kit.words("means rows cols")
    reals, real, real_bytes = kit.reals, kit.real, BLOCK * kit.itemsize
    hold, write_gradient = holding(kit, normal=True), writing(kit)

    def normalize_columns_grad(record, context, ith, nth):
        r = int64_pointer(record)
        cols, by_batch = r[COLS], has(record, MEANS)
        begin, end = part(r[ROWS], ith, nth)
        centres, lacks = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        factors, slopes = reals(stack_bytes(real_bytes)), reals(stack_bytes(real_bytes))
        starts = reals(stack_bytes(real_bytes))
        for first in range(0, cols, BLOCK):
            count = smaller(BLOCK, cols - first)
            hold(record, context, first, count, centres, lacks, factors)
            for j in range(count):
                slopes[j], starts[j] = real(0.0), real(0.0)
            if by_batch:
                means = float64_pointer(address(record, context, MEANS))
                for j in range(count):
                    slopes[j], starts[j] = real(means[first + j]), real(means[cols + first + j])
            write_gradient(record, context, begin, end, first, count, centres, lacks, factors, slopes, starts, by_batch)

    return normalize_columns_grad
