"""Derivatives of custom functions without a gradient: near poles, at the ends of domains, and where they are smooth."""

import math

import numpy as np
import pytest

import fastnn as fnn
from fastnn.activations import Custom
from fastnn.formulas import differences
from fastnn.testing import check_op


def log_loss(t, p):
    return -(t * math.log(p) + (1.0 - t) * math.log(1.0 - p))


def model_of(loss, bias, activation="sigmoid", dtype="float32"):
    model = fnn.Sequential([fnn.Input(4), fnn.Dense(1, activation)], seed=0, dtype=dtype)
    model.compile("sgd", loss)
    model.set_weights([np.zeros((4, 1)), np.array([bias])])
    return model


@pytest.mark.parametrize("logit", [-60.0, -30.0, -16.0, -12.5, -11.0, -8.0, -1.0, 0.0, 3.0, 8.0, 11.0, 14.0])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_log_loss_is_that_of_its_logit(logit, target):
    model = model_of(log_loss, logit)
    gradient = model.gradients(np.ones((8, 4)), np.full((8, 1), target))[1]
    # float32 has saturated for large logits: the gradient in p is exact, that of the sigmoid is p - p^2
    p = float(model.predict(np.ones((1, 4)))[0, 0])
    expected = (p - target) / (p - p * p) * (p - np.float32(p) ** 2)
    assert gradient == pytest.approx([expected], rel=1e-2)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("place", [-np.inf, np.inf, np.nan])
def test_there_is_no_slope_where_no_step_can_be_taken(place):
    derivative = differences.make(lambda function: function, lambda given, x: x * x)
    assert np.isnan(derivative((), place))


@pytest.mark.parametrize("p", [1e-30, 1e-12, 4e-6, 1.7e-5, 1e-3, 0.5, 1.0 - 1e-3, 1.0 - 4e-6, 1.0 - 1e-12])
def test_slopes_near_poles_in_float64(p):
    model = fnn.Sequential([fnn.Input(1), fnn.Flatten()], dtype="float64")
    for t in (0.0, 0.3, 1.0):
        model.compile("sgd", log_loss)
        found = model.input_gradients(np.array([[p]]), np.array([[t]]))
        assert found.item() == pytest.approx(-t / p + (1.0 - t) / (1.0 - p), rel=1e-3)


FUNCTIONS = {
    "log": (math.log, lambda x: 1.0 / x, [1e-300, 1e-20, 1e-6, 7e-6, 8e-6, 1.0, 1e6]),
    "root": (math.sqrt, lambda x: 0.5 / math.sqrt(x), [1e-20, 1e-6, 8e-6, 1.0, 1e6]),
    "inverse": (lambda x: 1.0 / x, lambda x: -1.0 / x**2, [1e-20, 1e-6, -8e-6, 1.0, 1e6]),
    "steep": (lambda x: math.tanh(1e6 * x), lambda x: 1e6 / math.cosh(1e6 * x) ** 2, [0.0, 1e-7, 1e-6, -1e-6]),
    "smooth": (math.exp, math.exp, [-1.0, 1e-12, 0.0, 1e-6, 1.0, 20.0]),
    "flat": (lambda x: 1.0 + x * x, lambda x: 2.0 * x, [0.0, 0.1, 1.0, 1e3]),
    "wave": (math.sin, math.cos, [0.0, 1.0, 0.5 * math.pi, 1e3]),
    "kink": (abs, lambda x: (x > 0.0) - (x < 0.0), [0.0, 1e-9, -1e-6, 1e-5, 3.0]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_scalar_functions(name):
    function, slope, places = FUNCTIONS[name]

    def value(given, x):
        try:
            return function(x)
        except (ValueError, ZeroDivisionError):
            return math.nan

    derivative = differences.make(lambda each: each, value)
    for x in places:
        assert derivative((), x) == pytest.approx(slope(x), rel=1e-3, abs=1e-9), x


def test_one_side_at_the_end_of_a_domain():
    def value(given, x):
        return x**1.5 + 3.0 * x if x >= 0.0 else math.nan

    def mirrored(given, x):
        return -value(given, -x)

    for function in (value, mirrored):
        assert differences.make(lambda each: each, function)((), 0.0) == pytest.approx(3.0, rel=1e-3)
    jump = differences.make(lambda each: each, lambda given, x: 1.0 if x > 0.0 else 0.0)
    assert jump((), 0.0) == 0.0
    assert jump((), 1e-9) == 0.0


def test_activations_and_layers_near_a_pole():
    def logs(x, y):
        for unit in range(len(y)):
            y[unit] = math.log(x[unit])

    x = np.array([[1e-20, 4e-6, 0.5], [1.7e-5, 1e-3, 2.0]])
    for layer in (fnn.layers.Activation(Custom(lambda x: math.log(x))), fnn.layers.Custom(logs, 3)):
        net = fnn.Sequential([fnn.Input(3), layer], dtype="float64").freeze(gradients=True)
        found = np.empty_like(x)
        fnn.nopython.input_gradient(net, x, np.ones_like(x), found)
        assert found == pytest.approx(1.0 / x, rel=1e-3)


def test_poor_derivatives_are_named():
    loss = fnn.losses.Custom(log_loss, gradient=lambda t, p: (p - t) / (p * (1.0 - p)))
    for low, high in ((0.0, 1.0), (0.0, 1e-4), (1.0 - 1e-4, 1.0)):
        assert check_op(loss, low=low, high=high, targets=[0.0, 0.3, 1.0]).error < 1e-5
        assert check_op(log_loss, low=low, high=high, targets=[0.0, 0.3, 1.0]).error < 1e-4
    wrong = fnn.losses.Custom(log_loss, gradient=lambda t, p: -t / p)
    with pytest.raises(AssertionError, match="the derivative is off by"):
        check_op(wrong, low=0.0, high=1e-4, targets=[0.0, 1.0])
    with pytest.raises(AssertionError, match="off by nan"):
        check_op(log_loss, targets=[0.0, 1.0])
