"""Sequences that models continue: with a state or without, the same tokens."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.model.sampling import Sampling

RNG = np.random.default_rng(0)
TOKENS, STEPS = 17, 24
PROMPTS = [[3, 1, 4], [1], list(range(10)), [5] * 30]


@pytest.fixture
def threads():
    """Keep the number of threads for the tests that come after."""
    before = fnn.get_num_threads()
    yield before
    fnn.set_num_threads(before)


def lively(model, scale=0.5):
    """Give a model weights whose scores differ much."""
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0, scale, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def gpt(dtype="float32", activation="softmax"):
    return lively(
        fnn.applications.GPT(TOKENS, STEPS, 2, 2, 16, classifier_activation=activation, dtype=dtype, name="gpt")
    )


def grouped(dtype="float32"):
    x = fnn.Input(STEPS, dtype="int64")
    h = fnn.Embedding(TOKENS, 16)(x)
    h = fnn.Add()([h, fnn.GroupedQueryAttention(4, 4, 2, causal=True)(fnn.LayerNorm()(h))])
    return lively(fnn.Model(x, fnn.Dense(TOKENS)(h), dtype=dtype, name="grouped"))


def recurrent(layer=fnn.GRU, dtype="float32", sequences=True):
    x = fnn.Input(STEPS, dtype="int64")
    h = layer(12, return_sequences=True)(fnn.Embedding(TOKENS, 8)(x))
    h = layer(10, return_sequences=sequences)(h)
    return lively(fnn.Model(x, fnn.Dense(TOKENS, activation="softmax")(h), dtype=dtype, name="recurrent"))


MODELS = {
    "gpt": gpt, "logits": lambda dtype="float32": gpt(dtype, None), "grouped": grouped, "gru": recurrent,
    "lstm": lambda dtype="float32": recurrent(fnn.LSTM, dtype),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_same_tokens_with_and_without_the_states_of_earlier_ones(name):
    model, count = MODELS[name](), 40 if name in ("gpt", "logits", "grouped") else 14
    prompts = PROMPTS if count == 40 else PROMPTS[:3]
    found = model.generate(prompts, count, seed=5)
    whole = model.generate(prompts, count, seed=5, cache=False)
    assert [len(one) for one in found] == [count] * len(prompts)
    for one, other in zip(found, whole, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(np.unique(np.concatenate(found))) > 5


@pytest.mark.parametrize("name", ["gpt", "lstm"])
def test_the_same_tokens_on_any_number_of_threads_alone_or_beside_others(name, threads):
    model = MODELS[name]()
    found = model.generate(PROMPTS, 30, 0.7, seed=2)
    for number in (1, 2, 3):
        fnn.set_num_threads(number)
        for one, other in zip(found, model.generate(PROMPTS, 30, 0.7, seed=2), strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(model.generate(PROMPTS[0], 30, 0.7, seed=2), found[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_greedy_tokens_are_those_of_predictions(dtype):
    """Where there is no room for another token, the second half of the tokens is the new beginning."""
    model = gpt(dtype)
    found = model.generate(PROMPTS, 50, temperature=0.0)
    for prompt, tokens in zip(PROMPTS, found, strict=True):
        window = list(prompt)[-STEPS:]
        for token in tokens:
            padded = np.zeros((1, STEPS), np.int64)
            padded[0, : len(window)] = window
            assert model.predict(padded)[0, len(window) - 1].argmax() == token
            window.append(token)
            if len(window) > STEPS:
                window = window[-(STEPS // 2) :]


def test_recurrent_networks_know_all_earlier_tokens():
    """Not only as many as the model takes at a time."""
    model = recurrent()
    tokens = model.generate([1, 2], 60, temperature=0.0)
    x = fnn.Input(62, dtype="int64")
    h = fnn.GRU(12, return_sequences=True)(fnn.Embedding(TOKENS, 8)(x))
    longer = fnn.Model(x, fnn.Dense(TOKENS, activation="softmax")(fnn.GRU(10, return_sequences=True)(h)))
    longer.set_weights(model.get_weights())
    every = np.concatenate([[1, 2], tokens])
    np.testing.assert_array_equal(longer.predict(every[None])[0, 1:-1].argmax(axis=1), tokens)
    with pytest.raises(ValueError, match="takes 24 tokens at a time, got 25"):
        model.generate([1, 2], 60, cache=False)


def test_models_that_give_the_next_token_only():
    """Their scores after the last step are those after each, when they go step by step."""
    sequences, last = recurrent(), recurrent(sequences=False)
    last.set_weights(sequences.get_weights())
    np.testing.assert_array_equal(sequences.generate([4, 4], 30, seed=1), last.generate([4, 4], 30, seed=1))
    with pytest.raises(ValueError, match="return_sequences=True"):
        last.generate([4, 4], 3, cache=False)


def test_streams(threads):
    model = gpt()
    wanted = model.generate([1, 2, 3], 30, seed=4)
    stream = model.stream([1, 2, 3], 30, seed=4)
    assert [next(stream) for _ in range(10)] == wanted[:10].tolist()
    fnn.set_num_threads(1)
    assert list(stream) == wanted[10:].tolist()
    pairs = list(model.stream([[1, 2, 3], [7]], 5, seed=4))
    assert [row for row, _ in pairs] == [0, 1] * 5
    assert [token for row, token in pairs if row == 0] == wanted[:5].tolist()


def test_tokens_that_end_a_sequence():
    model = gpt()
    free = model.generate(PROMPTS, 40, seed=9)
    stop = [int(free[0][6]), int(free[2][3])]
    found = model.generate(PROMPTS, 40, seed=9, stop=stop)
    for one, tokens in zip(free, found, strict=True):
        ends = np.flatnonzero(np.isin(one, stop))
        np.testing.assert_array_equal(tokens, one[: ends[0]] if len(ends) else one)
    assert len({len(tokens) for tokens in found}) > 1
    alone = model.generate(PROMPTS[0], 40, seed=9, stop=stop[0])
    np.testing.assert_array_equal(alone, free[0][: np.flatnonzero(free[0] == stop[0])[0]])


def test_new_weights_count_at_once():
    model = gpt()
    before = model.generate([1], 20, temperature=0.0)
    model.set_weights([1.5 * w[::-1] if w.ndim == 2 else w for w in model.get_weights()])
    after = model.generate([1], 20, temperature=0.0)
    assert (before != after).any()
    np.testing.assert_array_equal(after, model.generate([1], 20, temperature=0.0, cache=False))


def test_frequencies_are_the_probabilities():
    scores = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    random = np.random.default_rng(0)

    def frequencies(*arguments):
        sampling, n = Sampling.of(*arguments), 20_000
        return np.bincount([sampling.choose(scores, random) for _ in range(n)], minlength=4) / n

    np.testing.assert_allclose(frequencies(1.0, None, None), [0.4, 0.3, 0.2, 0.1], atol=0.015)
    sharper = np.array([0.4, 0.3, 0.2, 0.1]) ** 2
    np.testing.assert_allclose(frequencies(0.5, None, None), sharper / sharper.sum(), atol=0.015)
    np.testing.assert_allclose(frequencies(1.0, 2, None), [4 / 7, 3 / 7, 0, 0], atol=0.015)
    np.testing.assert_allclose(frequencies(1.0, None, 0.75), [4 / 9, 3 / 9, 2 / 9, 0], atol=0.015)
    np.testing.assert_allclose(frequencies(1.0, 2, 0.5), [1, 0, 0, 0])
    np.testing.assert_allclose(frequencies(1e-30, None, None), [1, 0, 0, 0])


def test_tokens_of_probability_0_never_come():
    scores = np.array([-np.inf, 0.0, -np.inf, 1.0, -np.inf])
    for arguments in ((1.0, None, None), (5.0, 4, None), (1.0, None, 0.999)):
        sampling, random = Sampling.of(*arguments), np.random.default_rng(0)
        assert {sampling.choose(scores, random) for _ in range(300)} == {1, 3}

    class Last:
        """The largest number that a generator draws."""

        def random(self):
            return np.nextafter(1.0, 0.0)

    assert Sampling().choose(scores, Last()) == 3


def test_what_cannot_be_continued():
    model = gpt()
    with pytest.raises(TypeError, match="got a text: encode it first"):
        model.generate("once", 3)
    for wrong in ([], [[]], [[1], []]):
        with pytest.raises(ValueError, match="expected at least one token"):
            model.generate(wrong, 3)
    with pytest.raises(TypeError, match="expected a sequence of integers"):
        model.generate([0.5, 1.0], 3)
    with pytest.raises(ValueError, match=r"prompt\[1\]\[2\]: expected a token from 0 to 16, got 17"):
        model.generate([[1], [1, 2, 17]], 3)
    for wrong in ({1, 2}, {1: 2}, [1, [2]], [[1], 2], [[1, [2]], [3]], [[[1]]]):
        with pytest.raises(TypeError, match=r"prompt.*expected a sequence of"):
            model.generate(wrong, 3)
    with pytest.raises(ValueError, match="masked"):
        model.generate(np.ma.masked_array([1, 2], [0, 1]), 3)
    for one in (3, np.int64(3), np.array(3), np.array([3], np.uint8), (3,)):
        assert (model.generate(one, 4, seed=0, stop=np.array(99)) == model.generate([3], 4, seed=0)).all()
    for arguments, error, message in (
        ({"n": 0}, ValueError, "n: expected an integer >= 1"),
        ({"temperature": -1.0}, ValueError, "temperature"),
        ({"top_k": 0}, ValueError, "top_k"),
        ({"top_p": 1.5}, ValueError, "top_p"),
        ({"stop": "x"}, TypeError, "stop"),
        ({"seed": 1.5}, TypeError, "seed"),
        ({"cache": 1}, TypeError, "cache"),
    ):
        with pytest.raises(error, match=message):
            model.generate([1], **{"n": 2, **arguments})
        with pytest.raises(error, match=message):
            model.stream([1], **{"n": 2, **arguments})
    with pytest.raises(ValueError, match="expected one input of tokens"):
        fnn.Sequential([fnn.Input(3), fnn.Dense(2)]).generate([1], 2)
    with pytest.raises(RuntimeError, match="not built"):
        fnn.Sequential([fnn.Dense(2)]).generate([1], 2)


def test_networks_that_look_ahead_are_refused():
    x = fnn.Input(STEPS, dtype="int64")
    h = fnn.Embedding(TOKENS, 8)(x)
    for layer, reason in (
        (fnn.MultiHeadAttention(2, 4), "not causal"),
        (fnn.Bidirectional(fnn.GRU(4, return_sequences=True)), "no recurrent layer that goes step by step"),
    ):
        model = fnn.Model(x, fnn.Dense(TOKENS)(layer(h)))
        with pytest.raises(ValueError, match=f"{reason}.*cache=False"):
            model.generate([1, 2], 3)
        with pytest.raises(ValueError, match="depend on tokens that come after"):
            model.generate([1, 2], 3, cache=False)


def test_causal_networks_of_other_layers_go_without_states():
    x = fnn.Input(STEPS, dtype="int64")
    h = fnn.Conv1D(8, 3, padding="causal", activation="tanh")(fnn.Embedding(TOKENS, 8)(x))
    model = lively(fnn.Model(x, fnn.Dense(TOKENS, activation="softmax")(h)))
    assert len(model.generate([1, 2], 40, seed=0, cache=False)) == 40
    with pytest.raises(ValueError, match="cache=False"):
        model.generate([1, 2], 3)


def test_scores_that_are_not_finite():
    model = gpt()
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    for cache in (True, False):
        with pytest.raises(ValueError, match="not finite"):
            model.generate([1], 3, cache=cache)


def test_scores_of_unknown_tokens():
    x = fnn.Input(STEPS, dtype="int64")
    model = fnn.Model(x, fnn.Dense(9)(fnn.GRU(4, return_sequences=True)(fnn.Embedding(5, 3)(x))))
    with pytest.raises(ValueError, match="scores of 9 tokens, but takes only 5"):
        model.generate([1], 3)
