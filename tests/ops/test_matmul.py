"""The algorithms of the matrix product, each on shapes for which it is chosen and on those at its limits."""

from itertools import product

import numpy as np
import pytest

from fastnn.backend.cpu.executor.engine import BoundProgram
from fastnn.backend.cpu.processor.blocking import ALGORITHMS, Blocking
from fastnn.program.layout import CONTEXT_WORDS, Buffer, Flag, encode
from fastnn.program.program import RecordDraft, make_program
from fastnn.program.record import KernelKey

RNG = np.random.default_rng(0)
NAMES = ("a", "b", "c", "bias", "saved")
FORMS = {"NN": Flag(0), "NT": Flag.TRANSPOSE_B, "TN": Flag.TRANSPOSE_A, "TT": Flag.TRANSPOSE_A | Flag.TRANSPOSE_B}
GUARD = 64


def shapes(algorithm: str) -> list[tuple[int, int, int]]:
    """Return (m, n, k) for which an algorithm is right."""
    if algorithm == "single_row":
        return [(1, n, k) for n, k in ((1, 1), (3, 7), (16, 8), (33, 17), (70, 530), (5000, 3), (203, 9), (1030, 301))]
    if algorithm in ("single_column", "dot_column"):
        return [(m, 1, k) for m, k in ((2, 1), (7, 3), (16, 33), (131, 17), (70, 530))]
    if algorithm == "dot_rows":
        return [(1, 1, 1), (1, 5, 3), (1, 67, 40), (2, 9, 33), (3, 130, 600)]
    blocking = Blocking.of("float32")
    several = (blocking.m + 7, blocking.width + 3, blocking.k + 9)
    return [
        (1, 1, 1),
        (2, 3, 5),
        (5, 16, 7),
        (8, 17, 32),
        (13, 31, 33),
        (37, 64, 65),
        several,
        (31, blocking.n + 37, 3),
    ]


def forms(algorithm: str) -> list[str]:
    """Return which operands may be transposed."""
    return {
        "single_row": ["NN", "TN"], "dot_rows": ["NT"], "single_column": ["TN", "TT"], "dot_column": ["NN", "NT"],
    }.get(algorithm, list(FORMS))  # fmt: skip


def aligned(array: np.ndarray) -> np.ndarray:
    """Copy an array into memory that is followed by a guard; the copy starts where nothing is aligned to a vector."""
    memory = np.full(array.size + GUARD, 7.5, array.dtype)
    memory[: array.size] = array.ravel()
    return memory


def run(
    algorithm: str, dtype: str, shape: tuple[int, int, int], form: str, extra: str, parts: int
) -> tuple[np.ndarray, ...]:
    """Run one record on random operands; returns c and the result in float64."""
    m, n, k = shape
    rng = np.random.default_rng(sum(shape))
    flags = FORMS[form]
    a = rng.normal(size=(k, m) if form[0] == "T" else (m, k)).astype(dtype)
    b = rng.normal(size=(n, k) if form[1] == "T" else (k, n)).astype(dtype)
    c, bias, saved = (rng.normal(size=size).astype(dtype) for size in ((m, n), n, (m, n)))
    exact = (a.T if form[0] == "T" else a).astype(np.float64) @ (b.T if form[1] == "T" else b).astype(np.float64)
    used, mapped = {"a", "b", "c"}, None
    if extra == "accumulate":
        flags |= Flag.ACCUMULATE
        exact += c
    if extra in ("bias", "relu"):
        used.add("bias")
        exact += bias
    if extra == "relu":
        flags, mapped = flags | Flag.MAP_FORWARD, KernelKey("map", dtype, "relu")
        exact = np.maximum(exact, 0.0)
    if extra == "gradient":
        used.add("saved")
        flags, mapped = flags | Flag.MAP_GRADIENT, KernelKey("map_grad", dtype, "relu")
        exact *= saved > 0.0
    memory = dict(zip(NAMES, map(aligned, (a, b, c, bias, saved)), strict=True))
    operands = {name: encode(Buffer.DATA + slot, 0) for slot, name in enumerate(NAMES) if name in used}
    draft = RecordDraft("matmul", operands, {"m": m, "n": n, "k": k}, {}, flags, algorithm, mapped)
    context = np.zeros(CONTEXT_WORDS, np.int64)
    for slot, name in enumerate(NAMES):
        context[Buffer.DATA + slot] = memory[name].ctypes.data
    BoundProgram(make_program("matmul", m, dtype, [draft], [], {})).run(context, 1, parts=parts)
    assert (memory["c"][m * n :] == 7.5).all(), "written behind the last row"
    return memory["c"][: m * n].reshape(m, n), exact


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_agrees_with_numpy_however_it_is_cut(algorithm, dtype):
    for shape, form, extra in product(
        shapes(algorithm), forms(algorithm), ("", "bias", "accumulate", "relu", "gradient")
    ):
        found, exact = run(algorithm, dtype, shape, form, extra, 1)
        # a sum of k products, each of size about 1
        bound = 8 * np.finfo(dtype).eps * shape[2] + 1e-300
        assert np.abs(found - exact).max() <= bound, (shape, form, extra)
        for parts in (2, 3, 5):
            np.testing.assert_array_equal(run(algorithm, dtype, shape, form, extra, parts)[0], found)


def test_simple_and_blocked_give_the_same_bits():
    for shape, form in product([(37, 70, 1100), (150, 33, 40)], FORMS):
        one, other = (run(algorithm, "float32", shape, form, "bias", 1)[0] for algorithm in ("simple", "blocked"))
        np.testing.assert_array_equal(one, other)


def test_nan_and_infinity_come_through_relu():
    for algorithm in ("simple", "blocked"):
        a = np.array([[np.nan, np.inf, -np.inf, -1.0, 2.0]], np.float32).T.repeat(9, axis=0)
        b, c = np.ones((1, 20), np.float32), np.zeros((45, 20), np.float32)
        context = np.zeros(CONTEXT_WORDS, np.int64)
        for slot, array in enumerate((a, b, c)):
            context[Buffer.DATA + slot] = array.ctypes.data
        operands = {name: encode(Buffer.DATA + slot, 0) for slot, name in enumerate(("a", "b", "c"))}
        draft = RecordDraft("matmul", operands, {"m": 45, "n": 20, "k": 1}, {}, Flag.MAP_FORWARD, algorithm,
                            KernelKey("map", "float32", "relu"))  # fmt: skip
        BoundProgram(make_program("matmul", 45, "float32", [draft], [], {})).run(context, 1)
        np.testing.assert_array_equal(c, np.where(a < 0, 0, a).repeat(20, axis=1))


def test_the_algorithm_follows_from_the_shape():
    blocking = Blocking.of("float32")
    assert blocking.algorithm(32, 128, 64, False, False) == "simple"
    assert blocking.algorithm(512, 512, 512, True, False) == "blocked"
    assert blocking.algorithm(1, 10, 64, False, False) == "single_row"
    assert blocking.algorithm(1, 10, 64, False, True) == blocking.algorithm(3, 10, 64, False, True) == "dot_rows"
    assert blocking.algorithm(3, 10, 64, True, True) == "simple"
    assert blocking.algorithm(32, 1, 64, True, False) == "single_column"
    assert blocking.algorithm(32, 1, 64, False, True) == "dot_column"
    for sizes in product((1, 2, 40, 3000), repeat=3):
        for transposed in product((False, True), repeat=2):
            algorithm = blocking.algorithm(*sizes, *transposed)
            form = "NT"[transposed[0]] + "NT"[transposed[1]]
            # with one row the two orders of a's elements are one
            assert form in forms(algorithm) or (sizes[0] == 1 and form[1] in {kind[1] for kind in forms(algorithm)})
