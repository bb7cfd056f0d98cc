"""Gradients of a model's weights beside finite differences of its loss."""

import pytest


def check_gradients(model, data, target, rng, *, rel, abs):
    """Compare the gradient of each weight, along a random direction, with the difference of two losses."""
    weights = model.get_weights()
    for number, gradient in enumerate(model.gradients(data, target)):
        way, losses = rng.normal(size=gradient.shape), []
        for step in (1e-5, -1e-5):
            model.set_weights([w + step * way if n == number else w for n, w in enumerate(weights)])
            losses.append(model.evaluate(data, target)["loss"])
        model.set_weights(weights)
        assert (gradient * way).sum() == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=rel, abs=abs)
