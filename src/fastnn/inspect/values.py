"""Outputs of all layers for a batch, dead units, and gradients by the names of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.hints import explained
from fastnn.inspect.inner import Inside, layer_of, ordered
from fastnn.inspect.maps import computed
from fastnn.layers import Activation
from fastnn.layers.base import Layer
from fastnn.model import Model
from fastnn.training.state import state_of

#: inputs and outputs of a function together: `runtime` allows a few more
_ENDS = 16


@explained
def activations(model: Model, x: Any, layers: Sequence[str | Layer] | None = None) -> dict[str, NDArray[Any]]:
    """Return the outputs of several layers for a batch, as prediction computes them.

    Parameters
    ----------
    model : Model
    x : array of shape (n, *input_shape), or list of arrays by input
    layers : sequence of str or Layer, optional
        By default all that have weights, and activations, if they have one output, which is no vector of integers.

    Returns
    -------
    dict of str to array of shape (n, *shape)
        By the layers' names, in the order of the network. Of a layer that is called several times the last call.

    Raises
    ------
    TypeError, ValueError
        When the model does not have a layer, or x does not fit the model's inputs.
    """
    inside = Inside("activations", model)
    if layers is None:
        chosen = _worth_seeing(model, inside)
    elif isinstance(layers, (str, Layer)):
        raise TypeError(f"activations: layers: expected a list, got {layers!r}")
    else:
        chosen = [layer_of("activations", model, layer) for layer in layers]
    if not chosen:
        raise ValueError("activations: layers: expected at least one")
    # names as the model has them: those of its parts have that of the part in front
    labels = state_of(model).runtime.table.architecture
    names = {id(layer): label for layer, label in zip(labels.layers, labels.labels, strict=True)}
    found: dict[str, NDArray[Any]] = {}
    # a function has few outputs
    step = max(1, _ENDS - len(inside.inputs))
    for first in range(0, len(chosen), step):
        results = {names[id(layer)]: inside.result(layer) for layer in chosen[first : first + step]}
        found |= computed("activations", inside, results, x)
    return found


def _worth_seeing(model: Model, inside: Inside) -> list[Layer]:
    """Return layers that compute something, in the order of the network."""
    found: dict[int, Layer] = {}
    for symbol in ordered(inside.outputs):
        layer = symbol.layer
        one = symbol.weight is None and symbol.kind == "real" and symbol.batched and len(symbol.together) == 1
        if one and symbol.inputs and (isinstance(layer, Activation) or model.get_weights(layer)):
            found[id(layer)] = layer
    return list(found.values())


def dead_units(values: NDArray[Any]) -> float:
    """Return the share of units that are zero for all samples and at all places, such as those that relu never lets on.

    Parameters
    ----------
    values : array of shape (n, ..., units)
        Outputs of a layer, such as one of `activations`: units are the last axis (channels of maps).

    Raises
    ------
    ValueError
        If there is no axis of units, or no sample.
    """
    array = np.asarray(values)
    if array.ndim < 2 or 0 in array.shape:
        raise ValueError(f"dead_units: values: expected an array of shape (n, ..., units), got {array.shape}")
    return float((array == 0.0).reshape(-1, array.shape[-1]).all(0).mean())


@explained
def weight_gradients(model: Model, x: Any, y: Any = None, sample_weight: Any = None) -> dict[str, NDArray[Any]]:
    """Return the gradients of the loss over one batch by the names of the trained weights, as in a training step.

    Parameters
    ----------
    model : Model
        Compiled.
    x, y, sample_weight
        One batch, as for `Model.gradients`.

    Returns
    -------
    dict of str to array
        By names such as ``"dense/kernel"``.

    Raises
    ------
    TypeError, ValueError
        When data do not fit the model.
    RuntimeError
        When the model is not compiled.
    """
    found = model.gradients(x, y, sample_weight, training=True)
    table = state_of(model).runtime.table
    names = [entry.name for entry, trained in zip(table, table.trained(), strict=True) if trained]
    return dict(zip(names, found, strict=True))
