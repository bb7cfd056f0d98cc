"""Attention in graphs: first and second derivatives against differences, masks of all shapes, large batches."""

import numpy as np
import pytest

from computed import build, check_derivatives
from fastnn.graph.ops.sequences.attention import attention
from fastnn.graph.rules import NoGradientError

RNG = np.random.default_rng(3)


def make(mask=None, **more):
    """Make attention with a constant mask, as a function of a graph."""

    def made(graph, q, k, v, *masks):
        return attention(graph, q, k, v, *(masks or (None,)), "a", scale=0.8, **more)

    return made


SHAPES = [(True, (3, 4, 2)), (True, (5, 2, 2)), (True, (5, 2, 2))]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_derivatives(causal, rate):
    check_derivatives(make(causal=causal, rate=rate, stream=3), SHAPES, tolerance=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_derivatives_with_a_mask(causal):
    mask = np.where(RNG.random((3, 4, 1, 5)) < 0.3, -np.inf, RNG.normal(size=(3, 4, 1, 5)))
    mask[0] = -np.inf  # queries without keys
    values = [RNG.normal(size=(3, *shape)) for _, shape in SHAPES]
    check_derivatives(make(causal=causal), [*SHAPES, (True, (4, 1, 5))], values=[*values, mask], wanted=(0, 1, 2),
                      tolerance=1e-6, most=20)  # fmt: skip


MASKS = [(True, (1, 1, 5)), (True, (1, 3, 5)), (False, (3, 5)), (True, (4, 3, 5)), (False, (4, 1, 5)), (False, (5,))]


@pytest.mark.parametrize("batched, shape", MASKS)
def test_masks_are_broadcast(batched, shape):
    values = [RNG.normal(size=(2, *one)) for _, one in SHAPES]
    mask = np.where(RNG.random((2, *shape) if batched else shape) < 0.3, -np.inf, RNG.normal())
    computed = build(make(), [*SHAPES, (batched, shape)], batch=2)
    q, k, v = (x.swapaxes(1, 2).repeat(4 // x.shape[2], axis=1) for x in values)
    scores = np.exp(0.8 * q @ k.swapaxes(2, 3) + mask)
    total = scores.sum(axis=3, keepdims=True)
    expected = (np.divide(scores, total, out=np.zeros_like(scores), where=total > 0.0) @ v).swapaxes(1, 2)
    for got in (computed.run([*values, mask]), computed.reference([*values, mask])):
        np.testing.assert_allclose(got[0], expected, rtol=0, atol=1e-14)


def test_what_is_wrong():
    with pytest.raises(ValueError, match=r"mask of shape \(4,\) cannot be broadcast"):
        build(make(), [*SHAPES, (False, (4,))])
    with pytest.raises(NoGradientError, match="no gradient for its mask"):
        check_derivatives(make(), [*SHAPES, (False, (3, 5))])
