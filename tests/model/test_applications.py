"""Networks for images: numbers of parameters that others publish, values by plain NumPy, and a step of training."""

import itertools

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import fastnn as fnn
from fastnn.applications.mobilenet import divisible

apps = fnn.applications
CIFAR = {"input_shape": (32, 32, 3), "classes": 10}
SMALL = {
    "LeNet5": lambda **options: apps.LeNet5((16, 16, 1), 3, **options),
    "ResNet20": lambda **options: apps.ResNet20((8, 9, 3), 4, width=4, **options),
    "ResNet32": lambda **options: apps.ResNet32((8, 8, 1), 4, width=4, shortcut="B", **options),
    "ResNet18": lambda **options: apps.ResNet18((17, 16, 3), 4, width=4, **options),
    "MobileNetV1": lambda **options: apps.MobileNetV1((17, 16, 3), 4, 0.25, **options),
    "MobileNetV2": lambda **options: apps.MobileNetV2((17, 16, 3), 4, 0.1, **options),
    "UNet": lambda **options: apps.UNet((16, 8, 1), 3, filters=4, depth=2, padding="same", **options),
}


def trained(model):
    """Return the number of weights that gradients reach: all but moving averages."""
    norms = [layer for layer in model.layers if isinstance(layer, fnn.BatchNorm)]
    return model.count_params() - sum(model.get_weights(norm)[-1].size * 2 for norm in norms)


def convolution(window, channels, filters, bias=False):
    return window**2 * channels * filters + bias * filters


def residual_parameters(widths, blocks, projections, classes, first):
    """Count the weights of residual networks of two convolutions a block: kernels, and two numbers a normalised map."""
    count, channels = convolution(first, 3, widths[0]) + 2 * widths[0], widths[0]
    for width in widths:
        for _ in range(blocks):
            count += convolution(3, channels, width) + convolution(3, width, width) + 4 * width
            count += projections * (channels != width) * (channels * width + 2 * width)
            channels = width
    return count + (channels + 1) * classes


@pytest.mark.parametrize(
    ("make", "published", "formula"),
    [
        # 0.27 and 0.46 million in arXiv:1512.03385, table 6
        (apps.ResNet20, 269_722, ((16, 32, 64), 3, False, 10, 3)),
        (apps.ResNet32, 464_154, ((16, 32, 64), 5, False, 10, 3)),
        (lambda **options: apps.ResNet20(shortcut="B", **options), 272_474, ((16, 32, 64), 3, True, 10, 3)),
        # torchvision's resnet18
        (apps.ResNet18, 11_689_512, ((64, 128, 256, 512), 2, True, 1000, 7)),
    ],
)
def test_parameters_of_residual_networks(make, published, formula):
    assert trained(make(seed=0)) == published == residual_parameters(*formula)


def test_parameters_of_lenet():
    formula = sum([convolution(5, 1, 6, True), convolution(5, 6, 16, True), 401 * 120, 121 * 84, 85 * 10])
    assert apps.LeNet5().count_params() == apps.LeNet5((32, 32, 1), padding="valid").count_params() == formula == 61_706


@pytest.mark.parametrize(
    ("alpha", "published"), [(1.0, 4_253_864), (0.75, 2_601_976), (0.5, 1_342_536), (0.25, 475_544)]
)
def test_parameters_of_the_first_mobilenet(alpha, published):
    """Keras' numbers, which moving averages are part of."""
    widths = [int(alpha * width) for width in (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)]
    formula = convolution(3, 3, widths[0]) + 4 * widths[0] + (widths[-1] + 1) * 1000
    for before, after in itertools.pairwise(widths):
        formula += 9 * before + 4 * before + before * after + 4 * after
    assert apps.MobileNetV1(alpha=alpha).count_params() == formula == published


@pytest.mark.parametrize(
    ("alpha", "published"), [(1.0, 3_538_984), (1.4, 6_156_712), (0.75, 2_663_064), (0.35, 1_691_208)]
)
def test_parameters_of_the_second_mobilenet(alpha, published):
    """Keras' numbers, which moving averages are part of."""
    channels = divisible(32 * alpha)
    formula = convolution(3, 3, channels) + 4 * channels
    for times, width, blocks in ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)):
        after = divisible(width * alpha)
        for _ in range(blocks):
            inside = channels * times
            formula += (times > 1) * (channels * inside + 4 * inside) + 13 * inside + inside * after + 4 * after
            channels = after
    last = divisible(1280 * max(alpha, 1.0))
    formula += channels * last + 4 * last + (last + 1) * 1000
    assert apps.MobileNetV2(alpha=alpha).count_params() == formula == published


def test_parameters_of_the_unet():
    """The paper's network: 31.0 million, and 388 of 572 pixels."""
    widths, channels, formula = (64, 128, 256, 512, 1024), 1, 0
    for width in widths:
        formula += convolution(3, channels, width, True) + convolution(3, width, width, True)
        channels = width
    for width in (512, 256, 128, 64):
        formula += convolution(2, 2 * width, width, True) + convolution(3, 2 * width, width, True)
        formula += convolution(3, width, width, True)
    model = apps.UNet(seed=0)
    assert model.count_params() == formula + 65 * 2 == 31_030_658
    assert model.outputs[0].shape == (388, 388, 2)


def test_widths_that_8_divides():
    """Rounded to the nearest multiple of 8, but not below nine tenths of the width."""
    found = {width: divisible(width) for width in (1.0, 8.0, 11.9, 12.0, 33.6, 24.0, 44.8, 10.8)}
    assert found == {1.0: 8, 8.0: 8, 11.9: 16, 12.0: 16, 33.6: 32, 24.0: 24, 44.8: 48, 10.8: 16}


@pytest.mark.parametrize("name", SMALL)
def test_predicts_and_learns(name):
    model = SMALL[name](seed=1)
    assert model.name == {"MobileNetV1": "mobilenet_v1", "MobileNetV2": "mobilenet_v2"}.get(name, name.lower())
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, *model.inputs[0].shape))
    probabilities = model.predict(x)
    assert probabilities.dtype == np.float32 and probabilities.shape == (4, *model.outputs[0].shape)
    np.testing.assert_allclose(probabilities.sum(-1), 1.0, rtol=1e-5)
    y = rng.integers(0, probabilities.shape[-1], probabilities.shape[:-1])
    model.compile(fnn.SGD(0.01), "cross_entropy")
    before = model.get_weights()
    losses = [model.train_on_batch(x, y)["loss"] for _ in range(2)]
    assert np.isfinite(losses).all()
    assert all(np.isfinite(now).all() for now in model.get_weights())
    moved = [not np.array_equal(was, now) for was, now in zip(before, model.get_weights(), strict=True)]
    # a bias of zeros under a relu may have no gradient, a kernel of many has one
    assert all(changed for changed, was in zip(moved, before, strict=True) if was.ndim > 1 and was.size > 64)


@pytest.mark.parametrize("name", SMALL)
def test_arguments_of_models(name, tmp_path):
    model, again = (SMALL[name](seed=3, dtype="float64", name="mine", classifier_activation=None) for _ in range(2))
    assert (model.name, model.dtype, model.seed) == ("mine", "float64", 3)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    x = np.random.default_rng(0).normal(size=(2, *model.inputs[0].shape))
    scores = model.predict(x)
    assert abs(scores.sum(-1) - 1.0).max() > 0.1
    model.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(fnn.load(tmp_path / "model.safetensors").predict(x), scores)


class Plain:
    """A network's layers in plain NumPy, with the weights of a model."""

    def __init__(self, model, seed):
        """Give the moving averages and all other numbers of the norms values of their own."""
        rng = np.random.default_rng(seed)
        self.model = model
        for layer in model.layers:
            if isinstance(layer, fnn.BatchNorm):
                count = model.get_weights(layer)[0].size
                low = rng.uniform(0.5, 1.5, (2, count)), rng.normal(0.0, 0.3, (2, count))
                model.set_weights([low[0][0], low[1][0], low[1][1], low[0][1]], layer)

    def convolution(self, x, name, strides=1, around=None):
        """Convolve with as many zeros on all sides; those that keep the size, unless a number is given."""
        kernel, *bias = self.model.get_weights(name)
        around = len(kernel) // 2 if around is None else around
        windows = sliding_window_view(
            np.pad(x, ((0, 0), (around, around), (around, around), (0, 0))), kernel.shape[:2], (1, 2)
        )
        y = np.einsum("nijchw,hwcf->nijf", windows[:, ::strides, ::strides], kernel)
        return y + bias[0] if bias else y

    def normalised(self, x, name):
        gamma, beta, mean, variance = self.model.get_weights(f"{name}_norm")
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def dense(self, x, name):
        kernel, bias = self.model.get_weights(name)
        return x @ kernel + bias


def relu(x):
    return np.maximum(x, 0.0)


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_residual_network_by_hand(shortcut):
    model = apps.ResNet20((9, 8, 3), 4, width=2, shortcut=shortcut, classifier_activation=None, seed=0, dtype="float64")
    plain = Plain(model, 1)
    image = np.random.default_rng(2).normal(size=(3, 9, 8, 3))
    x = relu(plain.normalised(plain.convolution(image, "conv1"), "conv1"))
    for stage in (1, 2, 3):
        for block in (1, 2, 3):
            name, strides = f"stage{stage}_block{block}", 2 if stage > 1 and block == 1 else 1
            y = relu(plain.normalised(plain.convolution(x, f"{name}_conv1", strides), f"{name}_conv1"))
            y = plain.normalised(plain.convolution(y, f"{name}_conv2"), f"{name}_conv2")
            if strides == 2 and shortcut == "B":
                x = plain.normalised(plain.convolution(x, f"{name}_shortcut", 2), f"{name}_shortcut")
            elif strides == 2:
                x = np.concatenate([x[:, ::2, ::2], np.zeros_like(x[:, ::2, ::2])], axis=-1)
            x = relu(x + y)
    np.testing.assert_allclose(model.predict(image), plain.dense(x.mean((1, 2)), "classes"), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("padding", "around"), [("valid", 0), ("same", 1)])
def test_unet_by_hand(padding, around):
    shape = (44, 52, 2) if padding == "valid" else (8, 12, 2)
    model = apps.UNet(
        shape, 3, filters=3, depth=2, padding=padding, classifier_activation=None, seed=0, dtype="float64"
    )
    plain = Plain(model, 1)

    def two(x, name):
        for number in (1, 2):
            x = relu(plain.convolution(x, f"{name}_conv{number}", around=around))
        return x

    x = image = np.random.default_rng(2).normal(size=(2, *shape))
    bridges = []
    for level in (1, 2):
        x = two(x, f"down{level}")
        bridges.append(x)
        x = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).max((2, 4))
    x = two(x, "bottom")
    for level in (2, 1):
        kernel, bias = model.get_weights(f"up{level}_larger")
        larger = np.einsum("nijc,hwfc->nihjwf", x, kernel)
        larger = larger.reshape(len(x), 2 * x.shape[1], 2 * x.shape[2], -1) + bias
        bridge = bridges.pop()
        top, left = ((bridge.shape[axis] - larger.shape[axis]) // 2 for axis in (1, 2))
        x = np.concatenate([bridge[:, top : top + larger.shape[1], left : left + larger.shape[2]], larger], axis=-1)
        x = two(x, f"up{level}")
    expected = plain.convolution(x, "classes")
    assert expected.shape[1:] == model.outputs[0].shape
    np.testing.assert_allclose(model.predict(image), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: apps.LeNet5((28, 28)), r"input_shape: expected \(height, width, channels\), got \(28, 28\)"),
        (lambda: apps.LeNet5(28), "input_shape: expected a tuple of integers, got 28"),
        (lambda: apps.LeNet5(classes=0), "classes: expected an integer >= 1, got 0"),
        (lambda: apps.LeNet5(padding="causal"), "padding: expected 'same' or 'valid', got 'causal'"),
        (lambda: apps.LeNet5((8, 8, 1), padding="valid"), "layer 'conv2'"),
        (lambda: apps.LeNet5(clases=3), "did you mean 'classes'"),
        (lambda: apps.ResNet20(shortcut="C"), "shortcut: expected 'A' or 'B', got 'C'"),
        (lambda: apps.ResNet32(width=0), "width: expected an integer >= 1"),
        (lambda: apps.ResNet18(classes=2.0), "classes: expected an integer, got 2.0"),
        (lambda: apps.MobileNetV1(alpha=0), "alpha: expected a number > 0, got 0"),
        (lambda: apps.MobileNetV2(alpha="1"), "alpha: expected a number, got '1'"),
        (lambda: apps.MobileNetV2(dropout=1.0), "dropout: expected a number >= 0 and < 1"),
        (lambda: apps.UNet((572, 570, 1)), "the width can be 556 or 572 pixels, got 570"),
        (lambda: apps.UNet((30, 32, 1), padding="same"), "the height can be 16 or 32 pixels, got 30"),
        (lambda: apps.UNet((8, 8, 1), depth=2, padding="valid"), "the height can be 44 pixels, got 8"),
        (lambda: apps.UNet(padding="reflect"), "padding: expected 'valid' or 'same'"),
        (lambda: apps.UNet(depth=0), "depth: expected an integer >= 1"),
        (lambda: apps.UNet(filters=True), "filters: expected an integer"),
        (lambda: apps.ResNet20(dtype="float16"), "dtype"),
    ],
)
def test_wrong_arguments(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()
