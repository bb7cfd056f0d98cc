"""LoRA: layers with low-rank updates against their formula, and adapters of whole models: added, merged, saved."""

import copy
import pickle

import numpy as np
import pytest
from numba import njit

import fastnn as fnn
from fastnn import nopython as fnp

RNG = np.random.default_rng(0)
SEQUENCES = RNG.standard_normal((12, 5, 6), np.float32)
TOKENS = RNG.integers(0, 9, (12, 8))
NEXT = np.roll(TOKENS, -1, axis=1)

LAYERS = {
    "dense": lambda: fnn.Dense(7, "gelu_tanh", bias_initializer="random_normal"),
    "dense_plain": lambda: fnn.Dense(4, use_bias=False),
    "attention": lambda: fnn.MultiHeadAttention(2, 3, value_dim=4, bias_initializer="random_normal", causal=True),
    "grouped": lambda: fnn.GroupedQueryAttention(3, 4, 2, use_bias=False),
    "gated": lambda: fnn.SwiGLU(7, use_bias=True, bias_initializer="random_normal"),
    "gated_plain": lambda: fnn.SwiGLU(7, "gelu", output_dim=4),
    "encoder": lambda: fnn.TransformerEncoder(7, 2, bias_initializer="random_normal"),
    "decoder": lambda: fnn.TransformerDecoder(7, 2, normalize_first=True),
}


def stack(layer, dtype="float32", **more):
    model = fnn.Sequential([fnn.Input((5, 6)), layer, fnn.Flatten(), fnn.Dense(3, "softmax")], seed=1, dtype=dtype)
    model.compile(fnn.Adam(0.01), "cross_entropy")
    return model


def gpt(dtype="float32", dropout=0.0):
    return fnn.applications.GPT(9, 8, 2, 2, 8, dropout, seed=0, dtype=dtype)


def taught(model, epochs=2, **more):
    model.compile(fnn.AdamW(0.01), "cross_entropy", metrics=["perplexity"])
    model.fit(TOKENS, NEXT, batch_size=4, epochs=epochs, verbose=0, **more)
    return model


def same(one, two):
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", LAYERS)
def test_at_first_the_result_has_the_bits_of_the_layer(kind, dtype):
    plain, adapted = stack(LAYERS[kind](), dtype), stack(fnn.LoRA(LAYERS[kind](), 2, alpha=8), dtype)
    weights, new = plain.get_weights(), adapted.get_weights()
    count = len(weights) - 2
    adapted.set_weights([*weights[:count], *new[count:-2], *weights[-2:]])
    np.testing.assert_array_equal(plain.predict(SEQUENCES), adapted.predict(SEQUENCES))


@pytest.mark.parametrize("kind", LAYERS)
def test_the_update_is_that_of_the_formula(kind):
    """The unwrapped layer with the kernels W + alpha / rank * A @ B, and its gradients by the chain rule."""
    plain, adapted = stack(LAYERS[kind](), "float64"), stack(fnn.LoRA(LAYERS[kind](), 2, alpha=3), "float64")
    count = len(plain.get_weights()) - 2
    weights = [RNG.standard_normal(w.shape) for w in adapted.get_weights()]
    adapted.set_weights(weights)
    layer = adapted.layers[0]
    names = [spec.name for spec in layer.layer.parameters((5, 6))]
    expected, pairs = list(weights[:count]), list(weights[count:-2])
    targets = [name for name in layer.targets if name in names]
    for place, name in enumerate(targets):
        a, b = pairs[2 * place : 2 * place + 2]
        at = names.index(name)
        expected[at] = expected[at] + 1.5 * (a @ b).reshape(expected[at].shape)
    plain.set_weights([*expected, *weights[-2:]])
    labels = RNG.integers(0, 3, len(SEQUENCES))
    np.testing.assert_allclose(adapted.predict(SEQUENCES), plain.predict(SEQUENCES), rtol=1e-10)
    given, found = plain.gradients(SEQUENCES, labels), adapted.gradients(SEQUENCES, labels)
    for place, name in enumerate(targets):
        a, b = pairs[2 * place : 2 * place + 2]
        dw = given[names.index(name)].reshape(a.shape[0], b.shape[1])
        np.testing.assert_allclose(found[2 * place], 1.5 * dw @ b.T, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(found[2 * place + 1], 1.5 * a.T @ dw, rtol=1e-8, atol=1e-12)


def test_only_the_update_is_trained():
    model = stack(fnn.LoRA(fnn.Dense(7, kernel_regularizer="l2", name="hidden"), 2))
    assert model.layers[0].name == "hidden"
    before = model.get_weights("hidden")
    assert [w.shape for w in before] == [(6, 7), (7,), (6, 2), (2, 7)]
    assert not before[3].any() and np.abs(before[2]).max() > 0.1
    assert model.count_params(trainable=True) == 6 * 2 + 2 * 7 + 35 * 3 + 3
    assert model.count_params() == model.count_params(trainable=True) + 6 * 7 + 7
    model.fit(SEQUENCES, np.arange(12) % 3, epochs=2, verbose=0)
    assert [np.array_equal(a, b) for a, b in zip(before, model.get_weights("hidden"), strict=True)] == [
        True, True, False, False,
    ]  # fmt: skip
    model.layers[0].trainable = False
    after = model.get_weights("hidden")
    model.fit(SEQUENCES, np.arange(12) % 3, epochs=1, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(after, model.get_weights("hidden"), strict=True))


def test_an_embedding_with_a_mask():
    def made(wrap):
        words = fnn.Input(8, dtype="int64")
        table = fnn.Embedding(9, 4, mask_zero=True, name="table")
        x = (fnn.LoRA(table, 2) if wrap else table)(words)
        return fnn.Model(words, fnn.Dense(2)(fnn.GlobalAveragePooling1D()(x)), seed=0, dtype="float64")

    plain, adapted = made(False), made(True)
    a, b = RNG.standard_normal((9, 2)), RNG.standard_normal((2, 4))
    w, *rest = plain.get_weights()
    adapted.set_weights([w, a, b, *rest])
    plain.set_weights([w + a @ b, *rest])
    np.testing.assert_allclose(adapted.predict(TOKENS), plain.predict(TOKENS), rtol=1e-12)
    with pytest.raises(TypeError, match="takes integers"):
        adapted.predict(TOKENS + 0.5)
    with pytest.raises(ValueError, match="table"):
        adapted.predict(TOKENS + 9)
    np.testing.assert_allclose(fnn.lora.merge(adapted).predict(TOKENS), plain.predict(TOKENS), rtol=1e-12)


@pytest.mark.parametrize("layers", [None, ["*_attention", "*_up"], "*", "block1_attention/output_kernel"], ids=str)
def test_a_model_with_adapters_begins_as_the_model(layers):
    model = taught(gpt())
    tuned = fnn.lora.add(model, 2, alpha=4, layers=layers)
    np.testing.assert_array_equal(tuned.predict(TOKENS), model.predict(TOKENS))
    rank_rows = {
        None: 2 * 2 * (8 + 8),
        "*": 2 * (4 * (8 + 8) + 2 * (8 + 32)),
        "block1_attention/output_kernel": 8 + 8,
    }
    expected = rank_rows[layers] if not isinstance(layers, list) else 2 * (4 * (8 + 8) + 8 + 32)
    assert tuned.count_params(trainable=True) == 2 * expected
    assert tuned.name == model.name and tuned.output_names == model.output_names


def test_adapters_are_trained_merged_and_saved(tmp_path):
    model = taught(gpt())
    kept = model.get_weights()
    tuned = taught(fnn.lora.add(model, 2, alpha=4, layers="*", seed=3), 20)
    assert all(np.array_equal(a, b) for a, b in zip(kept, model.get_weights(), strict=True))
    before, after = (one.evaluate(TOKENS, NEXT)["loss"] for one in (taught(model, 0), tuned))
    assert after < before - 0.05
    fnn.lora.save(tuned, tmp_path / "adapter")
    tuned.save(tmp_path / "model", include_optimizer=False)
    assert (tmp_path / "adapter").stat().st_size < 0.6 * (tmp_path / "model").stat().st_size
    results = tuned.predict(TOKENS)
    for again in (fnn.lora.load(model, tmp_path / "adapter"), fnn.load(tmp_path / "model"),
                  copy.deepcopy(tuned), pickle.loads(pickle.dumps(tuned))):  # fmt: skip
        np.testing.assert_array_equal(again.predict(TOKENS), results)
        assert again.count_params(trainable=True) == tuned.count_params(trainable=True)
    plain = fnn.lora.merge(tuned)
    assert [w.shape for w in plain.get_weights()] == [w.shape for w in kept]
    assert plain.count_params(trainable=True) == model.count_params()
    np.testing.assert_allclose(plain.predict(TOKENS), results, rtol=1e-4, atol=1e-6)
    assert np.abs(plain.predict(TOKENS) - model.predict(TOKENS)).max() > 1e-3


def test_interrupted_and_with_other_threads(tmp_path):
    """With dropout: adapters and base draw as always."""
    model = gpt(dropout=0.2)
    whole, part = (fnn.lora.add(model, 2, layers="*") for _ in range(2))
    taught(whole, 4)
    taught(part, 2)
    part.save(tmp_path / "part")
    again = fnn.load(tmp_path / "part")
    again.fit(TOKENS, NEXT, batch_size=4, epochs=4, verbose=0, resume=True)
    same(again, whole)
    threads = fnn.get_num_threads()
    try:
        fnn.set_num_threads(1)
        same(taught(fnn.lora.add(model, 2, layers="*"), 4), whole)
    finally:
        fnn.set_num_threads(threads)


def test_other_layers_may_be_trained_too_and_are_saved(tmp_path):
    model = gpt()
    tuned = fnn.lora.add(model, 2)
    tuned.get_layer("last_norm").trainable = True
    taught(tuned)
    assert not np.array_equal(tuned.get_weights("last_norm")[0], model.get_weights("last_norm")[0])
    assert model.count_params(trainable=True) == model.count_params()
    fnn.lora.save(tuned, tmp_path / "a")
    again = fnn.lora.load(model, tmp_path / "a")
    np.testing.assert_array_equal(again.predict(TOKENS), tuned.predict(TOKENS))
    assert again.count_params(trainable=True) == tuned.count_params(trainable=True)


@njit
def steps(net, state, row, out):
    for place in range(len(row)):
        fnp.step(net, state, row[place], out[place])


@njit
def predict(net, x, out):
    fnp.predict(net, x, out)


@njit
def predict_two(net, x, y, out):
    fnp.predict(net, (x, y), out)


def test_compiled_code():
    tuned = taught(fnn.lora.add(gpt(), 2, layers="*"), 4)
    results = tuned.predict(TOKENS)
    out = np.zeros_like(results)
    predict(tuned.freeze(), TOKENS, out)
    np.testing.assert_array_equal(out, results)
    net = tuned.freeze(stateful=True)
    row = np.zeros(results.shape[1:], np.float32)
    steps(net, fnp.state(net), TOKENS[0], row)
    np.testing.assert_allclose(row, results[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("between", [lambda: [], lambda: [fnn.GRU(4, return_sequences=True)]])
def test_generation(between):
    """Beyond the steps of the input, where attention alone says how many there are."""
    layers = [
        fnn.Input(8, dtype="int64"), fnn.LoRA(fnn.Embedding(9, 4), 2), *between(),
        fnn.LoRA(fnn.MultiHeadAttention(2, 2, causal=True), 2), fnn.Dense(9, "softmax"),
    ]  # fmt: skip
    model = taught(fnn.Sequential(layers, seed=0))
    tokens = model.generate([1, 2], 20, seed=0)
    np.testing.assert_array_equal(tokens, model.generate([1, 2], 20, seed=0, cache=False))
    assert len(tokens) == 20


@njit
def learn(learner, x, y):
    fnp.train_step(learner, x, y)


def test_learners():
    one, two = (taught(fnn.lora.add(gpt(), 2), 1) for _ in range(2))
    learner = one.learner()
    learn(learner, TOKENS, NEXT)
    two.train_on_batch(TOKENS, NEXT)
    one.update_from(learner)
    same(one, two)


def test_models_within_and_chains():
    encoder = fnn.Sequential([fnn.Input(6), fnn.Dense(5, "tanh", name="hidden")], seed=1, name="encoder")
    x = fnn.Input(6)
    model = fnn.Model(x, fnn.Dense(3, "softmax", name="classes")(encoder(x)), seed=0)
    tuned = fnn.lora.add(model, 2, layers="encoder")
    rows = SEQUENCES[:, 0]
    np.testing.assert_array_equal(tuned.predict(rows), model.predict(rows))
    assert tuned.get_layer("encoder/hidden").rank == 2
    tuned.compile("adam", "cross_entropy")
    tuned.fit(rows, np.arange(12) % 3, verbose=0)
    assert (tuned.predict(rows) != model.predict(rows)).any()
    assert isinstance(fnn.lora.add(encoder, 1), fnn.Sequential)
    assert fnn.lora.add(encoder, 1, name="other").name == "other"


def blocks(dtype="float32"):
    """A decoder with an encoder, a decoder that goes step by step, and a feed-forward layer with a gate."""
    words, source = fnn.Input(8, dtype="int64", name="words"), fnn.Input((5, 6), name="source")
    x = fnn.Embedding(9, 6, mask_zero=True)(words)
    x = fnn.TransformerDecoder(7, 2, name="crossed")(x, fnn.TransformerEncoder(7, 3, name="encoder")(source))
    x = fnn.SwiGLU(5, name="gated")(fnn.TransformerDecoder(7, 2, name="decoder")(x))
    return fnn.Model([words, source], fnn.Dense(9, "softmax")(x), seed=0, dtype=dtype)


def test_attention_within_blocks(tmp_path):
    model = blocks()
    tuned = fnn.lora.add(model, 2)
    assert {name: tuned.get_layer(name).targets for name in ("encoder", "crossed", "decoder")} == {
        "encoder": ("self_attention_query_kernel", "self_attention_value_kernel"),
        "crossed": ("self_attention_query_kernel", "self_attention_value_kernel", "cross_attention_query_kernel",
                    "cross_attention_value_kernel"),
        "decoder": ("self_attention_query_kernel", "self_attention_value_kernel"),
    }  # fmt: skip
    assert isinstance(tuned.get_layer("gated"), fnn.SwiGLU)
    assert tuned.count_params(trainable=True) == 8 * 2 * (6 + 6)
    data = [TOKENS, SEQUENCES]
    np.testing.assert_array_equal(tuned.predict(data), model.predict(data))
    tuned = fnn.lora.add(model, 2, layers=["crossed", "gated", "encoder/feedforward_*"])
    tuned.compile(fnn.AdamW(0.05), "cross_entropy")
    tuned.fit(data, NEXT, batch_size=4, epochs=2, verbose=0)
    results = tuned.predict(data)
    assert np.abs(results - model.predict(data)).max() > 1e-3
    fnn.lora.save(tuned, tmp_path / "a")
    tuned.save(tmp_path / "m")
    for again in (fnn.lora.load(model, tmp_path / "a"), fnn.load(tmp_path / "m")):
        np.testing.assert_array_equal(again.predict(data), results)
    np.testing.assert_allclose(fnn.lora.merge(tuned).predict(data), results, rtol=1e-3, atol=1e-5)
    out = np.zeros_like(results)
    predict_two(tuned.freeze(), TOKENS, SEQUENCES, out)
    np.testing.assert_array_equal(out, results)


def test_blocks_take_masks_with_adapters():
    x, mask = fnn.Input((5, 6)), fnn.Input(5)
    plain, adapted = (
        fnn.Model([x, mask], made(fnn.TransformerEncoder(7, 2))(x, padding_mask=mask), seed=0)
        for made in (lambda layer: layer, lambda layer: fnn.LoRA(layer, 2))
    )
    count = len(plain.get_weights())
    adapted.set_weights([*plain.get_weights(), *adapted.get_weights()[count:]])
    data = [SEQUENCES, np.tile([1, 1, 1, 0, 0], (12, 1))]
    np.testing.assert_array_equal(adapted.predict(data), plain.predict(data))


def test_decoders_with_adapters_go_step_by_step():
    layers = [
        fnn.Input(8, dtype="int64"), fnn.Embedding(9, 6), fnn.TransformerDecoder(7, 2, name="decoder"),
        fnn.SwiGLU(5, name="gated"), fnn.Dense(9, "softmax"),
    ]  # fmt: skip
    tuned = taught(fnn.lora.add(fnn.Sequential(layers, seed=0), 2, layers=["decoder", "gated"]), 4)
    results = tuned.predict(TOKENS)
    net = tuned.freeze(stateful=True)
    row = np.zeros(results.shape[1:], np.float32)
    steps(net, fnp.state(net), TOKENS[0], row)
    np.testing.assert_allclose(row, results[0], rtol=1e-4, atol=1e-6)
    tokens = tuned.generate([1, 2], 12, seed=0)
    np.testing.assert_array_equal(tokens, tuned.generate([1, 2], 12, seed=0, cache=False))


def test_gated_feedforward_of_llama():
    model = fnn.applications.GPT(9, 8, 1, 2, 8, 0.0, rotary=10000.0, norm="rms", gated=True, seed=0)
    tuned = fnn.lora.add(model, 2, layers="*_gated/up_kernel")
    assert tuned.get_layer("block1_gated").targets == ("up_kernel",)
    np.testing.assert_array_equal(tuned.predict(TOKENS), model.predict(TOKENS))


def test_a_layer_of_each_step(tmp_path):
    layers = [fnn.Input((5, 6)), fnn.TimeDistributed(fnn.Dense(4, name="inner"), name="each"), fnn.GRU(3)]
    model = fnn.Sequential(layers, seed=0)
    tuned = fnn.lora.add(model, 2)
    tuned.compile("adam", "mse")
    tuned.fit(SEQUENCES, np.zeros((12, 3)), verbose=0)
    results = tuned.predict(SEQUENCES)
    assert (results != model.predict(SEQUENCES)).any()
    fnn.lora.save(tuned, tmp_path / "a")
    np.testing.assert_array_equal(fnn.lora.load(model, tmp_path / "a").predict(SEQUENCES), results)
    np.testing.assert_allclose(fnn.lora.merge(tuned).predict(SEQUENCES), results, rtol=1e-4, atol=1e-6)
    assert tuned.get_layer("each").rank == 2


def test_batch_normalisation_keeps_its_averages():
    model = fnn.Sequential([fnn.Input(6), fnn.Dense(4, name="hidden"), fnn.BatchNorm(), fnn.Dense(3)], seed=0)
    tuned = fnn.lora.add(model, 2)
    tuned.compile("adam", "mse")
    tuned.fit(SEQUENCES[:, 0], np.zeros((12, 3)), verbose=0)
    for a, b in zip(model.get_weights("batch_norm"), tuned.get_weights("batch_norm"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_added_losses_stay():
    x = fnn.Input(6)
    hidden = fnn.Dense(4, name="hidden")(x)
    model = fnn.Model(x, fnn.Dense(3)(hidden), seed=0)
    model.add_loss(fnn.ops.mean(hidden**2))
    tuned = fnn.lora.add(model, 2)
    for one in (model, tuned):
        one.compile("adam", "mse")
    targets = np.zeros((12, 3))
    assert tuned.evaluate(SEQUENCES[:, 0], targets) == model.evaluate(SEQUENCES[:, 0], targets)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: fnn.LoRA(fnn.Conv1D(2, 3), 2), TypeError, r"layer: expected a Dense.*Conv1D"),
        (lambda: fnn.LoRA(fnn.LoRA(fnn.Dense(3), 2), 2), TypeError, "layer: expected a Dense"),
        (lambda: fnn.LoRA("dense", 2), TypeError, "layer: expected a Dense"),
        (lambda: fnn.LoRA(fnn.Dense(3), 0), ValueError, "rank"),
        (lambda: fnn.LoRA(fnn.Dense(3), 2, alpha=0), ValueError, "alpha"),
        (lambda: fnn.LoRA(fnn.Dense(3), 2, targets="bias"), ValueError, r"targets: .*\['kernel'\], got 'bias'"),
        (lambda: fnn.LoRA(fnn.Dense(3), 2, targets=()), TypeError, "targets"),
        (lambda: fnn.LoRA(fnn.TransformerDecoder(3, 2), 2, targets="cross_attention_key_kernel")(fnn.Input((5, 6))),
         ValueError, "has low-rank updates of 'cross_attention_key_kernel', which its layer lacks"),
        (lambda: fnn.LoRA(fnn.Dense(3), r=2), TypeError, "it is called rank"),
        (lambda: fnn.Dense(3, lora_rank=2), TypeError, "fastnn.LoRA"),
        (lambda: fnn.lora.add(gpt(), 2, layers="token_embedding"), ValueError, "tied weights"),
        (lambda: fnn.lora.add(gpt(), 2, layers=["*_up", "last_norm"]), ValueError, "layers: 'last_norm' is no kernel"),
        (lambda: fnn.lora.add(gpt(), 2, layers=[]), TypeError, "layers: expected names"),
        (lambda: fnn.lora.add(fnn.lora.add(gpt(), 2), 2), ValueError, "has adapters already"),
        (lambda: fnn.lora.add(fnn.Dense(2), 2), TypeError, "model: expected a Model"),
        (lambda: fnn.lora.add(fnn.Sequential([fnn.Dense(2)]), 2), RuntimeError, "not built|no weights"),
        (lambda: fnn.lora.merge(gpt()), ValueError, "has no adapters"),
        (lambda: fnn.lora.save(gpt(), "nowhere"), ValueError, "has no adapters"),
        (lambda: fnn.lora.add(fnn.Sequential([fnn.Input(3), fnn.LayerNorm()]), 2), ValueError, "neither attention"),
    ],
)  # fmt: skip
def test_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_weight_that_is_used_elsewhere_cannot_be_merged():
    words = fnn.Input(8, dtype="int64")
    table = fnn.LoRA(fnn.Embedding(9, 4), 2)
    x = table(words)
    model = fnn.Model(words, fnn.ops.matmul(x, fnn.ops.transpose(table.embeddings)), seed=0)
    with pytest.raises(ValueError, match="'embeddings' is used outside the layer"):
        fnn.lora.merge(model)


def test_files_that_do_not_fit(tmp_path):
    model = gpt()
    tuned = fnn.lora.add(model, 2)
    fnn.lora.save(tuned, tmp_path / "a")
    model.save(tmp_path / "m")
    with pytest.raises(fnn.ModelFileError, match=r"fastnn\.lora\.load"):
        fnn.load(tmp_path / "a")
    with pytest.raises(fnn.ModelFileError, match=r"fastnn\.load reads it"):
        fnn.lora.load(model, tmp_path / "m")
    with pytest.raises(fnn.ModelFileError, match="'float32', the model of 'float64'"):
        fnn.lora.load(gpt("float64"), tmp_path / "a")
    with pytest.raises(fnn.ModelFileError, match="no layer 'block1_attention'"):
        fnn.lora.load(stack(fnn.Dense(2)), tmp_path / "a")
    other = fnn.applications.GPT(9, 8, 2, 2, 12, seed=0)
    with pytest.raises(fnn.ModelFileError, match=r"query_kernel_a' is float32 \(8, 2\), expected float32 \(12, 2\)"):
        fnn.lora.load(other, tmp_path / "a")
    with pytest.raises(ValueError, match="has adapters already"):
        fnn.lora.load(tuned, tmp_path / "a")
    with pytest.raises(fnn.ModelFileError, match="does not exist"):
        fnn.lora.load(model, tmp_path / "b")


@pytest.mark.parametrize(
    "change",
    [
        {"adapters": [{"layer": "block1_attention", "rank": 10**15, "alpha": None, "targets": ["query_kernel"]}]},
        {"adapters": [{"layer": "block1_attention", "rank": "2", "alpha": None, "targets": ["query_kernel"]}]},
        {"adapters": [{"layer": "last_norm", "rank": 2, "alpha": None, "targets": ["gamma"]}]},
        {"adapters": [{"layer": []}]},
        {"adapters": 3},
        {"trained": ["nothing"]},
        {"trained": ["last_norm"]},
        {"dtype": "float16"},
    ],
    ids=str,
)
def test_files_are_not_trusted(tmp_path, change):
    from fastnn.saving import container

    fnn.lora.save(fnn.lora.add(gpt(), 2), tmp_path / "a")
    tensors, document = container.read(tmp_path / "a")
    container.write(tmp_path / "a", tensors, {**document, **change})
    with pytest.raises(fnn.ModelFileError, match="does not fit the model"):
        fnn.lora.load(gpt(), tmp_path / "a")
