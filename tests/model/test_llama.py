"""LLaMA's form of `applications.GPT` and the heads of BERT: naive NumPy, steps, files, gradients."""

import numpy as np
import pytest
from numba import njit

import fastnn as fnn
from fastnn import nopython as fnp
from weight_gradients import check_gradients

RNG = np.random.default_rng(31)
STEPS, WIDTH, HEADS, GROUPS, VOCABULARY = 7, 12, 6, 3, 11


def random_weights(model):
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(0.0, 0.5, w.shape) for w in model.get_weights()])
    return model


def llama(dtype="float64", steps=STEPS, **options):
    options = {
        "dropout": 0.0, "use_bias": False, "key_value_heads": GROUPS, "intermediate_dim": 10, "gated": True,
        "norm": "rms", "epsilon": 1e-6, "rotary": 100.0, "tied": False, "classifier_activation": None, **options,
    }  # fmt: skip
    return random_weights(fnn.applications.GPT(VOCABULARY, steps, 2, HEADS, WIDTH, dtype=dtype, **options))


def rms(x, gamma):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * gamma


def rotated(x):
    """Rotate pairs of (rows, steps, heads, size) as complex numbers."""
    half = x.shape[-1] // 2
    turns = np.arange(x.shape[1])[:, None] / 100.0 ** (np.arange(half) / half)
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * turns)[:, None]
    return np.concatenate([z.real, z.imag], axis=-1)


def by_hand(model, tokens):
    x = model.get_weights("token_embedding")[0][tokens]
    for block in ("block1", "block2"):
        wq, wk, wv, wo = model.get_weights(f"{block}_attention")
        y = rms(x, *model.get_weights(f"{block}_norm1"))
        q, k, v = (np.einsum("nsf,fhd->nshd", y, w) for w in (wq, wk, wv))
        q, k = rotated(q), rotated(k)
        k, v = (np.repeat(each, HEADS // GROUPS, axis=2) for each in (k, v))
        scores = np.tril(np.exp(np.einsum("nqhd,nkhd->nhqk", q, k) / np.sqrt(WIDTH / HEADS)))
        y = np.einsum("nhqk,nkhd->nqhd", scores / scores.sum(-1, keepdims=True), v)
        x = x + np.einsum("nqhd,hdf->nqf", y, wo)
        gate, up, down = model.get_weights(f"{block}_gated")
        y = rms(x, *model.get_weights(f"{block}_norm2"))
        x = x + ((y @ gate) / (1.0 + np.exp(-(y @ gate))) * (y @ up)) @ down
    return rms(x, *model.get_weights("last_norm")) @ model.get_weights("scores")[0]


def test_llama_by_hand(tmp_path):
    model, tokens = llama(), RNG.integers(0, VOCABULARY, (3, STEPS))
    np.testing.assert_allclose(model.predict(tokens), by_hand(model, tokens), rtol=1e-10, atol=1e-10)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(fnn.load(tmp_path / "m").predict(tokens), model.predict(tokens))


def test_parameters_of_llama():
    """The count of LLaMA 7B (Touvron et al. 2023) follows from that of one block and the rest."""
    model = fnn.applications.GPT(
        50, 8, 1, 32, 256, 0.0, use_bias=False, intermediate_dim=688, gated=True, norm="rms", rotary=1e4, tied=False
    )
    assert model.count_params() == 2 * 50 * 256 + 256 + 4 * 256**2 + 3 * 256 * 688 + 2 * 256
    assert 2 * 32000 * 4096 + 4096 + 32 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) == 6_738_415_616
    down, output = model.get_weights("block1_gated")[-1], model.get_weights("block1_attention")[-1]
    np.testing.assert_allclose([down.std(), output.std()], 0.02 / np.sqrt(2), rtol=0.01)


@njit
def walk(net, state, x, out):
    for t in range(len(x)):
        fnp.step(net, state, x[t], out[t])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tied", [False, True])
def test_steps_of_llama_are_those_of_sequences(tied, dtype):
    model = llama(dtype, 40, tied=tied)
    tokens = RNG.integers(0, VOCABULARY, (1, 40))
    wanted, net = model.predict(tokens)[0], model.freeze(stateful=True)
    out = np.zeros_like(wanted)
    walk(net, fnp.state(net), tokens[0], out)
    if tied:
        # the product of one row with a transposed matrix adds in another order
        np.testing.assert_allclose(out, wanted, rtol=0, atol=32 * np.finfo(dtype).eps * np.abs(wanted).max())
    else:
        assert out.tobytes() == wanted.tobytes()


def test_llama_generates():
    """The most probable tokens, one after the other: with the keys and values that are kept, and without."""
    model, prompts = llama(steps=20, classifier_activation="softmax"), [[3, 1, 4], list(range(11))]
    found = model.generate(prompts, 8, temperature=0.0)
    for prompt, tokens in zip(prompts, found, strict=True):
        whole = list(prompt)
        for token in tokens:
            padded = np.zeros((1, 20), int)
            padded[0, : len(whole)] = whole
            assert token == model.predict(padded)[0, len(whole) - 1].argmax()
            whole.append(int(token))
        assert len(tokens) == 8


def test_gradients_of_llama():
    model = llama(classifier_activation="softmax")
    model.compile("sgd", "cross_entropy")
    check_gradients(model, *RNG.integers(0, VOCABULARY, (2, 3, STEPS)), RNG, rel=1e-4, abs=1e-8)


def bert(head, **options):
    options = {"layers": 1, "heads": 2, "width": 8, "head": head, "dtype": "float64", **options}
    return random_weights(fnn.applications.BERT(VOCABULARY, STEPS, **options))


def states_of(model, tokens):
    """Return the hidden states by a model without a head."""
    plain = bert(None)
    for layer in plain.layers:
        plain.set_weights(model.get_weights(layer.name), layer.name)
    return plain.predict(tokens)


TOKENS = RNG.integers(1, VOCABULARY, (3, STEPS)) * (np.arange(STEPS) < np.array([[7], [2], [5]]))


def test_scores_of_hidden_words():
    model = bert("words", classifier_activation=None)
    kernel, bias = model.get_weights("words_dense")
    x = states_of(model, TOKENS) @ kernel + bias
    gelu = fnn.Model(y := fnn.Input((STEPS, 8)), fnn.Activation("gelu")(y), dtype="float64")
    x = gelu.predict(x)
    gamma, beta = model.get_weights("words_norm")
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12) * gamma + beta
    expected = x @ model.get_weights("token_embedding")[0].T + model.get_weights("words")[0]
    there = TOKENS != 0
    np.testing.assert_allclose(model.predict(TOKENS)[there], expected[there], rtol=1e-9, atol=1e-10)
    model = bert("words")
    model.compile("sgd", "cross_entropy")
    labels, p = RNG.integers(0, VOCABULARY, (3, STEPS)), model.predict(TOKENS)
    losses = -np.log(np.take_along_axis(p, labels[..., None], 2)[..., 0])
    # the steps that there are
    assert model.evaluate(TOKENS, labels)["loss"] == pytest.approx(losses[there].mean(), rel=1e-9)
    check_gradients(model, TOKENS, labels, RNG, rel=1e-4, abs=1e-8)


def test_answers(tmp_path):
    model = bert("answers")
    kernel, bias = model.get_weights("answers")
    scores = np.exp(states_of(model, TOKENS) @ kernel + bias)
    found = model.predict(TOKENS)
    for place, each in enumerate(found):
        expected = scores[..., place] / scores[..., place].sum(1, keepdims=True)
        assert each.shape == (3, STEPS)
        np.testing.assert_allclose(each, expected, rtol=1e-9)
    model.compile("adam", "cross_entropy")
    begin, end = RNG.integers(0, STEPS, (2, 3))
    check_gradients(model, TOKENS, [begin, end], RNG, rel=1e-4, abs=1e-8)
    first = model.evaluate(TOKENS, [begin, end])["loss"]
    model.fit(TOKENS, [begin, end], epochs=20, verbose=0)
    assert model.evaluate(TOKENS, [begin, end])["loss"] < first
    model.save(tmp_path / "m")
    for one, other in zip(fnn.load(tmp_path / "m").predict(TOKENS), model.predict(TOKENS), strict=True):
        np.testing.assert_array_equal(one, other)


def test_tied_scores():
    words = fnn.Input(5, dtype="int64")
    table = fnn.Embedding(9, 4)
    x = table(words)
    model = random_weights(fnn.Model(words, fnn.TiedDense()([x, table.embeddings]), dtype="float64"))
    rows, bias = model.get_weights()
    tokens = RNG.integers(0, 9, (3, 5))
    np.testing.assert_allclose(model.predict(tokens), rows[tokens] @ rows.T + bias, rtol=1e-12)
    with pytest.raises(ValueError, match=r"takes samples \(\.\.\., features\) and a table \(rows, features\)"):
        fnn.TiedDense()([fnn.Dense(3)(x), table.embeddings])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: llama(norm="batch"), "norm: expected 'layer' or 'rms', got 'batch'"),
        (lambda: llama(key_value_heads=4), "key_value_heads: expected a divisor of heads, which is 6, got 4"),
        (lambda: llama(intermediate_dim=0), "intermediate_dim: expected an integer >= 1, got 0"),
        (lambda: llama(rotary=1.0), "rotary: expected a number > 1"),
        (lambda: llama(tied=1), "tied: expected True or False, got 1"),
        (lambda: llama(gated="yes"), "gated: expected True or False, got 'yes'"),
        (lambda: bert("spans"), "head: expected 'words', 'answers' or None, got 'spans'"),
        (lambda: bert("words", classes=3), "head: expected no classes and no pool with 'words'"),
        (lambda: bert("answers", pool="first"), "head: expected no classes and no pool with 'answers'"),
    ],
)
def test_wrong_arguments(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()
