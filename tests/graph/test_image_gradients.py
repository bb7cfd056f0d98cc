"""Gradients of layers of images, of first and second order, against differences in float64."""

import numpy as np
import pytest

import fastnn as fnn
from computed import check_derivatives
from fastnn import ops
from fastnn.graph.ops import windows
from fastnn.graph.ops.resizing import magnify
from fastnn.graph.rules import NoGradientError
from fastnn.testing import check_op
from sliding import values

RNG = np.random.default_rng(3)

LAYERS = {
    "conv1d": (fnn.Conv1D(3, 2, activation="tanh"), (5, 2)),
    "conv1d causal": (fnn.Conv1D(2, 3, padding="causal", dilation_rate=2), (5, 2)),
    "conv2d": (fnn.Conv2D(3, (2, 3), activation="relu"), (4, 5, 2)),
    "conv2d same": (fnn.Conv2D(2, 3, 2, "same", activation="gelu"), (4, 5, 2)),
    "conv2d strides and dilation": (fnn.Conv2D(2, 2, (2, 3), "same", dilation_rate=(3, 2)), (5, 4, 2)),
    "conv2d places that no window reaches": (fnn.Conv2D(2, 2, 3), (6, 7, 2)),
    "conv2d groups": (fnn.Conv2D(6, 2, groups=3), (3, 4, 3)),
    "conv2d many filters": (fnn.Conv2D(17, 2, padding="same"), (2, 3, 2)),
    "conv2d 1x1": (fnn.Conv2D(3, 1), (3, 2, 4)),
    "conv2d 1x1 strides": (fnn.Conv2D(3, 1, 2), (3, 4, 2)),
    "conv2d first": (fnn.Conv2D(3, 2, data_format="channels_first"), (2, 3, 4)),
    "conv3d": (fnn.Conv3D(2, 2, (1, 2, 1), "same"), (2, 3, 2, 2)),
    "conv1d transpose": (fnn.Conv1DTranspose(3, 3, 2, activation="tanh"), (3, 2)),
    "conv2d transpose": (fnn.Conv2DTranspose(3, 3, 2, "same", activation="relu"), (2, 3, 2)),
    "conv2d transpose more": (fnn.Conv2DTranspose(2, 2, 3, output_padding=2), (2, 3, 2)),
    "conv2d transpose dilated": (fnn.Conv2DTranspose(2, 2, 2, "same", dilation_rate=2), (3, 2, 2)),
    "conv3d transpose": (fnn.Conv3DTranspose(1, 2, 2), (2, 1, 2, 2)),
    "depthwise": (fnn.DepthwiseConv2D(3, 2, "same", 2, activation="tanh"), (4, 3, 2)),
    "depthwise 1d": (fnn.DepthwiseConv1D(2, padding="causal", dilation_rate=2), (5, 3)),
    "separable": (fnn.SeparableConv2D(3, 2, depth_multiplier=2), (3, 4, 2)),
    "separable 1d": (fnn.SeparableConv1D(3, 3, padding="causal", activation="silu"), (4, 2)),
    "max": (fnn.MaxPooling2D(2), (5, 4, 2)),
    "max overlapping": (fnn.MaxPooling2D(3, 2, "same"), (5, 4, 2)),
    "max gaps": (fnn.MaxPooling1D(2, 3), (7, 3)),
    "max 3d": (fnn.MaxPooling3D(2, 1, "same"), (2, 3, 2, 1)),
    "average": (fnn.AveragePooling2D(2), (5, 4, 2)),
    "average overlapping": (fnn.AveragePooling2D(3, 1, "same"), (3, 4, 2)),
    "average gaps": (fnn.AveragePooling1D(2, 3, "same"), (8, 3)),
    "average first": (fnn.AveragePooling2D(2, 1, data_format="channels_first"), (2, 3, 3)),
    "whole max": (fnn.GlobalMaxPooling2D(), (3, 4, 2)),
    "whole average": (fnn.GlobalAveragePooling2D("channels_first", keepdims=True), (2, 3, 4)),
    "zeros": (fnn.ZeroPadding2D(((0, 1), (2, 0))), (2, 3, 2)),
    "crop": (fnn.Cropping2D(((0, 1), (1, 0))), (3, 4, 2)),
    "larger": (fnn.UpSampling2D((2, 3)), (2, 3, 2)),
    "larger 1d": (fnn.UpSampling1D(3), (2, 3)),
    "bilinear": (fnn.UpSampling2D((2, 3), interpolation="bilinear"), (3, 2, 2)),
    "bilinear of one pixel": (fnn.UpSampling2D(4, interpolation="bilinear"), (1, 1, 2)),
    "group norm": (fnn.GroupNorm(2, epsilon=0.1), (2, 3, 4)),
    "group norm for each": (fnn.GroupNorm(-1, epsilon=0.1), (4, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_layers(name):
    layer, shape = LAYERS[name]
    assert check_op(layer, shape=shape).error <= 1e-5


def test_equal_maxima():
    """The first of equal maxima has the gradient, also behind relu, and of windows of zeros nothing has one."""
    x_in = fnn.Input((4, 1))
    for layers in ([], [fnn.Activation("relu")]):
        y = x_in
        for layer in (*layers, fnn.MaxPooling1D(2)):
            y = layer(y)
        model = fnn.Model(x_in, y, dtype="float64")
        model.compile("sgd", "mse")
        x = np.array([[3.0, 3.0, 1.0, 2.0], [-1.0, -2.0, -1.0, -1.0]])[..., None]
        target = np.array([[2.0, 0.0], [1.0, 1.0]])[..., None]
        found = model.input_gradients(x, target)[..., 0] * 2.0  # the loss is a mean of four squares
        negative = [0.0] * 4 if layers else [-2.0, 0.0, -2.0, 0.0]
        np.testing.assert_allclose(found, [[1.0, 0.0, 0.0, 2.0], negative])


# --- second order ---------------------------------------------------------------------------------------------------


def convolution_of(sizes, window, stride, dilation, padding, groups=1, back=False):
    """Return a function that adds a convolution, or a transposed one, to a graph."""

    def make(graph, x, w):
        if back:
            axes = windows.transposed_slidings(sizes, window, stride, dilation, padding, None)
            return windows.transposed_convolution(graph, x, w, axes, groups, "c")
        axes = windows.slidings(sizes, window, stride, dilation, padding)
        return windows.convolution(graph, x, w, axes, groups, "c")

    return make


SECOND = {
    "lines": ((5,), (2,), (1,), (1,), "valid", 1),
    "causal": ((5,), (3,), (2,), (2,), "causal", 1),
    "images": ((3, 4), (2, 3), (1, 1), (1, 1), "same", 1),
    "strides and dilation": ((4, 5), (2, 2), (2, 3), (2, 1), "same", 1),
    "groups": ((3, 3), (2, 2), (1, 2), (1, 1), "valid", 2),
    "volumes": ((2, 3, 2), (2, 2, 1), (1, 2, 1), (1, 1, 1), "same", 1),
    "places beyond": ((3, 4), (3, 2), (1, 1), (4, 3), "same", 2),
    "pixels": ((2, 3), (1, 1), (1, 1), (1, 1), "valid", 1),
}


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_of_convolutions(name, backend):
    sizes, window, stride, dilation, padding, groups = SECOND[name]
    make = convolution_of(sizes, window, stride, dilation, padding, groups)
    given = [(True, (*sizes, 4)), (False, (*window, 4 // groups, 6))]
    check_derivatives(make, given, batch=2, most=6, backend=backend)


@pytest.mark.parametrize("name", ["lines", "images", "strides and dilation", "places beyond"])
def test_second_derivatives_of_transposed_convolutions(name):
    sizes, window, stride, dilation, padding, _ = SECOND[name]
    make = convolution_of(sizes, window, stride, dilation, padding, back=True)
    check_derivatives(make, [(True, (*sizes, 3)), (False, (*window, 2, 3))], batch=2, most=6)


def test_second_derivatives_of_pooling():
    axes = windows.slidings((4, 5), (3, 2), (1, 2), (1, 1), "same")
    check_derivatives(lambda graph, x: windows.pool(graph, x, "average", axes, "p"), [(True, (4, 5, 3))], most=8)
    check_derivatives(lambda graph, x: windows.pool(graph, x, "max", axes, "p"), [(True, (4, 5, 3))], most=8, orders=1)
    with pytest.raises(NoGradientError, match="'p': the gradient of max pooling cannot be differentiated again"):
        check_derivatives(lambda graph, x: windows.pool(graph, x, "max", axes, "p"), [(True, (4, 5, 3))])


def test_second_derivatives_of_interpolation():
    check_derivatives(lambda graph, x: magnify(graph, x, 3, 1, "u"), [(True, (3, 2))])


def critic(dtype="float64"):
    layers = [
        fnn.Input((5, 4, 2)), fnn.Conv2D(3, 3, padding="same", activation="tanh"),
        fnn.Conv2D(4, 2, 2, activation="gelu"), fnn.AveragePooling2D(2, 1), fnn.DepthwiseConv2D(1, activation="tanh"),
        fnn.Conv2DTranspose(2, 2, 2, activation="softplus"), fnn.Flatten(), fnn.Dense(1),
    ]  # fmt: skip
    return fnn.Sequential(layers, seed=4, dtype=dtype)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_gradient_penalty(count, monkeypatch):
    """The loss holds the gradient of a network for its images; its gradient for the weights by differences."""
    monkeypatch.setattr(fnn.threads, "_chosen", count)
    net = critic()
    x = fnn.Input((5, 4, 2))
    slope = ops.gradients(net(x), x)
    loss = ops.mean(ops.square(ops.sum(ops.square(slope), axis=(1, 2, 3)) - 1.0))
    data = RNG.normal(size=(3, 5, 4, 2))
    kernels = [net.layers[number] for number in (0, 1, 3, 4)]
    found = fnn.function([x], [loss, *ops.gradients(loss, [layer.kernel for layer in kernels])])(data)
    value = fnn.function([x], loss)
    weights = net.get_weights()
    for number, gradient in zip((0, 2, 4, 6), found[1:], strict=True):
        direction, ends = RNG.normal(size=gradient.shape), []
        for step in (1e-5, -1e-5):
            net.set_weights([w + step * direction if i == number else w for i, w in enumerate(weights)])
            ends.append(float(value(data)))
        net.set_weights(weights)
        np.testing.assert_allclose((gradient * direction).sum(), (ends[0] - ends[1]) / 2e-5, rtol=1e-6, atol=1e-9)


def test_the_weights_of_a_step():
    """A step of gradient descent on a convolution by NumPy: the gradient of a squared error is a correlation."""
    x_in, layer = fnn.Input((6, 5, 2)), fnn.Conv2D(3, (3, 2), (2, 1), "same")
    model = fnn.Model(x_in, layer(x_in), dtype="float64", seed=0)
    model.compile(fnn.SGD(0.5), "mse")
    x = RNG.normal(size=(7, 6, 5, 2))
    kernel, bias = model.get_weights()
    predicted = values(layer, [kernel, bias], x)
    y = RNG.normal(size=predicted.shape)
    slope = 2.0 * (predicted - y) / y.size
    # rows 2, 0, 1 before and behind: 6 rows in steps of two need one zero row, behind; 5 columns need one, behind
    wide, expected = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))), np.empty_like(kernel)
    for i in range(3):
        for j in range(2):
            expected[i, j] = np.einsum("nhwc,nhwf->cf", wide[:, i : i + 5 : 2, j : j + 5], slope)
    model.train_on_batch(x, y)
    found = model.get_weights()
    np.testing.assert_allclose(found[0], kernel - 0.5 * expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found[1], bias - 0.5 * slope.sum((0, 1, 2)), rtol=1e-12, atol=1e-13)
