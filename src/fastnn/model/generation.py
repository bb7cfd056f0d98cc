"""Sequences that a network continues: each next token is chosen by the scores that it gives for the tokens so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import casts, checks, seeding
from fastnn.hints import explained
from fastnn.layers.architecture import Architecture
from fastnn.layers.ranges import InputSpec
from fastnn.locks import importing
from fastnn.model.extras import ExtrasMixin
from fastnn.model.sampling import Sampling


class GeneratingMixin(ExtrasMixin):
    """A network that continues sequences of tokens."""

    @explained
    def generate(
        self,
        prompt: Any,
        n: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | np.random.Generator | None = None,
        stop: int | Iterable[int] | None = None,
        *,
        cache: bool = True,
    ) -> NDArray[np.int64] | list[NDArray[np.int64]]:
        """Continue sequences of tokens, one token after the other.

        ::

            text.decode(model.generate(text.encode("Once upon a time"), 200, temperature=0.8, seed=0))

        Parameters
        ----------
        prompt : sequence of int, or sequence of such sequences
            The tokens that are continued, of one sequence or of several of any lengths: at least one each.
        n : int
            How many tokens to add at most.
        temperature : float
            Divides the logarithms of probabilities: below 1 likely tokens become likelier. 0 always takes the most
            probable one.
        top_k : int, optional
            Choose among the k most probable tokens only.
        top_p : float, optional
            Choose among the most probable tokens that together have this probability only.
        seed : int or numpy.random.Generator, optional
            The same seed gives the same tokens, for any number of threads, and for a prompt whatever other prompts come
            after it. None draws one.
        stop : int or iterable of int, optional
            Tokens that end a sequence; they are not returned.
        cache : bool
            Whether to keep the states of recurrent layers, and the keys and values of attention, from token to token.
            False computes the whole sequence again for each token; then recurrent networks, too, take only as many
            tokens as their input has steps.

        Returns
        -------
        ndarray of int64, shape (tokens,), or list of such
            The new tokens; a list for several prompts.

        Raises
        ------
        TypeError
            When prompt or stop are no integers.
        ValueError
            When the model does not take tokens and give scores of tokens for a step, or it cannot go step by step (see
            `freeze`), with `cache`; when tokens depend on later ones, without it; when an argument is out of range, or
            the scores are not finite.
        RuntimeError
            When the model is not built.

        Notes
        -----
        Outputs are probabilities where they come from softmax, else their logarithms up to a constant (logits).
        A model with positions or attention takes only so many tokens; when there is no room for another one, the second
        half of them becomes its new beginning. Of a longer prompt it takes the last tokens for which there is room.
        """
        prompts, several = _prompts(self.name, self._state.require_built().table.architecture, prompt)
        found: list[list[int]] = [[] for _ in prompts]
        for row, token in self._tokens(prompts, n, Sampling.of(temperature, top_k, top_p), seed, stop, cache=cache):
            found[row].append(token)
        arrays = [np.array(tokens, np.int64) for tokens in found]
        return arrays if several else arrays[0]

    @explained
    def stream(
        self,
        prompt: Any,
        n: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | np.random.Generator | None = None,
        stop: int | Iterable[int] | None = None,
        *,
        cache: bool = True,
    ) -> Iterator[Any]:
        """Iterate over the tokens of `generate` as they are chosen.

        ::

            for token in model.stream(text.encode("Once upon a time"), 200, seed=0):
                print(text.decode([token]), end="", flush=True)

        Parameters and errors are those of `generate`.

        Returns
        -------
        iterator of int, or of (int, int)
            The next token; of several prompts the number of the prompt and its next token.
        """
        prompts, several = _prompts(self.name, self._state.require_built().table.architecture, prompt)
        chosen = self._tokens(prompts, n, Sampling.of(temperature, top_k, top_p), seed, stop, cache=cache)
        return chosen if several else (token for _, token in chosen)

    def _tokens(
        self, prompts: list[list[int]], n: Any, sampling: Sampling, seed: Any, stop: Any, *, cache: bool
    ) -> Iterator[tuple[int, int]]:
        """Check the other arguments, and iterate over the chosen tokens, with the number of their prompt."""
        n, stops = checks.integer("n", n), _stops(stop)
        number = seeding.as_seed(seed)
        with importing:
            from fastnn.model.continuing import Continued, Network

        states = self._runtime.states

        def predict(x: NDArray[np.int64]) -> Any:
            # whole sequences, which begin with zeros
            with states.apart():
                return self.predict(x)

        network = Network(self.name, self._runtime, predict if states else self.predict, self._runtime_of_steps)
        continued = Continued(network, prompts, checks.flag("cache", cache))
        randoms = [seeding.derive(number, "tokens", row) for row in range(len(prompts))]
        return _chosen(continued, n, sampling, randoms, stops)

    def _runtime_of_steps(self, steps: int | None) -> Any:
        """Return the runtime of the model of one time step, or of several that are known."""
        return self._next_steps(steps)._present_runtime()

    def _present_runtime(self) -> Any:
        return self._runtime


def _prompts(name: str, architecture: Architecture, prompt: Any) -> tuple[list[list[int]], bool]:
    """Return the tokens of each prompt, and whether there may be several."""
    spec = _spec(name, architecture)
    if isinstance(prompt, (str, bytes)):
        raise TypeError("prompt: expected tokens, as integers, got a text: encode it first, as by fastnn.text")
    if isinstance(prompt, (Set, Mapping)):
        raise TypeError(f"prompt: expected a sequence of tokens, got {checks.shorten(prompt)}")
    given = list(prompt) if _is_row(prompt) else [prompt]
    several = any(_is_row(one) for one in given)
    if not several:
        casts.refuse_masked(prompt, "prompt")
        return [_checked("prompt", given, spec)], False
    return [_checked(f"prompt[{row}]", one, spec) for row, one in enumerate(given)], True


def _is_row(value: Any) -> bool:
    return isinstance(value, Iterable) and not (isinstance(value, np.ndarray) and value.ndim == 0)


def _checked(name: str, tokens: Any, spec: InputSpec) -> list[int]:
    """Return tokens, checked."""
    casts.refuse_masked(tokens, name)
    try:
        array = np.asarray(tokens)
    except ValueError:  # rows of several lengths
        array = np.zeros((1, 1))
    if array.size == 0:
        raise ValueError(f"{name}: expected at least one token")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected a sequence of integers, got {checks.shorten(tokens)}")
    found: list[int] = array.tolist()
    for place, token in enumerate(found):
        if not spec.low <= token <= spec.high:
            raise ValueError(f"{name}[{place}]: expected a token from {spec.low} to {spec.high}, got {token}")
    return found


def _spec(name: str, architecture: Architecture) -> InputSpec:
    """Return the description of the input, of a model that takes tokens and gives scores.

    Raises
    ------
    ValueError
        When it does not.
    """
    specs, shapes = architecture.input_specs, architecture.output_shapes
    if len(specs) != 1 or specs[0].kind != "int64" or len(specs[0].shape) != 1:
        raise ValueError(f"model {name!r}: expected one input of tokens, fastnn.Input(steps, dtype='int64')")
    if len(shapes) != 1 or len(shapes[0]) not in (1, 2) or shapes[0][:-1] not in ((), specs[0].shape):
        raise ValueError(
            f"model {name!r}: expected one output of scores of tokens, of shape (tokens,) or (steps, tokens)"
        )
    spec: InputSpec = specs[0]
    return spec


def _stops(stop: Any) -> frozenset[int]:
    """Return the tokens that end a sequence."""
    if stop is None:
        return frozenset()
    stop = stop.tolist() if isinstance(stop, np.ndarray) else stop
    tokens = list(stop) if _is_row(stop) and not isinstance(stop, (str, bytes)) else [stop]
    return frozenset(checks.integer("stop", token, at_least=0) for token in tokens)


def _chosen(
    continued: Any, n: int, sampling: Sampling, randoms: Sequence[np.random.Generator], stops: frozenset[int]
) -> Iterator[tuple[int, int]]:
    rows = list(range(len(randoms)))
    for number in range(n):
        ongoing = []
        for at, (row, scores) in enumerate(zip(rows, continued.scores(), strict=True)):
            token = sampling.choose(scores, randoms[row])
            if token in stops:
                continue
            continued.add(at, token)
            ongoing.append(at)
            yield row, token
        if not ongoing:
            return
        if len(ongoing) < len(rows) and number < n - 1:
            continued.keep(ongoing)
            rows = [rows[at] for at in ongoing]
