"""Embedding: rows of a table for integers, in every way of running, against one-hot rows times the same table."""

import pickle

import numpy as np
import pytest
from numba import njit

import fastnn as fnn
import fastnn.nopython as fnp

RNG = np.random.default_rng(0)
N, STEPS, ROWS, COLS = 20, 3, 7, 4
X = RNG.integers(0, ROWS, (N, STEPS))
Y = RNG.normal(size=(N, 2))
TABLE = RNG.normal(size=(ROWS, COLS))


def network(*, embeds=True, dtype="float32", shape=(STEPS,), **options):
    x = fnn.Input(shape, dtype="int64", name="x")
    rows = (
        fnn.Embedding(ROWS, COLS, name="table", **options)(x)
        if embeds
        else fnn.Dense(COLS, use_bias=False, name="table")(fnn.OneHot(ROWS)(x))
    )
    model = fnn.Model(x, fnn.Dense(2, name="out")(fnn.Flatten()(rows)), seed=1, dtype=dtype)
    model.set_weights([TABLE], "table")
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (STEPS,), (2, 5)])
def test_as_one_hot_rows_times_the_table(dtype, shape):
    x = RNG.integers(0, ROWS, (N, *shape))
    a, b = network(dtype=dtype, shape=shape), network(embeds=False, dtype=dtype, shape=shape)
    b.set_weights(a.get_weights())
    assert a.get_layer("table").output_shape(shape) == (*shape, COLS)
    tolerance = {"float32": 2e-6, "float64": 1e-14}[dtype]
    np.testing.assert_array_equal(a.predict(x), b.predict(x))
    for one, other in zip(a.gradients(x, Y), b.gradients(x, Y), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)
    for _ in range(3):
        assert a.train_on_batch(x, Y)["loss"] == pytest.approx(b.train_on_batch(x, Y)["loss"], rel=100 * tolerance)


def test_a_row_is_a_copy_of_the_tables_row():
    model = fnn.Sequential([fnn.Input((2, 3), dtype="int64"), fnn.Embedding(ROWS, COLS)], seed=0)
    (table,) = model.get_weights()
    assert table.shape == (ROWS, COLS) and np.abs(table).max() <= 0.05 and table.std() > 0.02  # Keras' "uniform"
    x = RNG.integers(0, ROWS, (5, 2, 3))
    np.testing.assert_array_equal(model.predict(x), table[x])
    assert [spec.name for spec in model.layers[0].parameters((2, 3))] == ["embeddings"]


def test_the_gradient_adds_up_rows_that_occur_several_times():
    model = network(dtype="float64")
    x = np.array([[2, 2, 2], [2, 0, 6]])
    (table, *_), dense = model.gradients(x, Y[:2]), model.get_weights("out")[0].reshape(STEPS, COLS, 2)
    slopes = 2.0 * (model.predict(x) - Y[:2]) / Y[:2].size
    expected = np.zeros((ROWS, COLS))
    for row in range(2):
        for step in range(STEPS):
            expected[x[row, step]] += dense[step] @ slopes[row]
    np.testing.assert_allclose(table, expected, rtol=1e-12, atol=1e-15)
    assert not table[[1, 3, 4, 5]].any()


def test_the_same_bits_on_any_number_of_threads_and_in_any_cut():
    found = []
    x, y = RNG.integers(0, 300, (64, 50)), RNG.normal(size=(64, 50, 40))
    try:
        for threads in (1, 2, 3, 5):
            fnn.set_num_threads(threads)
            model = fnn.Sequential([fnn.Input(50, dtype="int64"), fnn.Embedding(300, 40)], seed=3)
            model.compile("adam", "mse")
            model.fit(x, y, epochs=2, batch_size=32, verbose=0)
            found.append(model.get_weights()[0].tobytes())
            whole = model.predict(x)
            for row in range(9):
                np.testing.assert_array_equal(model.predict(x[row : row + 1])[0], whole[row])
    finally:
        fnn.set_num_threads(1)
    assert len(set(found)) == 1


def test_a_table_that_is_used_twice():
    a, b = fnn.Input((), dtype="int64", name="a"), fnn.Input(2, dtype="int64", name="b")
    table = fnn.Embedding(ROWS, COLS, name="table")
    joined = fnn.Concatenate()([table(a), fnn.Flatten()(table(b))])
    model = fnn.Model([a, b], fnn.Dense(1)(joined), seed=0, dtype="float64")
    model.compile("sgd", "mse")
    x = [RNG.integers(0, ROWS, 9), RNG.integers(0, ROWS, (9, 2))]
    y = RNG.normal(size=(9, 1))
    gradient = model.gradients(x, y)[0]
    weights = model.get_weights()
    for place in [(0, 0), (3, 2), (6, 3)]:
        losses = []
        for step in (1e-6, -1e-6):
            moved = [weight.copy() for weight in weights]
            moved[0][place] += step
            model.set_weights(moved)
            losses.append(model.evaluate(x, y)["loss"])
        assert gradient[place] == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=1e-7)


def test_regularizer_and_constraint():
    model = network(embeddings_regularizer=fnn.L2(0.1), embeddings_constraint=fnn.MaxNorm(1.0, 1))
    plain = network()
    penalty = 0.1 * (TABLE**2).sum()
    assert model.evaluate(X, Y)["loss"] == pytest.approx(plain.evaluate(X, Y)["loss"] + penalty, rel=1e-5)
    model.train_on_batch(X, Y)
    assert np.linalg.norm(model.get_weights("table")[0], axis=1).max() <= 1.0 + 1e-6


@pytest.mark.parametrize("wrong", [-1, ROWS, 2**40])
def test_integers_out_of_range(wrong):
    model = network()
    x = X.copy()
    x[4, 1] = wrong
    for run in (model.predict, lambda x: model.fit(x, Y, verbose=0), lambda x: model.train_on_batch(x, Y)):
        with pytest.raises(
            ValueError, match=f"0 to {ROWS - 1}, which layer 'table' takes; row 4 has {wrong} in column 1"
        ):
            run(x)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((0, 4), ValueError, "input_dim"),
        ((5, 0), ValueError, "output_dim"),
        ((2.5, 4), TypeError, "input_dim"),
        ((5, 4, "unifrom"), ValueError, "uniform"),
        ((5, 4, "uniform", "l3"), ValueError, "l"),
    ],
)
def test_wrong_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        fnn.Embedding(*arguments)


def test_arguments_of_other_libraries():
    with pytest.raises(TypeError, match="unexpected keyword argument 'padding_idx'"):
        fnn.Embedding(5, 4, padding_idx=0)
    with pytest.raises((TypeError, ValueError), match="integers"):
        fnn.Embedding(5, 4)(fnn.Input(3))


def test_files_copies_and_more_training(tmp_path):
    model = network()
    model.fit(X, Y, epochs=2, batch_size=8, verbose=0)
    model.save(tmp_path / "m.safetensors")
    for other in (fnn.load(tmp_path / "m.safetensors"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(X), model.predict(X))
        other.fit(X, Y, epochs=1, batch_size=8, verbose=0)
        again = pickle.loads(pickle.dumps(model))
        again.fit(X, Y, epochs=1, batch_size=8, verbose=0)
        assert other.get_weights()[0].tobytes() == again.get_weights()[0].tobytes()


def test_in_compiled_code():
    model = network()
    net, learner = model.freeze(), model.learner()
    out, work = np.empty((N, 2), np.float32), fnp.workspace(learner, N)

    @njit
    def predicted(net, x, out):
        fnp.predict(net, x, out)

    @njit
    def trained(learner, x, y, work):
        return fnp.train_step(learner, x, y, work)

    predicted(net, X, out)
    np.testing.assert_array_equal(out, model.predict(X))
    y = Y.astype(np.float32)
    for _ in range(3):
        loss = trained(learner, X, y, work)
        assert loss == pytest.approx(model.train_on_batch(X, y)["loss"], rel=1e-6)
