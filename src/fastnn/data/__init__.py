"""Data of the user, checked: arrays, data frames, targets, sample weights, subsets of rows.

Public are the functions that make arrays of sequences of unequal lengths, `pad_sequences` and `buckets`, and `frame`,
which prepares tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastnn.data.padding import Bucket, buckets, pad_sequences
from fastnn.hints import install

if TYPE_CHECKING:  # imported on first use
    from fastnn.tables.framing import frame as frame
    from fastnn.tables.preparation import Preparation as Preparation
    from fastnn.tables.table import Table as Table

__all__ = ["Bucket", "buckets", "pad_sequences"]

_LATER = {"Preparation": "preparation", "Table": "table", "frame": "framing"}

install(__name__, later={name: f"fastnn.tables.{module}" for name, module in _LATER.items()})
