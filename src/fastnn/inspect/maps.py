"""Outputs of inner layers."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastnn.hints import explained
from fastnn.inspect.inner import Inside
from fastnn.layers.base import Layer
from fastnn.model import Model
from fastnn.model.function import function


@explained
def feature_maps(model: Model, x: Any, layer: str | Layer) -> NDArray[Any]:
    """Return the outputs of a layer for a batch, as prediction computes them.

    ::

        maps = fnn.inspect.feature_maps(model, x, "conv2")

    Parameters
    ----------
    model : Model
    x : array of shape (n, *input_shape), or list of arrays by input
    layer : str or Layer
        A layer of the model, such as a convolution: its outputs have the shape (n, height, width, channels).

    Returns
    -------
    array of shape (n, *shape)
        After the layer's activation. Of a layer that is called several times those of the last call.

    Raises
    ------
    TypeError, ValueError
        When the model does not have the layer, or x does not fit the model's inputs.

    Notes
    -----
    Every call makes a program. For many calls ``fnn.function`` makes one of a symbol that is at hand.
    """
    inside = Inside("feature_maps", model)
    found: NDArray[Any] = computed("feature_maps", inside, inside.result(layer), x)
    return found


def computed(what: str, inside: Inside, results: Any, x: Any) -> Any:
    """Return the values of symbols within a model for a batch, as prediction computes them.

    Raises
    ------
    TypeError, ValueError
        When x does not fit the model's inputs.
    """
    compute = function(inside.inputs, results, name=what)
    several = len(inside.inputs) > 1
    if several and not isinstance(x, (list, tuple)):
        raise TypeError(f"{what}: x: expected a list of {len(inside.inputs)} arrays, got {type(x).__name__}")
    return compute(*(x if several else [x]))
