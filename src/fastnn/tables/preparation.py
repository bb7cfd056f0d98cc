"""What was learnt of a table: how rows of the same columns become inputs and targets of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.checks import integer, shorten
from fastnn.config import register
from fastnn.layers.core import Input
from fastnn.layers.integers import Embedding
from fastnn.layers.merge import Concatenate
from fastnn.layers.symbols import Symbol
from fastnn.tables.columns import Category, Column, Date, Dropped
from fastnn.tables.reading import columns_of
from fastnn.tables.showing import as_html, as_text
from fastnn.tables.table import Columns, Inputs, Table
from fastnn.tables.target import Target
from fastnn.tables.values import Values, converted

NUMBERS = "numbers"
_MOST_NAMED = 5


@register("preparation")
@dataclass(frozen=True)
class Preparation:
    """How the columns of a table become inputs of a network; made by `fastnn.data.frame`.

    Attributes
    ----------
    columns : tuple
        What becomes of each column.
    target : object, optional
        What becomes of the column that is learnt.
    rows : int
        How many rows it was learnt from.

    Notes
    -----
    It does not change, and is part of a model file if it is a model's `preparation`. Its text is a table of what was
    done.
    """

    columns: tuple[Column, ...]
    target: Target | None
    rows: int

    def __post_init__(self) -> None:
        integer("rows", self.rows)
        names = [column.name for column in self.columns] + ([self.target.name] if self.target else [])
        if len(set(names)) < len(names):
            raise ValueError("columns: a name occurs twice")
        if not self._used:
            raise ValueError(
                "no column is left: " + "; ".join([f"{column.name}: {column.says()}" for column in self.columns])
            )

    @property
    def _used(self) -> list[Column]:
        return [column for column in self.columns if not isinstance(column, Dropped)]

    @property
    def _embedded(self) -> list[tuple[Column, int]]:
        return [(column, column.rows) for column in self.columns if column.rows is not None]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the numbers of the first input; columns that become rows of embeddings are inputs of their own."""
        return tuple([name for column in self._used for name in column.features()])

    @property
    def names(self) -> tuple[Any, ...]:
        """Names of the classes, by label; empty if numbers or nothing is learnt."""
        return getattr(self.target, "names", ())

    def transform(self, df: Any) -> Table:
        """Prepare other rows in the same way.

        Parameters
        ----------
        df : data frame, dict of columns, or structured array
            With the columns that are used, in any order; others are ignored. The target may be absent.

        Returns
        -------
        Table
            Its `notes` say which values were not known.

        Raises
        ------
        TypeError, ValueError
            When a column is absent, or holds values of another kind.
        """
        kinds = self._kinds()
        if self.target is not None:
            kinds[self.target.name] = self.target.kind
        return self.table(columns_of(df, "df", kinds, others=False))

    def _kinds(self) -> dict[str, str | None]:
        """Return the kinds of the columns that are used."""
        return {column.name: column.kind for column in self._used}

    def inputs_of(self, df: Any, what: str) -> Any:
        """Return `transform(df).x`, whatever the target; `what` begins messages."""
        inputs, _ = self._encode(columns_of(df, what, self._kinds(), others=False), what)
        return inputs if len(inputs) > 1 else inputs[0]

    def table(self, columns: Columns, index: NDArray[np.int64] | None = None, split: Any = None) -> Table:
        """Return columns of values as a table; see `Table`."""
        inputs, notes = self._encode(columns, "df")
        if index is None:
            index = np.arange(len(inputs[0]))
        values = None if self.target is None else columns.get(self.target.name)
        if self.target is None or values is None:
            return Table(self, inputs, None, index, notes, split)
        there = ~values.gone
        if not there.any():
            return Table(self, inputs, None, index, [*notes, f"{self.target.name!r} has no values"], split)
        if not there.all():
            notes = [*notes, f"{int((~there).sum())} rows without {self.target.name!r} are left out"]
            inputs, index, values = [each[there] for each in inputs], index[there], values.take(there)
        return Table(self, inputs, self.target.encoded(values), index, notes, split)

    def _encode(self, columns: Columns, what: str) -> tuple[Inputs, list[str]]:
        """Return the inputs for columns of values, and what is to be said of them.

        Raises
        ------
        ValueError
            When a column is missing, or its values are not of the kind that was learnt.
        """
        used = self._used
        absent = [column.name for column in used if columns.get(column.name) is None]
        if absent:
            raise ValueError(f"{what}: lacks the columns {shorten(absent)}; it has {shorten(list(columns))}")
        notes = []
        values = {}
        for column in used:
            given = columns[column.name]
            assert given is not None
            where = f"{what}: column {column.name!r}"
            values[column.name] = found = converted(given, column.kind, where)
            if isinstance(column, Date) and not found.gone.all() and found.zone != column.zone:
                zones = [zone or "none" for zone in (column.zone, found.zone)]
                raise ValueError(f"{where}: expected dates of the time zone {zones[0]}, got {zones[1]}: convert them")
            notes += _notes(column, found)
        rows = len(next(iter(values.values())))
        inputs: Inputs = []
        features = self.features
        if features:
            numbers, place = np.empty((rows, len(features)), np.float32), 0
            for column in used:
                for each in column.numbers(values[column.name]):
                    numbers[:, place] = each
                    place += 1
            inputs.append(numbers)
        return [*inputs, *(column.index(values[column.name]) for column, _ in self._embedded)], notes

    def inputs(self) -> list[Symbol]:
        """Return new inputs of a network: of the numbers, if there are any, and of integers by embedded column."""
        features, taken = len(self.features), {NUMBERS}
        made = [Input(features, name=NUMBERS)] if features else []
        for column, _ in self._embedded:
            name, count = column.name.replace("/", "_") or "column", 1
            while name in taken:
                count += 1
                name = f"{column.name.replace('/', '_')} ({count})"
            taken.add(name)
            made.append(Input((), dtype="int64", name=name))
        return made

    def encoded(self, inputs: Sequence[Symbol]) -> Symbol:
        """Return the symbol of all inputs side by side, those of integers embedded.

        Parameters
        ----------
        inputs : list of Symbol
            Of `inputs()`.

        Notes
        -----
        A column of n levels has min(50, round(1.6 n^0.56)) numbers: the rule of thumb of fastai's tabular models
        (Howard and Gugger 2020).
        """
        numbers = [inputs[0]] if self.features else []
        embedded = [
            Embedding(rows, min(50, round(1.6 * rows**0.56)))(symbol)
            for (_, rows), symbol in zip(self._embedded, inputs[len(numbers) :], strict=True)
        ]
        parts = [*numbers, *embedded]
        joined: Symbol = parts[0] if len(parts) == 1 else Concatenate()(parts)
        return joined

    def input_kinds(self) -> list[tuple[tuple[int, ...], str]]:
        """Return the shapes of samples of the inputs, and what they hold: "real" or "int64"."""
        features = len(self.features)
        return [((features,), "real")] * bool(features) + [((), "int64")] * len(self._embedded)

    def decode(self, outputs: ArrayLike) -> NDArray[Any]:
        """Return what a network's outputs mean: names of classes, or numbers as they were before they were scaled.

        Parameters
        ----------
        outputs : array
            Probabilities or scores of shape (n, classes), of which the largest counts; for two classes also (n, 1) or
            (n,), the probability of the second; labels of shape (n,); or numbers.

        Raises
        ------
        RuntimeError
            When nothing is learnt.
        ValueError
            When the shape does not fit.
        """
        if self.target is None:
            raise RuntimeError("the table has no target: fastnn.data.frame(df, target=...)")
        return self.target.decoded(outputs)

    def __repr__(self) -> str:
        return as_text(*self.report())

    def _repr_html_(self) -> str:
        """Show the same in a notebook."""
        return as_html(*self.report())

    def report(self) -> tuple[str, list[str], list[list[str]]]:
        """Return what was done, as a header, the heads of a table and its lines: one for each column."""
        left = sum(isinstance(column, Dropped) for column in self.columns)
        parts = [f"{len(self.columns) - left} of {len(self.columns)} columns used", f"{len(self.features)} numbers"]
        parts += [f"{len(self._embedded)} embeddings"] * bool(self._embedded)
        header = f"preparation learnt from {self.rows} rows: {', '.join(parts)}"
        lines = []
        for column in self.columns:
            kind = column.was if isinstance(column, Dropped) else column.kind
            inputs = "-" if isinstance(column, Dropped) else str(len(column.features()) or "1 integer")
            done = "; ".join([column.says(), *(note for note in column.notes if note not in column.says())])
            lines.append([column.name, kind, str(column.missing or ""), done, inputs])
        if self.target is not None:
            lines.append([self.target.name, "target", "", self.target.says(), "-"])
        return header, ["column", "kind", "missing", "what is done", "inputs"], lines


def _notes(column: Column, values: Values) -> list[str]:
    """Return what is to be said of a column of new rows."""
    notes = [f"{column.name}: {note}" for note in values.notes if note not in column.notes]
    count, levels = column.unknown(values)
    if count:
        named = ", ".join([repr(level) for level in levels[:_MOST_NAMED]]) + ", ..." * (len(levels) > _MOST_NAMED)
        become = "count as other" if isinstance(column, Category) and (column.rare or column.embedded) else "are zeros"
        notes.append(f"{column.name}: {count} values of levels that were not learnt ({named}) {become}")
    gone = int(values.gone.sum())
    if gone and not column.missing:
        notes.append(f"{column.name}: {gone} missing, of which there were none where it was learnt")
    return notes
