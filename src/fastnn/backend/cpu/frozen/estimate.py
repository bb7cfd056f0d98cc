"""Estimates of how long a code takes, and of the number of rows from which on several threads would share it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.frozen.code import Code
from fastnn.backend.cpu.layouts.call import SHARE_UNIT, Share
from fastnn.backend.cpu.layouts.code import BLOCK, PATCH_WORDS, UNIT, CodeWord
from fastnn.backend.cpu.processor import cost
from fastnn.program.layout import RECORD_WORDS


def records_of(code: Code, rows: int) -> NDArray[np.int64]:
    """Return the records that compute a number of rows, whose products may still choose another algorithm."""
    at, count = (CodeWord.ONE_AT, CodeWord.ONE_COUNT) if rows == 1 else (CodeWord.MANY_AT, CodeWord.MANY_COUNT)
    made = code[code[at] : code[at] + code[count] * RECORD_WORDS].copy()
    if rows > 1:
        patches = code[code[CodeWord.PATCHES_AT] :][: code[CodeWord.PATCHES_COUNT] * PATCH_WORDS].reshape(
            -1, PATCH_WORDS
        )
        word, base, growth, places = patches.T
        made[word] = base + growth * rows + places * -(-rows // UNIT)
    return made.reshape(-1, RECORD_WORDS)


def nanoseconds(code: Code, rows: int) -> float:
    """Estimate the time of a number of rows that are computed at once, on one thread."""
    return sum(cost.nanoseconds(record, _dtype(code)) for record in records_of(code, rows))


def rows_within(code: Code, limit: float, most: int) -> int:
    """Return about how many rows take no longer than a number of nanoseconds, at most `most`."""
    one, many = nanoseconds(code, 1), nanoseconds(code, UNIT)
    if many > limit:
        return 0 if one > limit else 1 + int((limit - one) / (many - one) * (UNIT - 1))
    return most if many * most <= limit * UNIT else int(limit * UNIT / many)


def shared_nanoseconds(code: Code, rows: int) -> float:
    """Estimate the time that threads can share in a call of some rows."""
    dtype, whole, rest = _dtype(code), *divmod(rows, BLOCK)
    found = 0.0
    for count, times in ((BLOCK, whole), (rest, 1)):
        if count and times:
            records = records_of(code, count)
            found += times * sum(cost.nanoseconds(one, dtype) for one in records if cost.parts(one, dtype) > 1)
    return found


def shares(code: Code) -> NDArray[np.int64]:
    """Return the table of records that are worth sharing in calls of up to BLOCK rows; see `Share`."""
    dtype, first, last = _dtype(code), records_of(code, UNIT), records_of(code, BLOCK)
    found = []
    for index, (few, many) in enumerate(zip(first, last, strict=True)):
        if cost.parts(many, dtype) > 1:
            times = [cost.nanoseconds(record, dtype) / cost.PART_NANOSECONDS for record in (few, many)]
            sizes = [float(cost.units(record, dtype)) for record in (few, many)]
            found.append([index, *_line(times), *_line(sizes)])
    return np.array(found, np.int64).reshape(-1, Share.WORDS)


def _line(values: list[float]) -> tuple[int, int]:
    """Return a value for 0 rows and its growth per row, from those for UNIT and for BLOCK rows."""
    growth = (values[1] - values[0]) / (BLOCK - UNIT)
    return round((values[0] - growth * UNIT) * SHARE_UNIT), round(growth * SHARE_UNIT)


def rows_alone(code: Code, most: int, at_once: int = BLOCK) -> int:
    """Return up to how many rows no record is worth sharing among threads, at most `most`."""
    if not _shares(code, min(most, at_once)):
        return most
    low, high = 0, min(most, at_once)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _shares(code, middle) else (middle, high)
    return low


def _shares(code: Code, rows: int) -> bool:
    return any(cost.parts(record, _dtype(code)) > 1 for record in records_of(code, rows))


def _dtype(code: Code) -> str:
    return "float32" if code[CodeWord.ITEM_BYTES] == 4 else "float64"
