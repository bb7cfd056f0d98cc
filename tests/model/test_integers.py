"""Inputs of integers: gathered, checked and used in every way of running, against the same models of one-hot rows."""

import pickle

import numpy as np
import pytest

import fastnn as fnn

RNG = np.random.default_rng(0)
N, STEPS, DEPTH = 20, 3, 5
X = RNG.integers(0, DEPTH, (N, STEPS))
Y = RNG.normal(size=(N, 2)).astype(np.float32)
HOT = np.eye(DEPTH, dtype=np.float32)[X]
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def network(*, integers=True, dtype="float32", optimizer="adam", **more):
    x = fnn.Input(STEPS, dtype="int64", name="x") if integers else fnn.Input((STEPS, DEPTH), name="x")
    hot = fnn.OneHot(DEPTH, name="hot")(x) if integers else x
    y = fnn.Dense(2, name="out")(fnn.Flatten()(fnn.Dense(4, "tanh", name="table")(hot)))
    model = fnn.Model(x, y, seed=1, dtype=dtype)
    model.compile(optimizer, "mse", **more)
    return model


def same(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_way_gives_the_bits_of_one_hot_rows(dtype):
    a, b = network(dtype=dtype, metrics=["mae"]), network(integers=False, dtype=dtype, metrics=["mae"])
    options = dict(epochs=2, batch_size=6, validation_split=0.2, verbose=0)
    assert a.fit(X, Y, **options).history == b.fit(HOT, Y, **options).history
    for _ in range(3):  # small calls are prepared at the first one, where they may be
        np.testing.assert_array_equal(a.predict(X), b.predict(HOT))
        np.testing.assert_array_equal(a.predict(X[:1]), b.predict(HOT[:1]))
        np.testing.assert_array_equal(a(X), b(HOT))
        assert a.train_on_batch(X, Y) == b.train_on_batch(HOT, Y)
        assert a.test_on_batch(X, Y) == b.test_on_batch(HOT, Y)
    assert a.evaluate(X, Y, batch_size=7) == b.evaluate(HOT, Y, batch_size=7)
    for one, other in zip(a.gradients(X, Y), b.gradients(HOT, Y), strict=True):
        np.testing.assert_array_equal(one, other)
    batches = [slice(0, 8), slice(8, N)]
    a.fit([(X[rows], Y[rows]) for rows in batches], epochs=2, verbose=0)
    b.fit([(HOT[rows], Y[rows]) for rows in batches], epochs=2, verbose=0)
    same(a, b)
    assert a.evaluate(iter([(X, Y)])) == b.evaluate(iter([(HOT, Y)]))
    np.testing.assert_array_equal(a.predict(iter([X[:8], X[8:]])), b.predict(HOT))
    fnn.train_many([a], X, Y, epochs=1, batch_size=6)
    fnn.train_many([b], HOT, Y, epochs=1, batch_size=6)
    same(a, b)


@pytest.mark.parametrize("kind", [*INTEGERS, "bool", "list", "columns", "swapped"])
def test_all_integers_are_taken(kind):
    model = network()
    expected = model.predict(X)
    if kind == "bool":
        np.testing.assert_array_equal(model.predict(X > 2), model.predict((X > 2).astype(int)))
        return
    found = {"list": X.tolist(), "columns": np.asfortranarray(X), "swapped": X.astype(X.dtype.newbyteorder())}
    given = found[kind] if kind in found else X.astype(kind)
    np.testing.assert_array_equal(model.predict(given), expected)


def every_way(model, x, y=Y):
    """Return every call that takes data."""
    good = (X, Y)
    return {
        "fit": lambda: model.fit(x, y, verbose=0),
        "validation": lambda: model.fit(*good, validation_data=(x, y), verbose=0),
        "batches": lambda: model.fit([good, (x, y)], verbose=0),
        "evaluate": lambda: model.evaluate(x, y),
        "evaluate batches": lambda: model.evaluate(iter([good, (x, y)])),
        "predict": lambda: model.predict(x),
        "call": lambda: model(x),
        "predict batches": lambda: model.predict(iter([X, x])),
        "predict_on_batch": lambda: model.predict_on_batch(x),
        "train_on_batch": lambda: model.train_on_batch(x, y),
        "test_on_batch": lambda: model.test_on_batch(x, y),
        "gradients": lambda: model.gradients(x, y),
        "many": lambda: fnn.train_many([model], x, y),
    }


@pytest.mark.parametrize("way", every_way(None, None))
@pytest.mark.parametrize("bad", [DEPTH, -1, 2**40])
def test_integers_out_of_range_are_refused_before_anything_runs(way, bad):
    model = network(optimizer="sgd")
    for _ in range(2):  # small calls are prepared by the first one
        model.predict(X)
        model.train_on_batch(X, Y)
    x = X.copy()
    x[7, 2] = bad
    before = model.get_weights()
    expected = rf"x: expected integers from 0 to 4, which layer 'hot' takes; row 7 has {bad}"
    with pytest.raises(ValueError, match=expected):
        every_way(model, x)[way]()
    if way not in ("batches", "validation"):
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("way", every_way(None, None))
def test_floats_are_refused(way):
    model = network()
    with pytest.raises(TypeError, match=r"input layer 'x' takes integers, got float64; x.astype\(np.int64\)"):
        every_way(model, X.astype(float))[way]()


def test_large_integers_are_compared_as_they_are():
    model = network()
    for dtype, value in (("uint64", 2**64 - 1), ("uint64", 2**63), ("int64", -(2**63)), ("uint8", 255), ("int8", -128)):
        x = np.zeros((2, STEPS), dtype)
        x[1, 0] = value
        with pytest.raises(ValueError, match=rf"row 1 has {value}"):
            model.predict(x)


def test_small_calls_check_their_integers_every_time():
    model = network(optimizer="sgd")
    x = X[:2].copy()
    for _ in range(4):
        model.predict(x)
        model.train_on_batch(x, Y[:2])
    x[1, 1] = DEPTH
    for call in (lambda: model.predict(x), lambda: model.train_on_batch(x, Y[:2])):
        with pytest.raises(ValueError, match="row 1 has 5"):
            call()


def test_integers_pass_through_layers_that_move_values():
    x = fnn.Input((2, 3), dtype="int64", name="x")
    moved = fnn.Reshape((3, 2))(fnn.Flatten()(x))
    assert moved.kind == "int64" and "int64" in repr(moved)
    model = fnn.Model(x, fnn.Dense(1)(fnn.OneHot(4, name="four")(moved)), seed=0)
    alone = fnn.Input((3, 2, 4))
    other = fnn.Model(alone, fnn.Dense(1)(alone), seed=0)
    other.set_weights(model.get_weights())
    values = RNG.integers(0, 4, (5, 2, 3))
    np.testing.assert_array_equal(model.predict(values), other.predict(np.eye(4)[values.reshape(5, 3, 2)]))
    values[3, 1, 2] = 4
    with pytest.raises(ValueError, match="from 0 to 3, which layer 'four' takes; row 3 has 4"):
        model.predict(values)


def test_the_narrowest_of_several_layers_decides():
    x = fnn.Input(2, dtype="int64", name="x")
    both = fnn.Concatenate()([fnn.OneHot(6, name="six")(x), fnn.OneHot(3, name="three")(x)])
    model = fnn.Model(x, fnn.Dense(1)(both), seed=0)
    assert model.predict([[0, 2]]).shape == (1, 2, 1)
    with pytest.raises(ValueError, match="from 0 to 2, which layer 'three' takes; row 0 has 5"):
        model.predict([[0, 5]])


def test_numbers_and_integers_in_one_model():
    a, b = fnn.Input(3, name="a"), fnn.Input((), dtype="int64", name="b")
    model = fnn.Model([a, b], fnn.Dense(1)(fnn.Concatenate()([a, fnn.OneHot(4)(b)])), seed=0)
    model.compile("sgd", "mse")
    x, k = RNG.normal(size=(6, 3)).astype(np.float32), RNG.integers(0, 4, 6)
    kernel, bias = model.get_weights()
    expected = np.concatenate([x, np.eye(4)[k]], 1) @ kernel + bias
    for _ in range(3):
        np.testing.assert_allclose(model.predict([x, k]), expected, rtol=1e-5)
    np.testing.assert_allclose(model.predict({"a": x, "b": k}), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"x\['b'\]: expected integers from 0 to 3"):
        model.predict([x, k + 1 + 2])
    with pytest.raises(ValueError, match="the input 'b' holds integers, which have no gradient"):
        model.input_gradients([x, k], np.zeros((6, 1)))
    # integers are numbers, too: the model converts them where numbers are expected
    model.predict([np.ones((6, 3), int), k])


def test_sequential_infers_integers():
    for layers in ([fnn.OneHot(DEPTH)], [fnn.Input(STEPS, dtype="int64"), fnn.OneHot(DEPTH)]):
        model = fnn.Sequential([*layers, fnn.Flatten(), fnn.Dense(2)], seed=0)
        model.compile("sgd", "mse")
        model.fit(X, Y, epochs=1, verbose=0)
        assert model.layers[0].depth == DEPTH and model.count_params() == STEPS * DEPTH * 2 + 2
    single = fnn.Sequential([fnn.OneHot(DEPTH), fnn.Dense(1)], seed=0)
    single.compile("sgd", "mse")
    single.fit(X[:, 0], Y[:, 0], epochs=1, verbose=0)
    assert single.predict(X[:, 0]).shape == (N, 1)


def test_files_and_pickles_keep_the_dtype(tmp_path):
    model = network()
    model.fit(X, Y, epochs=1, verbose=0)
    model.save(tmp_path / "model.safetensors")
    for other in (fnn.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(X), model.predict(X))
        with pytest.raises(ValueError, match="which layer 'hot' takes"):
            other.predict(X + 1)
        with pytest.raises(TypeError, match="takes integers"):
            other.predict(X.astype(float))


def test_summary_and_program_show_integers(capsys):
    model = network()
    model.summary()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("x ")]
    assert "InputLayer (int64)" in line
    assert "gather_labels-int64-float32" in str(model.program) and "one_hot" in str(model.program)


def test_layers_of_numbers_refuse_integers():
    x = fnn.Input(3, dtype="int64", name="x")
    for layer in (fnn.Dense(2), fnn.Activation("relu"), fnn.Dropout(0.1), fnn.LayerNorm(), fnn.GaussianNoise(0.1)):
        with pytest.raises(
            ValueError, match=r"takes numbers \(such as OneHot makes of integers\), got integers from 'x'"
        ):
            layer(x)
    with pytest.raises(ValueError, match="takes numbers"):
        fnn.Concatenate()([fnn.Input(3), x])
    with pytest.raises(ValueError, match=r"takes integers: Input\(..., dtype='int64'\), got numbers from 'r'"):
        fnn.OneHot(3)(fnn.Input(3, name="r"))
    with pytest.raises(ValueError, match="outputs are numbers of its dtype, got integers"):
        fnn.Model(x, fnn.Flatten()(x))
    with pytest.raises(ValueError, match="takes numbers"):
        fnn.Sequential([fnn.Input(3, dtype="int64"), fnn.Dense(2)])


@pytest.mark.parametrize("value", ["float32", "int32", "real", int, np.int64, ""])
def test_other_dtypes_are_refused(value):
    with pytest.raises(ValueError, match="dtype: expected 'int64' for integers, or None"):
        fnn.Input(3, dtype=value)


@pytest.mark.parametrize("depth", [0, -1, 2.0, True, "3"])
def test_other_depths_are_refused(depth):
    with pytest.raises((TypeError, ValueError), match="depth: expected an integer"):
        fnn.OneHot(depth)


def test_compiled_code_does_not_take_integers_yet():
    model = network()
    for make in (model.freeze, model.learner):
        with pytest.raises(ValueError, match="expected inputs of numbers, the input 'x' holds integers"):
            make()


def test_threads_do_not_change_a_bit():
    found = []
    for threads in (1, 3):
        fnn.set_num_threads(threads)
        try:
            model = fnn.Sequential([fnn.OneHot(130), fnn.Dense(64), fnn.Dense(1)], seed=0)
            model.compile("adam", "mse")
            x = np.random.default_rng(3).integers(0, 130, (300, 4))
            model.fit(x, np.zeros((300, 4, 1)) + x[..., None] / 130, batch_size=150, epochs=2, verbose=0)
            found.append(model.get_weights())
        finally:
            fnn.set_num_threads(1)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
