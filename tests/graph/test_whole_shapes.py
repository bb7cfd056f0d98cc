"""Ops on whole shapes beside NumPy's of the same names: values on both backends, gradients beside differences."""

import functools
import re

import numpy as np
import pytest

from computed import build_for, check
from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Graph
from fastnn.graph.ops import indexing, joins, reductions, scans, strided
from fastnn.graph.ops.pointwise import pointwise

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 3, 5))
WIDE = RNG.standard_normal((2, 3, 2, 2, 3, 2, 2, 2))
ALL = slice(None)
BACK = slice(None, None, -1)


@pytest.mark.parametrize("axes", [(2, 0, 1), (1, 0, 2), (0, 2, 1), None])
def test_transpose(axes):
    check(lambda g, x: strided.transpose(g, x, axes, "t"), [X], np.transpose(X, axes), twice=True)


@pytest.mark.parametrize("axes", [(7, 6, 5, 4, 3, 2, 1, 0), (0, 2, 1, 4, 3, 6, 5, 7), (3, 0, 7, 1, 5, 2, 6, 4)])
def test_axes_that_take_several_records(axes):
    check(lambda g, x: strided.transpose(g, x, axes, "t"), [WIDE], np.transpose(WIDE, axes))


@pytest.mark.parametrize(
    "key",
    [
        0, -1, (0, 1), (ALL, 1), (..., 2), (ALL, BACK), BACK, (slice(1, 3), slice(None, None, 2), slice(-1, 0, -2)),
        (None, ..., None), (ALL, 0, 0), slice(None, -1), slice(1, None), (0, 0, 0), (ALL, slice(1, 2)),
        (BACK, BACK, BACK), (ALL, ALL, slice(4, None, -3)), (ALL, slice(-100, 100)), (1, None, ..., BACK),
    ],
)  # fmt: skip
def test_getitem(key):
    check(lambda g, x: strided.getitem(g, x, key, "s"), [X], X[key], twice=key == (ALL, BACK))


def test_slices_that_take_several_records():
    key = (ALL, slice(0, 2), BACK, slice(0, 1), slice(None, None, 2), BACK, ALL, slice(1, 2))
    check(lambda g, x: strided.getitem(g, x, key, "s"), [WIDE], WIDE[key])


def test_other_shapes():
    for shape in ((3, -1), (-1,), (BATCH, 15), (-1, 5, 3, 1)):
        check(
            lambda g, x, shape=shape: strided.reshape(g, x, shape, "r"),
            [X],
            X.reshape([s if s != BATCH else 4 for s in shape]),
        )
    check(lambda g, x: strided.reshape(g, x, (5, 4, 3), "r"), [X], X.reshape(5, 4, 3), [False])
    check(lambda g, x: strided.expand_dims(g, x, (0, -1), "e"), [X], np.expand_dims(X, (0, -1)))
    check(lambda g, x: strided.squeeze(g, strided.expand_dims(g, x, (0, -1), "e"), None, "s"), [X], X)
    check(lambda g, x: strided.squeeze(g, strided.getitem(g, x, slice(1), "s"), 0, "s"), [X], X[0])
    check(lambda g, x: strided.moveaxis(g, x, (0, 1), (-1, 0), "m"), [X], np.moveaxis(X, (0, 1), (-1, 0)))
    check(lambda g, x: strided.swapaxes(g, x, 0, -1, "s"), [X], np.swapaxes(X, 0, -1))
    check(lambda g, x: strided.flip(g, x, (0, 2), "f"), [X], np.flip(X, (0, 2)))
    check(lambda g, x: strided.flip(g, x, None, "f"), [X], np.flip(X))


def test_a_tensor_without_a_batch_axis_becomes_one_with_it_and_back():
    """The same elements as (3, B, 5), which is not batched, and as (B, 3, 5)."""

    def build(g, x):
        y = strided.transpose(g, x, (1, 0, 2), "t")
        assert not y.batched and y.whole == (3, BATCH, 5)
        flat = strided.reshape(g, y, (BATCH, 15), "r")
        assert flat.batched and flat.shape == (15,)
        return strided.reshape(g, flat, (15, BATCH), "r")

    check(build, [X], X.transpose(1, 0, 2).reshape(15, 4))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axes", [None, 0, 1, -1, (0, 1), (0, 2), (1, 2), (2, 0, 1), ()])
@pytest.mark.parametrize("kind", reductions.KINDS)
def test_reductions(kind, axes, keepdims):
    expected = getattr(np, kind)(X, axis=axes, keepdims=keepdims)
    check(lambda g, x: reductions.reduce(g, kind, x, axes, keepdims, "r"), [X], expected,
          twice=kind == "prod" and not keepdims)  # fmt: skip


def test_long_reductions_are_cut_into_parts_whatever_the_batch():
    x = RNG.standard_normal((70, 300)) + 1.0
    for kind in ("mean", "max"):
        made = check(lambda g, x, kind=kind: reductions.reduce(g, kind, x, None, False, "r"), [x], getattr(np, kind)(x))
        assert str(made.program).count("reduce-") == 2
    check(lambda g, x: reductions.reduce(g, "sum", x, None, False, "r"), [x[:3]], x[:3].sum())
    # threads share a sum over a batch of one number
    exact = 100_000 * float(np.float32(1.1))
    total = build_for(
        lambda g, x: reductions.reduce(g, "sum", x, None, False, "r"), [np.full((1000, 100), 1.1)], "float32"
    )
    assert abs(total.run([np.full((1000, 100), 1.1)])[0] - exact) < 1e-6 * exact


def test_gradients_of_extrema_are_shared_among_equal_ones():
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    for axis, expected in ((1, [[0, 0.5, 0.5], [1 / 3] * 3]), (0, [[0, 1, 1], [1, 0, 0]])):
        made = build_for(lambda g, x, axis=axis: reductions.reduce(g, "max", x, axis, False, "r"), [x], grads=[0])
        np.testing.assert_allclose(made.run([x, np.ones(2 if axis else 3)])[0], expected)


@pytest.mark.parametrize("axes", [None, 0, 1, (0, 2)])
def test_products_of_numbers_that_may_be_zero(axes):
    x = np.round(X)
    x[:, 0], x[1] = 0.0, x[1] + 1.0
    check(lambda g, x: reductions.reduce(g, "prod", x, axes, False, "r"), [x], x.prod(axis=axes), twice=True)


def test_broadcast_to():
    u = RNG.standard_normal((1, 3, 1))
    check(lambda g, x: reductions.broadcast_to(g, x, (2, *x.whole), "b"), [X], np.broadcast_to(X, (2, 4, 3, 5)))
    check(lambda g, x, u: reductions.broadcast_to(g, u, x.whole, "b"), [X, u], np.broadcast_to(u, X.shape),
          batched=[True, False], grads=[1])  # fmt: skip
    wide = RNG.standard_normal((1, 2, 1, 2, 1, 2, 1, 2))
    check(lambda g, x: reductions.broadcast_to(g, x, (2,) * 8, "b"), [wide], np.broadcast_to(wide, (2,) * 8), [False])


def test_what_is_repeated_is_read_without_a_copy():
    """The gradient of a mean is one number, and no array of it is made."""
    z = RNG.standard_normal(X.shape)

    def build(g, x, z):
        return reductions.reduce(g, "mean", pointwise(g, "exp", [pointwise(g, "multiply", [x, z], "p")], "e"), None,
                                 False, "m")  # fmt: skip

    check(build, [X, z], np.exp(X * z).mean(), twice=True)
    text = str(build_for(build, [X, z], grads=[0]).program)
    assert "strided-" not in text and "divide_by-" in text

    def alone(g, u, x):
        return pointwise(g, "add", [reductions.broadcast_to(g, u, (2, 3, 5), "b"), x], "a")

    u = RNG.standard_normal((3, 1))
    check(alone, [u, X[:2]], u + X[:2], [False, False])
    assert "strided-" not in str(build_for(alone, [u, X[:2]], batched=[False, False]).program)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_joins(axis):
    z = RNG.standard_normal(X.shape)
    check(lambda g, x, z: joins.concatenate(g, [x, z, x], axis, "c"), [X, z], np.concatenate([X, z, X], axis))
    check(lambda g, x, z: joins.stack(g, [x, z], axis, "s"), [X, z], np.stack([X, z], axis))
    check(lambda g, x: joins.roll(g, x, 1, axis, "r"), [X], np.roll(X, 1, axis))
    check(lambda g, x: joins.roll(g, x, -1, axis, "r"), [X], np.roll(X, -1, axis))
    check(lambda g, x: joins.repeat(g, x, 3, axis, "r"), [X], np.repeat(X, 3, axis))


@pytest.mark.parametrize(
    ("axis", "slices", "copies"),
    [
        # one slice, and the result, which is a view, is copied
        (2, [slice(0, 2), slice(2, 4)], 2),
        (2, [slice(1, 3), slice(3, 5)], 2),
        (2, [slice(number, number + 1) for number in range(5)], 1),
        (2, [slice(2, 4), slice(0, 2)], 4),
        (2, [slice(0, 2), slice(1, 3)], 4),
        (2, [slice(0, 4, 2), slice(1, 5, 2)], 4),
        (1, [slice(0, 2), slice(2, 4)], 4),
        (3, [slice(0, 2), slice(2, 4)], 4),
    ],
)
def test_stacks_of_slices(axis, slices, copies):
    def build(g, x):
        return joins.stack(g, [strided.getitem(g, x, (ALL, ALL, each), "s") for each in slices], axis, "s")

    check(build, [X], np.stack([X[:, :, each] for each in slices], axis))
    made = [key.op for key in build_for(build, [X]).program.kernels]
    assert made.count("strided") + made.count("copy_columns") == copies, made
    # of two tensors
    z, (first, second) = RNG.standard_normal(X.shape), slices[:2]
    check(lambda g, x, z: joins.stack(g, [strided.getitem(g, x, (ALL, ALL, first), "s"),
                                          strided.getitem(g, z, (ALL, ALL, second), "s")], axis, "s"),
          [X, z], np.stack([X[:, :, first], z[:, :, second]], axis))  # fmt: skip


def test_joins_of_slices_of_the_batch():
    check(lambda g, x: joins.concatenate(g, [x, strided.getitem(g, x, slice(1, None), "s")], 0, "c"), [X],
          np.concatenate([X, X[1:]]), twice=True)  # fmt: skip
    check(lambda g, x: joins.split(g, joins.concatenate(g, [x, x], 0, "c"), 2, 0, "c"), [X], [X, X])
    check(lambda g, x: joins.split(g, x, [1, 2], 1, "s"), [X], np.split(X, [1, 2], 1))
    check(lambda g, x: joins.roll(g, x, (1, -2), (0, 2), "r"), [X], np.roll(X, (1, -2), (0, 2)))
    check(lambda g, x: joins.roll(g, x, 1, None, "r"), [X], np.roll(X, 1))
    for repeats in ((2, 1, 3), (2, 1, 1, 3), 2):
        check(lambda g, x, repeats=repeats: joins.tile(g, x, repeats, "t"), [X], np.tile(X, repeats))


def test_gradients_of_parts_are_joined():
    def build(g, x):
        first, second = joins.split(g, x, [2], 1, "s")
        return joins.concatenate(g, [second, first], 1, "c")

    made = build_for(build, [X], grads=[0])
    text = str(made.program)
    assert "place-" not in text and "add-" not in text and text.count("copy_columns-") == 2


@pytest.mark.parametrize("mode", joins.PAD_MODES)
def test_pad(mode):
    widths = ((1, 2), (2, 0), (1, 3))
    check(lambda g, x: joins.pad(g, x, widths, "p", mode), [X], np.pad(X, widths, mode), twice=mode == "constant")


def test_pad_with_a_number():
    check(lambda g, x: joins.pad(g, x, 1, "p", "constant", 2.5), [X], np.pad(X, 1, constant_values=2.5))


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_running_sums_and_products(axis, reverse, exclusive):
    z = RNG.standard_normal(X.shape)

    def expected(function, initial):
        found = function(np.flip(X, axis) if reverse else X, axis=axis)
        if exclusive:
            found = np.roll(found, 1, axis)
            found[tuple(0 if number == axis else ALL for number in range(3))] = initial
        return np.flip(found, axis) if reverse else found

    for op, function, initial in ((scans.cumsum, np.cumsum, 0.0), (scans.cumprod, np.cumprod, 1.0)):
        check(lambda g, x, op=op: op(g, x, axis, "c", reverse, exclusive), [X], expected(function, initial),
              twice=axis == 1)  # fmt: skip

    def carried(a, b):
        a, b = (np.moveaxis(each, axis, 0)[:: -1 if reverse else 1] for each in (a, b))
        states = [np.full(a[0].shape, 0.7)]
        for factor, summand in zip(a, b, strict=True):
            states.append(factor * states[-1] + summand)
        return np.moveaxis(np.stack(states[:-1] if exclusive else states[1:])[:: -1 if reverse else 1], 0, axis)

    check(lambda g, a, b: scans.recurrence(g, a, b, axis, "r", reverse, exclusive, 0.7), [X, z], carried(X, z),
          twice=axis == 1)  # fmt: skip


def test_running_sums_of_all():
    check(lambda g, x: scans.cumsum(g, x, None, "c"), [X], np.cumsum(X))


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_places_of_extrema(name):
    x = np.round(X)
    x[2, 1, 3], x[2, 1, 4] = np.nan, np.nan
    for axis in (None, 0, 1, 2):
        for keepdims in (False, True):
            op, expected = getattr(scans, name), getattr(np, name)(x, axis, keepdims=keepdims)
            check(lambda g, x, op=op, axis=axis, kept=keepdims: op(g, x, axis, kept, "a"), [x], expected, grads=())


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k(k):
    order = np.argsort(-X, axis=-1, kind="stable")[..., :k]
    check(lambda g, x: scans.top_k(g, x, k, "k"), [X], [np.take_along_axis(X, order, -1), order], twice=True)


def test_the_largest_of_equal_numbers_and_nan():
    x = np.array([[1.0, np.nan, 3.0, -0.0, 3.0, np.nan, np.inf, 0.0]])
    values, places = build_for(lambda g, x: scans.top_k(g, x, 8, "k"), [x], batched=[False]).run([x])
    np.testing.assert_array_equal(places, [[1, 5, 6, 2, 4, 0, 3, 7]])
    np.testing.assert_array_equal(values, x[:, places[0]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [32, 33, 77, 150])
def test_many_of_the_largest_of_numbers_that_are_often_equal(k, dtype):
    special = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 1.0, -1.0, 2.5]
    x = np.random.default_rng(8).choice(special, (40, 150)).astype(dtype)
    x[0], x[1], x[2] = np.arange(150), -np.arange(150), -0.0
    made = build_for(lambda g, x: scans.top_k(g, x, k, "k"), [x], dtype, batched=[False])

    def rank(row, j):
        return (not np.isnan(row[j]), 0.0 if np.isnan(row[j]) else -row[j], j)

    expected = [sorted(range(150), key=lambda j, row=row: rank(row, j))[:k] for row in x]
    for found in (made.run([x]), made.run([x], parts=3), made.reference([x])):
        np.testing.assert_array_equal(found[1], expected)
        np.testing.assert_array_equal(found[0], np.take_along_axis(x, found[1], 1))
        np.testing.assert_array_equal(np.signbit(found[0]), np.signbit(np.take_along_axis(x, found[1], 1)))


def test_entries_by_number():
    numbers = RNG.integers(-3, 3, (4, 2))
    check(lambda g, x, i: indexing.take(g, x, i, 1, "t"), [X, numbers], np.take(X, numbers, 1), twice=True)
    check(lambda g, x, i: indexing.take(g, x, i, None, "t"), [X, numbers], np.take(X, numbers))
    table, numbers = RNG.standard_normal((7, 3)), RNG.integers(0, 7, (4, 2))
    check(lambda g, w, i: indexing.take(g, w, i, 0, "t"), [table, numbers], table[numbers], [False, True], twice=True)
    check(lambda g, i: indexing.one_hot(g, i, 7, "o"), [numbers], np.eye(7)[numbers], grads=())
    for axis, shape in ((0, (2, 3, 5)), (1, (4, 2, 5)), (2, (4, 3, 7))):
        numbers = RNG.integers(-X.shape[axis], X.shape[axis], shape)
        check(lambda g, x, i, axis=axis: indexing.take_along_axis(g, x, i, axis, "t"), [X, numbers],
              np.take_along_axis(X, numbers, axis), [True, axis > 0], twice=True)  # fmt: skip


def test_numbers_of_no_entry_give_nan_and_get_no_gradient():
    numbers = np.array([3, -4, 1])
    build = functools.partial(indexing.take, axis=1, label="t")
    found = build_for(lambda g, x, i: build(g, x, i), [X, numbers], batched=[True, False]).run([X, numbers])[0]
    assert np.isnan(found[:, :2]).all() and (found[:, 2] == X[:, 1]).all()
    made = build_for(lambda g, x, i: build(g, x, i), [X, numbers], batched=[True, False], grads=[0])
    gradient = made.run([X, numbers, np.ones((4, 3, 5))])[0]
    assert (gradient[:, 1] == 1.0).all() and (gradient[:, ::2] == 0.0).all()


def test_integers_are_moved_exactly():
    numbers = RNG.integers(-(2**62), 2**62, (4, 3))
    check(lambda g, i: strided.getitem(g, i, (BACK, slice(1, None)), "s"), [numbers], numbers[::-1, 1:], grads=())
    check(lambda g, i: strided.transpose(g, i, None, "t"), [numbers], numbers.T, grads=())
    check(lambda g, i: joins.repeat(g, i, 2, 1, "r"), [numbers], numbers.repeat(2, 1), grads=())


def symbols():
    graph = Graph()
    return graph, graph.input((3, 5), "x"), graph.input((2,), "i", "int64")


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda g, x, i: strided.getitem(g, x, (ALL, 3), "s"), "index 3 is out of bounds for axis 1 of (B, 3, 5)"),
        (lambda g, x, i: strided.getitem(g, x, (0, 0, 0, 0), "s"), "too many indices"),
        (lambda g, x, i: strided.getitem(g, x, (..., ...), "s"), "single ellipsis"),
        (lambda g, x, i: strided.getitem(g, x, slice(None, None, 2), "s"), "every 2th of B entries"),
        (lambda g, x, i: strided.getitem(g, x, (ALL, slice(2, 1)), "s"), "is empty"),
        (lambda g, x, i: strided.getitem(g, x, slice(None, None, 0), "s"), "other than 0"),
        (lambda g, x, i: joins.concatenate(g, [i, i], 0, "c"), "cast it first"),
        (lambda g, x, i: strided.transpose(g, x, (0, 0, 1), "t"), "each axis of (B, 3, 5) once"),
        (lambda g, x, i: strided.transpose(g, x, (0, 1, 3), "t"), "axis 3 is out of bounds"),
        (lambda g, x, i: strided.reshape(g, x, (2, -1, 7), "r"), "cannot reshape (B, 3, 5) into (2, -1, 7)"),
        (lambda g, x, i: strided.reshape(g, x, (-1, -1), "r"), "only one size can be -1"),
        (lambda g, x, i: strided.squeeze(g, x, 1, "s"), "another size than 1"),
        (lambda g, x, i: strided.expand_dims(g, x, (0, 0), "s"), "repeated axis"),
        (lambda g, x, i: strided.moveaxis(g, x, (0, 1), 0, "s"), "as many axes as places"),
        (lambda g, x, i: reductions.reduce(g, "sum", x, 3, False, "r"), "sum: axis 3 is out of bounds"),
        (lambda g, x, i: reductions.reduce(g, "sum", x, (1, -2), False, "r"), "an axis is there twice"),
        (lambda g, x, i: reductions.reduce(g, "mean", i, 1, False, "r"), "mean: expected real numbers"),
        (lambda g, x, i: reductions.broadcast_to(g, x, (3, 5), "b"), "(B, 3, 5) does not broadcast to (3, 5)"),
        (lambda g, x, i: joins.concatenate(g, [x, strided.getitem(g, x, (ALL, 1), "s")], 1, "c"), "must agree in all"),
        (lambda g, x, i: joins.concatenate(g, [], 1, "c"), "at least one"),
        (lambda g, x, i: joins.stack(g, [x, strided.getitem(g, x, (ALL, 1), "s")], 1, "c"), "the same shape"),
        (lambda g, x, i: joins.split(g, x, 2, 1, "s"), "does not divide into 2 equal parts"),
        (lambda g, x, i: joins.split(g, x, 2, 0, "s"), "B is not a multiple of 2 for every batch"),
        (lambda g, x, i: joins.split(g, x, [2, 1], 1, "s"), "leave empty parts"),
        (lambda g, x, i: joins.pad(g, x, ((1, 1), (1, 1)), "p"), "(before, after) for each axis of (B, 3, 5)"),
        (lambda g, x, i: joins.pad(g, x, 3, "p", "reflect"), "fewer than the 4 entries"),
        (lambda g, x, i: joins.pad(g, x, 3, "p", "wrap"), "mode must be one of"),
        (lambda g, x, i: joins.roll(g, x, 2, 0, "r"), "may have fewer than 2 entries"),
        (lambda g, x, i: joins.tile(g, x, 0, "t"), "repeats are at least 1"),
        (lambda g, x, i: joins.repeat(g, x, 0, 1, "t"), "an integer of at least 1"),
        (lambda g, x, i: scans.top_k(g, x, 6, "k"), "from 1 to the size of the last axis of (B, 3, 5)"),
        (lambda g, x, i: scans.cumsum(g, x, 3, "c"), "axis 3 is out of bounds"),
        (lambda g, x, i: scans.recurrence(g, None, None, 0, "c"), "expected tensors of one shape"),
        (lambda g, x, i: indexing.take(g, x, x, 0, "t"), "indices are integers"),
        (lambda g, x, i: indexing.take_along_axis(g, x, i, 1, "t"), "must agree in all axes but axis 1"),
        (lambda g, x, i: indexing.one_hot(g, i, 0, "t"), "at least 1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call, match):
    with pytest.raises(ValueError, match=re.escape(match)):
        call(*symbols())


def test_keys_that_are_no_indices():
    for key in (1.5, "a", True, [0, 1]):
        with pytest.raises(TypeError, match="an index is made of integers"):
            strided.getitem(*symbols()[:2], key, "s")


def test_slices_that_a_small_batch_does_not_have_are_refused():
    def build(g, x):
        return strided.getitem(g, x, slice(3), "first")

    check(build, [X], X[:3])
    with pytest.raises(ValueError, match=r"first: a slice takes 3 entries of axis 0 of \(B, 3, 5\).* in a batch of 2"):
        build_for(build, [X[:2]])
