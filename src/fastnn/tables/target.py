"""The column that a network learns: classes or numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.checks import number, shorten
from fastnn.config import register
from fastnn.tables.learning import Options
from fastnn.tables.values import Values, converted


@dataclass(frozen=True)
class Target:
    """A column that is learnt.

    Attributes
    ----------
    name : str
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name: expected text, got {shorten(self.name)}")
        self.check()

    def check(self) -> None:
        """Raise TypeError or ValueError unless the fields are what a table gives."""

    @property
    def outputs(self) -> int:
        """The number of a network's outputs."""
        return 1

    @property
    def kind(self) -> str | None:
        """As what the column is read; None for what it holds."""
        return None

    def says(self) -> str:
        """Return what becomes of the column, as text."""
        raise NotImplementedError

    def encoded(self, values: Values) -> NDArray[Any]:
        """Return targets for `fit`; none of the values is missing."""
        raise NotImplementedError

    def decoded(self, outputs: ArrayLike) -> NDArray[Any]:
        """Return what outputs mean."""
        raise NotImplementedError


@register("preparation")
@dataclass(frozen=True)
class Classes(Target):
    """Classes: labels from 0, in the order of their names.

    Attributes
    ----------
    names : tuple of str, or of int, or of bool
        By label.
    """

    names: tuple[Any, ...]

    def check(self) -> None:
        kinds = {type(name) for name in self.names}
        if len(kinds) != 1 or not kinds <= {str, int, bool, float} or len(set(self.names)) < max(2, len(self.names)):
            raise ValueError(f"names: expected at least two different texts or numbers, got {shorten(self.names)}")

    @property
    def outputs(self) -> int:
        return len(self.names)

    @property
    def kind(self) -> str | None:
        return "category" if isinstance(self.names[0], str) else None

    def says(self) -> str:
        shown = ", ".join([str(name) for name in self.names[:4]]) + ", ..." * (len(self.names) > 4)
        return f"labels of {len(self.names)} classes: {shown}"

    def encoded(self, values: Values) -> NDArray[np.int64]:
        where = f"target {self.name!r}"
        if isinstance(self.names[0], str):
            values = converted(values, "category", where)
            label = {name: number for number, name in enumerate(self.names)}
            table = [label.get(level, -1) for level in values.levels]
            labels: NDArray[np.int64] = np.array([*table, -1], np.int64)[values.data]
        else:
            values = converted(values, "bool" if isinstance(self.names[0], bool) else "number", where)
            known = np.array(self.names, np.float64)
            place = np.minimum(np.searchsorted(known, values.data), len(known) - 1)
            labels = np.where(known[place] == values.data, place, -1)
        unknown = np.flatnonzero(labels < 0)
        if unknown.size:
            row = unknown[0]
            given = values.levels[values.data[row]] if values.kind == "category" else values.data[row].item()
            raise ValueError(f"{where}: row {row} has the class {given!r}, not one of {shorten(self.names)}")
        return labels

    def decoded(self, outputs: ArrayLike) -> NDArray[Any]:
        found = np.asarray(outputs)
        if found.dtype.kind in "iu" and found.ndim == 1:
            if found.size and not 0 <= found.min() <= found.max() < len(self.names):
                raise ValueError(f"outputs: expected labels from 0 to {len(self.names) - 1}, got {shorten(outputs)}")
            labels = found
        elif found.dtype.kind == "f" and found.shape[1:] == (len(self.names),):
            labels = found.argmax(axis=1)
        elif found.dtype.kind == "f" and len(self.names) == 2 and found.shape[1:] in ((), (1,)):
            labels = (found.reshape(len(found)) > 0.5).astype(np.int64)
        else:
            raise ValueError(
                f"outputs: expected labels (n,), or probabilities (n, {len(self.names)}), got {found.dtype} of shape "
                f"{found.shape}"
            )
        names: NDArray[Any] = np.array(self.names)[labels]
        return names


@register("preparation")
@dataclass(frozen=True)
class Quantity(Target):
    """Numbers: (y - center) / scale.

    Attributes
    ----------
    center, scale : float
    """

    center: float = 0.0
    scale: float = 1.0

    def check(self) -> None:
        number("center", self.center)
        number("scale", self.scale, above=0.0)

    def says(self) -> str:
        if (self.center, self.scale) == (0.0, 1.0):
            return "as it is"
        return f"minus {self.center:.4g}, divided by {self.scale:.4g}"

    def encoded(self, values: Values) -> NDArray[np.float32]:
        found = (converted(values, "number", f"target {self.name!r}").data - self.center) / self.scale
        return found.astype(np.float32)

    def decoded(self, outputs: ArrayLike) -> NDArray[Any]:
        found = np.asarray(outputs, np.float64)
        return (found[:, 0] if found.shape[1:] == (1,) else found) * self.scale + self.center


def learn_target(name: str, values: Values, options: Options) -> Target:
    """Return what a column that is learnt becomes; none of its values is missing.

    Raises
    ------
    ValueError
        When it holds dates, fewer than two classes, or a class for each row.
    """
    classes = values.kind in ("bool", "category") if options.classes is None else options.classes
    if values.kind in ("date", "other"):
        raise ValueError(f"target {name!r}: expected classes or numbers, got {'dates' * (values.kind == 'date')}"
                         f"{', '.join(values.notes)}")  # fmt: skip
    if not classes:
        numbers = converted(values, "number", f"target {name!r}").data
        if not options.scale_target:
            return Quantity(name)
        return Quantity(name, float(numbers.mean()), float(numbers.std()) or 1.0)
    if values.kind == "category":
        occurs = np.bincount(values.data, minlength=len(values.levels))
        names: tuple[Any, ...] = tuple([level for level, count in zip(values.levels, occurs, strict=True) if count])
    else:
        unique = np.unique(values.data).tolist()
        whole = all(each.is_integer() for each in unique)
        names = tuple([bool(each) if values.kind == "bool" else int(each) if whole else each for each in unique])
    if len(names) < 2:
        raise ValueError(f"target {name!r}: expected at least two classes, got {shorten(names)}")
    if len(names) == len(values) > 2:
        raise ValueError(f"target {name!r}: every row has a class of its own")
    return Classes(name, names)
