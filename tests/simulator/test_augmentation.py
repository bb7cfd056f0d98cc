"""Layers that change images at random: the same numbers on a GPU."""

import numpy as np

import fastnn as fnn


def network(**more):
    model = fnn.Sequential(
        [
            fnn.Input((5, 4, 2)), fnn.Rescaling([0.5, 2.0], 0.1), fnn.Resizing(4, 5), fnn.RandomFlip(),
            fnn.RandomTranslation(0.3, 0.3), fnn.RandomZoom(0.3, fill_mode="constant"),
            fnn.RandomRotation(0.2, "wrap"), fnn.RandomContrast(0.4, (-5, 5)), fnn.RandomBrightness(0.1, (-3, 3)),
            fnn.Flatten(), fnn.Dense(2),
        ], seed=1, **more,
    )  # fmt: skip
    model.compile(fnn.SGD(0.05), "mse")
    return model


def test_training_agrees_with_the_cpu():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 5, 4, 2)).astype(np.float32), rng.normal(size=(3, 2)).astype(np.float32)
    there, here = network(device="cuda"), network()
    for _ in range(2):
        found = [model.train_on_batch(x, y)["loss"] for model in (there, here)]
        np.testing.assert_allclose(*found, rtol=1e-4)
    np.testing.assert_allclose(there.predict(x), here.predict(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(there.input_gradients(x, y), here.input_gradients(x, y), rtol=1e-4, atol=1e-5)
