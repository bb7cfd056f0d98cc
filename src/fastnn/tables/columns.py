"""What becomes of a column: numbers, bools, categories and dates as numbers for a network; dropped columns.

Each is a dataclass of what was learnt, is saved as JSON by `config`, and refuses what no table gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import flag, integer, number, shorten
from fastnn.config import register
from fastnn.tables.values import KINDS, Values

Numbers = NDArray[np.float64]
#: microseconds of a day
DAY = 86_400_000_000
#: standardised numbers of new rows are cut to what float32 holds
LARGEST = 3e38
#: what a date becomes, and the names of its numbers
PARTS = {
    "days": ("days",),
    "year": ("time of year, sine", "time of year, cosine"),
    "week": ("day of week, sine", "day of week, cosine"),
    "day": ("time of day, sine", "time of day, cosine"),
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : str
    missing : int
        How many values were missing where it was learnt.
    notes : tuple of str
        What else is to be said.
    """

    name: str
    missing: int = 0
    notes: tuple[str, ...] = ()

    #: the form of its values
    kind: ClassVar[str] = "other"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name: expected text, got {shorten(self.name)}")
        integer("missing", self.missing, at_least=0)
        if not all(isinstance(note, str) for note in self.notes):
            raise TypeError(f"notes: expected texts, got {shorten(self.notes)}")
        self.check()

    def check(self) -> None:
        """Raise TypeError or ValueError unless the fields are what a table gives."""

    def says(self) -> str:
        """Return what becomes of the column, as text."""
        raise NotImplementedError

    def features(self) -> tuple[str, ...]:
        """Return the names of the column's numbers."""
        return ()

    @property
    def rows(self) -> int | None:
        """How many rows of an `Embedding` the column has; None if it becomes numbers."""
        return None

    def numbers(self, values: Values) -> list[Numbers]:
        """Return the column's numbers, as many arrays as `features` names."""
        return []

    def index(self, values: Values) -> NDArray[np.int64]:
        """Return the rows of the `Embedding`."""
        raise NotImplementedError

    def unknown(self, values: Values) -> tuple[int, list[str]]:
        """Return how many values there are of levels that are not known, and such levels."""
        return 0, []


@dataclass(frozen=True, kw_only=True)
class Filled(Column):
    """A column whose gaps are filled; with `indicator` one more number says where they were."""

    indicator: bool = False
    #: whether there are numbers besides the indicator
    varies: bool = True

    def check(self) -> None:
        flag("indicator", self.indicator)
        if not flag("varies", self.varies) and not self.indicator:
            raise ValueError("a column that does not vary has an indicator")

    def features(self) -> tuple[str, ...]:
        return (*(self.own() if self.varies else ()), *((f"{self.name} is missing",) if self.indicator else ()))

    def own(self) -> tuple[str, ...]:
        """Return the names of the numbers besides the indicator."""
        return (self.name,)

    def numbers(self, values: Values) -> list[Numbers]:
        gone = values.gone
        made = self.filled(values.data, gone) if self.varies else []
        return [*made, gone.astype(np.float64)] if self.indicator else made

    def filled(self, data: NDArray[Any], gone: NDArray[np.bool_]) -> list[Numbers]:
        """Return the numbers besides the indicator."""
        raise NotImplementedError

    def says(self) -> str:
        parts = [self.done()] if self.varies else ["constant"]
        return "; ".join([*parts, *(["an indicator of gaps"] if self.indicator else [])])

    def done(self) -> str:
        """Return what becomes of the values, as text."""
        raise NotImplementedError


@register("preparation")
@dataclass(frozen=True, kw_only=True)
class Number(Filled):
    """Numbers: gaps are filled, then (x - center) / scale; or their place among quantiles.

    Attributes
    ----------
    fill, center, scale : float
    method : {"standard", "robust", "quantile", "none"}
    quantiles : tuple of float
        In ascending order; numbers become their place among them, from -sqrt(3) to sqrt(3).
    """

    kind = "number"

    fill: float
    center: float = 0.0
    scale: float = 1.0
    method: str = "standard"
    quantiles: tuple[float, ...] = ()

    def check(self) -> None:
        super().check()
        number("fill", self.fill)
        number("center", self.center)
        number("scale", self.scale, above=0.0)
        if self.method not in ("standard", "robust", "quantile", "none"):
            raise ValueError(f"method: unknown method {shorten(self.method)}")
        points = np.array([number("quantiles", each) for each in self.quantiles])
        if (np.diff(points) <= 0).any() or (self.method == "quantile" and self.varies) != (len(points) > 1):
            raise ValueError(f"quantiles: expected ascending numbers, got {shorten(self.quantiles)}")

    def filled(self, data: NDArray[Any], gone: NDArray[np.bool_]) -> list[Numbers]:
        x = np.where(gone, self.fill, data)
        if self.quantiles:
            return [np.interp(x, self.quantiles, np.linspace(-np.sqrt(3.0), np.sqrt(3.0), len(self.quantiles)))]
        with np.errstate(over="ignore"):
            return [np.clip((x - self.center) / self.scale, -LARGEST, LARGEST)]

    def done(self) -> str:
        how = {
            "standard": f"minus {self.center:.4g}, divided by {self.scale:.4g}",
            "robust": f"minus the median {self.center:.4g}, divided by {self.scale:.4g}",
            "quantile": f"place among {len(self.quantiles)} quantiles",
            "none": "as it is",
        }[self.method]
        return f"{self.fill:.4g} in gaps; {how}" if self.missing else how


@register("preparation")
@dataclass(frozen=True, kw_only=True)
class Flag(Filled):
    """Bools: 0 or 1; gaps are filled with the more frequent of them."""

    kind = "bool"

    fill: float = 0.0

    def check(self) -> None:
        super().check()
        number("fill", self.fill, at_least=0.0, at_most=1.0)

    def filled(self, data: NDArray[Any], gone: NDArray[np.bool_]) -> list[Numbers]:
        return [np.where(gone, self.fill, data)]

    def done(self) -> str:
        return f"{self.fill:.0f} in gaps; 0 or 1" if self.missing else "0 or 1"


@register("preparation")
@dataclass(frozen=True, kw_only=True)
class Date(Filled):
    """Dates: days since the first one, standardised, and the times of the year, the week and the day on circles.

    Attributes
    ----------
    first, fill : int
        Microseconds since 1970: of the first date, and of what fills gaps.
    center, scale : float
        Of the days since the first date.
    parts : tuple of str
        Of `PARTS`: those that varied.
    zone : str
        The time zone, whose local times count; "" for none.
    """

    kind = "date"

    first: int
    fill: int
    center: float
    scale: float
    parts: tuple[str, ...]
    zone: str = ""

    def check(self) -> None:
        super().check()
        for name in ("first", "fill"):
            integer(name, getattr(self, name), at_least=1 - 2**63)
        number("center", self.center)
        number("scale", self.scale, above=0.0)
        if (
            len(set(self.parts)) < len(self.parts)
            or not set(self.parts) <= set(PARTS)
            or not isinstance(self.zone, str)
        ):
            raise ValueError(f"parts: expected some of {', '.join(PARTS)}, got {shorten(self.parts)}")
        if self.varies != bool(self.parts):
            raise ValueError("parts: expected some if the dates vary")

    def own(self) -> tuple[str, ...]:
        return tuple([f"{self.name}: {name}" for part in self.parts for name in PARTS[part]])

    def filled(self, data: NDArray[Any], gone: NDArray[np.bool_]) -> list[Numbers]:
        given = data.astype("datetime64[us]")
        times = np.where(gone, np.datetime64(self.fill, "us"), given)
        since = since_of(times, self.first)
        made: list[Numbers] = []
        for part in self.parts:
            if part == "days":
                made.append(np.clip((since - self.center) / self.scale, -LARGEST, LARGEST))
            else:
                turns = 2.0 * np.pi * turns_of(times, part)
                made += [np.sin(turns), np.cos(turns)]
        return made

    def done(self) -> str:
        first = str(np.datetime64(self.first, "us").astype("datetime64[D]"))
        said = {
            "days": f"days since {first}", "year": "time of year", "week": "day of week", "day": "time of day",
        }  # fmt: skip
        text = ", ".join([said[part] for part in self.parts])
        text += f" ({self.zone})" * bool(self.zone)
        fill = str(np.datetime64(self.fill, "us").astype("datetime64[D]"))
        return f"{fill} in gaps; {text}" if self.missing else text


def since_of(times: NDArray[np.datetime64], first: int) -> Numbers:
    """Return the days of times since the first."""
    days: Numbers = (times - np.datetime64(first, "us")).astype(np.int64) / DAY
    return days


def turns_of(times: NDArray[np.datetime64], part: str) -> Numbers:
    """Return where times are in the year, the week or the day, from 0 to below 1."""
    days = times.astype("datetime64[D]")
    if part == "week":
        # 1970 began with a Thursday
        week: Numbers = (days.astype(np.int64) + 3) % 7 / 7.0
        return week
    if part == "day":
        day: Numbers = (times - days).astype(np.int64) / DAY
        return day
    years = days.astype("datetime64[Y]")
    begin, end = (each.astype("datetime64[D]") for each in (years, years + 1))
    year: Numbers = (days - begin).astype(np.int64) / (end - begin).astype(np.int64)
    return year


@register("preparation")
@dataclass(frozen=True, kw_only=True)
class Category(Column):
    """Categories: a column of 0 and 1 for each level, or the row of an `Embedding`.

    Attributes
    ----------
    levels : tuple of str
        In the order of their columns or rows.
    rare : int
        How many more levels there were, which occur too seldom: they are one level, "other".
    gaps : bool
        Whether missing values are a level of their own, which is the last.
    embedded : bool
        Whether it becomes rows of an `Embedding`, whose first row is that of "other" and of levels that are not known.

    Without rare levels there is no column of others: then a level that is not known has zeros.
    """

    kind = "category"

    levels: tuple[str, ...]
    rare: int = 0
    gaps: bool = False
    embedded: bool = False

    def check(self) -> None:
        integer("rare", self.rare, at_least=0)
        flag("gaps", self.gaps)
        flag("embedded", self.embedded)
        if not all(isinstance(level, str) for level in self.levels) or len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels: expected different texts, got {shorten(self.levels)}")
        if not self.levels:
            raise ValueError("levels: expected at least one")

    @property
    def rows(self) -> int | None:
        return 1 + len(self.levels) + self.gaps if self.embedded else None

    def features(self) -> tuple[str, ...]:
        if self.embedded:
            return ()
        named = [*(["other"] if self.rare else []), *self.levels, *(["missing"] if self.gaps else [])]
        return tuple([f"{self.name} = {level}" for level in named])

    def index(self, values: Values) -> NDArray[np.int64]:
        place = {level: 1 + number for number, level in enumerate(self.levels)}
        last = 1 + len(self.levels) if self.gaps else 0
        table = np.array([*(place.get(level, 0) for level in values.levels), last], np.int64)
        found: NDArray[np.int64] = table[values.data]
        return found

    def numbers(self, values: Values) -> list[Numbers]:
        if self.embedded:
            return []
        index, first = self.index(values), 0 if self.rare else 1
        return [(index == place).astype(np.float64) for place in range(first, first + len(self.features()))]

    def unknown(self, values: Values) -> tuple[int, list[str]]:
        known = set(self.levels)
        new = [level not in known for level in values.levels]
        occurs = np.bincount(values.data[values.data >= 0], minlength=len(new))
        counts = [
            (level, int(count)) for level, count, is_new in zip(values.levels, occurs, new, strict=True) if is_new
        ]
        return sum(count for _, count in counts), [level for level, count in counts if count]

    def says(self) -> str:
        size = len(self.features()) if self.rows is None else self.rows
        text = f"a row of an embedding of {size}" if self.embedded else f"a column for each of {size} levels"
        extra = [f"{self.rare} rare ones are other"] * bool(self.rare) + ["missing is one"] * self.gaps
        return "; ".join([text, *extra])


@register("preparation")
@dataclass(frozen=True, kw_only=True)
class Dropped(Column):
    """A column that is left out.

    Attributes
    ----------
    was : str
        The form of its values.
    reason : str
    """

    was: str
    reason: str

    def check(self) -> None:
        if self.was not in (*KINDS, "other") or not isinstance(self.reason, str):
            raise ValueError(f"was: expected one of {', '.join(KINDS)} or other, got {shorten(self.was)}")

    def says(self) -> str:
        return f"dropped: {self.reason}"
