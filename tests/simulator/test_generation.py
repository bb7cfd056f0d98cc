"""Sequences that models on a simulated GPU continue, with states that stay there, against models on the CPU."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn import ops
from fastnn.runtime.device import steps
from own_cells import Associative

TOKENS, STEPS = 7, 8


def lively(model):
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0, 0.7, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def gpt():
    return lively(fnn.applications.GPT(TOKENS, STEPS, 1, 2, 4, dtype="float64", name="gpt"))


def grouped():
    x = fnn.Input(STEPS, dtype="int64")
    h = fnn.Embedding(TOKENS, 4)(x)
    h = fnn.Add()([h, fnn.GroupedQueryAttention(2, 2, 1, causal=True)(fnn.LayerNorm()(h))])
    return lively(fnn.Model(x, fnn.Dense(TOKENS)(h), dtype="float64"))


def recurrent():
    """Odd numbers: rows of the state begin where kernels may not read 16 bytes."""
    x = fnn.Input(STEPS, dtype="int64")
    h = fnn.GRU(3, return_sequences=True)(fnn.Embedding(TOKENS, 3)(x))
    h = fnn.RNN(Associative(2), return_sequences=True)(h)
    return lively(fnn.Model(x, fnn.Dense(TOKENS, activation="softmax")(h), dtype="float64"))


MODELS = {"gpt": gpt, "grouped": grouped, "recurrent": recurrent}


@pytest.mark.parametrize("name", MODELS)
def test_the_same_tokens_as_on_the_cpu(name, monkeypatch):
    """Also prompts that are read in parts, sequences that end earlier, and where there is no more room."""
    taken, usual = [], steps._Steps.__call__
    monkeypatch.setattr(
        steps._Steps, "__call__", lambda self, x, halves: taken.append(x.shape) or usual(self, x, halves)
    )
    model, prompts = MODELS[name](), [[3, 1, 4, 1, 5, 2], [1], [6, 2]]
    wanted = model.generate(prompts, 9, seed=5, stop=[0])
    assert len({len(tokens) for tokens in wanted}) > 1 or name != "gpt"
    model.to("cuda")
    found = model.generate(prompts, 9, seed=5, stop=[0])
    assert [tokens.tolist() for tokens in found] == [tokens.tolist() for tokens in wanted]
    assert (1, 4) in taken and (1,) in taken and (3,) in taken
    # one token after the other, and new weights count at once
    lively(model).set_weights([0.5 * weight for weight in model.get_weights()])
    there = list(model.stream([3, 1], 5, seed=1))
    model.to("cpu")
    assert there == list(model.stream([3, 1], 5, seed=1))


def test_networks_that_cannot_go_step_by_step_and_calls_that_do_not():
    x = fnn.Input(STEPS, dtype="int64")
    h = fnn.GRU(3, return_sequences=True, go_backwards=True)(fnn.Embedding(TOKENS, 3)(x))
    model = fnn.Model(x, fnn.Dense(TOKENS)(h), seed=0, device="cuda")
    with pytest.raises(ValueError, match="goes backwards; cache=False takes causal networks"):
        model.generate([1, 2], 3)
    drawn = fnn.Dense(TOKENS)(fnn.GRU(3, return_sequences=True)(fnn.Embedding(TOKENS, 3)(x)))
    model = fnn.Model(x, drawn + ops.random_normal((TOKENS,)), seed=0, device="cuda")
    with pytest.raises(ValueError, match=r"draws random numbers, .*; cache=False takes causal networks"):
        model.generate([1, 2], 3)
    # without states, too, the tokens are those of the CPU
    model = gpt()
    wanted = model.generate([1, 2], 3, seed=2)
    model.to("cuda")
    np.testing.assert_array_equal(model.generate([1, 2], 3, seed=2, cache=False), wanted)


def test_a_model_that_moves_while_a_text_is_made(fake):
    """Through the driver: a step is one graph, and the state stays where it is."""
    model = gpt()
    wanted = model.generate([1, 2], 7, seed=2)
    model.to("cuda")
    tokens = model.stream([1, 2], 7, seed=2)
    found = [next(tokens) for _ in range(4)]
    calls = list(fake.calls)
    found.append(next(tokens))
    assert fake.calls[len(calls) :].count("cuGraphLaunch") == 1 and "cuLaunchKernel" not in fake.calls[len(calls) :]
    model.to("cpu")
    assert [*found, *tokens] == wanted.tolist()
