"""Repeated matmul calls, which are prepared once: the bits and errors of the first call, which checks everything."""

import threading

import numpy as np
import pytest

import fastnn as fnn
from fastnn import linalg

RNG = np.random.default_rng(3)


def general(a, b, **options):
    """Multiply by the general path: a number of threads is given."""
    return fnn.matmul(a, b, n_threads=1, **options)


def prepared(a, b, transpose_a=False, transpose_b=False):
    return bool(linalg._plans.get((a.shape, b.shape, a.dtype, b.dtype, transpose_a, transpose_b)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (4, 4, 4), (3, 5, 7), (33, 31, 32), (64, 64, 64), (130, 70, 90)])
def test_same_bits_for_all_shapes_and_transpositions(dtype, m, n, k):
    for transpose_a in (False, True):
        for transpose_b in (False, True):
            flags = {"transpose_a": transpose_a, "transpose_b": transpose_b}
            for _ in range(3):
                a = RNG.normal(size=(k, m) if transpose_a else (m, k)).astype(dtype)
                b = RNG.normal(size=(n, k) if transpose_b else (k, n)).astype(dtype)
                expected = general(a, b, **flags).tobytes()
                out = np.full((m, n), np.nan, dtype)
                assert fnn.matmul(a, b, **flags).tobytes() == expected
                assert fnn.matmul(a, b, out=out, **flags) is out
                assert out.tobytes() == expected
            assert prepared(a, b, **flags)


@pytest.mark.parametrize("size", [8, 150])
def test_views_strides_and_alignment(size):
    a, b = RNG.normal(size=(2, size, size)).astype(np.float32)
    odd = np.zeros((size, size), np.dtype([("pad", np.int8), ("x", np.float32)]))["x"]
    odd[...] = a
    shifted = np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(np.float32).reshape(size, size)
    read_only = a.copy()
    read_only.flags.writeable = False
    wide = RNG.normal(size=(3 * size, 2 * size)).astype(np.float32)
    for left in (a, a.T, np.asfortranarray(a), odd, shifted, read_only, wide[::3, ::2], a[::-1], a.tolist()):
        left32 = left if isinstance(left, np.ndarray) else np.array(left, np.float32)
        for _ in range(3):
            assert fnn.matmul(left32, b).tobytes() == general(left32, b).tobytes()
            assert fnn.matmul(b, left32).tobytes() == general(b, left32).tobytes()


@pytest.mark.parametrize("size", [8, 150])
def test_errors_stay(size):
    a, b = (RNG.normal(size=(size, size)) for _ in range(2))
    both = RNG.normal(size=(2 * size, size))
    out = np.empty((size, size))
    frozen = out.copy()
    frozen.flags.writeable = False
    for _ in range(3):
        fnn.matmul(a, b, out=out)
        fnn.matmul(both[:size], both[size:], out=out)
        for left, right, bad in (
            (a, b, a), (a, b, b), (a, b, a[:]), (a, b, out[:-1]), (a, b, out.T), (a, b, frozen), (a, b, out.tolist()),
            (a, b, out.astype(np.float32)), (both[:size], both[size:], both[1 : size + 1]), (a, b[:-1], out),
        ):  # fmt: skip
            with pytest.raises(ValueError) as expected:
                general(left, right, out=bad)
            with pytest.raises(ValueError) as got:
                fnn.matmul(left, right, out=bad)
            assert str(got.value) == str(expected.value)
        for left, right in ((a, b.astype(np.float32)), (a.astype(int), b), (a.astype(">f8"), b)):
            with pytest.raises(TypeError) as wrong:
                general(left, right)
            with pytest.raises(TypeError) as got_type:
                fnn.matmul(left, right)
            assert str(got_type.value) == str(wrong.value)


def test_results_are_the_caller_s():
    a, b = RNG.normal(size=(2, 6, 6))
    fnn.matmul(a, b)
    first = fnn.matmul(a, b)
    kept = first.copy()
    second = fnn.matmul(b, a)
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(first, second) and first.flags.owndata


def test_threads_multiply_at_once():
    matrices = [RNG.normal(size=(48, 48)) for _ in range(4)]
    expected = {(i, j): general(matrices[i], matrices[j]).tobytes() for i in range(4) for j in range(4)}
    errors = []

    def work(i):
        try:
            for turn in range(400):
                j = turn % 4
                assert fnn.matmul(matrices[i], matrices[j]).tobytes() == expected[i, j]
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors


def test_plans_are_limited():
    for n in range(1, 100):
        fnn.matmul(np.ones((n, 2)), np.ones((2, n)))
        np.testing.assert_array_equal(fnn.matmul(np.ones((n, 2)), np.ones((2, n))), np.full((n, n), 2.0))
    assert len(linalg._plans) <= 32
