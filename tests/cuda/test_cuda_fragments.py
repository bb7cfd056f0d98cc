"""Tensor cores without a GPU: the sources of fragments, by the layouts of the PTX instruction set."""

import numpy as np
import pytest

from fastnn.backend.cuda.codegen import fragments as at
from fastnn.backend.cuda.simulator.ptx_mma import (
    a_places,
    b_places,
    c_places,
    elements_of,
    multiply_fragments,
    to_bf16,
    to_tf32,
)

LANES = range(at.LANES)
LINES = 64


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def in_shared_memory(matrix, along):
    """Place a matrix of (lines, DEPTH) as kernels do."""
    lines = len(matrix)
    memory = np.full(matrix.size, np.nan, np.float32)
    for line in range(lines):
        for k in range(at.DEPTH):
            place = at.place_along(line, k) if along else at.place_across(line, k, lines)
            assert np.isnan(memory[place]), "two elements at one place"
            memory[place] = matrix[line, k]
    return memory


def load_matrices(memory, places):
    """Load what ldmatrix does: lane l names line l % 8 of matrix l // 8, and gets element l % 4 of line l // 4."""
    return [[memory[places[8 * each + lane // 4] + lane % 4] for each in range(4)] for lane in LANES]


def left_of(memory, along, number, step):
    """Return every lane's four values of fragment `number` of a."""
    k = step * at.STEP_A
    if along:
        places = [at.place_along(16 * number + at.line_to_load_a(each), k + at.k_to_load_a(each)) for each in LANES]
        return load_matrices(memory, places)
    line = [16 * number + at.line_of(lane) for lane in LANES]
    return [
        [memory[at.place_across(line[lane] + more, k + at.k_of(lane) + on, LINES)] for on in (0, 4) for more in (0, 8)]
        for lane in LANES
    ]


def right_of(memory, along, number, step):
    """Return every lane's four values of fragment `number` of b."""
    k = step * at.STEP_B
    if along:
        places = [at.place_along(8 * number + at.line_to_load_b(each), k + at.k_to_load_b(each)) for each in LANES]
        return load_matrices(memory, places)
    line = [8 * number + at.line_of(lane) for lane in LANES]
    return [
        [memory[at.place_across(line[lane], k + at.k_of(lane) + on, LINES)] for on in (0, 4, 8, 12)] for lane in LANES
    ]


def product(a, b, along_a, along_b, precision):
    """Multiply (LINES, DEPTH) by (LINES, DEPTH) transposed, by fragments."""
    left, right = in_shared_memory(a, along_a), in_shared_memory(b, along_b)
    result = np.full((LINES, LINES), np.nan)
    for i in range(LINES // 16):
        for j in range(LINES // 8):
            sums = np.zeros((at.LANES, 4), np.float32)
            for step in range(at.DEPTH // at.STEP_B):
                x, y = left_of(left, along_a, i, 2 * step), left_of(left, along_a, i, 2 * step + 1)
                z = right_of(right, along_b, j, step)
                if precision == "tf32":
                    for values, skip in ((x, 0), (y, 2)):
                        words = [[to_tf32(one) for one in lane] for lane in values]
                        others = [[to_tf32(one) for one in lane[skip : skip + 2]] for lane in z]
                        sums = multiply_fragments(words, others, sums, precision)
                else:
                    words = [
                        [to_bf16(v[0], v[2]), to_bf16(v[1], v[3]), to_bf16(w[0], w[2]), to_bf16(w[1], w[3])]
                        for v, w in zip(x, y, strict=True)
                    ]
                    others = [[to_bf16(v[0], v[1]), to_bf16(v[2], v[3])] for v in z]
                    sums = multiply_fragments(words, others, sums, precision)
            for lane in LANES:
                for number in range(4):
                    row, col = at.row_of_sum(lane, number), at.col_of_sum(lane, number)
                    result[16 * i + row, 8 * j + col] = sums[lane, number]
    return result


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("along_b", [True, False], ids=["b-along", "b-across"])
@pytest.mark.parametrize("along_a", [True, False], ids=["a-along", "a-across"])
def test_fragments_multiply(along_a, along_b, precision, rng):
    a, b = (rng.integers(-8, 9, (LINES, at.DEPTH)).astype(np.float32) for _ in range(2))
    np.testing.assert_array_equal(product(a, b, along_a, along_b, precision), a @ b.T)


def most_conflicts(places, words):
    """Return how many of the places that threads access at once, `words` wide, are in the same bank of 32."""
    phases, worst = max(1, words), 1
    each = len(places) // phases
    for phase in range(phases):
        banks = {}
        for place in places[phase * each : (phase + 1) * each]:
            for word in range(place, place + words):
                banks.setdefault(word % 32, set()).add(word)
        worst = max(worst, *map(len, banks.values()))
    return worst


@pytest.mark.parametrize("lines", [32, 64, 128])
def test_no_bank_conflicts(lines):
    for step in range(4):
        for to_load, k_to_load in ((at.line_to_load_a, at.k_to_load_a), (at.line_to_load_b, at.k_to_load_b)):
            k = [step * 8 % (at.DEPTH - 8) + k_to_load(lane) for lane in LANES]
            places = [at.place_along(to_load(lane), k[lane] % at.DEPTH) for lane in LANES]
            assert most_conflicts(places, 4) == 1
        for first in range(0, lines, 8):
            places = [at.place_across(first + at.line_of(lane), 8 * step + at.k_of(lane), lines) for lane in LANES]
            assert most_conflicts(places, 1) == 1
    # copies of 16 bytes: neighbours in k, then lines; and neighbours among lines, then k
    places = [at.place_along(unit // 8, unit % 8 * 4) for unit in LANES]
    assert most_conflicts(places, 4) == 1
    places = [at.place_across(unit % (lines // 4) * 4, unit // (lines // 4), lines) for unit in LANES]
    assert most_conflicts(places, 4) == 1


def test_copies_of_16_bytes_stay_together():
    for line in range(LINES):
        for k in range(0, at.DEPTH, 4):
            place = at.place_along(line, k)
            assert place % 4 == 0
            assert [at.place_along(line, k + e) - place for e in range(4)] == [0, 1, 2, 3]
    for k in range(at.DEPTH):
        for line in range(0, LINES, 4):
            place = at.place_across(line, k, LINES)
            assert place % 4 == 0
            assert [at.place_across(line + e, k, LINES) - place for e in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize("lines", [32, 64, 128])
def test_steps_that_kernels_add_to_an_address(lines):
    """Kernels compute few places, and add constants for the others."""
    for lane in LANES:
        for k in range(0, at.DEPTH, 4):
            for line in range(0, lines, 8):
                mine = at.line_to_load_a(lane)
                if line + mine < lines:
                    expected = at.place_along(mine, k) + line * at.DEPTH
                    assert at.place_along(line + mine, k) == expected
        mine, k = at.line_of(lane), at.k_of(lane)
        for group in range(lines // 8):
            for on in range(0, at.DEPTH, 4):
                expected = at.place_across(mine + group % 4 * 8, k, lines) + group // 4 * 32 + on * lines
                assert at.place_across(mine + 8 * group, k + on, lines) == expected


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_registers_cover_fragments_once(precision):
    depth = 8 if precision == "tf32" else 16
    for (rows, cols), shape in (
        (a_places(precision), (16, depth)), (b_places(precision), (depth, 8)), (c_places(), (16, 8)),
    ):  # fmt: skip
        count = np.zeros(shape, int)
        np.add.at(count, (np.broadcast_to(rows, cols.shape), cols), 1)
        assert (count == 1).all()


def test_places_of_the_instruction_set():
    """A few places as the PTX instruction set's figures have them: group = lane // 4, member = lane % 4."""
    rows, cols = a_places("tf32")
    assert [(int(rows[6, e]), int(cols[6, e])) for e in range(4)] == [(1, 2), (9, 2), (1, 6), (9, 6)]
    rows, cols = b_places("tf32")
    assert [(int(rows[6, e]), int(cols[6, e])) for e in range(2)] == [(2, 1), (6, 1)]
    rows, cols = a_places("bf16")
    assert [(int(rows[6, e]), int(cols[6, e])) for e in range(8)] == [
        (1, 4), (1, 5), (9, 4), (9, 5), (1, 12), (1, 13), (9, 12), (9, 13),
    ]  # fmt: skip
    rows, cols = b_places("bf16")
    assert [(int(rows[6, e]), int(cols[6, e])) for e in range(4)] == [(4, 1), (5, 1), (12, 1), (13, 1)]
    rows, cols = c_places()
    assert [(int(rows[6, e]), int(cols[6, e])) for e in range(4)] == [(1, 4), (1, 5), (9, 4), (9, 5)]


def test_rounding():
    values = np.array([1.0, 1 + 2**-11, 1 + 2**-10, -1 - 2**-11, 3.3, np.inf, -np.inf], np.float32)
    expected = [1.0, 1 + 2**-10, 1 + 2**-10, -1 - 2**-10, np.float32(3.30078125), np.inf, -np.inf]
    got = elements_of([[to_tf32(one)] for one in values], "tf32")[:, 0]
    np.testing.assert_array_equal(got, np.array(expected, np.float32))
    halves = elements_of([[to_bf16(1 + 2**-8, 1 + 3 * 2**-8)], [to_bf16(-np.inf, 2.0**-130)]], "bf16")
    np.testing.assert_array_equal(halves, [[1.0, 1 + 2**-6], [-np.inf, 2.0**-130]])
    assert np.isnan(elements_of([[to_tf32(np.float32(np.nan))]], "tf32")).all()
    assert np.isnan(elements_of([[to_bf16(np.nan, np.nan)]], "bf16")).all()
