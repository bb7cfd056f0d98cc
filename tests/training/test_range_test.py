"""The learning-rate range test: its numbers, and that the model stays what it is."""

import warnings

import numpy as np
import pytest

import fastnn as fnn


def problem(n=400):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 4))
    return x, x @ rng.normal(size=(4, 2))


def network(optimizer="sgd", dtype="float64", built=True):
    layers = [fnn.Dense(8, "tanh"), fnn.Dropout(0.1), fnn.BatchNorm(), fnn.Dense(2)]
    model = fnn.Sequential([fnn.Input(4), *layers] if built else layers, seed=3, dtype=dtype)
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


def test_rates_grow_by_a_factor_and_losses_are_those_of_steps():
    x, y = problem(64)
    found = fnn.lr_range_test(network(), x, y, low=1e-4, high=1e-2, steps=11, batch_size=64)
    np.testing.assert_allclose(found.rates, 10.0 ** np.linspace(-4, -2, 11))
    model, expected = network(), []
    # one batch holds all rows, so that their order matters for dropout alone
    order = np.random.default_rng(0)
    for rate in found.rates:
        model.optimizer.learning_rate = rate
        rows = order.permutation(64)
        expected.append(model.train_on_batch(x[rows], y[rows])["loss"])
    np.testing.assert_array_equal(found.losses, expected)
    assert not found.diverged and "did not diverge" in repr(found)


def test_losses_that_grow_end_it_and_the_suggestion_is_where_they_fall():
    x, y = problem()
    found = fnn.lr_range_test(network(), x, y, low=1e-5, high=1e4, steps=200)
    assert found.diverged and len(found.rates) < 200
    assert len(found.rates) == len(found.losses) == len(found.smoothed)
    assert 1e-3 < found.suggestion < found.rates[np.nanargmin(found.smoothed)]
    # it suits: the loss is far below what it was
    model = network()
    model.optimizer.learning_rate = found.suggestion
    history = model.fit(x, y, epochs=15, verbose=0).history["loss"]
    assert history[-1] < 0.2 * history[0]


def test_a_loss_that_is_infinite_ends_it_without_a_warning():
    x, y = problem()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fnn.lr_range_test(network(dtype="float32"), x, 1e15 * y, low=1.0, high=1e30, steps=50, divergence=1e300)
    assert found.diverged and not np.isfinite(found.losses[-1]) and np.isfinite(found.losses[0])


def test_rates_that_are_too_small_or_wrong_have_no_suggestion():
    x, y = problem()
    found = fnn.lr_range_test(network(), x, y, low=10.0, high=1e6, steps=20)
    assert found.suggestion is None and "none suggested" in repr(found)


@pytest.mark.parametrize("optimizer", ["adam", fnn.SGD(lambda step: 0.1 * 0.99**step, momentum=0.9)])
def test_the_model_stays_what_it_is_bit_for_bit(optimizer):
    x, y = problem()
    model, other = network(optimizer), network(optimizer)
    for one in (model, other):
        one.fit(x, y, epochs=2, verbose=0)
    weights, rate = model.get_weights(), model.optimizer.learning_rate
    fnn.lr_range_test(model, x, y, steps=20)
    for one, same in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)
    assert model.optimizer.learning_rate is rate and model.step == other.step
    # training goes on as if nothing had been, with the optimizer's state and the streams of dropout
    for one in (model, other):
        one.fit(x, y, epochs=1, verbose=0)
    for one, same in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)


def test_a_model_without_shapes_stays_so_and_threads_do_not_matter():
    x, y = problem()
    model = network(built=False)
    found = fnn.lr_range_test(model, x, y, steps=12)
    assert not model.built
    np.testing.assert_array_equal(found.losses, fnn.lr_range_test(network(), x, y, steps=12).losses)
    threads = fnn.get_num_threads()
    try:
        fnn.set_num_threads(1)
        np.testing.assert_array_equal(found.losses, fnn.lr_range_test(model, x, y, steps=12).losses)
    finally:
        fnn.set_num_threads(threads)


def test_several_inputs_weights_of_samples_and_data_frames():
    a, b = fnn.Input(2, name="a"), fnn.Input(2, name="b")
    model = fnn.Model([a, b], fnn.Dense(2)(fnn.Concatenate()([a, b])), seed=0)
    model.compile("sgd", "mse")
    x, y = problem()
    parts = {"a": x[:, :2], "b": x[:, 2:]}
    whole = fnn.lr_range_test(model, parts, y, steps=10, sample_weight=np.ones(400))
    np.testing.assert_array_equal(whole.losses, fnn.lr_range_test(model, [*parts.values()], y, steps=10).losses)
    halved = fnn.lr_range_test(model, parts, y, steps=10, sample_weight=np.full(400, 0.5))
    np.testing.assert_allclose(halved.losses[0], 0.5 * whole.losses[0])
    pandas = pytest.importorskip("pandas", reason="the test extra has pandas")
    table = pandas.DataFrame(x), pandas.DataFrame(y)
    one = fnn.lr_range_test(network(), *table, steps=10)
    np.testing.assert_array_equal(one.losses, fnn.lr_range_test(network(), x, y, steps=10).losses)


def test_models_of_models_and_losses_of_their_own():
    x, _ = problem()
    encoder = fnn.Sequential([fnn.Input(4), fnn.Dense(2, "tanh")], seed=0)
    decoder = fnn.Sequential([fnn.Input(2), fnn.Dense(4)], seed=1)
    symbol = fnn.Input(4)
    model = fnn.Model(symbol, decoder(encoder(symbol)))
    model.add_loss(fnn.ops.mean(fnn.ops.square(model.outputs[0] - symbol)))
    model.compile("sgd")
    before = [one.copy() for one in (*encoder.get_weights(), *decoder.get_weights())]
    found = fnn.lr_range_test(model, x, steps=20, low=1e-2, high=1.0)
    assert found.losses[-1] < found.losses[0]
    for one, other in zip(before, (*encoder.get_weights(), *decoder.get_weights()), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_picture():
    matplotlib = pytest.importorskip("matplotlib", reason="figures need matplotlib, the extra `plot`")
    matplotlib.use("agg")
    from matplotlib.figure import Figure

    x, y = problem()
    for options in ({"low": 1e-5, "high": 1e4, "steps": 100}, {"low": 10.0, "high": 1e6, "steps": 20}):
        found = fnn.lr_range_test(network(), x, y, **options)
        ax = Figure().subplots()
        assert found.plot(ax) is ax
        lines = {line.get_label(): line for line in ax.get_lines()}
        np.testing.assert_array_equal(lines["smoothed"].get_xdata(), found.rates)
        assert (found.suggestion is not None) == (f"steepest fall: {found.suggestion or 0.0:.2g}" in lines)
        assert ax.get_xscale() == "log" and ax.get_xlabel() == "learning rate" and ax.get_ylabel() == "loss"
        ax.figure.canvas.draw()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda m, x, y: fnn.lr_range_test(m, x), "y: expected targets, got None"),
        (lambda m, x, y: fnn.lr_range_test(m, x[:0], y[:0]), "at least one row"),
        (lambda m, x, y: fnn.lr_range_test(m, x, y[:3]), "y: expected 400 rows, as many as x has"),
        (lambda m, x, y: fnn.lr_range_test(m, x[:, :3], y), "expects shape"),
        (lambda m, x, y: fnn.lr_range_test(m, iter([(x, y)])), "x: expected arrays, got an iterable of batches"),
        (lambda m, x, y: fnn.lr_range_test(m, x, y, low=0.0), "low"),
        (lambda m, x, y: fnn.lr_range_test(m, x, y, low=1.0, high=0.5), "high"),
        (lambda m, x, y: fnn.lr_range_test(m, x, y, steps=3), "steps"),
        (lambda m, x, y: fnn.lr_range_test(m, x, y, divergence=1.0), "divergence"),
        (lambda m, x, y: fnn.lr_range_test(m, x, y, start_lr=1.0), "unexpected keyword argument 'start_lr'"),
        (lambda m, x, y: fnn.lr_range_test("m", x, y), "model: expected a model, got str"),
        (lambda m, x, y: fnn.lr_range_test(fnn.Sequential([fnn.Dense(2)]), x, y), "not compiled"),
    ],
)
def test_wrong_arguments(call, match):
    with pytest.raises((TypeError, ValueError, RuntimeError), match=match):
        call(network(), *problem())
