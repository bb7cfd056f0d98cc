"""The bundled digits against UCI's published values, and the generated data sets against their definitions."""

import hashlib
import importlib.resources
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnn import datasets
from fastnn.datasets import load_digits, make_moons, make_regression, make_spirals, make_xor

COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # UCI: examples of each class in the testing set
README = Path(datasets.__file__).parent / "data" / "README.md"


def test_digits() -> None:
    X, y = load_digits()
    assert X.dtype == np.float32 and X.shape == (1797, 64) and X.flags.c_contiguous and X.flags.writeable
    assert y.dtype == np.int64 and y.shape == (1797,)
    assert X.min() == 0.0 and X.max() == 1.0
    assert np.bincount(y).tolist() == COUNTS
    pixels = X * 16
    np.testing.assert_array_equal(pixels, np.rint(pixels))
    values = pixels.astype(np.uint8).tobytes() + y.astype(np.uint8).tobytes()
    assert hashlib.sha256(values).hexdigest() in README.read_text(encoding="utf-8")


def test_the_first_digit_is_a_zero() -> None:
    X, y = load_digits(as_images=True)
    rows = [".. 5 13  9  1 .. ..", ".. 13 15 10 15  5 .."]
    assert y[0] == 0
    for row, text in enumerate(rows):
        expected = [0.0] + [0.0 if word == ".." else int(word) / 16.0 for word in text.split()]
        np.testing.assert_array_equal(X[0, row], expected)


def test_digits_as_images_and_split() -> None:
    X, y = load_digits()
    images, labels = load_digits(as_images=True)
    assert images.shape == (1797, 8, 8)
    np.testing.assert_array_equal(images.reshape(1797, 64), X)
    np.testing.assert_array_equal(labels, y)
    parts = [load_digits(split) for split in ("train", "test")]
    assert [len(part[1]) for part in parts] == [1437, 360]
    for i, whole in enumerate((X, y)):
        np.testing.assert_array_equal(np.concatenate([part[i] for part in parts]), whole)
    assert min(np.bincount(parts[1][1])) > 30
    with pytest.raises(ValueError, match="expected the split 'train', 'test' or None; got 'validation'"):
        load_digits("validation")  # type: ignore[arg-type]


def test_every_call_gives_new_arrays() -> None:
    X, y = load_digits()
    X[:] = 2.0
    y[:] = 2
    again, labels = load_digits()
    assert again.max() == 1.0 and labels[0] == 0


def test_damage_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = README.parent / "digits.npz"
    content = bytearray(path.read_bytes())
    assert hashlib.sha256(content).hexdigest() in README.read_text(encoding="utf-8")
    content[len(content) // 2] ^= 1
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    with pytest.raises(OSError, match=r"cannot read the bundled file .*install fastnn again"):
        load_digits()
    (tmp_path / "data" / "digits.npz").write_bytes(content)
    with pytest.raises(OSError, match=r"is damaged: expected the SHA-256 .*install fastnn again"):
        load_digits()


def test_xor() -> None:
    X, y = make_xor(103, seed=0)
    np.testing.assert_array_equal(y, X[:, 0] != X[:, 1])
    corners, counts = np.unique(X, axis=0, return_counts=True)
    assert corners.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert sorted(counts.tolist()) == [25, 26, 26, 26]
    noisy, labels = make_xor(4000, noise=0.1, seed=0)
    np.testing.assert_array_equal(labels, (noisy[:, 0] > 0.5) ^ (noisy[:, 1] > 0.5))
    assert abs((noisy - np.rint(noisy)).std() / 0.1 - 1.0) < 0.05


def test_moons() -> None:
    X, y = make_moons(101, seed=0)
    assert np.bincount(y).tolist() == [51, 50]
    upper, lower = X[y == 0], X[y == 1]
    np.testing.assert_allclose(np.hypot(upper[:, 0], upper[:, 1]), 1.0, atol=1e-6)
    np.testing.assert_allclose(np.hypot(lower[:, 0] - 1.0, lower[:, 1] - 0.5), 1.0, atol=1e-6)
    assert upper[:, 1].min() > -1e-6 and lower[:, 1].max() < 0.5 + 1e-6
    angles = np.sort(np.arctan2(upper[:, 1], upper[:, 0]))
    np.testing.assert_allclose(np.diff(angles), math.pi / 50, atol=1e-5)
    noisy = make_moons(101, noise=0.1, seed=0)[0]
    assert abs(np.std(noisy - X) / 0.1 - 1.0) < 0.2


@pytest.mark.parametrize("n_classes", [1, 2, 3, 5])
def test_spirals(n_classes: int) -> None:
    X, y = make_spirals(101, n_classes, seed=0, n_turns=0.75)
    counts = np.bincount(y, minlength=n_classes)
    assert len(counts) == n_classes and counts.max() - counts.min() <= 1
    radius = np.hypot(X[:, 0], X[:, 1])
    assert radius.max() == pytest.approx(1.0, abs=1e-6) and radius.min() > 0.0
    angle = np.arctan2(X[:, 1], X[:, 0]) / (2.0 * math.pi)
    turns = angle - 0.75 * radius - y / n_classes
    np.testing.assert_allclose(turns, np.rint(turns), atol=1e-5)
    first = np.sort(radius[y == 0])
    np.testing.assert_allclose(np.diff(first), first[0], atol=1e-6)


def test_regression() -> None:
    X, y, coef = make_regression(200, 7, seed=0, bias=2.0, return_coef=True)
    assert X.dtype == y.dtype == coef.dtype == np.float32
    assert X.shape == (200, 7) and y.shape == (200,) and coef.shape == (7,)
    np.testing.assert_allclose(y, X.astype(np.float64) @ coef.astype(np.float64) + 2.0, rtol=1e-7)
    same_X, same_y = make_regression(200, 7, seed=0, bias=2.0)
    np.testing.assert_array_equal(same_X, X)
    np.testing.assert_array_equal(same_y, y)
    noisy = make_regression(4000, 7, noise=0.5, seed=0, return_coef=True)
    residual = noisy[1] - noisy[0] @ noisy[2]
    assert abs(residual.std() / 0.5 - 1.0) < 0.06
    assert abs(np.corrcoef(residual, noisy[0][:, 0])[0, 1]) < 0.1


CLASSIFICATION = [make_xor, make_moons, make_spirals]


@pytest.mark.parametrize("make", [*CLASSIFICATION, make_regression])
def test_generators_are_determined_by_their_seed(make: Callable[..., Any]) -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    first = make(50, noise=0.1, seed=3)
    for array, again in zip(first, make(50, noise=0.1, seed=3), strict=True):
        np.testing.assert_array_equal(array, again)
    rng, same = np.random.default_rng(3), np.random.default_rng(3)
    drawn = make(50, noise=0.1, seed=rng)[0]
    np.testing.assert_array_equal(drawn, make(50, noise=0.1, seed=same)[0])
    others = [make(50, noise=0.1, seed=seed)[0] for seed in (4, rng, None, None)]
    everything = [first[0], drawn, *others]
    assert len({array.tobytes() for array in everything}) == len(everything)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]  # noqa: NPY002


@pytest.mark.parametrize("make", CLASSIFICATION)
def test_generated_rows_are_shuffled_float32_and_int64(make: Callable[..., Any]) -> None:
    X, y = make(1000, seed=0)
    assert X.dtype == np.float32 and X.shape == (1000, 2) and X.flags.c_contiguous
    assert y.dtype == np.int64 and y.shape == (1000,)
    changes = (np.diff(y) != 0).mean()
    assert 0.4 < changes < 0.6
    for n in (1, 2, 3):
        assert len(make(n, seed=0)[0]) == len(make(n, seed=0)[1]) == n


@pytest.mark.parametrize("make", [*CLASSIFICATION, make_regression])
def test_arguments_are_checked(make: Callable[..., Any]) -> None:
    name = make.__name__
    for bad in (10.0, "10", True, None):
        with pytest.raises(TypeError, match=f"{name}: n_samples: expected an int"):
            make(bad)
    with pytest.raises(ValueError, match=f"{name}: n_samples: expected at least 1, got 0"):
        make(0)
    with pytest.raises(ValueError, match=f"{name}: noise: expected a number >= 0"):
        make(10, noise=-0.1)
    with pytest.raises(TypeError, match=f"{name}: noise: expected a number"):
        make(10, noise="0.1")
    with pytest.raises(TypeError, match="seed: expected an int"):
        make(10, seed=1.0)
    with pytest.raises(ValueError, match="n_classes: expected at least 1"):
        make_spirals(10, 0)
    with pytest.raises(TypeError, match="n_features: expected an int"):
        make_regression(10, 2.5)  # type: ignore[call-overload]
