"""User-defined optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from fastnn.checks import number
from fastnn.formula_types import check_types
from fastnn.formulas import custom
from fastnn.formulas.optimizers import HYPER_COLUMNS, MAX_SLOTS, Formula
from fastnn.optimizers._blocks import BLOCK
from fastnn.optimizers.base import Optimizer, Scalars
from fastnn.registry import register
from fastnn.schedules import LearningRate

_RATES = ("step", "decay")
_MOST_CONSTANTS = HYPER_COLUMNS - len(_RATES) - 1


@register("optimizer")
@dataclass(init=False, repr=False)
class Custom(Optimizer):
    """An optimizer from a scalar function that updates one parameter, compiled into fastnn's loop.

    ``function(p, g, *state, learning_rate, step, *hyperparameters)`` gets the parameter, its gradient, its own numbers
    of state, the learning rate, and the number of the update from 1 on; it returns ``(p, *state)``, or ``p`` alone
    where there is no state. Momentum, for example::

        def momentum(p, g, m, learning_rate, step, beta):
            m = beta * m - learning_rate * g
            return p + m, m

        fnn.optimizers.Custom(momentum, 0.01, state={"m": 0.0}, hyperparameters={"beta": 0.9})

    Parameters
    ----------
    function : function
        In the part of Python that Numba compiles, with or without `numba.njit`.
    learning_rate : float, Schedule or function
        As in `Optimizer`, like all keyword arguments that are not named here. Weight decay comes before the function.
    state : dict of str to float
        Names of the numbers that each parameter keeps from step to step, at most 3, and what they begin with.
    hyperparameters : dict of str to float
        At most 5.
    name : str, optional
        The function's by default. Saved models hold the name, and `fastnn.load` asks for the function.

    Raises
    ------
    TypeError
        When the function is none, or takes another number of arguments.
    ValueError
        When there is too much state, a number is not finite, Numba cannot compile the function, or it does not return
        the parameter and the state.
    """

    function: Callable[..., Any]
    state: Mapping[str, float]
    hyperparameters: Mapping[str, float]
    name: str
    _key: str = field(init=False, repr=False, compare=False)

    is_custom: ClassVar[bool] = True

    def __init__(
        self,
        function: Callable[..., Any],
        learning_rate: LearningRate = 0.01,
        *,
        state: Mapping[str, float] | None = None,
        hyperparameters: Mapping[str, float] | None = None,
        name: str = "",
        **common: Any,
    ) -> None:
        known = {each.name: each.default for each in fields(Optimizer) if each.kw_only}
        for unknown in common.keys() - known.keys():
            raise TypeError(f"Custom: unexpected keyword argument {unknown!r}; hyperparameters go into a dict")
        for each, default in known.items():
            self._set(each, common.get(each, default))
        self.learning_rate = learning_rate
        self.__post_init__()
        for what, given, most in (
            ("state", state or {}, MAX_SLOTS),
            ("hyperparameters", hyperparameters or {}, _MOST_CONSTANTS),
        ):
            if not isinstance(given, Mapping) or not all(isinstance(each, str) for each in given):
                raise TypeError(f"Custom.{what}: expected a dict of names and numbers, got {given!r}")
            taken = given.keys() & self._added_slots.keys()
            if taken:
                raise ValueError(f"Custom.{what}: the name {taken.pop()!r} is taken")
            if len(given) > most:
                raise ValueError(f"Custom.{what}: expected at most {most}, got {len(given)}")
            self._set(what, {each: number(f"Custom.{what}[{each!r}]", value) for each, value in given.items()})
        count = 4 + len(self.state) + len(self.hyperparameters)
        wanted = ", ".join(("p", "g", *self.state, "learning_rate", "step", *self.hyperparameters))
        custom.check_arity(function, count, "optimizer", f"of ({wanted})")
        custom.check_names(function, ("p", "g", *self.state, "learning_rate", "step", *self.hyperparameters), wanted)
        self._set("function", function)
        self._set("name", custom.name_of(name, function))
        made = custom.make(self.name, function, slots=len(self.state), constants=len(self.hyperparameters))
        self._set("_key", check_types(made, "optimizer").key)

    def __repr__(self) -> str:
        """Show the name and the numbers: functions show addresses."""
        numbers = f"{self.learning_rate!r}, state={self.state!r}, hyperparameters={self.hyperparameters!r}"
        return f"Custom({self.name}, {numbers})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Make the function known where the object gets to."""
        common = {each.name: getattr(self, each.name) for each in fields(Optimizer) if each.kw_only}
        numbers = {"state": self.state, "hyperparameters": self.hyperparameters, "name": self.name}
        return _made, (self.function, self.learning_rate, {**numbers, **common})

    @property
    def formula(self) -> str:
        """Key of the function."""
        return self._key

    @property
    def description(self) -> Formula:
        """Slots and columns of hyper rows."""
        return Formula(tuple(self.state), _RATES, ("number of the step", *self.hyperparameters), "count")

    @property
    def _formula_initial(self) -> tuple[float, ...]:
        return tuple(self.state.values())

    def _scalars(self, first: int) -> Scalars:
        return {"number of the step": np.arange(first + 1.0, first + BLOCK + 1.0), **self.hyperparameters}


def _made(function: Callable[..., Any], learning_rate: LearningRate, others: dict[str, Any]) -> Custom:
    return Custom(function, learning_rate, **others)
