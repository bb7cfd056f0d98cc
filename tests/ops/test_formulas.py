"""Scalar formulas as the CPU backend compiles them, against naive float64 definitions."""

import functools
import math
import re

import numba
import numpy as np
import pytest

from fastnn.backend.cpu.codegen import bits
from fastnn.backend.cpu.codegen.options import FORMULA_FLAGS, formula
from fastnn.formulas import activations, elementary, losses
from formula_loops import compiled

F32, F64 = np.float32, np.float64
NAN, INF = math.nan, math.inf
# power, of two numbers, is tested with the pointwise functions
HELPERS = {"expm1_parts", "power", "exp_parts", "exp_weight", "quotient", "split", "tanh_near"}
SINGLE, DOUBLE = (elementary.define(real, formula, bits) for real in (F32, F64))
ACTIVATE = {
    F32: activations.define(F32, formula, SINGLE),
    F64: activations.define(F64, formula, DOUBLE),
}
LOSSES = {F32: losses.define(F32, formula, SINGLE), F64: losses.define(F64, formula, DOUBLE)}
PARAMETER = {"step": 0.25, "leaky_relu": 0.125, "elu": 0.75, "huber": 0.5}
SMOOTHING = 0.125


def of_python(function):
    return lambda x: np.frompyfunc(function, 1, 1)(x).astype(F64)


def cos2pi(u):
    # The sine of the distance to the zero: cos(pi / 2) in float64 is 6e-17.
    r = np.abs(u - np.rint(u))
    return np.sin(2.0 * np.pi * (0.25 - r))


ELEMENTARY = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: np.exp(-np.logaddexp(0.0, -x)),
    "softplus": lambda x: np.logaddexp(0.0, x),
    "erf": of_python(math.erf),
    "sqrt": np.sqrt,
    "cos2pi": cos2pi,
}
AT_SPECIAL = {  # at NaN, inf, -inf, 0, -0
    "exp": (NAN, INF, 0.0, 1.0, 1.0),
    "expm1": (NAN, INF, -1.0, 0.0, -0.0),
    "log": (NAN, INF, NAN, -INF, -INF),
    "log1p": (NAN, INF, NAN, 0.0, -0.0),
    "tanh": (NAN, 1.0, -1.0, 0.0, -0.0),
    "sigmoid": (NAN, 1.0, 0.0, 0.5, 0.5),
    "softplus": (NAN, INF, 0.0, math.log(2.0), math.log(2.0)),
    "erf": (NAN, 1.0, -1.0, 0.0, -0.0),
    "sqrt": (NAN, INF, NAN, 0.0, -0.0),
    "cos2pi": (NAN, NAN, NAN, 1.0, 1.0),
}


def normal_cdf(x):
    return 0.5 * of_python(math.erfc)(-x / math.sqrt(2.0))


ACTIVATIONS = {
    "linear": lambda x: x,
    "step": lambda x: np.where(x >= 0.25, 1.0, 0.0),
    "sigmoid": ELEMENTARY["sigmoid"],
    "hard_sigmoid": lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0.0),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "leaky_relu": lambda x: np.where(x > 0.0, x, 0.125 * x),
    "elu": lambda x: np.where(x > 0.0, x, 0.75 * np.expm1(x)),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0.0, x, 1.6732632423543772 * np.expm1(x)),
    "gelu": lambda x: x * normal_cdf(x),
    "gelu_tanh": lambda x: x * ELEMENTARY["sigmoid"](math.sqrt(8.0 / math.pi) * (x + 0.044715 * x**3)),
    "silu": lambda x: x * ELEMENTARY["sigmoid"](x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0.0, x)),
    "softplus": ELEMENTARY["softplus"],
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "exponential": np.exp,
}
KINKS = {"hard_sigmoid": (-3.0, 3.0), "relu6": (0.0, 6.0), "step": (0.25,)}
LIMITS = {  # at -inf, inf
    "linear": (-INF, INF),
    "step": (0.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "relu": (0.0, INF),
    "relu6": (0.0, 6.0),
    "leaky_relu": (-INF, INF),
    "elu": (-0.75, INF),
    "selu": (-1.7580993408473766, INF),
    "gelu": (0.0, INF),
    "gelu_tanh": (0.0, INF),
    "silu": (0.0, INF),
    "mish": (0.0, INF),
    "softplus": (0.0, INF),
    "softsign": (-1.0, 1.0),
    "exponential": (0.0, INF),
}
# Bounds in ulp over the whole float32 range, a little above what benchmarks/ulp.py finds.
FORWARD_ULP = {"gelu": 3.5, "gelu_tanh": 2.5, "silu": 2.5, "mish": 3.5}
GRADIENT_ULP = {"gelu": 4.0, "gelu_tanh": 5.0, "silu": 4.5, "mish": 5.5, "softsign": 2.5, "exponential": 2.0}


def smooth(t):
    return t * (1.0 - SMOOTHING) + 0.5 * SMOOTHING


def clip(p, high):
    return np.clip(p, 1e-7, high)


def naive_binary_cross_entropy(p, t):
    p = clip(p, 1.0 - 1e-7)
    return -smooth(t) * np.log(p) - (1.0 - smooth(t)) * np.log(1.0 - p)


def signs(t):
    return np.where(t > 0.0, 1.0, -1.0)


NAIVE_LOSSES = {
    "value": lambda p, t: p,
    "mean_squared_error": lambda p, t: (p - t) ** 2,
    "mean_absolute_error": lambda p, t: np.abs(p - t),
    "huber": lambda p, t: np.where(np.abs(p - t) <= 0.5, (p - t) ** 2 / 2.0, 0.5 * np.abs(p - t) - 0.125),
    "log_cosh": lambda p, t: np.log(np.cosh(p - t)),
    "binary_cross_entropy": naive_binary_cross_entropy,
    "binary_cross_entropy_logits": lambda p, t: naive_binary_cross_entropy(1.0 / (1.0 + np.exp(-p)), t),
    "hinge": lambda p, t: np.maximum(0.0, 1.0 - signs(t) * p),
    "perceptron": lambda p, t: np.maximum(0.0, -t * p),
    "poisson": lambda p, t: p - t * np.log(p + 1e-7),
    "poisson_logits": lambda p, t: np.exp(p) - t * p,
    "kl_divergence": lambda p, t: clip(t, 1.0) * np.log(clip(t, 1.0) / clip(p, 1.0)),
}
LOSS_KINKS = {  # distance of (p, t) from the nearest kink
    "mean_absolute_error": lambda p, t: np.abs(p - t),
    "huber": lambda p, t: np.abs(np.abs(p - t) - 0.5),
    "binary_cross_entropy": lambda p, t: np.minimum(np.abs(p - 1e-7), np.abs(p - 1.0 + 1e-7)),
    "hinge": lambda p, t: np.abs(1.0 - signs(t) * p),
    "perceptron": lambda p, t: np.abs(p),
    "kl_divergence": lambda p, t: np.minimum(np.abs(p - 1e-7), np.abs(p - 1.0)),
}
PROBABILITIES = {"binary_cross_entropy", "kl_divergence", "poisson"}


def callable_from_python(function):
    """Make a function of four numbers of a formula, which by itself is only a part of compiled code."""

    @numba.njit(fastmath=set(FORMULA_FLAGS), error_model="numpy")
    def call(a, b, c, d):
        return function(a, b, c, d)

    return call


@functools.cache
def elementary_function(name, real):
    return compiled(getattr(SINGLE if real is F32 else DOUBLE, name))


@functools.cache
def activation(name, real):
    """The compiled forward function, and its gradient as a function of x: both of arrays."""
    forward, gradient = ACTIVATE[real][name]
    a, one = real(PARAMETER.get(name, 0.0)), real(1.0)
    applied = formula(lambda x: forward(x, a, a))
    if gradient is None:
        return compiled(applied), None
    if activations.SAVES[name] == "output":
        return compiled(applied), compiled(formula(lambda x: gradient(applied(x), one, a, a)))
    return compiled(applied), compiled(formula(lambda x: gradient(x, one, a, a)))


@functools.cache
def loss(name, real):
    """The compiled value and gradient, functions of two arrays."""
    value, gradient = LOSSES[real][name]
    a = real(PARAMETER.get(name, SMOOTHING))

    @numba.njit(fastmath=set(FORMULA_FLAGS), error_model="numpy")
    def loop(p, t, y, dp):
        for i in range(p.size):
            y[i] = value(p[i], t[i], a, a)
            dp[i] = gradient(p[i], t[i], a, a)

    def call(p, t):
        y, dp = np.empty_like(p), np.empty_like(p)
        loop(p, t, y, dp)
        return y, dp

    return call


@functools.cache
def float32_numbers(stride):
    """Every stride-th bit pattern, and a finer sample of where functions are not constant."""
    x = np.arange(0, 1 << 32, stride, dtype=np.int64).astype(np.uint32).view(F32)
    x = np.concatenate([x, np.linspace(-2.0, 2.0, 20001), np.linspace(-110.0, 95.0, 20001)]).astype(F32)
    return x[np.isfinite(x)]


def ulps(y, wanted):
    """Error of float32 values in units of the distance of float32 numbers at the wanted ones."""
    overflow = np.abs(wanted) >= 2.0**128 - 2.0**103
    assert np.array_equal(np.isnan(y), np.isnan(wanted))
    assert np.array_equal(y[overflow], np.copysign(INF, wanted[overflow]))
    known = ~overflow & ~np.isnan(wanted)
    distance = np.ldexp(1.0, np.maximum(np.frexp(wanted[known])[1] - 24, -149))
    return np.max(np.abs(y[known].astype(F64) - wanted[known]) / distance)


def central_difference(f, x, h=1e-5):
    return (f(x + h) - f(x - h)) / (2.0 * h)


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


def test_every_name_has_a_reference():
    for functions in (SINGLE, DOUBLE):
        assert set(vars(functions)) - HELPERS == set(ELEMENTARY) == set(AT_SPECIAL)
    for real in (F32, F64):
        assert set(ACTIVATE[real]) == set(ACTIVATIONS) == set(LIMITS) == set(activations.SAVES)
        assert set(LOSSES[real]) == set(NAIVE_LOSSES)
    assert set(activations.SAVES.values()) == {"output", "input", "none"}
    from_input = {name for name, saved in activations.SAVES.items() if saved == "input"}
    # of the gradients that are computed from outputs, this one has no bound
    assert set(GRADIENT_ULP) == from_input | {"exponential"}


@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_float32(name):
    call = elementary_function(name, F32)
    x = float32_numbers(9973)
    assert ulps(call(x), ELEMENTARY[name](x.astype(F64))) <= 2.0
    y = call(np.array([NAN, INF, -INF, 0.0, -0.0], F32))
    wanted = np.array(AT_SPECIAL[name], F32)
    np.testing.assert_array_equal(y, wanted)
    assert np.array_equal(np.signbit(y[3:]), np.signbit(wanted[3:]))


@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_float64(name):
    call = elementary_function(name, F64)
    x = np.concatenate([np.linspace(-40.0, 40.0, 4001), np.logspace(-12, 12, 999), [1e-310, 700.0, -700.0]])
    np.testing.assert_allclose(call(x), ELEMENTARY[name](x), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(call(np.array([NAN, INF, -INF, 0.0, -0.0])), AT_SPECIAL[name], rtol=1e-15)


def test_float32_extremes():
    tiny = np.array([2.0**-149, -(2.0**-149), 2.0**-127], F32)
    for name in ("expm1", "log1p", "tanh"):
        np.testing.assert_array_equal(elementary_function(name, F32)(tiny), tiny)
    exp = elementary_function("exp", F32)(np.array([88.72284, 88.722, -103.97207, -103.97209], F32))
    np.testing.assert_array_equal(exp[[0, 2, 3]], np.array([INF, 2.0**-149, 0.0], F32))
    assert np.isfinite(exp[1])
    assert elementary_function("log", F32)(tiny)[0] == F32(-149.0 * math.log(2.0))
    u = np.array([0.25, 0.5, 0.75, 2.0**22 + 0.5, 2.0**24, 3e38], F32)
    np.testing.assert_array_equal(elementary_function("cos2pi", F32)(u), [0.0, -1.0, 0.0, -1.0, 1.0, 1.0])


@pytest.mark.parametrize("name", [*ELEMENTARY, *(f"activation {n}" for n in ACTIVATIONS)])
def test_float32_vectorises(name):
    calls = [elementary_function(name, F32)] if name in ELEMENTARY else activation(name.split()[1], F32)
    for call in calls:
        if call is not None:
            call(np.ones(1, F32))
            (code,) = call.loop.inspect_llvm().values()
            assert re.search(r"<\d+ x float>", code)
            assert not re.search(r"call [^\n@]*@[^\n(]*(exp|log|tanh|erf|sin|cos)", code)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_float64(name):
    forward, gradient = activation(name, F64)
    x = np.linspace(-12.0, 12.0, 4802)
    np.testing.assert_allclose(forward(x), ACTIVATIONS[name](x), rtol=1e-12, atol=1e-15)
    if gradient is None:
        assert name == "step"
        return
    for kink in KINKS.get(name, (0.0,)):
        x = x[np.abs(x - kink) > 1e-4]
    wanted = central_difference(ACTIVATIONS[name], x)
    np.testing.assert_allclose(gradient(x), wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_float32(name):
    forward, gradient = activation(name, F32)
    x = float32_numbers(9973)
    assert ulps(forward(x), ACTIVATIONS[name](x.astype(F64))) <= FORWARD_ULP.get(name, 2.0)
    y = forward(np.array([-INF, INF, NAN], F32))
    np.testing.assert_array_equal(y, np.array([*LIMITS[name], NAN], F32))
    if gradient is None:
        return
    wanted = activation(name, F64)[1](x.astype(F64))
    if name in GRADIENT_ULP:
        # The float64 gradients are themselves differences: at their zeros they have an error of 1e-16.
        known = np.abs(wanted) > 1e-7
        assert ulps(gradient(x)[known], wanted[known]) <= GRADIENT_ULP[name]
        np.testing.assert_allclose(gradient(x)[~known], wanted[~known], atol=1e-6)
        assert np.isnan(gradient(np.array([NAN], F32)))[0]
    else:
        kinks = np.isin(np.abs(x), F32([0.0, 3.0, 6.0])) | (np.abs(x) < 1e-30)
        near_3 = np.abs(np.abs(x) - 3.0) < 1e-6
        known = ~kinks & ~near_3
        np.testing.assert_allclose(gradient(x[known]), wanted[known], atol=2.5e-7)


@pytest.mark.parametrize("name", [n for n, saved in activations.SAVES.items() if n != "step"])
def test_gradient_scales_with_dy(name):
    gradient = callable_from_python(ACTIVATE[F32][name][1])
    saved, a = F32(0.75), F32(PARAMETER.get(name, 0.0))
    assert gradient(saved, F32(4.0), a, a) == F32(4.0) * gradient(saved, F32(1.0), a, a)
    assert math.isnan(gradient(saved, F32(NAN), a, a))


def test_gradients_at_kinks():
    for name, x, wanted in (
        ("relu", 0.0, 0.0),
        ("relu6", 0.0, 0.0),
        ("relu6", 6.0, 0.0),
        ("hard_sigmoid", -3.0, 0.0),
        ("hard_sigmoid", 3.0, 0.0),
        ("leaky_relu", 0.0, 0.125),
        ("elu", 0.0, 0.75),
    ):
        assert activation(name, F32)[1](np.array([x], F32))[0] == F32(wanted), name


@pytest.mark.parametrize("name", NAIVE_LOSSES)
@pytest.mark.parametrize("real", [F64, F32])
def test_loss(name, real):
    call = loss(name, real)
    rng = np.random.default_rng(3)
    if name in PROBABILITIES:
        p, t = rng.uniform(0.01, 0.99, 500), rng.uniform(0.0, 1.0, 500)
        t[:100] = rng.integers(0, 2, 100)
        if name != "poisson":
            p[:20] = np.tile([-0.25, 1.25], 10)
    else:
        p, t = rng.uniform(-3.0, 3.0, 500), rng.uniform(-2.0, 2.0, 500)
        t[:100] = rng.integers(-1, 2, 100)
    if name == "binary_cross_entropy_logits":
        t = np.abs(t) / 2.0
    p, t = p.astype(F32).astype(F64), t.astype(F32).astype(F64)
    if real is F32:
        # 1 - 1e-7 is no float32: where it counts, the loss is another one.
        p = np.where(p > 1.0 - 1e-7, 0.5, p)
    known = LOSS_KINKS.get(name, lambda p, t: np.ones_like(p))(p, t) > 1e-3
    y, dp = call(p.astype(real), t.astype(real))
    tolerance = {"rtol": 1e-6, "atol": 1e-9} if real is F64 else {"rtol": 1e-5, "atol": 2e-6}
    np.testing.assert_allclose(y, NAIVE_LOSSES[name](p, t), **tolerance)
    wanted = central_difference(lambda q: NAIVE_LOSSES[name](q, t), p)
    np.testing.assert_allclose(dp[known], wanted[known], **tolerance)
    nan, one = np.array([NAN], real), np.array([1.0], real)
    assert all(np.isnan(result[0]) for result in call(nan, one))


def test_losses_keep_digits():
    tiny, large = np.array([1e-6], F32), np.array([1e4], F32)
    zero, one = np.zeros(1, F32), np.ones(1, F32)
    np.testing.assert_allclose(loss("log_cosh", F32)(tiny, zero)[0], 0.5e-12, rtol=1e-6)
    np.testing.assert_allclose(loss("log_cosh", F32)(large, zero)[0], 1e4 - math.log(2.0), rtol=1e-6)
    value, gradient = map(callable_from_python, LOSSES[F32]["binary_cross_entropy_logits"])
    assert value(F32(20.0), one[0], zero[0], zero[0]) == pytest.approx(math.exp(-20.0), rel=1e-6)
    assert value(F32(-20.0), zero[0], zero[0], zero[0]) == pytest.approx(math.exp(-20.0), rel=1e-6)
    assert value(F32(1e4), zero[0], zero[0], zero[0]) == F32(1e4)
    assert gradient(F32(-200.0), one[0], zero[0], zero[0]) == F32(-1.0)


@pytest.mark.parametrize("real", [F32, F64])
def test_poisson_of_logits_far_out(real):
    """The loss is NaN for no logit and no count: it is infinite where the rate is."""
    last = math.log(np.finfo(real).max)
    p = np.array([-INF, -1e4, -1.0, 0.0, last - 1.0, last + 1.0, 1e30, INF], real)
    for t in (0.0, 3.0, 1e30, float(np.finfo(real).max)):
        y, dp = loss("poisson_logits", real)(p, np.full_like(p, t))
        assert not np.isnan(y).any() and not np.isnan(dp).any()
        assert np.array_equal(y[-3:], [INF] * 3)
        assert y[0] == (0.0 if t == 0.0 else INF) and np.array_equal(dp[:2], np.full(2, -t, real))
        if t <= 1e30:
            assert np.array_equal(dp[-3:], [INF] * 3)
            assert y[4] == pytest.approx(math.exp(p[4]) - t * float(p[4]), rel=1e-4)


def test_loss_gradients_at_kinks():
    def at(name, p, t):
        return loss(name, F64)(np.array([p]), np.array([t]))[1][0]

    assert at("mean_absolute_error", 2.0, 2.0) == 0.0
    assert at("hinge", 1.0, 1.0) == 0.0
    assert at("perceptron", 0.0, 1.0) == -1.0
    assert at("perceptron", 0.0, -1.0) == 1.0
    assert at("binary_cross_entropy", 0.0, 1.0) == 0.0
    assert at("kl_divergence", 0.0, 1.0) == 0.0


@pytest.mark.parametrize("real", [F32, F64])
def test_quotient(real):
    function = (SINGLE if real is F32 else DOUBLE).quotient

    @numba.njit(error_model="numpy")
    def call(x, d, out):
        for i in range(len(out)):
            out[i] = function(x[i], d[i])

    rng = np.random.default_rng(3)
    n = 300_000
    d = (np.exp2(rng.uniform(-60, 64, n))).astype(real)
    x = (rng.normal(size=n) * np.exp2(rng.uniform(-20, 20, n))).astype(real)
    out = np.empty_like(x)
    call(x, d, out)
    exact = x.astype(np.longdouble) / d.astype(np.longdouble)
    error = np.abs(out - exact) / np.spacing(np.abs(exact).astype(real)).astype(np.longdouble)
    assert error.max() <= (1.5 if real is F32 else 0.51)
    special = np.array([(0, 0, NAN), (3, INF, 0), (NAN, 2, NAN), (2, NAN, NAN), (INF, 2, INF), (0, 5, 0)], real)
    out = np.empty(len(special), real)
    call(special[:, 0].copy(), special[:, 1].copy(), out)
    np.testing.assert_allclose(out, special[:, 2], atol=1e-30)


def test_unknown_type_is_refused():
    with pytest.raises(ValueError, match="expected numpy"):
        elementary.define(np.float16, formula, bits)
    with pytest.raises(ValueError, match="expected numpy"):
        activations.define(int, formula, DOUBLE)
    with pytest.raises(ValueError, match="expected numpy"):
        losses.define(int, formula, DOUBLE)


def test_weights_of_softmax():
    @numba.njit
    def compute(x, y):
        for i in range(len(x)):
            y[i] = weight(x[i])

    weight = SINGLE.exp_weight
    x = np.concatenate([-np.logspace(-6, np.log10(87.0), 20_001), [0.0, NAN, -INF, -88.0, -1e30]]).astype(F32)
    y = np.empty_like(x)
    compute(x, y)
    expected = np.exp(x.astype(F64))
    assert np.abs(y[:-4] / expected[:-4] - 1.0).max() < 1.0 * 2.0**-23
    np.testing.assert_array_equal(y[-4:], [NAN, 0.0, 0.0, 0.0])
