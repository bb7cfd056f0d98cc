"""A look at the arguments of a compiled call from Python, which says what is wrong in numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.backend.cpu.frozen.learner import Learner
from fastnn.backend.cpu.frozen.network import FrozenNetworks
from fastnn.backend.cpu.layouts.frozen import Word
from fastnn.nopython.calls import check_learner, check_workspace
from fastnn.nopython.functions import check_prediction, count, member, rows_of
from fastnn.nopython.train import train_step


def check(net: Any, x: Any, out: Any = None, work: Any = None, *, y: Any = None, sample_weight: Any = None) -> None:
    """Raise what a call of `predict` or `train_step` with these arguments would raise.

    Numba loses errors that are raised in ``prange``: call this from Python before. Nothing is changed; compiled code
    cannot call it.

    Parameters
    ----------
    net : FrozenNetwork, Learner or FrozenNetworks
    x : array
        As for `predict` and `train_step`.
    out : array, optional
        As for `predict`, which is checked where it is given.
    work : array of int64, optional
        From `workspace`.
    y : array or number, optional
        As for `train_step`, which is checked where it is given; `net` is a learner then.
    sample_weight : array or number, optional
        Likewise.

    Raises
    ------
    ValueError
        When shapes or values do not fit, or neither `out` nor `y` is given.
    TypeError, RuntimeError
        As `predict` and `train_step` do.
    """
    if out is None and y is None:
        raise ValueError("check: expected out, for predict, or y, for train_step")
    if out is not None and isinstance(net, FrozenNetworks):
        for name, array in (("x", x), ("out", out)):
            if np.ndim(array) < 2 or len(array) != count(net):
                wanted = f"one element of the first axis for each of {count(net)} networks"
                raise ValueError(f"{name}: expected {wanted}, got shape {np.shape(array)}")
        for index in range(count(net)):
            check_prediction(member(net, index), x[index], out[index], work)
    elif out is not None:
        check_prediction(net, x, out, work)
    if y is not None:
        _check_step(net, x, y, work, sample_weight)


def _check_step(learner: Any, x: Any, y: Any, work: Any, sample_weight: Any) -> None:
    check_learner(learner)
    check_workspace(work)
    if isinstance(x, np.ndarray):
        n = rows_of(learner.training, "x", x, Word.INPUT_NDIM, Word.INPUT_SHAPE)
        if sample_weight is not None and np.size(sample_weight) != n:
            raise ValueError(
                f"sample_weight: expected {n} numbers, one a row of x, got shape {np.shape(sample_weight)}"
            )
    apart: Learner = learner._replace(
        **{name: np.array(getattr(learner, name)) for name in ("parameters", "state", "progress")}
    )
    # a step of a copy finds the rest: targets, NaN, the schedule
    train_step(apart, x, y, None if work is None else np.array(work), sample_weight)
