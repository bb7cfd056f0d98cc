"""What a network has learnt: compared with plain NumPy, finite differences, closed forms and SciPy."""

import sys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import fastnn as fnn
from fastnn.inspect.resizing import blurred, resized

look = fnn.inspect
SHAPE = (7, 6, 2)


def images(n, seed=0, shape=SHAPE):
    return np.random.default_rng(seed).normal(size=(n, *shape))


def convolutional(last="softmax", **options):
    """Make a network whose gradients have no kinks."""
    layers = [
        fnn.Conv2D(4, 3, padding="same", activation="tanh", name="conv1"),
        fnn.AveragePooling2D(2, padding="same", name="pool"),
        fnn.Conv2D(5, 3, activation="silu", name="conv2"),
        fnn.GlobalAveragePooling2D(name="means"),
        fnn.Dense(3, last, name="classes"),
    ]
    model = fnn.Sequential([fnn.Input(SHAPE), *layers], seed=1, dtype="float64", **options)
    model.set_weights([np.random.default_rng(3).normal(0.0, 0.5, one.shape) for one in model.get_weights()])
    return model


# --- kernels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape", "picture"),
    [
        (fnn.Conv2D(5, (3, 2)), (6, 6, 4), lambda k, f: k[..., f]),
        (fnn.Conv2D(4, 3, groups=2), (6, 6, 4), lambda k, f: k[..., f]),
        (fnn.Conv1D(5, 3), (6, 4), lambda k, f: k[None, ..., f]),
        (fnn.Conv2DTranspose(5, (3, 2)), (6, 6, 4), lambda k, f: k[:, :, f]),
        (fnn.Conv1DTranspose(5, 3), (6, 4), lambda k, f: k[None, :, f]),
        (fnn.DepthwiseConv2D((3, 2), depth_multiplier=2), (6, 6, 3), lambda k, f: k[:, :, f // 2, f % 2, None]),
        (fnn.DepthwiseConv1D(3), (6, 4), lambda k, f: k[None, :, f, :]),
        (fnn.SeparableConv2D(7, 3), (6, 6, 3), lambda k, f: k[:, :, f, 0, None]),
    ],
)
def test_filters_of_every_convolution(layer, shape, picture):
    model = fnn.Sequential([fnn.Input(shape), layer], seed=0)
    kernel = model.get_weights()[0]
    plain, shown = look.filters(model, layer, scale=False), look.filters(model, layer.name)
    assert plain.shape == shown.shape and shown.min() >= 0.0 and shown.max() <= 1.0
    for number, one in enumerate(plain):
        np.testing.assert_array_equal(one, picture(kernel, number))
        np.testing.assert_allclose(shown[number] - 0.5, one / abs(one).max() / 2, rtol=1e-6, atol=1e-7)


def test_a_filter_of_zeros_is_grey():
    model = fnn.Sequential([fnn.Input((5, 5, 1)), fnn.Conv2D(2, 3, kernel_initializer="zeros")])
    np.testing.assert_array_equal(look.filters(model, model.layers[0]), np.full((2, 3, 3, 1), 0.5))


# --- feature maps -----------------------------------------------------------------------------------------


def test_feature_maps_of_every_layer():
    model, x = convolutional(), images(300)
    value = x
    for layer in model.layers:
        alone = fnn.Sequential([fnn.Input(value.shape[1:]), type(layer)(**fields(layer))], dtype="float64")
        alone.set_weights(model.get_weights(layer))
        value = alone.predict(value)
        np.testing.assert_allclose(look.feature_maps(model, x, layer), value, rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(look.feature_maps(model, x, layer.name), look.feature_maps(model, x, layer))


def fields(layer):
    return {name: value for name, value in vars(layer).items() if name in layer.__dataclass_fields__}


def test_feature_maps_see_what_the_model_learns():
    model, x = convolutional(), images(8)
    before = look.feature_maps(model, x, "conv1")
    model.compile(fnn.SGD(0.1), "cross_entropy")
    model.train_on_batch(x, np.arange(8) % 3)
    kernel, bias = model.get_weights("conv1")
    after = look.feature_maps(model, x, "conv1")
    assert abs(after - before).max() > 1e-6
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    np.testing.assert_allclose(
        after[:, 2, 3], np.tanh(np.einsum("nijc,ijcf->nf", wide[:, 2:5, 3:6], kernel) + bias), rtol=1e-12
    )


def test_feature_maps_within_models_and_of_several_inputs():
    inner = fnn.Sequential([fnn.Input(4), fnn.Dense(3, "tanh", name="first"), fnn.Dense(2, name="second")], seed=0)
    a, b = fnn.Input(4, name="a"), fnn.Input(2, dtype="int64", name="b")
    one_hot = fnn.Flatten(name="flat")(fnn.OneHot(3)(b))
    model = fnn.Model([a, b], fnn.Concatenate(name="both")([inner(a), one_hot]), seed=0)
    x, y = np.random.default_rng(0).normal(size=(5, 4)), np.arange(10).reshape(5, 2) % 3
    kernel, bias = inner.get_weights("first")
    expected = np.tanh(x @ kernel + bias)
    np.testing.assert_allclose(look.feature_maps(model, [x, y], f"{inner.name}/first"), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(look.feature_maps(model, [x, y], "flat"), np.eye(3)[y].reshape(5, 6))


def test_activations_are_the_feature_maps_of_all_layers():
    model, x = convolutional(), images(4)
    found = look.activations(model, x)
    assert list(found) == ["conv1", "conv2", "classes"]
    for name, values in look.activations(model, x, ["means", model.layers[0]]).items():
        np.testing.assert_array_equal(values, look.feature_maps(model, x, name))
    inner = fnn.Model(x_in := fnn.Input(SHAPE), model(x_in), dtype="float64")
    np.testing.assert_array_equal(look.activations(inner, x)[f"{model.name}/conv2"], found["conv2"])


# --- saliency ---------------------------------------------------------------------------------------------


def slopes(value, x, step=1e-6):
    """Return the derivatives of a function that gives a number for each sample, by central differences."""
    found = np.empty_like(x)
    for place in np.ndindex(x.shape[1:]):
        change = np.zeros_like(x)
        change[(slice(None), *place)] = step
        found[(slice(None), *place)] = (value(x + change) - value(x - change)) / (2.0 * step)
    return found


def scores_of(model, x):
    """Return what the softmax at a model's end is applied to, up to a number for each row."""
    kernel, bias = model.get_weights("classes")
    return look.feature_maps(model, x, "means") @ kernel + bias


@pytest.mark.parametrize("output", [None, 2, [0, 2, 1, 0]])
@pytest.mark.parametrize("logits", [True, False])
def test_saliency_against_differences(output, logits):
    model, x = convolutional(), images(4)
    values = (lambda x: scores_of(model, x)) if logits else model.predict
    chosen = values(x).argmax(1) if output is None else np.broadcast_to(output, 4)
    expected = abs(slopes(lambda x: values(x)[np.arange(4), chosen], x))
    found = look.saliency(model, x, output, logits=logits)
    assert found.shape == x.shape and found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_a_softmax_that_is_a_layer_of_its_own():
    one, x = convolutional(), images(3)
    image = fnn.Input(SHAPE)
    other = fnn.Model(image, fnn.Activation("softmax")(convolutional(None)(image)), dtype="float64")
    np.testing.assert_allclose(look.saliency(other, x, 1), look.saliency(one, x, 1), rtol=1e-12)
    np.testing.assert_allclose(look.saliency(convolutional(None), x, 1), look.saliency(one, x, 1), rtol=1e-12)


def test_saliency_of_a_class_of_pixels_is_that_of_the_sum():
    layer = fnn.Conv2D(3, 1, name="pixels", activation="tanh")
    model, x = fnn.Sequential([fnn.Input(SHAPE), layer], seed=2, dtype="float64"), images(3)
    expected = abs(slopes(lambda x: model.predict(x)[..., 1].sum((1, 2)), x))
    np.testing.assert_allclose(look.saliency(model, x, 1), expected, rtol=1e-6, atol=1e-9)


def test_saliency_of_single_numbers():
    x = fnn.Input(3)
    model = fnn.Model(x, fnn.ops.sum(fnn.ops.square(x), axis=-1), dtype="float64")
    np.testing.assert_allclose(look.saliency(model, images(4, shape=(3,))), 2.0 * abs(images(4, shape=(3,))))


# --- Grad-CAM ---------------------------------------------------------------------------------------------


def stretched(image, height, width):
    """Resize an image pixel by pixel."""
    found = np.empty((height, width))
    for row, column in np.ndindex(height, width):
        down = min(max((row + 0.5) * image.shape[0] / height - 0.5, 0.0), image.shape[0] - 1.0)
        right = min(max((column + 0.5) * image.shape[1] / width - 0.5, 0.0), image.shape[1] - 1.0)
        i, j = int(down), int(right)
        below, beside = min(i + 1, image.shape[0] - 1), min(j + 1, image.shape[1] - 1)
        a, b = down - i, right - j
        found[row, column] = (1 - a) * ((1 - b) * image[i, j] + b * image[i, beside]) + a * (
            (1 - b) * image[below, j] + b * image[below, beside]
        )
    return found


@pytest.mark.parametrize("output", [None, 0, [2, 1, 0]])
def test_grad_cam_of_means_is_the_class_activation_map(output):
    """With means before the last layer the weights are its kernel's, as Zhou et al. 2016 have them."""
    model, x = convolutional(), images(3)
    maps, (kernel, _) = look.feature_maps(model, x, "conv2"), model.get_weights("classes")
    chosen = scores_of(model, x).argmax(1) if output is None else np.broadcast_to(output, 3)
    pixels = maps.shape[1] * maps.shape[2]
    heat = np.maximum(np.einsum("nijk,kn->nij", maps, kernel[:, chosen]) / pixels, 0.0)
    found = look.grad_cam(model, x, "conv2", output)
    assert found.shape == (3, *SHAPE[:2]) and found.max() > 0.0
    for one, small in zip(found, heat, strict=True):
        np.testing.assert_allclose(one, stretched(small, *SHAPE[:2]), rtol=1e-10, atol=1e-14)


def test_grad_cam_by_hand():
    """A tail of two dense layers, whose gradient NumPy computes."""
    layers = [fnn.Conv2D(4, 3, activation="relu", name="maps"), fnn.Flatten(), fnn.Dense(6, "tanh"), fnn.Dense(3)]
    model, x = fnn.Sequential([fnn.Input(SHAPE), *layers], seed=5, dtype="float64"), images(4, 1)
    maps, (_, _, first, bias, second, _) = look.feature_maps(model, x, "maps"), model.get_weights()
    hidden = np.tanh(maps.reshape(4, -1) @ first + bias)
    gradient = (((1.0 - hidden**2) * second[:, 1]) @ first.T).reshape(maps.shape)
    heat = np.maximum((gradient.mean((1, 2), keepdims=True) * maps).sum(-1), 0.0)
    found = look.grad_cam(model, x, "maps", 1)
    assert found.max() > 0.0
    for one, small in zip(found, heat, strict=True):
        np.testing.assert_allclose(one, stretched(small, *SHAPE[:2]), rtol=1e-10, atol=1e-14)


def test_grad_cam_of_sequences_and_of_networks_with_norms():
    x = images(3, shape=(9, 2))
    layers = [fnn.Conv1D(4, 3, name="maps"), fnn.GlobalMaxPooling1D(), fnn.Dense(2)]
    assert look.grad_cam(fnn.Sequential([fnn.Input((9, 2)), *layers], seed=0), x, "maps").shape == (3, 9)
    model = fnn.applications.ResNet20((8, 8, 3), 4, width=4, seed=0)
    heat = look.grad_cam(model, images(3, shape=(8, 8, 3)), "stage3_block3_relu")
    assert heat.shape == (3, 8, 8) and heat.min() >= 0.0 and heat.dtype == np.float32


# --- ascent -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "unit"), [("conv1", 2), ("conv2", 3), ("classes", 1)])
def test_the_maximised_input_beats_random_ones(layer, unit):
    model = convolutional()

    def answers(x):
        found = scores_of(model, x) if layer == "classes" else look.feature_maps(model, x, layer).mean((1, 2))
        return found[:, unit]

    best = look.maximize(model, layer, unit, steps=60, bounds=(-2.0, 1.0), seed=0)
    assert best.shape == SHAPE and best.dtype == np.float64 and best.min() >= -2.0 and best.max() <= 1.0
    random = np.random.default_rng(0).uniform(-2.0, 1.0, (500, *SHAPE))
    assert answers(best[None])[0] > answers(random).max()


def test_the_largest_product_is_that_with_the_signs():
    """A linear unit is largest where each input is at the bound that its weight points to."""
    model = fnn.Sequential([fnn.Input(6), fnn.Dense(3, name="units")], seed=0)
    rng = np.random.default_rng(1)
    kernel = rng.uniform(0.5, 1.0, (6, 3)) * rng.choice([-1.0, 1.0], (6, 3))
    model.set_weights([kernel, np.zeros(3)])
    found = look.maximize(model, "units", [2, 0], bounds=(-3.0, 5.0), l2=0.0, seed=0)
    np.testing.assert_array_equal(found, np.where(kernel[:, [2, 0]] > 0.0, 5.0, -3.0).T)
    assert found.dtype == np.float32


def test_probabilities_of_classes_are_maximised_where_that_is_asked_for():
    model, options = convolutional(), {"steps": 60, "bounds": (-2.0, 2.0), "seed": 0}
    random = model.predict(np.random.default_rng(0).uniform(-2.0, 2.0, (500, *SHAPE))).max(axis=0)
    by_score, by_probability = (
        np.diag(model.predict(look.maximize(model, "classes", range(3), logits=logits, **options)))
        for logits in (True, False)
    )
    assert (by_probability > random).all() and (by_probability >= by_score).all()


def test_a_seed_decides_the_input():
    model = convolutional()
    one, same, other = (look.maximize(model, "conv2", [0, 4], steps=5, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert abs(one - other).max() > 1e-3
    threads = fnn.get_num_threads()
    try:
        fnn.set_num_threads(1)
        np.testing.assert_array_equal(look.maximize(model, "conv2", [0, 4], steps=5, seed=1), one)
    finally:
        fnn.set_num_threads(threads)


def test_a_unit_that_is_off_gives_a_finite_input():
    model = fnn.Sequential([fnn.Input((6, 6, 1)), fnn.Conv2D(2, 3, activation="relu", name="maps")])
    model.set_weights([np.zeros((3, 3, 1, 2)), np.full(2, -1.0)])
    assert np.isfinite(look.maximize(model, "maps", 0, steps=3, seed=0)).all()


# --- images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [2, 3])
def test_resizing_is_that_of_the_layer(times):
    layer = fnn.UpSampling2D(times, interpolation="bilinear")
    model, x = fnn.Sequential([fnn.Input(SHAPE), layer], dtype="float64"), images(2)
    np.testing.assert_allclose(
        resized(x, (times * SHAPE[0], times * SHAPE[1])), model.predict(x), rtol=1e-12, atol=1e-14
    )


def test_blur_is_scipys():
    x = images(2, shape=(9, 12, 3))
    expected = gaussian_filter(x, (0.0, 1.0, 1.0, 0.0), mode="nearest", truncate=3.0)
    np.testing.assert_allclose(blurred(x, 1.0), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(blurred(np.ones((1, 2, 3, 1)), 4.0), 1.0)


# --- figures ----------------------------------------------------------------------------------------------


@pytest.fixture
def pyplot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def drawn(figure):
    """Return the images of a figure, after it has been drawn."""
    figure.canvas.draw()
    return [np.asarray(one.get_array()) for axes in figure.axes for one in axes.get_images()]


def test_figures(pyplot):
    model, x = convolutional(), images(3)
    filters = drawn(look.plot_filters(model, "conv2"))
    np.testing.assert_allclose(filters[5], look.filters(model, "conv2")[1, :, :, 1])
    assert len(filters) == 20 and len(drawn(look.plot_filters(model, "conv2", most=6))) == 4
    maps = drawn(look.plot_feature_maps(model, x, "conv1", most=3))
    assert len(maps) == 9 and all(one.min() == 0.0 and one.max() == 1.0 for one in maps)
    assert len(drawn(look.plot_feature_maps(model, x[:1], "conv1"))) == 4
    above_below = drawn(look.plot_saliency(model, x, 1))
    assert len(above_below) == 6
    importance = look.saliency(model, x, 1).max(-1)[2]
    np.testing.assert_allclose(above_below[5], (importance - importance.min()) / np.ptp(importance))
    heat = drawn(look.plot_grad_cam(model, x, "conv2", [0, 1, 2]))
    assert len(heat) == 9
    np.testing.assert_array_equal(heat[4], look.grad_cam(model, x, "conv2", [0, 1, 2])[0])
    best = drawn(look.plot_maximized(model, "conv1", [1, 3], steps=3, seed=0, bounds=(-1.0, 1.0)))
    inputs = look.maximize(model, "conv1", [1, 3], steps=3, seed=0, bounds=(-1.0, 1.0))
    np.testing.assert_allclose(best, (inputs.mean(-1) + 1.0) / 2.0)
    assert len(drawn(look.plot_maximized(model, "classes", steps=1, seed=0))) == 3


def test_images_of_three_channels_have_colours(pyplot):
    layers = [fnn.Conv2D(9, 3, name="conv1"), fnn.GlobalAveragePooling2D(), fnn.Dense(2)]
    model = fnn.Sequential([fnn.Input((6, 6, 3)), *layers], seed=0)
    assert [one.shape for one in drawn(look.plot_filters(model, "conv1", most=4))] == [(3, 3, 3)] * 4
    shown = drawn(look.plot_saliency(model, images(1, shape=(6, 6, 3))))
    assert [one.shape for one in shown] == [(6, 6, 3), (6, 6)]


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ImportError, match=r"plot_filters needs matplotlib: python -m pip install .fastnn-numba\[plot\]"
    ):
        look.plot_filters(convolutional(), "conv1")


# --- errors -----------------------------------------------------------------------------------------------


def two_outputs():
    x = fnn.Input(SHAPE)
    y = fnn.Flatten()(x)
    return fnn.Model(x, [fnn.Dense(2)(y), fnn.Dense(3)(y)])


def two_inputs():
    a, b = fnn.Input(3), fnn.Input(3)
    return fnn.Model([a, b], fnn.Add(name="sum")([a, b]))


def softmax_of_pixels():
    return fnn.Sequential([fnn.Input(SHAPE), fnn.Conv2D(3, 1, activation="softmax", name="pixels")])


def channels_first():
    layers = [fnn.Conv2D(3, 3, data_format="channels_first", name="maps"), fnn.Flatten(), fnn.Dense(2)]
    return fnn.Sequential([fnn.Input(SHAPE[::-1]), *layers])


def in_parts():
    x = fnn.Input(SHAPE)
    return fnn.Model(x, convolutional(name="inner")(x), dtype="float64")


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda m: look.filters(m, "conv3"), r"filters: layer: there is no layer 'conv3'; the layers are \[.*'conv1'"),
        (lambda m: look.filters(m, "classes"), r"'classes', a Dense, has no kernels of images; .*\['conv1', 'conv2'\]"),
        (lambda m: look.filters(m, 0), "filters: layer: expected a layer of the model or its name, got int"),
        (lambda m: look.filters("m", "conv1"), r"filters: model: expected a fastnn\.Model, got str"),
        (lambda m: look.filters(fnn.Sequential([fnn.Dense(2)]), "dense"), "has no shapes and weights yet"),
        (lambda m: look.feature_maps(m, images(2), fnn.Conv2D(4, 3)), "is no layer of the model; those are"),
        (lambda m: look.feature_maps(m, images(2)[0], "conv1"), r"expects shape \(n, 7, 6, 2\), got \(7, 6, 2\)"),
        (lambda m: look.feature_maps(in_parts(), images(2), "inner"), "'inner' is a model: name one of its layers"),
        (lambda m: look.feature_maps(two_inputs(), images(2), "sum"), "x: expected a list of 2 arrays, got ndarray"),
        (lambda m: look.activations(m, images(2), ["conv"]), "activations: layer: there is no layer 'conv'"),
        (lambda m: look.activations(m, images(2), "conv1"), "activations: layers: expected a list, got 'conv1'"),
        (lambda m: look.activations(two_inputs(), images(2), ["sum"]), "activations: x: expected a list of 2 arrays"),
        (lambda m: look.saliency(m, images(2), 3), "saliency: output: expected an integer <= 2, got 3"),
        (lambda m: look.saliency(m, images(2), -1), "saliency: output: expected an integer >= 0"),
        (lambda m: look.saliency(m, images(2), [0, 5]), r"saliency: output\[1\]: expected an integer <= 2, got 5"),
        (lambda m: look.saliency(m, images(2), [0, 1, 2]), "expected an integer for each of 2 samples, got 3"),
        (lambda m: look.saliency(m, images(2), 1.0), "saliency: output: expected an integer, got 1.0"),
        (lambda m: look.saliency(m, images(2), 1, logits=1), "logits: expected True or False"),
        (lambda m: look.saliency(two_outputs(), images(2)), "saliency: expected a model of one output"),
        (lambda m: look.saliency(two_inputs(), images(2)), "saliency: expected a model of one input of numbers"),
        (lambda m: look.saliency(softmax_of_pixels(), images(2)), "give logits=False"),
        (lambda m: look.saliency(m, images(2, shape=(5, 6, 2))), r"expects shape \(n, 7, 6, 2\), got \(2, 5, 6, 2\)"),
        (lambda m: look.saliency(m, images(2), outptu=1), "did you mean 'output'"),
        (lambda m: look.grad_cam(m, images(2), "means"), r"grad_cam: layer: expected one that gives maps of 3 axes"),
        (lambda m: look.grad_cam(m, images(2), "conv"), "grad_cam: layer: there is no layer 'conv'"),
        (lambda m: look.grad_cam(channels_first(), images(2, shape=SHAPE[::-1]), "maps"), "has the channels first"),
        (lambda m: look.maximize(m, "conv1", 4), "maximize: unit: expected an integer <= 3, got 4"),
        (lambda m: look.maximize(m, "conv1", [0, 4]), r"maximize: unit\[1\]: expected an integer <= 3, got 4"),
        (lambda m: look.maximize(m, "conv1", []), "maximize: unit: expected at least one"),
        (lambda m: look.maximize(m, "conv1", 0, bounds=1.0), "maximize: bounds: expected two numbers"),
        (lambda m: look.maximize(m, "conv1", 0, bounds=(1.0, 0.0)), r"maximize: bounds\[1\]: expected a number > 1"),
        (lambda m: look.maximize(m, "conv1", 0, steps=0), "maximize: steps"),
        (lambda m: look.maximize(m, "conv1", 0, learning_rate=0), "maximize: learning_rate"),
        (lambda m: look.maximize(m, "conv1", 0, blur=-1), "maximize: blur"),
        (lambda m: look.maximize(m, "conv1", 0, jitter=0.5), "maximize: jitter"),
        (lambda m: look.plot_feature_maps(m, images(2), "means"), "plot_feature_maps: layer: expected one that gives"),
        (lambda m: look.plot_maximized(fnn.Sequential([fnn.Input(3), fnn.Dense(2)]), "dense"), "a model of images"),
    ],
)
def test_wrong_arguments(call, match):
    with pytest.raises((TypeError, ValueError), match=match):
        call(convolutional())
