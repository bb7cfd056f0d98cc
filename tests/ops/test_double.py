"""The functions of float64 that become vectors, against numbers of more bits."""

import math
import re

import numpy as np
import pytest

from fastnn.backend.cpu.codegen import bits
from fastnn.backend.cpu.codegen.options import formula
from fastnn.formulas import activations, elementary
from formula_loops import compiled

DOUBLE = elementary.define(np.float64, formula, bits)
ACTIVATE = activations.define(np.float64, formula, DOUBLE)
# Bounds in ulp of float64 functions, a little above what benchmarks/ulp.py finds.
DOUBLE_ULP = {"exp": 0.8, "expm1": 2.0, "log": 0.9, "log1p": 1.5, "tanh": 2.5, "sigmoid": 1.7, "softplus": 1.9}
# without functions: for vectors of two numbers the compiler may find that they do not pay
PLAIN = {"linear", "step", "relu", "relu6", "leaky_relu", "hard_sigmoid", "softsign"}
VECTORS = [*DOUBLE_ULP, "cos2pi", *(f"activation {name}" for name in activations.SAVES if name not in PLAIN)]


def made(name):
    """The compiled function of a name, or those of an activation and its gradient."""
    if not name.startswith("activation"):
        return [compiled(getattr(DOUBLE, name))]
    forward, gradient = ACTIVATE[name.split()[1]]
    found = [compiled(formula(lambda x: forward(x, 0.5, 0.5)))]
    return found if gradient is None else [*found, compiled(formula(lambda x: gradient(x, 1.0, 0.5, 0.5)))]


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="the platform's long double is float64")
@pytest.mark.parametrize("name", DOUBLE_ULP)
def test_float64_is_right_to_a_few_ulp(name):
    rng = np.random.default_rng(0)
    u = rng.uniform(-1.0, 1.0, 20000)
    x = np.concatenate([*(u * scale for scale in (1e-8, 1e-3, 0.1, 0.5, 2.0, 20.0, 700.0)), np.exp(700.0 * u)])
    if name in ("log", "log1p"):
        x = np.abs(x) if name == "log" else np.where(x <= -1.0, -x, x)
    exact = x.astype(np.longdouble)
    small = np.exp(-np.abs(exact))
    wanted = {
        "sigmoid": lambda: np.where(exact < 0.0, small, np.longdouble(1.0)) / (1.0 + small),
        "softplus": lambda: np.maximum(exact, np.longdouble(0.0)) + np.log1p(small),
    }.get(name, lambda: getattr(np, name)(exact))()
    known = (np.abs(wanted) > 1e-307) & (np.abs(wanted) < 1e308)  # the programs treat subnormal results as zeros
    distance = np.spacing(np.abs(wanted[known]).astype(np.float64))
    error = np.abs(compiled(getattr(DOUBLE, name))(x)[known] - wanted[known]) / distance
    assert error.max() <= DOUBLE_ULP[name]


@pytest.mark.parametrize("name", VECTORS)
def test_float64_vectorises(name):
    for call in made(name):
        call(np.ones(1))
        (code,) = call.loop.inspect_llvm().values()
        assert re.search(r"<\d+ x double>", code)
        assert not re.search(r"call [^\n@]*@[^\n(]*(exp|log|tanh|erf|sin|cos)", code)


def test_float64_extremes():
    tiny = np.array([2.0**-1022, -(2.0**-1022), 1e-300])
    for name in ("expm1", "log1p", "tanh"):
        np.testing.assert_array_equal(compiled(getattr(DOUBLE, name))(tiny), tiny)
    exp = compiled(DOUBLE.exp)(np.array([709.79, 709.78, -745.1, -745.2]))
    np.testing.assert_array_equal(exp[[0, 2, 3]], np.array([math.inf, 2.0**-1074, 0.0]))
    assert np.isfinite(exp[1])
    assert compiled(DOUBLE.expm1)(np.array([709.79, 709.78]))[0] == math.inf
    assert np.isfinite(compiled(DOUBLE.expm1)(np.array([709.79, 709.78]))[1])
    assert compiled(DOUBLE.log)(np.array([2.0**-1074]))[0] == -1074.0 * math.log(2.0)
