"""Which pixels an output depends on: saliency and Grad-CAM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import ops
from fastnn.checks import flag, integer
from fastnn.hints import explained
from fastnn.inspect.inner import Inside
from fastnn.inspect.resizing import resized
from fastnn.layers import Input
from fastnn.layers.base import Layer
from fastnn.layers.symbols import Symbol
from fastnn.model import Model
from fastnn.model.function import function


@explained
def saliency(
    model: Model, x: ArrayLike, output: int | Sequence[int] | None = None, *, logits: bool = True
) -> NDArray[Any]:
    """Return how much an output changes with each number of the input: the absolute value of its gradient.

    ::

        importance = fnn.inspect.saliency(model, x, 3)

    Parameters
    ----------
    model : Model
        Of one input of numbers and one output.
    x : array of shape (n, *input_shape)
    output : int or sequence of n int, optional
        Which number of the output's last axis, for all samples or for each; over other axes, such as pixels, the sum is
        taken. None means the greatest one of each sample.
    logits : bool
        Whether to take the scores before a softmax at the end instead of probabilities, which hardly change where the
        model is sure.

    Returns
    -------
    array of shape (n, *input_shape)

    Raises
    ------
    TypeError, ValueError
        When the model has several inputs or outputs, x does not fit it, or there is no such output.

    Notes
    -----
    Simonyan, Vedaldi and Zisserman 2013, "Deep inside convolutional networks", arXiv:1312.6034. For an image of several
    channels they show the maximum over the channels.
    """
    inside = Inside("saliency", model)
    chosen = _Chosen("saliency", inside, output, flag("logits", logits))
    gradient = ops.gradients(chosen.total, inside.only_input)
    found: NDArray[Any] = np.abs(chosen.compute("saliency", gradient, x))
    return found


@explained
def grad_cam(
    model: Model,
    x: ArrayLike,
    layer: str | Layer,
    output: int | Sequence[int] | None = None,
    *,
    logits: bool = True,
) -> NDArray[Any]:
    """Return where in the image a convolution sees what speaks for an output: Grad-CAM.

    ::

        heat = fnn.inspect.grad_cam(model, x, "conv3")

    Parameters
    ----------
    model : Model
        Of one input of numbers and one output.
    x : array of shape (n, height, width, channels)
        Or of samples with another number of axes before the channels.
    layer : str or Layer
        A layer of the model whose outputs have as many axes as the images, such as the last convolution.
    output, logits
        As for `saliency`.

    Returns
    -------
    array of shape (n, height, width)
        At least 0; not scaled.

    Raises
    ------
    TypeError, ValueError
        When the model has several inputs or outputs or not the layer, the layer gives no maps, x does not fit the
        model, or there is no such output.

    Notes
    -----
    Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based localization",
    arXiv:1610.02391: relu(sum over k of a_k A_k) with the layer's maps A_k, and a_k the mean over the pixels of the
    output's gradient for A_k. It is resized to the image by bilinear interpolation.
    """
    inside = Inside("grad_cam", model)
    maps, image = inside.result(layer), inside.sized_input
    if len(maps.shape) != len(image.shape) or len(maps.shape) < 2:
        raise ValueError(
            f"grad_cam: layer: expected one that gives maps of {len(image.shape)} axes, as the images {image.shape} "
            f"have, got {maps.shape} of {maps.layer.label!r}"
        )
    if getattr(maps.layer, "data_format", None) == "channels_first":
        raise ValueError(f"grad_cam: layer: {maps.layer.label!r} has the channels first, expected them last")
    chosen = _Chosen("grad_cam", inside, output, flag("logits", logits))
    pixels = tuple(range(1, len(maps.shape)))
    gradient = ops.gradients(chosen.total, maps, unconnected="zeros")
    weights = ops.mean(gradient, axis=pixels, keepdims=True)
    heat = chosen.compute("grad_cam", ops.relu(ops.sum(weights * maps, axis=-1)), x)
    return resized(heat, image.shape[:-1])


class _Chosen:
    """One number of each sample's output."""

    def __init__(self, what: str, inside: Inside, output: Any, logits: bool) -> None:
        self._what, self._inside = what, inside
        if len(inside.outputs) > 1:
            raise ValueError(f"{what}: expected a model of one output, got the outputs {inside.outputs}")
        result = inside.outputs[0]
        y = inside.scores(result, logits)
        # its weights are only there with the layer that has them
        self._with = [] if y is result else [result]
        if not y.shape:
            y = ops.expand_dims(y, -1)
        scores = ops.sum(y, axis=tuple(range(1, len(y.shape)))) if len(y.shape) > 1 else y
        self._places = _places(what, output, y.shape[-1])
        self._given: list[Symbol] = [] if self._places is None else [Input((), dtype="int64", name="output")]
        which = self._given[0] if self._given else ops.argmax(scores, axis=-1)
        #: the number of each sample
        self.total: Symbol = ops.sum(scores * ops.one_hot(which, y.shape[-1]), axis=-1)

    def compute(self, name: str, result: Symbol, x: Any) -> NDArray[Any]:
        """Return a symbol for a batch."""
        compute = function([*self._inside.inputs, *self._given], [result, *self._with], name=name)
        places = self._places
        if places is not None:
            n = len(x)
            if places.ndim and len(places) != n:
                raise ValueError(
                    f"{self._what}: output: expected an integer for each of {n} samples, got {len(places)}"
                )
            places = np.full(n, places) if not places.ndim else places
        found: NDArray[Any] = compute(x, *([] if places is None else [places]))[0]
        return found


def _places(what: str, output: Any, count: int) -> NDArray[np.int64] | None:
    """Return the numbers of outputs, checked."""
    if output is None:
        return None
    name = f"{what}: output"
    if not isinstance(output, (list, tuple, np.ndarray)) or np.ndim(output) == 0:
        return np.array(integer(name, output, at_least=0, at_most=count - 1))
    return np.array([integer(f"{name}[{at}]", one, at_least=0, at_most=count - 1) for at, one in enumerate(output)])
