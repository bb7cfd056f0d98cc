"""Estimates of how long a code takes, and of the number of rows from which on several threads would share it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.frozen.code import Code
from fastnn.backend.cpu.layouts.call import SHARE_UNIT, Share
from fastnn.backend.cpu.layouts.code import PATCH_WORDS, UNIT, CodeWord
from fastnn.backend.cpu.processor import cost
from fastnn.program.layout import RECORD_WORDS
from fastnn.program.loop_rules import rounds_of


def records_of(code: Code, rows: int) -> NDArray[np.int64]:
    """Return the records that run on a number of rows, whose products may still choose another algorithm."""
    at, count = (CodeWord.ONE_AT, CodeWord.ONE_COUNT) if rows == 1 else (CodeWord.MANY_AT, CodeWord.MANY_COUNT)
    made = code[code[at] : code[at] + code[count] * RECORD_WORDS].copy()
    if rows > 1:
        patches = code[code[CodeWord.PATCHES_AT] :][: code[CodeWord.PATCHES_COUNT] * PATCH_WORDS].reshape(
            -1, PATCH_WORDS
        )
        word, base, growth, places = patches.T
        made[word] = base + growth * rows + places * -(-rows // UNIT)
    run = code[CodeWord.ONE_COUNT if rows == 1 else CodeWord.MANY_RUN]
    return made.reshape(-1, RECORD_WORDS)[:run]


def nanoseconds(code: Code, rows: int) -> float:
    """Estimate the time of a number of rows that are computed at once, on one thread."""
    return cost.total(records_of(code, rows), _dtype(code))


def rows_within(code: Code, limit: float, most: int) -> int:
    """Return about how many rows take no longer than a number of nanoseconds, at most `most`."""
    one, many = nanoseconds(code, 1), nanoseconds(code, UNIT)
    if many > limit:
        return 0 if one > limit else 1 + int((limit - one) / (many - one) * (UNIT - 1))
    return most if many * most <= limit * UNIT else int(limit * UNIT / many)


@dataclass(frozen=True)
class Sharing:
    """What a team of threads shares in calls of a code on up to some number of rows.

    Attributes
    ----------
    alone : int
        Up to this many rows no record is worth sharing.
    table : ndarray of int64
        The records that are worth sharing on more rows; see `Share`.
    base, growth : float
        The estimated nanoseconds of these records: for no rows, and for each row.
    """

    alone: int
    table: NDArray[np.int64]
    base: float
    growth: float

    def nanoseconds(self, rows: int) -> float:
        """Estimate the time that threads can share in a call."""
        return self.base + self.growth * rows


def sharing(code: Code, most: int, at_once: int) -> Sharing:
    """Return what a team shares in calls on up to `most` rows, of which the code computes `at_once` at a time."""
    alone = _rows_alone(code, most, at_once)
    if alone == most:
        return Sharing(alone, np.zeros((0, Share.WORDS), np.int64), 0.0, 0.0)
    # estimates for two numbers of rows: looking at the records takes longer than a call
    few, many = (_shared_nanoseconds(code, rows, at_once) for rows in (alone + 1, most + 1))
    growth = (many - few) / (most - alone)
    return Sharing(alone, _shares(code, at_once), few - growth * (alone + 1), growth)


def _shared_nanoseconds(code: Code, rows: int, at_once: int) -> float:
    dtype, whole, rest = _dtype(code), *divmod(rows, at_once)
    found = 0.0
    for count, times in ((at_once, whole), (rest, 1)):
        if count and times:
            records = records_of(code, count)
            found += times * sum(
                rounds * cost.nanoseconds(one, dtype)
                for one, rounds in zip(records, rounds_of(records).tolist(), strict=True)
                if cost.parts(one, dtype, beside=True) > 1
            )
    return found


def _shares(code: Code, at_once: int) -> NDArray[np.int64]:
    """Return the table of records that are worth sharing on up to `at_once` rows; see `Share`."""
    dtype, first, last = _dtype(code), records_of(code, UNIT), records_of(code, at_once)
    found = []
    for index, (few, many) in enumerate(zip(first, last, strict=True)):
        if cost.parts(many, dtype, beside=True) > 1:
            work = cost.part_nanoseconds(many, beside=True)
            times = [cost.nanoseconds(record, dtype) / work for record in (few, many)]
            sizes = [float(cost.units(record, dtype)) for record in (few, many)]
            found.append([index, *_line(times, at_once), *_line(sizes, at_once)])
    return np.array(found, np.int64).reshape(-1, Share.WORDS)


def _line(values: list[float], last: int) -> tuple[int, int]:
    """Return a value for 0 rows and its growth per row, from those for UNIT and for `last` rows."""
    growth = (values[1] - values[0]) / (last - UNIT)
    return round((values[0] - growth * UNIT) * SHARE_UNIT), round(growth * SHARE_UNIT)


def _rows_alone(code: Code, most: int, at_once: int) -> int:
    """Return up to how many rows no record is worth sharing among threads, at most `most`."""
    high = min(most, at_once)
    if not _pays(code, high):
        return most
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _pays(code, middle) else (middle, high)
    return low


def _pays(code: Code, rows: int) -> bool:
    return any(cost.parts(record, _dtype(code)) > 1 for record in records_of(code, rows))


def _dtype(code: Code) -> str:
    return "float32" if code[CodeWord.ITEM_BYTES] == 4 else "float64"
