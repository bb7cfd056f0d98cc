"""Columns in one of four forms: numbers, bools, categories and dates; and from one form to another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import shorten

#: what a column may hold; "other" is none of these
KINDS = ("number", "bool", "category", "date")
#: texts that stand for a missing value, besides texts of spaces
MISSING = frozenset(["", "#n/a", "#na", "-nan", "<na>", "n/a", "na", "nan", "nat", "none", "null", "?", "-", "--"])
# with a few spaces
_LONGEST = 10
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*|0?(?=\.))(\.\d*)?([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?)?Z?")
_BOOLS = {"true": 1.0, "yes": 1.0, "1": 1.0, "false": 0.0, "no": 0.0, "0": 0.0}
_PLURALS = {"number": "numbers", "bool": "bools", "category": "categories", "date": "dates"}
_NAT = np.datetime64("NaT", "us")


@dataclass(frozen=True)
class Values:
    """A column's values in one form.

    Attributes
    ----------
    kind : str
        One of `KINDS`, or "other".
    data : ndarray of shape (n,)
        Numbers and bools as float64, with NaN for missing ones; numbers of levels, with -1; dates as datetime64[us].
    levels : tuple of str
        Of categories; some may not occur.
    notes : tuple of str
        What was changed while it was read.
    zone : str
        The time zone of dates, which are local times; "" if they have none.
    """

    kind: str
    data: NDArray[Any]
    levels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    zone: str = ""

    def __len__(self) -> int:
        return len(self.data)

    @property
    def gone(self) -> NDArray[np.bool_]:
        """Which values are missing."""
        if self.kind == "category":
            return self.data < 0
        found: NDArray[np.bool_] = np.isnat(self.data) if self.kind == "date" else np.isnan(self.data)
        return found

    def take(self, rows: NDArray[Any]) -> Values:
        """Return some of the rows."""
        return replace(self, data=self.data[rows])

    def same(self, other: Values) -> bool:
        """Return whether two columns hold the same."""
        if (self.kind, self.levels, self.zone) != (other.kind, other.levels, other.zone):
            return False
        return np.array_equal(self.data.view(np.int64), other.data.view(np.int64))


def of_numbers(data: NDArray[Any], kind: str = "number") -> Values:
    """Return numbers; infinite ones count as missing."""
    data = np.asarray(data, np.float64)
    infinite = np.isinf(data)
    count = int(infinite.sum())
    if not count:
        return Values(kind, data)
    return Values(kind, np.where(infinite, np.nan, data), notes=(f"{count} infinite, taken as missing",))


def of_dates(data: NDArray[Any], zone: str = "") -> Values:
    """Return dates."""
    return Values("date", data.astype("datetime64[us]"), zone=zone)


def of_codes(codes: NDArray[Any], levels: Sequence[Any]) -> Values:
    """Return categories of numbers of levels, which may be any objects; those that are spelled alike are one."""
    names, order = _named(levels)
    table = np.array([*order, -1], np.int64)
    return Values("category", table[np.where(codes < 0, len(order), codes).astype(np.int64)], names)


def of_objects(given: Sequence[Any], kind: str | None = None) -> Values:
    """Return the values of objects: numbers, bools, dates, or else categories, as text is if that `kind` is known."""
    try:
        unique = list(dict.fromkeys(given))
    except TypeError:
        note = f"holds values of type {next(filter(None, map(_unhashable, given)))}"
        return Values("other", np.full(len(given), np.nan), notes=(note,))
    there = [each for each in unique if not _is_missing(each)]
    types = {type(each) for each in there}
    if not types:
        return Values("number", np.full(len(given), np.nan))
    if all(issubclass(each, (bool, np.bool_)) for each in types):
        return Values("bool", _mapped(given, unique, {each: float(each) for each in there}, np.nan))
    if all(_is_number(each) for each in types):
        return of_numbers(_mapped(given, unique, {each: _as_float(each) for each in there}, np.nan))
    if all(hasattr(each, "toordinal") or issubclass(each, np.datetime64) for each in types):
        return of_dates(_mapped(given, unique, {each: _as_date(each) for each in there}, _NAT))
    if all(issubclass(each, str) for each in types):
        return _of_levels(given, unique, there) if kind == "category" else _of_text(given, unique, there)
    made = _of_levels(given, unique, there)
    names = sorted({"numbers" if _is_number(each) else each.__name__ for each in types})
    return replace(made, notes=(f"mixed: {', '.join(names)}",)) if len(names) > 1 else made


def _unhashable(value: Any) -> str:
    """Return the name of a value's type if it cannot be a key of a dict, as lists cannot."""
    try:
        hash(value)
    except TypeError:
        return type(value).__name__
    return ""


def _of_text(given: Sequence[Any], unique: Sequence[Any], there: Sequence[str]) -> Values:
    """Return the values of text, which may be written numbers or dates."""
    stripped = {each: each.strip() for each in there}
    if all(_NUMBER.fullmatch(each) for each in stripped.values()):
        found = of_numbers(_mapped(given, unique, {each: float(text) for each, text in stripped.items()}, np.nan))
        return replace(found, notes=("numbers written as text", *found.notes))
    if all(_DATE.fullmatch(each) for each in stripped.values()):
        try:
            dates = {each: np.datetime64(text.removesuffix("Z"), "us") for each, text in stripped.items()}
        except ValueError:
            return _of_levels(given, unique, there)
        return replace(of_dates(_mapped(given, unique, dates, _NAT)), notes=("dates written as text",))
    return _of_levels(given, unique, there)


def _of_levels(given: Sequence[Any], unique: Sequence[Any], there: Sequence[Any]) -> Values:
    names, order = _named(there)
    return Values("category", _mapped(given, unique, dict(zip(there, order, strict=True)), -1), names)


def _named(levels: Sequence[Any]) -> tuple[tuple[str, ...], list[int]]:
    """Return the sorted names of levels, and the place of each level's name; -1 for those that mean a missing value."""
    spelled = [None if _is_missing(each) else spell(each) for each in levels]
    names = tuple(sorted({each for each in spelled if each is not None}))
    place = {name: number for number, name in enumerate(names)}
    return names, [-1 if each is None else place[each] for each in spelled]


def _mapped(given: Sequence[Any], unique: Sequence[Any], table: dict[Any, Any], otherwise: Any) -> NDArray[Any]:
    """Return an array of what a table has for each object."""
    full = {each: table.get(each, otherwise) for each in unique}
    dtype = "datetime64[us]" if isinstance(otherwise, np.datetime64) else np.int64 if otherwise == -1 else np.float64
    return np.fromiter(map(full.__getitem__, given), dtype, len(given))


def spell(value: Any) -> str:
    """Return the name of a level: the same for a number whether it is an int, a float or text."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _is_missing(value: Any) -> bool:
    if isinstance(value, bytes):
        value = spell(value)
    if isinstance(value, str):
        return (len(value) <= _LONGEST or value.isspace()) and value.strip().lower() in MISSING
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, np.datetime64):
        return bool(np.isnat(value))
    return _is_number(type(value)) and bool(value != value)


def _is_number(kind: type[Any]) -> bool:
    return issubclass(kind, (int, float, np.number)) or kind.__name__ in ("Decimal", "Fraction")


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _as_date(value: Any) -> np.datetime64:
    if getattr(value, "tzinfo", None) is not None:
        value = value.replace(tzinfo=None)
    return np.datetime64(value, "us")


def converted(values: Values, kind: str, where: str) -> Values:
    """Return values in another form.

    Raises
    ------
    ValueError
        When a value has no such form; names it and its row.
    """
    if values.kind == kind:
        return values
    if values.kind == "other":
        raise ValueError(f"{where}: expected {_PLURALS[kind]}, but it {values.notes[0]}")
    if values.gone.all():
        return replace(_made(kind, np.full(len(values), np.nan)), notes=values.notes)
    if kind == "category":
        return replace(_categories(values), notes=values.notes)
    if values.kind in ("number", "bool") and kind in ("number", "bool"):
        bad = (values.data != 0) & (values.data != 1) & ~values.gone if kind == "bool" else np.zeros(len(values), bool)
        if bad.any():
            raise _unlike(where, kind, values.data[bad][0], int(np.flatnonzero(bad)[0]))
        return replace(values, kind=kind)
    if values.kind == "category":
        table = [_read(level, kind) for level in values.levels]
        for row in np.flatnonzero(values.data >= 0):
            if table[values.data[row]] is None:
                raise _unlike(where, kind, values.levels[values.data[row]], int(row))
        blank: Any = _NAT if kind == "date" else np.nan
        made = np.array([*(blank if each is None else each for each in table), blank])
        return replace(_made(kind, made[values.data]), notes=values.notes)
    first = int(np.flatnonzero(~values.gone)[0])
    raise _unlike(where, kind, values.data[first], first)


def _made(kind: str, data: NDArray[Any]) -> Values:
    """Return an array as values of a kind, all of which are missing or of the kind."""
    if kind == "category":
        return Values(kind, np.full(len(data), -1, np.int64))
    return of_dates(data) if kind == "date" else of_numbers(data, kind)


def _categories(values: Values) -> Values:
    """Return numbers, bools or dates as categories."""
    unique, codes = np.unique(values.data, return_inverse=True)
    levels = [bool(each) for each in unique] if values.kind == "bool" else unique.tolist()
    gone = values.gone
    if gone.any():
        levels = [level for level, last in zip(levels, _gone(unique), strict=True) if not last]
    return of_codes(np.where(gone, -1, codes), levels)


def _gone(unique: NDArray[Any]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.isnat(unique) if unique.dtype.kind == "M" else np.isnan(unique)
    return found


def _read(level: str, kind: str) -> Any:
    """Return a level as a number, bool or date; None if it is none."""
    if kind == "bool":
        return _BOOLS.get(level.lower())
    if kind == "number":
        return float(level) if _NUMBER.fullmatch(level) else None
    try:
        return np.datetime64(level.removesuffix("Z"), "us") if _DATE.fullmatch(level) else None
    except ValueError:
        return None


def _unlike(where: str, kind: str, value: Any, row: int) -> ValueError:
    return ValueError(
        f"{where}: expected {_PLURALS[kind]}, row {row} has {shorten(getattr(value, 'item', lambda: value)())}"
    )
