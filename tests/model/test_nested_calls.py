"""Small calls of models that are made of models are calls of codes: the bits, locks and errors of the general path."""

import copy
import gc
import os
import pickle
import signal
import threading
import weakref

import numpy as np
import pytest

import fastnn as fnn
from own_steps import Calling
from small_calls import bits, counted, general, general_step, growth, is_quick, taken  # noqa: F401

RNG = np.random.default_rng(13)


def encoder(**more):
    layers = [fnn.Input(6), fnn.Dense(9, "tanh"), fnn.Dropout(0.2), fnn.BatchNorm(), fnn.Dense(5, "tanh")]
    model = fnn.Sequential(layers, seed=1, name="encoder", **more)
    model.compile(fnn.Adam(0.01), "mse")
    return model


def classifier(part, seed=2, optimizer="adam"):
    layers = [fnn.Input(6), part, fnn.Dense(4, "softmax", kernel_regularizer=fnn.L2(0.01))]
    model = fnn.Sequential(layers, seed=seed, name=f"classifier{seed}", dtype=part.dtype)
    model.compile(copy.deepcopy(optimizer), "cross_entropy", metrics=["accuracy"])
    return model


def rows(n, width=6):
    return RNG.normal(size=(n, width)).astype(np.float32)


def labelled(n):
    return rows(n), RNG.integers(0, 4, n)


def head_and_encoder():
    part = encoder()
    return [(classifier(part), labelled), (part, lambda n: (rows(n), rows(n, 5)))]


def double():
    return [(classifier(encoder(dtype="float64")), labelled)]


def autoencoder():
    """Return a model without weights that no other model holds."""
    first = encoder()
    second = fnn.Sequential([fnn.Input(5), fnn.Dense(6)], seed=2, name="decoder")
    model = fnn.Sequential([fnn.Input(6), first, second], seed=3)
    model.compile(fnn.AdamW(0.01, clipnorm=0.1), "mse", metrics=["mae"])
    return [(model, lambda n: (rows(n), rows(n)))]


def siamese():
    """Return a model that calls another one twice."""
    one, two = fnn.Input(6, name="one"), fnn.Input(6, name="two")
    part = encoder()
    model = fnn.Model([one, two], fnn.Dense(1)(fnn.Multiply()([part(one), part(two)])), seed=5)
    model.compile("nadam", "mse")
    return [(model, lambda n: ([rows(n), rows(n).astype(float)], RNG.normal(size=n)))]


def in_two_others():
    part = encoder()
    return [(classifier(part, seed, optimizer), labelled) for seed, optimizer in ((2, "adam"), (3, fnn.SGD(0.05)))]


def deep():
    """Return a model of a model of a model, with several outputs."""
    part = encoder()
    inner = classifier(part)
    x = fnn.Input(6)
    model = fnn.Model(x, [fnn.Dense(2, name="last")(inner(x)), fnn.Dense(1, "relu", name="other")(part(x))], seed=6)
    model.compile("adam", ["mse", "mae"], loss_weights=[0.3, 2.0])
    return [(model, lambda n: (rows(n), [rows(n, 2), RNG.normal(size=n)])), (inner, labelled)]


def adversarial():
    """Return the networks of a GAN: the critic learns alone, and stays as it is in the whole."""
    generator = fnn.Sequential([fnn.Input(3), fnn.Dense(5, "relu"), fnn.Dense(6)], seed=1, name="generator")
    critic = fnn.Sequential([fnn.Input(6), fnn.Dense(4, "tanh"), fnn.Dense(1, "sigmoid")], seed=2, name="critic")
    critic.trainable = False
    whole = fnn.Sequential([fnn.Input(3), generator, critic], seed=3)
    critic.trainable = True
    for model in (whole, critic):
        model.compile("adam", "binary_cross_entropy")
    return [(whole, lambda n: (rows(n, 3), np.ones(n, int))), (critic, lambda n: (rows(n), RNG.integers(0, 2, n)))]


def integers():
    part = fnn.Sequential([fnn.Input((5,), dtype="int64"), fnn.OneHot(7), fnn.Dense(6, "tanh")], seed=3, name="words")
    model = fnn.Sequential([fnn.Input((5,), dtype="int64"), part, fnn.Dense(3, "softmax")], seed=4)
    model.compile("adam", fnn.CrossEntropy(normalize="weights"), weighted_metrics=["accuracy"])
    return [(model, lambda n: (RNG.integers(0, 7, (n, 5)).astype(np.int16), RNG.integers(0, 3, (n, 5))))]


def averaged():
    """Return a model that accumulates gradients, and averages weights."""
    update = fnn.Nadam(0.01, gradient_accumulation_steps=3, use_ema=True, ema_overwrite_frequency=2)
    return [(classifier(encoder(), optimizer=update), labelled)]


FAMILIES = [
    head_and_encoder, double, autoencoder, siamese, in_two_others, deep, adversarial, integers, averaged
]  # fmt: skip


def same_predictions(model, x):
    found, expected = model.predict(x), general(model, x)
    if isinstance(found, np.ndarray):
        found, expected = [found], [expected]
    assert [one.tobytes() for one in found] == [one.tobytes() for one in expected]


@pytest.mark.parametrize("family", FAMILIES)
def test_same_bits(family):
    quick, slow = family(), family()
    least = 1 if family in (adversarial, integers) else 2  # the others have batch normalisation
    for n in (8, 8, 3, 16, least, 40):
        for (model, data), (other, _) in zip(quick, slow, strict=True):
            x, y = data(n)
            assert model.train_on_batch(x, y) == general_step(other, x, y)
            weights = RNG.uniform(0.5, 2.0, n)
            assert model.train_on_batch(x, y, weights) == general_step(other, x, y, sample_weight=weights)
            for (one, _), (two, _) in zip(quick, slow, strict=True):
                assert bits(one) == bits(two)
            same_predictions(model, x)
    for (model, data), (other, _) in zip(quick, slow, strict=True):
        # weights for several outputs are left to the general path
        assert taken(model) == (5 if len(model.output_names) > 1 else 10) and taken(other) == 0
        assert is_quick(model, data(5)[0])


@pytest.mark.parametrize("optimizer", ["adam", fnn.SGD(fnn.schedules.CosineDecay(0.1, 9), momentum=0.9)])
def test_whatever_happens_between_calls(optimizer, tmp_path):
    models = [classifier(encoder(), optimizer=optimizer) for _ in range(2)]

    def steps():
        for n in (5, 5, 2):
            x, y = labelled(n)
            assert models[0].train_on_batch(x, y) == general_step(models[1], x, y)
            same_predictions(models[0], x)
        assert bits(models[0]) == bits(models[1])

    x, y = labelled(24)
    changes = [
        lambda one, part: part.set_weights([weight + 0.1 for weight in part.get_weights()]),
        lambda one, part: part.fit(x, rows(24, 5) * 0, epochs=2, batch_size=7, verbose=0),
        lambda one, part: part.train_on_batch(x, x[:, :5]),
        lambda one, part: part.compile("sgd", "mse"),
        lambda one, part: part.update_from(part.learner()),
        lambda one, part: setattr(part, "trainable", False),
        lambda one, part: setattr(part, "trainable", True),
        lambda one, part: part.predict(np.zeros((3000, 6))),
        lambda one, part: one.fit(x, y, epochs=2, batch_size=9, verbose=0),
        lambda one, part: one.update_from(one.learner(steps=90)),
        lambda one, part: one.set_weights([0.5 * weight for weight in one.get_weights()]),
        lambda one, part: one.gradients(x, y, training=True),
        lambda one, part: one.compile(fnn.Adam(0.02), "cross_entropy"),
    ]
    steps()
    for change in changes:
        for one in models:
            change(one, one.get_layer("encoder"))
        before = taken(models[0])
        steps()
        steps()
        assert taken(models[0]) > before and is_quick(models[0], x[:5])
        np.testing.assert_array_equal(models[0].freeze().parameters, models[1].freeze().parameters)
    models[0].save(tmp_path / "model.safetensors")
    models = [fnn.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(models[1]))]
    steps()
    steps()
    models = [copy.deepcopy(one) for one in models]
    steps()
    steps()
    assert taken(models[0]) == 4 and taken(models[1]) == 0


def ready():
    """Return an encoder, and a model of it whose small calls are prepared."""
    part = encoder()
    model = classifier(part)
    for _ in range(3):
        model.train_on_batch(*labelled(4))
        model.predict(rows(4))
    assert taken(model) == 1 and is_quick(model, rows(4))
    return part, model


def free(*models):
    """Return whether another thread can take the locks of models."""
    found = []

    def look():
        for one in models:
            lock = one._runtime.own_lock
            taken = lock.acquire(False)
            found.append(taken)
            if taken:
                lock.release()

    other = threading.Thread(target=look)
    other.start()
    other.join()
    return all(found)


def in_another_thread(act):
    """Start a thread, and return what waits until it holds a lock, and what lets it go on."""
    begun, end = threading.Event(), threading.Event()

    def work():
        with act:
            begun.set()
            end.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(60)

    def finish():
        end.set()
        thread.join()

    return finish


@pytest.mark.parametrize("call", ["predict", "train_on_batch"])
@pytest.mark.parametrize("held", ["part", "model"])
def test_calls_wait_for_all_locks_and_release_them(call, held):
    part, model = ready()
    x, y = labelled(4)
    finish = in_another_thread((part if held == "part" else model)._runtime.own_lock)
    done = threading.Event()

    def work():
        model.predict(x) if call == "predict" else model.train_on_batch(x, y)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert not done.wait(0.1)
    finish()
    assert done.wait(60)
    thread.join()
    assert free(part, model)
    for bad in (x[:, :5], np.zeros((0, 6), np.float32), x.astype(complex)):
        with pytest.raises((TypeError, ValueError)):
            model.predict(bad) if call == "predict" else model.train_on_batch(bad, y[: len(bad)])
        assert free(part, model)


class Alarm(Exception):
    """Raised by a signal handler."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no timer that signals")
@pytest.mark.parametrize("call", ["predict", "train_on_batch"])
def test_a_wait_for_locks_may_be_interrupted(call):
    part, model = ready()
    x, y = labelled(4)
    before = bits(model)
    finish = in_another_thread(part._runtime.own_lock)

    def handler(*arguments):
        raise Alarm

    usual = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Alarm):
            model.predict(x) if call == "predict" else model.train_on_batch(x, y)
    finally:
        signal.signal(signal.SIGALRM, usual)
        finish()
    assert free(part, model) and bits(model) == before
    model.train_on_batch(x, y)
    same_predictions(model, x)


def test_a_function_that_raises_in_an_inner_model():
    def checked(x):
        if x > 100:
            raise ValueError("too large")
        return 0.5 * x

    def make():
        part = fnn.Sequential([fnn.Input(6), fnn.Dense(9, fnn.activations.Custom(checked))], seed=1, name="part")
        return part, classifier(part)

    (part, model), (_, other) = make(), make()
    for _ in range(3):
        x, y = labelled(4)
        assert model.train_on_batch(x, y) == general_step(other, x, y)
        same_predictions(model, x)
    assert taken(model) == 1 and is_quick(model, x)
    messages = []
    for one, step in ((model, fnn.Model.train_on_batch), (other, general_step)):
        with pytest.raises(RuntimeError, match=r"'checked' .* raised ValueError\('too large'\)") as caught:
            step(one, 1e6 * x, y)
        messages.append(str(caught.value))
    with pytest.raises(RuntimeError, match="too large"):
        model.predict(1e6 * x)
    assert messages[0] == messages[1] and bits(model) == bits(other) and free(part, model)
    assert model.train_on_batch(x, y) == general_step(other, x, y)


def test_models_are_used_in_the_middle_of_calls_of_related_ones():
    part, model = ready()
    x, labels = labelled(4)
    expected = model.predict(x)
    for inner, outer in ((part, model), (model, part)):
        with pytest.raises(RuntimeError, match="in use by a call of this thread"):
            target = labels if inner is model else x[:, :5]
            outer.predict(Calling(lambda one=inner, y=target: one.train_on_batch(x, y), x))
        outer.predict(Calling(lambda: np.testing.assert_array_equal(model.predict(x), expected), x))
    assert taken(model) == 1


def test_threads_train_models_that_share_an_encoder():
    """Each step adds the same to every weight of the shared kernel, so that steps that mix would show."""
    shared = fnn.Sequential([fnn.Input(6), fnn.Dense(4, use_bias=False, kernel_initializer="zeros")], name="shared")
    models = [fnn.Sequential([fnn.Input(6), shared], name=f"model{number}") for number in range(2)]
    for model in models:
        # the gradient of a prediction is the same in each step
        model.compile(fnn.SGD(2.0**-10), fnn.losses.Custom(lambda t, p: t * p))
    x, y = np.ones((8, 6), np.float32), np.ones((8, 4), np.float32)
    errors, stop = [], threading.Event()

    def guarded(act):
        try:
            act()
        except BaseException as error:
            errors.append(error)

    def train(model):
        for _ in range(400):
            model.train_on_batch(x, y)

    def predict(model):
        while not stop.is_set():
            found = model.predict(x[:2])
            assert found.min() == found.max()

    trainers = [threading.Thread(target=guarded, args=(lambda one=one: train(one),)) for one in models]
    readers = [threading.Thread(target=guarded, args=(lambda one=one: predict(one),)) for one in (shared, *models)]
    for thread in (*trainers, *readers):
        thread.start()
    for thread in trainers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert not errors
    kernel = shared.get_weights()[0]
    assert kernel.min() == kernel.max() == -800 * 2.0**-10 / 4
    assert [taken(model) for model in models] == [398, 398]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_predicts_and_trains():
    part, model = ready()
    x, y = labelled(4)
    finish = in_another_thread(part._runtime.own_lock)
    child = os.fork()
    if child == 0:
        # without dropout: of four rows it hides what a few steps have learnt
        before = model.evaluate(x, y)["loss"]
        for _ in range(30):
            model.train_on_batch(x, y)
            model.predict(x)
        os._exit(0 if is_quick(model, x) and model.evaluate(x, y)["loss"] < before else 1)
    finish()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    same_predictions(model, x)


def test_a_team_shares_the_work():
    def make():
        part = fnn.Sequential([fnn.Input(64), fnn.Dense(128, "relu")], seed=1, name="part")
        model = fnn.Sequential([fnn.Input(64), part, fnn.Dense(10)], seed=2)
        model.compile("sgd", "mse")
        return part, model

    (part, model), (_, other) = make(), make()
    fnn.set_num_threads(2)
    x = rows(256, 64)
    for n in (256, 256, 100, 3, 256):
        for _ in range(3):
            same_predictions(model, x[:n])
        assert is_quick(model, x[:n])
        y = rows(n, 10)
        assert model.train_on_batch(x[:n], y) == general_step(other, x[:n], y)
    assert bits(model) == bits(other) and taken(model) == 3 and free(part, model)


def test_models_are_freed_and_no_memory_is_lost():
    part, model = ready()
    x, y = labelled(2)
    used = weakref.proxy(model)
    assert growth(lambda: (used.predict(x), used.train_on_batch(x, y)), 5000) < 20_000
    call, expected = model._runtime.prediction.call, model.predict(x)
    seen = [weakref.ref(one._runtime) for one in (part, model)]
    del part, model
    gc.collect()
    assert [one() for one in seen] == [None, None]
    # what a call that runs needs, it keeps
    np.testing.assert_array_equal(call(x), expected)
