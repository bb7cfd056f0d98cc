"""Models that share layers, and models of subclasses: each model keeps its own state."""

import copy
import pickle

import numpy as np
import pytest

import fastnn as fnn

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 3))
SCORE = X @ [1.0, -2.0, 0.5]


def sharing():
    a = fnn.Input(3)
    h = fnn.Dense(3, name="h")(a)
    whole = fnn.Model(a, fnn.Dense(1, name="out")(h), seed=0)
    whole.compile("sgd", "mse")
    return whole, fnn.Model(a, h, seed=1)


def moves(model):
    before = model.get_weights("h")[0]
    model.train_on_batch(X, SCORE)
    return (model.get_weights("h")[0] != before).any()


def test_freezing_a_model_freezes_no_layer_of_another():
    whole, part = sharing()
    assert moves(whole)
    part.trainable = False
    assert whole.trainable and not part.trainable and not any(layer.trainable for layer in part.layers)
    assert moves(whole)
    whole.compile("sgd", "mse")
    assert moves(whole)
    # the layer's own flag, assigned later, holds everywhere
    whole.get_layer("h").trainable = False
    assert not moves(whole)
    part.trainable = True
    assert part.trainable and not moves(whole)
    whole.trainable = True
    assert moves(whole)


def test_freezing_the_whole_leaves_a_part_that_trains(tmp_path):
    whole, part = sharing()
    part.compile("sgd", "mse")
    whole.trainable = False
    before = part.get_weights()[0]
    part.train_on_batch(X, np.ones((200, 3)))
    assert (part.get_weights()[0] != before).any()
    # saved and copied as this model has it
    for twin in (copy.deepcopy(part), _saved(part, tmp_path / "m")):
        assert twin.trainable and not whole.trainable
    assert "frozen" not in fnn.model.inspection.summary(part._runtime, "part", 1)


def _saved(model, path):
    model.save(path)
    return fnn.load(path)


def test_a_frozen_batch_norm_is_frozen_in_its_model_alone():
    a = fnn.Input(3)
    norm = fnn.BatchNorm(name="h")(a)
    whole, part = fnn.Model(a, fnn.Dense(1)(norm), seed=0), fnn.Model(a, norm, seed=0)
    whole.compile(fnn.SGD(0.0), "mse")
    part.trainable = False
    whole.train_on_batch(X + 5.0, SCORE)
    assert (whole.get_weights("h")[2] != 0.0).all()


class Net(fnn.Sequential):
    """A subclass with attributes."""


class Graph(fnn.Model):
    """A subclass whose constructor takes other arguments."""

    def __init__(self, width):
        a = fnn.Input(3)
        super().__init__(a, fnn.Dense(1)(fnn.Dense(width)(a)), seed=0)
        self.width = width


COPIES = [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m))]


@pytest.mark.parametrize("how", COPIES, ids=["deepcopy", "copy", "pickle"])
@pytest.mark.parametrize("make", [lambda: Net([fnn.Input(3), fnn.Dense(1)], seed=0), lambda: Graph(2), lambda: Net()])
@pytest.mark.parametrize("compiled", [True, False])
def test_copies_of_a_subclass_keep_class_and_attributes(how, make, compiled):
    model = make()
    model.tag, model._hidden = ["v1"], {"a": 1}
    if compiled and model.built:
        model.compile("adam", "mse")
        model.fit(X, SCORE, verbose=0)
    twin = how(model)
    assert type(twin) is type(model) and twin.tag == ["v1"] and twin._hidden == {"a": 1}
    assert (twin.tag is model.tag) == (how is copy.copy)
    if model.built:
        np.testing.assert_array_equal(twin.predict(X), model.predict(X))
        assert twin.step == model.step


def test_the_librarys_attributes_are_no_subclasss():
    model = Net([fnn.Input(3), fnn.Dense(1)], seed=0)
    model.compile("adam", "mse")
    model.fit(X, SCORE, verbose=0)
    model.train_on_batch(X, SCORE)
    assert set(vars(model)) <= fnn.model.base.LIBRARY_ATTRIBUTES


@pytest.mark.parametrize("name", ["forward", "build"])
def test_methods_of_layers_that_are_never_called_are_refused(name):
    with pytest.raises(TypeError, match=rf"Mine\.{name} would never be called"):
        type("Mine", (fnn.layers.Layer,), {name: lambda self, x: x})


@pytest.mark.parametrize("name", ["train_step", "call", "forward", "compute_loss", "test_step"])
def test_methods_that_are_never_called_are_refused(name):
    for base in (fnn.Model, fnn.Sequential):
        with pytest.raises(TypeError, match=rf"Mine\.{name} would never be called"):
            type("Mine", (base,), {name: lambda self, x: x})


def test_an_unbuilt_model_that_an_earlier_version_pickled_is_refused():
    with pytest.raises(RuntimeError, match=r"pickled unbuilt, by an earlier version: make it from its layers"):
        Net().__setstate__({"seed": 0, "dtype": "float32", "_fitting": False, "_stack": []})
