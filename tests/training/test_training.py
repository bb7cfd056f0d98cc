"""Training as a whole: reproducibility, data in all forms, and effects on the weights."""

import warnings

import numpy as np
import pytest

import fastnn as fnn
from fastnn.program.layout import Counter
from fastnn.training.shuffle import Shuffler
from trained import RNG, TARGET, X, Y, assert_same_weights, classifier, regressor

# --- the same answer every time -----------------------------------------------------------------------------------


def test_a_seed_decides_everything():
    models = [classifier(seed=seed) for seed in (1, 1, 2)]
    histories = [model.fit(X, Y, batch_size=8, epochs=3, verbose=0).history for model in models]
    assert_same_weights(*models[:2])
    assert histories[0] == histories[1] != histories[2]


def test_the_number_of_parts_does_not_change_a_bit():
    x = RNG.normal(size=(300, 30)).astype(np.float32)
    y = RNG.integers(0, 7, 300)

    def train(parts):
        fnn.set_num_threads(parts)
        try:
            layers = [fnn.Dense(130, "gelu"), fnn.LayerNorm(), fnn.GaussianNoise(0.1), fnn.BatchNorm(),
                      fnn.Dropout(0.2), fnn.Dense(7, "softmax")]  # fmt: skip
            model = fnn.Sequential(layers, seed=3)
            model.compile(fnn.AdamW(0.01, global_clipnorm=1.0), "cross_entropy", metrics=["accuracy"])
            history = model.fit(x, y, batch_size=130, epochs=3, validation_split=0.2, verbose=0)
            return model, history.history, model.predict(x)
        finally:
            fnn.set_num_threads(1)

    expected, curve, outputs = train(1)
    for parts in (2, 3, 5):
        model, again, predictions = train(parts)
        assert_same_weights(model, expected)
        assert again == curve
        np.testing.assert_array_equal(predictions, outputs)


def test_float32_follows_float64():
    curves = [classifier(dtype).fit(X, Y, batch_size=10, epochs=5, verbose=0).history["loss"] for dtype in
              ("float32", "float64")]  # fmt: skip
    np.testing.assert_allclose(*curves, rtol=1e-4)


# --- which rows, in which order -----------------------------------------------------------------------------------


def test_without_shuffling_an_epoch_is_its_batches_one_after_the_other():
    fitted, stepped = classifier(), classifier()
    history = fitted.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    for _ in range(2):
        losses = []
        for start in range(0, 50, 16):
            part = slice(start, start + 16)
            losses.append(stepped.train_on_batch(X[part], Y[part])["loss"])
        mean = np.average(losses, weights=[16, 16, 16, 2])
    assert_same_weights(fitted, stepped)
    assert history.history["loss"][1] == pytest.approx(mean, rel=1e-12)
    assert fitted.step == 8


def test_shuffling_takes_every_row_once_in_an_order_that_depends_on_seed_and_epoch():
    fitted, stepped = classifier(), classifier()
    orders = []
    for _ in range(2):
        rows = Shuffler(50, True).next(stepped._runtime)
        np.testing.assert_array_equal(np.sort(rows), np.arange(50))
        orders.append(rows.tolist())
        for start in range(0, 50, 16):
            part = rows[start : start + 16]
            stepped.train_on_batch(X[part], Y[part])
        stepped._runtime.training[Counter.EPOCH] += 1
    assert orders[0] != orders[1] != Shuffler(50, True).next(classifier(seed=2)._runtime).tolist()
    fitted.fit(X, Y, batch_size=16, epochs=2, verbose=0)
    assert_same_weights(fitted, stepped)


def test_a_validation_split_is_the_last_rows():
    weight = RNG.uniform(0.5, 2.0, 50)
    split, given = classifier(), classifier()
    found = split.fit(X, Y, epochs=2, validation_split=0.2, sample_weight=weight, verbose=0)
    expected = given.fit(X[:40], Y[:40], epochs=2, validation_data=(X[40:], Y[40:], weight[40:]),
                         sample_weight=weight[:40], verbose=0)  # fmt: skip
    assert_same_weights(split, given)
    assert found.history == expected.history
    results = split.evaluate(X[40:], Y[40:], sample_weight=weight[40:])
    assert found.history["val_loss"][-1] == pytest.approx(results["loss"], rel=1e-6)


def test_class_weights_are_for_training_alone():
    weighted, plain = classifier(), classifier()
    factors = {0: 0.5, 2: 3.0}
    found = weighted.fit(X, Y, epochs=2, class_weight=factors, validation_split=0.2, verbose=0)
    weight = np.array([factors.get(label, 1.0) for label in Y[:40]])
    expected = plain.fit(X[:40], Y[:40], epochs=2, sample_weight=weight, validation_data=(X[40:], Y[40:]), verbose=0)
    assert_same_weights(weighted, plain)
    assert found.history == expected.history


def test_a_weight_of_two_is_a_row_given_twice():
    counts = RNG.integers(0, 4, 50)
    model = regressor(fnn.Dense(3, "tanh"), fnn.Dense(2), dtype="float64")
    rows = np.repeat(np.arange(50), counts)
    weighted = model.gradients(X, TARGET, sample_weight=counts)
    repeated = model.gradients(X[rows], TARGET[rows])
    for one, other in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(50 * one, len(rows) * other, rtol=1e-10)
    losses = model.evaluate(X, TARGET, sample_weight=counts)["loss"], model.evaluate(X[rows], TARGET[rows])["loss"]
    assert 50 * losses[0] == pytest.approx(len(rows) * losses[1], rel=1e-12)


class Batches:
    """An iterable of batches that can be iterated several times."""

    def __init__(self, size: int, weight=None) -> None:
        self.size, self.weight = size, weight

    def __iter__(self):
        for start in range(0, 50, self.size):
            part = slice(start, start + self.size)
            yield (X[part], Y[part]) if self.weight is None else (X[part], Y[part], self.weight[part])


@pytest.mark.parametrize("weighted", [False, True])
def test_batches_train_like_arrays(weighted):
    weight = RNG.uniform(0.5, 2.0, 50) if weighted else None
    on_arrays, on_batches = classifier(), classifier()
    expected = on_arrays.fit(X, Y, batch_size=16, epochs=3, shuffle=False, sample_weight=weight,
                             validation_data=(X, Y), verbose=0)  # fmt: skip
    found = on_batches.fit(Batches(16, weight), epochs=3, validation_data=Batches(50), verbose=0)
    assert_same_weights(on_arrays, on_batches)
    assert list(found.history) == list(expected.history)
    for name, values in expected.history.items():
        np.testing.assert_allclose(found.history[name], values, rtol=1e-6)
    one, other = on_arrays.evaluate(X, Y), on_arrays.evaluate(Batches(16))
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)
    assert one["accuracy"] == other["accuracy"]
    predicted = on_arrays.predict(part for part, _ in Batches(16))
    np.testing.assert_array_equal(predicted, on_arrays.predict(X, batch_size=16))


def test_steps_per_epoch_goes_on_where_the_last_epoch_stopped():
    stepped, fitted = classifier(), classifier()
    history = fitted.fit(Batches(10), epochs=4, steps_per_epoch=3, verbose=0)
    assert len(history.epoch) == 4
    batches = [batch for _ in range(3) for batch in Batches(10)]
    for x, y in batches[:12]:
        stepped.train_on_batch(x, y)
    assert_same_weights(stepped, fitted)

    def endless():
        while True:
            yield from Batches(10)

    again = classifier()
    again.fit(endless(), epochs=4, steps_per_epoch=3, verbose=0)
    assert_same_weights(stepped, again)


def test_a_generator_is_walked_once():
    model = classifier()
    history = model.fit((batch for batch in Batches(10)), epochs=1, verbose=0)
    assert len(history.epoch) == 1
    with pytest.raises(ValueError, match=r"gives its batches once.*steps_per_epoch"):
        model.fit((batch for batch in Batches(10)), epochs=2, verbose=0)
    with pytest.raises(ValueError, match="ended after 2 of 3 steps of epoch 2"):
        model.fit((batch for batch in Batches(10)), epochs=3, steps_per_epoch=3, verbose=0)


@pytest.mark.parametrize("options", [{"y": Y}, {"batch_size": 3}, {"sample_weight": Y}, {"validation_split": 0.1}])
def test_what_makes_no_sense_with_batches_is_refused(options):
    with pytest.raises(ValueError, match="cannot be given with an iterable"):
        classifier().fit(Batches(10), verbose=0, **options)


def test_a_step_returns_the_loss_before_it():
    model = regressor(optimizer=fnn.SGD(0.1))
    for _ in range(3):
        before = model.evaluate(X, TARGET)["loss"]
        assert model.train_on_batch(X, TARGET)["loss"] == pytest.approx(before, rel=1e-5)


def test_evaluation_does_not_depend_on_the_batch_size():
    model = classifier(dtype="float64", weighted_metrics=["accuracy"])
    model.fit(X, Y, epochs=2, verbose=0)
    weight = RNG.uniform(0.5, 2.0, 50)
    expected = model.evaluate(X, Y, sample_weight=weight)
    for size in (1, 7, 50, 1000):
        found = model.evaluate(X, Y, sample_weight=weight, batch_size=size)
        assert found == pytest.approx(expected, rel=1e-12)
        np.testing.assert_allclose(model.predict(X, batch_size=size), model.predict(X), rtol=1e-12)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_and_series(library):
    module = pytest.importorskip(library)
    frame = module.DataFrame({name: X[:, column] for column, name in enumerate("abcd")})
    labels, weight = module.Series(Y), module.Series(np.arange(1.0, 51.0))
    on_arrays, on_frames = classifier(), classifier()
    on_arrays.fit(X, Y, sample_weight=np.arange(1.0, 51.0), validation_data=(X, Y), verbose=0)
    on_frames.fit(frame, labels, sample_weight=weight, validation_data=(frame, labels), verbose=0)
    assert_same_weights(on_arrays, on_frames)
    np.testing.assert_array_equal(on_arrays.predict(X), on_frames.predict(frame))
    mixed = module.DataFrame({"a": X[:, 0], "b": X[:, 1].astype(int), "c": X[:, 2], "d": ["x"] * 50})
    with pytest.raises(TypeError, match=r"columns \['d'\]"):
        on_frames.predict(mixed)
    numbers = module.DataFrame({"a": [1, 2], "b": [1.5, 2.5], "c": [True, False], "d": [0, 1]})
    expected = on_arrays.predict(np.array([[1, 1.5, 1, 0], [2, 2.5, 0, 1]]))
    np.testing.assert_array_equal(on_frames.predict(numbers), expected)


def test_nested_lists_are_arrays():
    x = RNG.normal(size=(6, 2, 3))
    model = fnn.Sequential([fnn.Flatten(), fnn.Dense(1)], seed=0)
    model.compile("sgd", "mse")
    model.fit(x.tolist(), [[0.0]] * 6, verbose=0)
    np.testing.assert_array_equal(model.predict(x.tolist()), model.predict(x))
    np.testing.assert_array_equal(model.predict(x[:1].tolist()), model.predict(x[:1]))


def test_several_inputs_and_outputs_as_lists_and_dicts():
    a, b = fnn.Input(4, name="a"), fnn.Input((2,), name="b")
    h = fnn.Concatenate()([fnn.Dense(5, "tanh")(a), b])
    outputs = [fnn.Dense(3, "softmax", name="kind")(h), fnn.Dense(2, name="place")(h)]

    def train(x, y, losses, weight):
        model = fnn.Model([a, b], outputs, seed=2)
        model.compile("adam", losses, metrics={"kind": ["accuracy"], "place": ["mae"]}, loss_weights=[1.0, 0.2])
        history = model.fit(x, y, epochs=2, sample_weight=weight, verbose=0)
        return model, history.history

    weight = np.arange(50.0)
    one, curves = train([X, TARGET], [Y, TARGET], ["cross_entropy", "mse"], [None, weight])
    other, again = train({"b": TARGET, "a": X}, {"place": TARGET, "kind": Y}, {"place": "mse", "kind": "cross_entropy"},
                         {"place": weight})  # fmt: skip
    assert_same_weights(one, other)
    assert curves == again
    assert list(curves) == ["loss", "kind_loss", "place_loss", "kind_accuracy", "place_mae"] or list(curves)[3:] == [
        "kind_accuracy", "place_mean_absolute_error"]  # fmt: skip
    total = np.array(curves["kind_loss"]) + 0.2 * np.array(curves["place_loss"])
    np.testing.assert_allclose(curves["loss"], total, rtol=1e-12)


# --- what shapes the weights --------------------------------------------------------------------------------------


def mse_gradients(kernel, bias, x=X, y=TARGET):
    error = (x.astype(float) @ kernel + bias - y) * (2.0 / y.size)
    return x.T.astype(float) @ error, error.sum(axis=0)


def test_regularisers_add_their_gradients_and_penalties():
    layer = fnn.Dense(2, kernel_regularizer=fnn.L1L2(0.02, 0.05), bias_regularizer=fnn.L2(0.1),
                      bias_initializer="random_normal")  # fmt: skip
    model = regressor(layer, optimizer=fnn.SGD(0.1), dtype="float64")
    kernel, bias = model.get_weights()
    plain = np.mean((X.astype(float) @ kernel + bias - TARGET) ** 2)
    penalty = 0.02 * np.abs(kernel).sum() + 0.05 * (kernel**2).sum() + 0.1 * (bias**2).sum()
    assert model.evaluate(X, TARGET)["loss"] == pytest.approx(plain + penalty, rel=1e-12)
    assert model.train_on_batch(X, TARGET)["loss"] == pytest.approx(plain + penalty, rel=1e-12)
    dkernel, dbias = mse_gradients(kernel, bias)
    expected = kernel - 0.1 * (dkernel + 0.02 * np.sign(kernel) + 0.1 * kernel), bias - 0.1 * (dbias + 0.2 * bias)
    for found, value in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_max_norm_bounds_the_weights_after_the_step(axis):
    layer = fnn.Dense(2, kernel_constraint=fnn.MaxNorm(0.6, axis))
    model = regressor(layer, optimizer=fnn.SGD(0.1), dtype="float64")
    kernel, bias = model.get_weights()
    stepped = kernel - 0.1 * mse_gradients(kernel, bias)[0]
    norm = np.sqrt((stepped**2).sum(axis=axis, keepdims=True))
    assert (norm > 0.6).any()
    model.train_on_batch(X, TARGET)
    expected = np.where(norm > 0.6, stepped * 0.6 / norm, stepped)
    np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-10)
    np.testing.assert_allclose(fnn.MaxNorm(0.6, axis)(stepped), expected, rtol=1e-14)


def test_clipping():
    limits = {"clipvalue": 0.05, "clipnorm": 0.1, "global_clipnorm": 0.1}
    for name, limit in limits.items():
        model = regressor(optimizer=fnn.SGD(0.5, **{name: limit}), dtype="float64")
        weights = model.get_weights()
        gradients = mse_gradients(*weights)
        norms = [np.sqrt((gradient**2).sum()) for gradient in gradients]
        if name == "global_clipnorm":
            norms = [np.sqrt(sum(norm**2 for norm in norms))] * 2
        model.train_on_batch(X, TARGET)
        for found, weight, gradient, norm in zip(model.get_weights(), weights, gradients, norms, strict=True):
            clipped = gradient * min(1.0, limit / norm)
            if name == "clipvalue":
                clipped = np.clip(gradient, -limit, limit)
            assert not np.array_equal(clipped, gradient)
            np.testing.assert_allclose(found, weight - 0.5 * clipped, rtol=1e-10)
    gentle = regressor(optimizer=fnn.SGD(0.5, clipnorm=100.0), dtype="float64")
    plain = regressor(optimizer=fnn.SGD(0.5), dtype="float64")
    for model in (gentle, plain):
        model.train_on_batch(X, TARGET)
    for one, other in zip(gentle.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("rate", [0.01, fnn.schedules.StepDecay(0.1, 5, 0.5)], ids=["constant", "schedule"])
def test_compiling_anew_starts_the_optimizer_and_its_schedule_anew(rate, tmp_path):
    old, new = regressor(optimizer=fnn.Adam(rate)), regressor(optimizer=fnn.Adam(rate))
    old.fit(X, TARGET, epochs=30, verbose=0)
    new.set_weights(old.get_weights())
    old.compile(fnn.Adam(rate), "mse")
    for _ in range(3):
        for model in (old, new):
            model.train_on_batch(X, TARGET + 1)
        assert_same_weights(old, new)
    assert (old.step, new.step) == (63, 3)
    old.save(tmp_path / "m")
    loaded = fnn.load(tmp_path / "m")
    for model in (loaded, new):
        model.train_on_batch(X, TARGET + 1)
    assert_same_weights(loaded, new)


def test_layers_can_be_frozen_and_thawed():
    model = regressor(fnn.Dense(3, "tanh", name="first"), fnn.BatchNorm(name="norm"), fnn.Dense(2), optimizer="adam")
    model.fit(X, TARGET, epochs=1, verbose=0)
    for frozen in ({"first"}, {"norm"}, {"first", "norm"}, set()):
        for name in ("first", "norm"):
            model.get_layer(name).trainable = name not in frozen
        before = [model.get_weights(name) for name in ("first", "norm")]
        model.fit(X, TARGET, epochs=1, verbose=0)
        for name, old in zip(("first", "norm"), before, strict=True):
            same = all(np.array_equal(a, b) for a, b in zip(old, model.get_weights(name), strict=True))
            assert same == (name in frozen), (name, frozen)


@pytest.mark.parametrize("affine", [True, False])
def test_a_frozen_batch_norm_uses_and_keeps_its_moving_statistics(affine):
    norm = fnn.BatchNorm(momentum=0.5, center=affine, scale=affine)
    model = regressor(norm, fnn.Dense(2), optimizer=fnn.SGD(0.0))
    model.fit(X, TARGET, epochs=2, verbose=0)
    moving = model.get_weights(norm)[-2:]
    assert abs(moving[0]).max() > 0.01
    norm.trainable = False
    assert model.train_on_batch(X, TARGET)["loss"] == pytest.approx(model.evaluate(X, TARGET)["loss"], rel=1e-5)
    for one, other in zip(moving, model.get_weights(norm)[-2:], strict=True):
        np.testing.assert_array_equal(one, other)
    norm.trainable = True
    assert model.train_on_batch(X, TARGET)["loss"] != pytest.approx(model.evaluate(X, TARGET)["loss"], rel=1e-5)


def test_gradients_leave_the_model_as_it_is():
    model = classifier()
    model.fit(X, Y, epochs=1, verbose=0)
    before = model.get_weights()
    for training in (False, True):
        model.gradients(X, Y, training=training)
        model.input_gradients(X, Y, training=training)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.gradients(np.full_like(X, np.nan), Y, training=training)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.step == 2
