"""Windows, packed rows and masked words, against plain Python; and that `fit` reads windows in place."""

import tracemalloc

import numpy as np
import pytest

import fastnn as fnn

windows, pack, mask_words = fnn.text.windows, fnn.text.pack, fnn.text.mask_words


@pytest.mark.parametrize("length", [1, 2, 5, 9])
@pytest.mark.parametrize("step", [None, 1, 3, 20])
def test_windows_are_views(length, step):
    tokens = np.arange(100, 110, dtype=np.uint16)
    x, y = windows(tokens, length, step)
    starts = range(0, 10 - length, step or 1)
    assert x.tolist() == [tokens[i : i + length].tolist() for i in starts]
    assert y.tolist() == [tokens[i + 1 : i + 1 + length].tolist() for i in starts]
    for one in (x, y):
        assert np.shares_memory(one, tokens) and one.dtype == np.uint16
        with pytest.raises(ValueError, match="read-only"):
            one[0, 0] = 1
    assert np.array_equal(windows(tokens.tolist(), length, step)[0], x)


def network(steps, size):
    layers = [fnn.Input(steps, dtype="int64"), fnn.Embedding(size, 4), fnn.Dense(size, activation="softmax")]
    model = fnn.Sequential(layers, seed=0)
    model.compile("sgd", "cross_entropy")
    return model


def test_fit_reads_windows_of_a_file_in_place(tmp_path):
    steps, size = 64, 50
    path = tmp_path / "tokens.bin"
    np.random.default_rng(0).integers(0, size, 100_000).astype(np.uint16).tofile(path)
    tokens = np.memmap(path, np.uint16, "r")
    x, y = windows(tokens, steps)
    copies = np.array(x[:200], np.int64), np.array(y[:200], np.int64)
    one, other = network(steps, size), network(steps, size)
    one.fit(*copies, batch_size=32, epochs=1, verbose=0)
    # a first call compiles and imports
    other.fit(x[:200], y[:200], batch_size=32, epochs=1, verbose=0)
    for mine, others in zip(one.get_weights(), other.get_weights(), strict=True):
        assert np.array_equal(mine, others)
    whole = x.size * x.itemsize
    tracemalloc.start()
    other.fit(x, y, batch_size=32, epochs=1, verbose=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < whole / 4, "inputs or labels were copied as a whole"


def test_packed_rows():
    sequences = [[5, 6, 7], [], [8], [5, 8]]
    flat = [5, 6, 7, 1, 1, 8, 1, 5, 8, 1]
    for length in (1, 2, 3, 4, 10, 11):
        count = -(-len(flat) // length)
        padded = [*flat, *[0] * (count * length - len(flat))]
        found = pack(sequences, length, 1)
        assert found.dtype == np.uint8 and found.shape == (count, length) and found.ravel().tolist() == padded
        cut = pack(iter(sequences), length, 1, padding=None)
        full = len(flat) // length
        assert cut.shape == (full, length) and cut.ravel().tolist() == flat[: full * length]
    assert pack([], 3, 0).shape == (0, 3) and pack([[]], 2, 9, padding=7).tolist() == [[9, 7]]
    assert pack([[1]], 2, 300).dtype == np.uint16 == pack([[256]], 2, 0).dtype == pack([[1]], 3, 0, padding=999).dtype
    assert pack([np.array([70000])], 2, 0).dtype == np.uint32 and pack([[1]], 2, 0, dtype="int64").dtype == np.int64


def test_masked_words():
    rng = np.random.default_rng(0)
    size, mask = 1000, 2
    tokens = rng.integers(3, size, (200, 500)).astype(np.uint16)
    tokens[:, 400:] = 0
    tokens[:, 99::100] = 1
    before = tokens.copy()
    x, y, w = mask_words(tokens, size, mask, seed=1, special=(0, 1))
    assert np.array_equal(tokens, before) and np.array_equal(y, tokens) and not np.shares_memory(y, tokens)
    assert x.dtype == y.dtype == np.uint16 and w.dtype == np.float32 and x.shape == y.shape == w.shape
    words, chosen = tokens > 1, w == 1
    assert set(np.unique(w)) == {0.0, 1.0} and not (chosen & ~words).any() and np.array_equal(x[~chosen], y[~chosen])
    # 79,200 words: a deviation of four standard deviations
    n = int(words.sum())
    assert abs(chosen.sum() / n - 0.15) < 4 * np.sqrt(0.15 * 0.85 / n)
    n = int(chosen.sum())
    hidden, kept = (x == mask) & chosen, (x == y) & chosen
    for part, share in ((hidden, 0.8), (kept, 0.1), (chosen & ~hidden & ~kept, 0.1)):
        assert abs(part.sum() / n - share) < 4 * np.sqrt(share * (1 - share) / n) + 1 / size
    drawn = x[chosen & ~hidden & ~kept]
    assert drawn.min() > mask and drawn.max() < size and len(np.unique(drawn)) > 500
    again = mask_words(tokens, size, mask, seed=1, special=(0, 1))
    assert all(np.array_equal(one, other) for one, other in zip(again, (x, y, w), strict=True))
    assert not np.array_equal(mask_words(tokens, size, mask, seed=2)[2], w)
    assert not np.array_equal(mask_words(tokens, size, mask)[2], mask_words(tokens, size, mask)[2])


def test_masked_words_at_the_edges():
    tokens = np.array([3, 0, 4])
    x, y, w = mask_words(tokens, 5, 1, 1.0, seed=0)
    assert w.tolist() == [1, 0, 1] and y.tolist() == [3, 0, 4] and x[1] == 0
    assert mask_words(tokens, 5, 1, 0.0)[2].sum() == 0 and mask_words([], 5, 1)[2].shape == (0,)
    for dtype in ("int8", "uint64"):
        assert mask_words(tokens.astype(dtype), 5, 1, 1.0, seed=0)[0].dtype == dtype
    # the only word there is
    assert set(mask_words([1] * 50, 3, 2, 1.0, seed=0)[0]) == {1, 2}


def test_a_network_guesses_masked_words():
    tokens = np.tile(np.arange(2, 10), (100, 2)) + np.random.default_rng(0).integers(0, 2, (100, 1)) * 8
    x, y, w = mask_words(tokens, 18, 1, seed=0)
    model = fnn.Sequential(
        [
            fnn.Input(16, dtype="int64"), fnn.Embedding(18, 8), fnn.Bidirectional(fnn.GRU(16, return_sequences=True)),
            fnn.Dense(18, activation="softmax"),
        ],
        seed=0,
    )  # fmt: skip
    model.compile(fnn.Adam(0.02), fnn.CrossEntropy(normalize="weights"))
    loss = model.fit(x, y, sample_weight=w, epochs=15, verbose=0).history["loss"]
    assert loss[-1] < 0.5 < 2.0 < loss[0]


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: windows([1, 2, 3], 3), ValueError, "a window of 3 and the next token take 4 tokens, got 3"),
        (lambda: windows([], 1), ValueError, "take 2 tokens, got 0"),
        (lambda: windows([[1, 2]], 1), ValueError, r"tokens: expected 1 axis, got shape \(1, 2\)"),
        (lambda: windows([1.0, 2.0], 1), TypeError, "tokens: expected whole numbers, got .* float64"),
        (lambda: windows([[1], [1, 2]], 1), ValueError, "tokens: expected an array of whole numbers"),
        (lambda: windows("abc", 1), TypeError, "tokens: expected whole numbers, got 'abc'; a vocabulary's encode"),
        (lambda: windows([1, 2], 0), ValueError, "length: expected an integer >= 1, got 0"),
        (lambda: windows([1, 2], 1, 0), ValueError, "step: expected an integer >= 1, got 0"),
        (lambda: pack([[1]], 0, 0), ValueError, "length: expected an integer >= 1"),
        (lambda: pack([[1]], 2, -1), ValueError, "separator: expected an integer >= 0, got -1"),
        (lambda: pack([[1]], 2, 0, padding=-1), ValueError, "padding: expected an integer >= 0, got -1"),
        (lambda: pack([[1], [-2]], 2, 0), ValueError, r"sequences\[1\]: expected numbers >= 0, got -2"),
        (lambda: pack([[1], "a"], 2, 0), TypeError, r"sequences\[1\]: expected whole numbers, got 'a'"),
        (lambda: pack(["abc"], 2, 0), TypeError, "a vocabulary's encode makes them"),
        (lambda: pack(3, 2, 0), TypeError, "sequences: expected an iterable of arrays of whole numbers, got 3"),
        (lambda: pack([[1]], 2, 300, dtype="uint8"), ValueError, "dtype: uint8 does not hold 300"),
        (lambda: pack([[1]], 2, 0, dtype="float32"), TypeError, "dtype: expected a dtype of integers, got 'float32'"),
        (lambda: mask_words([[[1]]], 3, 2), ValueError, r"tokens: expected the shape \(n, steps\) or \(steps,\)"),
        (lambda: mask_words([1, 3], 3, 2), ValueError, "tokens: expected numbers from 0 to 2, got 3 at 1"),
        (lambda: mask_words([[1, -1]], 3, 2), ValueError, r"tokens: expected numbers from 0 to 2, got -1 at \[0, 1\]"),
        (lambda: mask_words([1], 3, 3), ValueError, "mask: expected an integer <= 2, got 3"),
        (lambda: mask_words([1], 3, 2, 1.5), ValueError, "rate: expected a number >= 0 and <= 1, got 1.5"),
        (lambda: mask_words([1], 3, 2, seed="a"), TypeError, "seed: expected an int"),
        (lambda: mask_words([1], 3, 2, special=[5]), ValueError, r"special\[0\]: expected an integer <= 2, got 5"),
        (lambda: mask_words([1], 2, 1), ValueError, "a vocabulary of 2 numbers, of which 2 are special, holds no word"),
        (lambda: mask_words(np.array([1], np.int8), 300, 200), ValueError, "mask: 200 does not fit .* int8"),
    ],
)  # fmt: skip
def test_errors(make, error, match):
    with pytest.raises(error, match=match):
        make()
