"""A learner: a network with everything needed to train it, in arrays only, so that Numba takes it as an argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.frozen import code as frozen_code
from fastnn.backend.cpu.frozen.code import NOTHING, Code, Parts
from fastnn.backend.cpu.frozen.network import (
    FrozenNetwork,
    aligned_array,
    owned,
    packed,
    same_architecture,
    unpack,
    written_shapes,
)
from fastnn.backend.cpu.frozen.sealed import opened, sealed
from fastnn.backend.cpu.frozen.versioned import EarlierClass, earlier, versioned
from fastnn.backend.cpu.layouts.code import CodeWord, Progress, Role, Slot
from fastnn.formulas.optimizers import HYPER_COLUMNS

_INTEGERS = (Progress.STEP, Progress.OPTIMIZER_STEP, Progress.SEED)


#: The arrays that each of several learners has for itself.
OWN = ("parameters", "state", "progress", "totals")


@versioned
class Learner(NamedTuple):
    """A network that is trained in compiled code, by the functions of `fastnn.nopython`; made by `Model.learner`.

    Functions that take a network take a learner too. All learners of a dtype have the same Numba type. Pickling and
    copying work, also to other processes and machines. Only one thread at a time may train a learner.

    Attributes
    ----------
    code, parameters, relocations, gradient, gradient_relocations
        As in `FrozenNetwork`; training changes the parameters.
    training, training_relocations : ndarray of int64, of uint8
        The step, and the data with which another process adapts it.
    seeded, seeded_relocations : ndarray of int64, of uint8
        The same for the gradients of any function of the outputs; empty if the learner was made without them.
    state : ndarray of float32 or float64
        Gradients, and the optimizer's state.
    progress : ndarray of int64
        Counters and hyperparameters.
    totals : ndarray of float64
        Accumulators of losses and metrics; empty if the learner was made without metrics.
    """

    code: Code
    parameters: NDArray[Any]
    relocations: NDArray[np.uint8]
    gradient: Code
    gradient_relocations: NDArray[np.uint8]
    training: Code
    training_relocations: NDArray[np.uint8]
    seeded: Code
    seeded_relocations: NDArray[np.uint8]
    state: NDArray[Any]
    progress: NDArray[np.int64]
    totals: NDArray[np.float64]

    @property
    def network(self) -> FrozenNetwork:
        """The network with the learner's weights; compiled code can use the learner itself instead."""
        return FrozenNetwork(self.code, self.parameters, self.relocations, self.gradient, self.gradient_relocations)

    def __reduce__(self) -> tuple[Any, ...]:
        training = frozen_code.without_addresses(self.training, self.training_relocations), self.training_relocations
        seeded = frozen_code.without_addresses(self.seeded, self.seeded_relocations), self.seeded_relocations
        users = packed(self.training_relocations, self.seeded_relocations)
        numbers = (np.array(array) for array in (self.state, self.progress, self.totals))
        return _restore, sealed(self.network, *training, *seeded, *numbers, users)

    def __repr__(self) -> str:
        shapes = written_shapes(self.code)
        steps, rows = self.progress[Progress.OPTIMIZER_STEP], rows_of(self)
        batches = f" on {rows} rows each" if rows else ""
        return f"<fastnn.nopython.Learner: {shapes}, {self.state.dtype}, {steps} steps{batches}>"


@versioned
class Learners(NamedTuple):
    """Learners of one architecture; made by `fastnn.nopython.stack`, so that threads can train one each.

    Attributes
    ----------
    parameters, state, progress, totals : ndarray
        As in `Learner`, with one row for each learner; the other attributes are the same for all.
    """

    code: Code
    parameters: NDArray[Any]
    relocations: NDArray[np.uint8]
    gradient: Code
    gradient_relocations: NDArray[np.uint8]
    training: Code
    training_relocations: NDArray[np.uint8]
    seeded: Code
    seeded_relocations: NDArray[np.uint8]
    state: NDArray[Any]
    progress: NDArray[np.int64]
    totals: NDArray[np.float64]

    def __reduce__(self) -> tuple[Any, ...]:
        return stack, ([member(self, index) for index in range(len(self.state))],)

    def __repr__(self) -> str:
        shapes = written_shapes(self.code)
        return f"<fastnn.nopython.Learners: {len(self.state)} of {shapes}, {self.state.dtype}>"


class Numbers(NamedTuple):
    """The position of a training, from which a learner's `progress` is made.

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


def __getattr__(name: str) -> type[EarlierClass]:
    return earlier(__name__, name)


def make(
    network: FrozenNetwork,
    training: Parts,
    seeded: Parts | None,
    slots: NDArray[Any],
    numbers: Numbers,
    totals: NDArray[np.float64] | None = None,
) -> Learner:
    """Make a learner, with a copy of the optimizer's state.

    Parameters
    ----------
    training, seeded : Parts
        From `frozen_code.assemble`; their targets are the loss's, or gradients of the outputs.
    slots : ndarray
        The optimizer's state.
    totals : ndarray of float64, optional
        Empty accumulators, if the learner reports metrics.
    """
    count = network.parameters.size
    state = aligned_array((count + slots.size,), slots.dtype)
    state[count:] = slots
    kept = (
        np.empty(0)
        if totals is None
        else np.concatenate([totals, np.zeros(int(training.code[CodeWord.LOSS_TOTALS]) + 1)])
    )
    return Learner(*network, *training, *(seeded or NOTHING), state, progress_of(numbers), kept)


def alike(first: Learner, second: Learner) -> bool:
    """Return whether two learners are the same apart from their weights, counters, hyperparameters and totals."""
    pairs = (first.code, second.code), (first.training, second.training), (first.seeded, second.seeded)
    sizes = first.progress.size == second.progress.size and first.totals.size == second.totals.size
    return sizes and first.state.dtype == second.state.dtype and all(same_architecture(*pair) for pair in pairs)


def stack(learners: list[Learner]) -> Learners:
    """Combine copies of learners that are alike."""
    own_rows = {
        name: aligned_array((len(learners), getattr(learners[0], name).size), getattr(learners[0], name).dtype)
        for name in OWN
    }
    for name, rows in own_rows.items():
        for row, learner in zip(rows, learners, strict=True):
            row[...] = getattr(learner, name)
    return Learners(**{**learners[0]._asdict(), **own_rows})


def member(learners: Learners, index: int) -> Learner:
    """Return one of several learners, as a view."""
    rows = {name: getattr(learners, name)[index] for name in OWN}
    return Learner(**{**learners._asdict(), **rows})


def totals_of(learner: Learner) -> tuple[NDArray[np.float64], int]:
    """Return the accumulators of all steps since they were reset, in the objective's order, and the samples."""
    count, losses = int(learner.training[CodeWord.TOTALS]), int(learner.training[CodeWord.LOSS_TOTALS])
    totals = learner.totals
    return np.concatenate([totals[count : count + losses], totals[losses:count]]), int(totals[count + losses])


def reset_totals(learner: Learner, initial: NDArray[np.float64]) -> None:
    """Start the accumulators again."""
    learner.totals[...] = 0.0
    learner.totals[: len(initial)] = initial


def slots_of(learner: Learner) -> NDArray[Any]:
    """Return a view of the optimizer's state, without the gradients before it."""
    return learner.state[learner.parameters.size :]


def checked_progress(learner: Learner) -> NDArray[np.int64]:
    """Return a learner's progress, after checking it and the state.

    Raises
    ------
    ValueError
        When they have been replaced, or hold impossible values.
    """
    progress, state = learner.progress, learner.state
    slots = int(learner.training[CodeWord.OPTIMIZER_SLOTS])
    fine = progress.ndim == 1 and progress.dtype == np.int64 and len(progress) >= Progress.RATES_AT
    fine = fine and state.shape == (learner.parameters.size * (1 + slots),)
    if not fine or not 0 <= progress[Progress.OPTIMIZER_STEP] <= progress[Progress.STEP] < 2**53:
        raise ValueError("the learner's state or progress is not what fastnn made")
    return progress


def labels_of(learner: Learner) -> list[bool]:
    """Return for each output that has targets whether they are labels."""
    code = learner.training
    slots = code[code[CodeWord.SLOTS_AT] :][: code[CodeWord.SLOTS_COUNT] * Slot.WORDS].reshape(-1, Slot.WORDS)
    return [bool(slot[Slot.ROLE] == Role.LABEL) for slot in slots if slot[Slot.ROLE] in (Role.LABEL, Role.TARGET)]


def rows_of(learner: Learner) -> int:
    """Return the number of rows that a learner's steps are for, 0 if any."""
    return int(learner.training[CodeWord.ROWS])


def fingerprint_of(learner: Learner) -> int:
    """Return `frozen_code.fingerprint` of the learner's program for `UNIT` rows, or for its only number of rows."""
    return int(learner.training[CodeWord.FINGERPRINT])


def progress_of(numbers: Numbers) -> NDArray[np.int64]:
    """Return the words of `Progress`, and a learning rate for each step if there is a schedule."""
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


def _restore(packed: bytes, digest: bytes) -> Learner:
    network: FrozenNetwork
    network, training, relocations, seeded, seeded_relocations, state, progress, totals, users = opened(packed, digest)
    held = unpack(users)
    step, gradients = frozen_code.relocate(training, relocations), frozen_code.relocate(seeded, seeded_relocations)
    del held  # the kernels, which stay, hold the functions
    places = np.array(relocations), np.array(seeded_relocations)
    return Learner(*network, step, places[0], gradients, places[1], owned(state), np.array(progress), np.array(totals))
