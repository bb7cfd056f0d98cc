"""Checked data as networks take them: dense, as a whole or a few rows at a time, and finite in the network's dtype."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fastnn.model import Model
    from fastnn.training.options import Passes

Array = NDArray[Any]

#: sparse data that would take more bytes than this are made dense a few rows at a time
WHOLE = 2**28
#: the bytes of the rows that predictions make dense at a time, or of their products
_BLOCK = 2**25
#: a smaller share of numbers that are not zero is multiplied faster by itself
_SPARSE = 0.1


class SparseRows:
    """Rows of a sparse matrix, which are made dense where they are read, in one place.

    Parameters
    ----------
    matrix : sparse matrix of shape (n, features)

    Attributes
    ----------
    shape : tuple of int
    """

    def __init__(self, matrix: Any) -> None:
        self._matrix = matrix.tocsr()
        self.shape: tuple[int, int] = matrix.shape
        self._room = np.empty((0, matrix.shape[1]), matrix.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def is_sparse(self) -> bool:
        """Whether so few numbers are not zero that their products take less time than those of dense rows."""
        return bool(self._matrix.nnz < _SPARSE * self.shape[0] * self.shape[1])

    def products(self, kernel: Array) -> Iterator[Array]:
        """Yield the products of all rows with a matrix, some at a time; zeros are passed over."""
        for rows in self._parts(kernel.shape[1] * kernel.itemsize):
            yield np.asarray(self._matrix[rows] @ kernel)

    def take(self, rows: slice | NDArray[np.int64]) -> Array:
        """Return dense rows, until the next call, which writes to the same place.

        Raises
        ------
        MemoryError
            When they would take more than half of the machine's memory.
        """
        part = self._matrix[rows]
        n, features = part.shape
        if len(self._room) < n:
            _check_memory(n, features, part.dtype.itemsize)
            self._room = np.empty((n, features), part.dtype)
        found: Array = part.toarray(out=self._room[:n])
        return found

    def blocks(self) -> Iterator[Array]:
        """Yield all rows, dense, some at a time."""
        for rows in self._parts(self.shape[1] * self._room.itemsize):
            yield self.take(rows)

    def _parts(self, row_bytes: int) -> Iterator[slice]:
        """Yield slices of rows that take a block of memory."""
        size = max(1, _BLOCK // row_bytes)
        for first in range(0, len(self), size):
            yield slice(first, first + size)


class Batches:
    """Batches of sparse rows for a training, in the orders that it has; each iteration is an epoch.

    Parameters
    ----------
    x : SparseRows
    y : ndarray
    passes : EpochOrders
    size : int
        Rows of a batch.
    """

    def __init__(self, x: SparseRows, y: Array, passes: Passes, size: int) -> None:
        self._x, self._y, self._passes, self._size, self._epoch = x, y, passes, size, 0

    def __len__(self) -> int:
        return -(-len(self._x) // self._size)

    def __iter__(self) -> Iterator[tuple[Array, Array, Array | None]]:
        order = self._passes.begin(self._epoch)
        assert order is not None
        self._epoch += 1
        for first in range(0, len(order), self._size):
            rows, weights = order[first : first + self._size], self._passes.weights
            yield self._x.take(rows), self._y[rows], None if weights is None else weights[rows]


def readable(X: Any) -> Array | SparseRows:
    """Return data to read: sparse data are dense as a whole if they are small, which is quicker."""
    if not hasattr(X, "toarray"):
        found: Array = X
        return found
    if X.shape[0] * X.shape[1] * X.dtype.itemsize > WHOLE:
        return SparseRows(X)
    full: Array = X.toarray()
    return full


def predicted(model: Model, x: Array | SparseRows) -> Array:
    """Return the outputs of a model; they do not depend on how many rows are read at a time."""
    if isinstance(x, SparseRows):
        return np.concatenate([model.predict(part) for part in x.blocks()])
    found: Array = model.predict(x)
    return found


def _check_memory(rows: int, features: int, itemsize: int) -> None:
    needed = rows * features * itemsize
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    if needed > most:
        raise MemoryError(
            f"X: the rows of a batch are made dense, and {rows} x {features} numbers would take {needed / 2**30:.1f} "
            f"GiB, more than half of the memory ({most / 2**30:.1f} GiB): take a smaller batch_size, or fewer features "
            "(TruncatedSVD, SelectKBest)"
        )


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
