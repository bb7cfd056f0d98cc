"""The programs of a model by request, and what they are made for: objective, optimizer and device."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from fastnn import casts
from fastnn.backend.cpu.executor.engine import BoundProgram
from fastnn.console import waiting
from fastnn.lower.task import Request
from fastnn.objective.objective import Objective
from fastnn.optimizers import Optimizer
from fastnn.program.layout import Counter
from fastnn.program.program import Program
from fastnn.runtime.bindings import new_context
from fastnn.runtime.buffers import Buffers
from fastnn.runtime.calls.kept_call import KeptCall
from fastnn.runtime.one_row import warn_of_one_row
from fastnn.runtime.parameters import ParameterTable
from fastnn.runtime.programs.cache import shared, signature
from fastnn.runtime.programs.requests import build

T = TypeVar("T")

# Programs are a few kilobytes; a new one appears with every batch size and memory layout of the data.
_KEPT_PROGRAMS = 64


class QuickStep(Protocol):
    """Training steps that were prepared once."""

    def take(self, state: Any, x: Any, y: Any, sample_weight: Any) -> dict[str, Any] | None:
        """Take a step and return its logs; None if it is left to the general path."""


class ModelPrograms(Buffers):
    """Buffers of a model, and its programs.

    Parameters
    ----------
    table : ParameterTable
    seed : int
        64 bits.
    owners : sequence of Buffers

    Attributes
    ----------
    objective, optimizer : Objective and Optimizer, or None
        What the model is trained for and by, from `attach`.
    training : ndarray
        The context of training, whose counters outlive a run, so that training can stop and continue anywhere.
    first_step : int
        The step at which the optimizer's state began.
    prediction : KeptCall
        See `fastnn.runtime.calls.prediction`. Its call is dropped when a lock, the device or the number of threads
        changes.
    quick_step : QuickStep or None
        Takes training steps without the general path. It is dropped for the same reasons, and by `compile`.
    live_steps : dict
        All those of `fastnn.runtime.calls.live_step`, of which `quick_step` is the latest.
    step_codes : dict
        The codes of steps of sequences by the number of steps, of models that `fastnn.model.stepping` makes of this
        one. A code stays right, and making it takes longer than many steps.
    general_steps : int
        Steps of `train_on_batch` by the general path since `compile`.
    """

    def __init__(self, table: ParameterTable, seed: int, owners: Sequence[Buffers] = ()) -> None:
        super().__init__(table, owners)
        self.seed = seed
        self.training = new_context(seed)
        self.objective: Objective | None = None
        self.optimizer: Optimizer | None = None
        self.first_step = 0
        self.prediction = KeptCall()
        self.quick_step: QuickStep | None = None
        self.live_steps: dict[Any, Any] = {}
        self.step_codes: dict[int | None, Any] = {}
        self.general_steps = 0
        self._programs: OrderedDict[tuple[Request, tuple[bool, ...]], BoundProgram] = OrderedDict()
        #: everything that determines programs besides the request; None if they are not shared with other models
        self._signature: Hashable = None

    def attach(self, objective: Objective, optimizer: Optimizer) -> None:
        """Take an objective and an optimizer; drops earlier programs, and the state of another optimizer."""
        with self.lock:
            if self.optimizer is not optimizer:
                self._begin_state(optimizer)
            self.forget()
            self.objective = objective

    def _begin_state(self, optimizer: Optimizer) -> None:
        """Allocate the initial state of an optimizer."""
        self.forget()
        self.optimizer = optimizer
        self.unaveraged = None
        self.begin_optimizer(self.step_count())
        state = self.table.allocate(len(optimizer.slot_initial))
        for slot, initial in enumerate(optimizer.slot_initial):
            if initial:  # the memory is zero, and takes no space until it is written
                for entry in self.table:
                    casts.store(self.table.view(state, entry, slot), np.asarray(initial), entry.name)
        self.optimizer_state = state

    def compiled(self) -> tuple[Objective, Optimizer]:
        """Return objective and optimizer.

        Raises
        ------
        RuntimeError
            When the model is not compiled.
        """
        if self.objective is None or self.optimizer is None:
            raise RuntimeError("the model is not compiled: call compile(optimizer, loss) first")
        return self.objective, self.optimizer

    def begin_optimizer(self, step: int) -> None:
        """Say at which step the optimizer's state began; records count from there as well."""
        self.first_step = step
        self.training[Counter.FIRST_STEP] = step

    def step_count(self) -> int:
        """Return the number of training steps taken since the model was made."""
        return int(self.training[Counter.STEP])

    def optimizer_step(self) -> int:
        """Return the number of steps since the optimizer's state began: bias corrections and schedules count them."""
        return self.step_count() - self.first_step

    def program(self, request: Request) -> BoundProgram:
        """Return the program of a request; makes it if there is none yet."""
        key = (request, tuple(self.table.trainable_layers()))
        with self.lock:
            # the state is valid after each statement: a signal handler that predicts may run between any two
            bound = self._programs.pop(key, None)
            if bound is None:
                if request.kind == "train" and request.batch == 1:
                    warn_of_one_row(self.table)
                with waiting():
                    bound = self._make(key)
            self._programs[key] = bound
            while len(self._programs) > _KEPT_PROGRAMS:
                self._programs.popitem(last=False)
            return bound

    def seen_targets(self, output: int) -> tuple[int, ...] | None:
        """Return the shape of a sample's targets, for functions of symbols, in the program that was used last."""
        for request, _ in reversed(list(self._programs)):
            target = request.targets[output] if output < len(request.targets) else None
            if target is not None and target.shape is not None:
                return target.shape
        return None

    def _make(self, key: tuple[Request, tuple[bool, ...]]) -> Any:
        """Return the program of a request, from another model or new."""
        objective, optimizer = self.objective, self.optimizer

        def make() -> Any:
            return self.bind(build(self.table, objective, optimizer, key[0]))

        return self.shared(key, make, keep=self.placement is None)

    def bind(self, program: Program) -> Any:
        """Prepare a program for the model's device."""
        return BoundProgram(program) if self.placement is None else self.placement.bind(program)

    def shared(self, key: Hashable, make: Callable[[], T], *, keep: bool = False) -> T:
        """Return what models of equal layers, objective, optimizer and device share; makes it if none has it."""
        placement = self.placement
        if self._signature is None:
            self._signature = signature(self.table.architecture, self.table.dtype, self.objective, self.optimizer)
        if self._signature is None:
            return make()
        where = None if placement is None else (placement.device, placement.precision)
        return shared((where, self._signature, key), make, keep=keep)

    def forget(self) -> None:
        """Drop all programs, because the model they were made for has changed."""
        self._programs.clear()
        self._signature = None
        self.general_steps = 0
        self._forget_steps()

    def forget_quick(self) -> None:
        """Drop calls that were prepared with addresses, locks or a number of threads that have changed."""
        self.prediction.forget()
        self._forget_steps()

    def _forget_steps(self) -> None:
        self.quick_step = None
        self.live_steps.clear()
