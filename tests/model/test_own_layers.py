"""Layers made of ops: subclasses of Layer with `call`, and `layers.Function`."""

import copy
import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest

import fastnn as fnn
import fastnn.nopython as fnp
from fastnn import ops
from fastnn.config import register
from fastnn.layers.base import ParameterSpec

N = 19
rng = np.random.default_rng(8)
X = rng.normal(size=(N, 4))
Y = rng.normal(size=(N, 3))


@register("layer")
@dataclass(eq=False, repr=False)
class Bilinear(fnn.layers.Layer):
    """y = x + scale * (x @ w) * x, with a penalty of w."""

    scale: float = 0.5
    regularizer: str | None = None

    def parameters(self, *shapes):
        n = shapes[0][-1]
        make = fnn.initializers.get("glorot_uniform")
        return (ParameterSpec("w", (n, n), make, regularizer=fnn.regularizers.get(self.regularizer)),)

    def call(self, x, w):
        return x + self.scale * (x @ w) * x


@register("layer")
@dataclass(eq=False, repr=False)
class Apart(fnn.layers.Layer):
    """Two inputs, two outputs, other values in training."""

    arity = (2, 2)

    def call(self, a, b, training):
        return (a - b, ops.sum(a * b, axis=-1, keepdims=True)) if not training else (a + b, ops.sum(b, -1, True))


def unit(x):
    return x / ops.sqrt(1e-3 + ops.sum(ops.square(x), axis=-1, keepdims=True))


def noisy(x, training):
    return x + ops.random_normal(x.shape) if training else x


def np_bilinear(x, w, scale=0.5):
    return x + scale * (x @ w) * x


def build(dtype="float64", **options):
    model = fnn.Sequential(
        [fnn.Input(4), Bilinear(**options), fnn.layers.Function(unit), fnn.Dense(3)], seed=0, dtype=dtype
    )
    model.compile(fnn.Adam(0.01), "mse")
    return model


def forward(weights, x):
    h = np_bilinear(x, weights[0])
    h = h / np.sqrt(1e-3 + (h * h).sum(axis=1, keepdims=True))
    return h @ weights[1] + weights[2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_gradients(dtype):
    model = build(dtype)
    weights = [w.astype(np.float64) for w in model.get_weights()]
    assert [w.shape for w in weights] == [(4, 4), (4, 3), (3,)]
    tolerance = 1e-10 if dtype == "float64" else 2e-5
    for _ in range(3):  # the general path, and prepared calls
        np.testing.assert_allclose(model.predict(X), forward(weights, X), rtol=tolerance, atol=tolerance)
    if dtype == "float64":
        for index, found in enumerate(model.gradients(X, Y)):
            wanted = np.zeros_like(found)
            for at in np.ndindex(found.shape):
                value = weights[index][at]
                sides = []
                for step in (1e-6, -1e-6):
                    weights[index][at] = value + step
                    sides.append(((forward(weights, X) - Y) ** 2).mean())
                weights[index][at] = value
                wanted[at] = (sides[0] - sides[1]) / 2e-6
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9)


def test_files(tmp_path):
    path = tmp_path / "model.safetensors"
    model = build(scale=0.25)
    model.fit(X, Y, epochs=2, verbose=0)
    model.save(path)
    with pytest.raises(fnn.ModelFileError, match="unit"):
        fnn.load(path)
    loaded = fnn.load(path, custom_objects={"unit": unit})
    for one in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(one.predict(X), model.predict(X))
        assert one.layers[0].scale == 0.25
        assert one.evaluate(X, Y) == model.evaluate(X, Y)
    loaded.fit(X, Y, epochs=3, initial_epoch=2, verbose=0)
    model.fit(X, Y, epochs=3, initial_epoch=2, verbose=0)
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    assert repr(model.layers[0]) == "Bilinear(scale=0.25)" and repr(model.layers[1]) == "Function(function=unit)"


def test_names():
    model = build()
    assert [layer.name for layer in model.layers] == ["bilinear", "unit", "dense"]
    assert [layer.name for layer in fnn.Sequential([fnn.Input(3), fnn.layers.Function(lambda x: -x)]).layers] == [
        "function"
    ]


def test_regularizers():
    model = build(regularizer="l2")
    plain = build()
    plain.set_weights(model.get_weights())
    w = model.get_weights()[0]
    assert model.evaluate(X, Y)["loss"] == pytest.approx(plain.evaluate(X, Y)["loss"] + 0.01 * (w**2).sum(), rel=1e-10)
    difference = model.gradients(X, Y)[0] - plain.gradients(X, Y)[0]
    np.testing.assert_allclose(difference, 0.02 * w, rtol=1e-7, atol=1e-12)


def test_trainable():
    model = build()
    model.layers[0].trainable = False
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    assert np.abs(model.get_weights()[1] - before[1]).max() > 0


def test_several_inputs_and_outputs():
    a, b = fnn.Input(4), fnn.Input(4)
    first, second = Apart()([a, b])
    assert (first.shape, second.shape) == ((4,), (1,))
    model = fnn.Model([a, b], [first, second], dtype="float64")
    other = rng.normal(size=X.shape)
    found = model.predict([X, other])
    np.testing.assert_allclose(found[0], X - other)
    np.testing.assert_allclose(found[1], (X * other).sum(axis=1, keepdims=True))
    model.compile(fnn.SGD(0.0), "mae")
    trained = model.train_on_batch([X, other], [np.zeros((N, 4)), np.zeros((N, 1))])["loss"]
    assert trained == pytest.approx(np.abs(X + other).mean() + np.abs(other.sum(axis=1)).mean(), rel=1e-12)
    with pytest.raises(ValueError, match="takes 2 input"):
        Apart()(a)
    with pytest.raises(ValueError, match=r"takes 2 input\(s\), got 1"):
        fnn.layers.Function(lambda x, y: x + y)(a)


def test_random_values_are_new_in_each_step():
    model = fnn.Sequential([fnn.Input(4), fnn.layers.Function(noisy)], seed=1, dtype="float64")
    model.compile(fnn.SGD(0.0), "mse")
    np.testing.assert_array_equal(model.predict(X), X)
    losses = [model.train_on_batch(X, X)["loss"] for _ in range(4)]
    assert len(set(losses)) == 4 and all(0.3 < loss < 2.0 for loss in losses)
    again = fnn.Sequential([fnn.Input(4), fnn.layers.Function(noisy)], seed=1, dtype="float64")
    again.compile(fnn.SGD(0.0), "mse")
    assert [again.train_on_batch(X, X)["loss"] for _ in range(4)] == losses
    # two uses, and two ops in one function, have numbers of their own
    x = fnn.Input(4)
    layer = fnn.layers.Function(lambda x: (x * 0 + ops.random_normal(x.shape), ops.random_normal(x.shape) + 0 * x))
    several = fnn.Model(x, [*layer(x), *layer(x)], seed=0)
    found = several.predict(X)
    for i in range(4):
        for j in range(i):
            assert abs(np.corrcoef(found[i].ravel(), found[j].ravel())[0, 1]) < 0.5


def test_in_models_of_models(tmp_path):
    inner = build()
    x = fnn.Input(4)
    outer = fnn.Model(x, fnn.Dense(2)(inner(x)), seed=2, dtype="float64")
    outer.compile("adam", "mse")
    np.testing.assert_allclose(fnn.Model(x, inner(x), dtype="float64").predict(X), inner.predict(X))
    before = inner.get_weights()[0]
    outer.fit(X, Y[:, :2], verbose=0)
    assert np.abs(inner.get_weights()[0] - before).max() > 0
    path = tmp_path / "model.safetensors"
    outer.save(path)
    np.testing.assert_array_equal(fnn.load(path, custom_objects={"unit": unit}).predict(X), outer.predict(X))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_freezing(dtype):
    model = build(dtype)
    network, x = model.freeze(), X.astype(dtype)
    out = np.zeros((N, 3), dtype)
    fnp.predict(network, x, out)
    np.testing.assert_array_equal(out, model.predict(x))
    fnp.predict(network, x[0], out[0])
    np.testing.assert_allclose(out[0], model.predict(x[:1])[0], rtol=1e-5)
    learner, other = model.learner(), build(dtype)
    for n in (N, 1, 6):
        loss = fnp.train_step(learner, x[:n], Y[:n])
        assert loss == pytest.approx(other.train_on_batch(x[:n], Y[:n])["loss"], rel=1e-5)
    model.update_from(learner)
    for mine, others in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(mine, others, rtol=1e-4, atol=1e-6)


def test_threads_change_nothing():
    found, before = [], fnn.get_num_threads()
    try:
        for threads in (1, 2):
            fnn.set_num_threads(threads)
            model = build("float32")
            model.fit(np.tile(X, (40, 1)), np.tile(Y, (40, 1)), epochs=2, batch_size=256, verbose=0)
            found.append(model.get_weights())
    finally:
        fnn.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


# --- layers inside functions --------------------------------------------------------------------------------


def test_layers_without_weights_inside():
    drop, flat = fnn.Dropout(0.5), fnn.Flatten()

    def body(x):
        return drop(fnn.Activation("relu")(x)) + fnn.Add()([x, x]) + fnn.Reshape((4,))(flat(x))

    model = fnn.Sequential([fnn.Input(4), fnn.layers.Function(body)], seed=0, dtype="float64")
    np.testing.assert_allclose(model.predict(X), np.maximum(X, 0.0) + 3.0 * X)
    model.compile(fnn.SGD(0.0), "mse")
    losses = {model.train_on_batch(X, 3.0 * X)["loss"] for _ in range(3)}
    kept = 4.0 * np.maximum(X, 0.0) ** 2
    assert len(losses) == 3 and all(0.3 * kept.mean() / 2 < loss < kept.mean() for loss in losses)
    with pytest.raises(ValueError, match=r"Reshape.*3|3"):
        fnn.layers.Function(lambda x: fnn.Reshape((3,))(x))(fnn.Input(4))
    with pytest.raises(ValueError, match="takes at least 2"):
        fnn.layers.Function(lambda x: fnn.Add()([x]))(fnn.Input(4))


def test_layers_with_weights_inside():
    dense, inner = fnn.Dense(3), fnn.Sequential([fnn.Input(4), fnn.Dense(3)], name="inner")
    with pytest.raises(TypeError, match="'Dense' has weights, which a function of symbols cannot hold"):
        fnn.layers.Function(lambda x: dense(x))(fnn.Input(4))
    with pytest.raises(TypeError, match="model 'inner' has weights"):
        fnn.layers.Function(lambda x: inner(x))(fnn.Input(4))


# --- errors -------------------------------------------------------------------------------------------------


def wrong_shapes(x):
    y = x[:, :2]
    return ops.multiply(y, x)


def notes_of(error):
    return "\n".join(getattr(error.value, "__notes__", []))


def test_shape_errors_say_where():
    with pytest.raises(ValueError, match=r"multiply.*\(B, 2\).*\(B, 4\)") as found:
        fnn.layers.Function(wrong_shapes)(fnn.Input(4))
    assert "test_own_layers.py" in notes_of(found) and "return ops.multiply(y, x)" in notes_of(found)
    with pytest.raises(ValueError, match=r"multiply.*\(B, 2\).*\(B, 4\)") as found:
        x = fnn.Input(4)
        ops.multiply(x[:, :2], x)
    assert "test_own_layers.py" in notes_of(found)


outer = fnn.Input(4)


@pytest.mark.parametrize(
    ("function", "error", "match"),
    [
        (lambda x: 3 if x[0, 0] > 0 else x, TypeError, "neither true nor false.*ops.where"),
        (lambda x: x * float(x[0, 0]), TypeError, "no number now: use functions of fastnn.ops, not of `math`"),
        (lambda x: math.exp(x), TypeError, "no number now|must be real"),
        (lambda x: np.exp(x), TypeError, "ufunc|__array_ufunc__"),
        (lambda x: np.asarray(x), TypeError, "has no values yet"),
        (lambda x: x + outer, TypeError, "is a symbol from outside the function: give it as an argument"),
        (lambda x: None, TypeError, "returned None, expected the result of operators"),
        (lambda x: (x, "text"), TypeError, "returned 'text', expected"),
        (lambda x: outer, TypeError, "returned <Symbol"),
        (lambda x: [], TypeError, "returned no results"),
        (lambda x: len(x), TypeError, "has no length before the batch is known"),
        (lambda x: [y for y in x], TypeError, "cannot be iterated over"),
        (lambda x: ops.sum(x, axis=3), ValueError, "sum"),
        (lambda x: ops.sum(x, axes=1), TypeError, "ops.sum"),
        (lambda x: x + "a", TypeError, "expected a symbol, a number or an array of numbers, got 'a'"),
        (lambda x: x.mean(), AttributeError, r"no attribute 'mean': use fastnn.ops.mean\(x\)"),
    ],
)  # fmt: skip
def test_errors(function, error, match):
    with pytest.raises(error, match=match):
        fnn.layers.Function(function)(fnn.Input(4))


def test_other_errors():
    for given in (3, "relu", fnn.Dense):
        with pytest.raises(TypeError, match="function"):
            fnn.layers.Function(given)
    with pytest.raises(TypeError, match="would never be called"):

        class Wrong(fnn.layers.Layer):
            def build(self, shape):
                pass

    class Late(fnn.layers.Layer):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

    with pytest.raises(AttributeError, match=r"Late.factor cannot be added .*before super\(\).__init__\(\), or make"):
        Late(2.0)

    with pytest.raises(ValueError, match="outputs are batches"):
        x = fnn.Input(4)
        fnn.Model(x, fnn.layers.Function(lambda x: ops.mean(x))(x))


@pytest.mark.parametrize("layer", [fnn.Dense(3), fnn.Activation("relu"), fnn.Flatten(), fnn.LayerNorm()], ids=repr)
def test_layers_of_samples_take_no_sizes_that_depend_on_the_batch(layer):
    x = fnn.Input(3)
    with pytest.raises(ValueError, match=r"takes samples of a fixed size, got <Symbol \(None, B\) of"):
        layer(x @ x.T)
    with pytest.raises(ValueError, match=r"takes batches, got <Symbol \(2B, 3\) of"):
        layer(ops.concatenate([x, x], 0))
    with pytest.raises(ValueError, match=r"outputs are batches of samples of a fixed size, got <Symbol \(None, B\)"):
        fnn.Model(x, x @ x.T)
