"""Inputs that a unit answers to most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import ops
from fastnn.checks import flag, integer, number, shorten
from fastnn.hints import explained
from fastnn.inspect.inner import Inside
from fastnn.inspect.resizing import blurred
from fastnn.layers import Input
from fastnn.layers.base import Layer
from fastnn.model import Model
from fastnn.model.function import function
from fastnn.seeding import as_seed, derive


@explained
def maximize(
    model: Model,
    layer: str | Layer,
    unit: int | Sequence[int],
    *,
    steps: int = 200,
    learning_rate: float = 0.05,
    bounds: tuple[float, float] = (0.0, 1.0),
    l2: float = 0.01,
    blur: float = 0.5,
    jitter: int | None = None,
    logits: bool = True,
    seed: int | np.random.Generator | None = None,
) -> NDArray[Any]:
    """Return an input that makes a unit of a layer as large as possible, by gradient ascent.

    ::

        image = fnn.inspect.maximize(model, "conv2", 5, seed=0)

    Parameters
    ----------
    model : Model
        Of one input of numbers.
    layer : str or Layer
    unit : int or sequence of int
        The channel of a map, whose mean over all pixels is maximised, or a unit of a dense layer. A sequence gives an
        input for each.
    steps : int
        Steps of the ascent.
    learning_rate : float
        Root mean square of the first step, as a fraction of the range. Steps become smaller, down to 0 after the last.
    bounds : tuple of two float
        Least and greatest number of inputs. The ascent begins in the middle, with a little noise.
    l2 : float
        In each step, numbers move this fraction of the way to the middle.
    blur : float
        Standard deviation in pixels of a normal blur after the first step. It becomes 0 until the last one. 0 means
        none.
    jitter : int, optional
        In each step the image is moved by up to so many pixels, in every direction; what leaves at one end comes back
        at the other. By default a sixteenth of the shortest axis. Large moves of small images blur what they show.
    logits : bool
        Whether to take the scores before a softmax instead of probabilities. An input that raises the score of a class
        may raise those of others more; one that raises its probability may not.
    seed : int, numpy.random.Generator or None
        Decides the noise and the moves; None draws a random seed.

    Returns
    -------
    array of shape input_shape, or (units, *input_shape)
        In the model's dtype.

    Raises
    ------
    TypeError, ValueError
        When the model has several inputs or not the layer, the layer has no such unit, or an argument is out of range.

    Notes
    -----
    Simonyan, Vedaldi and Zisserman 2013, arXiv:1312.6034 (ascent with a penalty); Yosinski et al. 2015,
    arXiv:1506.06579 (blur); Mordvintsev, Olah and Tyka 2015, "Inceptionism" (moves).
    Where the gradient is 0, as for a unit whose relu is off, a step is random.
    """
    inside = Inside("maximize", model)
    image, result = inside.sized_input, inside.result(layer)
    y = inside.scores(result, flag("logits", logits))
    # a layer has to be there if its weights are used
    there = [] if y is result else [result]
    if not y.shape:
        y = ops.expand_dims(y, -1)
    units = _units(unit, y.shape[-1])
    steps, pixels = integer("maximize: steps", steps), image.shape[:-1]
    jitter = min(pixels, default=0) // 16 if jitter is None else integer("maximize: jitter", jitter, at_least=0)
    rate = number("maximize: learning_rate", learning_rate, above=0.0)
    l2, blur = number("maximize: l2", l2, at_least=0.0, below=1.0), number("maximize: blur", blur, at_least=0.0)
    low, high = _bounds(bounds)
    rng = derive(as_seed(seed), "maximize")

    means = ops.mean(y, axis=tuple(range(1, len(y.shape)))) if len(y.shape) > 1 else y
    which = Input((), dtype="int64", name="unit")
    value = ops.sum(means * ops.one_hot(which, y.shape[-1]), axis=-1)
    slope = function([image, which], [ops.gradients(value, image), *there], name="maximize")

    # numbers from -1 to 1
    x = rng.normal(0.0, 0.1, (len(units), *image.shape))
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    places = tuple(range(1, len(pixels) + 1))
    for step in range(steps):
        moves = tuple(rng.integers(-jitter, jitter, len(pixels), endpoint=True))
        moved = np.roll(x, moves, places)
        direction = np.asarray(slope(middle + half * moved, units)[0], np.float64)
        direction = np.roll(direction, tuple(-move for move in moves), places)
        left = 1.0 - step / steps
        x = np.clip((x + 2.0 * rate * left * _normalised(direction, rng)) * (1.0 - l2), -1.0, 1.0)
        sigma = blur * (1.0 - (step + 1) / steps)
        if sigma > 0.0 and places:
            x = blurred(x, sigma)
    found: NDArray[Any] = (middle + half * x).astype(model.dtype)
    return found if np.ndim(unit) else found[0]


def _normalised(direction: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Return directions with a root mean square of 1 for each sample: a random one where there is none."""
    other = rng.normal(size=direction.shape)
    axes = tuple(range(1, direction.ndim))
    size = np.sqrt(np.square(direction).mean(axes, keepdims=True))
    return np.where(size > 0.0, direction / np.where(size > 0.0, size, 1.0), other)


def _units(unit: Any, count: int) -> NDArray[np.int64]:
    several = isinstance(unit, (list, tuple, range, np.ndarray)) and np.ndim(unit) > 0
    given = list(unit) if several else [unit]
    if not given:
        raise ValueError("maximize: unit: expected at least one")
    names = [f"maximize: unit[{at}]" if several else "maximize: unit" for at in range(len(given))]
    return np.array(
        [integer(name, one, at_least=0, at_most=count - 1) for name, one in zip(names, given, strict=True)], np.int64
    )


def _bounds(bounds: Any) -> tuple[float, float]:
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise TypeError(f"maximize: bounds: expected two numbers, got {shorten(bounds)}")
    low = number("maximize: bounds[0]", bounds[0])
    return low, number("maximize: bounds[1]", bounds[1], above=low)
