"""The choice of a token, given the scores of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import checks


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    The scores are divided by the temperature, then `top_k` leaves the largest, then `top_p` the most probable of these,
    as in Transformers.

    Attributes
    ----------
    temperature : float
        0 takes the largest score.
    top_k : int, optional
        Only the tokens with the k largest scores; more, where several share the least of these.
    top_p : float, optional
        Only the most probable tokens that together have at least this probability (nucleus sampling, Holtzman et al.
        2020); one at least.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    @classmethod
    def of(cls, temperature: Any, top_k: Any, top_p: Any) -> Sampling:
        """Return what arguments say, checked."""
        return cls(
            checks.number("temperature", temperature, at_least=0.0),
            None if top_k is None else checks.integer("top_k", top_k),
            None if top_p is None else checks.number("top_p", top_p, above=0.0, at_most=1.0),
        )

    def choose(self, scores: NDArray[Any], random: np.random.Generator) -> int:
        """Return a token.

        Parameters
        ----------
        scores : ndarray of float, shape (tokens,)
            Logarithms of probabilities, up to a constant; -inf for those that never come.
        random : numpy.random.Generator
            One number is drawn, unless the temperature is 0.
        """
        if self.temperature == 0.0:
            return int(scores.argmax())
        tokens = None
        if self.top_k is not None and self.top_k < len(scores):
            least = np.partition(scores, -self.top_k)[-self.top_k]
            tokens = np.flatnonzero(scores >= least)
            scores = scores[tokens]
        scaled = scores.astype(np.float64)
        # the difference first: a large score divided by a small temperature would be infinite
        with np.errstate(over="ignore"):
            weights = np.exp((scaled - scaled.max()) / self.temperature)
        if self.top_p is not None and self.top_p < 1.0:
            order = np.argsort(-weights, kind="stable")
            sums = weights[order].cumsum()
            order = order[: 1 + int(sums.searchsorted(self.top_p * sums[-1]))]
            weights, tokens = weights[order], order if tokens is None else tokens[order]
        sums = weights.cumsum()
        # rounding may give the sum itself, which is beyond the last token that can come
        at = min(int(sums.searchsorted(random.random() * sums[-1], side="right")), int(weights.nonzero()[0][-1]))
        return at if tokens is None else int(tokens[at])
