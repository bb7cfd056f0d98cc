"""Permutations of axes: any number of them, and what is refused."""

import numpy as np
import pytest

import fastnn as fnn

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("rank", [1, 2, 3, 5, 8, 12])
def test_any_order_of_any_number_of_axes(rank):
    shape = RNG.integers(1, 4, rank) if rank < 12 else np.full(rank, 2)
    for _ in range(3):
        dims = RNG.permutation(rank) + 1
        x = RNG.normal(size=(3, *shape)).astype(np.float32)
        x_in = fnn.Input(tuple(shape.tolist()))
        model = fnn.Model(x_in, fnn.Permute(dims.tolist())(x_in))
        np.testing.assert_array_equal(model.predict(x), np.transpose(x, (0, *dims)))


def test_its_gradient_is_the_inverse():
    x_in = fnn.Input((2, 3, 5, 4))
    model = fnn.Model(x_in, fnn.Permute((3, 1, 4, 2))(x_in), dtype="float64")
    model.compile("sgd", "mse")
    x, y = RNG.normal(size=(6, 2, 3, 5, 4)), RNG.normal(size=(6, 5, 2, 4, 3))
    expected = 2.0 * (x - np.transpose(y, (0, 2, 4, 1, 3))) / y.size
    np.testing.assert_allclose(model.input_gradients(x, y), expected, rtol=1e-12)


def test_axes_in_their_order_cost_nothing():
    x = fnn.Input((2, 3))
    model = fnn.Model(x, fnn.Dense(2)(fnn.Permute((1, 2))(x)))
    assert "strided" not in str(model.program)
    assert "strided" in str(fnn.Model(x, fnn.Permute((2, 1))(x)).program)


@pytest.mark.parametrize(
    ("dims", "error", "match"),
    [
        (2, TypeError, "dims: expected a tuple of axes from 1 on, such as \\(2, 1\\), got 2"),
        ((0, 1), ValueError, "dims\\[0\\]"),
        ((1, 3), ValueError, "each axis from 1 to 2 once, got \\(1, 3\\)"),
        ((1, 1), ValueError, "each axis from 1 to 2 once"),
        ((1, "2"), TypeError, "dims\\[1\\]"),
    ],
)
def test_what_is_no_order_is_refused(dims, error, match):
    with pytest.raises(error, match=match):
        fnn.Permute(dims)


def test_samples_of_other_ranks_are_refused():
    with pytest.raises(ValueError, match=r"takes samples of 2 axes, one for each of dims \(2, 1\), got \(3,\)"):
        fnn.Permute((2, 1))(fnn.Input(3))
