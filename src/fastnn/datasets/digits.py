"""The bundled handwritten digits (provenance and format: ``data/README.md``)."""

import hashlib
import importlib.resources
import io
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

_FILE = "digits.npz"
_SHA256 = "b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e"
_MAX_PIXEL = 16
_N_TRAIN = 1437  # 80 % of the rows, the same for every user


def load_digits(
    split: Literal["train", "test"] | None = None, *, as_images: bool = False
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Load 1797 handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak 1998); no download.

    Parameters
    ----------
    split : {"train", "test"} or None
        The first 1437 rows, the last 360, or (None) all. They are in the order of the source, which mixes
        the classes.
    as_images : bool
        Whether an image has shape (8, 8), row by row from the top, instead of (64,).

    Returns
    -------
    X : ndarray of float32, shape (n, 64) or (n, 8, 8)
        Ink from 0 (none) to 1, in steps of 1/16.
    y : ndarray of int64, shape (n,)
        The digits, 0 to 9.

    Raises
    ------
    ValueError
        If the split is unknown.
    OSError
        If the bundled file is missing or damaged.
    """
    if split not in (None, "train", "test"):
        raise ValueError(f"load_digits: expected the split 'train', 'test' or None; got {split!r}")
    rows = {None: slice(None), "train": slice(_N_TRAIN), "test": slice(_N_TRAIN, None)}[split]
    with np.load(io.BytesIO(_read()), allow_pickle=False) as arrays:
        images: npt.NDArray[Any] = arrays["images"][rows]
        labels: npt.NDArray[Any] = arrays["labels"][rows]
    X = images.astype(np.float32) / np.float32(_MAX_PIXEL)
    return X if as_images else X.reshape(len(X), -1), labels.astype(np.int64)


def _read() -> bytes:
    path = importlib.resources.files("fastnn.datasets").joinpath("data", _FILE)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OSError(f"load_digits: cannot read the bundled file {path} ({error}); install fastnn again") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != _SHA256:
        raise OSError(
            f"load_digits: the bundled file {path} is damaged: expected the SHA-256 {_SHA256}, got {digest}; "
            "install fastnn again"
        )
    return content
