"""First and second derivatives of ops, against differences of values and of first derivatives, in float64."""

import numpy as np
import pytest

from computed import Computed, check_derivatives, slopes, whole_at
from fastnn.formulas.activations import SAVES
from fastnn.graph.gradients import gradients
from fastnn.graph.graph import Graph
from fastnn.graph.ops import dense, elementwise, moves, norms
from fastnn.graph.ops.losses import loss
from fastnn.graph.ops.pointwise import pointwise
from fastnn.graph.ops.reductions import reduce
from fastnn.graph.ops.strided import stop_gradient
from fastnn.graph.rules import NoGradientError
from making import away

RNG = np.random.default_rng(1)
KINKS = {"relu": (0.0,), "relu6": (0.0, 6.0), "hard_sigmoid": (-3.0, 3.0), "leaky_relu": (0.0,), "elu": (0.0,),
         "selu": (0.0,), "softsign": (0.0,)}  # fmt: skip


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("formula", [name for name in SAVES if name not in ("linear", "step")])
def test_activations(formula, backend):
    parameters = (0.3,) if formula in ("leaky_relu", "elu") else ()
    values = away(*KINKS.get(formula, ()), spread=3.0)(RNG, (3, 5)) if formula in KINKS else RNG.normal(size=(3, 5))
    check_derivatives(
        lambda graph, x: elementwise.activation(graph, x, formula, parameters, "a"), [(True, (5,))], values=[values],
        backend=backend, step=1e-4, tolerance=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize("formula", ["softmax", "log_softmax"])
def test_activations_of_rows(formula):
    check_derivatives(lambda graph, x: elementwise.activation(graph, x, formula, (), "a"), [(True, (2, 4))])


def test_bias_and_dense():
    def layer(graph, x, w, b):
        y = dense.bias_add(graph, dense.matmul(graph, x, w, "d"), b, "d")
        return elementwise.activation(graph, y, "tanh", (), "d")

    check_derivatives(layer, [(True, (4,)), (False, (4, 3)), (False, (3,))])
    check_derivatives(layer, [(True, (2, 4)), (False, (4, 3)), (False, (3,))])


@pytest.mark.parametrize("op", ["add", "multiply"])
def test_sums_and_products_of_tensors(op):
    check_derivatives(
        lambda graph, a, b: elementwise.elementwise(graph, op, [a, b], "m"), [(True, (3, 4)), (True, (4,))]
    )


def test_moves_of_samples():
    def moved(graph, x):
        x = moves.permute(graph, moves.take_columns(graph, x, 1, 3, "m"), (1, 0), "m")
        x = moves.take_rows(graph, elementwise.activation(graph, x, "tanh", (), "m"), 1, 2, "m")
        return moves.concatenate(graph, [x, moves.reshape(graph, x, (2, 2), "m")], "m")

    check_derivatives(moved, [(True, (2, 5))])


@pytest.mark.parametrize("op", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(5,), (2, 4)])
def test_normalised_rows(op, affine, shape):
    def norm(graph, x, *weights):
        if op == "rms_norm":
            return norms.rms_norm(graph, x, *(weights[:1] or (None,)), 1e-3, "n")
        return norms.layer_norm(graph, x, *(weights or (None, None)), 1e-3, "n")

    weights = [(False, shape[-1:])] * (affine * (2 if op == "layer_norm" else 1))
    check_derivatives(norm, [(True, shape), *weights], tolerance=1e-6)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_normalised_columns(training, affine, shape):
    def norm(graph, x, mean, variance, *weights):
        return norms.batch_norm(
            graph, x, *(weights or (None, None)), (mean, variance), epsilon=1e-3, momentum=1.0, training=training,
            label="n",
        )  # fmt: skip

    given = [(True, shape), (False, (3,)), (False, (3,)), *([(False, (3,))] * (2 * affine))]
    values = [
        RNG.normal(size=(4, *shape)),
        RNG.normal(size=3),
        RNG.uniform(0.5, 2.0, 3),
        *RNG.normal(size=(2 * affine, 3)),
    ]
    wanted = [0, 3, 4][: 1 + 2 * affine]
    check_derivatives(norm, given, values=values, wanted=wanted, batch=4, tolerance=1e-6)


def test_dropout_and_noise():
    """The same elements are dropped from gradients of any order."""

    def dropped(graph, x):
        y = elementwise.dropout(graph, elementwise.activation(graph, x, "tanh", (), "d"), 0.4, 3, "d")
        return pointwise(graph, "square", [elementwise.gaussian_noise(graph, y, 0.1, 4, "n")], "d")

    check_derivatives(dropped, [(True, (6,))], seed=5)


LOSSES = {
    "mean_squared_error": (None, None), "log_cosh": (None, None), "poisson": ((0.5, 2.0), (0.0, 2.0)),
    "binary_cross_entropy": ((0.2, 0.8), (0.0, 1.0)), "binary_cross_entropy_logits": (None, (0.0, 1.0)),
    "kl_divergence": ((0.2, 0.8), (0.2, 0.8)), "cross_entropy": ((0.2, 0.8), (0.0, 1.0)),
    "cross_entropy_logits": (None, (0.0, 1.0)), "huber": (None, None), "mean_absolute_error": (None, None),
    "hinge": (None, None), "perceptron": (None, None), "poisson_logits": (None, (0.0, 2.0)),
}  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("formula", LOSSES)
def test_losses(formula, weighted):
    """A "loss" node and its gradient are differentiated through a formula."""
    ranges = [(-1.0, 1.0) if one is None else one for one in LOSSES[formula]]
    smoothing = 0.1 if "entropy" in formula else 0.3
    options = {"formula": formula, "parameters": (smoothing,), "row_mean": True, "loss_weight": 0.7, "label": "l"}

    def rows(graph, x, t, w):
        return loss(graph, x, t, w if weighted else None, **options)

    def dx(graph, x, t, w):
        rows(graph, x, t, w)
        return graph.nodes[-1].outputs[1]

    values = [RNG.uniform(*ranges[0], (3, 4)), RNG.uniform(*ranges[1], (3, 4)), RNG.uniform(0.5, 1.5, (3,))]
    given = [(True, (4,)), (True, (4,)), (True, ())]
    check_derivatives(rows, given, values=values, wanted=[0], step=1e-4, tolerance=1e-6)
    check_derivatives(dx, given, values=values, wanted=[0], step=1e-4, tolerance=1e-6, orders=1)
    # the node itself computes what the formula's gradient is
    graph = Graph()
    x, t, w = (graph.input(shape, name) for shape, name in (((4,), "x"), ((4,), "t"), ((), "w")))
    y = rows(graph, x, t, w)
    share = pointwise(graph, "multiply", [y, w], "s") if weighted else y
    total = pointwise(graph, "multiply", [reduce(graph, "mean", share, None, False, "s"), 0.7], "s")
    computed = Computed(graph, [*gradients(graph, total, [x], "g"), graph.producer(y).outputs[1]], [x, t, w], 3)
    got, expected = computed.run(dict(zip((x, t, w), values, strict=True)))
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_labels():
    for formula in ("cross_entropy", "cross_entropy_logits"):
        graph = Graph()
        x, t = graph.input((4,), "x"), graph.input((), "t", "int64")
        y = loss(graph, x, t, None, formula=formula, parameters=(0.1,), row_mean=False, loss_weight=1.0, label="l")
        (g,) = gradients(graph, reduce(graph, "mean", y, None, False, "l"), [x], "g")
        computed = Computed(graph, [g, graph.producer(y).outputs[1]], [x, t], 3)
        got, expected = computed.run({x: RNG.uniform(0.1, 0.9, (3, 4)), t: np.array([0, 3, 2])})
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_third_derivatives():
    graph = Graph()
    x = graph.input((4,), "x")
    y = elementwise.activation(graph, x, "tanh", (), "a")
    for order in range(3):
        (y,) = gradients(graph, y, [x], f"order {order + 1}")
    values = RNG.normal(size=(5, 4))
    (got,) = Computed(graph, [y], [x], 5).run({x: values})
    t = np.tanh(values)
    np.testing.assert_allclose(got, (1.0 - t**2) * (6.0 * t**2 - 2.0), rtol=1e-12, atol=1e-13)


def test_gradients_of_values_in_between():
    """A gradient counts all ways to y, also those through another x, and has the shape of its x."""
    graph = Graph()
    x, w = graph.input((3,), "x"), graph.parameter((3,), "w")
    h = pointwise(graph, "multiply", [x, w], "h")
    y = pointwise(graph, "add", [pointwise(graph, "square", [h], "y"), x], "y")
    found = gradients(graph, y, [x, w, h], "g")
    assert [g.whole for g in found] == [t.whole for t in (x, w, h)]
    a, b = RNG.normal(size=(5, 3)), RNG.normal(size=3)
    dx, dw, dh = Computed(graph, found, [x, w], 5).run({x: a, w: b})
    np.testing.assert_allclose(dx, 2.0 * a * b * b + 1.0, rtol=1e-12)
    np.testing.assert_allclose(dw, (2.0 * a * a * b).sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(dh, 2.0 * a * b, rtol=1e-12)


def test_what_y_does_not_depend_on():
    graph = Graph()
    x, other = graph.input((3,), "x"), graph.parameter((2,), "other")
    y = pointwise(graph, "square", [x], "y")
    with pytest.raises(ValueError, match=r"'y.square' does not depend on 'other' .x number 1.*unconnected"):
        gradients(graph, y, [x, other], "g")
    found = gradients(graph, y, [other], "g", unconnected="zeros")
    (zeros,) = Computed(graph, found, [x, other], 5).run({x: np.ones((5, 3)), other: np.ones(2)})
    np.testing.assert_array_equal(zeros, np.zeros(2))
    with pytest.raises(ValueError, match="'index' has integers, which have no gradient"):
        gradients(graph, y, [graph.input((), "index", "int64")], "g")
    with pytest.raises(ValueError, match=r"expected factors of shape \(B, 3\), got \(2,\)"):
        gradients(graph, y, [x], "g", dy=other)


def test_stopped_gradients():
    graph = Graph()
    x = graph.input((3,), "x")
    y = pointwise(graph, "multiply", [x, stop_gradient(graph, pointwise(graph, "square", [x], "y"), "s")], "y")
    values = RNG.normal(size=(5, 3))
    got, slope = Computed(graph, [y, *gradients(graph, y, [x], "g")], [x], 5).run({x: values})
    np.testing.assert_allclose(got, values**3, rtol=1e-12)
    np.testing.assert_allclose(slope, values**2, rtol=1e-12)
    with pytest.raises(ValueError, match="does not depend on 'x'"):
        gradients(graph, stop_gradient(graph, x, "s"), [x], "g")


def test_user_defined_functions_have_no_second_derivative():
    from fastnn import activations, losses

    graph = Graph()
    x, t = graph.input((3,), "x"), graph.input((3,), "t")
    custom = activations.get(lambda x: x * x * x)
    y = elementwise.activation(graph, x, custom.formula, (), "cubes")
    (first,) = gradients(graph, y, [x], "g")
    with pytest.raises(
        NoGradientError, match=r"layer 'cubes': the derivative of the user-defined activation .* has no deri"
    ):
        gradients(graph, first, [x], "g")
    own = losses.get(lambda p, t: (p - t) ** 4)
    loss(graph, x, t, None, formula=own.formula, parameters=(), row_mean=True, loss_weight=1.0, label="fourth")
    with pytest.raises(NoGradientError, match=r"layer 'fourth': the derivative of the user-defined loss .* has no"):
        gradients(graph, graph.nodes[-1].outputs[1], [x], "g")


def test_ops_without_a_rule_are_named():
    graph = Graph()
    x = graph.input((3,), "x")
    (y,) = graph.add("unheard_of", (x,), [((3,), True, "y")], "mine")
    with pytest.raises(NoGradientError, match="layer 'mine': 'unheard_of' has no gradient"):
        gradients(graph, y, [x], "g")


def test_models_train_on_gradients_of_their_inputs():
    """A gradient penalty: the loss has the squared gradient of the output for the input in it."""
    rng = np.random.default_rng(3)
    graph = Graph()
    x, w, v = graph.input((2,), "x"), graph.parameter((2, 5), "w"), graph.parameter((5, 1), "v")

    def network(a, kernel, out):
        h = elementwise.activation(graph, dense.matmul(graph, a, kernel, "h"), "softplus", (), "h")
        return dense.matmul(graph, h, out, "y")

    y = network(x, w, v)
    (slope,) = gradients(graph, y, [x], "inner")
    norm = reduce(graph, "sum", pointwise(graph, "square", [slope], "p"), -1, False, "p")
    penalty = reduce(
        graph,
        "mean",
        pointwise(graph, "square", [pointwise(graph, "subtract", [norm, 1.0], "p")], "p"),
        None,
        False,
        "p",
    )
    found = gradients(graph, penalty, [w, v], "outer")
    computed = Computed(graph, [penalty, *found], [x, w, v], 6)
    arrays = {t: rng.normal(size=whole_at(t, 6)) for t in (x, w, v)}

    def expected():
        a, kernel, out = arrays.values()
        gate = 1.0 / (1.0 + np.exp(-(a @ kernel)))
        return float(((((gate * out[:, 0]) @ kernel.T) ** 2).sum(axis=1) - 1.0).__pow__(2).mean())

    values = computed.run(arrays)
    assert values[0] == pytest.approx(expected(), rel=1e-12)

    for got, tensor in zip(values[1:], (w, v), strict=True):
        np.testing.assert_allclose(got, slopes(expected, arrays[tensor], 1e-4).reshape(got.shape), rtol=1e-7, atol=1e-8)
