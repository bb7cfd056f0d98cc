"""Every op of `fastnn.ops`: values as NumPy's, first and second derivatives as finite differences."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn import ops
from fastnn.ops.definition import NUMPY_NAMES
from user_ops import CASES, B

#: without values to compare, or tested by themselves
_OTHERS = {"random_normal", "random_uniform", "random_bernoulli", "gradients"}


def inputs_of(case):
    return [fnn.Input(x.shape[1:]) for x in case.arrays]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_are_those_of_numpy(case, dtype):
    inputs = inputs_of(case)
    arrays = [x.astype(dtype) for x in case.arrays]
    y = case.symbolic(*inputs)
    found = fnn.function(inputs, [y], dtype=dtype)(*arrays)[0]
    expected = case.plain(*arrays)
    assert found.shape == np.shape(expected) and found.dtype == dtype
    np.testing.assert_allclose(
        found, expected, rtol=2e-5 if dtype == "float32" else 1e-12, atol=1e-5 if dtype == "float32" else 1e-13
    )


def directional(case, order):
    """Return a function of the arrays: sum(y^2 + 0.7 y), and its derivatives along directions."""
    rng = np.random.default_rng(3)
    inputs = inputs_of(case)
    y = case.symbolic(*inputs)
    value = ops.sum(ops.square(y) + 0.7 * y)
    directions = [rng.normal(size=x.shape) for x in case.arrays]
    symbols = [fnn.Input(x.shape[1:]) for x in case.arrays]
    results = [value]
    for _ in range(order):
        slopes = ops.gradients(results[-1], inputs, "zeros")
        results.append(sum(ops.sum(slope * d) for slope, d in zip(slopes, symbols, strict=True)))
    return fnn.function([*inputs, *symbols], results, dtype="float64"), directions


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("case", [case for case in CASES if case.smooth], ids=str)
def test_derivatives_are_those_of_differences(case, order):
    function, directions = directional(case, order)

    def at(step):
        return [
            float(x)
            for x in function(*(x + step * d for x, d in zip(case.arrays, directions, strict=True)), *directions)
        ]

    h = 1e-5
    lower, upper, here = at(-h), at(h), at(0.0)
    for k in range(order):
        slope = (upper[k] - lower[k]) / (2 * h)
        assert abs(here[k + 1] - slope) <= 1e-6 * (1 + abs(slope)), (case.name, k, here[k + 1], slope)


def test_every_op_has_a_case():
    said = {case.name.partition("_")[0] if case.name not in NUMPY_NAMES else case.name for case in CASES} | {
        c.name for c in CASES
    }
    missing = [
        name for name in NUMPY_NAMES if name not in _OTHERS and not any(s == name or s.startswith(name) for s in said)
    ]
    assert not missing, missing


def test_random_numbers_are_new_in_each_step_and_the_same_for_a_seed():
    x = fnn.Input(3)
    numbers = [
        ops.random_normal(x, 1.0, 2.0),
        ops.random_uniform((None, 3), -1.0, 1.0),
        ops.random_bernoulli((None, 3), 0.25),
    ]
    rows = np.zeros((20_000, 3), np.float32)
    found = fnn.function([x], numbers, seed=3)(rows)
    again = fnn.function([x], numbers, seed=3)(rows)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    assert abs(found[0].mean() - 1) < 0.05 and abs(found[0].std() - 2) < 0.05
    assert found[1].min() >= -1 and found[1].max() < 1 and abs(found[1].mean()) < 0.02
    assert set(np.unique(found[2])) == {0.0, 1.0} and abs(found[2].mean() - 0.25) < 0.01


def test_batches_of_predictions_have_numbers_of_their_own():
    x = fnn.Input(4)
    model = fnn.Model(x, 0.0 * x + ops.random_normal(x), seed=0, dtype="float64")
    rows = np.zeros((600, 4))
    found = model.predict(rows)
    assert len(np.unique(found)) == found.size  # 256 rows, 256 and 88
    np.testing.assert_array_equal(found, model.predict(rows))
    assert len(np.unique(model.predict(rows, batch_size=10))) == found.size
    np.testing.assert_array_equal(model.predict(iter([rows[:256], rows[256:]])), found)
    model.compile("sgd", lambda y_true, y_pred: ops.mean(ops.random_uniform(y_pred) + y_true))
    alone = model.evaluate(rows[:10], rows[:10])["loss"]
    assert model.evaluate(rows, rows, batch_size=10)["loss"] != alone


def test_other_batch_sizes_need_no_other_symbols():
    x = fnn.Input(3)
    f = fnn.function([x], [x @ x.T, ops.mean(x), ops.concatenate([x, x], 0)])
    for rows in (1, B, 31):
        a = np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)
        for found, expected in zip(f(a), (a @ a.T, a.mean(), np.concatenate([a, a])), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


_X, _I = fnn.Input(4), fnn.Input(4, dtype="int64")
_MAPS = fnn.Input((8, 8, 3))


def _kernel(*shape):
    return np.zeros(shape)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            lambda: ops.gradients(_X * 2.0, _X, unconnected="none"),
            ValueError,
            "expected 'error' or 'zeros', got 'none'",
        ),
        (lambda: ops.gradients(_X, 3.0), TypeError, "gradients: x: expected a symbol, got 3.0"),
        (lambda: ops.gradients(3.0, _X), TypeError, "gradients: y: expected a symbol, got 3.0"),
        (lambda: ops.gradients(_X, []), ValueError, "gradients: x: expected at least one symbol"),
        (lambda: ops.gradients(_X, _I), ValueError, "integers, which have no gradient"),
        (lambda: ops.random_normal("ab"), ValueError, "random_normal: shape: expected sizes .* got 'ab'"),
        (lambda: ops.random_uniform((None, 0)), ValueError, "random_uniform: shape: expected sizes"),
        (lambda: ops.random_normal((2.5,)), ValueError, "random_normal: shape: expected sizes"),
        (lambda: ops.random_bernoulli(_X, p=_X), TypeError, "random_bernoulli: p: expected a number"),
        (lambda: ops.concatenate(_X), TypeError, "expected a list of symbols"),
        (lambda: ops.stack(_X), TypeError, "expected a list of symbols"),
        (lambda: ops.conv(_X, _kernel(3, 3, 1, 1)), ValueError, r"conv: expected maps \(batch, \*sizes, channels\)"),
        (
            lambda: ops.conv(_MAPS, _kernel(3, 3, 3)),
            ValueError,
            r"a kernel of 4 axes for maps .* got one of \(3, 3, 3\)",
        ),
        (lambda: ops.conv(_MAPS, _kernel(3, 3, 2, 4)), ValueError, r"\(3, 3, 2, 4\) does not fit 3 channels"),
        (lambda: ops.conv(_MAPS, None), TypeError, "expected a symbol, a number or an array of numbers, got None"),
        (lambda: ops.conv(_MAPS, _kernel(9, 3, 3, 4)), ValueError, "reaches over 9 entries does not fit an axis of 8"),
        (lambda: ops.conv(_MAPS, _kernel(3, 3, 3, 4), 0), ValueError, "strides: expected an integer >= 1, got 0"),
        (
            lambda: ops.conv(_MAPS, _kernel(3, 3, 3, 4), padding="causal"),
            ValueError,
            "padding: expected 'valid' or 'same', got 'causal'",
        ),
        (
            lambda: ops.conv_transpose(_MAPS, _kernel(3, 3, 4, 3), 2, "same", (1,)),
            ValueError,
            r"output_padding: expected an integer, or 2 of them, got \(1,\)",
        ),
        (
            lambda: ops.conv_transpose(_MAPS, _kernel(3, 3, 4, 3), 2, "same", -1),
            ValueError,
            "output_padding: expected an integer >= 0, got -1",
        ),
        (
            lambda: ops.conv_transpose(_MAPS, _kernel(3, 3, 4, 3), 2, "same", 3),
            ValueError,
            "output_padding does not fit",
        ),
        (lambda: ops.depthwise_conv(_MAPS, _kernel(3, 3, 2, 4)), ValueError, "does not fit 3 channels"),
        (
            lambda: ops.separable_conv(_MAPS, _kernel(3, 3, 3, 2), _kernel(1, 1, 5, 4)),
            ValueError,
            r"a pointwise kernel of shape \(1, 1, 6, 'filters'\), got \(1, 1, 5, 4\)",
        ),
        (lambda: ops.max_pool(_MAPS, (2, 2, 2)), ValueError, "pool_size: expected an integer, or 2 of them"),
        (lambda: ops.average_pool(_X, 2), ValueError, "average_pool: expected maps"),
    ],
)
def test_bad_arguments(call, error, says):
    with pytest.raises(error, match=says) as raised:
        call()
    assert "test_user_ops.py" in raised.value.__notes__[0]


def test_truth_values_on_the_left():
    rows = np.arange(8.0).reshape(2, 4) - 3.0
    found = fnn.function(_X, [True & (_X > 0.0), False | (_X > 0.0)])(rows)
    np.testing.assert_array_equal(found[0], rows > 0.0)
    np.testing.assert_array_equal(found[1], rows > 0.0)
