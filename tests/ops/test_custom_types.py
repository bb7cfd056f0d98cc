"""User-defined functions that cannot be compiled are refused when the object is made; the message says where."""

import inspect
import math
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
from numba import njit

import fastnn as fnn
from fastnn import activations, losses, optimizers
from fastnn.backend.cpu.codegen import custom_types
from fastnn.backend.cpu.loading import library
from fastnn.formulas import custom
from fastnn.layers import Custom as Layer

module = types.ModuleType("module")


@njit
def compiled(x):
    return math.sin(x)


def plain(x):
    return 2.0 * x


module.plain = plain


@njit
def broken(x):
    return x.mean()


LOSS = "a loss gets one number of the target and one of the prediction"


def by_index(t, p):
    return (t[0] - p[1]) ** 2


def by_method(t, p):
    return ((t - p) ** 2).mean()


def by_mean(t, p):
    return np.mean((t - p) ** 2)


def by_sum(t, p):
    return np.sum(np.square(t - p))


def by_axis(t, p):
    return np.mean(np.abs(t - p), axis=-1)


def by_dot(t, p):
    return np.dot(t, p)


def by_product(t, p):
    return t @ p


def by_length(t, p):
    return (t - p) / len(t)


def by_shape(t, p):
    return (t - p) / t.shape[0]


def by_loop(t, p):
    total = 0.0
    for a, b in zip(t, p):  # noqa: B905
        total += abs(a - b)
    return total


def by_norm(t, p):
    return np.linalg.norm(t - p)


def through_a_helper(t, p):
    return broken(t - p)


def by_where(t, p):
    return np.where(t > p, t - p, p - t)


def with_plain_python(t, p):
    error = t - p
    return plain(error)


def with_plain_python_of_a_module(t, p):
    return module.plain(t - p)


def with_too_many(t, p):
    return compiled(t, p)


def with_no_such_name(t, p):
    return absolute(t - p)  # noqa: F821


def with_no_such_function(t, p):
    return math.absolute(t - p)


def without_return(t, p):
    (t - p) ** 2


def without_else(t, p):
    if t > p:
        return t - p


def a_list(t, p):
    return [t, p]


def complex_number(t, p):
    return t - p + 0j


def two_kinds(t, p):
    if t > p:
        return "larger"
    return t - p


def a_file(t, p):
    with open("log"):
        return t - p


@pytest.mark.parametrize(
    ("function", "match", "line"),
    [
        (by_index, LOSS, 1), (by_method, f"Unknown attribute 'mean'.*{LOSS}", 1), (by_mean, rf"np\.mean.*{LOSS}", 1),
        (by_sum, rf"np\.sum.*{LOSS}", 1), (by_axis, LOSS, 1), (by_dot, LOSS, 1), (by_product, LOSS, 1),
        (by_length, LOSS, 1), (by_shape, LOSS, 1), (by_loop, LOSS, 2), (by_norm, LOSS, 1),
        (by_where, "there is no where.*`a if condition else b`", 1),
        (with_plain_python, "'plain' is plain Python: put @numba.njit above it", 2),
        (with_plain_python_of_a_module, "'plain'.*@numba.njit", 1),
        (with_too_many, "too many positional arguments", 1),
        (with_no_such_name, "name 'absolute' is not defined", 0),
        (with_no_such_function, "module 'math' has no attribute 'absolute'", 0),
        (without_return, "returns nothing, expected one number", 0),
        (without_else, "sometimes returns nothing", 0),
        (a_list, "returns list", 0), (complex_number, "returns complex", 0), (two_kinds, "unify return type", None),
        (a_file, "context manager", 1),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_a_loss(function, match, line):
    place = r"\d+" if line is None else line + inspect.getsourcelines(function)[1]
    with pytest.raises(
        ValueError, match=rf"'{function.__name__}' \(test_custom_types\.py, line {place}\): .*{match}"
    ) as found:
        losses.Custom(function)
    assert "\n" not in str(found.value)
    # through compile, too, unless it is a function of symbols; and for a gradient
    model = fnn.Sequential([fnn.Input(2), fnn.Dense(1)])
    if function in (by_shape, with_plain_python, with_plain_python_of_a_module):
        assert isinstance(losses.get(function), losses.Function)
    else:
        with pytest.raises(ValueError, match=rf"{function.__name__}.*no function of symbols either") as both:
            model.compile("sgd", function)
        assert "\n" not in str(both.value)
    with pytest.raises(ValueError, match=function.__name__):
        losses.Custom(lambda t, p: t - p, gradient=function)


def test_the_line_of_a_helper():
    line = inspect.getsourcelines(broken)[1] + 2
    with pytest.raises(ValueError, match=rf"'through_a_helper' \(test_custom_types\.py, line {line}\).*'mean'.*{LOSS}"):
        losses.Custom(through_a_helper)


ONE = "an activation gets one number"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: activations.Custom(lambda x: np.exp(x) / np.sum(np.exp(x))), rf"np\.sum.*{ONE}"),
        (lambda: activations.Custom(lambda x: np.max(x)), rf"np\.max.*{ONE}"),
        (lambda: activations.Custom(lambda x: x[0]), ONE),
        (lambda: activations.Custom(lambda x: x.max()), ONE),
        (lambda: activations.Custom(lambda x: np.clip(x, 0.0, 1.0)), "min"),
        (lambda: activations.Custom(compiled, gradient=lambda x: x.sum()), ONE),
        (lambda: fnn.Dense(3, activation=lambda x: plain(x)), "'plain' is plain Python"),
        (lambda: fnn.Activation(lambda x: str(x)), "expected one number"),
        (lambda: optimizers.Custom(lambda p, g, rate, step: p - rate * g.mean()), "an optimizer gets the numbers"),
        (lambda: optimizers.Custom(lambda p, g, rate, step: (p, g)), "expected one number"),
        (lambda: optimizers.Custom(lambda p, g, rate, step: None), "returns nothing"),
        (lambda: optimizers.Custom(lambda p, g, m, rate, step: p, state={"m": 0.0}), "expected a tuple of 2 numbers"),
        (lambda: optimizers.Custom(lambda p, g, m, rate, step: (p, m, m), state={"m": 0.0}), "a tuple of 2 numbers"),
        (lambda: optimizers.Custom(lambda p, g, m, rate, step: (p, "m"), state={"m": 0.0}), "a tuple of 2 numbers"),
        (lambda: Layer(lambda x, y: y.fill(plain(x[0])), 3), "'plain' is plain Python"),
        (lambda: Layer(lambda x, y: y.fill(x[:, 0].sum()), 3), "arrays of one axis"),
        (lambda: Layer(lambda x, y: y.nothing(), 3), "arrays of one axis"),
        (lambda: Layer(lambda x, w, y: y.fill(w[0, 0, 0]), 3, weight_shape=(2, 2)), "arrays of one axis"),
        (lambda: Layer(lambda x, y: y.fill(x[0]), 3, gradient=lambda x, dy, dx: dx.nothing()), "'nothing'"),
    ],
)  # fmt: skip
def test_the_others(make, match):
    with pytest.raises(ValueError, match=rf"(Numba cannot compile|fastnn cannot use) the function.*{match}"):
        make()


def test_who_refuses():
    """Numba would compile the mean of a number, which is the number."""
    for function, who in (
        (by_mean, "fastnn cannot use"),
        (without_return, "fastnn cannot use"),
        (by_index, "Numba cannot"),
    ):
        with pytest.raises(ValueError, match=f"^{who}"):
            losses.Custom(function)
    with pytest.raises(ValueError, match=r"np\.mean is called with one number, not with an array"):
        losses.Custom(by_mean)


def bits(x):
    return np.float32(x).view(np.int32) * np.float32(0.5)


def folded(t, p, power=2.0, *others):
    return abs(t - p) ** power


@pytest.mark.parametrize(
    "make",
    [
        lambda: activations.Custom(bits, gradient=bits),
        lambda: activations.Custom(lambda x: max(x, 0)),
        lambda: activations.Custom(lambda x: x > 0),
        lambda: activations.Custom(lambda x: 1),
        lambda: losses.Custom(folded),
        lambda: optimizers.Custom(lambda p, g, rate, step, a: p - a * g, hyperparameters={"a": 1.0}),
        lambda: Layer(lambda x, y: y.fill(np.sort(x)[0] + np.sum(x)), 3),
        lambda: Layer(lambda x, w, y: y.fill(w[1, 1] * x.mean()), 3, weight_shape=(2, 2)),
    ],
)
def test_what_can_be_compiled_passes(make):
    make()


def test_nothing_is_compiled(monkeypatch):
    """Only types are inferred, once per function."""
    made = custom.make("f", lambda x: math.exp(x) * math.pi + abs(x))
    monkeypatch.setattr("numba.core.codegen.JITCPUCodegen.create_library", None)
    before = library.statistics()
    custom_types.check(made, "activation")
    assert library.statistics() == before
    asked = []
    monkeypatch.setattr(custom, "_checkers", [lambda *given: asked.append(given)])
    for _ in range(2):
        custom.check_types(made, "activation")
    assert asked == [(made, "activation")]


def test_a_change_in_numba_fails_no_function(monkeypatch):
    """The check relies on Numba's internals; if these change, the error comes from compilation instead."""
    monkeypatch.setattr(custom_types.compiler, "DefaultPassBuilder", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses.Custom(lambda t, p: (t - p) * 0.125)


def test_numba_is_imported_for_custom_functions_alone():
    code = (
        "import sys\nimport fastnn as fnn\nm = fnn.Sequential([fnn.Input(2), fnn.Dense(1, 'relu')])\n"
        "m.compile('adam', 'mse')\nassert 'numba' not in sys.modules\n"
        "fnn.losses.Custom(lambda t, p: t - p)\nassert 'numba' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_kernels_say_the_same():
    """A function for float32 only, in a float64 model: compiling its kernel gives the same message."""
    model = fnn.Sequential(
        [fnn.Input(2), fnn.Activation(activations.Custom(only_single, name="only"))], dtype="float64"
    )
    with pytest.raises(
        ValueError, match=r"'only_single' \(test_custom_types\.py, line \d+\): .*for float64 numbers"
    ) as found:
        model.predict(np.ones((1, 2)))
    assert "\n" not in str(found.value)


def only_single(x):
    return x.view(np.int32) + np.float32(0)
