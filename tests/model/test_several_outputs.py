"""Layers of users that have several outputs: in models, models of models, files, pickles and compiled code."""

import copy
import dataclasses
import pickle
from typing import ClassVar

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn.config import REGISTRY, register
from fastnn.graph.ops.dense import bias_add, matmul
from fastnn.graph.ops.elementwise import activation
from fastnn.initializers import GlorotUniform, Zeros
from fastnn.layers.base import Layer, ParameterSpec

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 6)).astype(np.float32)
Y = RNG.normal(size=(24, 1)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def _registered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REGISTRY, "layer", dict(REGISTRY["layer"]))
        register("layer")(Cell)
        yield


@dataclasses.dataclass(eq=False, repr=False)
class Cell(Layer):
    """A layer of three outputs: tanh(x w + b), x v, and relu(x w + b)."""

    units: int

    def output_shape(self, *shapes):
        (shape,) = shapes
        if len(shape) != 1:
            raise self.fail(f"takes rows, got {shape}")
        return [(self.units,), (1,), (self.units,)]

    def parameters(self, *shapes):
        return (
            ParameterSpec("w", (shapes[0][0], self.units), GlorotUniform()),
            ParameterSpec("b", (self.units,), Zeros()),
            ParameterSpec("v", (shapes[0][0], 1), GlorotUniform()),
        )

    def apply(self, graph, inputs, weights, scope):
        under = bias_add(graph, matmul(graph, inputs[0], weights[0], scope.label), weights[1], scope.label)
        return [
            activation(graph, under, "tanh", (), scope.label),
            matmul(graph, inputs[0], weights[2], scope.label),
            activation(graph, under, "relu", (), scope.label),
        ]


def computed(weights, x):
    """Return the outputs of `Cell`, by NumPy."""
    under = x.astype(np.float64) @ weights[0] + weights[1]
    return np.tanh(under), x @ weights[2], np.maximum(under, 0.0)


def gated(name="gated", dtype="float32"):
    """Return a model that uses two of the outputs, and calls the layer twice."""
    x = fnn.Input(6, name="x")
    cell = Cell(6, name="cell")
    first, gate, _ = cell(x)
    second, _, rest = cell(first)
    joined = fnn.Concatenate()([second, rest, gate])
    return fnn.Model(x, fnn.Dense(1, name="last")(joined), seed=1, dtype=dtype, name=name)


def test_calls_give_a_tuple_of_symbols():
    symbols = Cell(4, name="cell")(fnn.Input(6))
    assert isinstance(symbols, tuple)
    assert [symbol.shape for symbol in symbols] == [(4,), (1,), (4,)]
    assert repr(symbols[1]) == "<Symbol (None, 1) of cell[1]>"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_outputs_are_those_of_one_computation(dtype):
    model = gated(dtype=dtype)
    weights = [weight.astype(np.float64) for weight in model.get_weights("cell")]
    first, gate, _ = computed(weights, X)
    second, _, rest = computed(weights, first)
    kernel, bias = model.get_weights("last")
    expected = np.concatenate([second, rest, gate], 1) @ kernel + bias
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-4, atol=1e-5)
    assert model.count_params() == 6 * 6 + 6 + 6 + 13 + 1
    assert len(model.layers) == 3


def test_gradients_flow_through_all_outputs():
    model = gated(dtype="float64")
    model.compile("sgd", "mse")
    found, weights = model.gradients(X, Y), model.get_weights()
    rng = np.random.default_rng(1)
    for number, gradient in enumerate(found):
        direction, losses = rng.normal(size=gradient.shape), []
        for sign in (1, -1):
            moved = [weight + (sign * 1e-5 * direction if at == number else 0) for at, weight in enumerate(weights)]
            model.set_weights(moved)
            losses.append(model.evaluate(X, Y)["loss"])
        assert (gradient * direction).sum() == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-5, abs=1e-9)


def test_all_outputs_may_be_those_of_a_model():
    x = fnn.Input(6)
    model = fnn.Model(x, Cell(4, name="cell")(x), seed=0)
    assert model.output_names == ("cell", "cell_1", "cell_2")
    for found, expected in zip(model.predict(X), computed(model.get_weights(), X), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    model.compile("sgd", {"cell": "mse", "cell_2": "mae"})
    logs = model.evaluate(X, {"cell": np.zeros((24, 4)), "cell_1": None, "cell_2": np.zeros((24, 4))})
    tanh, _, rest = computed(model.get_weights(), X)
    assert logs["loss"] == pytest.approx((tanh**2).mean() + abs(rest).mean(), rel=1e-5)


def test_outputs_in_another_order_and_twice():
    x = fnn.Input(6)
    a, b, c = Cell(4, name="cell")(x)
    one, other = fnn.Model(x, [c, a], seed=0), fnn.Model(x, [b, b], seed=0)
    outputs = computed(one.get_weights(), X)
    for found, expected in zip(one.predict(X), (outputs[2], outputs[0]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for found in other.predict(X):
        np.testing.assert_allclose(found, outputs[1], rtol=1e-4, atol=1e-5)


def test_summary_lists_it(capsys):
    gated().summary()
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split("  ") for line in lines if line.startswith("cell")]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        ["cell", "Cell", "(None, 6), (None, 1), (None, 6)", "48", "x"],
        ["cell", "Cell", "(None, 6), (None, 1), (None, 6)", "shared", "cell[0]"],
    ]
    assert any("cell[0], cell[2], cell[1]" in line for line in lines)


@pytest.mark.parametrize("way", ["file", "pickle", "copy"])
def test_copies(tmp_path, way):
    model = gated()
    model.compile("adam", "mse")
    model.fit(X, Y, epochs=2, batch_size=7, verbose=0)
    if way == "file":
        model.save(tmp_path / "model")
        read = fnn.load(tmp_path / "model")
    else:
        read = pickle.loads(pickle.dumps(model)) if way == "pickle" else copy.deepcopy(model)
    assert read._architecture.calls == model._architecture.calls
    for one in (read, model):
        one.fit(X, Y, epochs=1, batch_size=7, verbose=0)
    for found, expected in zip(read.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_frozen_layer_stays():
    model = gated()
    model.get_layer("cell").trainable = False
    model.compile("adam", "mse")
    before = model.get_weights()
    model.fit(X, Y, epochs=1, verbose=0)
    changed = [(one != other).any() for one, other in zip(before, model.get_weights(), strict=True)]
    assert changed == [False, False, False, True, True]


def test_compiled_code_and_models_of_models(tmp_path):
    inner = gated("inner")
    x = fnn.Input(6)
    a, _, c = Cell(5, name="outer")(x)
    model = fnn.Model(x, fnn.Add()([inner(x), fnn.Dense(1)(fnn.Concatenate()([a, c]))]), seed=2)
    model.compile("adam", "mse")
    model.fit(X, Y, epochs=1, verbose=0)
    out = np.empty((24, 1), np.float32)
    fnp.predict(model.freeze(), X, out)
    np.testing.assert_array_equal(out, model.predict(X))
    learner, other = model.learner(), copy.deepcopy(model)
    assert fnp.train_step(learner, X, Y) == other.train_on_batch(X, Y)["loss"]
    model.save(tmp_path / "model")
    read = fnn.load(tmp_path / "model")
    np.testing.assert_array_equal(read.predict(X), model.predict(X))
    np.testing.assert_array_equal(read.get_layer("inner").predict(X), inner.predict(X))


@dataclasses.dataclass(eq=False, repr=False)
class Wrong(Layer):
    """A layer whose outputs are not what it says."""

    shapes: ClassVar[object] = [(2,), (3,)]
    kinds: ClassVar[object] = "real"
    given: ClassVar[object] = (0,)

    def output_shape(self, *shapes):
        return self.shapes

    def output_kind(self, *kinds):
        return self.kinds

    def apply(self, graph, inputs, weights, scope):
        return self.given if self.given != (0,) else [inputs[0]]


@pytest.mark.parametrize(
    ("attributes", "error", "message"),
    [
        ({"shapes": [[2], (3,)]}, TypeError, r"output_shape gave \[\[2\], \(3,\)\], expected a tuple of integers"),
        ({"shapes": None}, TypeError, "output_shape gave None"),
        ({"shapes": []}, ValueError, "has 0 outputs"),
        ({"kinds": ["real"]}, ValueError, "has 2 outputs and 1 kinds"),
        (
            {"shapes": ((6,), (6,))},
            ValueError,
            r"apply gave \[.*\], expected \[.*, .*\] from output_shape",
        ),
        ({"shapes": (3,)}, ValueError, r"apply gave \[\(\(6,\), 'real'\)\], expected \[\(\(3,\), 'real'\)\]"),
        ({"shapes": (3,), "given": None}, TypeError, "apply gave None, expected a tensor of the graph"),
    ],
)
def test_layers_that_break_their_word_are_refused(attributes, error, message):
    wrong = dataclasses.dataclass(eq=False, repr=False)(type("Broken", (Wrong,), attributes))
    x = fnn.Input(6)
    with pytest.raises(error, match=message):
        fnn.Model(x, wrong(name="wrong")(x)).predict(X)


def test_where_one_output_is_expected():
    x = fnn.Input(6)
    with pytest.raises(ValueError, match=r"takes 1 input\(s\), got 3"):
        fnn.Dense(1)(Cell(4)(x))
    with pytest.raises(ValueError, match=r"'cell' gives several outputs: use fastnn\.Model"):
        fnn.Sequential([fnn.Input(6), Cell(4, name="cell"), fnn.Dense(1)])
