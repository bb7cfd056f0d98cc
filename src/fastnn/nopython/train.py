"""Training in compiled code, as Python calls it; `train_overloads.py` has what compiled code calls."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import casts
from fastnn.backend.cpu.layouts.call import Held, Outcome, Part
from fastnn.backend.cpu.layouts.code import Progress
from fastnn.nopython.calls import (
    call_code,
    check_count,
    check_flat,
    check_learner,
    check_workspace,
    inputs_of,
    parameters_of,
)
from fastnn.nopython.described import error_of
from fastnn.nopython.flat import flatten, unflatten


def train_step(learner: Any, x: Any, y: Any = None, work: Any = None, sample_weight: Any = None) -> float:
    """Take one training step, without Python, the GIL or (with `work`) memory: what `Model.train_on_batch` does.

    Parameters
    ----------
    learner : Learner
        From `Model.learner`, or from that of a `fastnn.train_function`; its weights and optimizer are changed in place.
        One for exactly n rows (``learner(rows=n)``) takes batches of n alone.
    x : array of shape input_shape or (n, *input_shape)
        One sample, or a batch; of any float, integer or bool dtype but float16, with any strides. An input of integers
        takes integers and bool, in the range of its layers. A tuple with an array for each input, if the network has
        several; a number for a sample of shape ().
    y : array of the targets' shape, with n rows in front for a batch; or a number
        Of the same dtypes; labels are integers. A last axis of length 1 may be missing. A tuple with an array for each
        output that has a loss, if there are several. None for the learner of a training function, whose arrays are all
        in x.
    work : array of int64, optional
        From `workspace`, for one thread at a time. Without it, a batch allocates its own.
    sample_weight : array of shape (n,), or a number for one sample, optional
        The loss is sum(weight * loss) / n, or divided as the loss's `normalize` says. For outputs of shape (T, ...) the
        weights may have further of the first axes of the output's rows, such as (n, T). A loss of symbols that is one
        number for the batch counts as that of every sample. A tuple has other weights for each output. Weights may be
        negative, such as the advantages of a policy gradient.

    Returns
    -------
    float
        The loss before the step, penalties included. It may be NaN or infinite: then the weights are lost.

    Raises
    ------
    ValueError
        When shapes do not fit, values are not finite, integers are out of range, or the loss does not take a target;
        when the workspace is too small, or the schedule of learning rates has ended. The learner is then as it was.
    TypeError
        When dtypes or layouts do not fit; in compiled code Numba's TypingError, when the caller is compiled.
    RuntimeError
        When the learner was made by another process, and got here neither as an argument nor by pickle.
    """
    return learn(learner, Part.GRADIENTS | Part.UPDATE, x, y, work, sample_weight)


def loss_and_gradients(
    learner: Any, x: Any, y: Any, gradients: Any, work: Any = None, sample_weight: Any = None
) -> float:
    """Compute the loss and its gradients for all weights, as the first half of `train_step` does.

    Parameters
    ----------
    learner : Learner
        Its weights stay as they are, but for the running averages of batch normalisation.
    x, y, work, sample_weight
        As for `train_step`.
    gradients : array of shape (parameter_count(learner),)
        It is filled, in the order of `set_parameters`; zeros for what is not trained.

    Returns
    -------
    float
        The loss, penalties included.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As `train_step` does.
    """
    check_learner(learner)
    check_flat(learner, "gradients", gradients, written=True)
    loss = learn(learner, Part.GRADIENTS, x, y, work, sample_weight)
    flatten(learner.code, learner.state, gradients)
    return loss


def parameter_gradient(learner: Any, x: Any, seed: Any, gradients: Any, work: Any = None) -> None:
    """Compute the gradient of a weighted sum of the outputs for all weights: for losses of the caller's own.

    With the gradient of a loss for the outputs as seed, that of the loss for the weights. The network runs as in
    training: dropout drops, batch normalisation uses the batch. Penalties are not added.

    Parameters
    ----------
    learner : Learner
        From ``Model.learner(gradients=True)``. Its weights stay as they are, but for the running averages of batch
        normalisation.
    x : array of shape input_shape or (n, *input_shape)
        As for `train_step`.
    seed : array of shape output_shape or (n, *output_shape)
        What each output counts; a tuple for several outputs.
    gradients : array of shape (parameter_count(learner),)
        It is filled; `apply_gradients` takes it.
    work : array of int64, optional
        As for `train_step`.

    Raises
    ------
    ValueError
        When the learner was made without gradients, shapes do not fit, values are not finite, or the workspace is too
        small.
    TypeError, RuntimeError
        As `train_step` does.
    """
    check_learner(learner)
    check_flat(learner, "gradients", gradients, written=True)
    learn(learner, Part.GRADIENTS, x, seed, work, None, learner.seeded)
    flatten(learner.code, learner.state, gradients)


def apply_gradients(learner: Any, gradients: Any) -> None:
    """Take the optimizer's step with the caller's gradients, as the second half of `train_step` does.

    Parameters
    ----------
    learner : Learner
    gradients : array of shape (parameter_count(learner),)
        As `loss_and_gradients` gives them; they are clipped here, where the optimizer clips.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As `train_step` does.
    """
    check_learner(learner)
    check_flat(learner, "gradients", gradients)
    unflatten(learner.code, gradients, learner.state)
    learn(learner, Part.UPDATE, None, None, None, None)


def set_learning_rate(learner: Any, rate: float) -> None:
    """Set the learning rate of all later steps, also instead of a schedule.

    Parameters
    ----------
    learner : Learner
    rate : float
        Not negative, and finite.

    Raises
    ------
    ValueError
        When it is negative, NaN, infinite, or too large for the learner's dtype.
    """
    check_learner(learner)
    rate = float(rate)
    if not 0.0 <= rate < math.inf:
        raise ValueError(f"rate: expected a finite number >= 0, got {rate}")
    casts.check_number(rate, learner.state.dtype.name, "rate")
    learner.progress[Progress.CONSTANT] = 1
    learner.progress.view(np.float64)[Progress.RATE] = rate


def learn(
    learner: Any, parts: int, x: Any, y: Any, work: Any, weights: Any, code: NDArray[np.int64] | None = None
) -> float:
    """Do parts of a step, or check the arguments, by one of a learner's codes; returns the loss."""
    check_learner(learner)
    seeded = code is not None
    if code is None:
        code = learner.training
    elif not code.size:
        raise error_of(Outcome.UNSEEDED)
    check_workspace(work)
    arrays: list[NDArray[Any] | None] = []
    if parts & Part.GRADIENTS:
        inputs = inputs_of("x", x)
        targets = [] if y is None else inputs_of("seed" if seeded else "y", y)
        arrays = [*inputs, *targets]
        if not seeded:
            given: list[Any] = [None] if weights is None else inputs_of("sample_weight", weights)
            arrays += given * len(targets) if len(given) == 1 else given
        check_count(code, inputs, arrays)
    loss = ctypes.c_double()
    state, progress, totals = learner.state, learner.progress, learner.totals
    held = parameters_of(learner) | {
        Held.GRADIENTS: state.ctypes.data,
        Held.OPTIMIZER: state.ctypes.data + learner.parameters.nbytes,
        Held.STATE_COUNT: state.size,
        Held.PROGRESS: progress.ctypes.data,
        Held.PROGRESS_COUNT: progress.size,
        Held.TOTALS: totals.ctypes.data if totals.size and not seeded else 0,
        Held.TOTALS_COUNT: totals.size,
        Held.LOSS: ctypes.addressof(loss),
    }
    call_code(code, held, arrays, parts, work)
    return loss.value
