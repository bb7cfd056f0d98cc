"""Generated images for convolutional networks: filled shapes, and straight edges of known orientation.

All random numbers come from one seed; no global random state is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fastnn.checks import integer, number, shape
from fastnn.datasets.generators import Labels, Seed
from fastnn.seeding import as_seed, derive

Images = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]

_PIXELS = 2**17  # computed at once: each intermediate array takes 1 MB, and stays in the cache
_THIN = 0.25  # half the thickness of a cross's bars, where half their length is 1


def make_shapes(n: int, size: int = 28, *, noise: float = 0.1, seed: Seed = None) -> tuple[Images, Labels]:
    """Make images of filled circles, squares, triangles and crosses of random places, sizes and rotations.

    Parameters
    ----------
    n : int
        Number of images, spread as evenly as possible over the four shapes.
    size : int
        Height and width of an image in pixels, >= 1. From about 12 on, the shapes can be told apart.
    noise : float
        Standard deviation of the normal noise on the pixels, >= 0. The sums are clipped to [0, 1].
    seed : int, numpy.random.Generator or None
        None draws a new seed every time.

    Returns
    -------
    X : ndarray of float32, shape (n, size, size, 1)
        Without noise, the part of a pixel that the shape covers: 0 outside, 1 inside, and between them at the edge
        (from the signed distance to it). The circle around a shape has a radius of 0.2 to 0.4 times `size`, and lies
        inside the image.
    y : ndarray of int64, shape (n,)
        0 for a circle, 1 for a square, 2 for an equilateral triangle, 3 for a cross.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type, or out of range.
    """
    n, size, noise, rng = _checked("make_shapes", n, size, noise, seed)
    y = rng.permutation(n).astype(np.int64) % len(_DISTANCES)
    radius = size * rng.uniform(0.2, 0.4, n)
    centre = radius + (size - 2.0 * radius) * rng.random((2, n))
    angle = rng.uniform(0.0, 2.0 * math.pi, n)
    X = np.empty((n, size, size, 1), np.float32)
    for rows in _blocks(n, size):
        right, down = _positions(size, *centre[:, rows])
        cos, sin = _columns(np.cos(angle[rows]), np.sin(angle[rows]))
        along, across = cos * right + sin * down, cos * down - sin * right
        distance = np.empty_like(along)
        for label, distance_to in enumerate(_DISTANCES):
            chosen = y[rows] == label
            distance[chosen] = distance_to(along[chosen], across[chosen], *_columns(radius[rows][chosen]))
        X[rows] = _finish(np.clip(0.5 - distance, 0.0, 1.0), noise, rng)
    return X, y


def make_edges(
    n: int, size: int = 16, *, orientations: int = 8, noise: float = 0.1, seed: Seed = None
) -> tuple[Images, Labels]:
    """Make images of one straight edge between a dark and a bright side, labelled by its orientation.

    Parameters
    ----------
    n : int
        Number of images, spread as evenly as possible over the orientations.
    size : int
        Height and width of an image in pixels, >= 1.
    orientations : int
        Number of orientations, >= 1.
    noise : float
        Standard deviation of the normal noise on the pixels, >= 0. The sums are clipped to [0, 1].
    seed : int, numpy.random.Generator or None
        None draws a new seed every time.

    Returns
    -------
    X : ndarray of float32, shape (n, size, size, 1)
        Without noise, 0 on one side and 1 on the other, with a smooth step of two pixels between them. Either side
        may be the bright one. The edge passes the centre at a distance of up to a quarter of `size`.
    y : ndarray of int64, shape (n,)
        The number of the orientation, 0 to orientations - 1. The edge is at the angle pi * y / orientations,
        anticlockwise from the horizontal.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type, or out of range.
    """
    orientations = integer("make_edges: orientations", orientations)
    n, size, noise, rng = _checked("make_edges", n, size, noise, seed)
    y = rng.permutation(n).astype(np.int64) % orientations
    angle = math.pi * y / orientations
    offset = size * rng.uniform(-0.25, 0.25, n)
    sign = rng.choice([-1.0, 1.0], n)
    middle = np.full(n, 0.5 * size)
    X = np.empty((n, size, size, 1), np.float32)
    for rows in _blocks(n, size):
        right, down = _positions(size, middle[rows], middle[rows])
        cos, sin = _columns(sign[rows] * np.cos(angle[rows]), sign[rows] * np.sin(angle[rows]))
        step = np.clip(0.5 + 0.5 * (sin * right + cos * down - _columns(offset[rows])[0]), 0.0, 1.0)
        X[rows] = _finish(step * step * (3.0 - 2.0 * step), noise, rng)
    return X, y


def _checked(function: str, n: int, size: int, noise: float, seed: Seed) -> tuple[int, int, float, np.random.Generator]:
    n, size = integer(f"{function}: n", n), integer(f"{function}: size", size)
    shape(f"{function}: images", (n, size, size, 1))
    stddev = number(f"{function}: noise", noise, at_least=0.0)
    return n, size, stddev, derive(as_seed(seed), function)


def _blocks(n: int, size: int) -> Iterator[slice]:
    """Yield the rows of images that are computed at once; the random numbers do not depend on how many they are."""
    step = max(1, _PIXELS // size**2)
    return (slice(start, start + step) for start in range(0, n, step))


def _columns(*values: Array) -> tuple[Array, ...]:
    """Return values of images in a shape that broadcasts with their pixels."""
    return tuple([each[:, None, None] for each in values])


def _positions(size: int, right: Array, down: Array) -> tuple[Array, Array]:
    """Return how far to the right of a point of each image, and how far below it, the pixels have their centres."""
    centres = np.arange(size) + 0.5
    column, row = _columns(right, down)
    return centres - column, centres[:, None] - row


def _circle(along: Array, across: Array, radius: Array) -> Array:
    return np.hypot(along, across) - radius


# Polygons: the distance to the lines of their sides. Beyond corners it is too small, so that these stay sharp.


def _square(along: Array, across: Array, radius: Array) -> Array:
    return np.maximum(np.abs(along), np.abs(across)) - math.sqrt(0.5) * radius


def _triangle(along: Array, across: Array, radius: Array) -> Array:
    slanted = math.sqrt(0.75) * np.abs(across) - 0.5 * along
    return np.maximum(along, slanted) - 0.5 * radius


def _cross(along: Array, across: Array, radius: Array) -> Array:
    along, across = np.abs(along), np.abs(across)
    long = radius / math.hypot(1.0, _THIN)
    # the smaller coordinate is within the thickness of a bar, the larger one within its length
    return np.maximum(np.minimum(along, across) - _THIN * long, np.maximum(along, across) - long)


_DISTANCES = (_circle, _square, _triangle, _cross)


def _finish(images: Array, noise: float, rng: np.random.Generator) -> Images:
    noisy = np.clip(images + noise * rng.standard_normal(images.shape), 0.0, 1.0)
    return noisy[..., None].astype(np.float32)
