"""Base of all optimizers: learning rate, weight decay, clipping, accumulation, averages, and hyper rows."""

from __future__ import annotations

import numbers
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from math import nan
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from fastnn import casts, schedules
from fastnn.checks import covers, flag, number, shorten, whole
from fastnn.formulas.optimizers import FORMULAS, HYPER_COLUMNS, Formula
from fastnn.optimizers._blocks import BLOCK, Blocks, RepeatedBlocks
from fastnn.schedules import LearningRate, Schedule

Array: TypeAlias = npt.NDArray[np.float64]
Scalars: TypeAlias = dict[str, float | Array]

_MAX_STEPS = 2**53
# a learning rate and a weight decay below it fit float32 with any bias correction, and so does their product
_SMALL = 1e18

# State beside the formula's. A state of `Custom` is named by an argument of a function, which has no space.
_GRADIENT_SUM, AVERAGE = "gradient sum", "moving average"


@dataclass
class Optimizer(ABC):
    """Base class of the optimizers.

    All hyperparameters are fixed when the object is made, except for the learning rate, which may be
    assigned at any time and is used from the next steps on.

    Parameters
    ----------
    learning_rate : float, Schedule or function
        A number, a schedule, or a function of the step (an int, counted from 0 over all epochs).
    weight_decay : float, optional
        Decoupled weight decay: every parameter loses ``learning_rate * weight_decay`` of itself before the
        update of each step (Loshchilov and Hutter 2017, arXiv:1711.05101; as in Keras 3).
    clipnorm : float, optional
        Highest L2 norm of the gradient of each parameter array; longer ones are scaled down.
    clipvalue : float, optional
        Highest absolute value of each element of a gradient.
    global_clipnorm : float, optional
        Highest L2 norm of all gradients together. At most one of the three is given.
    gradient_accumulation_steps : int, optional
        At least 2: the weights are updated in every n-th step, with the mean of the gradients since the last update,
        which is then clipped. Bias corrections count updates, schedules count steps. What the last epoch leaves over
        is not lost: the next call goes on with it.
    use_ema : bool
        Average the weights over the training: ``average = ema_momentum * average + (1 - ema_momentum) * weights``
        after each step. `Model.fit` ends by putting the averages in the weights' place (see
        `Model.finalize_variable_values`); validation and callbacks during training see the weights themselves.
    ema_momentum : float
        In [0, 1]; used with `use_ema` only.
    ema_overwrite_frequency : int, optional
        The averages take the weights' place in every n-th update during training, too; used with `use_ema` only.
    multipliers : dict of str to float, optional
        Factors of the learning rate for some weights, 0 or larger; others have 1. A name is that of a layer, of a model
        that the model is made of, or of a weight such as ``"dense/kernel"``; ``*`` stands for any letters, as in
        ``{"*": 0.1, "classes": 1.0}``. The last of several that fit a weight counts. Layers without ``name=`` are
        numbered in the order of the graph, not in that in which they were made. Decoupled weight decay is proportional
        to the learning rate, and so has the factor, too. With 0 a weight does not change, but the optimizer's state
        does; ``trainable = False`` freezes a layer, and saves the time for its gradients.
    """

    learning_rate: LearningRate
    _: KW_ONLY
    weight_decay: float | None = None
    clipnorm: float | None = None
    clipvalue: float | None = None
    global_clipnorm: float | None = None
    gradient_accumulation_steps: int | None = None
    use_ema: bool = False
    ema_momentum: float = 0.99
    ema_overwrite_frequency: int | None = None
    multipliers: Mapping[str, float] | None = None
    _rows: Blocks = field(init=False, repr=False, compare=False)
    _rates: Blocks = field(init=False, repr=False, compare=False)

    _clippings: ClassVar[tuple[str, ...]] = ("clipnorm", "clipvalue", "global_clipnorm")

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        if self.weight_decay is not None:
            self._check("weight_decay", at_least=0.0)
        given = [name for name in self._clippings if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"{type(self).__name__}: expected at most one of {', '.join(self._clippings)}; "
                f"got {' and '.join(given)}"
            )
        self._check(*given, above=0.0)
        self._check_flag("use_ema")
        self._check("ema_momentum", at_least=0.0, at_most=1.0)
        self._check_whole("gradient_accumulation_steps", at_least=2)
        self._check_whole("ema_overwrite_frequency", at_least=1)
        self._set("multipliers", _checked_multipliers(f"{type(self).__name__}.multipliers", self.multipliers))
        steps = self.gradient_accumulation_steps
        self._set("_rows", Blocks() if steps is None else RepeatedBlocks(steps))

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign a hyperparameter: once, or the learning rate at any time.

        Raises
        ------
        AttributeError
            The hyperparameter is fixed, or there is none of this name.
        TypeError, ValueError
            `value` is no valid learning rate.
        """
        if name == "learning_rate":
            self._set(name, self._checked_learning_rate(value))
            self._set("_rates", Blocks())
        elif name in self.__dict__:
            raise AttributeError(
                f"{type(self).__name__}.{name} is fixed once the optimizer is made; only learning_rate can be assigned"
            )
        elif name not in {each.name for each in fields(self)}:
            raise AttributeError(
                f"{type(self).__name__} has no hyperparameter {name!r}; only learning_rate can be assigned"
            )
        else:
            self._set(name, value)

    @property
    @abstractmethod
    def formula(self) -> str:
        """Name of the update formula, a key of `fastnn.formulas.optimizers.FORMULAS`."""

    @property
    def description(self) -> Formula:
        """Names of the formula's slots and scalars."""
        return FORMULAS[self.formula]

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the state arrays that are kept for each parameter array: the formula's, a sum, an average."""
        return (*self.description.slots, *self._added_slots)

    @property
    def slot_initial(self) -> tuple[float, ...]:
        """Value that each state array is filled with at the start; NaN says that there is no average yet."""
        return (*self._formula_initial, *self._added_slots.values())

    @property
    def _added_slots(self) -> dict[str, float]:
        sums = {} if self.gradient_accumulation_steps is None else {_GRADIENT_SUM: 0.0}
        return sums | ({AVERAGE: nan} if self.use_ema else {})

    @property
    def _formula_initial(self) -> tuple[float, ...]:
        return (0.0,) * len(self.description.slots)

    def multipliers_of(self, names: Sequence[str]) -> list[float]:
        """Return the factor of the learning rate for each weight, by its name.

        Raises
        ------
        ValueError
            When a name among the multipliers is that of no weight.
        """
        found = [1.0] * len(names)
        for pattern, factor in (self.multipliers or {}).items():
            chosen = [index for index, name in enumerate(names) if covers(pattern, name)]
            if not chosen:
                raise ValueError(
                    f"{type(self).__name__}.multipliers: there is no weight {pattern!r}; the weights are "
                    f"{shorten(list(names))}"
                )
            for index in chosen:
                found[index] = factor
        return found

    @property
    def _largest_multiplier(self) -> float:
        return max([1.0, *(self.multipliers or {}).values()])

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of one step.

        Parameters
        ----------
        step : int
            Counted from 0, over all epochs.
        """
        rate = self.learning_rate
        return rate if isinstance(rate, float) else schedules.get(rate)(step)

    def hyper_rows(self, first_step: int, n_steps: int, dtype: str = "float64") -> Array:
        """Compute what the update formula needs to know about each of some steps.

        The rows do not depend on how the steps are divided among calls, to the last bit.

        Parameters
        ----------
        first_step : int
            First step, counted from 0 over all epochs (``t - 1`` in the papers, where each step is an update).
        n_steps : int
            Number of steps.
        dtype : {"float32", "float64"}
            The dtype that kernels round the rows to.

        Returns
        -------
        ndarray of float64, shape (n_steps, 8)
            A new array: the formula's ``rates``, then its ``constants``, then zeros.

        Raises
        ------
        TypeError
            A count is no integer, or the user's learning-rate function returns no number.
        ValueError
            A count is negative, or a learning rate is negative, not finite, or too large for the dtype; the message
            names the step.
        """
        first_step, n_steps = operator.index(first_step), operator.index(n_steps)
        if first_step < 0 or n_steps < 0 or first_step + n_steps > _MAX_STEPS:
            raise ValueError(
                f"expected steps >= 0 and fewer than 2**53, got first_step {first_step} and n_steps {n_steps}"
            )
        rows = self._rows.get(first_step, n_steps, self._row_block).copy()
        proportional = rows[:, : len(self.description.rates)]
        rate = self.learning_rate
        if isinstance(rate, float):
            proportional *= rate
        else:
            proportional *= self._scheduled(rate, first_step, n_steps)[:, None]
        # what is surely small enough is not looked at: a reduction takes 2 µs, as long as a training step
        if dtype != "float64" and not (type(rate) is float and self._is_small(rate)):
            self._check_rows(rows, first_step, dtype)
        return rows

    def rate_of_step(self, step: int, dtype: str) -> float:
        """Return the learning rate of a step, checked as by `hyper_rows`, for a row that is computed elsewhere."""
        given = self.learning_rate
        rate = given if isinstance(given, float) else float(self._scheduled(given, step, 1)[0])
        if dtype != "float64" and not self._is_small(rate):
            row = self.unit_row(step)[None]
            row[:, : len(self.description.rates)] *= rate
            self._check_rows(row, step, dtype)
        return rate

    def _is_small(self, rate: float) -> bool:
        """Return whether the hyper rows of a learning rate fit float32 whatever the step is."""
        return rate * self._largest_multiplier < _SMALL and (self.weight_decay is None or self.weight_decay < _SMALL)

    def check_constants(self, dtype: str) -> None:
        """Raise ValueError where a scalar that does not depend on the learning rate is too large for a dtype.

        So are initial values of the state.
        """
        constants = self.unit_row(0)[len(self.description.rates) :].tolist()
        values = (*constants[: len(self.description.constants)], *self._formula_initial)
        for name, value in zip((*self.description.constants, *self.description.slots), values, strict=True):
            casts.check_number(value, dtype, f"{type(self).__name__}: {name}")

    def _check_rows(self, rows: Array, first_step: int, dtype: str) -> None:
        rows = rows.copy()
        rows[:, : len(self.description.rates)] *= self._largest_multiplier
        bad = np.argwhere(rows >= casts.LIMITS[dtype])
        if len(bad):
            row, column = (int(at) for at in bad[0])
            step = first_step + row
            raise ValueError(
                f"{type(self).__name__}: the learning rate {self.learning_rate_at(step):g} at step {step} makes "
                f"{self.description.scalars[column]} {rows[row, column]:g}, too large for {dtype}"
            )

    def unit_row(self, step: int) -> Array:
        """Return the hyper row of a step for a learning rate of 1."""
        row: Array = self._rows.get(step, 1, self._row_block)[0].copy()
        return row

    def rates(self, n_steps: int) -> float | Array:
        """Return the learning rate of every step, or those of the first `n_steps` where there is a schedule."""
        rate = self.learning_rate
        return rate if isinstance(rate, float) else self._scheduled(rate, 0, n_steps)

    def progress(self, step: int) -> dict[str, float]:
        """Return the correction's state after this many steps: powers, and their bases."""
        return self._progress(step // (self.gradient_accumulation_steps or 1))

    def _progress(self, updates: int) -> dict[str, float]:
        """Return the correction's state after this many updates."""
        return {}

    @abstractmethod
    def _scalars(self, first: int) -> Scalars:
        """Scalars of the formula by name, for the block of updates from `first` on; rates are for a learning rate of 1.

        ``step`` (1) and ``decay`` (the weight decay) need not be given.
        """

    def _row_block(self, first: int) -> Array:
        rows = np.zeros((BLOCK, HYPER_COLUMNS))
        values: Scalars = {"step": 1.0, "decay": self.weight_decay or 0.0}
        with np.errstate(under="ignore"):
            values |= self._scalars(first)
        for column, name in enumerate(self.description.scalars):
            rows[:, column] = values[name]
        return rows

    def _scheduled(self, rate: LearningRate, first: int, n: int) -> Array:
        schedule = schedules.get(rate)
        steps = np.arange(first, first + n)
        if not schedule.is_pure:
            return schedule(steps)
        rates = self._rates.get(first, n, lambda start: schedule.rates(np.arange(start, start + BLOCK)))
        schedules.check_rates(schedule, steps, rates)
        return rates

    def _checked_learning_rate(self, value: Any) -> float | Schedule:
        name = f"{type(self).__name__}.learning_rate"
        if isinstance(value, numbers.Real):
            return number(name, value, at_least=0.0)
        try:
            return schedules.get(value)
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check(self, *names: str, **bounds: float) -> None:
        for name in names:
            value = number(f"{type(self).__name__}.{name}", getattr(self, name), **bounds)
            self._set(name, value)

    def _check_whole(self, name: str, *, at_least: int) -> None:
        value = getattr(self, name)
        if value is not None:
            self._set(name, whole(f"{type(self).__name__}.{name}", value, at_least=at_least))

    def _check_flag(self, name: str) -> None:
        flag(f"{type(self).__name__}.{name}", getattr(self, name))


def _checked_multipliers(name: str, given: Any) -> dict[str, float] | None:
    """Return factors of the learning rate, checked."""
    if given is None:
        return None
    if not isinstance(given, Mapping) or not all(isinstance(each, str) and each for each in given):
        raise TypeError(f"{name}: expected a dict of names of layers and numbers, or None, got {shorten(given)}")
    return {each: number(f"{name}[{each!r}]", value, at_least=0.0) for each, value in given.items()}
