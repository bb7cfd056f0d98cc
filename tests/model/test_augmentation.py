"""Layers of images for preprocessing and augmentation, beside plain NumPy with the numbers that have been drawn."""

import re

import numpy as np
import pytest

import fastnn as fnn
from computed import build, check_derivatives
from fastnn import nopython as fnp
from fastnn import threads
from fastnn.backend.cpu.processor import cost
from fastnn.backend.cpu.threads import thread_pool
from fastnn.graph.extent import BATCH
from fastnn.graph.ops.pointwise import random
from fastnn.layers.base import Scope
from placing import moved
from sliding import magnified

RNG = np.random.default_rng(11)
X = RNG.uniform(0.0, 1.0, (5, 6, 7, 2))
FIRST = "channels_first"
AUGMENTATIONS = [
    fnn.RandomFlip(), fnn.RandomFlip("vertical", FIRST), fnn.RandomTranslation(0.3, (0.1, 0.4)),
    fnn.RandomTranslation(0.5, 0.0, "wrap", "nearest", data_format=FIRST), fnn.RandomZoom((-0.5, 0.4)),
    fnn.RandomZoom(0.3, 0.6, "constant", fill_value=0.5, data_format=FIRST), fnn.RandomRotation(0.2),
    fnn.RandomRotation((0.1, 0.4), "constant", fill_value=0.5, data_format=FIRST), fnn.RandomContrast(0.5, (0.0, 1.0)),
    fnn.RandomContrast((0.2, 0.9), (0.1, 0.8), FIRST), fnn.RandomBrightness(0.3, (0.0, 1.0)),
    fnn.RandomBrightness((0.1, 0.2), (-1.0, 2.0), FIRST),
]  # fmt: skip
each = pytest.mark.parametrize("layer", AUGMENTATIONS, ids=lambda layer: type(layer).__name__)


def applied(layer, x, dtype="float64", seed=3, step=0, parts=1, reference=False):
    """Return what a layer makes of images in training, and the numbers (n, ...) that it draws from 0 to 1."""
    first = getattr(layer, "data_format", None) == FIRST
    x = np.moveaxis(x, -1, 1) if first else x
    count = 2 if getattr(layer, "width_factor", None) is not None or "and" in getattr(layer, "mode", "") else 1

    def make(graph, images):
        made = layer.apply(graph, [images], (), Scope("layer", 9, True, True))
        return made, random(graph, "uniform", (BATCH, count), 9, "drawn", low=0.0, high=1.0)

    computed = build(make, [(True, x.shape[1:])], len(x), dtype)
    run = computed.reference if reference else computed.run
    y, drawn = run([x], seed=seed, step=step, **({} if reference else {"parts": parts}))
    return np.moveaxis(y, 1, -1) if first else y, drawn


def expected(layer, x, drawn):
    """Compute the same from the drawn numbers."""

    def scaled(factor, column=0):
        low, high = factor if isinstance(factor, tuple) else (-factor, factor)
        return low + drawn[:, column] * (high - low)

    y = x.copy()
    _, height, width, _ = x.shape
    i, j = np.arange(height)[None, :, None], np.arange(width)[None, None, :]
    match layer:
        case fnn.RandomFlip():
            for image, numbers in zip(y, drawn, strict=True):
                if "vertical" in layer.mode and numbers[0] < 0.5:
                    image[:] = image[::-1].copy()
                if "horizontal" in layer.mode and numbers[-1] < 0.5:
                    image[:] = image[:, ::-1].copy()
            return y
        case fnn.RandomContrast():
            lower, upper = layer.factor if isinstance(layer.factor, tuple) else (layer.factor,) * 2
            times, mean = 1.0 - lower + drawn[:, :, None, None] * (lower + upper), x.mean((1, 2), keepdims=True)
            return np.clip((x - mean) * times + mean, *layer.value_range)
        case fnn.RandomBrightness():
            more = scaled(layer.factor) * (layer.value_range[1] - layer.value_range[0])
            return np.clip(x + more[:, None, None, None], *layer.value_range)
        case fnn.RandomTranslation():
            down, right = scaled(layer.height_factor) * height, scaled(layer.width_factor, 1) * width
            rows, columns = i - down[:, None, None], j - right[:, None, None]
        case fnn.RandomZoom():
            high = 1.0 + scaled(layer.height_factor)
            wide = high if layer.width_factor is None else 1.0 + scaled(layer.width_factor, 1)
            rows = (i - (height - 1) / 2) * high[:, None, None] + (height - 1) / 2
            columns = (j - (width - 1) / 2) * wide[:, None, None] + (width - 1) / 2
        case fnn.RandomRotation():
            # a complex number points up and to the right; a pixel comes from where it is before the turn
            from_middle = (j - (width - 1) / 2) - 1j * (i - (height - 1) / 2)
            source = from_middle * np.exp(-2j * np.pi * scaled(layer.factor))[:, None, None]
            rows, columns = (height - 1) / 2 - source.imag, (width - 1) / 2 + source.real
    return moved(x, rows, columns, layer.interpolation, layer.fill_mode, layer.fill_value)


@each
def test_values(layer):
    y, drawn = applied(layer, X)
    assert not np.array_equal(y, X) and len(np.unique(drawn)) == drawn.size
    np.testing.assert_allclose(y, expected(layer, X, drawn), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(applied(layer, X, reference=True)[0], y, rtol=1e-12, atol=1e-12)
    single, numbers = applied(layer, X.astype(np.float32), "float32")
    np.testing.assert_allclose(single, expected(layer, X, numbers.astype(float)), rtol=1e-5, atol=1e-5)
    # other numbers in another step; the same for any number of parts, and for a sample in a batch of another size
    assert not np.array_equal(applied(layer, X, step=1)[0], y)
    for parts in (2, 3):
        assert applied(layer, X, parts=parts)[0].tobytes() == y.tobytes()
    np.testing.assert_array_equal(applied(layer, X[:3])[1], drawn[:3])


@each
def test_gradients(layer):
    shape = (2, 3, 4) if layer.data_format == FIRST else (3, 4, 2)
    check_derivatives(
        lambda g, x: layer.apply(g, [x], (), Scope("layer", 9, True, True)), [(True, shape)], batch=2, orders=1,
        values=[RNG.uniform(0.4, 0.6, (2, *shape))], most=8, tolerance=1e-6,
    )  # fmt: skip


def turned(k):
    return fnn.RandomRotation((k / 4, k / 4))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_that_are_known(dtype):
    """Turns are those of `numpy.rot90`, translations by whole pixels those of `numpy.roll`."""
    x = RNG.normal(size=(4, 8, 8, 3)).astype(dtype)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-12}
    for k in (-2, -1, 1, 2, 3):
        np.testing.assert_allclose(applied(turned(k), x, dtype)[0], np.rot90(x, k, (1, 2)), **tolerance)
    for same in (turned(0), turned(4), fnn.RandomZoom(0.0), fnn.RandomTranslation(0.0, 0.0), fnn.RandomBrightness(0.0)):
        given = np.abs(x)
        np.testing.assert_allclose(applied(same, given, dtype)[0], given, **tolerance)
    rolled = np.roll(x, (2, -3), (1, 2))
    for fill_mode in ("wrap", "constant", "nearest", "reflect"):
        layer = fnn.RandomTranslation((0.25, 0.25), (-0.375, -0.375), fill_mode, fill_value=7.0)
        y = applied(layer, x, dtype)[0]
        np.testing.assert_array_equal(y[:, 2:, :5], rolled[:, 2:, :5])
        beyond = {
            "wrap": rolled[:, :2, :5], "constant": np.full_like(x[:, :2, :5], 7.0),
            "nearest": x[:, [0, 0], 3:], "reflect": x[:, 1::-1, 3:],
        }[fill_mode]  # fmt: skip
        np.testing.assert_array_equal(y[:, :2, :5], beyond)
    # half of what is there, twice as large: new pixels are at 3/4 and 1/4 of the way between the middles of old ones
    y = applied(fnn.RandomZoom((-0.5, -0.5)), x, dtype)[0]
    larger = np.stack([magnified(image[None], (2, 2), "bilinear")[0] for image in x])
    np.testing.assert_allclose(y, larger[:, 4:12, 4:12], **tolerance)
    gray = applied(fnn.RandomContrast((1.0, 0.0), (-9.0, 9.0)), x, dtype)
    mean = x.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(gray[0], (x - mean) * gray[1][:, :, None, None] + mean, rtol=1e-4, atol=1e-5)


def test_half_of_the_images_are_flipped():
    x = np.arange(4.0).reshape(1, 2, 2, 1).repeat(4000, 0)
    kinds, counts = np.unique(applied(fnn.RandomFlip(), x)[0].reshape(-1, 4), axis=0, return_counts=True)
    assert kinds.tolist() == [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]]
    assert (np.abs(counts - 1000) < 150).all()


def test_angles_are_spread_evenly():
    """Each of ten equal parts of the angles occurs as often, and their mean is 0."""
    x = np.zeros((3000, 3, 3, 1))
    x[:, 0, 1] = 1.0
    y = applied(fnn.RandomRotation(0.125, "constant"), x)[0][..., 0]
    # what has gone to the left, by up to an eighth of a turn
    left = y[:, 0, 0] + y[:, 1, 0] - y[:, 0, 2] - y[:, 1, 2]
    assert abs(left.mean()) < 0.03 and np.sign(left).sum() < 200 and left.max() > 0.5 > -0.5 > left.min()


def network(dtype="float32"):
    model = fnn.Sequential(
        [
            fnn.Input((12, 12, 3)), fnn.Rescaling(1 / 255), fnn.Resizing(10, 9), fnn.RandomFlip("horizontal"),
            fnn.RandomTranslation(0.1, 0.1), fnn.RandomRotation(0.1), fnn.RandomZoom(0.2, 0.1, "constant"),
            fnn.RandomContrast(0.3, (0, 1)), fnn.RandomBrightness(0.2, (0, 1)), fnn.Conv2D(4, 3, activation="relu"),
            fnn.GlobalAveragePooling2D(), fnn.Dense(2),
        ], seed=0, dtype=dtype,
    )  # fmt: skip
    model.compile(fnn.SGD(0.1), "mse")
    return model


IMAGES = RNG.uniform(0.0, 255.0, (9, 12, 12, 3)).astype(np.float32)
Y = RNG.normal(size=(9, 2)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_number_of_threads_trains_the_same_bits(dtype, monkeypatch):
    monkeypatch.setattr(cost, "PART_NANOSECONDS", 1e-6)
    monkeypatch.setattr(thread_pool, "WAKE_NANOSECONDS", 0.0)
    monkeypatch.setattr(threads, "_chosen", None)
    x, y, found = IMAGES.astype(dtype), Y.astype(dtype), []
    for count in (1, 2, 3):
        fnn.set_num_threads(count)
        model = network(dtype)
        losses = [model.train_on_batch(x, y)["loss"] for _ in range(2)]
        losses += model.fit(IMAGES, Y, batch_size=4, epochs=2, verbose=0).history["loss"]
        found.append([losses, [weight.tobytes() for weight in model.get_weights()]])
    assert found[0] == found[1] == found[2]
    learner = network(dtype).learner()
    assert [fnp.train_step(learner, x, y) for _ in range(2)] == found[0][0][:2]


def test_predictions_know_nothing_of_it(tmp_path):
    model = network()
    plain = fnn.Sequential([
        fnn.Input((12, 12, 3)), fnn.Rescaling(1 / 255), fnn.Resizing(10, 9), fnn.Conv2D(4, 3, activation="relu"),
        fnn.GlobalAveragePooling2D(), fnn.Dense(2),
    ])  # fmt: skip
    plain.set_weights(model.get_weights())
    wanted = plain.predict(IMAGES)
    assert model.predict(IMAGES).tobytes() == wanted.tobytes()
    y = np.empty_like(wanted)
    fnp.predict(model.freeze(), IMAGES, y)
    assert y.tobytes() == wanted.tobytes()
    model.save(tmp_path / "m.safetensors")
    loaded = fnn.load(tmp_path / "m.safetensors")
    assert [layer.config() for layer in loaded.layers] == [layer.config() for layer in model.layers]
    assert loaded.predict(IMAGES).tobytes() == wanted.tobytes()
    x = fnn.Input((6, 7, 2))
    for layer in AUGMENTATIONS[::2]:
        np.testing.assert_array_equal(fnn.function(x, layer(x), dtype="float64")(X), X)


def test_a_seed_decides_in_functions():
    x = fnn.Input((6, 7, 2))
    y = fnn.RandomRotation(0.2)(fnn.RandomFlip()(x))
    first, second, other = (fnn.function(x, y, training=True, seed=seed) for seed in (0, 0, 1))
    one, two = first(X), first(X)
    assert (one == second(X)).all() and (two == second(X)).all()
    assert (one != two).any() and (one != other(X)).any()


@pytest.mark.parametrize("sizes", [(3, 14), (6, 7), (12, 3), (1, 1), (9, 20)])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_resizing(sizes, interpolation):
    layer = fnn.Resizing(*sizes, interpolation)
    y = applied(layer, X)[0]
    rows = (np.arange(sizes[0]) + 0.5) * 6 / sizes[0] - 0.5
    columns = (np.arange(sizes[1]) + 0.5) * 7 / sizes[1] - 0.5
    wanted = moved(
        X,
        np.broadcast_to(rows[None, :, None], (5, len(rows), 1)),
        columns[None, None, :],
        interpolation,
        "nearest",
        0.0,
    )
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-12)
    single = applied(layer, X.astype(np.float32), "float32")[0]
    np.testing.assert_allclose(single, wanted, rtol=1e-5, atol=1e-5)
    swapped = fnn.Resizing(*sizes, interpolation, data_format=FIRST)
    np.testing.assert_array_equal(applied(swapped, X)[0], y)
    shape = swapped.output_shape((2, 6, 7))
    assert shape == (2, *sizes) and y.shape[1:] == (*sizes, 2) == layer.output_shape((6, 7, 2))


def test_gradients_through_resizing():
    for layer in (fnn.Resizing(3, 9), fnn.Resizing(5, 2, "nearest"), fnn.Resizing(3, 9, pad_to_aspect_ratio=True)):
        check_derivatives(
            lambda g, x, layer=layer: layer.apply(g, [x], (), Scope("layer", 9, True, True)), [(True, (4, 5, 2))],
            batch=2, most=8,
        )  # fmt: skip


def test_magnified_by_whole_numbers_and_other_shapes():
    for interpolation in ("bilinear", "nearest"):
        wanted = magnified(X, (2, 3), interpolation)
        np.testing.assert_allclose(applied(fnn.Resizing(12, 21, interpolation), X)[0], wanted, rtol=1e-12)
    # 6 x 7 as 2 : 1 is 3 x 7 of it, from row 1 on; with borders 6 x 12, two columns before and three behind
    cut = applied(fnn.Resizing(3, 7, crop_to_aspect_ratio=True), X)[0]
    np.testing.assert_allclose(cut, X[:, 1:4], rtol=1e-12)
    wide = applied(fnn.Resizing(6, 12, pad_to_aspect_ratio=True, fill_value=3.0), X)[0]
    np.testing.assert_array_equal(wide, np.pad(X, ((0, 0), (0, 0), (2, 3), (0, 0)), constant_values=3.0))


@pytest.mark.parametrize("scale, offset", [(1 / 127.5, -1.0), ([2.0, 3.0], 0.0), (1.0, (0.5, -0.5)), (1, 0)])
def test_rescaling(scale, offset):
    layer = fnn.Rescaling(scale, offset)
    y = applied(layer, X)[0] if (scale, offset) != (1, 0) else X
    np.testing.assert_allclose(y, X * np.array(scale) + np.array(offset), rtol=1e-14)
    x = fnn.Input((6, 7, 2))
    np.testing.assert_allclose(
        fnn.function(x, layer(x))(X), X * np.array(scale) + np.array(offset), rtol=1e-6, atol=1e-7
    )
    assert repr(fnn.Rescaling(np.array([1.0, 2.0]))) == "Rescaling(scale=(1.0, 2.0))"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fnn.RandomFlip("left"), "mode: expected 'horizontal_and_vertical' or 'horizontal' or 'vertical'"),
        (lambda: fnn.RandomFlip(data_format="last"), "data_format: expected"),
        (lambda: fnn.RandomTranslation(1.5, 0.1), "height_factor: expected a number >= -1 and <= 1, got 1.5"),
        (lambda: fnn.RandomTranslation(0.5, (0.1, 0.2, 0.3)), "width_factor: expected a number or two"),
        (lambda: fnn.RandomTranslation(0.5, (0.1, 2)), "width_factor[1]: expected a number >= -1"),
        (lambda: fnn.RandomTranslation(0.5, 0.1, "edge"), "fill_mode: expected 'constant' or 'nearest' or"),
        (lambda: fnn.RandomZoom(0.5, interpolation="bicubic"), "interpolation: expected 'bilinear' or 'nearest'"),
        (lambda: fnn.RandomZoom(float("nan")), "height_factor: expected a finite number"),
        (lambda: fnn.RandomZoom(0.1, -1.1), "width_factor: expected a number >= -1"),
        (lambda: fnn.RandomRotation(2), "factor: expected a number >= -1"),
        (lambda: fnn.RandomRotation(0.1, fill_value=float("inf")), "fill_value: expected a finite number"),
        (lambda: fnn.RandomContrast(-0.1), "factor: expected a number >= 0"),
        (lambda: fnn.RandomContrast((0.1, 1.1)), "factor[1]: expected a number >= 0"),
        (lambda: fnn.RandomContrast((0.1,)), "factor: expected a number or two"),
        (lambda: fnn.RandomBrightness(0.1, (1, 0)), "value_range: expected the lower number first, got (1, 0)"),
        (lambda: fnn.RandomBrightness(0.1, 1.0), "value_range: expected two numbers, got 1.0"),
        (lambda: fnn.Resizing(0, 3), "height: expected an integer >= 1, got 0"),
        (lambda: fnn.Resizing(3, 3, "lanczos3"), "interpolation: expected 'bilinear' or 'nearest'"),
        (lambda: fnn.Resizing(3, 3, crop_to_aspect_ratio=True, pad_to_aspect_ratio=True), "pad_to_aspect_ratio: expec"),
        (lambda: fnn.Rescaling([]), "scale: expected a number, or 1 to 256 of them, got 0"),
        (lambda: fnn.Rescaling(1.0, [0.0, float("inf")]), "offset[1]: expected a finite number"),
        (lambda: fnn.Rescaling([1.0, 2.0, 3.0])(fnn.Input((4, 4, 2))), "has 3 numbers as scale"),
        (lambda: fnn.RandomFlip()(fnn.Input((4, 4))), "takes samples of shape (height, width, channels), got (4, 4)"),
        (lambda: fnn.Resizing(3, 3)(fnn.Input((4,))), "takes samples of shape (height, width, channels), got (4,)"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(make, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()


def test_arguments_of_other_types_are_named():
    for make, name in (
        (lambda: fnn.RandomRotation("0.1"), "factor"), (lambda: fnn.RandomZoom(0.1, "0.1"), "width_factor"),
        (lambda: fnn.Resizing(3.5, 3), "height"), (lambda: fnn.Resizing(3, 3, crop_to_aspect_ratio=1), "crop_to"),
        (lambda: fnn.Rescaling(None), "scale"), (lambda: fnn.RandomFlip(seed=3), "seed"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=name):
            make()
