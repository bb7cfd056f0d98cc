"""User-defined functions in networks: activations, losses, optimizers."""

import copy
import enum
import math
import multiprocessing
import os
import pickle
import subprocess
import sys
import types
from pathlib import Path

import numba
import numpy as np
import pytest
from numba import njit

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn.activations import Custom
from fastnn.formulas import custom

RNG = np.random.default_rng(3)
WIDTH = 0.5


@njit
def snake(x):
    return x + math.sin(WIDTH * x) ** 2 / WIDTH


def snake_gradient(x):
    return 1.0 + math.sin(2.0 * WIDTH * x)


def squared(target, prediction):
    return (prediction - target) ** 2


def squared_gradient(target, prediction):
    return 2.0 * (prediction - target)


def adam(p, g, m, v, learning_rate, step, beta_1, beta_2, epsilon):
    m = beta_1 * m + (1.0 - beta_1) * g
    v = beta_2 * v + (1.0 - beta_2) * g * g
    rate = learning_rate * math.sqrt(1.0 - beta_2**step) / (1.0 - beta_1**step)
    return p - rate * m / (math.sqrt(v) + epsilon), m, v


def descent(p, g, learning_rate, step):
    return p - learning_rate * g


def momentum(p, g, m, learning_rate, step, beta):
    m = beta * m - learning_rate * g
    return p + m, m


def amsgrad(p, g, m, v, highest, learning_rate, step):
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    highest = max(highest, v)
    rate = learning_rate * math.sqrt(1.0 - 0.999**step) / (1.0 - 0.9**step)
    return p - rate * m / (math.sqrt(highest) + 1e-7), m, v, highest


def build(activation="tanh", loss="mse", optimizer="adam", dtype="float32"):
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(9, activation=activation), fnn.Dense(2)], dtype=dtype, seed=1)
    model.compile(optimizer, loss)
    return model


def data(dtype="float32", n=20):
    return RNG.normal(size=(n, 3)).astype(dtype), RNG.normal(size=(n, 2)).astype(dtype)


def weights_of(model):
    return np.concatenate([w.ravel() for w in model.get_weights()])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_activation(dtype):
    x, y = data(dtype)
    with_gradient, without = build(Custom(snake, gradient=snake_gradient), dtype=dtype), build(snake, dtype=dtype)
    w, b, v, c = with_gradient.get_weights()
    z = x.astype(np.float64) @ w + b
    wanted = (z + np.sin(WIDTH * z) ** 2 / WIDTH) @ v + c
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for model in (with_gradient, without):
        np.testing.assert_allclose(model.predict(x), wanted, rtol=tolerance, atol=tolerance)
        out = np.empty_like(y)
        fnp.predict(model.freeze(), x, out)
        assert out.tobytes() == model.predict(x).tobytes()
    for one, other in zip(with_gradient.gradients(x, y), without.gradients(x, y), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5 if dtype == "float32" else 1e-9, atol=1e-7)
    before = without.evaluate(x, y)["loss"]
    without.fit(x, y, epochs=20, verbose=0)
    assert without.evaluate(x, y)["loss"] < before
    np.testing.assert_allclose(Custom(snake)(x), x + np.sin(WIDTH * x.astype(np.float64)) ** 2 / WIDTH, rtol=1e-6)
    assert Custom(snake)(x).dtype == dtype
    bias = np.ones(3, dtype)
    product = fnn.matmul(x, np.eye(3, dtype=dtype), bias=bias, activation=Custom(snake))
    np.testing.assert_allclose(product, Custom(snake)(x + bias), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mean", [True, False])
def test_a_loss(dtype, mean):
    x, y = data(dtype)
    weight = RNG.uniform(0.5, 2.0, len(x))
    factor = 1.0 if mean else 2.0  # columns
    reference = build(dtype=dtype)
    reference.compile("sgd", "mse", loss_weights=factor)
    for gradient in (squared_gradient, None):
        model = build(loss=fnn.losses.Custom(squared, gradient=gradient, row_mean=mean), dtype=dtype)
        tolerance = 1e-6 if dtype == "float32" else 1e-9
        assert model.evaluate(x, y)["loss"] == pytest.approx(factor * reference.evaluate(x, y)["loss"] / factor)
        for given in (None, weight):
            found, wanted = model.gradients(x, y, given), reference.gradients(x, y, given)
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
        assert model._objective.losses[0](y, model.predict(x)) == pytest.approx(model.evaluate(x, y)["loss"], rel=1e-5)
    assert build(loss=squared).evaluate(x, y)["loss"] > 0


OPTIMIZERS = [
    (fnn.optimizers.Custom(descent, 0.1), fnn.SGD(0.1)),
    (fnn.optimizers.Custom(descent, 0.1, weight_decay=0.1, clipnorm=0.2), fnn.SGD(0.1, weight_decay=0.1, clipnorm=0.2)),
    (fnn.optimizers.Custom(descent, fnn.schedules.CosineDecay(0.1, 20)), fnn.SGD(fnn.schedules.CosineDecay(0.1, 20))),
    (
        fnn.optimizers.Custom(momentum, 0.05, state={"m": 0.0}, hyperparameters={"beta": 0.9}),
        fnn.SGD(0.05, momentum=0.9),
    ),
    (
        fnn.optimizers.Custom(
            adam, 0.01, state={"m": 0.0, "v": 0.0}, hyperparameters={"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
        ),
        fnn.Adam(0.01),
    ),
    (fnn.optimizers.Custom(amsgrad, 0.01, state={"m": 0, "v": 0, "highest": 0}), fnn.Adam(0.01, amsgrad=True)),
]


@pytest.mark.parametrize(("users", "ours"), OPTIMIZERS, ids=lambda one: type(one).__name__ + one.formula[:10])
def test_an_optimizer(users, ours, tmp_path):
    x, y = data("float64", 24)
    models = [build(optimizer=copy.deepcopy(each), dtype="float64") for each in (users, ours)]
    for model in models:
        model.fit(x, y, batch_size=5, epochs=3, verbose=0)
    np.testing.assert_allclose(weights_of(models[0]), weights_of(models[1]), rtol=1e-10)
    learner = models[0].learner(steps=3)
    for _ in range(3):
        assert fnp.train_step(learner, x, y) == models[0].train_on_batch(x, y)["loss"]
    np.testing.assert_array_equal(learner.parameters, models[0]._runtime.parameters.view(np.float64))
    models[0].save(tmp_path / "m.safetensors")
    with pytest.raises(fnn.ModelFileError, match="custom_objects"):
        fnn.load(tmp_path / "m.safetensors")
    again = fnn.load(tmp_path / "m.safetensors", custom_objects={users.name: users})
    for model in (models[0], again):
        model.fit(x, y, batch_size=5, epochs=1, verbose=0)
    assert weights_of(again).tobytes() == weights_of(models[0]).tobytes()


def test_initial_state():
    def slow(p, g, seen, learning_rate, step):
        return p - learning_rate * g / seen, seen + 1.0

    x, y = data("float64")
    model = build(optimizer=fnn.optimizers.Custom(slow, 1.0, state={"seen": 4.0}), dtype="float64")
    before, gradients = model.get_weights(), model.gradients(x, y)
    model.train_on_batch(x, y)
    for old, gradient, new in zip(before, gradients, model.get_weights(), strict=True):
        np.testing.assert_allclose(new, old - gradient / 4.0, rtol=1e-12)


def test_saved_models_name_functions(tmp_path):
    x, y = data()
    model = build(Custom(snake, gradient=snake_gradient), fnn.losses.Custom(squared, name="mine"))
    model.fit(x, y, epochs=1, verbose=0)
    path = tmp_path / "m.safetensors"
    model.save(path)
    for given, missing in (({}, "snake"), ({"snake": snake}, "mine"), ({"mine": squared}, "snake")):
        with pytest.raises(fnn.ModelFileError, match=f"the user-defined function '{missing}'.*custom_objects"):
            fnn.load(path, custom_objects=given)
    with pytest.raises(fnn.ModelFileError, match="expected a function of one number"):
        fnn.load(path, custom_objects={"snake": squared, "mine": squared})
    with pytest.raises(TypeError, match="custom_objects"):
        fnn.load(path, custom_objects=[snake])
    again = fnn.load(path, custom_objects={"snake": Custom(snake, gradient=snake_gradient), "mine": squared})
    assert again.predict(x).tobytes() == model.predict(x).tobytes()
    for one in (model, again):
        one.fit(x, y, epochs=2, verbose=0)
    np.testing.assert_allclose(weights_of(again), weights_of(model), rtol=1e-6)
    only = fnn.load(path, compile=False, custom_objects={"snake": snake})
    assert not only._objective


def test_two_functions_of_one_name(tmp_path):
    first, second = Custom(lambda x: x * 2.0, name="same"), Custom(lambda x: x * 3.0, name="same")
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(2, activation=first), fnn.Dense(2, activation=second)], seed=0)
    copy.deepcopy(first)
    with pytest.raises(ValueError, match="two functions have the name 'same'"):
        pickle.dumps(model)


def test_copies_and_pickles():
    x, y = data()
    model = build(snake, squared, fnn.optimizers.Custom(momentum, state={"m": 0.0}, hyperparameters={"beta": 0.5}))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        one = copy.deepcopy(model)
        for each in (one, other):
            each.fit(x, y, epochs=2, verbose=0)
        assert weights_of(one).tobytes() == weights_of(other).tobytes()
    learner = pickle.loads(pickle.dumps(model.learner()))
    assert fnp.train_step(learner, x, y) == model.train_on_batch(x, y)["loss"]
    model.update_from(learner)


def _predict_and_train(model, net, learner, x, y):
    out = np.empty_like(y)
    fnp.predict(net, x, out)
    fnp.train_step(learner, x, y)
    return model.predict(x), out, learner


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    x, y = data()
    # a function that is no attribute of a module travels with the network
    net = build(lambda z: z * 0.25 + math.tanh(z)).freeze()
    model = build(snake, squared)
    with multiprocessing.get_context(method).Pool(1) as pool:
        # what cannot be unpickled kills the child, and the pool says nothing
        predicted, out, learner = pool.apply_async(_predict_and_train, (model, net, model.learner(), x, y)).get(300)
    assert predicted.tobytes() == model.predict(x).tobytes()
    here = np.empty_like(y)
    fnp.predict(net, x, here)
    assert out.tobytes() == here.tobytes()
    model.train_on_batch(x, y)
    assert learner.parameters.tobytes() == model._runtime.parameters.tobytes()


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "tanh", "erf"])
def test_elementary_functions(name):
    exact = np.vectorize(getattr(math, name))
    x = np.linspace(0.1, 3.0, 301).astype(np.float32)[:, None]
    wanted = exact(x.astype(np.float64)) + np.pi
    sources = [f"import math\ndef f(x):\n    return math.{name}(x) + math.pi"]
    sources.append(f"from math import {name}, pi\ndef f(x):\n    return {name}(x) + pi")
    if name != "erf":
        sources.append(f"import numpy as np\ndef f(x):\n    return np.{name}(x) + np.float32(np.pi)")
    for source in sources:
        names: dict = {}
        exec(source, names)
        model = fnn.Sequential([fnn.Input(1), fnn.Activation(Custom(names["f"]))], seed=0)
        np.testing.assert_allclose(model.predict(x), wanted, rtol=4e-7, atol=5e-7)
        double = fnn.Sequential([fnn.Input(1), fnn.Activation(Custom(names["f"]))], dtype="float64")
        np.testing.assert_allclose(double.predict(x.astype(np.float64)), wanted, rtol=2e-7)


def test_the_same_function_is_known_again():
    def make(factor, source="def f(x):\n    return helper(x) * factor + table[1] + module.shift"):
        module = types.ModuleType("module")
        module.shift = factor + 1.0
        names = {"factor": factor, "table": (1.0, 2.0), "module": module}
        exec("def helper(x):\n    return x + 1.0", names)
        names["helper"] = njit(names["helper"])
        exec(source, names)
        return names["f"]

    key = custom.make("f", make(2.0)).key
    assert custom.make("f", make(2.0)).key == custom.make("f", njit(make(2.0))).key == key
    others = [
        custom.make("f", make(3.0)).key, custom.make("f", make(2.0), make(2.0)).key,
        custom.make("f", make(2.0, "def f(x):\n    return helper(x) * factor + table[0] + module.shift")).key,
        custom.make("f", make(2.0, "def f(x):\n    return (lambda z: z)(x)")).key,
        custom.make("f", make(2.0, "def f(x):\n    return (lambda z: z + 1)(x)")).key,
        custom.make("g", make(2.0)).key,
    ]  # fmt: skip
    assert len({key, *others}) == 7
    pairs = [
        ("def f(x):\n    def g(z):\n        return z * K\n    return g(x)", {"K": 2.0}, {"K": 3.0}),
        ("f = lambda x: (lambda z: z * K)(x)", {"K": 2.0}, {"K": 3.0}),
        ("def f(x):\n    return h(x)", {"h": njit(lambda x: x / 3)}, {"h": njit(fastmath=True)(lambda x: x / 3)}),
        ("def f(x):\n    return h(x)", {"h": njit(lambda x: x)}, {"h": njit("float64(int64)")(lambda x: x)}),
        ("def f(x):\n    return math.K", *({"math": types.SimpleNamespace(K=k)} for k in (1.0, 2.0))),
        ("def f(x, k=K):\n    return x * k", {"K": 2.0}, {"K": 3.0}),
        ("def f(x, *, k=K):\n    return x * k", {"K": 2.0}, {"K": 3.0}),
    ]
    for name in ("code", "math"):
        first, second = types.ModuleType(name), types.ModuleType(name)
        first.K, second.K = 1.0, 2.0
        pairs.append((f"def f(x):\n    return {name}.K", {name: first}, {name: second}))
    Kind = [enum.IntEnum("Kind", {"A": value}) for value in (2, 3)]
    pairs.append(("def f(x):\n    return Kind.A.value * x", *({"Kind": kind} for kind in Kind)))
    for code, *given in pairs:
        for names in given:
            exec(code, names)
        assert custom.make("f", given[0]["f"]).key != custom.make("f", given[1]["f"]).key, code
    names = {"numba": numba}
    exec("def f(x):\n    return numba.float32(x)", names)
    assert custom.make("f", names["f"]).cacheable
    thing = object()
    assert custom.make("f", lambda x: thing).key != custom.make("f", lambda x: thing).key
    # kernels that were compiled for a key have the values that the key was made of
    # a number that no earlier run has left in the cache
    factor = float(np.random.default_rng().random())
    changing = make(factor)
    model = build(changing)
    changing.__globals__["factor"] = factor + 1.0
    with pytest.raises(ValueError, match="have changed since"):
        model.predict(np.ones((1, 3), np.float32))
    changing.__globals__["factor"] = factor
    model.predict(np.ones((1, 3), np.float32))
    values = {}
    for factor in (2.0, 3.0):
        values[factor] = build(Custom(make(factor), name="f")).predict(np.ones((1, 3), np.float32))
    assert not np.allclose(values[2.0], values[3.0])


SCRIPT = """
import numpy as np
import fastnn as fnn
from fastnn.backend.cpu.loading import library

def cubic(x):
    return x * x * x

model = fnn.Sequential([fnn.Input(3), fnn.Dense(4, activation=cubic)], seed=0)
model.predict(np.ones((2, 3), np.float32))
print(library.statistics()["compiled"])
"""


def test_compiled_functions_are_kept_on_disk(tmp_path):
    variables = os.environ | {
        "PYTHONPATH": str(Path(fnn.__file__).parents[1]), "FASTNN_CACHE_DIR": str(tmp_path)
    }  # fmt: skip
    found = []
    for _ in range(2):
        command = [sys.executable, "-c", SCRIPT]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.append(int(done.stdout))
    assert found[0] > 0 and found[1] == 0


def raising(x):
    if x > 100.0:
        raise ValueError
    return x


TABLE = np.linspace(0.0, 1.0, 64)


def looked_up(x):
    return x + TABLE[int(x)]


def looked_up_loss(target, prediction):
    return (target - prediction) ** 2 + TABLE[int(prediction)]


def looked_up_update(p, g, learning_rate, step):
    return p - learning_rate * g - TABLE[int(g * g * 1e6)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exceptions_and_indices_out_of_bounds_end_the_program(dtype):
    x, y = np.full((40, 1), 7.0, dtype), np.zeros((40, 1), dtype)
    for function in (raising, looked_up):
        told = rf"the function '\w+' \(test_custom\.py, line {function.__code__.co_firstlineno}\) raised"
        for layers in ([fnn.Activation(Custom(function))], [fnn.Dense(1, Custom(function), kernel_initializer="ones")]):
            model = fnn.Sequential([fnn.Input(1), *layers], dtype=dtype)
            model.compile("sgd", "mse")
            np.testing.assert_allclose(model.predict(x), Custom(function)(x), rtol=1e-6)
            net, out = model.freeze(), np.empty_like(x)
            for bad in (101.0, 1e9, -1e9, np.inf) if function is looked_up else (101.0,):
                wrong = x.copy()
                wrong[33] = bad
                with pytest.raises(RuntimeError, match=told):
                    model.predict(wrong)
                with pytest.raises(RuntimeError, match="a user-defined function"):
                    fnp.predict(net, wrong, out)
            np.testing.assert_allclose(model.predict(x), Custom(function)(x), rtol=1e-6)
        with pytest.raises(RuntimeError, match=told):
            fnn.matmul(wrong[-8:], np.ones((1, 1), dtype), activation=Custom(function))
        fnn.matmul(x, np.ones((1, 1), dtype), activation=Custom(function))
    wide = x * 1e6
    model = fnn.Sequential([fnn.Input(1), fnn.Dense(1, kernel_initializer="ones")], dtype=dtype)
    model.compile(fnn.Adam(weight_decay=0.1), looked_up_loss)
    learner = model.learner()
    before = [array.copy() for array in learner]
    with pytest.raises(RuntimeError, match="a user-defined function"):
        fnp.train_step(learner, wide, y)
    for name, array, one in zip(learner._fields, learner, before, strict=True):
        assert name == "state" or array.tobytes() == one.tobytes(), name  # gradients are scratch
    model = fnn.Sequential([fnn.Input(1), fnn.Dense(1, kernel_initializer="ones")], dtype=dtype)
    for loss, optimizer in ((looked_up_loss, "sgd"), ("mse", fnn.optimizers.Custom(looked_up_update))):
        model.compile(optimizer, loss)
        before = model.get_weights()
        for call in (model.train_on_batch, model.train_on_batch, lambda x, y: model.fit(x, y, verbose=0)):
            with pytest.raises(RuntimeError, match=r"the function 'looked_up_\w+' \(.*, line \d+\) raised"):
                call(wide, y)
        if optimizer == "sgd":
            np.testing.assert_array_equal(model.get_weights()[0], before[0])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Custom(lambda: 1.0), "of one number"),
        (lambda: Custom(lambda x, y: x), "of one number"),
        (lambda: Custom(3), "njit"),
        (lambda: Custom(np.sin), "njit"),
        (lambda: Custom(snake, gradient=squared), "gradient.*of one number"),
        (lambda: Custom(snake, name=3), "name"),
        (lambda: fnn.losses.Custom(snake), "of a target and a prediction"),
        (lambda: fnn.losses.Custom(squared, gradient=snake), "gradient"),
        (lambda: fnn.losses.Custom(squared, row_mean=3), "row_mean"),
        (lambda: fnn.optimizers.Custom(descent, state={"m": 0.0}), r"of \(p, g, m, learning_rate, step\)"),
        (lambda: fnn.optimizers.Custom(momentum, state=["m"]), "state"),
        (lambda: fnn.optimizers.Custom(momentum, beta=0.9), "beta"),
        (lambda: fnn.optimizers.Custom(lambda p, g, step, learning_rate: p), "'step' is at the position"),
        (
            lambda: fnn.optimizers.Custom(
                lambda p, g, learning_rate, step, a, b: p - a * g, hyperparameters={"b": 1.0, "a": 2.0}
            ),
            "'a' is at the position of 'b'",
        ),
        (lambda: fnn.Dense(3, activation=np.sin), "activation"),
    ],
)
def test_arguments(make, match):
    with pytest.raises(TypeError, match=match):
        make()


def test_numbers_of_optimizers():
    with pytest.raises(ValueError, match="at most 3"):
        fnn.optimizers.Custom(descent, state=dict.fromkeys("abcd", 0.0))
    with pytest.raises(ValueError, match="at most 5"):
        fnn.optimizers.Custom(descent, hyperparameters=dict.fromkeys("abcdef", 0.0))
    with pytest.raises(ValueError, match="finite"):
        fnn.optimizers.Custom(momentum, state={"m": np.nan}, hyperparameters={"beta": 0.9})
    with pytest.raises(ValueError, match="learning_rate"):
        fnn.optimizers.Custom(descent, -1.0)


def test_names_and_representations():
    assert repr(fnn.Dense(3, activation=snake)) == "Dense(units=3, activation=Custom(snake))"
    assert repr(fnn.losses.Custom(squared, name="mine")) == "Custom(mine)"
    assert repr(fnn.optimizers.Custom(descent)) == "Custom(descent, 0.01, state={}, hyperparameters={})"
    assert Custom(snake) == Custom(snake) != Custom(snake, gradient=snake_gradient)
    assert "custom-snake" in str(build(snake).program)
