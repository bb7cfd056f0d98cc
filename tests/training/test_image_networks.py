"""Networks for images as wholes: training, files, copies, nesting, layouts of data, numbers that are not finite."""

import copy
import inspect
import pickle
from random import Random

import numpy as np
import pytest

import fastnn as fnn
from fastnn.errors import InputNotFiniteError
from random_images import random_layer
from sliding import values

RNG = np.random.default_rng(2)
N = 24
LABELS = RNG.integers(0, 3, N)


def pictures():
    """Make images of three kinds: rows, columns, or a spot."""
    x = RNG.integers(0, 60, size=(N, 10, 9, 2)).astype(np.uint8)
    for image, label in zip(x, LABELS, strict=True):
        place = RNG.integers(2, 7)
        if label == 0:
            image[place] = 200
        elif label == 1:
            image[:, place] = 200
        else:
            image[place : place + 2, place : place + 2] = 255
    return x


IMAGES = pictures()


def classifier(dtype="float32", seed=1, optimizer=None):
    layers = [
        fnn.Input((10, 9, 2)), fnn.Conv2D(8, 3, padding="same", use_bias=False), fnn.BatchNorm(),
        fnn.Activation("relu"), fnn.MaxPooling2D(), fnn.SpatialDropout2D(0.1),
        fnn.SeparableConv2D(12, 3, padding="same", activation="gelu"), fnn.GroupNorm(4),
        fnn.Conv2D(8, 2, 2, kernel_regularizer=fnn.L2(1e-4), kernel_constraint=fnn.MaxNorm(3.0, -1)),
        fnn.GlobalAveragePooling2D(), fnn.Dense(3, "softmax"),
    ]  # fmt: skip
    model = fnn.Sequential(layers, seed=seed, dtype=dtype)
    model.compile(optimizer or fnn.Adam(0.01), "cross_entropy", metrics=["accuracy"])
    return model


def coder(dtype="float32"):
    """A small encoder and decoder with a connection between them."""
    x = fnn.Input((8, 8, 1))
    first = fnn.Conv2D(4, 3, padding="same", activation="relu")(x)
    low = fnn.Conv2D(6, 3, 2, padding="same", activation="relu")(first)
    up = fnn.Conv2DTranspose(4, 3, 2, padding="same", activation="relu")(low)
    wide = fnn.UpSampling2D(2, interpolation="bilinear")(fnn.AveragePooling2D(2)(up))
    y = fnn.Conv2D(1, 1)(fnn.Concatenate()([first, up, wide]))
    model = fnn.Model(x, y, seed=3, dtype=dtype)
    model.compile(fnn.Adam(0.02), "mse")
    return model


def same(one, other):
    assert [weight.tobytes() for weight in one] == [weight.tobytes() for weight in other]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_classifier_learns(dtype):
    model = classifier(dtype)
    history = model.fit(IMAGES / 255.0, LABELS, batch_size=8, epochs=40, verbose=0).history
    assert history["loss"][-1] < 0.2 * history["loss"][0] and history["accuracy"][-1] > 0.9
    assert model.evaluate(IMAGES / 255.0, LABELS)["accuracy"] > 0.8


def test_images_are_restored_from_noisy_ones():
    model, (row, column) = coder(), np.mgrid[0.0:1.0:8j, 0.0:1.0:8j]
    clean = np.stack([np.sin(3.0 * (a * row + b * column)) for a, b in RNG.normal(size=(16, 2))])[..., None]
    history = model.fit(clean + RNG.normal(0, 0.1, clean.shape), clean, batch_size=4, epochs=30, verbose=0).history
    assert history["loss"][-1] < 0.1 * history["loss"][0]
    # a short step down the gradient lowers the loss
    plain = coder("float64")
    plain.compile(fnn.SGD(1e-3), "mse")
    before = plain.train_on_batch(clean, clean)["loss"]
    assert plain.test_on_batch(clean, clean)["loss"] < before


@pytest.mark.parametrize("way", ["file", "pickle", "copy"])
def test_copies_go_on_like_the_model(way, tmp_path):
    model = classifier()
    model.fit(IMAGES, LABELS, batch_size=8, epochs=2, verbose=0)
    if way == "file":
        model.save(tmp_path / "m.safetensors")
        other = fnn.load(tmp_path / "m.safetensors")
    else:
        other = pickle.loads(pickle.dumps(model)) if way == "pickle" else copy.deepcopy(model)
    same(model.get_weights(), other.get_weights())
    assert model.predict(IMAGES).tobytes() == other.predict(IMAGES).tobytes()
    for each in (model, other):
        each.fit(IMAGES, LABELS, batch_size=8, epochs=4, resume=True, verbose=0)
    same(model.get_weights(), other.get_weights())


def arguments(layer):
    return [name for name in inspect.signature(type(layer)).parameters if name not in ("name", "trainable")]


@pytest.mark.parametrize("seed", range(1000, 1030))
def test_random_layers_in_files(seed, tmp_path):
    """The arguments of a layer survive a file."""
    layer, x_in, y = random_layer(Random(seed))
    model = fnn.Model(x_in, y, seed=1)
    model.save(tmp_path / "m")
    loaded = fnn.load(tmp_path / "m")
    (other,) = loaded.layers
    assert repr(type(other)(**{name: getattr(other, name) for name in arguments(layer)})) == repr(layer)
    x = RNG.normal(size=(2, *x_in.shape)).astype(np.float32)
    assert loaded.predict(x).tobytes() == model.predict(x).tobytes()


def test_models_in_models():
    part = fnn.Sequential([
        fnn.Input((6, 5, 3)), fnn.Conv2D(3, 3, padding="same", activation="tanh"), fnn.BatchNorm(),
    ], seed=2, name="part", dtype="float64")  # fmt: skip
    x = fnn.Input((6, 5, 3))
    twice = part(part(x))
    model = fnn.Model(x, fnn.Dense(2)(fnn.GlobalMaxPooling2D()(twice)), seed=2, dtype="float64")
    model.compile(fnn.SGD(0.05), "mse")
    data, target = RNG.normal(size=(9, 6, 5, 3)), RNG.normal(size=(9, 2))
    np.testing.assert_array_equal(model.predict(data), _head(model, part, data))
    before = part.predict(data)
    losses = [model.train_on_batch(data, target)["loss"] for _ in range(20)]
    assert losses[-1] < losses[0] and (part.predict(data) != before).any()
    np.testing.assert_array_equal(model.predict(data), _head(model, part, data))


def _head(model, part, data):
    whole = part.predict(part.predict(data)).max((1, 2))
    kernel, bias = model.get_weights("dense")
    return fnn.linalg.matmul(whole, kernel, bias=bias)


def test_a_layer_used_twice():
    """Its kernel has the sum of both gradients."""
    x_in, layer = fnn.Input((5, 4, 2)), fnn.Conv2D(2, 3, padding="same", use_bias=False)
    model = fnn.Model(x_in, layer(layer(x_in)), seed=0, dtype="float64")
    model.compile("sgd", "mse")
    x, y = RNG.normal(size=(3, 5, 4, 2)), RNG.normal(size=(3, 5, 4, 2))
    (kernel,), (found,) = model.get_weights(), model.gradients(x, y)
    way = RNG.normal(size=kernel.shape)

    def loss(weight):
        return ((values(layer, [weight], values(layer, [weight], x)) - y) ** 2).mean()

    slope = (loss(kernel + 1e-6 * way) - loss(kernel - 1e-6 * way)) / 2e-6
    np.testing.assert_allclose((found * way).sum(), slope, rtol=1e-7)


# --- data -----------------------------------------------------------------------------------------------------------


def layouts(x):
    """Return the same images (n, height, width, channels) in other layouts and types."""
    first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    wide = np.zeros((len(x), *(2 * size for size in x.shape[1:])), x.dtype)
    wide[:, ::2, 1::2, ::-2] = x
    return {
        "channels first": first.transpose(0, 2, 3, 1), "Fortran": np.asfortranarray(x),
        "steps": wide[:, ::2, 1::2, ::-2],
        "batch last": np.ascontiguousarray(x.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2),
        "backwards": np.ascontiguousarray(x[::-1])[::-1], "float64": x.astype(np.float64), "int64": x.astype(np.int64),
        "float16": x.astype(np.float16), "big-endian": x.astype(">f4"),
    }  # fmt: skip


def test_any_layout_and_type_of_images():
    """All numbers from 0 to 255 are exact in each of the types."""
    wanted = classifier().predict(IMAGES.astype(np.float32))
    trained = classifier()
    trained.fit(IMAGES.astype(np.float32), LABELS, batch_size=8, epochs=2, verbose=0)
    assert IMAGES.dtype == np.uint8
    for name, x in {"uint8": IMAGES, **layouts(IMAGES)}.items():
        np.testing.assert_array_equal(x.astype(np.float32), IMAGES)
        model = classifier()
        assert model.predict(x).tobytes() == wanted.tobytes(), name
        assert model.predict(x, batch_size=5).tobytes() == classifier().predict(IMAGES, batch_size=5).tobytes(), name
        model.fit(x, LABELS, batch_size=8, epochs=2, verbose=0)
        same(model.get_weights(), trained.get_weights())


@pytest.mark.parametrize(
    "layer",
    [
        fnn.Conv2D(5, 3, 2, "same", data_format="channels_first"), fnn.MaxPooling2D(2, data_format="channels_first"),
        fnn.Conv2DTranspose(3, 2, 2, data_format="channels_first"),
        fnn.DepthwiseConv2D(2, data_format="channels_first", activation="relu"),
        fnn.AveragePooling2D(2, data_format="channels_first"),
    ],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_channels_first_is_a_transposition(layer):
    x_in = fnn.Input((2, 10, 9))
    model = fnn.Model(x_in, layer(x_in), seed=0)
    given = {name: getattr(layer, name) for name in arguments(layer)}
    other, x_last = type(layer)(**{**given, "data_format": "channels_last"}), fnn.Input((10, 9, 2))
    last = fnn.Model(x_last, other(x_last), seed=0)
    last.set_weights(model.get_weights())
    x = RNG.normal(size=(3, 2, 10, 9)).astype(np.float32)
    found = last.predict(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(model.predict(x), found)


# --- numbers that are not finite ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_training_refuses_images_that_are_not_finite(bad):
    model, x = classifier(), IMAGES.astype(np.float32)
    x[7, 3, 2, 1] = bad
    before = model.get_weights()
    for call in (lambda: model.fit(x, LABELS, batch_size=8, shuffle=False, verbose=0),
                 lambda: model.train_on_batch(x, LABELS)):  # fmt: skip
        with pytest.raises(InputNotFiniteError, match="row 7 "):
            call()
    same(before, model.get_weights())


COVERED = {
    "conv": fnn.Conv2D(5, 3, padding="same"), "conv one filter": fnn.Conv2D(1, 3, padding="same"),
    "conv many filters": fnn.Conv2D(33, 3), "strides": fnn.Conv2D(4, 3, 2, "same"),
    "dilation": fnn.Conv2D(4, 2, dilation_rate=2), "relu": fnn.Conv2D(4, 3, activation="relu"),
    "groups": fnn.Conv2D(4, 3, groups=2), "depthwise": fnn.DepthwiseConv2D(3, padding="same"),
    "transpose": fnn.Conv2DTranspose(3, 3, 2, "same"), "max": fnn.MaxPooling2D(3, 2, "same"),
    "average": fnn.AveragePooling2D(3, 1, "same"),
}  # fmt: skip


@pytest.mark.parametrize("name", COVERED)
def test_nan_stays_in_its_windows(name):
    """What no window with a NaN covers has the bits that it has without it, and the rest is NaN."""
    layer = COVERED[name]
    x_in = fnn.Input((7, 8, 2))
    model = fnn.Model(x_in, layer(x_in), seed=0)
    model.set_weights([np.abs(weight) + 0.1 for weight in model.get_weights()])
    x = RNG.uniform(0.5, 1.0, size=(3, 7, 8, 2)).astype(np.float32)
    clean = model.predict(x)
    x[1, 3, 2, 1] = np.nan
    found = model.predict(x)
    with np.errstate(invalid="ignore"):
        expected = values(layer, model.get_weights(), x)
    if name == "depthwise":
        assert np.isnan(expected[..., 1]).any() and not np.isnan(expected[..., 0]).any()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    assert np.isnan(found[1]).any() and not np.isnan(found[[0, 2]]).any()
    fine = ~np.isnan(found)
    assert found[fine].tobytes() == clean[fine].tobytes()


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
@pytest.mark.parametrize("name", COVERED)
def test_infinities(name, bad):
    """Where a window holds an infinity, the result is not finite, but for maxima of which others are larger."""
    layer = COVERED[name]
    x_in = fnn.Input((7, 8, 2))
    model = fnn.Model(x_in, layer(x_in), seed=0)
    model.set_weights([np.abs(weight) + 0.1 for weight in model.get_weights()])
    x = RNG.uniform(0.5, 1.0, size=(3, 7, 8, 2)).astype(np.float32)
    clean = model.predict(x)
    x[1, 3, 2, 1] = bad
    found = model.predict(x)
    with np.errstate(invalid="ignore"):
        expected = values(layer, model.get_weights(), x)
    # relu of minus infinity is 0
    np.testing.assert_array_equal(found[[0, 2]], clean[[0, 2]])
    sure = np.isfinite(expected)
    assert not np.isfinite(found[~sure]).any()
    if name in ("max", "average"):
        np.testing.assert_array_equal(found[~sure], expected[~sure])
        np.testing.assert_allclose(found[sure], expected[sure], rtol=1e-6)
