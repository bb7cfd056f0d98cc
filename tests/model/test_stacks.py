"""Models inside a `Sequential`: shared weights, in every way of running, in files, pickles and compiled code."""

import copy
import pickle

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 6)).astype(np.float32)
Y = RNG.normal(size=(24, 3)).astype(np.float32)


def encoder(name="encoder"):
    layers = [fnn.Input(6), fnn.Dense(5, "tanh", name="first"), fnn.BatchNorm(), fnn.Dense(4, "tanh", name="code")]
    return fnn.Sequential(layers, seed=1, name=name)


def skipping(name="skipping"):
    """Return a model that is no chain."""
    x = fnn.Input(4)
    hidden = fnn.Dense(3, "relu")(x)
    return fnn.Model(x, fnn.Concatenate()([x, hidden]), seed=2, name=name)


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def trained(model):
    model.compile("adam", "mse")
    model.fit(X, Y, epochs=2, batch_size=7, verbose=0)
    return model


@pytest.mark.parametrize("start", [[], [fnn.Input(6)]])
def test_it_is_the_model_that_calls_its_parts_one_after_the_other(start):
    a, b = encoder(), skipping()
    stack = fnn.Sequential([*start, a, b, fnn.Dense(3)], seed=3)
    assert stack.built
    c, d = encoder(), skipping()
    x = fnn.Input(6)
    model = fnn.Model(x, fnn.Dense(3)(d(c(x))), seed=3)
    same(stack.get_weights(), model.get_weights())
    assert stack._architecture.labels == model._architecture.labels
    assert stack._runtime.table.nbytes == model._runtime.table.nbytes
    trained(stack), trained(model)
    same(stack.get_weights(), model.get_weights())
    same(stack.get_weights()[:8], a.get_weights())
    same(stack.get_weights("skipping"), b.get_weights())
    assert stack.get_layer("encoder") is a and stack.get_layer("skipping") is b
    kernel, bias = stack.get_weights("dense")
    np.testing.assert_allclose(stack.predict(X), b.predict(a.predict(X)) @ kernel + bias, rtol=1e-5, atol=1e-6)
    assert [layer.label for layer in stack.layers] == [layer.label for layer in model.layers]


def test_models_are_added_and_the_weights_stay():
    a = encoder()
    stack = fnn.Sequential([a], seed=3)
    same(stack.get_weights(), a.get_weights())
    trained(a.__class__([a, fnn.Dense(3)], seed=3))
    stack.add(fnn.Dense(3))
    stack.add(skipped := fnn.Sequential([fnn.Dense(2)], name="last"))
    assert skipped.built and stack.output_names == ("last",)
    same(stack.get_weights()[:8], a.get_weights())
    stack.compile("sgd", "mse")
    with pytest.raises(RuntimeError, match="only before compile"):
        stack.add(fnn.Dense(1))
    with pytest.raises(RuntimeError, match="other models are made of this one"):
        skipped.add(fnn.Dense(1))
    assert len(skipped.layers) == 1


def test_layers_are_added_to_a_model_that_was_built_by_a_shape():
    stack = fnn.Sequential([fnn.Dense(2)])
    stack.build(6)
    stack.add(fnn.Dense(3))
    assert stack.predict(X).shape == (24, 3)


def test_what_is_not_built_is_built_with_the_whole(capsys):
    inner = fnn.Sequential([fnn.Dense(4, "tanh"), fnn.Sequential([fnn.Dense(5)], name="core")], seed=1, name="inner")
    stack = fnn.Sequential([fnn.Dense(7), inner, fnn.Dense(3)], seed=2)
    stack.summary()
    shown = capsys.readouterr().out
    assert "inner/Dense" in shown and "inner/core/Dense" in shown and "not built" in shown
    assert not inner.built
    trained(stack)
    assert inner.built and inner._architecture.input_shapes == ((7,),)
    same(stack.get_weights("inner"), inner.get_weights())
    assert [label for label in stack._architecture.labels if "/" in label] == ["inner/dense", "inner/core/dense"]
    alone = fnn.Sequential([fnn.Dense(4, "tanh"), fnn.Sequential([fnn.Dense(5)], name="core")], seed=1)
    alone.build(7)
    fresh = fnn.Sequential([fnn.Dense(7), copy.deepcopy(alone), fnn.Dense(3)], seed=2)
    fresh.build(6)
    same(fresh.get_weights()[2:6], alone.get_weights())


def test_a_model_of_integers_takes_integers():
    inner = fnn.Sequential([fnn.OneHot(5), fnn.Flatten()], name="inner")
    stack = fnn.Sequential([inner, fnn.Dense(2)], seed=0)
    labels = RNG.integers(0, 5, (8, 3))
    out = stack.predict(labels)
    assert stack._architecture.takes_integers and out.shape == (8, 2)
    kernel, bias = stack.get_weights("dense")
    np.testing.assert_allclose(out, np.eye(5)[labels].reshape(8, 15) @ kernel + bias, rtol=1e-5, atol=1e-6)
    again = fnn.Sequential([inner, fnn.Dense(2)], seed=0)  # of a model that is built
    np.testing.assert_array_equal(again.predict(labels), out)


def test_freezing_belongs_to_the_whole():
    a = encoder()
    stack = fnn.Sequential([a, fnn.Dense(3)], seed=3)
    assert a.trainable and stack.trainable
    a.trainable = False
    frozen = fnn.Sequential([a, fnn.Dense(3)], seed=3)
    before = a.get_weights()
    trained(frozen)
    same(before[:2], a.get_weights()[:2])
    assert not a.trainable and frozen.trainable and stack.trainable
    trained(stack)
    assert (before[0] != a.get_weights()[0]).any()
    late = fnn.Sequential([fnn.Dense(6), a, fnn.Dense(3)])
    late.trainable = False
    a.trainable = True
    late.trainable = False
    assert a.trainable
    late.build(6)
    assert not late.trainable and a.trainable


@pytest.mark.parametrize("way", ["file", "pickle", "copy"])
def test_copies_have_the_same_parts(tmp_path, way):
    a, b = encoder(), skipping()
    stack = trained(fnn.Sequential([fnn.Input(6), a, fnn.Dropout(0.1), b, fnn.Dense(3)], seed=3, name="whole"))
    if way == "file":
        stack.save(tmp_path / "stack.safetensors")
        read = fnn.load(tmp_path / "stack.safetensors")
    else:
        read = pickle.loads(pickle.dumps(stack)) if way == "pickle" else copy.deepcopy(stack)
    assert type(read) is fnn.Sequential
    same(read.get_weights(), stack.get_weights())
    inner = read.get_layer("encoder")
    assert type(inner) is fnn.Sequential and inner is not a and type(read.get_layer("skipping")) is fnn.Model
    np.testing.assert_array_equal(read.predict(X), stack.predict(X))
    for model in (read, stack):
        model.fit(X, Y, epochs=1, verbose=0)
    same(read.get_weights(), stack.get_weights())
    same(read.get_weights("encoder"), inner.get_weights())
    assert [type(one) for one in read._stack] == [type(one) for one in stack._stack]


def test_what_is_loaded_can_grow(tmp_path):
    stack = fnn.Sequential([encoder(), skipping()], seed=3)
    stack.save(tmp_path / "stack.safetensors")
    read = fnn.load(tmp_path / "stack.safetensors")
    read.add(fnn.Dense(3))
    same(read.get_weights()[:10], stack.get_weights())
    assert read.predict(X).shape == (24, 3)


def test_unbuilt_stacks_are_pickled_with_their_models():
    a = encoder()
    stack = pickle.loads(pickle.dumps(fnn.Sequential([fnn.Dense(6), a, fnn.Dense(3)], seed=2)))
    trained(stack)
    assert (stack.get_weights("encoder")[0] != a.get_weights()[0]).any()


def test_compiled_code_has_copies():
    stack = trained(fnn.Sequential([encoder(), skipping(), fnn.Dense(3)], seed=3))
    out = np.empty((24, 3), np.float32)
    fnp.predict(stack.freeze(), X, out)
    np.testing.assert_array_equal(out, stack.predict(X))
    learner, other = stack.learner(), copy.deepcopy(stack)
    assert fnp.train_step(learner, X, Y) == other.train_on_batch(X, Y)["loss"]
    stack.update_from(learner)
    same(stack.get_weights(), other.get_weights())


def test_summary_names_the_models(capsys):
    fnn.Sequential([encoder(), fnn.Sequential([fnn.Dense(3)]), fnn.Sequential([fnn.Dense(2)])]).summary()
    shown = capsys.readouterr().out
    for name in ("encoder/code", "sequential/dense", "sequential_1/dense"):
        assert name in shown


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a: [a, a], "model 'encoder' is in the list twice; use fastnn.Model"),
        (lambda a: [a, fnn.Dense(6), fnn.Sequential([a])], "layer 'first' is in the list twice"),
        (lambda a: [a, a.layers[0]], "layer 'first' is in the list twice"),
        (
            lambda a: [a, skipping(), fnn.Dense(2), encoder("second")],
            r"model 'second': .* expects .* \(6,\), got \(2,\)",
        ),
        (lambda a: [several(2, 1)], "model 'several' takes several inputs: use fastnn.Model"),
        (lambda a: [fnn.Dense(2), several(1, 2)], "model 'several' gives several outputs: use fastnn.Model"),
        (lambda a: [a, fnn.Input(4)], "an Input must come first"),
        (lambda a: [a, fnn.Sequential()], "a Sequential needs at least one layer"),
    ],
)
def test_lists_that_are_no_stack_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        fnn.Sequential(make(encoder()))


def several(inputs, outputs):
    x = [fnn.Input(2) for _ in range(inputs)]
    return fnn.Model(x, [fnn.Dense(1)(x[0]) for _ in range(outputs)], name="several")


def test_other_errors():
    with pytest.raises(TypeError, match="expected a layer or a model, got 3"):
        fnn.Sequential([3])
    one, two = fnn.Sequential(name="one"), fnn.Sequential(name="two")
    one.add(two)
    for model in (one, two):
        with pytest.raises(ValueError, match=r"the model '\w+' cannot contain itself"):
            two.add(model)
    layer = fnn.Dense(3, name="layer")
    one.add(layer)
    two.add(layer)  # after it has become a part
    with pytest.raises(ValueError, match="layer 'layer' is in the list twice"):
        one.build(3)
    double = fnn.Sequential([fnn.Input(6), fnn.Dense(3)], dtype="float64", name="double")
    with pytest.raises(ValueError, match="model 'double' has the dtype float64, expected float32"):
        fnn.Sequential([double])


def test_files_in_which_a_model_lacks_layers_are_refused(tmp_path):
    from fastnn.saving import container
    from fastnn.saving.model_file import describe
    from fastnn.training.state import state_of

    tensors, document = describe(state_of(fnn.Sequential([encoder(), fnn.Dense(2)])), "Sequential", "stack")
    tensors = {
        **tensors,
        **{f"weights/code/{name}": tensors[f"weights/encoder/code/{name}"] for name in ("kernel", "bias")},
    }
    document["models"][0]["layers"].pop()  # the encoder's last layer becomes one of the whole
    document["architecture"]["layers"][3]["name"] = "code"
    container.write(tmp_path / "wrong", tensors, document)
    with pytest.raises(fnn.errors.ModelFileError, match="a chain of layers and models"):
        fnn.load(tmp_path / "wrong")
