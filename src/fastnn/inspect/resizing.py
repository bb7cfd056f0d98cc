"""Images in other sizes, and blurred images, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray


def resized(images: NDArray[Any], sizes: Sequence[int]) -> NDArray[Any]:
    """Return images (n, *sizes) of other sizes, by linear interpolation along each axis.

    Pixels are squares that fill the same image in both sizes: values lie at their centres, and beyond the outer centres
    they are those of the edge.
    """
    for axis, size in enumerate(sizes, start=1):
        old = images.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0.0, old - 1.0)
        low = np.floor(at).astype(np.int64)
        shape = [1] * images.ndim
        shape[axis] = size
        part = (at - low).reshape(shape).astype(images.dtype)
        before, after = (np.take(images, index, axis) for index in (low, np.minimum(low + 1, old - 1)))
        images = before + part * (after - before)
    return images


def blurred(images: NDArray[Any], sigma: float) -> NDArray[Any]:
    """Return images (n, *sizes, channels) after a normal blur of a standard deviation in pixels.

    Beyond the edge the image goes on as at the edge.
    """
    reach = ceil(3.0 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    weights /= weights.sum()
    for axis in range(1, images.ndim - 1):
        size = images.shape[axis]
        around = [(reach, reach) if each == axis else (0, 0) for each in range(images.ndim)]
        wide = np.pad(images, around, mode="edge")
        shifted = (np.take(wide, np.arange(start, start + size), axis) for start in range(2 * reach + 1))
        images = sum(weight * each for weight, each in zip(weights, shifted, strict=True))
    return images
