"""User-defined functions in kernels of a simulated GPU, against the same models on the CPU."""

import math
import types

import numba
import numpy as np
import pytest

import fastnn as fnn
from fastnn.activations import Custom

WIDTH = 0.5
TABLE = np.array([1.0, 2.0])


@numba.njit
def snake(x):
    return x + math.sin(WIDTH * x) ** 2 / WIDTH


def snake_gradient(x):
    return 1.0 + math.sin(2.0 * WIDTH * x)


def squared(target, prediction):
    return (prediction - target) ** 2


def squared_gradient(target, prediction):
    return 2.0 * (prediction - target)


def descent(p, g, learning_rate, step):
    return p - learning_rate * g


def momentum(p, g, m, learning_rate, step, beta):
    m = beta * m - learning_rate * g
    return p + m, m


def adam(p, g, m, v, learning_rate, step):
    m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
    return p - learning_rate * m / (math.sqrt(v) + 1e-7), m, v


def amsgrad(p, g, m, v, highest, learning_rate, step):
    m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
    highest = max(highest, v)
    return p - learning_rate * m / (math.sqrt(highest) + 1e-7), m, v, highest


def train(layers, loss, optimizer, dtype="float32", device="cpu"):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 3)).astype(dtype), rng.standard_normal((12, 2)).astype(dtype)
    model = fnn.Sequential([fnn.Input(3), *layers()], seed=0, dtype=dtype, device=device)
    model.compile(optimizer(), loss)
    model.fit(x, y, batch_size=6, epochs=2, verbose=0)
    return model, model.predict(x)


def agree(layers, loss="mse", optimizer=lambda: fnn.SGD(0.05), dtype="float32"):
    (there, a), (here, b) = (train(layers, loss, optimizer, dtype, device) for device in ("cuda", "cpu"))
    tolerance = 2e-5 if dtype == "float32" else 1e-9
    for one, other in zip([a, *there.get_weights()], [b, *here.get_weights()], strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    assert not np.allclose(here.get_weights()[0], train(layers, loss, lambda: fnn.SGD(0.0), dtype)[0].get_weights()[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gradient", [snake_gradient, None], ids=["derivative", "differences"])
def test_activations(gradient, dtype):
    """In a product, in a separate layer, and in a chain of products that would be fused into one kernel."""
    mine = Custom(snake, gradient=gradient)
    agree(lambda: [fnn.Dense(4, mine), fnn.Dense(4, "relu"), fnn.Activation(mine), fnn.Dense(2)], dtype=dtype)


@pytest.mark.parametrize("gradient", [squared_gradient, None], ids=["derivative", "differences"])
def test_losses(gradient):
    agree(lambda: [fnn.Dense(2)], fnn.losses.Custom(squared, gradient=gradient))


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: fnn.optimizers.Custom(descent, 0.1, weight_decay=0.1, clipnorm=0.2),
        lambda: fnn.optimizers.Custom(momentum, 0.05, state={"m": 0.0}, hyperparameters={"beta": 0.9}),
        lambda: fnn.optimizers.Custom(adam, 0.01, state={"m": 0.0, "v": 0.0}),
        lambda: fnn.optimizers.Custom(amsgrad, 0.01, state={"m": 0.0, "v": 0.0, "highest": 0.0}),
    ],
    ids=["descent", "momentum", "adam", "amsgrad"],
)
def test_optimizers(optimizer):
    agree(lambda: [fnn.Dense(3, "tanh"), fnn.Dense(2)], optimizer=optimizer)


@numba.njit
def table_look_up(x):
    return x * TABLE[1]


def called(x):
    return table_look_up(x) + 1.0


def raising(x):
    if x > 3.0:
        raise ValueError("too large")
    return x


def nested(x):
    def inner(z):
        return (lambda u: u * TABLE[0])(z)

    return inner(x)


def through_a_lambda(x):
    return (lambda z: table_look_up(z))(x)


HELPERS = types.ModuleType("helpers")
HELPERS.look_up = table_look_up
HELPERS.clip = numba.njit(lambda x: min(max(x, -1.0), 1.0))


def through_a_module(x):
    return HELPERS.look_up(x)


def clip(x):
    raise ValueError


def names_of_modules(x):
    """Use a module's function; a global one of the same name is a different one."""
    return HELPERS.clip(x) + x


def rows(x, y):
    y[:] = x


def test_functions_of_modules():
    agree(lambda: [fnn.Dense(2, Custom(names_of_modules))])


@pytest.mark.parametrize(
    "layer, match",
    [
        (lambda: fnn.Dense(2, Custom(table_look_up)), "'table_look_up' is user-defined and indexes"),
        (lambda: fnn.Activation(Custom(called)), "'called' is user-defined and indexes"),
        (lambda: fnn.Activation(Custom(snake, gradient=table_look_up, name="f")), "'f' is user-defined and indexes"),
        (lambda: fnn.Activation(Custom(through_a_lambda)), "'through_a_lambda' is user-defined and indexes"),
        (lambda: fnn.Activation(Custom(through_a_module)), "'through_a_module' is user-defined and indexes"),
        (lambda: fnn.Activation(Custom(raising)), "'raising' is user-defined and may raise"),
        (lambda: fnn.Activation(Custom(nested)), "'nested' is user-defined and indexes"),
        (lambda: fnn.layers.Custom(rows, 3), "'rows' is user-defined and takes arrays"),
    ],
)
def test_what_a_kernel_cannot_do_is_refused(layer, match):
    """A GPU checks no index and raises no exception."""
    model = fnn.Sequential([fnn.Input(3), layer()], seed=0)
    x = np.ones((2, 3), np.float32)
    before = model.predict(x)
    with pytest.raises(NotImplementedError, match=f"{match}.*use to\\('cpu'\\)"):
        model.predict(x, device="cuda")
    np.testing.assert_array_equal(model.predict(x), before)
