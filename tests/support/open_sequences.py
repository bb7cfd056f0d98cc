"""Networks of sequences of any length, and sequences of unequal lengths."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fnn

#: rows of unequal lengths; more steps than `lengths.PARTS`, so that some that do not count are left by cutting
ROWS, LONGEST = 24, 19


def reader(steps: int | None, dtype: str = "float32", seed: int = 0) -> fnn.Sequential:
    """Return a network that gives two numbers for each sequence."""
    layers = [fnn.Bidirectional(fnn.GRU(4, return_sequences=True)), fnn.LayerNorm(), fnn.LSTM(3), fnn.Dense(2)]
    return compiled(fnn.Sequential([fnn.Input((steps, 3)), *layers], seed=seed, dtype=dtype))


def tagger(steps: int | None, *first: fnn.layers.Layer) -> fnn.Sequential:
    """Return a network that gives two numbers for each step."""
    layers = [*first, fnn.GRU(4, return_sequences=True), fnn.Dense(2)]
    return compiled(fnn.Sequential([fnn.Input((steps, 3)), *layers], seed=0))


def compiled(model: Any) -> Any:
    """Compile a network as all of these are."""
    model.compile(fnn.Adam(0.01), "mse", metrics=["mae"])
    return model


def sequences(steps: int, n: int = 10, seed: int = 0) -> np.ndarray:
    """Return rows of sequences."""
    return np.random.default_rng(seed).standard_normal((n, steps, 3)).astype(np.float32)


def unequal(seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return sequences, whose steps that do not count are no zeros, and the numbers of those that count."""
    lengths = np.random.default_rng(seed).integers(0, LONGEST + 1, ROWS)
    lengths[:3] = LONGEST, 1, 0
    return sequences(LONGEST, ROWS, seed), lengths
