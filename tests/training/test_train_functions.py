"""Training functions (`fastnn.train_function`), against NumPy and against models."""

import copy
import gc
import os
import pickle
import threading
import warnings
import weakref

import numba
import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn import ops
from own_steps import Calling, T, X, differ, network, same

RNG = np.random.default_rng(1)


def regression(model, **more):
    """Return a step of the mean squared error."""
    x, t = fnn.Input(3, name="x"), fnn.Input(2, name="t")
    return fnn.train_function([x, t], ops.mean(ops.square(model(x) - t)), **{"seed": 5, **more})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_descent_in_numpy(dtype):
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(2)], seed=0, dtype=dtype)
    kernel, bias = (weight.astype(np.float64) for weight in model.get_weights())
    step = regression(model, optimizer=fnn.SGD(0.1), metrics=None)
    for number in range(1, 8):
        error = X @ kernel + bias - T
        loss = step(X, T)
        tolerance = 1e-5 if dtype == "float32" else 1e-6
        np.testing.assert_allclose(loss, (error**2).mean(), rtol=tolerance)
        kernel -= 0.1 * 2.0 * X.T @ error / error.size
        bias -= 0.1 * 2.0 * error.sum(0) / error.size
        for weight, expected in zip(model.get_weights(), (kernel, bias), strict=True):
            np.testing.assert_allclose(weight, expected, rtol=1e-5, atol=1e-6)
        assert step.step == number
        assert type(loss) is float


OPTIMIZERS = [
    lambda: fnn.Adam(0.01),
    lambda: fnn.SGD(0.1, momentum=0.9, clipvalue=0.01),
    lambda: fnn.AdamW(fnn.schedules.ExponentialDecay(0.1, 3, 0.5), global_clipnorm=0.5),
    lambda: fnn.RMSprop(0.01, gradient_accumulation_steps=3),
    lambda: fnn.Adam(0.01, use_ema=True, ema_momentum=0.8),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("n", [1, 24])
def test_steps_have_the_bits_of_a_model(make, n):
    """Of a model of the same layers, with the same loss, which its own `train_on_batch` trains."""
    whole = []
    for _ in range(2):
        model = network()
        x, t = fnn.Input(3, name="x"), fnn.Input(2, name="t")
        y = model(x)
        whole.append((model, [x, t], y, ops.mean(ops.square(y - t))))
    model, inputs, y, loss = whole[0]
    trained = fnn.Model(inputs, y, seed=5)
    trained.add_loss(loss)
    trained.compile(make())
    other, inputs, _, loss = whole[1]
    step = fnn.train_function(inputs, loss, optimizer=make(), seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the variance of one row
        for _ in range(6):
            assert step(X[:n], T[:n]) == trained.train_on_batch([X[:n], T[:n]], None)["loss"]
            same(model.get_weights(), other.get_weights())
    step.finalize_variable_values()
    trained.finalize_variable_values()
    same(model.get_weights(), other.get_weights())


def test_bits_do_not_depend_on_the_number_of_threads():
    rows, targets = (RNG.normal(size=(3000, size)).astype(np.float32) for size in (3, 2))
    found = []
    before = fnn.get_num_threads()
    try:
        for threads in (1, 2, 3):
            fnn.set_num_threads(threads)
            model = network()
            step = regression(model)
            found.append([*(step(rows, targets) for _ in range(4)), *model.get_weights()])
    finally:
        fnn.set_num_threads(before)
    same(found[0], found[1])
    same(found[0], found[2])


def test_only_what_is_updated_changes():
    generator, critic = network("generator", 0, 2, 2), network("critic", 1, 2, 1)
    z, real = fnn.Input(2, name="z"), fnn.Input(2, name="real")
    fake = generator(z)
    difference = ops.mean(critic(fake)) - ops.mean(critic(real))
    improve = fnn.train_function([z, real], difference + 0.1 * ops.mean(ops.square(critic(real))), update=critic)
    imitate = fnn.train_function(z, -ops.mean(critic(fake)), update=[generator], optimizer="sgd")
    for _ in range(5):
        before, other = critic.get_weights(), generator.get_weights()
        improve(RNG.normal(size=(16, 2)), RNG.normal(2.0, 1.0, (16, 2)))
        # all but none of its averages stays: batch normalisation learns in both of its calls
        assert all(differ(before, critic.get_weights()))
        same(other, generator.get_weights())
        before = critic.get_weights()
        imitate(RNG.normal(size=(16, 2)))
        same(before, critic.get_weights())
        assert all(differ(other, generator.get_weights()))
    assert (improve.step, imitate.step) == (5, 5)


def test_a_layer_is_trained_alone_and_frozen_layers_are_not():
    model = network()
    first = model.layers[0]
    step = regression(model, update=[first])
    before = model.get_weights()
    step(X, T)
    assert differ(before, model.get_weights()) == [True, True, *[False] * 6]
    first.trainable = False
    try:
        with pytest.raises(ValueError, match="nothing to train"):
            regression(model, update=first)
        step = regression(model, update=model)
        before = model.get_weights()
        step(X, T)
        assert differ(before, model.get_weights()) == [False, False, *[True] * 6]
    finally:
        first.trainable = True
    before = model.get_weights()
    for _ in range(3):
        step(X, T)
    assert all(differ(before, model.get_weights()))


def test_constants_use_their_averages():
    """Batch normalisation of what is not trained works as in prediction."""
    body = fnn.Sequential([fnn.Input(3), fnn.BatchNorm(momentum=0.5)], seed=0, name="body")
    body.compile("sgd", "mse")
    body.fit(X + 3.0, X, verbose=0)
    head = fnn.Sequential([fnn.Input(3), fnn.Dense(2)], seed=1, name="head")
    x, t = fnn.Input(3), fnn.Input(2)
    step = fnn.train_function([x, t], ops.mean(ops.square(head(body(x)) - t)), update=head)
    averages = body.get_weights()
    expected = ((head.predict(body.predict(X)) - T) ** 2).mean()
    np.testing.assert_allclose(step(X, T), expected, rtol=1e-5)
    same(averages, body.get_weights())


def test_metrics_and_losses_of_rows():
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(2)], seed=0)
    x, t = fnn.Input(3), fnn.Input(2)
    error = model(x) - t
    metrics = {"error": ops.absolute(error), "largest": ops.max(error)}
    step = fnn.train_function([x, t], ops.sum(ops.square(error), axis=-1), metrics=metrics)
    for _ in range(4):
        expected = model.predict(X) - T
        found = step(X, T)
        assert list(found) == ["loss", "error", "largest"]
        np.testing.assert_allclose(found["loss"], (expected**2).sum(-1).mean(), rtol=1e-5)
        np.testing.assert_allclose(found["error"], np.abs(expected).mean(), rtol=1e-5)
        np.testing.assert_allclose(found["largest"], expected.max(), rtol=1e-5)


def test_penalties_of_what_is_trained():
    layers = [fnn.Dense(2, kernel_regularizer=fnn.L2(0.1), name=name) for name in ("one", "two")]
    models = [fnn.Sequential([fnn.Input(size), layer], seed=0) for size, layer in zip((3, 2), layers, strict=True)]
    x = fnn.Input(3)
    loss = ops.mean(models[1](models[0](x)))
    step = fnn.train_function(x, loss, update=models[0])
    plain, kernel = models[1].predict(models[0].predict(X)).mean(), models[0].get_weights()[0]
    np.testing.assert_allclose(step(X), plain + 0.1 * (kernel**2).sum(), rtol=1e-4)


def test_weights_of_layers_that_no_model_has():
    x, t = fnn.Input(3), fnn.Input(2)
    hidden = fnn.Dense(4, "tanh")
    kernel = fnn.Dense(2)
    y = kernel(hidden(x))
    step = fnn.train_function([x, t], ops.mean(ops.square(y - t)), update=[hidden], seed=0)
    before = step.get_weights()
    losses = [step(X, T) for _ in range(30)]
    assert losses[-1] < losses[0]
    assert differ(before, step.get_weights()) == [True, True, False, False]


def test_alternating_losses_of_one_model():
    """Each has an optimizer's state of its own, also where several functions train the same weights."""
    model, x, t = network(), fnn.Input(3), fnn.Input(2)
    fit = fnn.train_function([x, t], ops.mean(ops.square(model(x) - t)), optimizer=fnn.SGD(0.05))
    shrink = fnn.train_function(x, ops.mean(ops.square(model(x))), optimizer=fnn.Adam(0.001))
    model.compile(fnn.SGD(0.01), "mse")
    for _ in range(4):
        fit(X, T)
        shrink(X)
        model.train_on_batch(X, T)
    assert (fit.step, shrink.step, model.step) == (4, 4, 4)


def test_step_in_compiled_code():
    found = []
    for compiled in (False, True):
        model = network()
        step = regression(model, optimizer=fnn.Adam(0.01))
        if compiled:

            @numba.njit
            def train(learner, x, t, steps):
                loss = 0.0
                for _ in range(steps):
                    loss = fnp.train_step(learner, (x, t))
                return loss

            learner = step.learner()
            loss = train(learner, X, T, 5)
            step.update_from(learner)
        else:
            loss = [step(X, T) for _ in range(5)][-1]
        found.append([loss, *model.get_weights(), step.step, step(X, T)])
    same(*found)
    learner = step.learner(metrics=True)
    assert fnp.train_step(learner, (X, T)) == step.learner_logs(learner)["loss"]
    with pytest.raises(ValueError, match="one array for each input"):
        fnp.train_step(learner, X)
    with pytest.raises(ValueError, match="one array for each input"):
        fnp.train_step(learner, (X, T), T)
    with pytest.raises(TypeError, match=r"step\.learner\(\)"):
        step.freeze()


def test_learner_of_one_array():
    x = fnn.Input(3)
    model = network()
    step = fnn.train_function(x, ops.mean(ops.square(model(x))), seed=1, optimizer=fnn.SGD(0.1))
    learner = step.learner()
    losses = [fnp.train_step(learner, X) for _ in range(3)]
    assert losses == [step(X) for _ in range(3)]
    step.update_from(learner)
    assert step.step == 3


@pytest.mark.parametrize("way", ["file", "pickle", "copy"])
@pytest.mark.parametrize("update", [True, False])
def test_saved_and_loaded(tmp_path, way, update):
    model, head = network(), fnn.Sequential([fnn.Input(2), fnn.Dense(2)], seed=4, name="head")
    x, t = fnn.Input(3, name="x"), fnn.Input(2, name="t")
    error = ops.square(head(model(x)) - t)
    step = fnn.train_function(
        [x, t], ops.mean(error), update=head if update else None, metrics={"worst": ops.max(error)}, seed=1
    )
    for _ in range(3):
        step(X, T)
    if way == "file":
        step.save(tmp_path / "step.safetensors")
        other = fnn.load(tmp_path / "step.safetensors")
    else:
        other = pickle.loads(pickle.dumps(step)) if way == "pickle" else copy.deepcopy(step)
    assert type(other) is type(step)
    assert other.step == 3
    for _ in range(4):
        assert step(X, T) == other(X, T)
    same(head.get_weights(), other.get_layer("head").get_weights())
    same(model.get_weights(), other.get_layer("net").get_weights())
    assert other.get_layer("head") is not head


def test_threads_train_several_functions_of_the_same_models():
    a, b = network("a", 0, 3, 3), network("b", 1, 3, 2)
    x, t = fnn.Input(3), fnn.Input(2)
    y = b(a(x))
    steps = [
        fnn.train_function([x, t], ops.mean(ops.square(y - t)), update=one, optimizer=fnn.SGD(1e-3)) for one in (a, b)
    ]
    f = fnn.function([x, t], ops.mean(ops.square(y - t)))
    errors = []

    def run(call):
        try:
            for _ in range(200):
                assert np.isfinite(call(X, T))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in (*steps, f, steps[0])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert [step.step for step in steps] == [400, 200]


def test_memory_is_freed():
    model = network()
    step = regression(model)
    for _ in range(4):
        step(X, T)
    gone = weakref.ref(step._runtime)
    del step
    gc.collect()
    assert gone() is None
    model.predict(X)


def test_rows_that_are_not_finite_stop_before_the_step():
    model = network()
    step = regression(model)
    bad = X.copy()
    bad[3, 1] = np.nan
    for _ in range(4):
        before = model.get_weights()
        with pytest.raises(ValueError, match=r"row 3 of the data holds NaN.*column 1 of input 'x'"):
            step(bad, T)
        same(before, model.get_weights())
        step(X, T)
    large = fnn.train_function(x := fnn.Input(3), ops.mean(ops.exp(100.0 * ops.square(model(x)))), update=model)
    with pytest.warns(RuntimeWarning, match="the loss became NaN or infinite at training step"):
        for _ in range(40):
            large(100.0 * X)


def test_misuse():
    x, t = fnn.Input(3, name="x"), fnn.Input(2, name="t")
    model, other = network(), network("other", 1)
    loss = ops.mean(ops.square(model(x) - t))
    step = fnn.train_function([x, t], loss)
    for call, error, match in [
        (lambda: step(X), TypeError, r"train_function\(\) takes 2 array\(s\) \(x, t\), got 1"),
        (lambda: step(X, T[:3]), ValueError, "numbers of rows differ"),
        (lambda: step(X, X), ValueError, r"expects shape \(n, 2\)"),
        (lambda: fnn.train_function(x, loss), ValueError, "depend on the input 't'"),
        (lambda: fnn.train_function([x, t], 1.0), TypeError, "loss: expected a symbol, got float"),
        (lambda: fnn.train_function([x, t], loss, update=other), ValueError, "no call of the model 'other'"),
        (lambda: fnn.train_function([x, t], loss, update=fnn.Dense(2)), ValueError, "no call of the layer 'Dense'"),
        (lambda: fnn.train_function([x, t], loss, update="net"), TypeError, "expected models and layers, got str"),
        (lambda: fnn.train_function([x, t], ops.mean(x)), ValueError, "nothing to train"),
        (lambda: fnn.train_function(x, ops.stop_gradient(model(x))), ValueError, "does not depend on any weight"),
        (lambda: fnn.train_function([x, t], loss, metrics=[loss]), TypeError, "expected a dict"),
        (lambda: fnn.train_function([x, t], loss, metrics={"loss": loss}), ValueError, "'loss' is the name"),
        (lambda: fnn.train_function([x, t], loss, metrics={"a": 1}), TypeError, "symbols by name"),
        (lambda: fnn.train_function([x, t], loss, optimizer="adan"), ValueError, "adan"),
        (
            lambda: fnn.train_function(model.inputs, ops.mean(model.outputs[0]), update=model), ValueError,
            "layers of the model 'net', not of its call",
        ),
    ]:  # fmt: skip
        with pytest.raises(error, match=match):
            call()


def test_calls_in_the_middle_of_a_step():
    model = network()
    step, x = regression(model), fnn.Input(3)
    f, mixed = fnn.function(x, model(x)), fnn.function(x, ops.mean(model(x)))
    other = fnn.train_function(x, ops.mean(ops.square(model(x))), update=model)
    target = network("target", 1)

    def act():
        found.append([f(X), mixed(X)])
        for change in (lambda: other(X), lambda: step(X, T), lambda: model.update_average(target, 0.5)):
            with pytest.raises(RuntimeError, match="is in use by a call of this thread"):
                change()

    for _ in range(4):
        found, before = [], [f(X), mixed(X)]
        step(Calling(act, X), T)
        same(found[0], before)
        other(X)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_of_a_fork_goes_on():
    model, target = network(), network("target", 1)
    step, x = regression(model), fnn.Input(3)
    f = fnn.function(x, [ops.mean(model(x)), model(x)])
    for _ in range(4):
        step(X, T)
        f(X)
        target.update_average(model, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            losses = [step(X, T) for _ in range(3)]
            target.update_average(model, 1.0)
            fine = losses[2] < losses[0] and (f(X)[1] == target.predict(X)).all()
            os._exit(0 if fine else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    step(X, T)


def test_sizes_that_are_not_linear_in_the_rows():
    """Steps whose values are tables of all pairs of rows have learners for exactly n rows alone, and are no code."""
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(2)], seed=0)
    x = fnn.Input(3)
    y = model(x)
    products = y @ ops.transpose(y)
    step = fnn.train_function(x, ops.mean(ops.square(products)), optimizer=fnn.SGD(0.01))
    for n in (24, 24, 24, 5, 24):
        expected = model.predict(X[:n]) @ model.predict(X[:n]).T
        np.testing.assert_allclose(step(X[:n]), (expected**2).mean(), rtol=1e-5)
    assert step._runtime.quick_step is None
    with pytest.raises(NotImplementedError, match=r"in proportion to the rows.*\(rows=\.\.\.\)"):
        step.learner()
    learner = step.learner(rows=24)
    assert fnp.train_step(learner, X[:24]) == step(X[:24])
    with pytest.raises(ValueError, match="of outputs, which a training function has none of"):
        step.learner(gradients=True)
