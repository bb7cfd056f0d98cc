"""What is at places of axes and images, beside NumPy."""

import numpy as np
import pytest

from computed import build_for, check
from fastnn.graph.graph import Graph
from fastnn.graph.ops import indexing, resizing
from placing import at, moved

RNG = np.random.default_rng(4)
X = RNG.standard_normal((3, 4, 5, 2))
FILLED = [(way, mode) for way in resizing.INTERPOLATIONS for mode in resizing.FILL_MODES]


def test_numbers_of_an_axis():
    check(lambda g, x: resizing.counted(g, 9, "c"), [X], np.arange(9.0), grads=())


@pytest.mark.parametrize(("size", "count"), [(3, 10), (10, 3), (7, 5), (4, 8), (1, 3), (3, 1)])
def test_centres_of_other_sizes(size, count):
    expected = [(i + 0.5) * size / count - 0.5 for i in range(count)]
    check(lambda g, x: resizing.centres(g, size, count, "c"), [X], np.array(expected), grads=())


def test_numbers_for_whole_rows():
    """An index whose last axes have the size 1 takes all that is there."""
    numbers = RNG.integers(-4, 4, (3, 7, 1, 1))
    expected = np.take_along_axis(X, numbers, 1)
    check(lambda g, x, i: indexing.take_along_axis(g, x, i, 1, "t"), [X, numbers], expected, twice=True)
    numbers = RNG.integers(-5, 5, (3, 4, 2, 1))
    expected = np.take_along_axis(X, numbers, 2)
    check(lambda g, x, i: indexing.take_along_axis(g, x, i, 2, "t"), [X, numbers], expected, twice=True)


@pytest.mark.parametrize(("interpolation", "fill_mode"), FILLED)
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_places_of_an_axis(interpolation, fill_mode, axis):
    filled = interpolation, fill_mode, 0.7
    size = X.shape[axis]
    # up to a whole axis beyond the ends, and not where values jump
    own = RNG.uniform(-size, 2 * size - 1, (3, 4)).round(1) + 0.03
    for places, batched in ((own, True), (own[0], False)):
        each = np.broadcast_to(places, (3, 4))
        last = np.moveaxis(X, axis, 1)
        expected = np.stack([
            np.stack([at(image.reshape(size, -1), (place,), *filled).reshape(image.shape[1:]) for place in row])
            for image, row in zip(last, each, strict=True)
        ])  # fmt: skip
        check(lambda g, x, p: resizing.resampled(g, x, p, axis, "r", *filled), [X, places],
              np.moveaxis(expected, 1, axis), [True, batched])  # fmt: skip


@pytest.mark.parametrize(("interpolation", "fill_mode"), FILLED)
def test_places_of_images(interpolation, fill_mode):
    filled = interpolation, fill_mode, 0.7
    rows = RNG.uniform(-4, 7, (3, 2, 3)).round(1) + 0.03
    columns = RNG.uniform(-5, 9, (3, 2, 3)).round(1) + 0.03
    check(lambda g, x, r, c: resizing.sampled(g, x, r, c, "s", *filled), [X, rows, columns],
          moved(X, rows, columns, *filled))  # fmt: skip


@pytest.mark.parametrize("fill_mode", ["nearest", "reflect", "wrap"])
def test_whole_places_are_entries_in_float32(fill_mode):
    """No whole number gets another one by rounding, or an entry that is not there."""
    x = RNG.standard_normal((1, 131, 1)).astype(np.float32)
    places = np.arange(-131, 262, dtype=np.float32)[None]
    made = build_for(lambda g, x, p: resizing.resampled(g, x, p, 1, "r", "bilinear", fill_mode), [x, places], "float32")
    padded = np.pad(
        x, ((0, 0), (131, 131), (0, 0)), {"nearest": "edge", "reflect": "symmetric", "wrap": "wrap"}[fill_mode]
    )
    np.testing.assert_array_equal(made.run([x, places])[0], padded)


def test_images_of_too_many_pixels():
    graph = Graph()
    x, places = graph.input((4097, 4096, 1), "x"), graph.input((1, 1), "p")
    with pytest.raises(ValueError, match="up to 16777216 pixels, got 4097 x 4096"):
        resizing.sampled(graph, x, places, places, "s")
