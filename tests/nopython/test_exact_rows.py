"""Networks and learners for exactly n rows, whose rows may depend on each other."""

import pickle

import numpy as np
import pytest
from numba import njit, prange

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn import ops
from fastnn.backend.cpu.layouts.code import CodeWord

RNG = np.random.default_rng(0)
N = 24
LABELS = RNG.integers(0, 4, N)


def contrastive(y_true, y_pred):
    """The mean over all pairs: near each other with equal labels, at least 1 apart with others."""
    squares = ops.sum(ops.square(y_pred[:, None] - y_pred), axis=-1)
    equal = ops.equal(y_true[:, None], y_true)
    return ops.mean(ops.where(equal, squares, ops.square(ops.maximum(1.0 - ops.sqrt(squares + 1e-4), 0.0))))


def embedding(dtype="float32"):
    model = fnn.Sequential(
        [fnn.Input(5), fnn.Dense(16, activation="tanh", kernel_regularizer=fnn.L2(1e-3)), fnn.Dense(3)],
        seed=0,
        dtype=dtype,
    )
    model.compile(fnn.Adam(0.01), contrastive)
    return model


def batches(dtype="float32", rows=N, count=8):
    return np.random.default_rng(1).normal(size=(count, rows, 5)).astype(dtype)


@njit
def train(learner, xs, y, work):
    losses = np.empty(len(xs))
    for index in range(len(xs)):
        losses[index] = fnp.train_step(learner, xs[index], y, work)
    return losses


@njit
def predict(net, x, out, work):
    fnp.predict(net, x, out, work)


@njit(parallel=True)
def train_each(learners, xs, y, losses):
    for index in prange(fnp.count(learners)):
        learner = fnp.member(learners, index)
        for step in range(len(xs)):
            losses[index, step] = fnp.train_step(learner, xs[step], y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_of_a_contrastive_loss_have_the_bits_of_train_on_batch(dtype):
    xs, model, other = batches(dtype), embedding(dtype), embedding(dtype)
    wanted = [model.train_on_batch(x, LABELS)["loss"] for x in xs]
    for work in (True, False):
        learner = other.learner(rows=N, targets="labels")
        losses = train(learner, xs, LABELS, fnp.workspace(learner, N) if work else None)
        assert losses.tolist() == wanted
    assert wanted[-1] < wanted[0]
    other.update_from(pickle.loads(pickle.dumps(learner)))
    for mine, its in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)
    assert other.train_on_batch(xs[0], LABELS) == model.train_on_batch(xs[0], LABELS)


def test_a_learner_predicts_any_number_of_rows():
    model = embedding()
    learner = model.learner(rows=N, targets="labels")
    x, out = batches(rows=40)[0], np.empty((40, 3), np.float32)
    predict(learner, x, out, fnp.workspace(learner, 40))
    np.testing.assert_array_equal(out, model.predict(x))


def test_losses_of_all_pairs_need_the_number_of_rows():
    with pytest.raises(NotImplementedError, match=r"all pairs of a batch's rows.*B².*give the number of rows.*rows="):
        embedding().learner(targets="labels")
    for rows, error in ((0, ValueError), (-3, ValueError), (2.0, TypeError), (True, TypeError), (1 << 22, ValueError)):
        with pytest.raises(error, match="rows"):
            embedding().learner(rows=rows, targets="labels")


@pytest.mark.parametrize("rows", [N - 1, N + 1, 1, 0, 2 * N])
def test_another_number_of_rows_changes_nothing(rows):
    learner = embedding().learner(rows=N, targets="labels", metrics=True)
    before = [np.array(one) for one in learner]
    x, y = batches(rows=rows), RNG.integers(0, 4, rows)
    for call in (train, train.py_func):
        with pytest.raises(ValueError, match=rf"x: expected shape \({N}, 5\), .*exactly {N} rows.*got \({rows}, 5\)"):
            call(learner, x, y, None)
        with pytest.raises(ValueError, match=rf"y: expected shape \({N},\).*exactly {N} rows"):
            call(learner, batches(), np.zeros(N + 3, np.int64), None)
        with pytest.raises(ValueError, match=r"x: expected shape .*got \(5,\)"):
            call(learner, batches()[0], LABELS, None)
        with pytest.raises(ValueError, match=rf"x: expected shape .*got \(1, {N}, 5\)"):
            call(learner, batches()[None, :1], LABELS, None)
    with pytest.raises(ValueError, match=f"workspace of at least .* bytes for {N} rows"):
        train(learner, batches(), LABELS, np.empty(10, np.int64))
    for mine, its in zip(learner, before, strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("weights", [(N + 1,), ()])
def test_other_weights_are_refused(weights):
    learner = embedding().learner(rows=N, targets="labels")
    with pytest.raises(ValueError, match=rf"sample_weight: expected shape \({N},\), one number for each row of x, got"):
        fnp.train_step(learner, batches()[0], LABELS, None, np.ones(weights, np.float32))


def test_training_functions():
    x, t = fnn.Input(5), fnn.Input(5)
    encoder = fnn.Sequential([fnn.Input(5), fnn.Dense(8, activation="relu"), fnn.Dropout(0.2), fnn.Dense(4)], seed=0)
    a, b = encoder(x), encoder(t)
    scores = ops.log_softmax(a @ b.T, axis=1)
    rows = ops.sum(scores * scores, axis=1)
    step = fnn.train_function(
        [x, t], ops.mean(rows), update=encoder, optimizer="adam", metrics={"most": ops.max(rows)}, seed=3
    )
    xs, ts = batches(), batches()[::-1]
    learner = step.learner(rows=N, metrics=True)
    wanted = [step(one, two) for one, two in zip(xs, ts, strict=True)]

    @njit
    def learn(learner, xs, ts):
        losses = np.empty(len(xs))
        for index in range(len(xs)):
            losses[index] = fnp.train_step(learner, (xs[index], ts[index]))
        return losses

    assert learn(learner, xs, ts).tolist() == [one["loss"] for one in wanted]
    logs = step.learner_logs(learner)
    assert logs["most"] == pytest.approx(np.mean([one["most"] for one in wanted]))
    weights = encoder.get_weights()
    step.update_from(learner)
    for mine, its in zip(encoder.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 2, 7, 16, 32, 300])
def test_outputs_that_mix_rows(rows, dtype):
    x = fnn.Input(6)
    outputs = [x @ x.T, ops.mean(x, 0), ops.sum(x), x[:, None] - x, x.T, ops.concatenate([x, x[::-1]], 0)]
    f = fnn.function(x, outputs, dtype=dtype)
    net = f.freeze(rows=rows)
    given = np.random.default_rng(2).normal(size=(rows, 6)).astype(dtype)
    wanted = [
        given @ given.T, given.mean(0), given.sum(), given[:, None] - given, given.T,
        np.concatenate([given, given[::-1]]),
    ]  # fmt: skip
    found = tuple(np.full(np.shape(one), np.nan, dtype) for one in wanted)
    for work in (fnp.workspace(net, rows), None):
        for array in found:
            array[...] = np.nan
        predict(net, given, found, work)
        for mine, numpys, functions in zip(found, wanted, f(given), strict=True):
            np.testing.assert_allclose(mine, numpys, rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(mine, functions)
    # of another dtype and with strides, it is converted
    wide = np.asfortranarray(given.astype("float64"))
    predict(net, wide, found, fnp.workspace(net, rows))
    for mine, functions in zip(found, f(given), strict=True):
        np.testing.assert_array_equal(mine, functions)
    kept = [array.copy() for array in found]
    for other in (given[:-1], np.concatenate([given, given]), given[None], given[0]):
        with pytest.raises(ValueError, match=rf"x: expected shape \({rows}, 6\), .*exactly {rows} rows"):
            predict(net, np.ascontiguousarray(other), found, None)
    with pytest.raises(ValueError, match=r"out\[1\]: expected shape \(6,\)"):
        predict(net, given, (found[0], np.empty(7, dtype), *found[2:]), None)
    for array, before in zip(found, kept, strict=True):
        np.testing.assert_array_equal(array, before)


def test_nothing_outside_of_the_memory_is_written():
    """The workspace is as large as it has to be, and what surrounds it and the results stays."""
    x = fnn.Input(64)
    net = fnn.function(x, ops.tanh(x @ x.T) @ x).freeze(rows=200)
    given = np.random.default_rng(2).normal(size=(200, 64)).astype("float32")
    size = len(fnp.workspace(net, 1))
    assert size == len(fnp.workspace(net, 4096)) < 2 * 200 * 200
    room, results = np.full(size + 512, 77, np.int64), np.full((206, 64), 5.0, np.float32)
    predict(net, given, results[3:203], room[256 : 256 + size])
    assert (room[:256] == 77).all() and (room[256 + size :] == 77).all()
    assert (results[:3] == 5.0).all() and (results[203:] == 5.0).all()
    np.testing.assert_allclose(results[3:203], np.tanh(given @ given.T) @ given, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rows", [160, 512])
def test_large_products_with_and_without_room_for_packed_blocks(rows):
    x = fnn.Input(192)
    f = fnn.function(x, (x @ x.T) @ x)
    net, out = f.freeze(rows=rows), np.empty((rows, 192), np.float32)
    given = np.random.default_rng(2).normal(size=(rows, 192)).astype("float32")
    wanted = f(given)
    assert net.code[CodeWord.BLOCKS_FROM] == 1 or rows == 160
    full = fnp.workspace(net, rows)
    for words in (len(full), 9000 + rows * rows // 2, None):
        work = None if words is None else full[:words]
        out[...] = np.nan
        predict(net, given, out, work)
        np.testing.assert_array_equal(out, wanted)


def test_gradients_against_differences():
    x = fnn.Input(3)
    f = fnn.function(x, [ops.tanh(x @ x.T), ops.mean(ops.exp(x))], dtype="float64")
    net = f.freeze(rows=5, gradients=True)
    given = RNG.normal(size=(5, 3))
    seeds = RNG.normal(size=(5, 5)), np.array(RNG.normal())
    dx = np.empty((5, 3))
    fnp.input_gradient(net, given, seeds, dx)

    def value(x):
        return np.sum(np.tanh(x @ x.T) * seeds[0]) + seeds[1] * np.exp(x).mean()

    wanted = np.empty((5, 3))
    for index in np.ndindex(5, 3):
        step = np.zeros((5, 3))
        step[index] = 1e-6
        wanted[index] = (value(given + step) - value(given - step)) / 2e-6
    np.testing.assert_allclose(dx, wanted, rtol=1e-6, atol=1e-8)


def test_jacobians_are_of_whole_batches():
    x = fnn.Input(2)
    net = fnn.function(x, x @ x.T, dtype="float64").freeze(rows=3, gradients=True)
    given, matrix = RNG.normal(size=(3, 2)), np.empty((3, 3, 3, 2))

    @njit
    def differentiate(net, x, matrix, work):
        fnp.jacobian(net, x, matrix, work)

    wanted = np.einsum("ik,jl->ijkl", np.eye(3), given) + np.einsum("jk,il->ijkl", np.eye(3), given)
    for call in (differentiate, fnp.jacobian):
        for work in (None, fnp.workspace(net, 3)):
            matrix[...] = np.nan
            call(net, given, matrix, work)
            np.testing.assert_allclose(matrix, wanted, rtol=1e-12)


def test_networks_and_learners_in_prange():
    xs = batches()
    learners = fnp.stack([embedding().learner(rows=N, targets="labels") for _ in range(5)])
    losses = np.zeros((5, len(xs)))
    train_each(learners, xs, LABELS, losses)
    model = embedding()
    assert losses.tolist() == [[model.train_on_batch(x, LABELS)["loss"] for x in xs]] * 5
    x = fnn.Input(5)
    f = fnn.function(x, x @ x.T)
    nets, outs = fnp.stack([f.freeze(rows=N)] * 8), np.empty((8, N, N), np.float32)
    predict(nets, xs, outs, None)
    for one, out in zip(xs, outs, strict=True):
        np.testing.assert_array_equal(out, f(one))
    with pytest.raises(ValueError, match="architecture"):
        fnp.stack([f.freeze(rows=N), f.freeze(rows=N + 1)])


def test_models_and_what_stays_refused():
    x = fnn.Input(4)
    model = fnn.Model(x, ops.softmax(x @ x.T) @ x)
    given, out = RNG.normal(size=(9, 4)).astype("float32"), np.empty((9, 4), np.float32)
    net = model.freeze(rows=9)
    predict(pickle.loads(pickle.dumps(net)), given, out, None)
    np.testing.assert_array_equal(out, model.predict(given))
    fnp.check(net, given, out)
    with pytest.raises(ValueError, match="exactly 9 rows"):
        fnp.check(net, given[:8], out)
    with pytest.raises(ValueError, match=r"give the number of rows.*rows="):
        model.freeze()
    with pytest.raises(ValueError, match="random"):
        fnn.Model(x, x * ops.random_bernoulli(x)).freeze(rows=3)
    with pytest.raises(ValueError, match=r"rows: .*GPU"):
        model.freeze(rows=3, device="cuda")


def test_learners_of_models_whose_outputs_mix_rows():
    def made():
        x = fnn.Input(4)
        model = fnn.Model(x, fnn.Dense(2)(ops.softmax(x @ x.T) @ x), seed=0)
        model.compile(fnn.SGD(0.1), "mse", metrics=["mae"])
        return model

    model, other, y = made(), made(), RNG.normal(size=(N, 2)).astype("float32")
    learner = other.learner(rows=N, gradients=True, metrics=True)
    xs = batches()[:, :, :4].copy()
    assert train(learner, xs, y, None).tolist() == [model.train_on_batch(x, y)["loss"] for x in xs]
    out, work = np.empty((N, 2), np.float32), fnp.workspace(learner, N)
    predict(learner, xs[0], out, work)
    np.testing.assert_array_equal(out, model.predict(xs[0]))
    with pytest.raises(ValueError, match=f"exactly {N} rows"):
        predict(learner, xs[0, :5].copy(), out[:5], work)
    # the seeded gradient is that of the loss, without penalties
    gradients, seeded = np.empty((2, fnp.parameter_count(learner)), np.float32)
    fnp.loss_and_gradients(learner, xs[0], y, gradients)
    fnp.parameter_gradient(learner, xs[0], (out - y) / out.size * 2, seeded, work)
    np.testing.assert_allclose(seeded, gradients, rtol=1e-4, atol=1e-6)
    fnp.apply_gradients(learner, gradients)
    other.update_from(learner)
    model.train_on_batch(xs[0], y)
    for mine, its in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)
    assert set(other.learner_logs(learner)) == {"loss", "mae"}


def test_c_functions():
    import ctypes

    x = fnn.Input(3)
    f = fnn.function(x, x @ x.T, dtype="float64")
    call, given, out = fnp.c_function(f.freeze(rows=4)), RNG.normal(size=(4, 3)), np.empty((4, 4))
    pointer = ctypes.POINTER(ctypes.c_double)
    assert call.ctypes(given.ctypes.data_as(pointer), out.ctypes.data_as(pointer)) == 0
    np.testing.assert_array_equal(out, f(given))


def test_results_may_be_inputs_and_overwrite_them():
    x = fnn.Input(4)
    given = RNG.normal(size=(20, 4)).astype("float32")
    f = fnn.function(x, ops.tanh(x @ x.T) @ x)
    wanted, out = f(given), given.copy()
    net = f.freeze(rows=20)
    predict(net, out, out, fnp.workspace(net, 20))
    np.testing.assert_array_equal(out, wanted)
    total = ops.sum(x)
    nets = fnn.function(x, [x, x.T, total, total, total * x]).freeze(rows=20)
    found = (np.empty_like(given), np.empty((4, 20), np.float32), np.empty(()), np.empty(()), np.empty_like(given))
    found = tuple(one.astype("float32") for one in found)
    predict(nets, given, found, None)
    np.testing.assert_array_equal(found[0], given)
    np.testing.assert_array_equal(found[1], given.T)
    assert found[2] == found[3] == pytest.approx(given.sum(), rel=1e-5)
    np.testing.assert_array_equal(found[4], found[2] * given)


@pytest.mark.parametrize("dtype", ["int64", "int16", "uint8"])
def test_integers_are_checked_in_all_rows(dtype):
    x = fnn.Input(3, dtype="int64")
    code = ops.reshape(fnn.layers.OneHot(7)(x), (-1, 21))
    f = fnn.function(x, code @ code.T)
    net, given, out = f.freeze(rows=300), RNG.integers(0, 7, (300, 3)).astype(dtype), np.empty((300, 300), np.float32)
    predict(net, given, out, None)
    np.testing.assert_array_equal(out, (given[:, None] == given).sum(-1))
    given[299, 2] = 7
    with pytest.raises(ValueError, match=r"x: expected integers from 0 to 6, got 7 at \(299, 2\)"):
        predict(net, given, out, None)


@pytest.mark.parametrize(
    "optimizer",
    [fnn.SGD(0.1, gradient_accumulation_steps=3), fnn.Adam(0.1, use_ema=True, clipnorm=0.1), fnn.AdamW(0.05)],
)
def test_optimizers_and_weights(optimizer):
    def loss(y_true, y_pred):
        return ops.mean(ops.square(ops.softmax(y_pred @ y_pred.T) @ y_true - y_pred), axis=1)

    models = [
        fnn.Sequential([fnn.Input(5), fnn.Dense(8), fnn.BatchNormalization(), fnn.Dense(3)], seed=0) for _ in "ab"
    ]
    for model in models:
        model.compile(optimizer, loss)
    learner = models[0].learner(rows=N)
    y = RNG.normal(size=(N, 3)).astype("float32")
    w = RNG.uniform(size=N).astype("float32")
    for x in batches():
        wanted = models[1].train_on_batch(x, y, sample_weight=w)["loss"]
        assert fnp.train_step(learner, x, y, None, w) == wanted
    models[0].update_from(learner)
    for mine, its in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)
    with pytest.raises(ValueError, match="NaN"):
        fnp.train_step(learner, np.where(np.arange(5) == 3, np.nan, batches()[0]), y)
