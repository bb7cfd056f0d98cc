"""Positions: sines and cosines, rotated queries and keys: naive NumPy, positions that are given, differences, files."""

import numpy as np
import pytest
from numba import njit

import fastnn as fnn
from fastnn import nopython as fnp
from weight_gradients import check_gradients

RNG = np.random.default_rng(3)


def sines(positions, features, wavelength=10000.0):
    columns = np.arange(features)
    turns = positions[..., None] / wavelength ** (2 * (columns // 2) / features)
    return np.where(columns % 2, np.cos(turns), np.sin(turns))


def rotated(x, positions, wavelength=10000.0, factor=1.0):
    """Multiply pairs of samples (steps, heads, size) as complex numbers."""
    half = x.shape[-1] // 2
    turns = positions[..., None] / factor / wavelength ** (np.arange(half) / half)
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * turns)[..., None, :]
    return np.concatenate([z.real, z.imag], axis=-1)


def shuffled(model):
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(0.0, 0.5, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize(("steps", "features"), [(1, 1), (5, 2), (40, 7), (33, 32)])
def test_sines_of_places(steps, features):
    x, places = fnn.Input((steps, features)), fnn.Input(steps, dtype="int64")
    layer = fnn.SinePositionEncoding()
    data, given = RNG.normal(size=(3, steps, features)), RNG.integers(-50, 5000, (3, steps))
    model = fnn.Model(x, layer(x), dtype="float64")
    expected = np.broadcast_to(sines(np.arange(steps), features), data.shape)
    np.testing.assert_allclose(model.predict(data), expected, rtol=0, atol=1e-12)
    single = fnn.Model(x, layer(x)).predict(data)
    assert (np.abs(single - expected) <= np.spacing(np.abs(expected).astype(np.float32))).all()
    model = fnn.Model([x, places], fnn.SinePositionEncoding(100.0)([x, places]), dtype="float64")
    np.testing.assert_allclose(model.predict([data, given]), sines(given, features, 100.0), rtol=0, atol=1e-11)


def test_masks_pass():
    words = fnn.Input(6, dtype="int64")
    x = fnn.Embedding(9, 4, mask_zero=True)(words)
    assert fnn.SinePositionEncoding()(x).mask is x.mask


@pytest.mark.parametrize(("steps", "heads", "size"), [(1, 1, 2), (5, 3, 6), (40, 2, 34)])
def test_rotated_pairs(steps, heads, size):
    x, places = fnn.Input((steps, heads, size)), fnn.Input(steps, dtype="int64")
    data, given = RNG.normal(size=(3, steps, heads, size)), RNG.integers(-50, 5000, (3, steps))
    model = fnn.Model(x, fnn.RotaryEmbedding()(x), dtype="float64")
    expected = np.stack([rotated(each, np.arange(steps)) for each in data])
    np.testing.assert_allclose(model.predict(data), expected, rtol=1e-12, atol=1e-12)
    layer = fnn.RotaryEmbedding(100.0, scaling_factor=2.5)
    model = fnn.Model([x, places], layer([x, places]), dtype="float64")
    expected = np.stack([rotated(each, at, 100.0, 2.5) for each, at in zip(data, given, strict=True)])
    np.testing.assert_allclose(model.predict([data, given]), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_position_has_the_same_bits_everywhere(dtype):
    """In whole sequences, with positions that are given, and in a step by itself."""
    whole, places = fnn.Input((30, 2, 10)), fnn.Input(30, dtype="int64")
    one, place = fnn.Input((1, 2, 10)), fnn.Input(1, dtype="int64")
    data, numbers = RNG.normal(size=(4, 30, 2, 10)), np.broadcast_to(np.arange(30), (4, 30))
    expected = fnn.Model(whole, fnn.RotaryEmbedding()(whole), dtype=dtype).predict(data)
    found = fnn.Model([whole, places], fnn.RotaryEmbedding()([whole, places]), dtype=dtype).predict([data, numbers])
    np.testing.assert_array_equal(found, expected)
    step = fnn.Model([one, place], fnn.RotaryEmbedding()([one, place]), dtype=dtype)
    for at in (0, 7, 29):
        found = step.predict([data[:, at : at + 1], np.full((4, 1), at)])
        np.testing.assert_array_equal(found, expected[:, at : at + 1])


LAYERS = {
    "heads": lambda: fnn.MultiHeadAttention(2, 4, rotary=50.0),
    "wide values": lambda: fnn.MultiHeadAttention(2, 4, 6, rotary=50.0, use_bias=False, causal=True),
    "groups": lambda: fnn.GroupedQueryAttention(4, 4, 2, rotary=50.0, causal=True),
}


def attended(layer, weights, query, value):
    """Attend with rotated queries and keys, one sample after the other."""
    names = [spec.name for spec in layer.parameters(query.shape[1:], value.shape[1:])]
    w = dict(zip(names, weights, strict=True))
    found = []
    for x, y in zip(query, value, strict=True):
        q, k, v = (np.einsum("sf,fhd->shd", z, w[f"{name}_kernel"]) + w.get(f"{name}_bias", 0.0)
                   for z, name in ((x, "query"), (y, "key"), (y, "value")))  # fmt: skip
        q, k = rotated(q, np.arange(len(q)), 50.0), rotated(k, np.arange(len(k)), 50.0)
        k, v = (np.repeat(each, q.shape[1] // each.shape[1], axis=1) for each in (k, v))
        scores = np.exp(np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[2]))
        scores = np.tril(scores) if layer.causal else scores
        y = np.einsum("hqk,khd->qhd", scores / scores.sum(-1, keepdims=True), v)
        found.append(np.einsum("qhd,hdf->qf", y, w["output_kernel"]) + w.get("output_bias", 0.0))
    return np.array(found)


@pytest.mark.parametrize("name", LAYERS)
def test_attention_with_rotated_heads(name):
    layer, x, y = LAYERS[name](), fnn.Input((7, 5)), fnn.Input((9, 3))
    model = shuffled(fnn.Model([x, y], layer([x, y]), dtype="float64"))
    query, value = RNG.normal(size=(3, 7, 5)), RNG.normal(size=(3, 9, 3))
    expected = attended(layer, model.get_weights(), query, value)
    np.testing.assert_allclose(model.predict([query, value]), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_rotated_heads(name):
    x = fnn.Input((5, 3))
    model = shuffled(fnn.Model(x, LAYERS[name]()(x), dtype="float64"))
    model.compile("sgd", "mse")
    data, target = RNG.normal(size=(2, 2, 5, 3))
    check_gradients(model, data, target, RNG, rel=1e-6, abs=1e-9)


def stacked(dtype="float32"):
    x = fnn.Input((6, 4))
    y = fnn.Add()([x, fnn.SinePositionEncoding()(x)])
    for _ in range(2):
        y = fnn.MultiHeadAttention(2, 4, causal=True, rotary=10000.0)(y)
    return fnn.Model(x, y, seed=0, dtype=dtype)


def test_layers_share_their_angles():
    model = stacked()
    model.predict(np.zeros((1, 6, 4)))
    # the sines have them, and queries and keys of both attention layers
    assert str(model.program).count("angles-float32 ") == 1


def test_files_compiled_code_and_second_derivatives(tmp_path):
    model, data = stacked(), RNG.normal(size=(3, 6, 4)).astype(np.float32)
    model.save(tmp_path / "m")
    expected = model.predict(data)
    np.testing.assert_array_equal(fnn.load(tmp_path / "m").predict(data), expected)
    net = model.freeze()

    @njit
    def call(net, x, out):
        fnp.predict(net, x, out)

    out = np.zeros_like(expected)
    call(net, data, out)
    np.testing.assert_array_equal(out, expected)
    # lengths of pairs do not change, so the second derivative of the squares is 2
    x = fnn.Input((3, 2, 4))
    total = fnn.ops.sum(fnn.ops.square(fnn.RotaryEmbedding()(x)))
    (slope,) = fnn.ops.gradients(total, [x])
    (second,) = fnn.ops.gradients(fnn.ops.sum(slope), [x])
    given = RNG.normal(size=(2, 3, 2, 4))
    f = fnn.function(x, [slope, second], dtype="float64")
    first, again = f(given)
    np.testing.assert_allclose(first, 2.0 * given, rtol=1e-12)
    np.testing.assert_allclose(again, np.full(given.shape, 2.0), rtol=1e-12)


def test_initial_weights_of_the_output():
    layer = fnn.MultiHeadAttention(2, 4, kernel_initializer="zeros", output_initializer="ones")
    x = fnn.Input((5, 3))
    weights = dict(zip((s.name for s in layer.parameters((5, 3))), fnn.Model(x, layer(x)).get_weights(), strict=True))
    assert not weights["query_kernel"].any() and (weights["output_kernel"] == 1.0).all()
    assert not weights["output_bias"].any()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: fnn.MultiHeadAttention(2, 5, rotary=100.0), "rotary: it rotates pairs.*got 5"),
        (lambda: fnn.GroupedQueryAttention(3, 2, 1, rotary=100.0), "rotary: it rotates pairs.*got 3"),
        (lambda: fnn.MultiHeadAttention(2, 4, rotary=1.0), "rotary: expected a number > 1"),
        (lambda: fnn.MultiHeadAttention(2, 4, rotary=True), "rotary: expected a number"),
        (lambda: fnn.SinePositionEncoding(0.0), "max_wavelength: expected a number > 1"),
        (lambda: fnn.RotaryEmbedding(scaling_factor=0), "scaling_factor: expected a number > 0"),
        (lambda: fnn.RotaryEmbedding()(fnn.Input((4, 2, 3))), "odd size"),
        (lambda: fnn.RotaryEmbedding()(fnn.Input((4, 2))), r"takes samples of shape \(steps, heads, size\)"),
        (lambda: fnn.SinePositionEncoding()(fnn.Input(4)), r"takes samples of shape \(steps, features\), got \(4,\)"),
        (
            lambda: fnn.SinePositionEncoding()([fnn.Input((4, 2)), fnn.Input(3, dtype="int64")]),
            r"takes positions of samples of shape \(4,\), got \(3,\)",
        ),
        (lambda: fnn.SinePositionEncoding()([fnn.Input((4, 2)), fnn.Input(4)]), "takes integers"),
    ],
)
def test_wrong_arguments(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()


@njit
def walk(net, state, x, out):
    for t in range(len(x)):
        fnp.step(net, state, x[t], out[t])


STEPPING = {
    "heads": lambda x: fnn.MultiHeadAttention(2, 4, rotary=50.0, causal=True)(x),
    "groups": lambda x: fnn.GroupedQueryAttention(4, 4, 2, rotary=1e4, causal=True, use_bias=False)(x),
    "wide values": lambda x: fnn.MultiHeadAttention(2, 4, 6, rotary=50.0, causal=True)(x),
    "sines": lambda x: fnn.Add()([x, fnn.SinePositionEncoding()(x)]),
    "several": lambda x: fnn.GRU(5, return_sequences=True)(
        fnn.MultiHeadAttention(2, 4, rotary=50.0, causal=True)(
            fnn.MultiHeadAttention(1, 4, rotary=50.0, causal=True)(fnn.Add()([x, fnn.SinePositionEncoding()(x)]))
        )
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", STEPPING)
def test_steps_have_the_bits_of_sequences(name, dtype):
    x = fnn.Input((20, 7))
    model = shuffled(fnn.Model(x, STEPPING[name](x), dtype=dtype))
    data = RNG.normal(size=(3, 20, 7)).astype(dtype)
    wanted, net = model.predict(data), model.freeze(stateful=True)
    got = np.zeros_like(wanted)
    walk(net, fnp.state(net), data[0], got[0])
    assert got[0].tobytes() == wanted[0].tobytes()
    # rows together; the second one is three steps behind
    first, state, out = fnp.state(net), fnp.state(net, 2), np.zeros((2, *wanted.shape[2:]), dtype)
    for t in range(3):
        fnp.step(net, first, data[0, t], out[0])
    state[:, 0] = first
    for t in range(17):
        fnp.step(net, state, np.stack([data[0, t + 3], data[1, t]]), out)
        assert out.tobytes() == wanted[0, t + 3].tobytes() + wanted[1, t].tobytes()


def test_steps_with_positions_of_their_own():
    """Positions that come with the steps need no count of steps."""
    words = fnn.Input(6, dtype="int64")
    x = fnn.Embedding(40, 8)(words)
    x = fnn.Add()([x, fnn.SinePositionEncoding()([x, words])])
    model = fnn.Model(words, fnn.GRU(3, return_sequences=True)(x), seed=0)
    tokens = RNG.integers(0, 40, (1, 6))
    net, wanted = model.freeze(stateful=True), model.predict(tokens)[0]
    state, out = fnp.state(net), np.zeros_like(wanted)
    assert state.shape == (2, 3)
    walk(net, state, tokens[0], out)
    assert out.tobytes() == wanted.tobytes()
