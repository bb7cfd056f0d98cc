"""Gradient rules of ops with several outputs: a test adds such an op, and trains models through all its outputs."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
import fastnn as fnn
from fastnn import nopython as fnp
from fastnn.graph import rules
from fastnn.graph.gradients import differentiate
from fastnn.graph.graph import Graph
from fastnn.graph.meaning import ends
from fastnn.graph.ops import products
from fastnn.graph.ops.dense import bias_add, matmul
from fastnn.graph.ops.elementwise import activation, elementwise
from fastnn.graph.ops.moves import permute, reshape, take_rows
from fastnn.graph.ops.norms import layer_norm
from fastnn.graph.rewrite import from_logits
from fastnn.initializers import RandomNormal
from fastnn.layers.base import Layer, ParameterSpec

# y = x^2 of every element, and s = the sum of x^3 of every row
POWERS = """
import sys
import types

package = types.ModuleType("fastnn")
package.__path__ = [PATH]
sys.modules["fastnn"] = package
from fastnn.program import opcodes

opcodes.TABLE.define("powers", outputs="y?[rows,cols] s?[rows]", inputs="x[rows,cols]", dims="rows cols")
opcodes.TABLE.define("powers_grad", outputs="dx[rows,cols]", inputs="x[rows,cols] dy?[rows,cols] ds?[rows]",
                     dims="rows cols")
del sys.modules["fastnn"]

from dataclasses import dataclass

import numpy as np

import fastnn as fnn
from fastnn.backend.cpu.codegen.intrinsics import has, int64_pointer
from fastnn.backend.cpu.codegen.kernel import kernel
from fastnn.config import register
from fastnn.graph.rules import gradient_of_outputs
from fastnn.layers.base import Layer


@register("layer")
@dataclass(eq=False, repr=False)
class Powers(Layer):
    "A layer of the op."

    def output_shape(self, *shapes):
        return [shapes[0], (1,)]

    def apply(self, graph, inputs, weights, scope):
        (x,) = inputs
        return graph.add("powers", (x,), [(x.shape, True, "y"), ((1,), True, "s")], scope.label)


@gradient_of_outputs("powers")
def powers_rule(graph, node, dys, needs):
    return (graph.like("powers_grad", (*node.inputs, *dys), node.label),)


@kernel("powers")
def powers(kit, variant):
    Y, S, X, ROWS, COLS = kit.words("y s x rows cols")
    at, zero = kit.at, kit.real(0.0)

    def powers(record, context, ith, nth):
        rows, cols = int64_pointer(record)[ROWS] * (ith == 0), int64_pointer(record)[COLS]
        x = at(record, context, X)
        for i in range(rows * cols * has(record, Y)):
            at(record, context, Y)[i] = x[i] * x[i]
        for row in range(rows * has(record, S)):
            total = zero
            for i in range(row * cols, (row + 1) * cols):
                total += x[i] * x[i] * x[i]
            at(record, context, S)[row] = total

    return powers


@kernel("powers_grad")
def powers_grad(kit, variant):
    DX, X, DY, DS, ROWS, COLS = kit.words("dx x dy ds rows cols")
    at, zero, two, three = kit.at, kit.real(0.0), kit.real(2.0), kit.real(3.0)

    def powers_grad(record, context, ith, nth):
        rows, cols = int64_pointer(record)[ROWS] * (ith == 0), int64_pointer(record)[COLS]
        x, dx = at(record, context, X), at(record, context, DX)
        for i in range(rows * cols):
            slope = zero
            if has(record, DY):
                slope += two * x[i] * at(record, context, DY)[i]
            if has(record, DS):
                slope += three * x[i] * x[i] * at(record, context, DS)[i // cols]
            dx[i] = slope

    return powers_grad


def several(y, s):
    "Use both outputs several times."
    return fnn.Dense(2)(fnn.Concatenate()([y, s, fnn.Multiply()([y, y]), s]))


RNG = np.random.default_rng(0)
a = RNG.normal(size=(7, 3))
for use, gradients in (
    (lambda y, s: [y, s], ["dy", "ds"]), (lambda y, s: [y], ["dy"]), (lambda y, s: [s], ["ds"]),
    (lambda y, s: [several(y, s)], ["dy", "ds"]),
):
    x = fnn.Input(3)
    outputs = use(*Powers()(fnn.Dense(4, "tanh")(x)))
    net = fnn.Model(x, outputs, dtype="float64", seed=3)
    targets = [RNG.normal(size=(7, *each.shape)) for each in outputs]
    net.compile("sgd", ["mse"] * len(outputs))
    (record,) = [line for line in str(net.program).splitlines() if "powers_grad-float64" in line]
    assert [name for name in ("dy", "ds") if f" {name}=" in record] == gradients, record
    weights = net.get_weights()
    h = np.tanh(a @ weights[0] + weights[1])
    if len(weights) == 2:
        values = net.predict(a) if len(outputs) > 1 else [net.predict(a)]
        for got, expected in zip(values, use(h**2, (h**3).sum(axis=1, keepdims=True)), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-13)
    for number, found in enumerate(net.gradients(a, targets)):
        for index in np.ndindex(found.shape):
            losses = []
            for step in (1e-6, -1e-6):
                moved = [each.copy() for each in weights]
                moved[number][index] += step
                net.set_weights(moved)
                losses.append(net.evaluate(a, targets)["loss"])
            np.testing.assert_allclose(found[index], (losses[0] - losses[1]) / 2e-6, rtol=1e-6, atol=1e-9)
print("done")
"""


def test_models_train_through_all_outputs_of_an_op(tmp_path):
    script = tmp_path / "powers.py"
    script.write_text(POWERS.replace("PATH", repr(str(Path(fastnn.__file__).parent))))
    # kernels of other ops of these names must not be found; processes that help to compile would not know the ops
    environment = {**os.environ, "FASTNN_CACHE_DIR": str(tmp_path), "FASTNN_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.stdout == "done\n", done.stderr


def test_a_rule_gets_a_gradient_for_each_output_that_anything_depends_on(monkeypatch):
    given = []

    def rule(graph, node, dys, needs):
        given.extend(dys)
        return dys[:1]

    monkeypatch.setitem(rules.RULES, "three", rule)
    graph = Graph()
    x = graph.input((4,), "x")
    y = graph.add("three", (x,), [((4,), True, name) for name in "abc"], "three")
    once, first, second = (graph.input((4,), f"seed {i}") for i in range(3))
    found = differentiate(graph, (), [x], [(y[0], once), (y[2], first), (y[2], second)])
    assert given[:2] == [once, None] and found == {x.id: [once]}
    node = graph.producer(given[2])
    assert node.op == "add" and node.inputs == (first, second)


def test_outputs_without_a_gradient_are_named():
    graph = Graph()
    x = graph.input((4,), "x")
    layer_norm(graph, x, None, None, 1e-3, "norm")
    (node,) = graph.nodes
    seed = graph.input((), "seed")
    with pytest.raises(rules.NoGradientError, match=r"layer 'norm': 'norm.rstd' of 'layer_norm' has no gradient"):
        differentiate(graph, (), [x], [(node.outputs[2], seed)])


def test_moves_with_several_outputs_are_looked_through(monkeypatch):
    monkeypatch.setitem(rules.MOVES, "halves", lambda node, count: node.outputs[0].columns % count == 0)
    graph = Graph()
    x = graph.input((2, 4), "x")
    y = activation(graph, x, "sigmoid", (), "sigmoid")
    halves = graph.add("halves", (y,), [((2, 2), True, name) for name in "ab"], "halves")
    assert [end.op for end in ends(graph, halves[1])] == ["sigmoid"]
    logits, formula = from_logits(graph, halves[1], "binary_cross_entropy")
    assert formula == "binary_cross_entropy_logits"
    node = graph.producer(logits)
    assert node.op == "halves" and node.inputs == (x,) and logits is node.outputs[1]


@dataclass(eq=False, repr=False)
class OfWeights(Layer):
    """A layer that computes with its weights a (3,), b (3,), w (3, 3) and v (2, 9) before it uses them."""

    body: Callable[..., Any]

    def output_shape(self, *shapes):
        return shapes[0]

    def parameters(self, *shapes):
        sizes = {"a": (3,), "b": (3,), "w": (3, 3), "v": (2, 9)}
        return tuple(ParameterSpec(name, shape, RandomNormal()) for name, shape in sizes.items())

    def apply(self, graph, inputs, weights, scope):
        return self.body(graph, inputs[0], *weights)


def summed(graph, x, a, b, w, v):
    """The gradient of a + b is that of both; a is used again."""
    return bias_add(graph, bias_add(graph, x, elementwise(graph, "add", [a, b], "sum"), "one"), a, "two")


def used_by_products(graph, x, a, b, w, v):
    square = elementwise(graph, "multiply", [a, a], "square")
    return bias_add(graph, bias_add(graph, x, square, "one"), elementwise(graph, "multiply", [a, b], "product"), "two")


def tied(graph, x, a, b, w, v):
    """A product with w, and one with its transpose."""
    return matmul(graph, matmul(graph, x, w, "there"), permute(graph, w, (1, 0), "turned"), "back")


def reshaped(graph, x, a, b, w, v):
    """Both rows of v are matrices, and one is used twice."""
    first, second = (reshape(graph, take_rows(graph, v, i, 1, "row"), (3, 3), "matrix") for i in range(2))
    return matmul(graph, matmul(graph, matmul(graph, x, first, "one"), second, "two"), first, "three")


def one_row(graph, x, a, b, w, v):
    return matmul(graph, x, reshape(graph, take_rows(graph, v, 1, 1, "row"), (3, 3), "matrix"), "one")


def norm_and_bias(graph, x, a, b, w, v):
    """The gradients of a and b are two outputs of a record, to which that of the bias b is added."""
    return bias_add(graph, layer_norm(graph, x, a, b, 1e-3, "norm"), b, "bias")


def squared(graph, x, a, b, w, v):
    """The gradients of both factors are products that add up in one place."""
    return matmul(graph, x, products.matmul(graph, w, w, "square"), "one")


def turned(graph, x, a, b, w, v):
    turned_w = permute(graph, w, (1, 0), "turned")
    return matmul(graph, x, products.matmul(graph, turned_w, turned_w, "square"), "one")


def late(graph, x, a, b, w, v):
    """A bias that is computed after the product that it is added to."""
    y = matmul(graph, x, w, "one")
    return bias_add(graph, y, activation(graph, a, "tanh", (), "bias"), "one")


BODIES = [summed, used_by_products, tied, reshaped, one_row, norm_and_bias, squared, turned, late]


@pytest.mark.parametrize("body", BODIES)
def test_layers_compute_with_their_weights(body):
    x = fnn.Input(3)
    net = fnn.Model(x, OfWeights(body)(x), dtype="float64", seed=1)
    net.set_weights([each + 0.5 for each in net.get_weights()])
    net.compile("sgd", "mse")
    given, target = np.random.default_rng(0).normal(size=(2, 8, 3))
    weights = net.get_weights()
    for number, found in enumerate(net.gradients(given, target)):
        for index in np.ndindex(found.shape):
            losses = []
            for step in (1e-6, -1e-6):
                moved = [each.copy() for each in weights]
                moved[number][index] += step
                net.set_weights(moved)
                losses.append(net.evaluate(given, target)["loss"])
            assert found[index] == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-6, abs=1e-8)
    # steps do not see what earlier ones left in memory
    net.set_weights(weights)
    learner = net.learner()
    for rows in (1, 8):
        x, y = given[:rows], target[:rows]
        stepped = [w - 0.01 * g for w, g in zip(net.get_weights(), net.gradients(x, y), strict=True)]
        assert fnp.train_step(learner, x, y) == net.train_on_batch(x, y)["loss"]
        for got, wanted in zip(net.get_weights(), stepped, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-12)
        np.testing.assert_array_equal(learner.parameters, net._runtime.parameters.view(np.float64))
