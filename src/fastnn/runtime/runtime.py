"""The runtime of a model: its flat buffers, its programs by request, and the contexts that run them."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn import casts
from fastnn.addresses import address
from fastnn.backend.cpu.executor.engine import BoundProgram, Runner
from fastnn.backend.cpu.executor.epoch import Epochs, Lap
from fastnn.console import waiting
from fastnn.errors import InputNotFiniteError
from fastnn.objective.objective import Objective
from fastnn.optimizers import Optimizer
from fastnn.program.layout import CONTEXT_WORDS, Buffer, Counter, Status
from fastnn.program.program import aligned_zeros
from fastnn.runtime.one_row import warn_of_one_row
from fastnn.runtime.parameters import ParameterTable
from fastnn.runtime.program_cache import shared, signature
from fastnn.runtime.programs import Request, build
from fastnn.threads import get_num_threads, watch

if TYPE_CHECKING:
    from fastnn.data.feed import Feed
    from fastnn.runtime.device_buffers import Placement

# Programs are a few kilobytes; a new one appears with every batch size and memory layout of the data.
_KEPT_PROGRAMS = 64
# Plain integers: an enumeration's member costs 0.15 µs as an index.
_PARAMETERS, _GRADIENTS, _OPTIMIZER, _ARENA, _ACCUMULATORS, _HYPER, _INDEX, _, _DATA = (int(one) for one in Buffer)
_CURSOR, _STEP, _CHUNK_STEP = int(Counter.CURSOR), int(Counter.STEP), int(Counter.CHUNK_STEP)
_STATUS, _BAD_LOSS_STEP = int(Counter.STATUS), int(Counter.BAD_LOSS_STEP)


@dataclass(frozen=True)
class Pass:
    """The bindings of one run: all arrays that a program uses and the model does not own.

    `parameters` replaces the model's weights if a program that does not train would change them: batch
    normalisation in training mode moves its averages. `gradients` replaces the model's on the CPU, since
    the caller may have interrupted a training step.
    """

    addresses: Mapping[int, int]
    index: NDArray[np.int64] | None = None
    hyper: NDArray[np.float64] | None = None
    accumulators: NDArray[np.float64] | None = None
    parameters: NDArray[np.uint8] | None = None
    gradients: NDArray[np.uint8] | None = None


class Unaveraged(NamedTuple):
    """The weights that averages have replaced, in the layout of the model's, and the step after which they did."""

    step: int
    weights: NDArray[np.uint8]


class Runtime:
    """Buffers and programs of one model.

    Parameters
    ----------
    table : ParameterTable
    seed : int
        64 bits; keys the random numbers of dropout and noise.
    """

    def __init__(self, table: ParameterTable, seed: int) -> None:
        self.table = table
        self.lock = threading.RLock()
        #: the model's buffers on a GPU, if it is on one
        self.placement: Placement | None = None
        self._flat = [table.allocate(), table.allocate(0), table.allocate(0)]
        self._arena = aligned_zeros(0)
        self._programs: OrderedDict[tuple[Request, tuple[bool, ...]], BoundProgram] = OrderedDict()
        #: counters of training: they outlive a run, so that training can stop and continue anywhere
        self.training = new_context(seed)
        #: the optimizer that the state belongs to
        self.attached: Optimizer | None = None
        #: the step at which the optimizer's state began
        self.first_step = 0
        #: weights that moving averages have replaced at the end of a training, which may be resumed
        self.unaveraged: Unaveraged | None = None
        self._other = new_context(seed)
        self._made_for: tuple[Objective | None, Optimizer | None] = (None, None)
        #: everything that determines programs besides the request; None if they are not shared with other models
        self._signature: Hashable = None
        self._runners: dict[bool, Runner] = {}
        self._epochs: Epochs | None = None
        #: threads in a call that reads for longer than one run, such as `evaluate`, or in `train_on_batch`
        self.inside: dict[int, bool] = {}
        # the thread that prepares or does a run in the memory that runs share, under the lock; 0: none
        self._running = 0
        #: see `fastnn.runtime.prediction_cache`; emptied when an address, a lock or the number of threads changes
        self.quick: dict[Any, Any] = {}
        #: see `fastnn.runtime.step_cache`; emptied then, and when the model is compiled
        self.quick_steps: dict[Any, Callable[[Any, Any, Any], bool | None]] = {}
        _runtimes[weakref.ref(self, _forgotten)] = None

    # --- the flat buffers: the host's, updated first if a GPU has changed its copy ------------------------------

    @property
    def parameters(self) -> NDArray[np.uint8]:
        """Weights."""
        return self._host(_PARAMETERS)

    @property
    def gradients(self) -> NDArray[np.uint8]:
        """Gradients of the weights; empty until a program needs them."""
        return self._host(_GRADIENTS)

    @gradients.setter
    def gradients(self, buffer: NDArray[np.uint8]) -> None:
        self._replace(_GRADIENTS, buffer)

    @property
    def optimizer_state(self) -> NDArray[np.uint8]:
        """The optimizer's slots, concatenated."""
        return self._host(_OPTIMIZER)

    @optimizer_state.setter
    def optimizer_state(self, buffer: NDArray[np.uint8]) -> None:
        self._replace(_OPTIMIZER, buffer)

    def _host(self, buffer: int) -> NDArray[np.uint8]:
        if self.placement is not None:
            with self.lock:
                self.placement.mirror(Buffer(buffer)).fetch(self._flat[buffer])
        return self._flat[buffer]

    def _replace(self, buffer: int, array: NDArray[np.uint8]) -> None:
        self._flat[buffer] = array
        if self.placement is not None:
            self.placement.mirror(Buffer(buffer)).replaced()

    def move(self, placement: Placement | None) -> None:
        """Move to a GPU, or back to the CPU."""
        with self.lock:
            for buffer in (_PARAMETERS, _GRADIENTS, _OPTIMIZER):
                self._host(buffer)
            self.placement = placement
            self.forget()
            self.forget_quick()

    def empty(self, shape: tuple[int, ...]) -> Any:
        """Make an array for results, on the model's device."""
        if self.placement is not None:
            return self.placement.empty(shape, self.table.dtype)
        return np.empty(shape, self.table.dtype)

    # --- programs -----------------------------------------------------------------------------------------

    def attach(self, optimizer: Optimizer | None) -> None:
        """Allocate gradients and fresh optimizer state; drops earlier programs."""
        slots = () if optimizer is None else optimizer.slot_initial
        with self.lock:
            self.forget()
            self.attached = optimizer
            self.unaveraged = None
            self.begin_optimizer(self.step_count())
            state = self.table.allocate(len(slots))
            for slot, initial in enumerate(slots):
                if initial:  # the memory is zero, and takes no space until it is written
                    for entry in self.table:
                        casts.store(self.table.view(state, entry, slot), np.asarray(initial), entry.name)
            self.optimizer_state = state

    def begin_optimizer(self, step: int) -> None:
        """Say at which step the optimizer's state began; records count from there as well."""
        self.first_step = step
        self.training[Counter.FIRST_STEP] = step

    def forget(self) -> None:
        """Drop all programs, because the model they were made for has changed."""
        self._programs.clear()
        self._signature = None
        self.quick_steps.clear()

    def forget_quick(self) -> None:
        """Drop calls that were prepared with addresses, locks or a number of threads that have changed."""
        self.quick.clear()
        self.quick_steps.clear()

    def renew(self) -> None:
        """Make the runtime usable in the child process of a fork, which has no other threads."""
        me = get_ident()
        self.lock = threading.RLock()
        self._running = me if self._running == me else 0
        self.inside = {me: True} if me in self.inside else {}
        self.forget_quick()

    def program(self, request: Request, objective: Objective | None, optimizer: Optimizer | None) -> BoundProgram:
        """Return the program of a request; makes it if there is none yet."""
        key = (request, tuple(self.table.trainable_layers()))
        with self.lock:
            if self._made_for[0] is not objective or self._made_for[1] is not optimizer:
                self.forget()
                self._made_for = (objective, optimizer)
            # the state is valid after each statement: a signal handler that predicts may run between any two
            bound = self._programs.pop(key, None)
            if bound is None:
                if request.kind == "train" and request.batch == 1:
                    warn_of_one_row(self.table.architecture)
                with waiting():
                    bound = self._shared(key, objective, optimizer)
            self._programs[key] = bound
            while len(self._programs) > _KEPT_PROGRAMS:
                self._programs.popitem(last=False)
            return bound

    def _shared(
        self, key: tuple[Request, tuple[bool, ...]], objective: Objective | None, optimizer: Optimizer | None
    ) -> Any:
        """Return the program of a request, from another model or new."""
        placement = self.placement

        def make() -> Any:
            program = build(self.table, objective, optimizer, key[0])
            return BoundProgram(program) if placement is None else placement.bind(program)

        if self._signature is None:
            self._signature = signature(self.table.architecture, self.table.dtype, objective, optimizer)
        if self._signature is None:
            return make()
        where = None if placement is None else (placement.device, placement.precision)
        return shared((where, self._signature, key), make)

    def step_count(self) -> int:
        """Return the number of training steps taken since the model was made."""
        return int(self.training[Counter.STEP])

    def optimizer_step(self) -> int:
        """Return the number of steps since the optimizer's state began: bias corrections and schedules count them."""
        return self.step_count() - self.first_step

    def run(self, bound: Any, work: Pass, steps: int, cursor: int | None = None) -> int:
        """Run a program and return the number of finished steps.

        Parameters
        ----------
        bound : BoundProgram or CudaProgram
            From `program`.
        cursor : int, optional
            The first row. Without it the program trains, and continues from the training counters.

        Raises
        ------
        InputNotFiniteError
            When the program checks its input and a row holds NaN or infinity.
        RuntimeError
            When it is called in the middle of another run, and trains or is on a GPU.
        """
        with self.lock:
            if self._running:
                # the lock is this thread's: a signal handler or a finalizer has interrupted its own run
                return self._run_apart(bound, work, steps, cursor)
            try:
                self._running = get_ident()
                if cursor is None:
                    context = self.training
                else:
                    context = self._other
                    context[_CURSOR] = cursor
                    context[_STEP] = self.training[_STEP]
                if self.placement is not None:
                    self._check(bound, work)
                    done = self.placement.run(bound, work, steps, context, self._flat)
                else:
                    kept = self._fill(context, bound, work)
                    runner = self._runners.get(cursor is None)
                    if runner is None:
                        with waiting():
                            runner = self._runners[cursor is None] = Runner(context)
                    done = runner.run(bound, steps, get_num_threads())
                    del kept
                if done != steps:
                    fail_where_not_finite(context, self.table.dtype)
                return done
            finally:
                self._running = 0

    def _run_apart(self, bound: BoundProgram, work: Pass, steps: int, cursor: int | None) -> int:
        """Run a program in the middle of another run of the same thread, on a separate context and memory."""
        if cursor is None or self.placement is not None:
            raise RuntimeError(
                "the model is in the middle of a run, which a signal handler or a finalizer has interrupted: "
                + ("nothing can be trained there" if cursor is None else "on a GPU nothing can be run there")
            )
        context = self.training.copy()
        context[_CURSOR] = cursor
        kept = self._fill(context, bound, work, aligned_zeros(bound.program.arena_bytes))
        done = Runner(context).run(bound, steps, get_num_threads())
        del kept
        if done != steps:
            fail_where_not_finite(context, self.table.dtype)
        return done

    def fail_within(self, what: str) -> None:
        """Raise if the calling thread is in the middle of a run, or of a call that a change would break."""
        me = get_ident()
        if self._running == me or me in self.inside:
            raise RuntimeError(
                f"{what}: the model is in use by a call of this thread, which a signal handler, a finalizer or the "
                "data have interrupted; there the model can be read (predict, evaluate, gradients, get_weights, save), "
                "but not changed"
            )

    def prepared(
        self, bound: Any, work: Pass, feed: Feed, data: Sequence[tuple[int, NDArray[Any]]],
        results: Sequence[NDArray[Any]] = (), *, trains: bool = False,
    ) -> Callable[[], int | None]:  # fmt: skip
        """Prepare one step on the GPU: see `fastnn.runtime.device_graph`.

        Returns
        -------
        function
            Runs the step on the first rows, as `run` does; returns None if it has to be captured again.
        """
        from fastnn.runtime.device_graph import Prepared

        assert self.placement is not None
        with self.lock:
            self._check(bound, work)
            made = Prepared(self.placement, bound, work, self._flat, feed, data, results)
        # not the runtime itself: its cache must not keep it alive
        flat, training, dtype = self._flat, self.training, self.table.dtype
        context = training if trains else self._other

        def run() -> int | None:
            context[_CURSOR] = 0
            context[_STEP] = training[_STEP]
            done = made.run(context, flat)
            if done == 0:
                fail_where_not_finite(context, dtype)
            return done

        return run

    def run_epochs(self, parts: Sequence[tuple[BoundProgram, int]], work: Pass, laps: Sequence[Lap]) -> int:
        """Train whole epochs on the calling thread, and return the number of finished steps.

        Parameters
        ----------
        parts : sequence of (BoundProgram, int)
            Programs, and the number of steps of an epoch that each one runs.
        """
        programs = [bound for bound, _ in parts]
        with self.lock:
            if self._running:
                raise RuntimeError("the model is in the middle of a run: nothing can be trained there")
            try:
                self._running = get_ident()
                # programs that call Python have separate memory
                largest = max(programs, key=lambda bound: (bound.program.arena_bytes, bound.calls_python))
                kept = self._fill(self.training, largest, work)
                if self._epochs is None:
                    with waiting():
                        self._epochs = Epochs(self.training)
                done = self._epochs.run(parts, laps)
                del kept
                if done != len(laps) * sum(steps for _, steps in parts):
                    Runner(self.training).check(*programs)
                return done
            finally:
                self._running = 0

    def context_of(self, bound: BoundProgram, work: Pass) -> tuple[NDArray[np.int64], Any]:
        """Make a context for one program, and return it with the arrays that it points to."""
        context = new_context(0)
        with self.lock:
            return context, self._fill(context, bound, work)

    def _arena_of(self, bound: BoundProgram) -> NDArray[np.uint8]:
        """Return the memory of a program's values: shared by runs, unless the program may call Python."""
        nbytes = bound.program.arena_bytes
        if bound.calls_python:
            return aligned_zeros(nbytes)
        arena = self._arena
        if arena.nbytes < nbytes:
            arena = self._arena = aligned_zeros(nbytes)
            self.forget_quick()
        return arena

    def _fill(
        self, context: NDArray[np.int64], bound: BoundProgram, work: Pass, arena: NDArray[np.uint8] | None = None
    ) -> Any:
        """Write a run's addresses into a context; returns the objects to hold until the run ends."""
        if arena is None:
            arena = self._arena_of(bound)
        self._check(bound, work)
        words = memoryview(context.data)  # writing a word takes half as long as in an array
        parameters, gradients, state = self._flat
        parameters = parameters if work.parameters is None else work.parameters
        gradients = gradients if work.gradients is None else work.gradients
        words[_PARAMETERS] = address(parameters)
        words[_GRADIENTS] = address(gradients)
        words[_OPTIMIZER] = address(state)
        words[_ARENA] = address(arena)
        words[_ACCUMULATORS] = _address(work.accumulators)
        words[_HYPER] = _address(work.hyper)
        words[_INDEX] = _address(work.index)
        for slot, place in work.addresses.items():
            words[_DATA + slot] = place
        words[_CHUNK_STEP] = words[_STATUS] = words[_BAD_LOSS_STEP] = 0
        return parameters, gradients, state, arena, work

    def _check(self, bound: Any, work: Pass) -> None:
        """Make sure that the buffers that a program writes to exist, and are large enough."""
        wanted = bound.program.name in ("train", "gradients") and work.gradients is None
        if wanted and self._flat[_GRADIENTS].nbytes < self.table.nbytes:
            self.gradients = self.table.allocate()
        _check_sizes(bound, work, self._flat[_OPTIMIZER].nbytes)


def fail_where_not_finite(context: NDArray[np.int64], dtype: str) -> None:
    """Raise InputNotFiniteError if a program has stopped because of its input."""
    if context[Counter.STATUS] == Status.NOT_FINITE_INPUT:
        row, step = int(context[Counter.STATUS_DETAIL]), int(context[Counter.STEP])
        raise InputNotFiniteError(row, step + 1, dtype)


def _address(array: NDArray[Any] | None) -> int:
    return 0 if array is None else address(array)


def _check_sizes(bound: BoundProgram, work: Pass, state_bytes: int) -> None:
    """Raise if `compile`, called while the program was prepared, has replaced the buffers that it writes to."""
    program = bound.program
    totals = 0 if work.accumulators is None else work.accumulators.nbytes
    measures, trains = program.name != "predict", program.name == "train"
    if (measures and program.sizes[Buffer.ACCUMULATORS] > totals) or (
        trains and program.sizes[Buffer.OPTIMIZER] > state_bytes
    ):
        raise RuntimeError("the model was compiled again while it was in use: by another thread, or by the data")


def _forgotten(reference: weakref.ref[Runtime]) -> None:
    _runtimes.pop(reference, None)


#: for a child process: locks that other threads held when it was forked would never be released
_runtimes: dict[weakref.ref[Runtime], None] = {}


def _renew_locks() -> None:
    for runtime in _living():
        runtime.renew()


def _forget_quick(threads: int) -> None:
    """Drop calls that were prepared for another number of threads."""
    for runtime in _living():
        runtime.forget_quick()


def _living() -> list[Runtime]:
    """Return the existing runtimes, while other threads may make new ones."""
    # a set of weak references cannot be iterated meanwhile; the dictionary's keys are copied in one operation
    return [runtime for reference in list(_runtimes) if (runtime := reference()) is not None]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
watch(_forget_quick)


def new_context(seed: int) -> NDArray[np.int64]:
    """Make a context: no buffers yet, counters at zero."""
    context = np.zeros(CONTEXT_WORDS, np.int64)
    context[Counter.SEED] = np.uint64(seed).astype(np.int64)
    return context
