"""`fastnn.testing.check_op`: right derivatives pass, and wrong ones are reported with their place."""

import math

import pytest
from test_custom import squared, squared_gradient

import fastnn as fnn
from fastnn.activations import Custom
from fastnn.testing import check_op

ACTIVATIONS = (
    "tanh", "relu", "gelu", "elu", "selu", "mish", "softsign", "exponential", "softmax", "log_softmax", "hard_sigmoid",
)  # fmt: skip
LOSSES = ("mse", "mae", "huber", "log_cosh", "bce", "cross_entropy", "hinge", "perceptron", "poisson", "kld")
LAYERS = (fnn.Dense(3, "tanh"), fnn.LayerNorm(), fnn.Dense(4, "gelu", use_bias=False), fnn.Flatten())


@pytest.mark.parametrize("op", [*ACTIVATIONS, *LOSSES, *LAYERS], ids=str)
def test_ours_are_right(op):
    found = check_op(op)
    assert found.error <= 1e-5 and found.at


def test_wrong_derivatives_are_found_where_they_are():
    def square(x):
        return x * x

    def nearly(x):
        return 2.0 * x + (0.01 if 1.0 < x < 1.1 else 0.0)

    with pytest.raises(AssertionError, match=r"square: the derivative is off by 0\.00\d+ at x = 1\.0"):
        check_op(Custom(square, gradient=nearly))
    check_op(Custom(square, gradient=nearly), low=-4.0, high=0.9)
    check_op(Custom(square, gradient=nearly), tolerance=0.1)
    with pytest.raises(AssertionError, match="off by 1 at"):
        check_op(Custom(lambda x: 1e-6 * x * x, gradient=lambda x: 0.0))
    check_op(Custom(lambda x: 1e8 + x, gradient=lambda x: 1.0))
    # what bends within a step is a matter of tolerance
    steep = Custom(lambda x: math.tanh(1000.0 * x) / 1000.0, gradient=lambda x: 1.0 - math.tanh(1000.0 * x) ** 2)
    check_op(steep, tolerance=1e-4)
    assert check_op(square).error < 1e-8 and check_op(squared).error < 1e-8
    check_op(fnn.losses.Custom(squared, gradient=squared_gradient))
    with pytest.raises(AssertionError, match=r"squared: the derivative is off by .* at target \d"):
        check_op(fnn.losses.Custom(squared, gradient=lambda t, p: 2.0 * (p - t) if t < 0.0 else p - t))
    check_op(fnn.losses.Custom(squared, gradient=lambda t, p: 2.0 * (p - t) if t < 0.0 else p - t), targets=[-1.0])
    with pytest.raises(AssertionError, match="off by nan"):
        check_op(lambda x: math.sqrt(x))
    with pytest.raises(ValueError, match="no gradient"):
        check_op("step")


def test_what_cannot_be_checked():
    with pytest.raises(TypeError, match="an activation, a loss or a layer"):
        check_op(3)
    with pytest.raises((TypeError, ValueError)):
        check_op("nothing")
    for layer in (fnn.BatchNorm(), fnn.Dropout(0.5)):
        with pytest.raises(TypeError, match="differently in training"):
            check_op(layer)
