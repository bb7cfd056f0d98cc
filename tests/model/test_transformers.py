"""Transformers and masks of attention: naive NumPy, shorter sequences, differences, files, threads."""

import math

import numpy as np
import pytest

import fastnn as fnn
from weight_gradients import check_gradients

RNG = np.random.default_rng(11)
LENGTHS = np.array([5, 2, 7])
WORDS = RNG.integers(1, 9, (3, 7)) * (np.arange(7) < LENGTHS[:, None])
ATTENTION = {
    "heads": lambda: fnn.MultiHeadAttention(2, 4),
    "causal": lambda: fnn.MultiHeadAttention(2, 4, causal=True),
    "groups": lambda: fnn.GroupedQueryAttention(4, 4, 2),
}


def random_weights(model):
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(0.0, 0.5, w.shape) for w in model.get_weights()])
    return model


def encoder(layer, steps, *, masked=True):
    words = fnn.Input(steps, dtype="int64")
    x = fnn.Embedding(9, 6, mask_zero=masked)(words)
    y = layer(x)
    assert y.mask is x.mask
    return random_weights(fnn.Model(words, fnn.Dense(3)(fnn.Add()([x, y])), dtype="float64"))


def crossed(layer, steps, *, masked=True):
    query, words = fnn.Input((4, 5)), fnn.Input(steps, dtype="int64")
    y = layer([query, fnn.Embedding(9, 6, mask_zero=masked)(words)])
    assert y.mask is None
    return random_weights(fnn.Model([query, words], y, dtype="float64"))


@pytest.mark.parametrize("name", ATTENTION)
def test_padded_sequences_are_as_shorter_ones(name, tmp_path):
    make, query = ATTENTION[name], RNG.normal(size=(3, 4, 5))
    alone, across = encoder(make(), 7), crossed(make(), 7)
    alone.save(tmp_path / "alone")
    across.save(tmp_path / "across")
    for model, other in ((alone, across), (fnn.load(tmp_path / "alone"), fnn.load(tmp_path / "across"))):
        for row, length in enumerate(LENGTHS):
            short = encoder(make(), length, masked=False).predict(WORDS[row : row + 1, :length])
            np.testing.assert_allclose(model.predict(WORDS)[row, :length], short[0], rtol=1e-12, atol=1e-13)
            short = crossed(make(), length, masked=False).predict([query[row : row + 1], WORDS[row : row + 1, :length]])
            np.testing.assert_allclose(other.predict([query, WORDS])[row], short[0], rtol=1e-12, atol=1e-13)


def test_masks_of_keys_and_values_are_multiplied():
    first, second = fnn.Input((6, 3)), fnn.Input((6, 3))
    value, key = fnn.Masking()(first), fnn.Masking()(second)
    model = random_weights(
        fnn.Model([first, second], fnn.MultiHeadAttention(2, 4)([first, value, key]), dtype="float64")
    )
    x, y = RNG.normal(size=(2, 1, 6, 3))
    x[0, 1], y[0, 4] = 0.0, 0.0
    there = np.array([[1, 0, 1, 1, 0, 1.0]])
    mask = fnn.Input(6)
    same = fnn.Model([first, second, mask], fnn.MultiHeadAttention(2, 4)([first, first, second, mask]), dtype="float64")
    same.set_weights(model.get_weights())
    np.testing.assert_allclose(model.predict([x, y]), same.predict([x, y, there]), rtol=1e-12)


def test_steps_of_attention_that_is_not_causal_are_refused():
    x = fnn.Input((5, 4))
    model = fnn.Model(x, fnn.GRU(3)(fnn.MultiHeadAttention(2, 4)(x)))
    with pytest.raises(ValueError, match="is not causal: it takes all steps of a sequence"):
        model.freeze(stateful=True)


def test_positions():
    x = fnn.Input((4, 3))
    layer = fnn.PositionEmbedding(6)
    y = layer(x)
    assert [spec.name for spec in layer.parameters((4, 3))] == ["position_embeddings"]
    model = fnn.Model(x, y, seed=0)
    data = RNG.normal(size=(5, 4, 3))
    (table,) = model.get_weights()
    assert table.shape == (6, 3)
    np.testing.assert_array_equal(model.predict(data), np.broadcast_to(table[:4], (5, 4, 3)))
    masked = fnn.Masking()(x)
    assert layer(masked).mask is masked.mask
    with pytest.raises(ValueError, match="of at most 3 steps, got"):
        fnn.PositionEmbedding(3)(x)
    with pytest.raises(ValueError, match="sequence_length: expected an integer >= 1, got 0"):
        fnn.PositionEmbedding(0)


def norm(x, gamma, beta, epsilon):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def attention(x, weights, there, *, causal):
    """Attend in every sample; `there` says which keys there are."""
    wq, bq, wk, bk, wv, bv, wo, bo = weights
    q, k, v = (np.einsum("nif,fhs->nhis", x, w) + b[:, None] for w, b in ((wq, bq), (wk, bk), (wv, bv)))
    scores = np.exp(q @ k.swapaxes(2, 3) / np.sqrt(wq.shape[2])) * there[:, None, None]
    scores = np.tril(scores) if causal else scores
    return np.einsum("nhis,hsf->nif", scores / scores.sum(-1, keepdims=True) @ v, wo) + bo


def gelu(x):
    return 0.5 * x * (1.0 + np.vectorize(math.erf)(x / np.sqrt(2.0)))


def gelu_tanh(x):
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def tiny_gpt(dtype="float64", **options):
    options = {"dropout": 0.0, "seed": 2, "classifier_activation": None, **options}
    return fnn.applications.GPT(9, 7, layers=2, heads=2, width=8, dtype=dtype, **options)


def test_gpt_by_hand():
    model = random_weights(tiny_gpt())
    table, places = model.get_weights("token_embedding")[0], model.get_weights("position_embedding")[0]
    x = table[WORDS] + places

    def dense(x, name):
        kernel, bias = model.get_weights(name)
        return x @ kernel + bias

    for block in ("block1", "block2"):
        y = norm(x, *model.get_weights(f"{block}_norm1"), 1e-5)
        x = x + attention(y, model.get_weights(f"{block}_attention"), np.ones((3, 7)), causal=True)
        y = gelu_tanh(dense(norm(x, *model.get_weights(f"{block}_norm2"), 1e-5), f"{block}_up"))
        x = x + dense(y, f"{block}_down")
    expected = norm(x, *model.get_weights("last_norm"), 1e-5) @ table.T
    np.testing.assert_allclose(model.predict(WORDS), expected, rtol=1e-10, atol=1e-10)


def test_gradients_of_the_tied_table():
    model = random_weights(tiny_gpt(classifier_activation="softmax"))
    model.compile("sgd", "cross_entropy")
    check_gradients(model, WORDS, RNG.integers(0, 9, (3, 7)), RNG, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("segments", [None, 2])
def test_bert_by_hand(segments):
    options = {"layers": 1, "heads": 2, "width": 8, "dtype": "float64", "segments": segments}
    model = random_weights(fnn.applications.BERT(9, 7, **options))
    kinds = RNG.integers(0, 2, (3, 7))
    x = model.get_weights("token_embedding")[0][WORDS] + model.get_weights("position_embedding")[0]
    if segments:
        x += model.get_weights("segment_embedding")[0][kinds]
    x = norm(x, *model.get_weights("embedding_norm"), 1e-12)
    y = attention(x, model.get_weights("block1_attention"), WORDS != 0, causal=False)
    x = norm(x + y, *model.get_weights("block1_norm1"), 1e-12)
    (up, up_bias), (down, down_bias) = model.get_weights("block1_up"), model.get_weights("block1_down")
    x = norm(x + gelu(x @ up + up_bias) @ down + down_bias, *model.get_weights("block1_norm2"), 1e-12)
    got = model.predict([WORDS, kinds] if segments else WORDS)
    np.testing.assert_allclose(got[WORDS != 0], x[WORDS != 0], rtol=1e-9, atol=1e-10)


def test_bert_with_classes():
    options = {"layers": 1, "heads": 2, "width": 8, "classes": 4, "seed": 0}
    each, whole = fnn.applications.BERT(9, 7, **options), fnn.applications.BERT(9, 7, pool="first", **options)
    assert each.outputs[0].shape == (7, 4) and whole.outputs[0].shape == (4,)
    each.compile("adam", "cross_entropy")
    labels, p = RNG.integers(0, 4, (3, 7)), each.predict(WORDS)
    losses = -np.log(np.take_along_axis(p, labels[..., None], 2)[..., 0])
    assert each.evaluate(WORDS, labels)["loss"] == pytest.approx(losses[WORDS != 0].mean(), rel=1e-5)
    whole.compile("adam", "cross_entropy")
    assert np.isfinite(whole.fit(WORDS, labels[:, 0], epochs=2, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_files_and_threads(dropout, tmp_path):
    labels, found = RNG.integers(0, 9, (3, 7)), []
    for threads in (1, 2):
        fnn.set_num_threads(threads)
        model = tiny_gpt("float32", dropout=dropout, classifier_activation="softmax")
        model.compile(fnn.AdamW(0.01), "cross_entropy")
        model.fit(WORDS, labels, epochs=3, batch_size=2, verbose=0)
        found.append([w.tobytes() for w in model.get_weights()])
    assert found[0] == found[1]
    model.save(tmp_path / "m.safetensors")
    loaded = fnn.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.predict(WORDS), model.predict(WORDS))
    assert loaded.train_on_batch(WORDS, labels) == model.train_on_batch(WORDS, labels)


def test_parameters_of_the_published_networks():
    """Counts for 1 block, by the published ones of 12, which all have the same size."""
    block, rest = 12 * 768**2 + 13 * 768, 50257 * 768 + 1024 * 768 + 2 * 768
    assert rest + 12 * block == 124_439_808
    model = fnn.applications.GPT(1000, 1024, layers=1)
    assert model.count_params() == rest - 49257 * 768 + block
    down, output = model.get_weights("block1_down")[0], model.get_weights("block1_attention")[-2]
    np.testing.assert_allclose([down.std(), output.std()], 0.02 / np.sqrt(2), rtol=0.01)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: fnn.applications.GPT(9, 7, heads=5), "width: expected a multiple of heads, which is 5, got 768"),
        (lambda: fnn.applications.GPT(0, 7), "vocabulary: expected an integer >= 1, got 0"),
        (lambda: fnn.applications.GPT(9, 7, layers=0), "layers: expected an integer >= 1, got 0"),
        (lambda: fnn.applications.GPT(9, 7, dropout=1.0), "dropout: expected a number >= 0 and < 1"),
        (lambda: fnn.applications.BERT(9, 7, pool="mean"), "pool: expected 'first' or None, got 'mean'"),
        (lambda: fnn.applications.BERT(9, 7, classes=0), "classes: expected an integer >= 1"),
    ],
)
def test_wrong_arguments(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()
