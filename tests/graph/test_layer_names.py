"""Names of layers made without one."""

import copy
import pickle

import numpy as np
import pytest

import fastnn as fnn


def test_a_layer_has_the_name_that_summary_shows(capsys):
    layers = [fnn.Dense(3), fnn.Activation("relu"), fnn.Dense(4), fnn.Dense(1, name="head")]
    assert [layer.name for layer in layers] == [None, None, None, "head"]
    model = fnn.Sequential(layers)
    assert layers[0].name is None  # nothing is built yet
    model.build(2)
    assert [layer.name for layer in model.layers] == ["dense", "activation", "dense_1", "head"]
    model.summary()
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    for layer in model.layers:
        assert layer.name in shown
        assert model.get_layer(layer.name) is layer
        for one, other in zip(model.get_weights(layer), model.get_weights(layer.name), strict=True):
            np.testing.assert_array_equal(one, other)
    assert repr(layers[0]) == "Dense(units=3)" and repr(layers[3]) == "Dense(name='head', units=1)"


def test_names_are_numbered_in_the_order_of_the_graph():
    """As docs/keras.md says: the first of several that an output is made of has the first name."""
    x, made = fnn.Input(3), [fnn.Dense(1), fnn.Dense(1)]
    first, second = (layer(x) for layer in made)
    fnn.Model(x, fnn.Concatenate()([second, first]))
    assert [layer.name for layer in made] == ["dense_1", "dense"]


def test_weights_of_a_layer_object():
    hidden = fnn.Dense(3)
    model = fnn.Sequential([fnn.Input(2), hidden, fnn.Dense(1)], seed=0)
    kernel, bias = model.get_weights(hidden)
    assert kernel.shape == (2, 3) and bias.shape == (3,)
    model.set_weights([kernel + 1.0, bias], hidden)
    np.testing.assert_array_equal(model.get_weights()[0], kernel + 1.0)
    for wrong in (fnn.Dense(3), None, 0):
        with pytest.raises(ValueError, match="layer: expected a layer of this model"):
            model.get_weights(wrong)


def test_names_stay_in_other_models():
    """A layer keeps its name when it is used again, and two of one name from two models get different names."""
    x = fnn.Input(3)
    first, second = fnn.Dense(4), fnn.Dense(5)
    whole = fnn.Model(x, second(first(x)))
    tail = fnn.Sequential([fnn.Input(4), second, fnn.Dense(2)])
    assert [layer.name for layer in tail.layers] == ["dense_1", "dense"]
    assert [layer.name for layer in whole.layers] == ["dense", "dense_1"]
    assert whole.get_layer(second.name) is tail.get_layer(second.name) is second
    both = fnn.Sequential([fnn.Input(3), first, tail.layers[1]])
    assert len({layer.name for layer in both.layers}) == 2
    with pytest.raises(ValueError, match="two layers have the name 'a'"):
        fnn.Sequential([fnn.Input(3), fnn.Dense(2, name="a"), fnn.Dense(2, name="a")])
    # a given name goes before one that a model has given
    given = fnn.Sequential([fnn.Input(3), fnn.Dense(4, name="dense"), first])
    assert given.layers[0].name == "dense" and given.layers[1].name == "dense_1"


def test_add_copies_and_files(tmp_path):
    model = fnn.Sequential([fnn.Input(3)])
    for _ in range(3):
        model.add(fnn.Dense(2))
    names = ["dense", "dense_1", "dense_2"]
    assert [layer.name for layer in model.layers] == names
    model.save(tmp_path / "m.safetensors")
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fnn.load(tmp_path / "m.safetensors")):
        assert [layer.name for layer in other.layers] == names
    clones = [copy.deepcopy(model.layers[0]) for _ in range(2)]
    assert len({layer.name for layer in fnn.Sequential([fnn.Input(2), *clones]).layers}) == 2
    with pytest.raises(AttributeError, match="cannot be changed"):
        clones[0].name = "other"


LAYERS = [name for name in fnn.layers.__all__ if hasattr(getattr(fnn.layers, name), "output_shape")]


@pytest.mark.parametrize("name", LAYERS)
def test_help_of_a_layer_begins_with_an_example(name):
    text = getattr(fnn.layers, name).__doc__
    if name not in ("Layer", "InputLayer"):
        assert text.split("\n\n")[1].strip() == "::"
        assert "fnn." in text.split("\n\n")[2]


def test_help_of_models_begins_with_an_example():
    for cls, code in ((fnn.Sequential, "fnn.Sequential(["), (fnn.Model, "fnn.Model(x")):
        assert code in cls.__doc__.split("Parameters")[0]
    code = fnn.Model.__doc__.split("::")[1].split("Parameters")[0]
    names = {"fnn": fnn}
    exec("\n".join(line.strip() for line in code.splitlines()), names)
    assert names["model"].predict(np.zeros((2, 4), np.float32)).shape == (2, 1)
