"""What is at places of images, in plain NumPy: images with borders made by `numpy.pad`, pixel by pixel."""

from __future__ import annotations

import numpy as np

MODES = {"constant": "constant", "nearest": "edge", "reflect": "symmetric", "wrap": "wrap"}


def at(image: np.ndarray, places: tuple[float, ...], interpolation: str, fill_mode: str, value: float) -> np.ndarray:
    """Return the channels of an image (sizes, channels) at a place, of a number for each axis but the last."""
    margin = 2 + max(int(np.ceil(max(-place, place - size))) for place, size in zip(places, image.shape, strict=False))
    margin = max(margin, 2)
    pairs = [(margin, margin)] * len(places) + [(0, 0)]
    options = {"constant_values": value} if fill_mode == "constant" else {}
    wide = np.pad(image, pairs, MODES[fill_mode], **options)
    if interpolation == "nearest":
        return wide[tuple(int(np.floor(place + 0.5)) + margin for place in places)]
    total = np.zeros(image.shape[-1])
    for corner in np.ndindex(*(2,) * len(places)):
        entry, weight = [], 1.0
        for place, far in zip(places, corner, strict=True):
            low = int(np.floor(place))
            entry.append(low + far + margin)
            weight *= place - low if far else 1.0 - (place - low)
        total += weight * wide[tuple(entry)]
    return total


def moved(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, *filled: object) -> np.ndarray:
    """Take pixels of images (n, height, width, channels) at places, each of shape (n, new height, new width)."""
    n, height, width = np.broadcast_shapes(rows.shape, columns.shape)
    rows, columns = np.broadcast_to(rows, (n, height, width)), np.broadcast_to(columns, (n, height, width))
    y = np.empty((n, height, width, x.shape[-1]))
    for b, i, j in np.ndindex(n, height, width):
        y[b, i, j] = at(x[b], (rows[b, i, j], columns[b, i, j]), *filled)
    return y
