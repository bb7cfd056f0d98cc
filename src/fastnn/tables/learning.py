"""What is to become of a column, learnt from its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import flag, integer, shorten
from fastnn.tables.columns import Category, Column, Date, Dropped, Flag, Number, since_of, turns_of
from fastnn.tables.values import KINDS, Values, converted

_QUANTILES = 101
# of a normal distribution, from the first to the third quartile
_QUARTILES = 1.3489795


@dataclass(frozen=True)
class Options:
    """The arguments of `fastnn.data.frame`, but for the table; see there."""

    target: str | None
    scale: str
    missing: str
    embed_over: int
    min_count: int
    kinds: Mapping[str, str]
    classes: bool | None
    scale_target: bool

    def __post_init__(self) -> None:
        for name, known in (("scale", ("standard", "robust", "quantile", "none")), ("missing", ("median", "mean"))):
            if getattr(self, name) not in known:
                said = ", ".join(map(repr, known))
                raise ValueError(f"{name}: expected one of {said}, got {shorten(getattr(self, name))}")
        integer("embed_over", self.embed_over, at_least=0)
        integer("min_count", self.min_count, at_least=1)
        flag("scale_target", self.scale_target)
        if self.classes is not None:
            flag("classes", self.classes)
        if not isinstance(self.kinds, Mapping):
            raise TypeError(f"kinds: expected a dict of column name to kind, got {shorten(self.kinds)}")
        for name, kind in self.kinds.items():
            if kind not in (*KINDS, "drop"):
                raise ValueError(
                    f"kinds[{name!r}]: expected one of {', '.join(map(repr, (*KINDS, 'drop')))}, got {shorten(kind)}"
                )


def learn(name: str, values: Values, options: Options) -> Column:
    """Return what is to become of a column.

    Raises
    ------
    ValueError
        When its values are not of the kind that is asked for.
    """
    kind = options.kinds.get(name, values.kind)
    missing = int(values.gone.sum())
    common: dict[str, Any] = {"name": name, "missing": missing, "notes": values.notes}

    def dropped(reason: str) -> Dropped:
        return Dropped(was=values.kind, reason=reason, **common)

    if kind == "drop":
        return dropped("as asked for")
    if kind == "other":
        return Dropped(was="other", reason=values.notes[0], name=name)
    values = converted(values, kind, f"column {name!r}")
    if missing == len(values):
        return dropped("no values")
    if kind == "category":
        return _category(values, options, common) or dropped(_why_no_category(values, options))
    present = values.data[~values.gone]
    if (present == present[0]).all():
        if not missing:
            return dropped("constant")
        return _constant(kind, present[0], common)
    return {"number": _number, "bool": _flag, "date": _date}[kind](values, present, options, common)


def _constant(kind: str, value: Any, common: dict[str, Any]) -> Column:
    """Return a column of which only the gaps say anything."""
    if kind == "date":
        time = int(value.astype(np.int64))
        return Date(first=time, fill=time, center=0.0, scale=1.0, parts=(), indicator=True, varies=False, **common)
    if kind == "number":
        return Number(fill=float(value), indicator=True, varies=False, **common)
    return Flag(fill=float(value), indicator=True, varies=False, **common)


def _number(values: Values, present: NDArray[Any], options: Options, common: dict[str, Any]) -> Column:
    center, scale = 0.0, 1.0
    quantiles: tuple[float, ...] = ()
    # sums of numbers near the largest would be infinite
    unit = 2.0 ** max(0, int(np.log2(np.abs(present).max() or 1.0)) - 400)
    mean = float((present / unit).mean() * unit)
    deviation = float((present / unit).std() * unit)
    if options.scale in ("standard", "robust"):
        center, scale = mean, deviation
    if options.scale == "robust":
        low, center, high = (float(each) * unit for each in np.quantile(present / unit, [0.25, 0.5, 0.75]))
        scale = min((high - low) / _QUARTILES, np.finfo(np.float64).max) or deviation
    if options.scale == "quantile":
        quantiles = tuple(np.unique(np.quantile(present / unit, np.linspace(0, 1, _QUANTILES)) * unit).tolist())
    # numbers so close to each other that they differ by rounding only
    scale = max(scale, np.finfo(np.float64).tiny)
    fill = mean if options.missing == "mean" else float(np.median(present / unit) * unit)
    return Number(fill=fill, center=center, scale=scale, method=options.scale, quantiles=quantiles,
                  indicator=common["missing"] > 0, **common)  # fmt: skip


def _flag(values: Values, present: NDArray[Any], options: Options, common: dict[str, Any]) -> Column:
    return Flag(fill=float(present.mean() > 0.5), indicator=common["missing"] > 0, **common)


def _date(values: Values, present: NDArray[Any], options: Options, common: dict[str, Any]) -> Column:
    times = present.astype(np.int64)
    first, fill = int(times.min()), int(np.sort(times)[len(times) // 2])
    since = since_of(present, first)
    months = present.astype("datetime64[M]")
    varying = {
        "days": bool(since.std() > 0),
        "year": bool((months != months[0]).any()),
        **{part: bool(np.ptp(turns_of(present, part)) > 0) for part in ("week", "day")},
    }
    return Date(first=first, fill=fill, center=float(since.mean()), scale=float(since.std()) or 1.0,
                parts=tuple([part for part, there in varying.items() if there]), zone=values.zone,
                indicator=common["missing"] > 0, **common)  # fmt: skip


def _counts(values: Values) -> NDArray[np.int64]:
    return np.bincount(values.data[values.data >= 0], minlength=len(values.levels))


def _category(values: Values, options: Options, common: dict[str, Any]) -> Column | None:
    """Return a category, or None if it says nothing."""
    counts, gaps = _counts(values), common["missing"] > 0
    occurring = int((counts > 0).sum())
    kept = tuple([level for level, count in zip(values.levels, counts, strict=True) if count >= options.min_count])
    rare = occurring - len(kept)
    size = len(kept) + bool(rare) + gaps
    if not kept or size < 2 or _all_different(counts):
        return None
    return Category(levels=kept, rare=rare, gaps=gaps, embedded=size > options.embed_over, **common)


def _all_different(counts: NDArray[np.int64]) -> bool:
    return int(counts.max()) == 1 and len(counts) > 1


def _why_no_category(values: Values, options: Options) -> str:
    counts = _counts(values)
    if _all_different(counts):
        return "every value is different"
    if (counts > 0).sum() == 1 and not values.gone.any():
        return "constant"
    return f"no level occurs {options.min_count} times"
