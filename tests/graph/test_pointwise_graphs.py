"""Graphs of elementwise functions: broadcasting, also over the batch; derivatives of both orders; random tensors."""

import numpy as np
import pytest

from computed import Computed, check_derivatives
from fastnn.formulas.pointwise import ARITY, FLAT
from fastnn.graph.extent import BATCH
from fastnn.graph.gradients import gradients
from fastnn.graph.graph import Graph
from fastnn.graph.ops.dense import matmul
from fastnn.graph.ops.pointwise import cast, constant, pointwise, random

# intervals of arguments whose derivatives exist, if they are not all numbers
POSITIVE, ABOVE = (0.3, 3.0), (1.3, 2.6)
INTERVALS = {
    "sqrt": (POSITIVE,), "rsqrt": (POSITIVE,), "log": (POSITIVE,), "log1p": ((-0.5, 2.0),), "reciprocal": (POSITIVE,),
    "tan": ((-1.0, 1.0),), "absolute": (POSITIVE,), "divide": ((-1.0, 1.0), POSITIVE), "power": (POSITIVE, (-2.0, 2.0)),
    "maximum": ((-1.0, 1.0), ABOVE), "minimum": ((-1.0, 1.0), ABOVE), "mod": ((0.1, 1.2), ABOVE),
}  # fmt: skip


def drawn(function: str, shapes) -> list[np.ndarray]:
    rng, intervals = np.random.default_rng(2), INTERVALS.get(function, ())
    return [
        rng.uniform(*interval, shape) for interval, shape in zip((*intervals, *[(-1.0, 1.0)] * 3), shapes, strict=False)
    ]


@pytest.mark.parametrize("function", sorted(ARITY.keys() - FLAT))
def test_derivatives_of_both_orders(function):
    shapes = [(3, 2), (3, 2), (3, 2)][: ARITY[function]]
    values = drawn(function, shapes)
    if function == "where":
        values[0] = np.array([[1.0, 0.0], [0.0, 2.0], [np.nan, 0.0]])
    check_derivatives(
        lambda graph, *xs: pointwise(graph, function, xs, "f"),
        [(True, (2,))] * len(shapes), values=values, tolerance=2e-7, wanted=(1, 2) if function == "where" else None,
    )  # fmt: skip


@pytest.mark.parametrize(
    "shapes",
    [
        ((True, (4,)), (False, (4,))),
        ((True, (2, 3)), (True, (2, 1))),
        ((True, (3,)), (False, (2, 1, 1))),
        ((False, ()), (True, (2,))),
        ((False, (1, 4)), (True, (1,))),
        ((False, (2, 1, 2, 1, 2)), (False, (1, 2, 1, 2, 1))),  # more axes than a record has
        ((False, (1, 2, 1, 2, 1, 2)), (False, (2, 2, 2, 2, 2, 2))),
    ],
)
def test_broadcasting_as_numpy_and_its_derivatives(shapes):
    whole = [(3, *shape) if batched else shape for batched, shape in shapes]
    values = drawn("divide", whole)
    check_derivatives(
        lambda graph, a, b: pointwise(graph, "divide", (a, b), "f"), shapes, values=values, tolerance=1e-6
    )
    graph = Graph()
    a, b = (graph.input(s, "x") if batched else graph.parameter(s, "x") for batched, s in shapes)
    y = pointwise(graph, "divide", (a, b), "f")
    made = Computed(graph, [y], [a, b], 3)
    for found in (made.run({a: values[0], b: values[1]})[0], made.run({a: values[0], b: values[1]}, parts=3)[0],
                  made.reference({a: values[0], b: values[1]})[0]):  # fmt: skip
        np.testing.assert_array_equal(found, values[0] / values[1])


@pytest.mark.parametrize("exponent", [-1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 2.5])
def test_powers_by_numbers(exponent):
    values = drawn("sqrt", [(3, 2)])
    graph = check_derivatives(
        lambda graph, x: pointwise(graph, "power", (x, exponent), "f"), [(True, (2,))], values=values, tolerance=1e-6,
        orders=2 if exponent not in (0.0, 1.0) else 1,
    )  # fmt: skip
    first = next((node.attrs["formula"] for node in graph.nodes if node.op == "pointwise"), None)
    assert (first == "power") == (exponent in (0.0, 2.5))
    for base in (0.7, -0.7, 0.0):
        check = np.array([[0.3, 1.0], [2.0, 3.0], [1.5, 0.5]])
        graph = Graph()
        x = graph.input((2,), "x")
        y = pointwise(graph, "power", (base, x), "f")
        (dx,) = gradients(graph, y, [x], "g")
        found = Computed(graph, [y, dx], [x], 3).run({x: check})
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(found[0], base**check, rtol=1e-14)
            slope = base**check * np.log(base) if base else np.zeros_like(check)
        np.testing.assert_allclose(found[1], slope, rtol=1e-14)


def slopes(function: str, *values: np.ndarray) -> list[np.ndarray]:
    graph = Graph()
    xs = [graph.parameter(value.shape, "x") for value in values]
    found = gradients(graph, pointwise(graph, function, xs, "f"), xs, "g", unconnected="zeros")
    return Computed(graph, found, xs, 1).run(dict(zip(xs, values, strict=True)))


def test_slopes_at_kinks_as_jax():
    zero = np.zeros(3)
    np.testing.assert_array_equal(slopes("absolute", np.array([-2.0, 0.0, 3.0])), [[-1.0, 0.0, 1.0]])
    for function in ("maximum", "minimum"):
        np.testing.assert_array_equal(slopes(function, zero, zero), [zero + 0.5, zero + 0.5])
    np.testing.assert_array_equal(slopes("sqrt", np.array([0.0, 4.0])), [[np.inf, 0.25]])
    # powers of zero: no NaN from 0 * log(0) or from 0 * 0**-1
    base, exponent = np.array([0.0, 0.0, 0.0, 2.0]), np.array([0.0, 1.0, 2.0, 0.0])
    found = slopes("power", base, exponent)
    np.testing.assert_array_equal(found[0], [0.0, 1.0, 0.0, 0.0])
    np.testing.assert_array_equal(found[1], [0.0, 0.0, 0.0, np.log(2.0)])
    # what was not chosen has the slope 0, whatever it is
    condition, nan = np.array([1.0, 0.0]), np.array([1.0, np.nan])
    np.testing.assert_array_equal(slopes("where", condition, nan, nan[::-1].copy())[1:], [[1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize("function", sorted(FLAT))
def test_conditions_have_no_slope(function):
    graph = Graph()
    xs = [graph.input((2,), "x") for _ in range(ARITY[function])]
    with pytest.raises(ValueError, match="does not depend"):
        gradients(graph, pointwise(graph, function, xs, "f"), xs, "g")


def test_what_does_not_fit():
    graph = Graph()
    x, w = graph.input((5,), "x"), graph.parameter((4,), "w")
    with pytest.raises(ValueError, match=r"add: shapes \(B, 5\) and \(4,\) do not fit each other"):
        pointwise(graph, "add", (x, w), "f")
    with pytest.raises(ValueError, match=r"less: shapes \(B, 5\) and \(3, 5\)"):
        pointwise(graph, "less", (x, graph.parameter((3, 5), "v")), "f")
    with pytest.raises(ValueError, match="add: expected 2 operands, got 1"):
        pointwise(graph, "add", (x,), "f")
    with pytest.raises(ValueError, match="expected a tensor"):
        pointwise(graph, "exp", (1.0,), "f")


def test_a_bias_joins_the_product():
    for turn in (1, -1):
        graph = Graph()
        x, w, b = graph.input((3,), "x"), graph.parameter((3, 2), "w"), graph.parameter((2,), "b")
        y = pointwise(graph, "add", (matmul(graph, x, w, "m"), b)[::turn], "f")
        made = Computed(graph, [y], [x, w, b], 4)
        assert [key.op for key in made.program.kernels].count("matmul") == 1
        assert not {"pointwise", "bias_add"} & {key.op for key in made.program.kernels[:1]}


# --- numbers --------------------------------------------------------------------------------------------------


def test_constants_and_conversions():
    graph = Graph()
    x = graph.input((3,), "x", "int64")
    y = pointwise(graph, "multiply", (x, 0.5), "f")  # integers are converted
    z = cast(graph, pointwise(graph, "multiply", (y, 3.0), "f"), "int64", "f")
    w = constant(graph, -2.5, (BATCH, 2), "f")
    given = np.array([[1, -2, 3], [-5, 7, 2**40]])
    for found in (Computed(graph, [y, z, w], [x], 2).run({x: given}),
                  Computed(graph, [y, z, w], [x], 2).reference({x: given})):  # fmt: skip
        np.testing.assert_array_equal(found[0], given / 2)
        np.testing.assert_array_equal(found[1], np.trunc(given * 1.5))
        np.testing.assert_array_equal(found[2], np.full((2, 2), -2.5))
    assert cast(graph, x, "int64", "f") is x
    with pytest.raises(ValueError, match="cast: expected 'real' or 'int64'"):
        cast(graph, x, "bool", "f")


def draws(dtype: str = "float64", **options: int) -> list[np.ndarray]:
    graph = Graph()
    makers = (
        ("normal", {"mean": 3.0, "stddev": 2.0}),
        ("uniform", {"low": -1.0, "high": 3.0}),
        ("bernoulli", {"p": 0.3}),
    )
    ys = [random(graph, name, (BATCH, 50), 5, "f", **parameters) for name, parameters in makers]
    ys.append(random(graph, "normal", (BATCH, 50), 6, "f", mean=3.0, stddev=2.0))
    return Computed(graph, ys, [], 400, dtype).run({}, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_distributions(dtype):
    normal, uniform, bernoulli, other = (x.astype(np.float64) for x in draws(dtype, seed=3, step=4))
    n = normal.size
    standard = np.sort((normal.reshape(-1) - 3.0) / 2.0)
    assert abs(standard.mean()) < 5 / np.sqrt(n) and abs(standard.var() - 1.0) < 8 / np.sqrt(n)
    assert abs(np.mean(np.abs(standard) < 0.6744897501960817) - 0.5) < 3 / np.sqrt(n)
    assert uniform.min() >= -1.0 and uniform.max() < 3.0
    sorted_ = np.sort((uniform.reshape(-1) + 1.0) / 4.0)
    assert np.abs(sorted_ - (np.arange(n) + 0.5) / n).max() < 2.0 / np.sqrt(n)
    assert set(np.unique(bernoulli)) == {0.0, 1.0} and abs(bernoulli.mean() - 0.3) < 3 / np.sqrt(n)
    assert abs(np.corrcoef(normal.reshape(-1), other.reshape(-1))[0, 1]) < 4 / np.sqrt(n)


def test_random_numbers_depend_on_seed_and_step_alone():
    first = draws(seed=3, step=4)
    assert all(np.array_equal(a, b) for a, b in zip(first, draws(seed=3, step=4, parts=5), strict=True))
    for other in (draws(seed=4, step=4), draws(seed=3, step=5)):
        assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("distribution", "parameters", "match"),
    [
        ("normal", {"mean": 0.0, "stddev": -1.0}, "stddev >= 0"),
        ("uniform", {"low": 1.0, "high": 0.0}, "low <= high"),
        ("bernoulli", {"p": 1.5}, "0 <= p <= 1"),
        ("bernoulli", {"q": 0.5}, "expected p, got"),
        ("normal", {"mean": np.nan, "stddev": 1.0}, "finite"),
        ("cauchy", {}, "expected one of"),
    ],
)
def test_wrong_parameters(distribution, parameters, match):
    with pytest.raises(ValueError, match=match):
        random(Graph(), distribution, (2,), 0, "f", **parameters)
