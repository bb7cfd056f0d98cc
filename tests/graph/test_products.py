"""Products of two inputs: MatMul and Dot, and views that products read and write in place."""

import ctypes
import weakref

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn.lower import lower
from fastnn.runtime.programs import cache
from frozen import attention

RNG = np.random.default_rng(0)
LEADING = [(), (3,), (2, 3)]
FLAGS = [(False, False), (False, True), (True, False), (True, True)]


def turned(x, flag):
    return np.swapaxes(x, -1, -2) if flag else x


def operands(leading, flags, m=4, n=5, k=6):
    shapes = [(k, m) if flags[0] else (m, k), (n, k) if flags[1] else (k, n)]
    return [(*leading, *shape) for shape in shapes]


def two(layer, shapes, **more):
    inputs = [fnn.Input(shape) for shape in shapes]
    return fnn.Model(inputs, layer(inputs), dtype="float64", **more)


def data(shapes, rows=7):
    return [RNG.normal(size=(rows, *shape)) for shape in shapes]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("leading", LEADING)
def test_matmul_and_its_gradients(leading, flags):
    shapes = operands(leading, flags)
    net = two(fnn.MatMul(*flags, scale=0.3), shapes)
    net.compile("sgd", "mse")
    a, b = data(shapes)
    expected = 0.3 * turned(a, flags[0]) @ turned(b, flags[1])
    np.testing.assert_allclose(net.predict([a, b]), expected, rtol=1e-13, atol=1e-14)
    target = RNG.normal(size=expected.shape)
    dy = 0.3 * 2.0 * (expected - target) / expected.size
    wanted = turned(dy @ turned(b, not flags[1]), flags[0]), turned(turned(a, not flags[0]) @ dy, flags[1])
    for got, right in zip(net.input_gradients([a, b], target), wanted, strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-12, atol=1e-15)


# one group of matrices that an operand shares; two groups; more, with axes that only one of them has
BROADCAST = [
    ((3,), ()), ((), (3,)), ((3,), (1,)), ((1, 3), (2, 1)), ((2, 1), (2, 3)), ((2, 3), (3,)), ((1, 1), ()),
    ((2, 3), (1,)), ((2, 1, 3), (2, 2, 3)), ((2, 1, 3, 1), (1, 2, 1, 2)), ((2, 1, 1), (3, 2)), ((3, 1, 2), (3, 2, 1)),
]  # fmt: skip


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("leading", BROADCAST)
def test_matmul_broadcasts_as_numpy_does(leading, flags):
    shapes = [(*axes, *shape) for axes, shape in zip(leading, operands((), flags), strict=True)]
    net = two(fnn.MatMul(*flags, scale=0.3), shapes)
    net.compile("sgd", "mse")
    a, b = data(shapes)
    # the batch is an axis that both have
    x, y = turned(a, flags[0]), turned(b, flags[1])
    rank = max(map(len, leading))
    wide = [np.reshape(each, (7, *(1,) * (rank + 3 - each.ndim), *each.shape[1:])) for each in (x, y)]
    expected = 0.3 * wide[0] @ wide[1]
    assert net._architecture.output_shapes[0] == expected.shape[1:]
    np.testing.assert_allclose(net.predict([a, b]), expected, rtol=1e-13, atol=1e-14)
    target = RNG.normal(size=expected.shape)
    dy = 0.3 * 2.0 * (expected - target) / expected.size
    whole = dy @ turned(wide[1], True), turned(wide[0], True) @ dy
    for got, given, flag, of in zip(net.input_gradients([a, b], target), whole, flags, wide, strict=True):
        axes = tuple(axis for axis in range(1, rank + 1) if of.shape[axis] == 1)
        wanted = turned(given.sum(axis=axes, keepdims=True), flag).reshape(got.shape)
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)


def grouped_attention(dtype="float32", groups=2, heads=3, steps=5, size=4):
    """Heads of each group share keys and values: queries, keys and values are read where projections left them."""
    x = fnn.Input((steps, groups * heads * size))
    split = fnn.Reshape((steps, groups, heads, size))(fnn.Dense(groups * heads * size)(x))
    q = fnn.Permute((2, 3, 1, 4))(split)
    k, v = (
        fnn.Permute((2, 3, 1, 4))(fnn.Reshape((steps, groups, 1, size))(fnn.Dense(groups * size)(x))) for _ in range(2)
    )
    scores = fnn.Activation("softmax")(fnn.MatMul(transpose_b=True, scale=0.5)([q, k]))
    mixed = fnn.Permute((3, 1, 2, 4))(fnn.MatMul()([scores, v]))
    return fnn.Model(x, fnn.Dense(3)(fnn.Reshape((steps, -1))(mixed)), seed=3, dtype=dtype)


def test_heads_of_a_group_share_keys_without_a_copy():
    net = grouped_attention("float64")
    text = str(net.program)
    assert "strided-float64" not in text and "copy_columns" not in text
    net.compile("adam", "mse")
    # the gradients of keys and values are summed over the heads of a group, and these sums are copied
    text = str(net.program)
    assert text.count("reduce-sum-float64") == text.count("strided-float64") == 2
    x, y = RNG.normal(size=(6, 5, 24)), RNG.normal(size=(6, 5, 3))
    wq, bq, wk, bk, wv, bv, w, b = net.get_weights()
    q = (x @ wq + bq).reshape(6, 5, 6, 4).transpose(0, 2, 1, 3)
    # each key and value is there for three heads
    k, v = (
        np.repeat((x @ each + bias).reshape(6, 5, 2, 4), 3, axis=2).transpose(0, 2, 1, 3)
        for each, bias in ((wk, bk), (wv, bv))
    )
    scores = np.exp(0.5 * q @ turned(k, True))
    mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ v
    expected = mixed.transpose(0, 2, 1, 3).reshape(6, 5, 24) @ w + b
    np.testing.assert_allclose(net.predict(x), expected, rtol=1e-11, atol=1e-13)
    fnn.testing.check_op(fnn.MatMul(transpose_b=True), shape=((2, 3, 5, 4), (2, 1, 5, 4)))
    before = net.train_on_batch(x, y)["loss"]
    assert net.train_on_batch(x, y)["loss"] < before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_of_grouped_heads_do_not_depend_on_rows_or_threads(dtype):
    net = grouped_attention(dtype, steps=37)
    net.compile("sgd", "mse")
    x, y = RNG.normal(size=(33, 37, 24)).astype(dtype), RNG.normal(size=(33, 37, 3)).astype(dtype)
    with fnn.threads.limited(1):
        whole, gradients = net.predict(x), net.gradients(x, y)
    np.testing.assert_array_equal(net.predict(x, batch_size=5), whole)
    np.testing.assert_array_equal(net.predict(x[:1]), whole[:1])
    for got, expected in zip(net.gradients(x, y), gradients, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_matrix_times_itself():
    x = fnn.Input((4, 3))
    net = fnn.Model(x, fnn.MatMul(transpose_b=True)([x, x]), dtype="float64")
    net.compile("sgd", "mse")
    (a,) = data([(4, 3)])
    y = a @ turned(a, True)
    np.testing.assert_allclose(net.predict(a), y, rtol=1e-13)
    dy = 2.0 * y / y.size
    wanted = (dy + turned(dy, True)) @ a
    np.testing.assert_allclose(net.input_gradients(a, np.zeros_like(y)), wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("axes", "shapes", "formula"),
    [
        (1, ((5,), (5,)), "bi,bi->b"),
        (-1, ((4, 5), (3, 5)), "bij,bkj->bik"),
        ((2, 1), ((4, 5), (5, 3)), "bij,bjk->bik"),
        ((1, 2), ((4, 5), (3, 4)), "bij,bki->bjk"),
        ((1, -1), ((4,), (2, 3, 4)), "bi,bjki->bjk"),
        ((2, 2), ((2, 3, 4), (5, 3)), "bijk,blj->bikl"),
    ],
)
@pytest.mark.parametrize("normalize", [False, True])
def test_dot_and_its_gradients(axes, shapes, formula, normalize):
    net = two(fnn.Dot(axes, normalize), shapes)
    net.compile("sgd", "mse")
    x = data(shapes)

    def value(x):
        if normalize:
            both = axes if isinstance(axes, tuple) else (axes, axes)
            x = [each / np.linalg.norm(each, axis=axis, keepdims=True) for each, axis in zip(x, both, strict=True)]
        return np.einsum(formula, *x)

    expected = value(x).reshape(7, *net._architecture.output_shapes[0])
    np.testing.assert_allclose(net.predict(x), expected, rtol=1e-9, atol=1e-12)
    target = RNG.normal(size=expected.shape)
    for number, got in enumerate(net.input_gradients(x, target)):
        for index in ((0,) * got.ndim, tuple(size - 1 for size in got.shape)):
            losses = []
            for step in (1e-5, -1e-5):
                moved = [each.copy() for each in x]
                moved[number][index] += step
                losses.append(np.mean((value(moved).reshape(target.shape) - target) ** 2))
            assert got[index] == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-6, abs=1e-9)


def test_normalized_zeros_stay_zeros():
    net = two(fnn.Dot(1, normalize=True), [(3,), (3,)])
    np.testing.assert_array_equal(net.predict([np.zeros((2, 3)), np.ones((2, 3))]), np.zeros((2, 1)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_rows_or_threads(dtype):
    net = attention(dtype, heads=3, steps=37, size=30)
    x = RNG.normal(size=(33, 37, 30)).astype(dtype)
    with fnn.threads.limited(1):
        whole = net.predict(x)
    np.testing.assert_array_equal(net.predict(x), whole)
    np.testing.assert_array_equal(net.predict(x, batch_size=5), whole)
    np.testing.assert_array_equal(net.predict(x[:1]), whole[:1])


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        *((fnn.MatMul(*flags, scale=0.7), operands((2,), flags, 2, 3, 4)) for flags in FLAGS),
        (fnn.Dot((2, 1)), ((2, 3), (3, 2))),
        (fnn.Dot(-1, normalize=True), ((2, 4), (4,))),
        (fnn.Add(), ((3, 2), (2,))),
        (fnn.Cropping1D((1, 2)), (5, 2)),
    ],
)
def test_derivatives_are_those_of_differences(layer, shape):
    fnn.testing.check_op(layer, shape=shape)


# --- views ------------------------------------------------------------------------------------------------------


def without_views(monkeypatch):
    """Let products copy; models made from now on share no programs with those before."""
    monkeypatch.setattr(lower, "in_place", lambda nodes, kept, accumulating: (list(nodes), []))
    monkeypatch.setattr(cache, "_programs", weakref.WeakValueDictionary())


def test_attention_copies_nothing(monkeypatch):
    net, other = attention(), attention()
    net.compile("adam", "mse")
    assert "strided-float32" not in str(net.program)
    x, y = RNG.normal(size=(2, 64, 5, 6))
    net.fit(x, y, epochs=2, batch_size=16, verbose=0)
    without_views(monkeypatch)
    other.compile("adam", "mse")
    assert "strided-float32" in str(other.program)
    other.fit(x, y, epochs=2, batch_size=16, verbose=0)
    for got, expected in zip(net.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_products_of_permuted_products():
    x = fnn.Input((2, 3, 4))
    y = fnn.Permute((2, 1, 3))(fnn.MatMul(transpose_b=True)([x, x]))
    net = fnn.Model(x, fnn.MatMul(transpose_b=True)([y, y]), dtype="float64")
    assert "strided-float64" not in str(net.program)
    (a,) = data([(2, 3, 4)])
    first = (a @ turned(a, True)).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(net.predict(a), first @ turned(first, True), rtol=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_any_views_are_read_as_they_are(seed, monkeypatch):
    random = np.random.default_rng(seed)

    def reshaped(x):
        sizes = [int(size) for size in random.permutation([2, 3, 4, 1, 2][: random.integers(3, 6)])]
        whole = int(np.prod(x.shape)) == int(np.prod(sizes))
        return fnn.Reshape(sizes if whole else (-1, *x.shape[2:]))(x)

    def viewed(x):
        for _ in range(random.integers(1, 4)):
            if random.random() < 0.6:
                x = fnn.Permute((random.permutation(len(x.shape)) + 1).tolist())(x)
            else:
                x = reshaped(x)
        return x if len(x.shape) > 1 else fnn.Reshape((4, -1))(x)

    x = fnn.Input((2, 3, 4, 2))
    a = viewed(x)
    b = viewed(fnn.Activation("tanh")(x))
    y = fnn.Dot((-1, -1))([a, a]) if a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-1] else None
    y = fnn.MatMul(transpose_b=True)([a, b]) if y is None else y
    z = fnn.MatMul(transpose_a=bool(seed % 2), transpose_b=not seed % 2)([a, a])
    outputs = [y, fnn.Permute((random.permutation(len(z.shape)) + 1).tolist())(z)]
    rows = RNG.normal(size=(5, 2, 3, 4, 2))

    def results():
        net = fnn.Model(x, outputs, dtype="float64", seed=0)
        net.compile("sgd", ["mse", "mse"])
        targets = [np.ones((5, *shape)) for shape in net._architecture.output_shapes]
        return [*net.predict(rows), net.input_gradients(rows, targets)], str(net.program)

    got, seen = results()
    without_views(monkeypatch)
    expected, copied = results()
    # a transposed operand may have another algorithm
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    assert seen.count("strided-float64") <= copied.count("strided-float64")


@pytest.mark.parametrize(("cropping", "shape"), [((1, 0), (4, 3)), ((0, 3), (4,)), (1, (3, 2, 5)), ((0, 0), (2, 2))])
def test_cropping_and_its_gradient(cropping, shape):
    x = fnn.Input(shape)
    net = fnn.Model(x, fnn.Cropping1D(cropping)(x), dtype="float64")
    net.compile("sgd", "mse")
    before, after = cropping if isinstance(cropping, tuple) else (cropping, cropping)
    (a,) = data([shape])
    kept = slice(before, shape[0] - after)
    np.testing.assert_array_equal(net.predict(a), a[:, kept])
    wanted = np.zeros_like(a)
    wanted[:, kept] = 2.0 * a[:, kept] / a[:, kept].size
    np.testing.assert_allclose(net.input_gradients(a, np.zeros_like(a[:, kept])), wanted, rtol=1e-14)


def packed_attention(heads=2, steps=5, size=6):
    """Queries, keys and values are slices of one projection."""
    x = fnn.Input((steps, size))
    packed = fnn.Reshape((steps, 3, heads, -1))(fnn.Dense(3 * size)(x))
    stacked = fnn.Permute((2, 3, 1, 4))(packed)
    q, k, v = (fnn.Reshape((heads, steps, -1))(fnn.Cropping1D((part, 2 - part))(stacked)) for part in range(3))
    scores = fnn.Activation("softmax")(fnn.MatMul(transpose_b=True, scale=0.5)([q, k]))
    mixed = fnn.Permute((2, 1, 3))(fnn.MatMul()([scores, v]))
    return fnn.Model(x, fnn.Dense(size)(fnn.Reshape((steps, -1))(mixed)), seed=3)


def test_slices_of_one_projection_are_read_in_place(monkeypatch):
    net = packed_attention()
    x, y = RNG.normal(size=(2, 32, 5, 6))
    assert "copy_columns" not in str(net.program) and "strided-float32" not in str(net.program)
    net.compile("adam", "mse")
    # the three gradients are joined, not added
    assert "add-float32" not in str(net.program) and "place-" not in str(net.program)
    net.fit(x, y, epochs=2, batch_size=16, verbose=0)
    without_views(monkeypatch)
    other = packed_attention()
    other.compile("adam", "mse")
    other.fit(x, y, epochs=2, batch_size=16, verbose=0)
    for got, expected in zip(net.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_slices_that_overlap_or_leave_gaps_are_added():
    x = fnn.Input((5, 2))
    parts = [fnn.Cropping1D(cropping)(x) for cropping in ((0, 2), (1, 1), (0, 3))]
    net = fnn.Model(x, parts, dtype="float64")
    net.compile("sgd", ["mse"] * 3)
    (a,) = data([(5, 2)])
    wanted = np.zeros_like(a)
    for kept in (slice(0, 3), slice(1, 4), slice(0, 2)):
        wanted[:, kept] += 2.0 * a[:, kept] / a[:, kept].size
    zeros = [np.zeros((7, rows, 2)) for rows in (3, 3, 2)]
    np.testing.assert_allclose(net.input_gradients(a, zeros), wanted, rtol=1e-13)


# --- everywhere -------------------------------------------------------------------------------------------------


def test_models_are_frozen_saved_and_exported(tmp_path):
    net = attention()
    net.compile("adam", "mse")
    x, y = RNG.normal(size=(2, 40, 5, 6)).astype(np.float32)
    learner = net.learner()
    assert fnp.train_step(learner, x, y) == net.train_on_batch(x, y)["loss"]
    wanted, out = net.predict(x), np.empty_like(y)
    fnp.predict(net.freeze(), x, out)
    np.testing.assert_array_equal(out, wanted)
    net.save(tmp_path / "attention")
    np.testing.assert_array_equal(fnn.load(tmp_path / "attention").predict(x), wanted)
    single, pointer = x[0].copy(), ctypes.POINTER(ctypes.c_float)
    net.c_function("int (const T *, T *)").ctypes(single.ctypes.data_as(pointer), out.ctypes.data_as(pointer))
    np.testing.assert_array_equal(out[0], net.predict(x[:1])[0])


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (
            lambda: two(fnn.MatMul(), [(3, 4), (3, 4)]),
            ValueError,
            r"inner axes agree, got .*: 4 and 3",
        ),
        (lambda: two(fnn.MatMul(transpose_b=True), [(3, 4), (4, 3)]), ValueError, r"\(4, 3\) \(transpose_b\): 4 and 3"),
        (lambda: two(fnn.MatMul(), [(4,), (4,)]), ValueError, "two inputs of matrices"),
        (lambda: two(fnn.MatMul(), [(2, 3, 4), (3, 4, 2)]), ValueError, "before the last two are equal or 1"),
        (lambda: two(fnn.MatMul(), [(4,), (3, 4, 2)]), ValueError, "two inputs of matrices"),
        (lambda: fnn.MatMul()(fnn.Input((3, 4))), ValueError, "takes 2 input"),
        (lambda: fnn.MatMul(transpose_a=1), TypeError, "transpose_a: expected True or False, got 1"),
        (lambda: fnn.MatMul(scale="2"), TypeError, "scale: expected a number, got '2'"),
        (lambda: fnn.MatMul(scale=float("nan")), ValueError, "scale: expected a finite number, got nan"),
        (lambda: fnn.Cropping1D("1"), TypeError, r"cropping\[0\]: expected an integer, got '1'"),
        (lambda: fnn.Cropping1D((1, 2, 3)), TypeError, "cropping: expected an integer or two"),
        (lambda: fnn.Cropping1D((1, -1)), ValueError, r"cropping\[1\]: expected an integer >= 0, got -1"),
        (lambda: fnn.Cropping1D((2, 1))(fnn.Input((3, 4))), ValueError, r"leaves nothing of samples of shape \(3, 4\)"),
        (lambda: fnn.Dot("1"), TypeError, "axes: expected an integer, got '1'"),
        (lambda: fnn.Dot((1, 2, 3)), TypeError, "axes: expected an axis or two"),
        (lambda: fnn.Dot((0, 1)), ValueError, "because 0 is the batch"),
        (lambda: fnn.Dot(1, normalize=1), TypeError, "normalize: expected True or False"),
        (lambda: two(fnn.Dot(3), [(3, 4), (4, 3)]), ValueError, r"has no axis 3 in samples of shape \(3, 4\)"),
        (lambda: two(fnn.Dot(1), [(3, 4), (4, 3)]), ValueError, "sums over axes of one size, got 3 and 4"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_dot_is_named_and_shown_as_it_was_made():
    assert repr(fnn.Dot((2, -1), normalize=True)) == "Dot(axes=(2, -1), normalize=True)"
    assert repr(fnn.MatMul(transpose_b=True, scale=2)) == "MatMul(transpose_b=True, scale=2.0)"
