"""Generated images: moments and outlines of the shapes, and gradients of the edges."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fastnn.datasets import make_edges, make_shapes

MAKERS = [make_shapes, make_edges]


def moments(image: npt.NDArray[Any]) -> tuple[float, npt.NDArray[Any], float]:
    """Return area, centre (row, column) and polar second moment about it, in pixels."""
    picture = image[..., 0].astype(np.float64)
    place = np.indices(picture.shape) + 0.5
    area = picture.sum()
    centre = (place * picture).sum((1, 2)) / area
    return area, centre, (((place - centre[:, None, None]) ** 2).sum(0) * picture).sum()


def test_shapes_have_the_moments_of_their_class() -> None:
    size = 96
    X, y = make_shapes(40, size, noise=0.0, seed=0)
    assert np.bincount(y).tolist() == [10] * 4
    # the polar moment over the squared area is the same for all sizes; a cross is two bars minus their common square
    half = 1.0 / 4.0
    cross = (2.0 * 4.0 * half * (1.0 + half**2) / 3.0 - 8.0 * half**4 / 3.0) / (8.0 * half - 4.0 * half**2) ** 2
    expected = [1.0 / (2.0 * math.pi), 1.0 / 6.0, 1.0 / (3.0 * math.sqrt(3.0)), cross]
    # and so is the area over the square of the circle around the shape
    areas = [math.pi, 2.0, 0.75 * math.sqrt(3.0), (8.0 * half - 4.0 * half**2) / (1.0 + half**2)]
    radii = []
    for image, label in zip(X, y, strict=True):
        area, centre, polar = moments(image)
        assert polar / area**2 == pytest.approx(expected[label], rel=0.01)
        radius = math.sqrt(area / areas[label])
        assert ((centre > radius - 0.2) & (centre < size - radius + 0.2)).all()
        radii.append(radius / size)
    assert 0.195 < min(radii) < 0.23 and 0.37 < max(radii) < 0.405


def test_edges_of_circles_are_as_smooth_as_many_samples_make_them() -> None:
    X, y = make_shapes(24, 28, noise=0.0, seed=1)
    samples = (np.arange(28 * 16) + 0.5) / 16
    for image in X[y == 0]:
        area, (row, column), _ = moments(image)
        inside = np.hypot(samples[:, None] - row, samples - column) < math.sqrt(area / math.pi)
        covered = inside.reshape(28, 16, 28, 16).mean((1, 3))
        np.testing.assert_allclose(image[..., 0], covered, atol=0.1)


def test_shapes_are_turned() -> None:
    X, y = make_shapes(400, 48, noise=0.0, seed=2)
    for label, fold in [(1, 4), (2, 3), (3, 4)]:
        phases = []
        for image in X[y == label]:
            _, (row, column), _ = moments(image)
            down, right = np.indices((48, 48)) + 0.5 - np.array([row, column])[:, None, None]
            phases.append(np.angle(((right + 1j * down) ** fold * image[..., 0]).sum()))
        # even over a turn: the mean of the phases' directions vanishes
        assert abs(np.exp(1j * np.array(phases)).mean()) < 0.25


@pytest.mark.parametrize("orientations", [1, 2, 5, 8])
def test_edges_have_the_angles_of_their_labels(orientations: int) -> None:
    X, y = make_edges(80, 24, orientations=orientations, noise=0.0, seed=0)
    counts = np.bincount(y, minlength=orientations)
    assert len(counts) == orientations and counts.max() - counts.min() <= 1
    down, right = np.gradient(X[..., 0].astype(np.float64), axis=(1, 2))
    # the doubled angle of the gradient does not depend on its sign; up is against the rows; the edge is normal to it
    doubled = np.angle(((right - 1j * down) ** 2).sum((1, 2))) + math.pi
    error = np.angle(np.exp(1j * (doubled - 2.0 * math.pi * y / orientations))) / 2.0
    assert abs(error).max() < math.radians(4.0)  # differences of sharp steps are off by up to 3 degrees
    towards = right.sum((1, 2)) + 0.37 * down.sum((1, 2))  # no edge of these is normal to this direction
    for label in range(orientations):
        assert len(set(np.sign(towards[y == label]))) == 2


def test_edges_are_smooth_steps_near_the_middle() -> None:
    X, _ = make_edges(200, 16, orientations=1, noise=0.0, seed=0)
    profile = X[:, :, 0, 0]
    np.testing.assert_array_equal(X[..., 0], np.broadcast_to(profile[:, :, None], (200, 16, 16)))
    bright = profile.sum(1)  # the edge has this distance from the first or the last row
    assert 3.9 < bright.min() < 4.5 and 11.5 < bright.max() < 12.1
    assert (profile.min(1) == 0.0).all() and (profile.max(1) == 1.0).all()
    between = (profile > 0.0) & (profile < 1.0)
    assert between.sum(1).max() == 2
    # the two are a pixel apart: if one is at t of the step, the other is at t + 1/2; both are smoothed
    two = np.sort(profile[between & (between.sum(1) == 2)[:, None]].reshape(-1, 2), axis=1)
    assert len(two) > 100
    low, high = two.T
    t = np.array([min(root.real for root in np.roots([-2, 3, 0, -one]) if root.real > 0.0) for one in low])
    np.testing.assert_allclose(high, 3.0 * (t + 0.5) ** 2 - 2.0 * (t + 0.5) ** 3, atol=1e-5)


@pytest.mark.parametrize("make", MAKERS)
def test_images_are_determined_by_their_seed(make: Callable[..., Any]) -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    first, again = make(30, 12, seed=3), make(30, 12, seed=3)
    for array, same in zip(first, again, strict=True):
        assert array.tobytes() == same.tobytes()
    rng, same_rng = np.random.default_rng(3), np.random.default_rng(3)
    drawn = make(30, 12, seed=rng)[0]
    np.testing.assert_array_equal(drawn, make(30, 12, seed=same_rng)[0])
    everything = [first[0], drawn, *(make(30, 12, seed=seed)[0] for seed in (4, rng, None, None))]
    assert len({array.tobytes() for array in everything}) == len(everything)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]  # noqa: NPY002


@pytest.mark.parametrize("make", MAKERS)
def test_images_do_not_depend_on_how_many_are_computed_at_once(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = make(50, 10, seed=0)
    monkeypatch.setattr("fastnn.datasets.images._PIXELS", 300)
    for array, same in zip(together, make(50, 10, seed=0), strict=True):
        np.testing.assert_array_equal(array, same)


@pytest.mark.parametrize("make", MAKERS)
def test_images_are_float32_with_noise_and_their_labels_int64(make: Callable[..., Any]) -> None:
    X, y = make(1000, 9, seed=0)
    assert X.dtype == np.float32 and X.shape == (1000, 9, 9, 1) and X.flags.c_contiguous
    assert y.dtype == np.int64 and y.shape == (1000,)
    assert X.min() == 0.0 and X.max() == 1.0
    assert (np.diff(y) != 0).mean() > 0.7
    clean, same = make(1000, 9, noise=0.0, seed=0)
    np.testing.assert_array_equal(y, same)
    # below 0 noise is clipped: half a normal distribution has the mean square 1/2
    assert np.square(X[clean == 0.0]).mean() == pytest.approx(0.1**2 / 2.0, rel=0.05)
    for n, size in [(1, 1), (2, 2), (3, 1)]:
        assert make(n, size)[0].shape == (n, size, size, 1)


@pytest.mark.parametrize("make", MAKERS)
def test_arguments_are_checked(make: Callable[..., Any]) -> None:
    name = make.__name__
    for argument in ("n", "size"):
        for bad in (10.0, "10", True, None):
            with pytest.raises(TypeError, match=f"^{name}: {argument}: expected an integer"):
                make(**{"n": 10} | {argument: bad})
        with pytest.raises(ValueError, match=f"^{name}: {argument}: expected an integer >= 1, got 0"):
            make(**{"n": 10} | {argument: 0})
    with pytest.raises(ValueError, match=f"^{name}: images: expected at most"):
        make(2**20, 2**20)
    with pytest.raises(ValueError, match=f"^{name}: noise: expected a number >= 0"):
        make(10, noise=-0.1)
    with pytest.raises(TypeError, match="seed: expected an int"):
        make(10, seed=1.0)
    with pytest.raises(TypeError, match="make_edges: orientations: expected an integer"):
        make_edges(10, orientations=2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="make_edges: orientations: expected an integer >= 1, got 0"):
        make_edges(10, orientations=0)
