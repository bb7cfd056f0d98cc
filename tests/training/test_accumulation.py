"""Gradient accumulation and moving averages of the weights, against Keras' algorithm in plain NumPy."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest

import fastnn as fnn
from accumulating import BOTH, KINDS, LABELS, OPTIONS, RNG, Keras, X, Y, batches, classifier, decaying, deep, linear
from fastnn import config, schedules
from fastnn.registry import REGISTRY


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("k", "ema", "overwrite"),
    [(None, 0.9, None), (None, 0.9, 1), (None, 0.8, 3), (None, 0.0, 2), (None, 1.0, 2), (2, None, None),
     (3, None, None), (5, None, None), (2, 0.9, None), (3, 0.8, 2), (2, 0.9, 1), (3, 0.7, 4)],
)  # fmt: skip
@pytest.mark.parametrize(
    "more", [{}, {"clip": "clipnorm", "limit": 0.6}, {"clip": "global_clipnorm"}, {"clip": "clipvalue", "decay": 0.5}]
)
def test_steps_are_those_of_keras(name, k, ema, overwrite, more):
    made = {"sgd": fnn.SGD, "adam": fnn.Adam}[name]
    options = {"momentum": 0.9} if name == "sgd" else {}
    options |= {more["clip"]: 0.3} if "clip" in more else {}
    optimizer = made(
        decaying, gradient_accumulation_steps=k, use_ema=ema is not None, ema_momentum=ema if ema is not None else 0.99,
        ema_overwrite_frequency=overwrite, weight_decay=more.get("decay"), **options,
    )  # fmt: skip
    constraint = fnn.MaxNorm(more["limit"]) if "limit" in more else None
    model = linear(optimizer, kernel_constraint=constraint)
    keras = Keras(model.get_weights(), name, decaying, k, ema, overwrite, **more)
    initial, differed = keras.variables, 0
    for index, (x, y) in enumerate(batches(14)):
        model.train_on_batch(x, y)
        keras.step(x, y)
        for mine, theirs in zip(model.get_weights(), keras.variables, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-12)
        if k and index == 0 and not more:
            np.testing.assert_array_equal(model.get_weights()[0], initial[0])
        differed += ema is not None and not np.allclose(keras.averages[0], keras.variables[0], rtol=1e-4)
    model.finalize_variable_values()
    expected = keras.variables if ema is None else keras.averages
    for mine, theirs in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-12)
    # the averages are no copies of the weights, unless they have to be
    assert differed or ema in (None, 0.0) or overwrite == 1


def test_every_optimizer_is_among_them():
    assert {type(make()).__name__ for make in KINDS.values()} == set(REGISTRY["optimizer"])


@pytest.mark.parametrize("kind", KINDS)
def test_accumulated_batches_are_one_large_batch(kind):
    """But for schedules, which count every step: the large batch gets the rate of its last part."""
    weights = RNG.uniform(size=24)
    model, large = deep(KINDS[kind](gradient_accumulation_steps=3)), deep(KINDS[kind]())
    large.optimizer.learning_rate = lambda update: decaying(3 * update + 2)
    for start in (0, 12, 0, 12):
        before = model.get_weights()
        for first in range(start, start + 12, 4):
            for mine, unchanged in zip(model.get_weights(), before, strict=True):
                np.testing.assert_array_equal(mine, unchanged)
            rows = slice(first, first + 4)
            model.train_on_batch(X[rows], Y[rows], weights[rows])
        large.train_on_batch(X[start : start + 12], Y[start : start + 12], weights[start : start + 12])
        for mine, theirs in zip(model.get_weights(), large.get_weights(), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_averages_of_every_optimizer(kind):
    model = deep(KINDS[kind](use_ema=True, ema_momentum=0.8))
    plain = deep(KINDS[kind]())
    averages = None
    for x, y in batches(9):
        model.train_on_batch(x, y)
        plain.train_on_batch(x, y)
        assert model._runtime.parameters.tobytes() == plain._runtime.parameters.tobytes()
        found = plain.get_weights()
        averages = averages or found
        averages = [0.8 * a + (1 - 0.8) * p for a, p in zip(averages, found, strict=True)]
    # constraints come after the averages are made
    if kind == "sgd":
        model.finalize_variable_values()
        for mine, theirs in zip(model.get_weights(), averages, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-10)


def test_a_new_training_begins_with_the_averages():
    """As in Keras: the first step moves the weights from where the averages have put them."""
    model = linear(fnn.SGD(0.1, momentum=0.9, use_ema=True, ema_momentum=0.9))
    keras = Keras(model.get_weights(), "sgd", lambda step: 0.1, ema=0.9)
    for _ in range(3):
        model.fit(X, Y, batch_size=4, shuffle=False, epochs=2, verbose=0)
        for x, y in batches(12):
            keras.step(x, y)
        keras.variables = list(keras.averages)
        for mine, theirs in zip(model.get_weights(), keras.variables, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-10)


# --- layers that are frozen and freed -----------------------------------------------------------------------------


def test_averages_begin_where_a_layer_is_freed():
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(4, name="a"), fnn.Dense(2, name="b")], seed=0, dtype="float64")
    model.compile(fnn.SGD(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=100), "mse")
    frozen = model.get_layer("a")
    frozen.trainable = False
    for x, y in batches(3):
        model.train_on_batch(x, y)
    before = model.get_weights("a")
    model.finalize_variable_values()
    np.testing.assert_array_equal(model.get_weights("a")[0], before[0])
    frozen.trainable = True
    average = None
    for x, y in batches(4):
        model.train_on_batch(x, y)
        now = model.get_weights("a")[0]
        average = now if average is None else 0.5 * average + 0.5 * now
    model.finalize_variable_values()
    np.testing.assert_allclose(model.get_weights("a")[0], average, rtol=1e-12)


def test_frozen_layers_are_left_as_they_are():
    model = deep(fnn.SGD(0.1, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=2))
    for x, y in batches(3):
        model.train_on_batch(x, y)
    model.layers[0].trainable = False
    before = model.get_weights()
    for x, y in batches(5):
        model.train_on_batch(x, y)
    model.finalize_variable_values()
    after = model.get_weights()
    for index in (0, 1):
        np.testing.assert_array_equal(after[index], before[index])
    assert (after[2] != before[2]).any()


def test_moving_statistics_are_not_averaged():
    one, two = (classifier(fnn.SGD(0.1, use_ema=average)) for average in (True, False))
    for model in (one, two):
        model.fit(X, LABELS, epochs=2, **OPTIONS)
    for index in (4, 5):
        np.testing.assert_array_equal(one.get_weights()[index], two.get_weights()[index])
    assert (one.get_weights()[2] != two.get_weights()[2]).any()


# --- the objects --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_checked_when_an_optimizer_is_made(kind):
    make, name = KINDS[kind], type(KINDS[kind]()).__name__
    for wrong, error, message in (
        ({"gradient_accumulation_steps": 1}, ValueError, "gradient_accumulation_steps: expected a whole number >= 2"),
        ({"gradient_accumulation_steps": 0}, ValueError, "gradient_accumulation_steps: expected a whole number >= 2"),
        ({"gradient_accumulation_steps": 2.5}, ValueError, "gradient_accumulation_steps: expected a whole number"),
        ({"gradient_accumulation_steps": True}, TypeError, "gradient_accumulation_steps: expected a number, got True"),
        ({"gradient_accumulation_steps": "2"}, TypeError, "gradient_accumulation_steps: expected a number"),
        ({"gradient_accumulation_steps": 2**60}, ValueError, r"gradient_accumulation_steps: .*< 2\*\*53"),
        ({"use_ema": 1}, TypeError, "use_ema: expected True or False, got 1"),
        ({"use_ema": None}, TypeError, "use_ema: expected True or False, got None"),
        ({"ema_momentum": 1.5}, ValueError, "ema_momentum: expected a number >= 0 and <= 1, got 1.5"),
        ({"ema_momentum": -0.1}, ValueError, "ema_momentum: expected a number >= 0 and <= 1"),
        ({"ema_momentum": math.nan}, ValueError, "ema_momentum: expected a finite number"),
        ({"ema_momentum": None}, TypeError, "ema_momentum: expected a number, got None"),
        ({"ema_overwrite_frequency": 0}, ValueError, "ema_overwrite_frequency: expected a whole number >= 1"),
        ({"ema_overwrite_frequency": 1.5}, ValueError, "ema_overwrite_frequency: expected a whole number"),
        ({"ema_overwrite_frequency": "1"}, TypeError, "ema_overwrite_frequency: expected a number"),
    ):
        with pytest.raises(error, match=f"{name}.{message}"):
            make(**wrong)
    made = make(gradient_accumulation_steps=np.int64(3), use_ema=True, ema_momentum=1, ema_overwrite_frequency=2.0)
    values = made.gradient_accumulation_steps, made.ema_momentum, made.ema_overwrite_frequency
    assert values == (3, 1.0, 2) and [type(value) for value in values] == [int, float, int]
    with pytest.raises(AttributeError, match="use_ema is fixed"):
        made.use_ema = False
    assert make().gradient_accumulation_steps is make().ema_overwrite_frequency is None
    assert (make().use_ema, make().ema_momentum) == (False, 0.99)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "custom"])
def test_configurations_copies_and_pickles(kind):
    made = KINDS[kind](**BOTH)
    made.learning_rate = schedules.CosineDecay(0.1, 10)
    made.hyper_rows(3, 9)
    assert made.slots == (*KINDS[kind]().slots, "gradient sum", "moving average")
    assert made.slot_initial[:-1] == (*KINDS[kind]().slot_initial, 0.0) and math.isnan(made.slot_initial[-1])
    for other in (
        config.from_config(config.to_config(made), REGISTRY["optimizer"], "optimizer"),
        pickle.loads(pickle.dumps(made)),
        copy.deepcopy(made),
    ):
        assert other == made and other.slots == made.slots
        np.testing.assert_array_equal(other.hyper_rows(0, 20), made.hyper_rows(0, 20))
    assert made != KINDS[kind]()


def test_custom_optimizers_keep_their_names_apart():
    custom = pickle.loads(pickle.dumps(KINDS["custom"](**BOTH)))
    assert custom.gradient_accumulation_steps == 4 and custom.slots[0] == "m"

    def update(*given):
        return given[0], given[2]

    with pytest.raises(ValueError, match="the name 'moving average' is taken"):
        fnn.optimizers.Custom(update, state={"moving average": 0.0}, use_ema=True)


def test_rows_are_those_of_updates_with_the_rates_of_steps():
    rate = schedules.ExponentialDecay(0.1, 1, 0.9)
    for kind, k, first in itertools.product(("adam", "nadam", "custom"), (2, 7), (0, 5, 2047 * 7)):
        made, plain = (KINDS[kind](**more) for more in ({"gradient_accumulation_steps": k}, {}))
        made.learning_rate = rate
        plain.learning_rate = 1.0
        rows = made.hyper_rows(first, 20)
        rates = len(plain.description.rates)
        for index, row in enumerate(rows):
            step = first + index
            expected = plain.hyper_rows(step // k, 1)[0]
            expected[:rates] *= rate(step)
            np.testing.assert_array_equal(row, expected)
            np.testing.assert_array_equal(made.hyper_rows(step, 1)[0], row)
        assert made.hyper_rows(first, 0).shape == (0, 8)


def test_files_without_the_new_numbers_are_read(tmp_path):
    described = config.to_config(fnn.Adam(0.5))
    for name in BOTH:
        del described[name]
    assert config.from_config(described, REGISTRY["optimizer"], "optimizer") == fnn.Adam(0.5)


def test_finalizing_needs_a_compiled_model():
    model = fnn.Sequential([fnn.Dense(2)])
    with pytest.raises(RuntimeError, match="not built"):
        model.finalize_variable_values()
    model.build((3,))
    with pytest.raises(RuntimeError, match="compile"):
        model.finalize_variable_values()
