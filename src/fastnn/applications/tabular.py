"""Networks for tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.checks import number, shorten, size
from fastnn.hints import explained
from fastnn.layers import Dense, Dropout
from fastnn.model import Model
from fastnn.tables.preparation import Preparation
from fastnn.tables.table import Table


@explained
def Tabular(
    table: Table | Preparation,
    hidden: Sequence[int] = (64, 64),
    *,
    activation: Any = "relu",
    dropout: float = 0.0,
    outputs: int | None = None,
    classifier_activation: Any = "softmax",
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
    name: str | None = "tabular",
) -> Model:
    """Make a network for a prepared table: embeddings of categories of many levels, and dense layers.

    ::

        table = fnn.data.frame(df, target="bought")
        model = fnn.applications.Tabular(table, seed=0)
        model.compile("adam", "cross_entropy", metrics=["accuracy"])
        model.fit(table.x, table.y)
        model.preparation.decode(model.predict(df))

    Parameters
    ----------
    table : fastnn.data.Table or fastnn.data.Preparation
        From `fastnn.data.frame`.
    hidden : sequence of int
        Units of the hidden layers.
    activation : str or activation object
        Of the hidden layers.
    dropout : float
        After each hidden layer; 0 for none.
    outputs : int, optional
        By default one for each class, or one for numbers.
    classifier_activation : str, activation object or None
        Of the outputs if classes are learnt; numbers are as they are.
    seed, dtype, name
        As for `Model`.

    Returns
    -------
    Model
        Not compiled; its `preparation` is the table's.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid, or the table has no target and `outputs` is not given.
    """
    preparation = table.preparation if isinstance(table, Table) else table
    if not isinstance(preparation, Preparation):
        raise TypeError(f"table: expected one of fastnn.data.frame, got {shorten(table)}")
    if not isinstance(hidden, Sequence) or isinstance(hidden, str):
        raise TypeError(f"hidden: expected a sequence of integers, got {shorten(hidden)}")
    dropout = number("dropout", dropout, at_least=0.0, below=1.0)
    target = preparation.target
    if outputs is None:
        if target is None:
            raise ValueError("outputs: expected a number, since the table has no target")
        outputs = target.outputs
    inputs = preparation.inputs()
    x = preparation.encoded(inputs)
    for index, units in enumerate(hidden):
        x = Dense(size(f"hidden[{index}]", units), activation)(x)
        if dropout:
            x = Dropout(dropout)(x)
    x = Dense(size("outputs", outputs), classifier_activation if preparation.names else None)(x)
    model = Model(inputs, x, seed=seed, dtype=dtype, name=name)
    model.preparation = preparation
    return model
