"""Random networks of layers of images: against plain NumPy and differences, and the same bits in every way."""

from random import Random

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn import threads
from fastnn.backend.cpu.processor import cost
from fastnn.backend.cpu.threads import thread_pool
from random_images import random_layer, random_network
from sliding import values


def seeds(quick, slow):
    return [*range(quick), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(quick, slow))]


@pytest.fixture(autouse=True)
def small_work_is_cut(monkeypatch):
    monkeypatch.setattr(cost, "PART_NANOSECONDS", 1e-6)
    monkeypatch.setattr(thread_pool, "WAKE_NANOSECONDS", 0.0)
    # what does not choose a number of threads runs on one
    monkeypatch.setattr(threads, "_chosen", 1)


@pytest.mark.parametrize("block", seeds(4, 20))
def test_values_of_layers(block):
    """Ten layers each, in both dtypes, and rows by themselves."""
    for seed in range(10 * block, 10 * block + 10):
        random = Random(seed)
        layer, x_in, y = random_layer(random)
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(random.choice([1, 2, 5]), *x_in.shape)).astype(np.float32)
        for dtype, tolerance in (("float64", 1e-11), ("float32", 3e-5)):
            model = fnn.Model(x_in, y, dtype=dtype)
            if dtype == "float64":
                weights = [rng.normal(size=weight.shape).astype(np.float32) for weight in model.get_weights()]
            model.set_weights(weights)
            got, expected = model.predict(x), values(layer, weights, x)
            assert got.dtype == dtype and got.shape == expected.shape == (len(x), *y.shape), layer
            atol = tolerance * max(1.0, np.abs(expected).max())
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=atol, err_msg=f"{layer} of {x.shape}")
            # each row has the bits that it has alone; matrix products of one row and column have others
            if not isinstance(layer, fnn.Conv2D) or np.prod(layer.kernel_size) > 1 or layer.filters > 1:
                alone = np.concatenate([model.predict(row[None]) for row in x])
                assert alone.tobytes() == got.tobytes(), f"{layer} of {x.shape}"


def directional(model, network, x, gradient, arrays, set_arrays):
    """Compare a gradient in a random direction with differences of the loss."""
    rng = np.random.default_rng(1)
    directions = [rng.normal(size=array.shape) for array in arrays]
    got = sum(float((g * d).sum()) for g, d in zip(gradient, directions, strict=True))
    errors = []
    for step in (1e-5, 1e-6, 1e-7):  # shorter where a maximum or a kink is near
        losses = []
        for sign in (1.0, -1.0):
            moved = set_arrays([a + sign * step * d for a, d in zip(arrays, directions, strict=True)])
            losses.append(model.test_on_batch(x if moved is None else moved, network.y)["loss"])
        set_arrays(arrays)
        expected = (losses[0] - losses[1]) / (2.0 * step)
        errors.append(abs(got - expected) / max(abs(expected), 1e-3))
        if errors[-1] < 1e-5:
            return
    raise AssertionError(f"{network}: {got}, expected {expected}, {errors}")


@pytest.mark.parametrize("seed", seeds(40, 200))
def test_networks(seed):
    network = random_network(seed)
    # gradients, by differences
    model = network.model("float64")
    directional(
        model, network, network.x, [model.input_gradients(network.x, network.y)], [network.x], lambda moved: moved[0]
    )  # fmt: skip
    if model.get_weights():
        gradients = model.gradients(network.x, network.y)
        directional(model, network, network.x, gradients, model.get_weights(), model.set_weights)
    # float32 is close to float64
    x, y = (array.astype(np.float32) for array in (network.x, network.y))
    exact, found = model.predict(x), network.model("float32").predict(x)
    np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-4 * max(1.0, np.abs(exact).max()), err_msg=str(network))
    # any number of threads computes the same bits, and so does compiled code
    for dtype, counts in (("float32", (1, 2, 3, 5)), ("float64", (3, 1))):
        wanted = None
        for count in counts:
            fnn.set_num_threads(count)
            model = network.model(dtype)
            predictions = model.predict(x, batch_size=len(x))
            frozen = np.full_like(predictions, np.nan)
            fnp.predict(model.freeze(), x.astype(dtype), frozen)
            assert frozen.tobytes() == predictions.tobytes(), network
            losses = [model.train_on_batch(x, y)["loss"] for _ in range(2)]
            bits = [predictions.tobytes(), losses, [weight.tobytes() for weight in model.get_weights()]]
            wanted = bits if wanted is None else wanted
            assert bits == wanted, f"{network} on {count} threads, {dtype}"
        twin = network.model(dtype)
        if twin.get_weights():
            learner = twin.learner()
            assert [fnp.train_step(learner, x.astype(dtype), y.astype(dtype)) for _ in range(2)] == losses
            twin.update_from(learner)
            assert [weight.tobytes() for weight in twin.get_weights()] == wanted[2], network
