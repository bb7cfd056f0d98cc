"""Data of the user, checked: arrays, data frames, targets, sample weights, subsets of rows.

Public are the functions that make arrays of sequences of unequal lengths, `pad_sequences` and `buckets`, and `frame`,
which prepares tables.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from fastnn.data.padding import Bucket, buckets, pad_sequences
from fastnn.hints import install

if TYPE_CHECKING:  # what `_LATER` imports on first use
    from fastnn.tables.framing import frame as frame
    from fastnn.tables.preparation import Preparation as Preparation
    from fastnn.tables.table import Table as Table

__all__ = ["Bucket", "buckets", "pad_sequences"]

# imported on first use: making their dataclasses would take 3 % of the time to import fastnn
_LATER = {"Preparation": "preparation", "Table": "table", "frame": "framing"}


def _later(name: str) -> object:
    if name not in _LATER:
        raise ValueError(name)
    return getattr(importlib.import_module(f"fastnn.tables.{_LATER[name]}"), name)


install(__name__, _later, _LATER)
