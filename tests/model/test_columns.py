"""Normalization, CategoryEncoding, Discretization, IntegerLookup, StringLookup: in models, on arrays, and in files."""

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.frozen import predict

import fastnn as fnn

RNG = np.random.default_rng(3)
X = RNG.normal([5.0, -2.0, 100.0], [2.0, 0.1, 30.0], (40, 3))
TOKENS = RNG.integers(0, 6, (9, 4))


def rows_by_hand(tokens, depth, mode, weights=None):
    """Return the rows of samples of tokens, one after the other."""
    made = np.zeros((len(tokens), *tokens.shape[1:-1], depth))
    if mode == "one_hot":
        return np.eye(depth)[tokens]
    for place in np.ndindex(tokens.shape):
        row = made[place[:-1]]
        if mode == "count":
            row[tokens[place]] += 1.0 if weights is None else weights[place]
        else:
            row[tokens[place]] = 1.0
    return made


def in_model(layer, x, dtype="float32"):
    """Return what a model of one layer predicts, after the same of a copy from a file, a pickle, and frozen code."""
    kind = "int64" if x.dtype.kind in "iu" else None
    start = fnn.Input(x.shape[1:], dtype=kind)
    made = layer(start)
    model = fnn.Model(start, fnn.ops.cast(made, "float") if made.kind == "int64" else made, dtype=dtype)
    found = model.predict(x)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(x), found)
    if found.dtype.kind == "f" and x.ndim > 1:
        out = np.empty(found.shape[1:], dtype)
        predict(model.freeze(), x[0] if kind else x[0].astype(dtype), out)
        np.testing.assert_array_equal(out, found[0])
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("invert", [False, True])
def test_normalization_is_the_formula(dtype, invert):
    layer = fnn.Normalization(invert=invert)
    layer.adapt(X)
    mean, deviation = X.mean(0), X.std(0)
    expected = X * deviation + mean if invert else (X - mean) / deviation
    np.testing.assert_allclose(layer(X), expected, rtol=1e-5, atol=1e-5)
    tolerance = 2e-5 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(in_model(layer, X, dtype), expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(layer.variance, X.var(0), rtol=1e-13)


@pytest.mark.parametrize(
    ("axis", "over", "shape"),
    [
        (-1, (0, 1, 2), (3,)),
        (None, (0, 1, 2, 3), ()),
        (1, (0, 2, 3), (4,)),
        ((1, -1), (0, 2), (4, 3)),
        (2, (0, 1, 3), (5,)),
    ],
)
def test_normalization_of_other_axes(axis, over, shape):
    images = RNG.normal(3.0, 2.0, (7, 4, 5, 3))
    layer = fnn.Normalization(axis)
    layer.adapt(images)
    assert np.shape(layer.mean) == shape
    expected = (images - images.mean(over, keepdims=True)) / images.std(over, keepdims=True)
    if axis == (1, -1):
        over = (0, 2)
    np.testing.assert_allclose(in_model(layer, images, "float64"), expected, atol=1e-12)
    np.testing.assert_allclose(layer(images), expected, atol=1e-5)


def test_normalization_with_given_statistics_as_in_keras():
    x = np.array([[1.0], [2.0], [3.0]])
    expected = [[-1.4142135], [-0.70710677], [0.0]]
    np.testing.assert_allclose(fnn.Normalization(mean=3.0, variance=2.0)(x), expected, rtol=1e-6)
    np.testing.assert_allclose(in_model(fnn.Normalization(mean=3.0, variance=2.0), x), expected, rtol=1e-6)
    constant = fnn.Normalization(mean=[1.0, 2.0], variance=[0.0, 4.0])
    np.testing.assert_allclose(in_model(constant, np.array([[1.0, 4.0], [1.0 + 1e-6, 2.0]]), "float64"),
                               [[0.0, 1.0], [10.0, 0.0]], rtol=1e-6)  # fmt: skip
    np.testing.assert_allclose(in_model(fnn.Normalization(mean=1.0, variance=4.0), np.array([[3, 5]])), [[1.0, 2.0]])


def test_normalization_of_batches_is_that_of_all_rows():
    whole, parts = fnn.Normalization(), fnn.Normalization()
    whole.adapt(X)
    parts.adapt(iter([X[:1], X[1:7], X[7:]]))
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(parts.variance, whole.variance, rtol=1e-12)
    far = fnn.Normalization()
    far.adapt(X + 1e9)
    np.testing.assert_allclose(far.variance, (X + 1e9).var(0), rtol=1e-9)
    again = fnn.Normalization()
    again.adapt(X * 3)
    again.adapt(X)
    assert again.mean == whole.mean


def test_statistics_are_kept_in_files_and_are_not_trained(tmp_path):
    layer = fnn.Normalization(name="scale")
    layer.adapt(X)
    model = fnn.Sequential([fnn.Input(3), layer, fnn.Dense(1)], seed=0)
    model.compile("adam", "mse")
    model.fit(X, X[:, :1], epochs=2, verbose=0)
    np.testing.assert_array_equal(model.get_weights("scale")[0], np.float32(layer.mean))
    model.save(tmp_path / "m")
    loaded = fnn.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.get_layer("scale").mean == layer.mean
    with pytest.raises(RuntimeError, match="was made with a mean"):
        loaded.get_layer("scale").adapt(X)
    with pytest.raises(RuntimeError, match="has been called in a model"):
        layer.adapt(X)


@pytest.mark.parametrize("mode", ["one_hot", "multi_hot", "count"])
def test_category_encoding(mode):
    layer = fnn.CategoryEncoding(6, output_mode=mode)
    expected = rows_by_hand(TOKENS, 6, mode)
    np.testing.assert_array_equal(layer(TOKENS), expected)
    np.testing.assert_array_equal(in_model(layer, TOKENS), expected)
    deep = TOKENS.reshape(3, 3, 4)
    np.testing.assert_array_equal(in_model(layer, deep), rows_by_hand(deep, 6, mode))
    np.testing.assert_array_equal(layer(deep), rows_by_hand(deep, 6, mode))
    # a last axis of size 1 is replaced, and one integer gives one row
    for one in (TOKENS[:, :1], TOKENS[:, 0]):
        np.testing.assert_array_equal(layer(one), np.eye(6)[TOKENS[:, 0]])
        np.testing.assert_array_equal(in_model(layer, one), np.eye(6)[TOKENS[:, 0]])


def test_counts_with_weights():
    layer = fnn.CategoryEncoding(6, "count")
    factors = RNG.integers(-3, 4, TOKENS.shape).astype(np.float32)
    tokens, weights = fnn.Input(4, dtype="int64"), fnn.Input(4)
    model = fnn.Model([tokens, weights], layer(tokens, count_weights=weights))
    expected = rows_by_hand(TOKENS, 6, "count", factors)
    np.testing.assert_array_equal(model.predict([TOKENS, factors]), expected)
    np.testing.assert_array_equal(layer(TOKENS, factors), expected)
    with pytest.raises(ValueError, match="takes weights for output_mode='count' only"):
        fnn.CategoryEncoding(6)(tokens, weights)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_discretization_is_digitize(dtype):
    bounds = [-1.0, 0.5, 2.0]
    x = np.array([[-5.0, -1.0, -0.9, 0.5], [0.4, 2.0, 7.0, np.nan], [np.inf, -np.inf, 0.0, 1.9]])
    layer = fnn.Discretization(bounds)
    index = in_model(layer, x, dtype)
    np.testing.assert_array_equal(index, np.digitize(x, bounds))
    np.testing.assert_array_equal(layer(x), index)
    index = layer(x)
    assert index.dtype == np.int64
    for mode in ("one_hot", "multi_hot", "count"):
        rows = fnn.Discretization(bounds, output_mode=mode)
        np.testing.assert_array_equal(in_model(rows, x, dtype), rows_by_hand(index, 4, mode))
        np.testing.assert_array_equal(rows(x), rows_by_hand(index, 4, mode))


def test_discretization_learns_quantiles_as_in_keras():
    x = np.array([[-1.5, 1.0, 3.4, 0.5], [0.0, 3.0, 1.3, 0.0]])
    layer = fnn.Discretization(num_bins=4)
    layer.adapt(x)
    np.testing.assert_array_equal(layer(x), [[0, 2, 3, 2], [1, 3, 3, 1]])
    model = fnn.Model(x := fnn.Input(4), fnn.Flatten()(fnn.Embedding(4, 2)(layer(x))), seed=0)
    other = fnn.Discretization(num_bins=3)
    other.adapt(iter([np.arange(5.0), np.arange(5.0, 9.0)]))
    assert Counter(other(np.arange(9.0)).tolist()) == {0: 2, 1: 3, 2: 4}
    assert pickle.loads(pickle.dumps(model)).get_layer("discretization").num_bins == 4


VOCABULARY = [40, 7, -3, 12]


@pytest.mark.parametrize("mask", [None, 9])
@pytest.mark.parametrize("oov", [0, 1])
def test_integer_lookup_in_a_model_is_that_of_arrays(mask, oov):
    known = np.array([*VOCABULARY, *([] if mask is None else [mask])])
    x = RNG.choice(known, (6, 5)) if oov == 0 else RNG.integers(-60, 60, (6, 5))
    x[0, 0] = 7
    if oov:
        x[1] = [2**62, -(2**62), 41, -4, 9]
    vocabulary = VOCABULARY if oov else [3, 4, 5]
    x = x if oov else RNG.integers(3, 6, (6, 5))
    mask = mask if oov or mask is None else 6
    layer = fnn.IntegerLookup(num_oov_indices=oov, mask_token=mask, vocabulary=vocabulary)
    first = (mask is not None) + oov
    table = {word: first + number for number, word in enumerate(vocabulary)} | {mask: 0}
    expected = np.vectorize(lambda word: table.get(word, first - oov))(x)
    np.testing.assert_array_equal(layer(x), expected)
    np.testing.assert_array_equal(in_model(layer, x), expected)
    for mode in ("one_hot", "count", "multi_hot"):
        rows = fnn.IntegerLookup(num_oov_indices=oov, mask_token=mask, vocabulary=vocabulary, output_mode=mode)
        np.testing.assert_array_equal(in_model(rows, x), rows(x))
        assert rows(x).shape[-1] == len(vocabulary) + oov  # the mask has no column


def test_integer_lookup_goes_back():
    back = fnn.IntegerLookup(vocabulary=VOCABULARY, invert=True)
    index = np.array([[0, 1, 2, 3, 4, 5, -1, 99]])
    expected = [[-1, 40, 7, -3, 12, -1, -1, -1]]
    np.testing.assert_array_equal(back(index), expected)
    np.testing.assert_array_equal(in_model(back, index), expected)


def test_unknown_words_of_several_entries():
    several = fnn.IntegerLookup(num_oov_indices=3, vocabulary=[10, 20])
    np.testing.assert_array_equal(several([10, 20, 4, 5, 6, -1]), [3, 4, 1, 2, 0, 2])
    with pytest.raises(ValueError, match="in a model it has num_oov_indices=1"):
        several(fnn.Input((), dtype="int64"))
    text = fnn.StringLookup(num_oov_indices=4, vocabulary=["a"])
    found = text([f"word {number}" for number in range(50)])
    assert set(found.tolist()) == {0, 1, 2, 3} and text("a") == 4
    # the hash of "123456789" that defines CRC-32
    assert text(["123456789"])[0] == 0xCBF43926 % 4


def test_string_lookup_as_in_keras():
    layer = fnn.StringLookup(vocabulary=["a", "b", "c", "d"])
    np.testing.assert_array_equal(layer([["a", "c", "d"], ["d", "z", "b"]]), [[1, 3, 4], [4, 0, 2]])
    assert layer.get_vocabulary() == ["[UNK]", "a", "b", "c", "d"] and layer.vocabulary_size() == 5
    back = fnn.StringLookup(vocabulary=layer.get_vocabulary(), invert=True)
    assert back([1, 4, 0, 17]).tolist() == ["a", "d", "[UNK]", "[UNK]"]
    rows = fnn.StringLookup(vocabulary=["a", "b"], output_mode="count", mask_token="")
    np.testing.assert_array_equal(rows([["a", "a", ""], ["z", "b", "a"]]), [[0, 2, 0], [1, 1, 1]])
    masked = fnn.StringLookup(vocabulary=["a", "b"], mask_token="")
    assert masked.get_vocabulary() == ["", "[UNK]", "a", "b"]
    assert masked.get_vocabulary(include_special_tokens=False) == ["a", "b"]
    np.testing.assert_array_equal(masked(["", "z", "b"]), [0, 1, 3])


def test_adapt_orders_by_count_then_from_the_greatest():
    layer = fnn.StringLookup(max_tokens=4)
    layer.adapt(np.array(["b", "c", "a", "a", "d", "[UNK]", "[UNK]"]))
    assert layer.get_vocabulary() == ["[UNK]", "a", "d", "c"]
    layer.adapt(iter([["x", "y"], ["y"]]))
    assert layer.get_vocabulary() == ["[UNK]", "y", "x"]
    numbers = fnn.IntegerLookup(mask_token=0)
    numbers.adapt(np.array([[5, 5, 0], [0, 0, 8], [-1, 7, 8]]))
    assert numbers.get_vocabulary() == [0, -1, 8, 5, 7]
    numbers = fnn.StringLookup()
    numbers.set_vocabulary(["p", "q"])
    with pytest.raises(RuntimeError, match="was given a vocabulary"):
        numbers.adapt(["r"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=3), min_size=1, max_size=30), st.lists(st.text(max_size=3), max_size=30))
def test_going_back_gives_the_words(words, others):
    layer = fnn.StringLookup(oov_token="unknown")
    layer.adapt(words)
    back = fnn.StringLookup(oov_token="unknown", vocabulary=layer.get_vocabulary(), invert=True)
    expected = [word if word in words else "unknown" for word in [*words, *others]]
    # NumPy's texts drop zeros at their ends
    assert back(layer([*words, *others])).tolist() == [word.rstrip("\0") for word in expected]


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: fnn.Normalization(mean=1.0), ValueError, "both mean and variance"),
        (lambda: fnn.Normalization(mean=[1.0], variance=[1.0, 2.0]), ValueError, "mean and variance have one shape"),
        (lambda: fnn.Normalization(mean=1.0, variance=-1.0), ValueError, "variance: expected numbers >= 0"),
        (lambda: fnn.Normalization(mean="a", variance=1.0), TypeError, "mean: expected numbers"),
        (lambda: fnn.Normalization()(fnn.Input(3)), ValueError, r"has no mean and variance: call adapt\(data\)"),
        (lambda: fnn.Normalization(0).adapt(X), ValueError, "axis=0 does not name axes of samples"),
        (lambda: fnn.Normalization().adapt(np.zeros((0, 3))), ValueError, "at least one element"),
        (lambda: fnn.Normalization().adapt([[1.0, np.nan]]), ValueError, "NaN"),
        (lambda: fnn.Normalization().adapt([["a"]]), TypeError, "expected numbers"),
        (lambda: fnn.Normalization().adapt(iter([X, X[:, :2]])), ValueError, "of the same samples"),
        (lambda: fnn.Normalization(mean=[1.0, 2.0], variance=[1.0, 2.0])(fnn.Input(3)), ValueError, "does not fit"),
        (lambda: fnn.CategoryEncoding(0), ValueError, "num_tokens"),
        (lambda: fnn.CategoryEncoding(3, "rows"), ValueError, "output_mode: expected 'one_hot'"),
        (lambda: fnn.CategoryEncoding(3)(np.array([3])), ValueError, "from 0 to 2, got 3"),
        (lambda: fnn.CategoryEncoding(3)(np.array([1.0])), TypeError, "expected integers"),
        (lambda: fnn.CategoryEncoding(3)(fnn.Input(3)), ValueError, "takes integers"),
        (lambda: fnn.Discretization(), ValueError, "expected bin_boundaries, or num_bins"),
        (lambda: fnn.Discretization([2.0, 1.0]), ValueError, "ascending"),
        (lambda: fnn.Discretization([1.0], 5), ValueError, "got 1 bin_boundaries and num_bins=5"),
        (lambda: fnn.Discretization(num_bins=1), ValueError, "num_bins"),
        (lambda: fnn.Discretization(num_bins=3)(fnn.Input(2)), ValueError, "has no boundaries"),
        (lambda: fnn.Discretization([0.0]).adapt(X), RuntimeError, "was made with bin_boundaries"),
        (lambda: fnn.IntegerLookup(vocabulary=[1, 1]), ValueError, "1 occurs more than once"),
        (lambda: fnn.IntegerLookup(vocabulary=[1, 2], mask_token=2), ValueError, "holds the mask_token 2"),
        (lambda: fnn.IntegerLookup(vocabulary=[1.5]), TypeError, "vocabulary"),
        (lambda: fnn.IntegerLookup(max_tokens=2, vocabulary=[1, 2]), ValueError, "more than max_tokens=2"),
        (lambda: fnn.IntegerLookup(num_oov_indices=0, vocabulary=[1])([2]), ValueError, "2 is not in the vocabulary"),
        (lambda: fnn.IntegerLookup(vocabulary=[0, 2**40])(fnn.Input(1, dtype="int64")), ValueError, "table can have"),
        (lambda: fnn.IntegerLookup()(np.array([1])), ValueError, "has no vocabulary"),
        (lambda: fnn.StringLookup(vocabulary="words.txt"), TypeError, "splitlines"),
        (lambda: fnn.StringLookup(vocabulary=["a", 3]), TypeError, r"vocabulary\[1\]: expected text, got 3"),
        (lambda: fnn.StringLookup(vocabulary=["a"])(["a", None]), TypeError, "expected text, got None"),
        (lambda: fnn.StringLookup(invert=True, output_mode="count"), ValueError, "output_mode is 'int'"),
        (lambda: fnn.StringLookup(vocabulary=["a"])(fnn.Input(1)), ValueError, "cannot be part of a model"),
        (lambda: fnn.Sequential([fnn.Input(1), fnn.StringLookup(vocabulary=["a"])]), ValueError, "part of a model"),
        (lambda: fnn.Model(x := fnn.Input(1, dtype="int64"), fnn.StringLookup(vocabulary=["a"])(x)), ValueError,
         "cannot be part of a model"),
    ],
)  # fmt: skip
def test_clear_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_integers_of_a_lookup_have_to_fit_the_next_layer():
    x = fnn.Input(2, dtype="int64")
    with pytest.raises(ValueError, match="from 0 to 2, but layer 'flatten' gives integers from 0 to 3"):
        fnn.Model(x, fnn.Embedding(3, 2)(fnn.Flatten()(fnn.IntegerLookup(vocabulary=[5, 6, 7])(x))))
    whole = fnn.Model(x, fnn.Embedding(2, 1)(fnn.IntegerLookup(num_oov_indices=0, vocabulary=[6, 5])(x)))
    with pytest.raises(ValueError, match="integers from 5 to 6"):
        whole.predict(np.array([[5, 7]]))
