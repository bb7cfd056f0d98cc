"""Training, as Numba compiles it into its users' functions."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import register_jitable

from fastnn.backend.cpu.layouts.call import Outcome
from fastnn.backend.cpu.layouts.code import CodeWord, Progress
from fastnn.casts import LIMITS
from fastnn.nopython import train
from fastnn.nopython.flat import flatten, unflatten
from fastnn.nopython.messages import ERRORS
from fastnn.nopython.native import compute_gradients, compute_seeded, failing, is_ours, take_step, update
from fastnn.nopython.numba_types import (
    array_type,
    input_types,
    learner_type,
    overload,
    parameters_of,
    workspace_type,
)

_PARAMETERS, _TRAINABLE = int(CodeWord.PARAMETERS), int(CodeWord.TRAINABLE)
_CONSTANT, _RATE, _RATES_AT = int(Progress.CONSTANT), int(Progress.RATE), int(Progress.RATES_AT)
_FOREIGN = f"fastnn.nopython: {ERRORS[Outcome.FOREIGN][1]}"
_fail_parameters, _fail_flat, _fail_rate = map(failing, (Outcome.PARAMETERS, Outcome.FLAT, Outcome.RATE))


def _data_types(learner: Any, x: Any, y: Any, weights: Any, work: Any) -> None:
    learner_type(learner)
    input_types("x", x, numbers=True)
    if y is not None and not isinstance(y, types.NoneType | types.Omitted):
        input_types("y", y, numbers=True)
    if weights is not None:
        input_types("sample_weight", weights, numbers=True, optional=True)
    workspace_type(work)


@overload(train.train_step)
def _train_step(
    learner: Any, x: Any, y: Any = None, work: Any = None, sample_weight: Any = None
) -> Callable[..., float]:
    _data_types(learner, x, y, sample_weight, work)

    def train_step(learner: Any, x: Any, y: Any = None, work: Any = None, sample_weight: Any = None) -> float:
        return take_step(learner, x, y, sample_weight, work)  # type: ignore[no-any-return]

    return train_step


@register_jitable
def _check_flat(learner: Any, flat: Any) -> None:
    if not is_ours(learner.code):
        raise RuntimeError(_FOREIGN)
    if learner.state.size < learner.code[_PARAMETERS]:
        _fail_parameters(learner.code, learner.parameters.size, 0, 0, None, None)
    if flat.size != learner.code[_TRAINABLE]:
        _fail_flat(learner.code, 1, 0, 0, flat, None)


@overload(train.loss_and_gradients)
def _loss_and_gradients(
    learner: Any, x: Any, y: Any, gradients: Any, work: Any = None, sample_weight: Any = None
) -> Callable[..., float]:
    _data_types(learner, x, y, sample_weight, work)
    array_type("gradients", gradients, parameters_of(learner).dtype, 1, written=True)

    def loss_and_gradients(
        learner: Any, x: Any, y: Any, gradients: Any, work: Any = None, sample_weight: Any = None
    ) -> float:
        _check_flat(learner, gradients)
        loss = compute_gradients(learner, x, y, sample_weight, work)
        flatten(learner.code, learner.state, gradients)
        return loss  # type: ignore[no-any-return]

    return loss_and_gradients


@overload(train.parameter_gradient)
def _parameter_gradient(learner: Any, x: Any, seed: Any, gradients: Any, work: Any = None) -> Callable[..., None]:
    learner_type(learner)
    input_types("x", x, numbers=True)
    input_types("seed", seed, numbers=True)
    array_type("gradients", gradients, parameters_of(learner).dtype, 1, written=True)
    workspace_type(work)

    def parameter_gradient(learner: Any, x: Any, seed: Any, gradients: Any, work: Any = None) -> None:
        _check_flat(learner, gradients)
        compute_seeded(learner, x, seed, None, work)
        flatten(learner.code, learner.state, gradients)

    return parameter_gradient


@overload(train.apply_gradients)
def _apply_gradients(learner: Any, gradients: Any) -> Callable[..., None]:
    learner_type(learner)
    array_type("gradients", gradients, parameters_of(learner).dtype, 1)

    def apply_gradients(learner: Any, gradients: Any) -> None:
        _check_flat(learner, gradients)
        unflatten(learner.code, gradients, learner.state)
        update(learner, None, None, None, None)

    return apply_gradients


@overload(train.set_learning_rate)
def _set_learning_rate(learner: Any, rate: Any) -> Callable[..., None]:
    learner_type(learner)
    if not isinstance(rate, types.Integer | types.IntegerLiteral | types.Float):
        raise TypingError(f"fastnn.nopython: rate: expected a number, got {rate}")
    limit = LIMITS[str(parameters_of(learner).dtype)]

    def set_learning_rate(learner: Any, rate: Any) -> None:
        value = np.float64(rate)
        if not 0.0 <= value < limit:
            _fail_rate(learner.code, value, 0, 0, None, None)
        if learner.progress.size < _RATES_AT:
            _fail_parameters(learner.code, learner.parameters.size, 0, 0, None, None)
        learner.progress[_CONSTANT] = 1
        learner.progress.view(np.float64)[_RATE] = value

    return set_learning_rate
