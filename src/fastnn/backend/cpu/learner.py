"""A learner: a network with all that training it takes, in arrays alone, so that Numba takes it as an argument."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu import frozen_code
from fastnn.backend.cpu.frozen import FrozenNetwork, aligned_array, own, sample_shapes
from fastnn.backend.cpu.frozen_code import Code, Interface, Training
from fastnn.backend.cpu.frozen_layout import Progress, Word
from fastnn.formulas.optimizers import HYPER_COLUMNS
from fastnn.program.program import Program

_INTEGERS = (Progress.STEP, Progress.OPTIMIZER_STEP, Progress.SEED)


class Learner(NamedTuple):
    """A network that is trained in compiled code, by the functions of `fastnn.nopython`; made by `Model.learner`.

    All learners of a dtype have one Numba type. Pickling and copying work, also to other processes and machines. Only
    one thread at a time may train a learner.

    Attributes
    ----------
    network : FrozenNetwork
        With the weights as they are: for `fastnn.nopython.predict` between steps.
    training, relocations, state, progress
        The step, the optimizer's state, counters and hyperparameters; fastnn's own.
    """

    network: FrozenNetwork
    training: Code
    relocations: NDArray[np.uint8]
    state: NDArray[Any]
    progress: NDArray[np.int64]

    def __reduce__(self) -> tuple[Any, ...]:
        code = frozen_code.without_addresses(self.training, self.relocations)
        return _restore, (self.network, code, self.relocations, np.array(self.state), np.array(self.progress))

    def __repr__(self) -> str:
        shapes = " -> ".join(map(str, sample_shapes(self.network.code)))
        steps = self.progress[Progress.OPTIMIZER_STEP]
        return f"<fastnn.nopython.Learner: {shapes}, {self.state.dtype}, {steps} steps>"


class Numbers(NamedTuple):
    """Where a training stands: what a learner's `progress` is made of.

    Attributes
    ----------
    steps, optimizer_steps, seed : int
    unit_row : ndarray of float64, shape (HYPER_COLUMNS,)
        For a learning rate of 1.
    rates : float, or ndarray of float64
        One learning rate, or one for each step.
    correction : mapping of str to float
        By the names of `Progress`, in lower case.
    """

    steps: int
    optimizer_steps: int
    seed: int
    unit_row: NDArray[np.float64]
    rates: float | NDArray[np.float64]
    correction: Mapping[str, float]


def make(
    network: FrozenNetwork, program: Callable[[int], Program], interface: Interface, training: Training,
    slots: NDArray[Any], numbers: Numbers,
) -> Learner:  # fmt: skip
    """Make a learner; it owns copies of all arrays but the network's.

    Parameters
    ----------
    program : callable
        Gives the program of a step on a number of rows: inputs, targets and weights are the data slots.
    slots : ndarray
        The optimizer's state.
    """
    code, relocations = frozen_code.assemble(program, interface, frozen_code.LEARN, training)
    state = aligned_array((interface.parameters + slots.size,), slots.dtype)
    state[interface.parameters :] = slots
    return Learner(network, code, relocations, state, _progress(numbers))


def slots_of(learner: Learner) -> NDArray[Any]:
    """See the optimizer's state, without the gradients before it."""
    return learner.state[learner.network.parameters.size :]


def fingerprint_of(learner: Learner) -> int:
    """Return `frozen_code.fingerprint` of the learner's program for `UNIT` rows."""
    return int(learner.training[Word.FINGERPRINT])


def _progress(numbers: Numbers) -> NDArray[np.int64]:
    scheduled = np.asarray(numbers.rates if isinstance(numbers.rates, np.ndarray) else (), np.float64)
    progress = np.zeros(Progress.RATES_AT + len(scheduled), np.int64)
    floats = progress.view(np.float64)
    progress[list(_INTEGERS)] = numbers.steps, numbers.optimizer_steps, numbers.seed
    progress[Progress.SCHEDULED] = len(scheduled)
    if isinstance(numbers.rates, float):
        progress[Progress.CONSTANT], floats[Progress.RATE] = 1, numbers.rates
    for name, value in numbers.correction.items():
        floats[Progress[name.upper()]] = value
    floats[Progress.UNIT_ROW : Progress.UNIT_ROW + HYPER_COLUMNS] = numbers.unit_row
    floats[Progress.RATES_AT :] = scheduled
    return progress


def _restore(
    network: FrozenNetwork, code: Code, relocations: NDArray[np.uint8], state: NDArray[Any],
    progress: NDArray[np.int64],
) -> Learner:  # fmt: skip
    here = frozen_code.relocate(code, relocations)
    return Learner(network, here, np.array(relocations), own(state), np.array(progress))
