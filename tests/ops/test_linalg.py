"""Plain matmul calls, made by a builtin or a plan, have the bits and errors of the general path."""

import os
import pickle
import threading

import numpy as np
import pytest

import fastnn as fnn
from fastnn import linalg
from fastnn import threads as settings
from fastnn.backend.cpu.calls.matmul_call import DirectMatmul
from fastnn.backend.cpu.layouts import array_object
from fastnn.backend.cpu.layouts.calls import PATIENCE
from fastnn.backend.cpu.threads import thread_pool
from workers import until_workers_sleep

RNG = np.random.default_rng(3)
SHAPES = [(1, 1, 1), (1, 9, 5), (9, 1, 5), (4, 4, 4), (3, 5, 7), (33, 31, 32), (64, 64, 64), (130, 70, 90)]
SHAPES += [(300, 310, 320)]  # packed


def general(a, b, **options):
    """Multiply by the general path, which is selected by passing a number of threads."""
    return fnn.matmul(a, b, n_threads=1, **options)


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    before = fnn.get_num_threads()
    fnn.set_num_threads(request.param)
    yield request.param
    fnn.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m, n, k", SHAPES)
def test_same_bits_for_all_shapes_and_transpositions(dtype, m, n, k, threads):
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
                out[...] = np.nan
                # on two threads the builtin calls Python if there is no team yet, or its master has moved
                done = linalg._direct(a, b, out, transpose_a, transpose_b)
                assert done or (threads == 2 and m > 33)
                assert not done or out.tobytes() == expected


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


def test_the_builtin_takes_nothing_that_is_not_plain():
    a, b, out = (RNG.normal(size=shape) for shape in ((5, 6), (6, 7), (5, 7)))
    fnn.matmul(a, b)
    assert linalg._direct(a, b, out, False, False)
    before = out.tobytes()
    single, swapped, frozen, many = a.astype(np.float32), a.astype(">f8"), out.copy(), np.zeros((2, 5, 6))
    frozen.flags.writeable = False
    memory = np.zeros(90)
    shared, product = memory[:30].reshape(5, 6), memory[29:64].reshape(5, 7)
    fields = np.zeros((5, 6), np.dtype([("x", np.float64)]))
    for arguments in (
        (), (a, b, out), (a, b, out, False), (a, b, out, False, False, False), (a, b, out, 0, False),
        (a, b, out, False, None), (a, b, out, np.False_, False), (a.tolist(), b, out, False, False),
        (None, b, out, False, False), (1.5, b, out, False, False), ("ab", b, out, False, False),
        (a, b, None, False, False), (a[0], b, out, False, False), (many, b, out, False, False),
        (single, b, out, False, False), (single, b.astype(np.float32), out, False, False),
        (swapped, swapped[:, :5].T.copy(), out, False, False), (a.astype(int), b, out, False, False),
        (a.astype(object), b, out, False, False), (fields, b, out, False, False),
        (a, b, frozen, False, False), (a, b, out.T, False, False), (a.T, b, out, True, False),
        (a[:, ::2], b[:3], out, False, False), (a, b, out[:, :6], False, False), (a, b[:5], out, False, False),
        (a, b, out[:4], False, False), (a, b, out, True, False), (a, b, out, False, True),
        (shared, b, product, False, False), (a.view(np.matrix), b, out, False, False),
        (a[:0], b, out[:0], False, False), (a[:, :0].copy(), b[:0], out, False, False),
        (np.ma.masked_array(a), b, out, False, False),
    ):  # fmt: skip
        assert linalg._direct(*arguments) is False, arguments
    assert out.tobytes() == before and not memory.any()


def test_where_arrays_look_otherwise_nothing_is_read_from_them(monkeypatch):
    a = RNG.normal(size=(6, 6))
    expected = fnn.matmul(a, a).tobytes()
    monkeypatch.setattr(array_object, "layout", lambda: (0, 0))
    unknown = DirectMatmul()
    monkeypatch.setattr(linalg, "direct_matmul", lambda: unknown)
    monkeypatch.setattr(linalg, "_direct", unknown.call)
    for _ in range(3):
        assert fnn.matmul(a, a).tobytes() == expected
        assert unknown.call(a, a, np.empty_like(a), False, False) is False


def test_results_are_the_caller_s():
    a, b = RNG.normal(size=(2, 6, 6))
    fnn.matmul(a, b)
    first = fnn.matmul(a, b)
    kept = first.copy()
    second = fnn.matmul(b, a)
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(first, second) and first.flags.owndata


@pytest.mark.parametrize("size, turns", [(48, 400), (330, 12)], ids=["small", "packed"])
def test_threads_multiply_at_once(size, turns, threads):
    # more threads than there are pieces of scratch memory for packed blocks
    count = 7
    matrices = [RNG.normal(size=(size, size)) for _ in range(count)]
    expected = {(i, j): general(matrices[i], matrices[j]).tobytes() for i in range(count) for j in range(count)}
    errors = []

    def work(i):
        try:
            for turn in range(turns):
                j = turn % count
                assert fnn.matmul(matrices[i], matrices[j]).tobytes() == expected[i, j]
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors


@pytest.mark.parametrize("threads", [1], indirect=True)
def test_scratch_memory_comes_back(threads):
    a = RNG.normal(size=(330, 330))
    fnn.matmul(a, a)
    for _ in range(20):
        assert linalg._direct(a, a, np.empty_like(a), False, False)


def test_plans_are_limited(threads):
    # the dtypes of unpickled arrays are separate objects, which the builtin does not know
    for n in range(100, 150):
        a, b = (pickle.loads(pickle.dumps(array)) for array in (np.ones((200, 64)), np.ones((64, n))))
        for _ in range(2):
            np.testing.assert_array_equal(fnn.matmul(a, b), np.full((200, n), 64.0))
    assert 0 < len(linalg._plans) <= 32


def test_pickled_arrays_are_prepared_too(threads):
    # their dtype is a separate object
    a, b = (pickle.loads(pickle.dumps(array)) for array in RNG.normal(size=(2, 9, 9)).astype(np.float32))
    assert a.dtype is not np.dtype(np.float32)
    plain = np.ascontiguousarray(b, np.float32).astype(np.float32)
    for left, right in ((a, b), (a, plain), (plain, b)):
        linalg._plans.clear()
        for _ in range(2):
            assert fnn.matmul(left, right).tobytes() == general(left, right).tobytes()
            assert linalg._plans


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_the_builtin_takes_large_products_that_are_not_shared(threads):
    a, b = RNG.normal(size=(2, 1, 20_000))
    expected, out = general(a, b, transpose_b=True), np.empty((1, 1))
    fnn.matmul(a, b, transpose_b=True)
    assert linalg._direct(a, b, out, False, True)
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("threads", [2], indirect=True)
@pytest.mark.parametrize("size", [150, 330], ids=["panels", "packed"])
def test_the_builtin_shares_products(size, threads):
    a = RNG.normal(size=(size, size))
    expected, shared = general(a, a).tobytes(), 0
    for _ in range(60):
        fnn.matmul(a, a)  # makes the team, and keeps it off this thread's processor
        before, out = thread_pool.statistics()["phases"], np.empty_like(a)
        if linalg._direct(a, a, out, False, False):
            shared += thread_pool.statistics()["phases"] - before
            assert out.tobytes() == expected
    assert shared > 0


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_the_builtin_works_alone_where_threads_are_limited(threads):
    a = RNG.normal(size=(330, 330))
    for _ in range(3):
        fnn.matmul(a, a)
    with settings.limited(1):
        before = thread_pool.statistics()["phases"]
        assert not linalg._direct(a, a, np.empty_like(a), False, False)
        assert fnn.matmul(a, a).tobytes() == general(a, a).tobytes()
        assert thread_pool.statistics()["phases"] == before


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_sleeping_workers_are_woken_after_several_small_products(threads):
    a, out = RNG.normal(size=(2, 128, 128)).astype(np.float32)
    for _ in range(3 * PATIENCE):
        fnn.matmul(a, a)  # makes the team

    def shared():
        """Wait until workers sleep; return for some consecutive products whether they were shared."""
        until_workers_sleep()
        found = []
        for _ in range(PATIENCE + 1):
            before = thread_pool.statistics()["phases"]
            fnn.matmul(a, a, out=out)
            found.append(thread_pool.statistics()["phases"] > before)
        return found

    # not at the first attempt: Python is asked where this thread has moved since the last run that was shared
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else {0}
    try:
        if len(allowed) > 1:
            os.sched_setaffinity(0, {min(allowed)})
        assert any(shared() == [False] * PATIENCE + [True] for _ in range(10))
    finally:
        if len(allowed) > 1:
            os.sched_setaffinity(0, allowed)
