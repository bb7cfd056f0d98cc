"""Layers of images one by one: values by plain NumPy and by hand, weights, shapes, Keras' arguments, errors."""

import inspect

import numpy as np
import pytest

import fastnn as fnn
from sliding import values

RNG = np.random.default_rng(0)

LAYERS = {
    # name: layer, the shape of a sample, shapes of weights, the shape of its output
    "conv1d": (lambda: fnn.Conv1D(5, 3), (7, 2), [(3, 2, 5), (5,)], (5, 5)),
    "conv1d same": (lambda: fnn.Conv1D(5, 4, 2, "same"), (7, 2), [(4, 2, 5), (5,)], (4, 5)),
    "conv1d causal": (lambda: fnn.Conv1D(5, 3, padding="causal", dilation_rate=2), (7, 2), [(3, 2, 5), (5,)], (7, 5)),
    "conv1d causal strides": (lambda: fnn.Conv1D(2, 2, 3, "causal"), (8, 1), [(2, 1, 2), (2,)], (3, 2)),
    "conv1d first": (
        lambda: fnn.Conv1D(5, 3, data_format="channels_first"), (2, 7), [(3, 2, 5), (5,)], (5, 5)),
    "conv2d": (lambda: fnn.Conv2D(6, (2, 3)), (5, 7, 3), [(2, 3, 3, 6), (6,)], (4, 5, 6)),
    "conv2d no bias": (lambda: fnn.Conv2D(6, 2, use_bias=False), (5, 7, 3), [(2, 2, 3, 6)], (4, 6, 6)),
    "conv2d same": (lambda: fnn.Conv2D(6, 3, 2, "same", activation="relu"), (6, 7, 3), [(3, 3, 3, 6), (6,)], (3, 4, 6)),
    "conv2d same, larger than the image": (lambda: fnn.Conv2D(2, 7, padding="same"), (3, 2, 1), [(7, 7, 1, 2), (2,)],
                                           (3, 2, 2)),
    "conv2d dilated": (lambda: fnn.Conv2D(6, 3, dilation_rate=(2, 1)), (6, 7, 3), [(3, 3, 3, 6), (6,)], (2, 5, 6)),
    "conv2d strides and dilation": (
        lambda: fnn.Conv2D(4, 2, (2, 3), "same", dilation_rate=3), (6, 7, 3), [(2, 2, 3, 4), (4,)], (3, 3, 4)),
    "conv2d groups": (lambda: fnn.Conv2D(6, 3, groups=2), (5, 5, 4), [(3, 3, 2, 6), (6,)], (3, 3, 6)),
    "conv2d a group for each": (lambda: fnn.Conv2D(4, 3, groups=4), (5, 5, 4), [(3, 3, 1, 4), (4,)], (3, 3, 4)),
    "conv2d 1x1": (lambda: fnn.Conv2D(6, 1, activation="tanh"), (5, 7, 3), [(1, 1, 3, 6), (6,)], (5, 7, 6)),
    "conv2d 1x1 strides": (lambda: fnn.Conv2D(6, 1, 2), (5, 7, 3), [(1, 1, 3, 6), (6,)], (3, 4, 6)),
    "conv2d first": (
        lambda: fnn.Conv2D(6, 3, padding="same", data_format="channels_first", groups=2), (4, 5, 7),
        [(3, 3, 2, 6), (6,)], (6, 5, 7)),
    "conv3d": (lambda: fnn.Conv3D(2, (1, 2, 3), (1, 2, 1), "same"), (3, 4, 5, 2), [(1, 2, 3, 2, 2), (2,)],
               (3, 2, 5, 2)),
    "conv1d transpose": (lambda: fnn.Conv1DTranspose(5, 3, 2), (4, 2), [(3, 5, 2), (5,)], (9, 5)),
    "conv1d transpose, strides beyond": (lambda: fnn.Conv1DTranspose(5, 2, 3), (4, 2), [(2, 5, 2), (5,)], (12, 5)),
    "conv2d transpose": (lambda: fnn.Conv2DTranspose(5, 3, 2, "same"), (3, 4, 2), [(3, 3, 5, 2), (5,)], (6, 8, 5)),
    "conv2d transpose, even": (lambda: fnn.Conv2DTranspose(5, 4, 2, "same", activation="relu"), (3, 4, 2),
                               [(4, 4, 5, 2), (5,)], (6, 8, 5)),
    "conv2d transpose more": (
        lambda: fnn.Conv2DTranspose(5, 3, 2, output_padding=1), (3, 4, 2), [(3, 3, 5, 2), (5,)], (8, 10, 5)),
    "conv2d transpose same and more": (
        lambda: fnn.Conv2DTranspose(5, 3, 2, "same", output_padding=(0, 1)), (3, 4, 2), [(3, 3, 5, 2), (5,)],
        (5, 8, 5)),
    "conv2d transpose dilated": (
        lambda: fnn.Conv2DTranspose(5, 3, dilation_rate=2), (3, 4, 2), [(3, 3, 5, 2), (5,)], (7, 8, 5)),
    "conv2d transpose first": (
        lambda: fnn.Conv2DTranspose(5, 3, 2, data_format="channels_first"), (2, 3, 4), [(3, 3, 5, 2), (5,)], (5, 7, 9)),
    "conv3d transpose": (lambda: fnn.Conv3DTranspose(1, 2, 2), (2, 1, 3, 2), [(2, 2, 2, 1, 2), (1,)], (4, 2, 6, 1)),
    "depthwise 1d": (lambda: fnn.DepthwiseConv1D(3, padding="causal"), (6, 4), [(3, 4, 1), (4,)], (6, 4)),
    "depthwise": (lambda: fnn.DepthwiseConv2D(3, 2, "same", 2), (5, 6, 3), [(3, 3, 3, 2), (6,)], (3, 3, 6)),
    "depthwise first": (
        lambda: fnn.DepthwiseConv2D(2, depth_multiplier=3, data_format="channels_first"), (2, 4, 3),
        [(2, 2, 2, 3), (6,)], (6, 3, 2)),
    "separable 1d": (lambda: fnn.SeparableConv1D(5, 3, padding="causal", dilation_rate=2), (6, 4),
                     [(3, 4, 1), (1, 4, 5), (5,)], (6, 5)),
    "separable": (lambda: fnn.SeparableConv2D(5, 3, depth_multiplier=2, activation="tanh"), (5, 6, 3),
                  [(3, 3, 3, 2), (1, 1, 6, 5), (5,)], (3, 4, 5)),
    "max": (lambda: fnn.MaxPooling2D(), (5, 6, 3), [], (2, 3, 3)),
    "max same": (lambda: fnn.MaxPooling2D(3, 2, "same"), (5, 6, 3), [], (3, 3, 3)),
    "max overlapping": (lambda: fnn.MaxPooling1D(3, 1), (5, 3), [], (3, 3)),
    "max 3d": (lambda: fnn.MaxPooling3D((1, 2, 2)), (2, 4, 5, 2), [], (2, 2, 2, 2)),
    "max first": (lambda: fnn.MaxPooling2D(2, data_format="channels_first"), (3, 5, 6), [], (3, 2, 3)),
    "average": (lambda: fnn.AveragePooling2D(2), (5, 6, 3), [], (2, 3, 3)),
    "average same": (lambda: fnn.AveragePooling2D(3, 1, "same"), (5, 6, 3), [], (5, 6, 3)),
    "average 1d gaps": (lambda: fnn.AveragePooling1D(2, 3, "same"), (8, 3), [], (3, 3)),
    "average 3d": (lambda: fnn.AveragePooling3D(2, 1, "same"), (2, 3, 2, 2), [], (2, 3, 2, 2)),
    "whole max": (lambda: fnn.GlobalMaxPooling2D(), (5, 6, 3), [], (3,)),
    "whole average": (lambda: fnn.GlobalAveragePooling3D(), (2, 5, 6, 3), [], (3,)),
    "whole max kept": (lambda: fnn.GlobalMaxPooling1D(keepdims=True), (5, 3), [], (1, 3)),
    "whole average first": (
        lambda: fnn.GlobalAveragePooling2D("channels_first", keepdims=True), (3, 5, 6), [], (3, 1, 1)),
    "zeros 1d": (lambda: fnn.ZeroPadding1D((2, 0)), (5, 3), [], (7, 3)),
    "zeros": (lambda: fnn.ZeroPadding2D((1, 2)), (5, 6, 3), [], (7, 10, 3)),
    "zeros first": (lambda: fnn.ZeroPadding2D(((0, 1), (2, 3)), "channels_first"), (3, 5, 6), [], (3, 6, 11)),
    "zeros 3d": (lambda: fnn.ZeroPadding3D(), (1, 2, 3, 2), [], (3, 4, 5, 2)),
    "crop": (lambda: fnn.Cropping2D(((1, 2), (0, 3))), (5, 6, 3), [], (2, 3, 3)),
    "crop none": (lambda: fnn.Cropping2D(), (5, 6, 3), [], (5, 6, 3)),
    "crop first": (lambda: fnn.Cropping2D((1, 2), "channels_first"), (3, 5, 6), [], (3, 3, 2)),
    "crop 3d": (lambda: fnn.Cropping3D(), (3, 4, 5, 2), [], (1, 2, 3, 2)),
    "larger 1d": (lambda: fnn.UpSampling1D(3), (4, 2), [], (12, 2)),
    "larger": (lambda: fnn.UpSampling2D((2, 3)), (3, 4, 2), [], (6, 12, 2)),
    "larger 3d": (lambda: fnn.UpSampling3D(), (1, 2, 3, 2), [], (2, 4, 6, 2)),
    "bilinear": (lambda: fnn.UpSampling2D((2, 3), interpolation="bilinear"), (3, 4, 2), [], (6, 12, 2)),
    "bilinear first": (lambda: fnn.UpSampling2D(4, "channels_first", "bilinear"), (2, 1, 3), [], (2, 4, 12)),
    "group norm": (lambda: fnn.GroupNorm(2), (3, 4, 6), [(6,), (6,)], (3, 4, 6)),
    "group norm for each": (lambda: fnn.GroupNorm(-1, center=False), (4, 6), [(6,)], (4, 6)),
    "group norm of rows": (lambda: fnn.GroupNorm(3, scale=False), (6,), [(6,)], (6,)),
    "dropout": (lambda: fnn.SpatialDropout2D(0.5), (3, 4, 6), [], (3, 4, 6)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_values_weights_and_shapes(name, capsys):
    make, shape, weights, result = LAYERS[name]
    x_in, layer = fnn.Input(shape), make()
    y = layer(x_in)
    model = fnn.Model(x_in, y, dtype="float64", seed=1)
    assert y.shape == result
    assert [weight.shape for weight in model.get_weights()] == weights
    model.summary()
    line = capsys.readouterr().out.splitlines()[4]
    assert str((None, *result)) in line and type(layer).__name__ in line
    given = [RNG.normal(size=weight) for weight in weights]
    model.set_weights(given)
    x = RNG.normal(size=(3, *shape))
    got, expected = model.predict(x), values(layer, given, x)
    assert got.shape == expected.shape == (3, *result)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_names_of_weights():
    model = fnn.Sequential([
        fnn.Input((8, 8, 4)), fnn.Conv2D(4, 1, name="a"), fnn.Conv2DTranspose(4, 1, name="b"),
        fnn.DepthwiseConv2D(1, name="c"), fnn.SeparableConv2D(4, 1, name="d"), fnn.GroupNorm(2, name="e"),
    ])  # fmt: skip
    names = [entry.name for entry in model._runtime.table]
    assert names == [
        "a/kernel", "a/bias", "b/kernel", "b/bias", "c/kernel", "c/bias", "d/depthwise_kernel", "d/pointwise_kernel",
        "d/bias", "e/gamma", "e/beta",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "fans"),
    [
        (fnn.Conv2D(64, 3), [9 * 32 + 9 * 64]),
        (fnn.Conv1D(64, 5, groups=2), [5 * 16 + 5 * 64]),
        (fnn.Conv2DTranspose(64, 3), [9 * 64 + 9 * 32]),
        (fnn.DepthwiseConv2D(9, depth_multiplier=2), [81 * 32 + 81 * 2]),
        (fnn.SeparableConv2D(64, 9), [81 * 32 + 81 * 1, 32 + 64]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_initial_kernels_have_glorots_range(layer, fans):
    shape = (9, 9, 32) if layer.rank == 2 else (9, 32)
    model = fnn.Sequential([fnn.Input(shape), layer], seed=0)
    *kernels, bias = model.get_weights()
    assert not bias.any()
    for kernel, both in zip(kernels, fans, strict=True):
        limit = np.sqrt(6.0 / both)
        assert 0.97 * limit < np.abs(kernel).max() <= limit


def test_a_convolution_by_hand():
    """The example of cross-correlation: the kernel is not flipped."""
    model = fnn.Sequential([fnn.Input((3, 3, 1)), fnn.Conv2D(1, 2)])
    model.set_weights([np.array([[0.0, 1.0], [2.0, 3.0]]).reshape(2, 2, 1, 1), np.zeros(1)])
    found = model.predict(np.arange(9.0).reshape(1, 3, 3, 1))
    np.testing.assert_array_equal(found[0, :, :, 0], [[19.0, 25.0], [37.0, 43.0]])


def test_a_transposed_convolution_by_hand():
    model = fnn.Sequential([fnn.Input((2, 2, 1)), fnn.Conv2DTranspose(1, 2)])
    model.set_weights([np.arange(4.0).reshape(2, 2, 1, 1), np.zeros(1)])
    found = model.predict(np.arange(4.0).reshape(1, 2, 2, 1))
    np.testing.assert_array_equal(found[0, :, :, 0], [[0.0, 0.0, 1.0], [0.0, 4.0, 6.0], [4.0, 12.0, 9.0]])


def test_same_padding_is_behind_first():
    """TensorFlow puts the odd zero behind; windows of averages count only what there is."""
    model = fnn.Sequential([fnn.Input((4, 1)), fnn.Conv1D(1, 2, padding="same", use_bias=False)])
    model.set_weights([np.array([1.0, 10.0]).reshape(2, 1, 1)])
    x = np.arange(1.0, 5.0).reshape(1, 4, 1)
    np.testing.assert_array_equal(model.predict(x).ravel(), [21.0, 32.0, 43.0, 4.0])
    pooled = fnn.Sequential([fnn.Input((4, 1)), fnn.AveragePooling1D(2, 1, "same")])
    np.testing.assert_array_equal(pooled.predict(x).ravel(), [1.5, 2.5, 3.5, 4.0])
    strided = fnn.Sequential([fnn.Input((4, 1)), fnn.AveragePooling1D(3, 2, "same")])
    np.testing.assert_array_equal(strided.predict(x).ravel(), [2.0, 3.5])
    largest = fnn.Sequential([fnn.Input((4, 1)), fnn.MaxPooling1D(3, 1, "same")])
    np.testing.assert_array_equal(largest.predict(-x).ravel(), [-1.0, -1.0, -2.0, -3.0])


def test_bilinear_by_hand():
    """Centres of pixels are half-way: the ends are those of the image, twice."""
    model = fnn.Sequential([fnn.Input((1, 2, 1)), fnn.UpSampling2D((1, 4), interpolation="bilinear")])
    found = model.predict(np.array([0.0, 8.0]).reshape(1, 1, 2, 1)).ravel()
    np.testing.assert_array_equal(found, [0.0, 0.0, 1.0, 3.0, 5.0, 7.0, 8.0, 8.0])


@pytest.mark.parametrize("padding", [1, (2, 0), ((0, 3), (1, 2)), ((5, 0), (0, 7))])
@pytest.mark.parametrize("second", [lambda: fnn.Conv2D(3, 2), lambda: fnn.Conv2D(3, 2, 2, "same"),
                                    lambda: fnn.MaxPooling2D(2, 1, "same")])  # fmt: skip
def test_zeros_before_a_layer(padding, second):
    """A convolution reads images around which zeros were put where they are; maxima count the zeros."""
    x_in, zeros, layer = fnn.Input((5, 6, 2)), fnn.ZeroPadding2D(padding), second()
    model = fnn.Model(x_in, layer(zeros(x_in)), dtype="float64", seed=0)
    x = RNG.normal(size=(2, 5, 6, 2)) - 3.0
    expected = values(layer, model.get_weights(), values(zeros, [], x))
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-12, atol=1e-12)


def test_zeros_of_which_several_layers_read():
    x_in = fnn.Input((5, 6, 2))
    wide = fnn.ZeroPadding2D(2)(fnn.ZeroPadding2D(((1, 0), (0, 1)))(x_in))
    model = fnn.Model(x_in, [fnn.Conv2D(3, 3, use_bias=False)(wide), wide], dtype="float64", seed=0)
    x = RNG.normal(size=(2, 5, 6, 2))
    convolved, padded = model.predict(x)
    np.testing.assert_array_equal(padded, np.pad(x, ((0, 0), (3, 2), (2, 3), (0, 0))))
    expected = values(fnn.Conv2D(3, 3, use_bias=False), model.get_weights(), padded)
    np.testing.assert_allclose(convolved, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_spatial_dropout(rank, first):
    """Whole channels of a sample are zero, the others are divided by the part that is kept."""
    shape = (12, *(3,) * rank) if first else (*(3,) * rank, 12)
    layer = getattr(fnn, f"SpatialDropout{rank}D")(0.25, "channels_first" if first else None)
    x_in = fnn.Input(shape)
    model = fnn.Model(x_in, layer(x_in), seed=3)
    model.compile("sgd", "mse")
    x = RNG.uniform(1.0, 2.0, size=(200, *shape)).astype(np.float32)
    np.testing.assert_array_equal(model.predict(x), x)
    # the gradient for the input of the mean of (kept x)^2 is 2 kept^2 x over the number of elements
    factors = model.input_gradients(x, np.zeros_like(x), training=True) * (x.size / 2.0) / x
    channels = factors.reshape(200, 12, -1) if first else np.moveaxis(factors.reshape(200, -1, 12), 2, 1)
    kept = np.sqrt(channels[..., 0])
    np.testing.assert_allclose(channels, np.broadcast_to(channels[..., :1], channels.shape), rtol=1e-5)
    np.testing.assert_allclose(kept[kept > 0.0], 1.0 / 0.75, rtol=1e-5)
    # 2400 channels; five standard deviations
    assert abs((kept == 0.0).mean() - 0.25) < 0.045
    assert (kept[0] != kept[1]).any()
    plain = fnn.Model(x_in, getattr(fnn, f"SpatialDropout{rank}D")(0.0, layer.data_format)(x_in))
    plain.compile("sgd", "mse")
    assert plain.test_on_batch(x, x)["loss"] == plain.train_on_batch(x, x)["loss"] == 0.0


# Keras 3.15: arguments by position, and their defaults
WINDOW = {"strides": 1, "padding": "valid", "data_format": None, "dilation_rate": 1}
DEFAULTS = {
    "Conv": {"filters": ..., "kernel_size": ..., **WINDOW, "groups": 1, "activation": None, "use_bias": True,
             "kernel_initializer": "glorot_uniform", "bias_initializer": "zeros", "kernel_regularizer": None,
             "bias_regularizer": None},
    "DepthwiseConv": {"kernel_size": ..., "strides": 1, "padding": "valid", "depth_multiplier": 1, "data_format": None,
                      "dilation_rate": 1, "activation": None, "use_bias": True,
                      "depthwise_initializer": "glorot_uniform", "bias_initializer": "zeros"},
    "SeparableConv": {"filters": ..., "kernel_size": ..., **WINDOW, "depth_multiplier": 1, "activation": None,
                      "use_bias": True, "depthwise_initializer": "glorot_uniform",
                      "pointwise_initializer": "glorot_uniform", "bias_initializer": "zeros"},
    "MaxPooling": {"pool_size": 2, "strides": None, "padding": "valid", "data_format": None},
    "AveragePooling": {"pool_size": 2, "strides": None, "padding": "valid", "data_format": None},
    "GlobalMaxPooling": {"data_format": None, "keepdims": False},
    "GlobalAveragePooling": {"data_format": None, "keepdims": False},
    "ZeroPadding": {"padding": 1, "data_format": None},
    "SpatialDropout": {"rate": ...},
}  # fmt: skip


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_arguments_are_those_of_keras(name, rank):
    if rank == 3 and name in ("DepthwiseConv", "SeparableConv"):
        assert not hasattr(fnn, f"{name}3D")
        return
    given = inspect.signature(getattr(fnn, f"{name}{rank}D")).parameters
    expected = DEFAULTS[name]
    assert list(given)[: len(expected)] == list(expected)
    for argument, default in expected.items():
        assert given[argument].default == (inspect.Parameter.empty if default is ... else default), argument


def test_other_defaults():
    transposed = inspect.signature(fnn.Conv2DTranspose).parameters
    assert list(transposed)[:7] == [
        "filters", "kernel_size", "strides", "padding", "output_padding", "data_format", "dilation_rate"
    ]  # fmt: skip
    assert transposed["output_padding"].default is None
    norm = fnn.GroupNorm()
    assert (norm.groups, norm.epsilon, norm.center, norm.scale) == (32, 1e-3, True, True)
    larger = fnn.UpSampling2D()
    assert (tuple(larger.size), larger.interpolation) == ((2, 2), "nearest")
    assert fnn.UpSampling1D().size == 2
    assert fnn.MaxPooling2D((3, 2)).strides == (3, 2)
    assert fnn.Conv2D(1, 1, padding="SAME").padding == "same"


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_aliases(rank):
    for kind, alias in (("Max", "MaxPool"), ("Average", "AvgPool")):
        for where in ("", "Global"):
            assert getattr(fnn, f"{where}{alias}{rank}D") is getattr(fnn, f"{where}{kind}Pooling{rank}D")
            assert getattr(fnn.layers, f"{where}{alias}{rank}D") is getattr(fnn, f"{where}{alias}{rank}D")
    assert fnn.GroupNormalization is fnn.GroupNorm


IMAGE, LINE, VOLUME = (5, 5, 4), (5, 4), (5, 5, 5, 4)


@pytest.mark.parametrize(
    ("make", "shape", "match"),
    [
        (lambda: fnn.Conv2D(3, 3), LINE, r"'Conv2D': takes samples of shape \(height, width, channels\), got \(5, 4\)"),
        (lambda: fnn.Conv2D(3, 3), VOLUME, r"'Conv2D': takes samples of shape"),
        (lambda: fnn.Conv1D(3, 3), (5,), r"'Conv1D': takes samples of shape \(steps, channels\), got \(5,\)"),
        (lambda: fnn.Conv3D(3, 3), IMAGE, r"'Conv3D': takes samples of shape \(depth, height, width, channels\)"),
        (lambda: fnn.MaxPooling2D(data_format="channels_first"), LINE, r"\(channels, height, width\), got \(5, 4\)"),
        (lambda: fnn.GlobalMaxPooling2D(), LINE, "'GlobalMaxPooling2D': takes samples"),
        (lambda: fnn.ZeroPadding2D(), LINE, "'ZeroPadding2D': takes samples"),
        (lambda: fnn.UpSampling1D(), IMAGE, "'UpSampling1D': takes samples"),
        (lambda: fnn.SpatialDropout1D(0.5), IMAGE, "'SpatialDropout1D': takes samples"),
        (lambda: fnn.GroupNorm(3), (), "'GroupNorm'|Input"),
        (lambda: fnn.Conv2D(3, 6), IMAGE, "'Conv2D': a window that reaches over 6 entries does not fit an axis of 5"),
        (lambda: fnn.Conv2D(3, 3, dilation_rate=3), IMAGE, "'Conv2D': a window that reaches over 7 entries"),
        (lambda: fnn.MaxPooling2D((2, 6)), IMAGE, "'MaxPooling2D': a window that reaches over 6 entries"),
        (lambda: fnn.Conv2D(6, 3, groups=3), IMAGE, "'Conv2D': has 3 groups, which do not divide 4 channels"),
        (lambda: fnn.GroupNorm(3), IMAGE, "'GroupNorm': has 3 groups, which do not divide 4 channels"),
        (lambda: fnn.GroupNorm(), IMAGE, "'GroupNorm': has 32 groups, which do not divide 4 channels"),
        (lambda: fnn.Cropping2D(((2, 3), 0)), IMAGE, "'Cropping2D': leaves nothing of an axis of 5"),
        (lambda: fnn.Conv2DTranspose(3, 3, 2, "same", output_padding=3), IMAGE, "output_padding does not fit"),
        (lambda: fnn.Conv1D(3, 4097, padding="same"), LINE, "'Conv1D': a window has at most 4096 places, got 4097"),
        (lambda: fnn.Conv2D(3, (65, 64), padding="same"), IMAGE, "at most 4096 places, got 4160"),
        (lambda: fnn.MaxPooling3D(17, padding="same"), VOLUME, "'MaxPooling3D': a window has at most 4096 places"),
        (lambda: fnn.Conv1D(3, 3, 2**20, "same"), LINE, "'Conv1D': axes and windows have at most 1048575 entries"),
        (lambda: fnn.Conv1D(3, 2, padding="causal", dilation_rate=2**47), LINE, "at most 1048575 entries"),
        (lambda: fnn.Conv1DTranspose(3, 3, 2**40), LINE, "'Conv1DTranspose': axes and windows have at most"),
        (lambda: fnn.Conv2D(2**48, 3), IMAGE, "'Conv2D': gives samples of"),
        (lambda: fnn.DepthwiseConv2D(3, depth_multiplier=2**48), IMAGE, "'DepthwiseConv2D': gives samples of"),
        (lambda: fnn.UpSampling2D(2**48), IMAGE, "'UpSampling2D': gives samples of"),
        (lambda: fnn.ZeroPadding2D(2**60), IMAGE, "'ZeroPadding2D': gives samples of"),
        (lambda: fnn.Cropping3D(2**60), VOLUME, "'Cropping3D': leaves nothing"),
    ],
)  # fmt: skip
def test_samples_that_do_not_fit(make, shape, match):
    with pytest.raises(ValueError, match=match):
        make()(fnn.Input(shape))


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: fnn.Conv2D(3, 3, groups=2), ValueError, "filters: expected a multiple of groups, 2, got 3"),
        (lambda: fnn.Conv2D(3, 3, padding="full"), ValueError, "padding: expected 'valid' or 'same', got 'full'"),
        (lambda: fnn.Conv2D(3, 3, padding="causal"), ValueError, "padding: expected 'valid' or 'same', got 'causal'"),
        (lambda: fnn.Conv2D(3, 3, padding=1), ValueError, "padding: expected"),
        (lambda: fnn.Conv1DTranspose(3, 3, padding="causal"), ValueError, "padding: expected 'valid' or 'same'"),
        (lambda: fnn.MaxPooling1D(3, padding="causal"), ValueError, "padding: expected 'valid' or 'same'"),
        (lambda: fnn.Conv2D(3, 3, data_format="NCHW"), ValueError, "data_format: expected 'channels_last' or"),
        (lambda: fnn.MaxPooling2D(data_format=1), ValueError, "data_format: expected"),
        (lambda: fnn.GlobalMaxPooling2D(data_format=0), ValueError, "data_format: expected"),
        (lambda: fnn.UpSampling2D(interpolation="cubic"), ValueError, "interpolation: expected 'nearest' or"),
        (lambda: fnn.Conv2D(0, 3), ValueError, "filters: expected an integer >= 1, got 0"),
        (lambda: fnn.Conv2D(3, -1), ValueError, "kernel_size: expected an integer >= 1, got -1"),
        (lambda: fnn.Conv2D(3, (3, 0)), ValueError, r"kernel_size\[1\]: expected an integer >= 1, got 0"),
        (lambda: fnn.Conv2D(3, (3, 3, 3)), ValueError, "kernel_size: expected an integer, or 2 of them"),
        (lambda: fnn.Conv2D(3, 3, strides=0), ValueError, "strides: expected an integer >= 1, got 0"),
        (lambda: fnn.Conv2D(3, 3, dilation_rate=-2), ValueError, "dilation_rate: expected an integer >= 1"),
        (lambda: fnn.Conv2D(3, 3, groups=0), ValueError, "groups: expected an integer >= 1, got 0"),
        (lambda: fnn.Conv2D(3, 3, groups=-1), ValueError, "groups: expected an integer >= 1, got -1"),
        (lambda: fnn.Conv2D(3, 1.5), TypeError, "kernel_size: expected an integer, got 1.5"),
        (lambda: fnn.Conv2D(3, "3"), TypeError, "kernel_size: expected an integer, got '3'"),
        (lambda: fnn.Conv2D(3, True), TypeError, "kernel_size: expected an integer, got True"),
        (lambda: fnn.Conv2D(3, 2**60), ValueError, "kernel_size: expected an integer <= 281474976710656"),
        (lambda: fnn.Conv2D(3, 3, use_bias=1), TypeError, "use_bias: expected"),
        (lambda: fnn.Conv2D(3, 3, activation="nothing"), ValueError, "nothing"),
        (lambda: fnn.Conv2DTranspose(3, 3, output_padding=-1), ValueError, "output_padding: expected an integer >= 0"),
        (lambda: fnn.Conv2DTranspose(3, 3, output_padding=(1,)), ValueError, "output_padding: expected an integer, or"),
        (lambda: fnn.DepthwiseConv2D(3, depth_multiplier=0), ValueError, "depth_multiplier: expected an integer >= 1"),
        (lambda: fnn.MaxPooling2D(0), ValueError, "pool_size: expected an integer >= 1, got 0"),
        (lambda: fnn.MaxPooling2D(2, (1, 2, 3)), ValueError, "strides: expected an integer, or 2 of them"),
        (lambda: fnn.GlobalMaxPooling2D(keepdims=1), TypeError, "keepdims: expected"),
        (lambda: fnn.ZeroPadding2D(-1), ValueError, r"padding\[0\]: expected an integer >= 0, got -1"),
        (lambda: fnn.ZeroPadding2D((1, 2, 3)), ValueError, "padding: expected an integer, or 2 integers or pairs"),
        (lambda: fnn.ZeroPadding2D(((1, 2, 3), 1)), ValueError, r"padding\[0\]: expected an integer or two"),
        (lambda: fnn.ZeroPadding1D((1, 2, 3)), ValueError, "padding: expected"),
        (lambda: fnn.Cropping2D("1"), TypeError, "cropping"),
        (lambda: fnn.UpSampling2D(0), ValueError, "size: expected an integer >= 1, got 0"),
        (lambda: fnn.UpSampling1D((2, 2)), ValueError, "size: expected an integer, or 1 of them"),
        (lambda: fnn.GroupNorm(0), ValueError, "groups: expected an integer >= 1, got 0"),
        (lambda: fnn.GroupNorm(-2), ValueError, "groups: expected an integer >= -1, got -2"),
        (lambda: fnn.GroupNorm(-1.0), TypeError, "groups: expected an integer, got -1.0"),
        (lambda: fnn.GroupNorm(np.array([2, 2])), TypeError, "groups: expected an integer, got array"),
        (lambda: fnn.GroupNorm(2, epsilon=0.0), ValueError, "epsilon"),
        (lambda: fnn.GroupNorm(2, -1), TypeError, "positional argument"),
        (lambda: fnn.SpatialDropout2D(1.0), ValueError, "rate: expected a number >= 0 and < 1, got 1.0"),
        (lambda: fnn.SpatialDropout2D("a"), TypeError, "rate: expected a number"),
    ],
)  # fmt: skip
def test_arguments_that_are_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: fnn.Conv1D(3, 5, padding="same", dilation_rate=4), (6, 2)),
        (lambda: fnn.Conv1D(3, 4, padding="same", dilation_rate=9), (6, 2)),
        (lambda: fnn.Conv1D(3, 2, padding="same", dilation_rate=13), (6, 2)),
        (lambda: fnn.Conv1D(3, 3, 2, "causal", dilation_rate=7), (9, 2)),
        (lambda: fnn.Conv2D(17, (3, 5), padding="same", dilation_rate=(9, 2)), (5, 4, 3)),
        (lambda: fnn.DepthwiseConv2D(3, 2, "same", dilation_rate=6), (5, 4, 3)),
        (lambda: fnn.Conv2DTranspose(3, 3, padding="same", dilation_rate=(6, 3)), (4, 3, 2)),
    ],
)  # fmt: skip
def test_dilation_beyond_the_map(make, shape):
    """Places of windows that only meet zeros add nothing, and their weights have no gradient."""
    x_in, layer = fnn.Input(shape), make()
    model = fnn.Model(x_in, layer(x_in), dtype="float64", seed=0)
    model.compile("sgd", "mse")
    weights = [RNG.normal(size=weight.shape) for weight in model.get_weights()]
    model.set_weights(weights)
    x, (kernel, bias) = RNG.normal(size=(3, *shape)), weights
    expected = values(layer, weights, x)
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-12, atol=1e-12)
    found, slope = model.gradients(x, np.zeros_like(expected))[0], 2.0 * expected / expected.size
    unused = 0
    for tap in np.ndindex(kernel.shape[:-2]):
        one = np.zeros_like(kernel)
        one[tap] = 1.0
        seen = np.abs(values(layer, [one, np.zeros_like(bias)], np.abs(x))).sum() > 0.0
        unused += not seen
        way = RNG.normal(size=kernel.shape[-2:])
        one[tap] = way
        moved = values(layer, [one, np.zeros_like(bias)], x)
        np.testing.assert_allclose((found[tap] * way).sum(), (slope * moved).sum(), rtol=1e-10, atol=1e-13)
    assert unused > 0


def test_the_largest_dilation_takes_no_memory():
    """A copy of all that the window reaches over would have 10^12 pixels."""
    for layer in (fnn.Conv2D(33, 3, padding="same", dilation_rate=500_000),
                  fnn.Conv2DTranspose(33, 3, padding="same", dilation_rate=500_000)):  # fmt: skip
        x_in = fnn.Input((5, 5, 2))
        model = fnn.Model(x_in, layer(x_in), seed=0)
        model.compile("sgd", "mse")
        x, kernel = RNG.normal(size=(2, 5, 5, 2)).astype(np.float32), model.get_weights()[0][1, 1]
        expected = x @ (kernel.T if isinstance(layer, fnn.Conv2DTranspose) else kernel)
        np.testing.assert_allclose(model.predict(x), expected, rtol=1e-5, atol=1e-6)
        assert model.train_on_batch(x, expected)["loss"] < 1e-10


def test_the_largest_windows():
    for layer, shape in (
        (fnn.Conv1D(2, 4096, padding="same"), (50, 2)), (fnn.Conv2D(2, 64, padding="same"), (5, 4, 1)),
        (fnn.Conv3D(1, 16, padding="same"), (3, 2, 3, 1)), (fnn.Conv1DTranspose(2, 4096), (3, 2)),
        (fnn.MaxPooling1D(4096, 1, "same"), (50, 2)), (fnn.AveragePooling2D(64, 8, "same"), (9, 5, 1)),
        (fnn.Conv1D(2, 3, 2**20 - 1, "same"), (5, 2)),
        (fnn.Conv1D(2, 3, padding="same", dilation_rate=300_000), (5, 2)),
        (fnn.Conv1D(2, 3, padding="causal", dilation_rate=300_000), (5, 2)), (fnn.MaxPooling1D(1, 2**20 - 1), (5, 2)),
    ):  # fmt: skip
        x_in = fnn.Input(shape)
        model = fnn.Model(x_in, layer(x_in), dtype="float64", seed=0)
        x = RNG.normal(size=(2, *shape))
        expected = values(layer, model.get_weights(), x)
        np.testing.assert_allclose(model.predict(x), expected, rtol=1e-11, atol=1e-11, err_msg=str(layer))
        model.compile("sgd", "mse")
        loss = model.train_on_batch(x, np.zeros_like(expected))["loss"]
        np.testing.assert_allclose(loss, (expected**2).mean(), rtol=1e-11)
