"""Products of one or a few rows (or one column): the other matrix is read once, at the memory's speed.

If its rows are along the result, a thread adds up a few columns over its share of k, and the threads of a block add
theirs in shared memory. If its rows are along k, the threads of a warp share the dot products of a few rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Kit, Stage, ceil_div, ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.codegen.sizes import PACK, PRODUCTS, SIZES
from fastnn.backend.cuda.kernels.matmul.epilogue import make_finish, make_partial, note_parts, part_address
from fastnn.backend.cuda.kernels.matmul.plan import Algorithm, along_k, outputs_of_block, parts_of

u32 = np.uint32
keep = ptx.keep
#: loads of a thread that run at the same time
AHEAD = 4


def _operands(kit: Kit, algorithm: Algorithm) -> Any:
    """Make the function that returns which operand is the matrix, and which has the rows.

    Its results: the matrix, elements between its rows, its extent along the result; the rows, elements between
    two of them, and between two k; elements between rows of the result, and between its columns.
    """
    A, B, M, N, K = kit.words("a b m n k")
    column, transpose_a, transpose_b = algorithm.shape == "column", algorithm.transpose_a, algorithm.transpose_b

    @formula
    def operands(record):
        m, n, k = u32(record[M]), u32(record[N]), u32(record[K])
        if column:
            return record[A], m if transpose_a else k, m, record[B], u32(0), u32(1), u32(0), n
        if transpose_a:
            return record[B], k if transpose_b else n, n, record[A], u32(1), m, n, u32(1)
        return record[B], k if transpose_b else n, n, record[A], k, u32(1), n, u32(1)

    return operands


def few_rows(kit: Kit, algorithm: Algorithm) -> Stage:
    """Make the stage of a product of one or a few rows, or one column."""
    return _dots(kit, algorithm) if along_k(algorithm) else _columns(kit, algorithm)


def _grid(algorithm: Algorithm, long: str) -> Any:
    return lambda dims: (ceil_div(dims[long], outputs_of_block(algorithm)), parts_of(dims, algorithm))


def _columns(kit: Kit, algorithm: Algorithm) -> Stage:
    """Make columns of the result, which are neighbours in the matrix."""
    M, N, K = kit.words("m n k")
    real, size, load, load_pack = kit.real, kit.itemsize, kit.load, kit.load_pack
    few, split, width = (
        PRODUCTS.few if algorithm.shape == "rows" else 1,
        algorithm.split,
        1 if algorithm.scalar else PACK,
    )
    lanes, strips, step = PRODUCTS.lanes, PRODUCTS.strips * 4 // kit.itemsize, PRODUCTS.step
    threads, span = lanes * strips, lanes * width
    sums_count, ahead_count, left_count = few * width, AHEAD * width, few * AHEAD
    outputs, all_sums = few * span, strips * few * span
    operands, zero = _operands(kit, algorithm), real(0.0)
    one = (make_partial(kit) if split else make_finish(kit, algorithm.epilogue)).one
    column = algorithm.shape == "column"

    @formula
    def fetch(values, at, address, place):
        if width == 1:
            values[at] = load(address, place)
        else:
            pack = load_pack(address, place)
            values[at], values[at + 1], values[at + 2], values[at + 3] = pack[0], pack[1], pack[2], pack[3]

    def columns(record, context):
        right, row_right, long, left, row_left, k_left, row_out, col_out = operands(record)
        k, thread = u32(record[K]), u32(cuda.threadIdx.x)
        count = u32(1) if column else u32(record[M])
        lane, strip, begin, end, parts = u32(thread % lanes), u32(thread // lanes), u32(0), k, np.int64(0)
        if split:
            steps = u32((k + step - 1) // step)
            each = u32(u32(steps + cuda.gridDim.y - 1) // u32(cuda.gridDim.y) * step)
            begin = u32(cuda.blockIdx.y * each)
            end = min(k, u32(begin + each))
            parts = part_address(record, cuda.blockIdx.y, record[M] * record[N] * size)
            if cuda.blockIdx.x == 0 and cuda.blockIdx.y == 0 and thread == 0:
                note_parts(record, np.int64(cuda.gridDim.y))
        first = u32(cuda.blockIdx.x * span)
        place = min(u32(first + lane * width), u32(long - width))
        sums, ahead = cuda.local.array(sums_count, real), cuda.local.array(ahead_count, real)
        lefts, rows = cuda.local.array(left_count, real), cuda.local.array(few, np.uint32)
        for i in range(few):
            rows[i] = keep(u32(min(u32(i), u32(count - 1)) * row_left))
        memory = cuda.shared.array(all_sums, real)
        for i in range(sums_count):
            sums[i] = zero
        at = u32(begin + strip * AHEAD)
        while at < end:
            if at + AHEAD <= end:
                for e in range(AHEAD):
                    fetch(ahead, e * width, right, u32(u32(at + e) * row_right + place))
                for e in range(AHEAD):
                    for i in range(few):
                        lefts[e * few + i] = load(left, u32(rows[i] + u32(at + e) * k_left))
            else:
                for e in range(AHEAD):
                    if at + e < end:
                        fetch(ahead, e * width, right, u32(u32(at + e) * row_right + place))
                    else:
                        for j in range(width):
                            ahead[e * width + j] = zero
                    for i in range(few):
                        lefts[e * few + i] = zero
                        if at + e < end:
                            lefts[e * few + i] = load(left, u32(rows[i] + u32(at + e) * k_left))
            for e in range(AHEAD):
                for i in range(few):
                    for j in range(width):
                        sums[i * width + j] += lefts[e * few + i] * ahead[e * width + j]
            at = u32(at + strips * AHEAD)
        for i in range(few):
            for j in range(width):
                memory[u32(strip * outputs + i * span + lane * width + j)] = sums[i * width + j]
        cuda.syncthreads()
        output = thread
        while output < outputs:
            i, j = u32(output // span), u32(first + output % span)
            if i < count and j < long:
                value = memory[output]
                for s in range(1, strips):
                    value += memory[u32(s * outputs + output)]
                one(record, parts, u32(i * row_out + j * col_out), u32(0) if column else j, value)
            output = u32(output + threads)

    return Stage(columns, _grid(algorithm, "m" if column else "n"), threads)


def _dots(kit: Kit, algorithm: Algorithm) -> Stage:
    """Make dot products of rows of the matrix: a warp makes some columns of the result."""
    M, N, K = kit.words("m n k")
    real, size, load, load_pack = kit.real, kit.itemsize, kit.load, kit.load_pack
    few, split, width = (
        PRODUCTS.few if algorithm.shape == "rows" else 1,
        algorithm.split,
        1 if algorithm.scalar else PACK,
    )
    warp, warps, at_once, step = SIZES.warp, PRODUCTS.strips, PRODUCTS.at_once, PRODUCTS.step
    threads, span = warp * warps, warp * width
    sums_count, right_count, left_count = few * at_once, at_once * width, few * width
    column = algorithm.shape == "column"
    # neighbours in the rows are neighbours in k, and packs are aligned if the matrix's are
    packed_left = width == PACK and (column or not algorithm.transpose_a)
    operands, zero, total = _operands(kit, algorithm), real(0.0), kit.team(warp).total
    one = (make_partial(kit) if split else make_finish(kit, algorithm.epilogue)).one
    outputs = few * at_once
    assert outputs <= warp

    @formula
    def fetch(values, at, address, place, k_apart, packed):
        if width == 1:
            values[at] = load(address, place)
        elif packed:
            pack = load_pack(address, place)
            values[at], values[at + 1], values[at + 2], values[at + 3] = pack[0], pack[1], pack[2], pack[3]
        else:
            for e in range(width):
                values[at + e] = load(address, u32(place + e * k_apart))

    def dots(record, context):
        right, row_right, long, left, row_left, k_left, row_out, col_out = operands(record)
        k, thread = u32(record[K]), u32(cuda.threadIdx.x)
        count = u32(1) if column else u32(record[M])
        lane, begin, end, parts = u32(thread % warp), u32(0), k, np.int64(0)
        if split:
            steps = u32((k + step - 1) // step)
            each = u32(u32(steps + cuda.gridDim.y - 1) // u32(cuda.gridDim.y) * step)
            begin = u32(cuda.blockIdx.y * each)
            end = min(k, u32(begin + each))
            parts = part_address(record, cuda.blockIdx.y, record[M] * record[N] * size)
            if cuda.blockIdx.x == 0 and cuda.blockIdx.y == 0 and thread == 0:
                note_parts(record, np.int64(cuda.gridDim.y))
        first = u32((cuda.blockIdx.x * warps + thread // warp) * at_once)
        sums, rights = cuda.local.array(sums_count, real), cuda.local.array(right_count, real)
        lefts = cuda.local.array(left_count, real)
        for i in range(sums_count):
            sums[i] = zero
        at = u32(begin + lane * width)
        while at < end:
            for j in range(at_once):
                row = min(u32(first + j), u32(long - 1))
                fetch(rights, j * width, right, u32(row * row_right + at), u32(1), True)
            for i in range(few):
                row = min(u32(i), u32(count - 1))
                fetch(lefts, i * width, left, u32(row * row_left + at * k_left), k_left, packed_left)
            for i in range(few):
                for j in range(at_once):
                    for e in range(width):
                        sums[i * at_once + j] += lefts[i * width + e] * rights[j * width + e]
            at = u32(at + span)
        value = zero
        for i in range(outputs):
            found = total(sums[i])
            value = found if lane == i else value
        i, j = u32(lane // at_once), u32(first + lane % at_once)
        if lane < outputs and i < count and j < long:
            one(record, parts, u32(i * row_out + j * col_out), u32(0) if column else j, value)

    return Stage(dots, _grid(algorithm, "m" if column else "n"), threads)
