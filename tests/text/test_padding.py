"""`fnn.data.pad_sequences` against Keras' documented examples and plain Python, and buckets against all choices."""

import itertools

import numpy as np
import pytest

import fastnn as fnn

pad, buckets = fnn.data.pad_sequences, fnn.data.buckets
KERAS = [[1], [2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # the examples of Keras 3's documentation
        ({}, [[0, 0, 1], [0, 2, 3], [4, 5, 6]]),
        ({"value": -1}, [[-1, -1, 1], [-1, 2, 3], [4, 5, 6]]),
        ({"padding": "post"}, [[1, 0, 0], [2, 3, 0], [4, 5, 6]]),
        ({"maxlen": 2}, [[0, 1], [2, 3], [5, 6]]),
        # and its other sides
        ({"maxlen": 2, "truncating": "post"}, [[0, 1], [2, 3], [4, 5]]),
        ({"maxlen": 1, "padding": "post"}, [[1], [3], [6]]),
        ({"maxlen": 4}, [[0, 0, 0, 1], [0, 0, 2, 3], [0, 4, 5, 6]]),
    ],
)
def test_the_examples_of_keras(arguments, expected):
    found = pad(KERAS, **arguments)
    assert found.dtype == np.int32 and found.tolist() == expected
    # also of arrays of other dtypes, and of an iterator
    assert pad((np.array(one, np.uint16) for one in KERAS), **arguments).tolist() == expected


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("maxlen", [None, 1, 3, 9])
def test_against_plain_python(padding, truncating, maxlen):
    rng = np.random.default_rng(0)
    lengths = [0, 1, 3, 7, 0, 2]
    for step in ((), (2,), (2, 3)):
        sequences = [rng.normal(size=(n, *step)).astype(np.float32) for n in lengths]
        found = pad(sequences, maxlen, "float32", padding, truncating, 0.5)
        wide = max(lengths) if maxlen is None else maxlen
        assert found.shape == (len(lengths), wide, *step) and found.dtype == np.float32
        for row, one in zip(found, sequences, strict=True):
            kept = list(one[-wide:] if truncating == "pre" else one[:wide])
            filling = [np.full(step, 0.5, np.float32)] * (wide - len(kept))
            expected = filling + kept if padding == "pre" else kept + filling
            assert np.array_equal(row, np.array(expected))
        nested = pad([one.tolist() for one in sequences], maxlen, "float32", padding, truncating, 0.5)
        assert np.array_equal(nested, found)


def test_edges():
    assert pad([]).shape == (0, 0) and pad([], 3).shape == (0, 3) and pad([[], []]).shape == (2, 0)
    assert pad([[], []], 2, value=7).tolist() == [[7, 7], [7, 7]]
    assert np.isnan(pad([[1.0]], 2, "float64", value=np.nan)[0, 0])
    assert np.isnan(pad([[]], 1, "float32", value=np.float32(np.nan))).all()
    assert pad([[True], []], dtype=bool).tolist() == [[True], [False]]
    assert pad([[2**63 - 1, -(2**63)]], dtype="int64").tolist() == [[2**63 - 1, -(2**63)]]
    assert pad([[3.0, -4.0]]).tolist() == [[3, -4]]
    given = np.arange(3)
    pad([given, [1]], 2)[:] = 9
    assert given.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: pad(3), TypeError, "sequences: expected an iterable of sequences, got 3"),
        (lambda: pad("abc"), TypeError, "sequences: expected an iterable of sequences, got 'abc'"),
        (lambda: pad([[1], 2]), TypeError, r"sequences\[1\]: expected a sequence, got 2"),
        (lambda: pad([[1], "ab"]), TypeError, r"sequences\[1\]: expected a sequence of numbers, got 'ab'"),
        (lambda: pad([["a"]]), TypeError, r"sequences\[0\]: expected numbers, got \['a'\] of dtype"),
        (lambda: pad([[[1, 2], [3]]]), ValueError, r"sequences\[0\]: expected steps of one shape"),
        (lambda: pad([[1], [[1, 2]]]), ValueError, r"sequences\[1\]: expected steps of shape \(\), .* got \(2,\)"),
        (lambda: pad(KERAS, 0), ValueError, "maxlen: expected an integer >= 1, got 0"),
        (lambda: pad(KERAS, 2.0), TypeError, "maxlen: expected an integer, got 2.0"),
        (lambda: pad(KERAS, padding="left"), ValueError, "padding: expected 'pre' or 'post', got 'left'"),
        (lambda: pad(KERAS, truncating="end"), ValueError, "truncating: expected 'pre' or 'post', got 'end'"),
        (lambda: pad(KERAS, dtype="number"), TypeError, "dtype: expected a dtype of numbers, got 'number'"),
        (lambda: pad(KERAS, dtype=str), TypeError, "dtype: expected a dtype of numbers, got <U0"),
        (lambda: pad(KERAS, value="0"), TypeError, "value: expected a number, got '0'"),
        (lambda: pad(KERAS, value=0.5), ValueError, "value: 0.5 does not fit into dtype int32; dtype='float32' keeps"),
        (lambda: pad(KERAS, value=np.nan), ValueError, "value: expected a finite number, got nan"),
        (lambda: pad([[1], [0.5]]), ValueError, r"sequences\[1\]: 0.5 does not fit into dtype int32; dtype='float32'"),
        (lambda: pad([[np.nan]]), ValueError, r"sequences\[0\]: nan does not fit into dtype int32"),
        (lambda: pad([[2**31]]), ValueError, r"sequences\[0\]: 2147483648 does not fit into dtype int32$"),
        (lambda: pad([[2.0**31]]), ValueError, r"sequences\[0\]: 2147483648.0 does not fit"),
        (lambda: pad([[2.0**63]], dtype="int64"), ValueError, r"does not fit into dtype int64"),
        (lambda: pad([[-1]], dtype="uint16"), ValueError, r"sequences\[0\]: -1 does not fit into dtype uint16"),
        (lambda: pad([[1e39]], dtype="float32"), ValueError, r"1e\+39 does not fit into dtype float32"),
        (lambda: pad([[2]], dtype=bool), ValueError, "2 does not fit into dtype bool"),
        (lambda: buckets([[1], 2]), TypeError, r"sequences\[1\]: expected a sequence, got 2"),
        (lambda: buckets(KERAS, 0), ValueError, "lengths: expected an integer >= 1, got 0"),
        (lambda: buckets(KERAS, "8"), TypeError, "lengths: expected an integer, got '8'"),
        (lambda: buckets(KERAS, []), ValueError, "lengths: expected at least one length, got none"),
        (lambda: buckets(KERAS, [0, 3]), ValueError, r"lengths\[0\]: expected an integer >= 1, got 0"),
        (lambda: buckets(KERAS, [1, 2]), ValueError, r"sequences\[2\]: it has 3 steps, more than the longest"),
        (lambda: buckets(KERAS, [4], truncate=1), TypeError, "truncate: expected True or False"),
    ],
)  # fmt: skip
def test_errors(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_buckets_of_given_lengths():
    sequences = ["a" * n for n in (3, 1, 0, 8, 4, 5, 3)]
    found = buckets(sequences, [16, 4, 3, 8, 8])
    assert [(one.length, one.indices.tolist()) for one in found] == [(3, [0, 1, 2, 6]), (4, [4]), (8, [3, 5])]
    assert found[0].indices.dtype == np.int64
    short = buckets(sequences, [4], truncate=True)
    assert [(length, indices.tolist()) for length, indices in short] == [(4, [0, 1, 2, 3, 4, 5, 6])]
    assert buckets([], [4]) == [] == buckets([], 3)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20])
def test_the_lengths_that_pad_least(count):
    rng = np.random.default_rng(count)
    for _ in range(5):
        sizes = rng.integers(0, 12, 30)
        found = buckets([range(n) for n in sizes], count)
        assert sorted(np.concatenate([one.indices for one in found])) == list(range(30))
        for length, indices in found:
            assert (sizes[indices] <= length).all() and (np.diff(indices) > 0).all()
        steps = sum(length * len(indices) for length, indices in found)
        distinct = sorted(set(np.maximum(sizes, 1)))
        best = min(
            sum(min(bound for bound in (*chosen, distinct[-1]) if bound >= n) for n in sizes)
            for chosen in itertools.combinations(distinct[:-1], min(count, len(distinct)) - 1)
        )
        assert steps == best and len(found) <= count


def test_a_network_of_padded_sequences_learns():
    rng = np.random.default_rng(0)
    sequences = [rng.integers(1, 5, rng.integers(1, 9)) for _ in range(200)]
    labels = np.array([one[-1] % 2 for one in sequences])
    model = fnn.Sequential(
        [fnn.Input(8, dtype="int64"), fnn.Embedding(5, 4, mask_zero=True), fnn.GRU(8), fnn.Dense(2, "softmax")], seed=0
    )
    model.compile(fnn.Adam(0.02), "cross_entropy", metrics=["accuracy"])
    assert model.fit(pad(sequences, 8), labels, epochs=10, verbose=0).history["accuracy"][-1] > 0.9


def test_buckets_are_predicted_by_models_of_their_own():
    """As docs/sequences.md says: a model of shorter sequences, with the weights of the trained one."""

    def network(steps):
        layers = [fnn.Input(steps, dtype="int64"), fnn.Embedding(9, 4, mask_zero=True), fnn.LSTM(5), fnn.Dense(3)]
        model = fnn.Sequential(layers, seed=steps)
        model.compile("sgd", "mse")
        return model

    rng = np.random.default_rng(0)
    sequences = [rng.integers(1, 9, rng.integers(0, 30)) for _ in range(50)]
    whole = network(30)
    expected = whole.predict(pad(sequences, 30))
    for length, indices in buckets(sequences, 3):
        short = network(length)
        short.set_weights(whole.get_weights())
        found = short.predict(pad([sequences[i] for i in indices], length))
        assert np.allclose(found, expected[indices], atol=1e-6)


def test_fit_names_the_function_for_lists_of_unequal_lengths():
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(1)], seed=0)
    with pytest.raises(TypeError, match=r"x: expected an array of numbers.* fastnn\.data\.pad_sequences makes one"):
        model.predict(KERAS)
