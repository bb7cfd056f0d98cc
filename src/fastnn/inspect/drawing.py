"""Figures of kernels, maps, and the pixels that matter."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.checks import integer
from fastnn.figures import new_axes
from fastnn.hints import explained
from fastnn.inspect.ascent import maximize
from fastnn.inspect.attribution import grad_cam, saliency
from fastnn.inspect.inner import Inside
from fastnn.inspect.kernels import filters
from fastnn.inspect.maps import feature_maps
from fastnn.layers.base import Layer
from fastnn.model import Model

_INCHES = 1.2


@explained
def plot_filters(model: Model, layer: str | Layer, *, most: int = 64) -> Any:
    """Draw the kernels of a convolution: zero is grey, larger numbers are lighter.

    Filters that see one or three channels are images. Of others there is a row for each, with an image for each
    channel.

    Parameters
    ----------
    model, layer
        As for `filters`.
    most : int
        The largest number of images; the first filters are drawn.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        As for `filters`.
    """
    images, most = filters(model, layer), integer("plot_filters: most", most)
    count, channels = len(images), images.shape[-1]
    if channels in (1, 3):
        return image_grid("plot_filters", list(images[:most]), columns=_columns(min(count, most)))
    columns = min(channels, max(8, round(sqrt(most))), most)
    rows = [image[:, :, at, None] for image in images[: most // columns] for at in range(columns)]
    return image_grid("plot_filters", rows, columns=columns)


@explained
def plot_feature_maps(model: Model, x: Any, layer: str | Layer, *, most: int = 16) -> Any:
    """Draw the outputs of a layer that gives maps: a row for each sample, each map in its own range.

    Parameters
    ----------
    model, x, layer
        As for `feature_maps`; a few samples.
    most : int
        The largest number of maps of a sample; the first ones are drawn.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        As for `feature_maps`, or when the layer gives no maps.
    """
    maps, most = feature_maps(model, x, layer), integer("plot_feature_maps: most", most)
    if maps.ndim != 4:
        raise ValueError(
            f"plot_feature_maps: layer: expected one that gives maps (height, width, channels), got {maps.shape[1:]}"
        )
    count = min(most, maps.shape[-1])
    drawn = [sample[:, :, at, None] for sample in maps for at in range(count)]
    columns = count if len(maps) > 1 else _columns(count)
    return image_grid("plot_feature_maps", [_between(each) for each in drawn], columns=columns, colours="viridis")


@explained
def plot_maximized(model: Model, layer: str | Layer, units: Sequence[int] | None = None, **options: Any) -> Any:
    """Draw the inputs that units of a layer answer to most.

    Parameters
    ----------
    model, layer
        As for `maximize`.
    units : sequence of int, optional
        By default the first 16.
    **options
        Arguments of `maximize`, such as `steps` and `seed`.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        As for `maximize`, or when the inputs are no images.
    """
    inside = Inside("plot_maximized", model)
    _check_images("plot_maximized", inside.only_input.shape)
    if units is None:
        units = range(min(16, (inside.result(layer).shape or (1,))[-1]))
    found = maximize(model, layer, list(units), **options)
    low, high = options.get("bounds", (0.0, 1.0))
    images = list((found - low) / (high - low))
    return image_grid(
        "plot_maximized", images, columns=_columns(len(images)), titles=[f"unit {unit}" for unit in units]
    )


@explained
def plot_saliency(model: Model, x: ArrayLike, output: int | Sequence[int] | None = None, *, logits: bool = True) -> Any:
    """Draw images, and below them how much the output changes with each pixel: the maximum over the channels.

    Parameters
    ----------
    model, x, output, logits
        As for `saliency`; a few images.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        As for `saliency`, or when the inputs are no images.
    """
    found = saliency(model, x, output, logits=logits)
    _check_images("plot_saliency", found.shape[1:])
    above = [_between(image) for image in np.asarray(x)]
    below = [_between(each.max(-1, keepdims=True)) for each in found]
    return image_grid(
        "plot_saliency", above + below, columns=len(above), colours=["gray"] * len(above) + ["magma"] * len(above)
    )


@explained
def plot_grad_cam(
    model: Model,
    x: ArrayLike,
    layer: str | Layer,
    output: int | Sequence[int] | None = None,
    *,
    logits: bool = True,
) -> Any:
    """Draw images, and below them where a convolution sees what speaks for the output.

    Parameters
    ----------
    model, x, layer, output, logits
        As for `grad_cam`; a few images.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        As for `grad_cam`, or when the inputs are no images.
    """
    heat = grad_cam(model, x, layer, output, logits=logits)
    images = np.asarray(x)
    _check_images("plot_grad_cam", images.shape[1:])
    above = [_between(image) for image in images]
    figure = image_grid("plot_grad_cam", above * 2, columns=len(above))
    for axes, each in zip(figure.axes[len(above) :], heat, strict=True):
        axes.imshow(each, cmap="inferno", alpha=0.6, vmin=0.0, vmax=max(float(each.max()), 1e-12))
    return figure


def _check_images(what: str, shape: Sequence[int]) -> None:
    if len(shape) != 3:
        raise ValueError(f"{what}: expected a model of images (height, width, channels), got inputs of shape {shape}")


def _columns(count: int) -> int:
    """Return the number of columns of a grid that is about as wide as high."""
    return max(1, ceil(sqrt(count)))


def _between(image: NDArray[Any]) -> NDArray[Any]:
    """Return an image whose numbers are from 0 to 1; a constant one is 0."""
    low, high = image.min(), image.max()
    found: NDArray[Any] = (image - low) / (high - low if high > low else 1.0)
    return found


def image_grid(
    what: str,
    images: Sequence[NDArray[Any]],
    *,
    columns: int,
    titles: Sequence[str] = (),
    colours: str | Sequence[str] = "gray",
) -> Any:
    """Draw images of numbers from 0 to 1, with three channels or the mean of all, without axes."""
    rows = ceil(len(images) / columns)
    size = _INCHES * columns, (_INCHES + 0.25 * bool(titles)) * rows
    grid = new_axes(what, size, rows, columns)
    for number, axes in enumerate(grid.flat):
        axes.set(xticks=[], yticks=[])
        if number >= len(images):
            axes.set_axis_off()
        else:
            image = images[number]
            shown = image if image.shape[-1] == 3 else image.mean(-1)
            colour = colours if isinstance(colours, str) else colours[number]
            axes.imshow(shown, cmap=colour, vmin=0.0, vmax=1.0, interpolation="nearest")
            if titles:
                axes.set_title(titles[number], fontsize="small")
    return grid[0, 0].figure
