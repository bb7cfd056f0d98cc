"""The options of `fit`, checked: everything but the data and the device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn.callbacks import Callback
from fastnn.checks import integer, number


class Passes(Protocol):
    """Orders of the rows, and factors of penalties, that the caller of a training decides.

    Attributes
    ----------
    factors : ndarray of float64, shape (steps,)
        Of each step's penalties with `by_step`, in the pass that has begun last.
    logged : tuple of str
        Names that the caller's callbacks add to the logs.
    weights : ndarray, shape (rows,), or None
        Of samples, for the caller's batches.

    With an iterable of batches it is this that begins a pass, in each iteration.
    """

    factors: NDArray[np.float64]
    logged: tuple[str, ...]
    weights: NDArray[Any] | None

    def begin(self, epoch: int) -> NDArray[np.int64] | None:
        """Begin a pass; returns the order of its rows, or None for the order that they have."""

    def certain(self) -> float:
        """Return how many passes from the next one on are trained whatever happens in them, 1 to inf.

        They may all be trained before the callbacks hear of the first one; an interrupt among them leaves weights that
        are ahead of what the callbacks have heard.
        """


@dataclass(frozen=True)
class Validated:
    """Whether an epoch is validated: every n-th one, or those of a set, counted from 1."""

    every: int
    chosen: frozenset[int] = frozenset()

    def __call__(self, epoch: int) -> bool:
        """Return whether an epoch, counted from 0, is validated."""
        return (epoch + 1) % self.every == 0 if self.every else epoch + 1 in self.chosen


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """The arguments of `Model.fit` besides x, y and the device; `fit` checks those that need the data.

    Attributes
    ----------
    passes : Passes, optional
        Orders of the rows and factors of penalties, that decide in the place of `shuffle`.
    validates : Validated
        What `validation_freq` describes.

    Raises
    ------
    TypeError, ValueError
        When a number or a flag is invalid.
    """

    batch_size: int | None = None
    epochs: int = 1
    verbose: int | str = 0
    callbacks: Callback | Iterable[Callback] | None = None
    validation_split: float = 0.0
    validation_data: Any = None
    shuffle: bool = True
    class_weight: Mapping[int, float] | str | None = None
    sample_weight: Any = None
    lengths: Any = None
    initial_epoch: int = 0
    steps_per_epoch: int | None = None
    validation_steps: int | None = None
    validation_batch_size: int | None = None
    validation_freq: int | Sequence[int] | Iterable[int] = 1
    resume: bool = False
    passes: Passes | None = None
    validates: Validated = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check numbers and flags."""
        for name in ("epochs", "initial_epoch"):
            self._set(name, integer(name, getattr(self, name), at_least=0))
        for name in ("shuffle", "resume"):
            value = getattr(self, name)
            if not isinstance(value, (bool, np.bool_)):
                raise TypeError(f"{name}: expected a bool, got {value!r}")
            self._set(name, bool(value))
        self._set("validation_split", number("validation_split", self.validation_split, at_least=0.0, below=1.0))
        self._set("validates", _validated(self.validation_freq))
        for name in ("steps_per_epoch", "validation_steps"):
            if getattr(self, name) is not None:
                self._set(name, integer(name, getattr(self, name)))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def n_epochs(self) -> int:
        """The number of epochs to train."""
        return self.epochs - self.initial_epoch


def _validated(value: Any) -> Validated:
    """Return the test that `validation_freq` describes."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return Validated(integer("validation_freq", value))
    if isinstance(value, (str, bytes, bool, Mapping)) or not isinstance(value, Iterable):
        raise TypeError(f"validation_freq: expected an integer, or a list of epochs counted from 1, got {value!r}")
    return Validated(0, frozenset(integer("validation_freq", one) for one in value))
