"""Dot products of one to four numbers are taken a vector of rows at a time."""

import numpy as np
import pytest

import fastnn as fnn


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_short_dot_products(k, dtype):
    rng = np.random.default_rng(k)
    for m in (1, 2, 3):
        for n in (2, 7, 8, 15, 16, 17, 33, 64):
            a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(n, k)).astype(dtype)
            bias = rng.normal(size=n).astype(dtype)
            guarded = np.full(m * n + 64, 7.0, dtype)
            out = guarded[32:-32].reshape(m, n)
            fnn.matmul(a, b, transpose_b=True, bias=bias, out=out)
            exact = a.astype(np.float64) @ b.T.astype(np.float64) + bias
            np.testing.assert_allclose(out, exact, rtol=0, atol=8 * k * np.finfo(dtype).eps)
            assert (guarded[:32] == 7.0).all() and (guarded[-32:] == 7.0).all()
            # the bits of an element do not depend on where it is
            turned = fnn.matmul(a[::-1].copy(), np.roll(b, 5, axis=0), transpose_b=True, bias=np.roll(bias, 5))
            np.testing.assert_array_equal(np.roll(turned, -5, axis=1)[::-1], out)


@pytest.mark.parametrize("place", ["a", "b"])
def test_short_dot_products_of_nan_and_infinity(place):
    a, b = np.ones((2, 3), np.float32), np.ones((19, 3), np.float32)
    {"a": a, "b": b}[place][1, 2] = np.nan
    {"a": a, "b": b}[place][0, 1] = np.inf
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(fnn.matmul(a, b, transpose_b=True), a @ b.T)
