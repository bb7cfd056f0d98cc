"""SwiGLU, TransformerEncoder, TransformerDecoder: the layers that they are made of, masks, files, steps."""

import numpy as np
import pytest
from numba import njit

import fastnn as fnn
from fastnn import nopython as fnp
from weight_gradients import check_gradients

RNG = np.random.default_rng(21)
LENGTHS = np.array([6, 2, 4])
THERE = (np.arange(6) < LENGTHS[:, None]).astype(float)


def shuffled(model):
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(0.0, 0.5, w.shape) for w in model.get_weights()])
    return model


def swish(x):
    return x / (1.0 + np.exp(-x))


@pytest.mark.parametrize("use_bias", [False, True])
def test_gated_layers(use_bias):
    x = fnn.Input((5, 3))
    layer = fnn.SwiGLU(7, use_bias=use_bias, output_dim=4)
    model = shuffled(fnn.Model(x, layer(x), dtype="float64"))
    names = [spec.name for spec in layer.parameters((5, 3))]
    w = dict(zip(names, model.get_weights(), strict=True))
    assert names[:: 2 if use_bias else 1] == ["gate_kernel", "up_kernel", "down_kernel"]
    data = RNG.normal(size=(4, 5, 3))
    gate, up = (data @ w[f"{name}_kernel"] + w.get(f"{name}_bias", 0.0) for name in ("gate", "up"))
    expected = (swish(gate) * up) @ w["down_kernel"] + w.get("down_bias", 0.0)
    np.testing.assert_allclose(model.predict(data), expected, rtol=1e-12)
    model.compile("sgd", "mse")
    check_gradients(model, data, RNG.normal(size=(4, 5, 4)), RNG, rel=1e-5, abs=1e-9)


def composed(x, memory, *, first, causal, masks=((), ())):
    """Build the block of layers; their weights come in the order of the calls."""

    def part(x, compute):
        norm = fnn.LayerNorm(epsilon=1e-5)
        y = fnn.Add()([x, compute(norm(x) if first else x)])
        return y if first else norm(y)

    def attention(other, causal, masks):
        layer = fnn.MultiHeadAttention(2, 4, causal=causal)
        return lambda y: layer([y, y if other is None else other, y if other is None else other, *masks])

    y = part(x, attention(None, causal, masks[0]))
    if memory is not None:
        y = part(y, attention(memory, False, masks[1]))
    return part(y, lambda z: fnn.Dense(8)(fnn.Dense(11, "gelu")(z)))


def spread(model, weights, *, first, cross):
    """Give a model of layers the weights of a block: by the types of its layers, whose order differs."""
    attention = [weights[:8], *([weights[10:18]] if cross else [])]
    rest = weights[20 if cross else 10 :]
    norms = [weights[8:10], *([weights[18:20]] if cross else [])]
    pairs = [rest[i : i + 2] for i in (0, 2, 4)]
    # the encoder has the last normalisation before the dense layers
    last, dense = (pairs[0], pairs[1:]) if pairs[0][0].ndim == 1 else (pairs[2], pairs[:2])
    kinds = {"multi_head_attention": iter(attention), "layer_norm": iter([*norms, last]), "dense": iter(dense)}
    for layer in model.layers:
        found = next((given for name, given in kinds.items() if layer.name.startswith(name)), None)
        if found is not None:
            model.set_weights(next(found), layer.name)


@pytest.mark.parametrize("first", [False, True])
def test_the_encoder_is_its_layers(first, tmp_path):
    x, there, pairs = fnn.Input((6, 8)), fnn.Input(6), fnn.Input((6, 6), dtype="int64")
    block = fnn.TransformerEncoder(11, 2, activation="gelu", normalize_first=first)
    model = shuffled(fnn.Model([x, there, pairs], block(x, there, pairs), dtype="float64"))
    mask = fnn.Input((6, 6))
    other = composed(x, None, first=first, causal=False, masks=([mask], ()))
    same = fnn.Model([x, mask], other, dtype="float64")
    spread(same, model.get_weights(), first=first, cross=False)
    data, given = RNG.normal(size=(3, 6, 8)), RNG.integers(0, 2, (3, 6, 6))
    expected = same.predict([data, given * THERE[:, None]])
    np.testing.assert_allclose(model.predict([data, THERE, given]), expected, rtol=1e-12, atol=1e-13)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(
        fnn.load(tmp_path / "m").predict([data, THERE, given]), model.predict([data, THERE, given])
    )
    model.compile("sgd", "mse")
    check_gradients(model, [data, THERE, given], RNG.normal(size=(3, 6, 8)), RNG, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("cross", [False, True])
def test_the_decoder_is_its_layers(first, cross, tmp_path):
    x, memory, there = fnn.Input((5, 8)), fnn.Input((6, 3)), fnn.Input(6)
    block = fnn.TransformerDecoder(11, 2, activation="gelu", normalize_first=first)
    y = block(x, memory, encoder_padding_mask=there) if cross else block(x)
    inputs = [x, memory, there] if cross else [x]
    model = shuffled(fnn.Model(inputs, y, dtype="float64"))
    other = composed(x, memory if cross else None, first=first, causal=True, masks=((), [there]))
    same = fnn.Model(inputs, other, dtype="float64")
    spread(same, model.get_weights(), first=first, cross=cross)
    data = [RNG.normal(size=(3, 5, 8)), RNG.normal(size=(3, 6, 3)), THERE][: len(inputs)]
    expected = model.predict(data)
    np.testing.assert_allclose(expected, same.predict(data), rtol=1e-12, atol=1e-13)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(fnn.load(tmp_path / "m").predict(data), expected)
    model.compile("sgd", "mse")
    check_gradients(model, data, RNG.normal(size=(3, 5, 8)), RNG, rel=1e-5, abs=1e-9)


def test_weights_are_named_and_in_kerashubs_order():
    encoder, decoder = fnn.TransformerEncoder(5, 2), fnn.TransformerDecoder(5, 2)
    kinds, parts = ("kernel", "bias"), ("query", "key", "value", "output")
    own = [f"self_attention_{name}_{what}" for name in parts for what in kinds]
    own += ["self_attention_layer_norm_gamma", "self_attention_layer_norm_beta"]
    norm = ["feedforward_layer_norm_gamma", "feedforward_layer_norm_beta"]
    dense = [f"feedforward_{name}_dense_{what}" for name in ("intermediate", "output") for what in kinds]
    cross = [name.replace("self", "cross") for name in own]
    assert [spec.name for spec in encoder.parameters((6, 4))] == own + norm + dense
    assert [spec.name for spec in decoder.parameters((6, 4))] == own + dense + norm
    assert [spec.name for spec in decoder.parameters((6, 4), (3, 2))] == own + cross + dense + norm


def translator(steps, *, masked):
    words, others = fnn.Input(steps, dtype="int64"), fnn.Input(steps, dtype="int64")
    x, y = (fnn.Embedding(9, 4, mask_zero=masked, name=name)(each) for each, name in ((words, "x"), (others, "y")))
    encoded = fnn.TransformerEncoder(5, 2, name="encoder")(x)
    decoded = fnn.TransformerDecoder(5, 2, name="decoder")(y, encoded)
    assert encoded.mask is x.mask and decoded.mask is y.mask
    return fnn.Model([words, others], decoded, dtype="float64")


def test_masks_of_sequences_reach_the_blocks(tmp_path):
    model = shuffled(translator(6, masked=True))
    model.save(tmp_path / "m")
    a, b = RNG.integers(1, 9, (2, 3, 6)) * THERE.astype(int)
    found = model.predict([a, b])
    np.testing.assert_array_equal(fnn.load(tmp_path / "m").predict([a, b]), found)
    for row, length in enumerate(LENGTHS):
        short = translator(length, masked=False)
        for name in ("x", "y", "encoder", "decoder"):
            short.set_weights(model.get_weights(name), name)
        expected = short.predict([a[row : row + 1, :length], b[row : row + 1, :length]])
        np.testing.assert_allclose(found[row, :length], expected[0], rtol=1e-12, atol=1e-13)


@njit
def walk(net, state, x, out):
    for t in range(len(x)):
        fnp.step(net, state, x[t], out[t])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_decoders_go_step_by_step(dtype):
    words = fnn.Input(20, dtype="int64")
    x = fnn.Embedding(9, 8)(words)
    x = fnn.TransformerDecoder(12, 2, normalize_first=True, dropout=0.1)(fnn.Add()([x, fnn.PositionEmbedding(20)(x)]))
    x = fnn.TransformerDecoder(12, 4, activation="gelu")(fnn.Add()([x, fnn.SwiGLU(6)(x)]))
    model = shuffled(fnn.Model(words, fnn.Dense(9)(x), dtype=dtype))
    tokens = RNG.integers(1, 9, (1, 20))
    wanted, net = model.predict(tokens)[0], model.freeze(stateful=True)
    out = np.zeros_like(wanted)
    walk(net, fnp.state(net), tokens[0], out)
    assert out.tobytes() == wanted.tobytes()


def test_a_stack_of_blocks_learns():
    model = fnn.Sequential(
        [fnn.Input((6, 4)), *(fnn.TransformerEncoder(8, 2, dropout=0.1) for _ in range(2)), fnn.Dense(1)], seed=0
    )
    model.compile(fnn.Adam(0.01), "mse")
    data = RNG.normal(size=(64, 6, 4)).astype(np.float32)
    history = model.fit(data, data.max(axis=1)[:, :1, None].repeat(6, 1), epochs=30, verbose=0)
    assert history.history["loss"][-1] < 0.6 * history.history["loss"][0]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: fnn.SwiGLU(0), "intermediate_dim: expected an integer >= 1, got 0"),
        (lambda: fnn.SwiGLU(3)(fnn.Input(())), "takes inputs of shape"),
        (lambda: fnn.TransformerEncoder(3, 0), "num_heads: expected an integer >= 1, got 0"),
        (lambda: fnn.TransformerEncoder(3, 2, dropout=1.0), "dropout"),
        (lambda: fnn.TransformerEncoder(3, 2)(fnn.Input((4, 1))), "has 2 heads, and takes at least as many features"),
        (lambda: fnn.TransformerEncoder(3, 2)(fnn.Input(4)), r"samples of shape \(steps, features\), got \(4,\)"),
        (lambda: fnn.TransformerEncoder(3, 2)([fnn.Input((4, 2))] * 2), r"takes 1 sequence\(s\)"),
        (lambda: fnn.TransformerEncoder(3, 2)(fnn.Input((4, 2)), fnn.Input(3)), "takes a mask of samples"),
        (lambda: fnn.TransformerEncoder(3, 2)(fnn.Input((4, 2)), np.ones((1, 4))), "masks that are symbols"),
        (
            lambda: fnn.TransformerDecoder(3, 2)(fnn.Input((4, 2)), encoder_padding_mask=fnn.Input(3)),
            "masks of an encoder's sequence with such a sequence only",
        ),
        (
            lambda: fnn.TransformerDecoder(3, 2)(fnn.Input((4, 2)), fnn.Input((5, 2)), None, None, fnn.Input(4)),
            "takes a mask of samples",
        ),
    ],
)
def test_wrong_arguments(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()


def test_steps_that_are_refused():
    x, y = fnn.Input((5, 4)), fnn.TransformerDecoder(3, 2)
    for made, match in (
        (fnn.TransformerEncoder(3, 2)(x), "takes all steps of a sequence"),
        (fnn.TransformerDecoder(3, 2, causal=False)(x), "is not causal"),
        (y(x, fnn.Dense(3)(x)), "attends to another sequence, or takes a mask"),
    ):
        with pytest.raises(ValueError, match=match):
            fnn.Model(x, fnn.GRU(3)(made)).freeze(stateful=True)
