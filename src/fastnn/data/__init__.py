"""Data of the user, checked: arrays, data frames, targets, sample weights, subsets of rows.

Public are the functions that make arrays of sequences of unequal lengths: `pad_sequences` and `buckets`.
"""

from __future__ import annotations

from fastnn.data.padding import Bucket, buckets, pad_sequences
from fastnn.hints import install

__all__ = ["Bucket", "buckets", "pad_sequences"]

install(__name__)
