"""The weights of a model's first layer: images where its input is one, else a table in colours."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import integer, shape
from fastnn.figures import brief, new_axes, whole_numbers
from fastnn.hints import explained
from fastnn.inspect.drawing import image_grid, plot_filters
from fastnn.inspect.inner import checked, layer_of
from fastnn.inspect.kernels import scaled, shows_images
from fastnn.layers.base import Layer
from fastnn.model import Model

# more units have no titles of their own
_TITLES = 36


@explained
def weights(
    model: Model,
    layer: str | Layer | None = None,
    *,
    image_shape: Sequence[int] | None = None,
    most: int = 64,
) -> Any:
    """Draw the weights of the first layer that has any, or of another one.

    Kernels of convolutions are images, and so are the columns of a `Dense` layer that sees all pixels: zero is grey,
    larger numbers are lighter, each unit has a scale of its own. Of other layers it is a table of inputs and units: red
    is positive, blue negative.

    Parameters
    ----------
    model : Model
    layer : str or Layer, optional
        By default the first one with a weight of two or more axes.
    image_shape : tuple of int, optional
        Height and width, and channels if there are, of images that the layer sees as rows; by default that of the
        model's input, if it fits.
    most : int
        The largest number of images; the first ones are drawn.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        When the model does not have the layer, the layer has no such weights, or the shape does not fit them.
    """
    most = integer("weights: most", most)
    found = checked("weights", model)
    chosen = _first(found) if layer is None else layer_of("weights", found, layer)
    if image_shape is None and shows_images(chosen):
        return plot_filters(found, chosen, most=most)
    kernel = _kernel(found, chosen)
    if kernel is None:
        raise ValueError(f"weights: layer: {chosen.label!r} has no weights of two axes")
    size = _image(found, image_shape, len(kernel))
    if size is None:
        return _table(chosen.label, kernel)
    images = scaled(kernel.T.reshape(-1, *size)[:most])
    titles = [f"unit {number}" for number in range(len(images))] if len(images) <= _TITLES else ()
    return image_grid("weights", list(images), columns=ceil(sqrt(len(images))), titles=titles)


def _first(model: Model) -> Layer:
    for layer in model.layers:
        if _kernel(model, layer) is not None:
            return layer
    raise ValueError(f"weights: no layer of {model.name!r} has weights of two axes")


def _kernel(model: Model, layer: Layer) -> NDArray[Any] | None:
    """Return the first weight of two or more axes as a matrix, whose columns are units."""
    matrices = [weight for weight in model.get_weights(layer) if weight.ndim > 1]
    return matrices[0].reshape(-1, matrices[0].shape[-1]) if matrices else None


def _image(model: Model, given: Sequence[int] | None, pixels: int) -> tuple[int, int, int] | None:
    """Return height, width and channels of an image of some numbers; None if there is none."""
    if given is None:
        known = model.inputs[0].shape if len(model.inputs) == 1 else ()
        if len(known) not in (2, 3) or None in known or prod(known) != pixels or known[2:] not in ((), (1,), (3,)):
            return None
    else:
        known = shape("weights: image_shape", given)
        if len(known) not in (2, 3) or prod(known) != pixels or known[2:] not in ((), (1,), (3,)):
            raise ValueError(
                f"weights: image_shape: expected (height, width), or also 1 or 3 channels, of {pixels} numbers, "
                f"got {tuple(given)}"
            )
    return (known[0], known[1], known[2] if len(known) == 3 else 1)


def _table(name: str, kernel: NDArray[Any]) -> Any:
    """Draw a matrix in colours."""
    inputs, units = kernel.shape
    size = min(max(3.0 + 0.12 * units, 4.5), 12.0), min(max(2.0 + 0.12 * inputs, 3.5), 10.0)
    axes = new_axes("weights", size)[0, 0]
    finite = np.isfinite(kernel)
    largest = float(abs(kernel[finite]).max()) if finite.any() else 0.0
    limit = largest if largest > 0.0 else 1.0
    image = axes.imshow(
        np.ma.masked_invalid(kernel), cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
    )
    axes.set_facecolor("black")
    for axis in (axes.xaxis, axes.yaxis):
        whole_numbers(axis)
    note = "" if finite.all() else f", {(~finite).sum():,} not finite (black)"
    axes.set(xlabel="unit", ylabel="input")
    axes.set_title(f"Weights of {brief(name)}{note}", fontsize="medium")
    axes.figure.colorbar(image, ax=axes, label="weight")
    return axes.figure
