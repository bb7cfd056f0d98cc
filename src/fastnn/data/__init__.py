"""Data of the user, checked: arrays, data frames, targets, sample weights, subsets of rows.

Public are the functions that make arrays of sequences of unequal lengths, `pad_sequences` and `buckets`, and `frame`,
which prepares tables.
"""

from __future__ import annotations

from fastnn.data.padding import Bucket, buckets, pad_sequences
from fastnn.hints import install
from fastnn.tables.framing import frame
from fastnn.tables.preparation import Preparation
from fastnn.tables.table import Table

__all__ = ["Bucket", "Preparation", "Table", "buckets", "frame", "pad_sequences"]

install(__name__)
