"""`frame`: a table of a user as inputs and targets of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import shorten
from fastnn.hints import explained
from fastnn.tables.columns import Column, Dropped
from fastnn.tables.learning import Options, learn
from fastnn.tables.preparation import Preparation
from fastnn.tables.reading import columns_of
from fastnn.tables.table import Columns, Table
from fastnn.tables.target import Target, learn_target
from fastnn.tables.values import Values


@explained
def frame(
    df: Any,
    target: Any = None,
    *,
    scale: str = "standard",
    missing: str = "median",
    embed_over: int = 20,
    min_count: int = 5,
    kinds: Mapping[str, str] | None = None,
    classes: bool | None = None,
    scale_target: bool = False,
) -> Table:
    """Clean a table, and make inputs and targets of a network of it.

    ::

        train, test = fnn.data.frame(df, target="bought").split(0.2, seed=0)
        print(train)                                   # what was done to each column
        model = fnn.applications.Tabular(train, seed=0)
        model.compile("adam", "cross_entropy", metrics=["accuracy"])
        model.fit(train.x, train.y, epochs=20)
        model.save("bought.safetensors")
        fnn.load("bought.safetensors").predict(df)     # takes raw frames

    Parameters
    ----------
    df : data frame of pandas or polars, dict of columns, or structured array
        Neither library is needed.
    target : column name, optional
        What is learnt: text, categories and bools are classes, numbers are numbers. Rows without it are left out.
    scale : {"standard", "robust", "quantile", "none"}
        What numbers become: "standard" has mean 0 and variance 1; "robust" has median 0, and quartiles as far apart as
        those of a normal distribution; "quantile" is spread evenly, at most sqrt(3) from 0.
    missing : {"median", "mean"}
        What fills gaps among numbers. One more input is 1 where they were.
    embed_over : int
        Categories of more levels become integers, for an `Embedding`; others a column of 0 and 1 for each level.
    min_count : int
        Levels of fewer rows are one level, "other", as are levels of new rows that are not known.
    kinds : dict of column name to {"number", "bool", "category", "date", "drop"}, optional
        For columns whose values do not show it, such as numbers that are codes.
    classes : bool, optional
        Whether the target is classes; by default numbers are not.
    scale_target : bool
        Whether numbers to learn have mean 0 and variance 1; `Preparation.decode` goes back.

    Returns
    -------
    Table

    Raises
    ------
    TypeError
        When it is no table, or an option has no such value.
    ValueError
        When it has no rows, columns of different lengths, or no column is left; when there is no such target.

    Notes
    -----
    Columns without values, with one value only, with the values of an earlier column, of text that is different in
    every row, and of objects that are neither numbers nor text are dropped. Infinite numbers count as missing. Missing
    are None, NaN, and texts such as "", "NA", "n/a", "null" and "?". Text that is numbers or dates throughout is read
    as such; numbers with zeros in front are codes. Dates become days since the first one, and the times of the year,
    the week and the day on circles, if they vary. Missing categories are a level of their own.

    Everything is learnt from the rows that are given: `Table.split` learns from the first part alone.
    """
    given = {} if kinds is None else kinds
    if isinstance(given, Mapping):
        given = {str(name): kind for name, kind in given.items()}
    named = None if target is None else str(target)
    options = Options(named, scale, missing, embed_over, min_count, given, classes, scale_target)
    columns = columns_of(df, "df", options.kinds, others=True)
    for name in given:
        if name not in columns:
            raise ValueError(f"kinds: there is no column {name!r}")
    index = np.arange(len(_known(next(iter(columns.values())))))
    notes = []
    if named is not None:
        if named not in columns:
            raise ValueError(f"target: there is no column {named!r}; there are {shorten(list(columns))}")
        there = ~_known(columns[named]).gone
        if not there.any():
            raise ValueError(f"target {named!r}: has no values")
        if not there.all():
            notes.append(f"{int((~there).sum())} rows without {named!r} are left out")
            columns, index = _rows(columns, there), index[there]

    def split(parts: Sequence[NDArray[np.int64]]) -> list[Table]:
        known = found.target if found.names else None
        preparation = _learnt(_rows(columns, parts[0]), options, known)
        first, second = (preparation.table(_rows(columns, part), index[part]) for part in parts)
        first.notes.clear()
        return [first, second]

    found = _learnt(columns, options, None)
    made = found.table(columns, index, split)
    made.notes[:] = notes
    return made


def _known(values: Values | None) -> Values:
    assert values is not None
    return values


def _rows(columns: Columns, rows: NDArray[Any]) -> Columns:
    return {name: _known(values).take(rows) for name, values in columns.items()}


def _learnt(columns: Columns, options: Options, target: Target | None) -> Preparation:
    """Learn a preparation; a target that is known is kept."""
    found: list[Column] = []
    seen: dict[tuple[Any, ...], tuple[str, Values]] = {}
    for name, given in columns.items():
        values = _known(given)
        if name == options.target:
            target = target or learn_target(name, values, options)
            continue
        column = learn(name, values, options)
        if not isinstance(column, Dropped) and name not in options.kinds:
            key = (values.kind, values.levels, hash(values.data.tobytes()))
            same, other = seen.setdefault(key, (name, values))
            if same != name and values.same(other):
                column = Dropped(name=name, missing=column.missing, was=values.kind, reason=f"the same as {same!r}")
        found.append(column)
    return Preparation(tuple(found), target, len(_known(next(iter(columns.values())))))
