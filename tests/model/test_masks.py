"""Masks: steps that there are not count nowhere."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp

RNG = np.random.default_rng(6)
LENGTHS = np.array([4, 1, 6, 3, 0, 6])
WORDS = RNG.integers(1, 9, (6, 6)) * (np.arange(6) < LENGTHS[:, None])
THERE = WORDS != 0


def tagger(dtype="float64", **options):
    layers = [
        fnn.Input(6, dtype="int64"), fnn.Embedding(9, 4, mask_zero=True), fnn.Dropout(0.0), fnn.LayerNorm(),
        fnn.Bidirectional(fnn.GRU(5, return_sequences=True)), fnn.Dense(3, "softmax"),
    ]  # fmt: skip
    model = fnn.Sequential(layers, seed=1, dtype=dtype)
    model.compile(fnn.SGD(0.1), "cross_entropy", **options)
    return model


def test_losses_and_metrics_are_means_over_the_steps_that_there_are():
    model = tagger(metrics=["accuracy"])
    labels = RNG.integers(0, 3, (6, 6))
    p = model.predict(WORDS)
    losses = -np.log(np.take_along_axis(p, labels[..., None], 2)[..., 0])
    found = model.evaluate(WORDS, labels)
    np.testing.assert_allclose(found["loss"], losses[THERE].mean(), rtol=1e-6)
    assert found["accuracy"] == pytest.approx((p.argmax(2) == labels)[THERE].mean())
    # with weights of samples, and of steps
    weights = RNG.uniform(0.5, 1.5, 6)
    by_step = np.repeat(weights[:, None], 6, 1)
    expected = (losses * by_step)[THERE].sum() / THERE.sum()
    for given in (weights, by_step):
        np.testing.assert_allclose(model.evaluate(WORDS, labels, sample_weight=given)["loss"], expected, rtol=1e-6)


def test_what_is_masked_has_no_influence():
    """Other labels and words there give the same training, and shorter sequences the same results."""
    labels = RNG.integers(0, 3, (6, 6))
    other = np.where(THERE, labels, (labels + 1) % 3)
    weights = []
    for given in (labels, other):
        model = tagger("float32")
        model.fit(WORDS, given, batch_size=3, epochs=2, verbose=0)
        weights.append([each.tobytes() for each in model.get_weights()])
    assert weights[0] == weights[1]
    short = fnn.Sequential(
        [fnn.Input(3, dtype="int64"), fnn.Embedding(9, 4, mask_zero=True), fnn.LayerNorm(),
         fnn.Bidirectional(fnn.GRU(5, return_sequences=True)), fnn.Dense(3, "softmax")]
    )  # fmt: skip
    short.set_weights(model.get_weights())
    np.testing.assert_array_equal(short.predict(WORDS[[1, 3], :3])[1], model.predict(WORDS)[3, :3])


def test_gradients_of_masked_losses():
    model, labels = tagger(), RNG.integers(0, 3, (6, 6))
    gradients, weights = model.gradients(WORDS, labels), model.get_weights()
    directions = [RNG.normal(size=each.shape) for each in weights]
    losses = []
    for step in (1e-6, -1e-6):
        model.set_weights([each + step * d for each, d in zip(weights, directions, strict=True)])
        losses.append(model.test_on_batch(WORDS, labels)["loss"])
    got = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    assert got == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-5)


def test_averages_leave_masked_steps_out():
    x = RNG.normal(size=(6, 6, 3)) * THERE[:, :, None]
    for keepdims in (False, True):
        model = fnn.Sequential(
            [fnn.Input((6, 3)), fnn.Masking(), fnn.GlobalAveragePooling1D(keepdims=keepdims)], dtype="float64"
        )
        expected = x.sum(1, keepdims=keepdims) / np.maximum(LENGTHS, 1).reshape(-1, *[1] * (1 + keepdims))
        np.testing.assert_allclose(model.predict(x), expected, atol=1e-12)


def test_a_masking_value_is_replaced_by_zeros():
    x = RNG.normal(size=(6, 6, 3))
    x[~THERE] = -1.0
    model = fnn.Sequential([fnn.Input((6, 3)), fnn.Masking(-1.0), fnn.Activation("linear")], dtype="float64")
    np.testing.assert_array_equal(model.predict(x), x * THERE[:, :, None])


def test_masks_survive_files_nesting_and_learners(tmp_path):
    labels = RNG.integers(0, 3, (6, 6))
    model = tagger("float32")
    model.save(tmp_path / "m")
    loaded = fnn.load(tmp_path / "m")
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    inner = fnn.Sequential([fnn.Input(6, dtype="int64"), fnn.Embedding(9, 4, mask_zero=True)], seed=1)
    x = fnn.Input(6, dtype="int64")
    outer = fnn.Model(x, fnn.Dense(3, "softmax")(fnn.Bidirectional(fnn.GRU(5, return_sequences=True))(
        fnn.LayerNorm()(inner(x)))))  # fmt: skip
    outer.set_weights(model.get_weights())
    outer.compile(fnn.SGD(0.1), "cross_entropy")
    wanted = model.evaluate(WORDS, labels)
    assert loaded.evaluate(WORDS, labels) == wanted == outer.evaluate(WORDS, labels)
    learner = model.learner()
    from fastnn import nopython as fnp

    loss = fnp.train_step(learner, WORDS, labels)
    assert loss == pytest.approx(loaded.train_on_batch(WORDS, labels)["loss"], rel=1e-6)
    model.update_from(learner)
    for one, two in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def encoder(steps, kind):
    """A block of attention over words, and the mean over the steps that there are."""
    x = fnn.Input(steps, dtype="int64")
    embedded = fnn.Embedding(9, 8, mask_zero=True)(x)
    layer = fnn.MultiHeadAttention(2, 4) if kind == "heads" else fnn.GroupedQueryAttention(4, 4, 2)
    mixed = fnn.LayerNorm()(fnn.Add()([embedded, layer(embedded)]))
    assert mixed.mask is embedded.mask
    return fnn.Model(x, [mixed, fnn.GlobalAveragePooling1D()(mixed)], seed=2, dtype="float64")


@pytest.mark.parametrize("kind", ["heads", "groups"])
def test_attention_leaves_masked_keys_out(kind, tmp_path):
    long, short = encoder(6, kind), encoder(3, kind)
    short.set_weights(long.get_weights())
    steps, means = long.predict(WORDS)
    steps_short, means_short = short.predict(WORDS[[1, 3], :3])
    np.testing.assert_allclose(steps[3, :3], steps_short[1], atol=1e-12)
    np.testing.assert_allclose(steps[1, :1], steps_short[0, :1], atol=1e-12)
    np.testing.assert_allclose(means[[1, 3]], means_short, atol=1e-12)
    long.save(tmp_path / "m")
    np.testing.assert_array_equal(fnn.load(tmp_path / "m").predict(WORDS)[1], means)


def test_attention_across_sequences_takes_the_mask_of_the_keys():
    x, y = fnn.Input(6, dtype="int64"), fnn.Input((4, 8))
    keys = fnn.Embedding(9, 8, mask_zero=True)(x)
    layer = fnn.MultiHeadAttention(2, 4)
    result = layer([y, keys])
    assert result.mask is None and layer([keys, y]).mask is keys.mask
    model = fnn.Model([x, y], result, seed=2, dtype="float64")
    queries = RNG.normal(size=(6, 4, 8))
    got = model.predict([WORDS, queries])
    assert np.abs(model.predict([np.maximum(WORDS, 1), queries]) - got)[~THERE.all(axis=1)].max() > 1e-3


@pytest.mark.parametrize("shape", [(6,), (4, 6), (1, 6), (2, 4, 6), (2, 1, 6)])
@pytest.mark.parametrize("dtype", [None, "int64"])
def test_a_given_mask_leaves_out_further_keys(shape, dtype, tmp_path):
    x, y, mask = fnn.Input(6, dtype="int64"), fnn.Input((4, 8)), fnn.Input(shape, dtype=dtype)
    keys = fnn.Embedding(9, 8, mask_zero=True)(x)
    layer = fnn.MultiHeadAttention(2, 4)
    model = fnn.Model([x, y, mask], layer([y, keys, keys, mask]), seed=2, dtype="float64")
    # the same layer on keys without a mask
    rows = fnn.Input((6, 8))
    plain = fnn.Model([rows, y, mask], layer([y, rows, rows, mask]), dtype="float64")
    plain.set_weights(model.get_weights(layer), layer)
    queries, given = RNG.normal(size=(6, 4, 8)), RNG.integers(0, 2, (6, *shape))
    rows = model.get_weights(keys.layer)[0][WORDS]
    there = THERE.reshape(6, *(1,) * (len(shape) - 1), 6)
    expected = plain.predict([rows, queries, given * there])
    got = model.predict([WORDS, queries, given])
    np.testing.assert_allclose(got, expected, atol=1e-12)
    assert np.abs(plain.predict([rows, queries, given]) - got).max() > 1e-3
    model.save(tmp_path / "m")
    loaded = fnn.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict([WORDS, queries, given]), got)
    assert len(loaded.layers) == len(model.layers)


def test_inputs_of_two_masks_are_refused():
    one, two = (fnn.Masking()(fnn.Input((5, 3))) for _ in range(2))
    with pytest.raises(ValueError, match="takes inputs of one mask, got 2"):
        fnn.Add()([one, two])
    assert fnn.Add()([one, fnn.Input((5, 3))]).mask is one.mask
    assert fnn.Flatten()(one).mask is None


def test_means_by_the_weights_of_the_steps_that_there_are():
    """With normalize="weights" the loss is divided by the sum of the weights of these steps."""
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 5, (2, 6, 7))
    x[0, 3:] = 0
    w = (rng.random((6, 7)) * (rng.random((6, 7)) < 0.5)).astype(np.float32)

    def made():
        layers = [
            fnn.Input(7, dtype="int64"), fnn.Embedding(5, 4, mask_zero=True), fnn.GRU(6, return_sequences=True),
            fnn.Dense(5, "softmax"),
        ]  # fmt: skip
        model = fnn.Sequential(layers, seed=0)
        model.compile("sgd", fnn.CrossEntropy(normalize="weights"))
        return model

    model = made()
    losses = -np.log(np.take_along_axis(model.predict(x), y[..., None], 2)[..., 0])
    there = (x != 0) * w
    wanted, plain = (losses * there).sum() / there.sum(), losses[x != 0].mean()
    assert abs(wanted - plain) > 1e-4
    np.testing.assert_allclose(model.evaluate(x, y)["loss"], plain, rtol=1e-5)
    for found in (
        model.evaluate(x, y, sample_weight=w)["loss"],
        model.evaluate(x, y, batch_size=2, sample_weight=w)["loss"],
        fnp.train_step(model.learner(), x, y, sample_weight=w),
        made().train_on_batch(x, y, sample_weight=w)["loss"],
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    # only ratios of weights matter, also in compiled code
    learner, other = model.learner(), made()
    fnp.train_step(learner, x, y, sample_weight=w)
    model.update_from(learner)
    other.train_on_batch(x, y, sample_weight=3.0 * w)
    for one, same in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(one, same, rtol=1e-4, atol=1e-6)


def backwards():
    return fnn.GRU(3, go_backwards=True, return_sequences=True)


@pytest.mark.parametrize(
    "after",
    [
        [fnn.GlobalAveragePooling1D()], [fnn.GRU(3)], [fnn.GRU(3, return_sequences=True)], [fnn.Dense(2), backwards()],
        [fnn.MultiHeadAttention(2, 2), fnn.GlobalAveragePooling1D()], [backwards(), fnn.LSTM(2)],
    ],
)  # fmt: skip
def test_masks_of_sequences_in_reverse_order(after, tmp_path):
    """The result of a layer that goes backwards has its mask in the reverse order, also in files and within models."""
    rng = np.random.default_rng(0)
    lengths = np.array([2, 6, 4])
    x = rng.standard_normal((3, 6, 4)) * (np.arange(6) < lengths[:, None])[..., None]
    model = fnn.Sequential([fnn.Input((6, 4)), fnn.Masking(), backwards(), *after], seed=0, dtype="float64")
    weights = [rng.standard_normal(each.shape) for each in model.get_weights()]
    model.set_weights(weights)
    found = model.predict(x)
    forwards = getattr(after[-1], "go_backwards", False)
    for row, steps in enumerate(lengths):
        # the same layers have other weights in another model
        short = fnn.Sequential([fnn.Input((int(steps), 4)), backwards(), *after], seed=0, dtype="float64")
        short.set_weights(weights)
        there = slice(None) if found.ndim == 2 else slice(steps) if forwards else slice(6 - steps, None)
        np.testing.assert_allclose(found[row][there], short.predict(x[row : row + 1, :steps])[0], atol=1e-12)
    model.save(tmp_path / "one")
    again = fnn.load(tmp_path / "one")
    again.save(tmp_path / "two")
    start = fnn.Input((6, 4))
    for other in (again, fnn.load(tmp_path / "two"), fnn.Model(start, model(start), dtype="float64")):
        np.testing.assert_array_equal(other.predict(x), found)
    assert len(again.layers) == len(model.layers)


def test_two_layers_that_go_backwards_have_one_mask():
    x = fnn.Masking()(fnn.Input((5, 3)))
    both = fnn.Concatenate()([backwards()(x), backwards()(x)])
    assert both.mask is not None and both.mask is not x.mask
    assert backwards()(backwards()(x)).mask is x.mask
    with pytest.raises(ValueError, match="takes inputs of one mask, got 2"):
        fnn.Add()([x, backwards()(x)])


def test_a_sequential_whose_masks_are_reshaped_is_loaded(tmp_path):
    layers = [fnn.Embedding(9, 8, mask_zero=True), fnn.TransformerEncoder(8, 2), fnn.Dense(2)]
    model = fnn.Sequential([fnn.Input(6, dtype="int64"), *layers], seed=0)
    model.save(tmp_path / "m")
    loaded = fnn.load(tmp_path / "m")
    assert type(loaded) is fnn.Sequential and len(loaded.layers) == 3
    np.testing.assert_array_equal(loaded.predict(WORDS), model.predict(WORDS))


def test_a_mean_over_batches_counts_their_steps():
    model = tagger(weighted_metrics=["accuracy"])
    labels, weights = RNG.integers(0, 3, (6, 6)), RNG.uniform(0.5, 1.5, 6)
    losses = -np.log(np.take_along_axis(model.predict(WORDS), labels[..., None], 2)[..., 0])
    for given, factor in ((None, np.ones(6)), (weights, weights)):
        expected = (losses * factor[:, None])[THERE].sum() / THERE.sum()
        for batch in (1, 4):
            found = model.evaluate(WORDS, labels, batch_size=batch, sample_weight=given)["loss"]
            np.testing.assert_allclose(found, expected, rtol=1e-6)
        learner = model.learner()
        total = fnp.train_step(learner, WORDS, labels, sample_weight=given)
        np.testing.assert_allclose(total, expected, rtol=1e-6)
