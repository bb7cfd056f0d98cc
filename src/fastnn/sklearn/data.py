"""Checked data as networks take them: dense, and finite in the network's dtype."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def dense(X: Any) -> Array:
    """Return an array for an array or a sparse matrix.

    Raises
    ------
    MemoryError
        When a sparse matrix would take more than half of the machine's memory.
    """
    if not hasattr(X, "toarray"):
        found: Array = X
        return found
    needed = X.shape[0] * X.shape[1] * X.dtype.itemsize
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    if needed > most:
        raise MemoryError(
            f"X: sparse data are made dense, and {X.shape[0]} x {X.shape[1]} numbers would take {needed / 2**30:.1f} "
            f"GiB, more than half of the memory ({most / 2**30:.1f} GiB): take fewer features (TruncatedSVD, "
            "SelectKBest), or train on parts with partial_fit"
        )
    full: Array = X.toarray()
    return full


def check_range(X: Any, dtype: Any) -> None:
    """Raise as scikit-learn does for infinity, if finite numbers are infinite in a network's dtype.

    Parameters
    ----------
    X : ndarray or sparse matrix
    dtype : dtype

    Raises
    ------
    ValueError
    """
    values, dtype = (X.data if hasattr(X, "toarray") else X), np.dtype(dtype)
    if values.dtype.kind != "f" or values.dtype.itemsize <= dtype.itemsize or not values.size:
        return
    if max(values.max(), -values.min()) > np.finfo(dtype).max:
        raise ValueError(f"Input X contains infinity or a value too large for {dtype!r}.")
