"""Masked words, as BERT was trained with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.checks import integer, number
from fastnn.seeding import as_seed, derive
from fastnn.text.tokens import Tokens, as_tokens, check_range


def mask_words(
    tokens: npt.ArrayLike,
    size: int,
    mask: int,
    rate: float = 0.15,
    *,
    seed: int | np.integer[Any] | np.random.Generator | None = None,
    special: Iterable[int] = (0,),
) -> tuple[Tokens, Tokens, npt.NDArray[np.float32]]:
    """Hide some words, for a network that guesses them.

    Each word is chosen with the probability `rate`, independently of others. Of the chosen ones 80 % become the mask
    number, 10 % a random word, and 10 % stay as they are (Devlin et al., 2019, "BERT: Pre-training of Deep
    Bidirectional Transformers for Language Understanding", section 3.1, which chooses 15 % of each text).

    ``model.fit(inputs, labels, sample_weight=weights)`` trains on the chosen words alone; with
    ``CrossEntropy(normalize="weights")`` the loss is the mean over them.

    Parameters
    ----------
    tokens : array of integers, shape (n, steps) or (steps,)
        From 0 to size - 1. It is not changed.
    size : int
        Of the vocabulary, such as ``len(vocabulary)``.
    mask : int
        The number that stands for a hidden word, from 0 to size - 1.
    rate : float
        Between 0 and 1.
    seed : int, numpy.random.Generator or None
        Equal seeds give equal results; None a different one in each call.
    special : iterable of int
        Numbers of no words, which are never chosen and never a random word, as `mask` is not: padding, separators.

    Returns
    -------
    inputs : array of the dtype and shape of `tokens`
    labels : the same
        A copy of `tokens`.
    weights : array of float32, the same shape
        1 where a word was chosen, 0 elsewhere.

    Raises
    ------
    TypeError
        Tokens, numbers or seed of another type.
    ValueError
        Numbers out of range, or a vocabulary that holds no word.

    Examples
    --------
    >>> x, y, w = fnn.text.mask_words(tokens, len(vocabulary), vocabulary.number("[MASK]"), seed=epoch)
    """
    array = as_tokens(tokens, "tokens", None)
    if array.ndim not in (1, 2):
        raise ValueError(f"tokens: expected the shape (n, steps) or (steps,), got {array.shape}")
    words = integer("size", size)
    hidden = integer("mask", mask, at_least=0, at_most=words - 1)
    chance = number("rate", rate, at_least=0.0, at_most=1.0)
    none = {integer(f"special[{i}]", one, at_least=0, at_most=words - 1) for i, one in enumerate(special)} | {hidden}
    check_range(array, words, "tokens")
    if hidden > np.iinfo(array.dtype).max:
        raise ValueError(f"mask: {hidden} does not fit into the dtype of the tokens, {array.dtype}")
    is_word = np.ones(words, bool)
    is_word[list(none)] = False
    candidates = np.flatnonzero(is_word)
    candidates = candidates[candidates <= np.iinfo(array.dtype).max]
    if not len(candidates):
        raise ValueError(f"size: a vocabulary of {words} numbers, of which {len(none)} are special, holds no word")
    rng = derive(as_seed(seed), "mask_words")
    chosen = (rng.random(array.shape) < chance) & is_word[array]
    draw = rng.random(array.shape)
    inputs = np.where(chosen & (draw < 0.8), np.array(hidden, array.dtype), array)
    random = chosen & (draw >= 0.8) & (draw < 0.9)
    inputs[random] = candidates[rng.integers(len(candidates), size=int(random.sum()))]
    return inputs, array.copy(), chosen.astype(np.float32)
