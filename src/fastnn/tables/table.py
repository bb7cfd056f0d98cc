"""Rows of a table, prepared for a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import number
from fastnn.tables.showing import as_html, as_text
from fastnn.tables.values import Values

#: columns by name; None for those that are not read
Columns = dict[str, Values | None]
#: the numbers of all columns, and the rows of an embedding for each further one
Inputs = list[NDArray[Any]]


class Table:
    """Rows of a table, prepared for a network; made by `fastnn.data.frame`, `Table.transform` and `Table.split`.

    Attributes
    ----------
    x : ndarray, or list of ndarray
        For `fit` and `predict`: numbers of shape (n, features) in float32, and for each column that is embedded
        integers of shape (n,); a list if there are several.
    y : ndarray or None
        Labels (n,) of classes as int64, or numbers (n,) as float32; None without a target, or without its column.
    index : ndarray of int64, shape (n,)
        The rows of the table that was given: those without a target are left out.
    notes : list of str
        What is to be said of these rows, such as levels that were not learnt.
    preparation : Preparation
        What was learnt. `print(table)` shows it.
    """

    def __init__(
        self, preparation: Any, inputs: Inputs, y: NDArray[Any] | None, index: NDArray[np.int64], notes: Sequence[str],
        learn: Callable[[Sequence[NDArray[np.int64]]], list[Table]] | None = None,
    ) -> None:  # fmt: skip
        self.preparation, self.y, self.index, self.notes = preparation, y, index, list(notes)
        self.x: Any = inputs if len(inputs) > 1 else inputs[0]
        self._learn = learn

    def __len__(self) -> int:
        return len(self.index)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the numbers of the first input."""
        found: tuple[str, ...] = self.preparation.features
        return found

    @property
    def names(self) -> tuple[Any, ...]:
        """Names of the classes, by label."""
        found: tuple[Any, ...] = self.preparation.names
        return found

    def transform(self, df: Any) -> Table:
        """Prepare other rows in the same way; see `Preparation.transform`."""
        found: Table = self.preparation.transform(df)
        return found

    def split(self, fraction: float = 0.2, *, seed: int | np.random.Generator | None = 0) -> tuple[Table, Table]:
        """Split the rows at random, and learn the preparation again, from the first part alone.

        ::

            train, test = fnn.data.frame(df, target="price").split(0.2, seed=0)

        Parameters
        ----------
        fraction : float
            Of the rows, for the second part.
        seed : int or numpy.random.Generator

        Returns
        -------
        first, second : Table
            Of one preparation. What is in the second part has no influence on it, but for the names of classes.

        Raises
        ------
        RuntimeError
            When this table is a result of `transform` or `split`.
        ValueError
            When a part would have no rows.
        """
        if self._learn is None:
            raise RuntimeError("split: this table was prepared by another one's preparation: split the first table")
        count = len(self)
        rest = round(number("fraction", fraction, above=0.0, below=1.0) * count)
        if not 0 < rest < count:
            raise ValueError(f"fraction: {fraction} of {count} rows leaves a part without rows")
        order = np.random.default_rng(seed).permutation(count)
        first, second = self._learn([np.sort(order[rest:]), np.sort(order[:rest])])
        return first, second

    def __repr__(self) -> str:
        return as_text(*self._shown())

    def _repr_html_(self) -> str:
        """Show the same in a notebook."""
        return as_html(*self._shown())

    def _shown(self) -> tuple[str, list[str], list[list[str]], list[str]]:
        header, heads, lines = self.preparation.report()
        return f"{len(self)} rows; {header}", heads, lines, self.notes
