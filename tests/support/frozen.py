"""Models to freeze, and compiled functions that call the frozen networks."""

import threading

import numpy as np
import pytest
from numba import njit, prange

import fastnn as fnn
from fastnn import nopython as fnp

RNG = np.random.default_rng(7)
_START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers():
    """Start every test with the same random numbers, whichever tests ran before: relu has kinks."""
    RNG.bit_generator.state = _START


@njit(nogil=True)
def predict(net, x, out):
    fnp.predict(net, x, out)


@njit(nogil=True)
def predict_with(net, x, out, work):
    fnp.predict(net, x, out, work)


@njit(nogil=True)
def each(net, x, out):
    for i in range(len(x)):
        fnp.predict(net, x[i], out[i])


@njit(parallel=True)
def in_parallel(net, x, out):
    for i in prange(len(x)):
        fnp.predict(net, x[i], out[i])


def chain(*layers, shape=(6,), dtype="float32", seed=1):
    return fnn.Sequential([fnn.Input(shape), *layers], dtype=dtype, seed=seed)


def residual(dtype="float32"):
    x = fnn.Input((6,))
    h = fnn.Dense(6, activation="gelu")(x)
    h = fnn.Add()([h, x])
    h = fnn.LayerNorm()(fnn.Concatenate()([h, fnn.Multiply()([h, x])]))
    return fnn.Model(x, fnn.Dense(3, activation="softmax")(h), seed=2, dtype=dtype)


def normalised(dtype="float32"):
    model = chain(fnn.Dense(9), fnn.BatchNorm(), fnn.Activation("tanh"), fnn.Dropout(0.5), fnn.Dense(2), dtype=dtype)
    model.compile("sgd", "mse")
    model.fit(RNG.normal(size=(40, 6)), RNG.normal(size=(40, 2)), epochs=2, verbose=0)
    return model


def attention(dtype="float32", heads=2, steps=5, size=6):
    """Self-attention: queries, keys and values of several heads, read where they are."""
    x = fnn.Input((steps, size))
    split = [fnn.Permute((2, 1, 3))(fnn.Reshape((steps, heads, -1))(fnn.Dense(2 * size)(x))) for _ in range(3)]
    scores = fnn.MatMul(transpose_b=True, scale=0.5)(split[:2])
    mixed = fnn.MatMul()([fnn.Activation("softmax")(scores), split[2]])
    y = fnn.Dense(size)(fnn.Reshape((steps, -1))(fnn.Permute((2, 1, 3))(mixed)))
    return fnn.Model(x, fnn.Add()([x, y]), seed=3, dtype=dtype)


def grouped(dtype="float32"):
    """Products whose operands have matrices that others use again, in all orders."""
    x = fnn.Input((2, 3, 4))
    one = fnn.Reshape((2, 1, 3, -1))(fnn.Dense(4)(x))
    many = fnn.Reshape((2, 2, 3, -1))(fnn.Dense(8)(x))
    across = fnn.MatMul(transpose_b=True)([many, one])
    y = fnn.MatMul()([across, fnn.Reshape((2, 3, 4))(fnn.Dense(4)(x))])
    return fnn.Model(x, fnn.Flatten()(y), seed=3, dtype=dtype)


def angles(dtype="float32"):
    x = fnn.Input((4, 3))
    return fnn.Model(x, fnn.Dot((1, 1), normalize=True)([x, fnn.Dense(5)(x)]), seed=3, dtype=dtype)


MODELS = {
    "attention": attention,
    "angles": angles,
    "grouped": grouped,
    "perceptron": lambda dtype: chain(fnn.Dense(20, "relu"), fnn.Dense(10, "softmax"), dtype=dtype),
    "one output": lambda dtype: chain(fnn.Dense(33, "tanh"), fnn.Dense(1, "sigmoid"), dtype=dtype),
    "wide": lambda dtype: chain(fnn.Dense(300, activation="relu"), fnn.Dense(150), fnn.Dense(70), dtype=dtype),
    "no bias": lambda dtype: chain(fnn.Dense(8, "gelu"), fnn.Dense(4, use_bias=False), dtype=dtype),
    "heads": lambda dtype: chain(
        fnn.MultiHeadAttention(2, 4, causal=True), fnn.LayerNorm(), fnn.GroupedQueryAttention(3, 4, 2), fnn.Dense(3),
        shape=(7, 6), dtype=dtype,
    ),
    "residual": residual,
    "normalised": normalised,
    "images": lambda dtype: chain(
        fnn.Dense(4), fnn.Flatten(), fnn.Dense(5), fnn.Reshape((5, 1)), shape=(3, 2), dtype=dtype
    ),
    "pictures": lambda dtype: chain(
        fnn.Conv2D(5, 3, padding="same", activation="relu"), fnn.MaxPooling2D(), fnn.GroupNorm(5, epsilon=0.1),
        fnn.SeparableConv2D(17, 2, activation="gelu"), fnn.GlobalAveragePooling2D(), fnn.Dense(3),
        shape=(7, 6, 2), dtype=dtype,
    ),
    "decoder": lambda dtype: chain(
        fnn.Dense(12, activation="tanh"), fnn.Reshape((2, 2, 3)),
        fnn.Conv2DTranspose(4, 3, 2, "same", activation="relu"), fnn.UpSampling2D(interpolation="bilinear"),
        fnn.ZeroPadding2D(1), fnn.Conv2D(2, 3, activation="sigmoid"), dtype=dtype,
    ),
    "signals": lambda dtype: chain(
        fnn.Conv1D(6, 3, padding="causal", dilation_rate=2, groups=2, data_format="channels_first"),
        fnn.Permute((2, 1)), fnn.AveragePooling1D(2, 1, "same"), fnn.DepthwiseConv1D(3, activation="tanh"),
        fnn.Conv1D(4, 1), shape=(4, 9), dtype=dtype,
    ),
    "sequence": lambda dtype: chain(fnn.Dense(70, activation="relu"), fnn.LayerNorm(), shape=(40, 70), dtype=dtype),
    "turned": lambda dtype: chain(fnn.Permute((2, 1)), fnn.Dense(3), fnn.Permute((2, 1)), shape=(4, 5), dtype=dtype),
    "cropped": lambda dtype: chain(fnn.Cropping1D((1, 2)), fnn.Dense(3), shape=(5, 4), dtype=dtype),
    "turned alone": lambda dtype: chain(fnn.Permute((3, 1, 2)), shape=(2, 3, 4), dtype=dtype),
    "rows divided": lambda dtype: chain(fnn.Dense(70), fnn.RMSNorm(), fnn.Dense(3), shape=(4, 70), dtype=dtype),
    "softmax alone": lambda dtype: chain(fnn.Activation("softmax"), dtype=dtype),
    "reshaped alone": lambda dtype: chain(fnn.Reshape((3, 2)), dtype=dtype),
}  # fmt: skip


def rows(model, n, dtype="float32"):
    return RNG.normal(size=(n, *model._architecture.input_shapes[0])).astype(dtype)


def expected(model, x):
    return model.predict(x, batch_size=256)


def at_once(work, count=8):
    """Run a function in several threads at the same time."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@njit
def round_trip(net, flat, back):
    fnp.set_parameters(net, flat)
    fnp.get_parameters(net, back)
    return fnp.parameter_count(net)
