"""Models that are made of models on a simulated GPU, against the same models on the CPU."""

import copy
import sys

import numpy as np
import pytest

import fastnn as fnn

RNG = np.random.default_rng(1)
X = RNG.standard_normal((24, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 24)


def part(name, width, **more):
    layers = [fnn.Input(5), fnn.Dense(width, "tanh"), fnn.BatchNorm(), fnn.Dense(5, "gelu")]
    return fnn.Sequential(layers, seed=width, name=name, **more)


def network(optimizer=None):
    """Return two models, and one that is made of them and of layers before, between and after."""
    a, b = part("a", 6), part("b", 7)
    layers = [fnn.Input(5), fnn.Dense(5), a, fnn.LayerNorm(), b, fnn.Dense(3, "softmax")]
    model = fnn.Sequential(layers, seed=3, name="whole")
    for one in (a, b):
        one.compile("sgd", "mse")
    model.compile(optimizer or fnn.Adam(0.01, clipnorm=1.0), "cross_entropy", metrics=["accuracy"])
    return a, b, model


def close(one, other, tolerance=5e-5):
    for left, right in zip(one, other, strict=True):
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


def whole(a, b, model):
    """Compare the weights of a model with those of its parts."""
    close(model.get_weights("a"), a.get_weights(), 0.0)
    close(model.get_weights("b"), b.get_weights(), 0.0)


def calls(model):
    """Return what the calls of a model give, one after the other."""
    return [
        *model.fit(X, Y, epochs=2, batch_size=9, verbose=0, validation_split=0.25).history["val_loss"],
        model.predict(X),
        *(model.train_on_batch(X, Y)["loss"] for _ in range(3)),
        *model.gradients(X, Y),
        *model.gradients(X, Y, training=True),
        model.input_gradients(X, Y),
        model.evaluate(X, Y)["loss"],
        *(model.predict(X[:1]) for _ in range(3)),
        *model.get_weights(),
    ]


@pytest.mark.parametrize("optimizer", [None, fnn.Adam(0.01, use_ema=True), fnn.SGD(0.1, momentum=0.9)])
def test_training_agrees_with_the_cpu(optimizer):
    here, there = network(copy.deepcopy(optimizer)), network(copy.deepcopy(optimizer))
    there[2].to("cuda")
    assert [model.device for model in there] == ["cuda:0"] * 3
    close(calls(there[2]), calls(here[2]))
    whole(*there)


@pytest.mark.parametrize("places", [("cpu", "cpu"), ("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_its_models_may_be_elsewhere(place, places):
    here, there = network(), network()
    there[2].to(place)
    for model, device in zip(there[:2], places, strict=True):
        model.to(device)
    found = []
    for a, b, model in (here, there):
        found.append([
            *(model.train_on_batch(X, Y)["loss"] for _ in range(3)),
            *(a.train_on_batch(X, X)["loss"] for _ in range(3)),
            *(model.predict(X[:1]) for _ in range(2)),
            *model.gradients(X, Y, training=True),
            *(b.train_on_batch(X, X)["loss"] for _ in range(3)),
            model.train_on_batch(X, Y)["loss"],
            *(one.predict(X[:2]) for one in (a, b, a, b)),
            *model.get_weights(),
        ])  # fmt: skip
    close(*found)
    whole(*there)


def test_calls_that_are_prepared_on_the_cpu_end_where_a_part_moves():
    here, there = network(), network()

    def calls(wanted):
        for part, model in ((here[0], here[2]), (there[0], there[2])):
            found = []
            for _ in range(3):
                found += [part.train_on_batch(X[:4], X[:4])["loss"], model.train_on_batch(X[:4], Y[:4])["loss"]]
                found += [model.predict(X[:2]), part.predict(X[:2])]
            results.append(found)
        close(*results)
        results.clear()
        whole(*there)
        runtime = there[2]._runtime
        assert [call is not None for call in (runtime.quick_step, runtime.prediction.call)] == [wanted] * 2

    results = []
    calls(True)
    for device in ("cuda", "cpu", "cuda"):
        there[0].to(device)
        assert there[2]._runtime.quick_step is there[2]._runtime.prediction.call is None
        calls(device == "cpu")


def test_calls_in_the_middle_of_runs_on_the_cpu():
    """They copy weights to the GPU that the run is about to change."""
    here, there = network(), network()
    there[0].to("cuda")
    made = []

    def interrupt(frame, event, argument):
        if there[2]._runtime.running:
            sys.setprofile(None)
            made.append(there[0].predict(X[:2]))
            sys.setprofile(interrupt)

    for _ in range(2):
        sys.setprofile(interrupt)
        try:
            there[2].train_on_batch(X, Y)
        finally:
            sys.setprofile(None)
        here[2].train_on_batch(X, Y)
        close([there[0].predict(X[:2])], [here[0].predict(X[:2])])
    assert len(made) > 10
    whole(*there)


def test_two_models_that_share_one():
    results = []
    for device in ("cpu", "cuda"):
        a, _, model = network()
        other = fnn.Sequential([fnn.Input(5), a, fnn.Dense(3, "softmax")], seed=5)
        other.compile("sgd", "cross_entropy")
        for one in (model, other):
            one.to(device)
        losses = [one.train_on_batch(X, Y)["loss"] for _ in range(3) for one in (model, other)]
        results.append([*losses, *model.get_weights(), *other.get_weights()])
        close(other.get_weights("a"), a.get_weights(), 0.0)
    close(*results)


def test_models_of_models_of_models_go_along():
    a, b, model = network()
    deep = fnn.Sequential([fnn.Input(5), model, fnn.Dense(2)], seed=1)
    expected = deep.predict(X)
    deep.to("cuda")
    assert {one.device for one in (a, b, model, deep)} == {"cuda:0"}
    close([deep.predict(X)], [expected])
    deep.to("cpu")
    assert {one.device for one in (a, b, model, deep)} == {"cpu"}


def test_for_one_call():
    a, b, model = network()
    a.to("cuda")
    expected = model.predict(X)
    close([model.predict(X, device="cuda")], [expected])
    assert [one.device for one in (a, b, model)] == ["cuda:0", "cpu", "cpu"]
    model.fit(X, Y, epochs=1, verbose=0, device="cuda")
    assert [one.device for one in (a, b, model)] == ["cuda:0", "cpu", "cpu"]
    whole(a, b, model)


def test_a_model_that_is_made_on_a_gpu():
    a, b, _ = network()
    symbol = fnn.Input(5)
    expected = b.predict(a.predict(X))
    model = fnn.Model(symbol, b(a(symbol)), device="cuda")
    assert [one.device for one in (a, b, model)] == ["cuda:0"] * 3
    close([model.predict(X)], [expected])
    alike = copy.deepcopy(model)
    for one in (model, alike.to("cpu")):  # without weights of their own
        one.compile("sgd", "mse")
        one.train_on_batch(X, X)
    close(model.gradients(X, X, training=True), alike.gradients(X, X, training=True))


def test_copies_and_files(tmp_path):
    a, _, model = network()
    model.to("cuda")
    model.train_on_batch(X, Y)
    other = copy.deepcopy(model)
    assert other.device == other.get_layer("a").device == "cuda:0"
    model.save(tmp_path / "model")
    read = fnn.load(tmp_path / "model")
    for one in (model, other, read):
        one.train_on_batch(X, Y)
    close(other.get_weights(), model.get_weights())
    close(read.get_weights(), model.get_weights())
    close(other.get_layer("a").get_weights(), a.get_weights())


def test_nothing_moves_where_one_is_trained():
    a, b, model = network()
    a._state.fitting = True
    with pytest.raises(RuntimeError, match="to: the model is being trained by fit"):
        model.to("cuda")
    assert [one.device for one in (a, b, model)] == ["cpu"] * 3
