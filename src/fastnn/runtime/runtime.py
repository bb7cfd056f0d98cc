"""The runtime of a model: runs of its programs, on the CPU or a GPU."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import prod
from operator import itemgetter
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.addresses import address
from fastnn.backend.cpu.executor.engine import BoundProgram, Runner
from fastnn.backend.cpu.executor.epoch import Epochs, Lap
from fastnn.backend.protocol import Executable
from fastnn.console import waiting
from fastnn.locks import cached_property
from fastnn.program.layout import Buffer, Counter
from fastnn.program.program import aligned_zeros
from fastnn.program.record import ITEM_SIZES
from fastnn.runtime.bindings import (
    Bindings,
    check_sizes,
    fail_where_not_finite,
    new_context,
    write_addresses,
    write_shared,
)
from fastnn.runtime.living import keep_usable
from fastnn.runtime.model_programs import ModelPrograms
from fastnn.runtime.parameters import ParameterTable
from fastnn.runtime.programs.independence import traits
from fastnn.runtime.programs.requests import MOVING
from fastnn.runtime.states import States
from fastnn.threads import get_num_threads

if TYPE_CHECKING:
    from fastnn.data.feed import Feed
    from fastnn.runtime.device.placement import Placement

# Plain integers: an enumeration's member costs 0.15 µs as an index.
# Rows of products of one sample from which on a sample is as good as a batch; the cache that values should stay in; and
# the fewest samples at a time.
_MANY_ROWS, _CACHE_BYTES, _FEWEST_SAMPLES = 64, 1 << 20, 2
_GRADIENTS, _OPTIMIZER = int(Buffer.GRADIENTS), int(Buffer.OPTIMIZER)
_ARENA, _DATA = int(Buffer.ARENA), int(Buffer.DATA)
_CURSOR, _STEP, _CHUNK_STEP, _STATUS = (
    int(Counter.CURSOR), int(Counter.STEP), int(Counter.CHUNK_STEP), int(Counter.STATUS),
)  # fmt: skip


class FixedRun(NamedTuple):
    """Runs of a program whose addresses stay as they are, but for those of data.

    Attributes
    ----------
    bound : BoundProgram
    words : memoryview
        The context of these runs alone.
    runner : Runner
    kept : object
        What the context points to.
    """

    bound: Any
    words: memoryview
    runner: Runner
    kept: Any


def _first_draw(bound: Any, cursor: int) -> int:
    """Return what is added to the step, so that rows from another place on have other random numbers."""
    return cursor << 24 if cursor and bound.program.draws else 0


class Runtime(ModelPrograms):
    """Buffers and programs of one model, and the contexts that run them.

    Parameters
    ----------
    table : ParameterTable
    seed : int
        64 bits; keys the random numbers of dropout and noise, and the order of rows.
    owners : sequence of Runtime
        Of the models that hold weights of this one.
    """

    def __init__(self, table: ParameterTable, seed: int, owners: Sequence[Runtime] = ()) -> None:
        super().__init__(table, seed, owners)
        # not the runtime itself: it would be in a circle, and only the garbage collector would free its memory
        self._holders = tuple(owners)
        # the runtimes of models that have weights from this one, itself among them; each operation on it is atomic
        self.users: weakref.WeakValueDictionary[int, Runtime] = weakref.WeakValueDictionary()
        #: whether the model shares weights with others
        self.shares = False
        for holder in (self, *owners):
            holder.users[id(self)] = self
            holder.shares = bool(owners) or holder.shares
        self._arena = aligned_zeros(0)
        self._other = new_context(seed)
        self._runners: dict[bool, Runner] = {}
        self._epochs: Epochs | None = None
        #: what stateful layers pass on from batch to batch; false if the model has none
        self.states = States(table.architecture, table.dtype)
        #: threads in a call that reads for longer than one run, such as `evaluate`, or in `train_on_batch`
        self.inside: dict[int, bool] = {}
        # the thread that prepares or does a run in the memory that runs share, under the lock; 0: none
        self.running = 0
        keep_usable(self)

    @property
    def suited_rows(self) -> int:
        """How many samples are best predicted at a time; 0 if that does not matter, or rows depend on each other.

        Several threads share records of many samples; with few they gain nothing.
        """
        return self._suited_rows if get_num_threads() == 1 else 0

    @cached_property
    def _suited_rows(self) -> int:
        """`suited_rows` on one thread.

        A sample of an image is many rows for each product. Where the values of a few samples fill the second-level
        cache, no more are computed together: MobileNetV1 of 96 x 96 pixels, alpha 0.25, takes 7.8 ms for 32 images, and
        16.9 with all of them at a time.
        """
        shapes = [call.shape for call in self.table.architecture.example.calls if call.batched and call.weight is None]
        rows, numbers = max(((prod(shape[:-1]), prod(shape)) for shape in shapes), key=itemgetter(1), default=(1, 1))
        if self.table.architecture.is_open or rows < _MANY_ROWS or not traits(self.table, training=False).by_row:
            return 0
        # what a layer reads and what it writes
        return max(_FEWEST_SAMPLES, _CACHE_BYTES // (2 * numbers * ITEM_SIZES[self.table.dtype]))

    def renew(self) -> None:
        """Make the runtime usable in the child process of a fork, which has no other threads."""
        me = get_ident()
        self.make_locks()
        self.running = me if self.running == me else 0
        self.inside = {me: True} if me in self.inside else {}
        self.forget_quick()

    def move(self, placement: Placement | None) -> None:
        """Move to a GPU, or back to the CPU; models that have weights from this one drop their prepared calls."""
        with self.lock:
            self.states.fetch()
            self.place(placement)
            self.forget()
            for reference in self.users.valuerefs():
                user = reference()
                if user is not None:
                    user.forget_quick()

    def run(self, bound: Any, work: Bindings, steps: int, cursor: int | None = None, before: int = 0) -> int:
        """Run a program and return the number of finished steps.

        Parameters
        ----------
        bound : BoundProgram or CudaProgram
            From `program`.
        cursor : int, optional
            The first row. Without it the program trains, and continues from the training counters.
        before : int
            How many rows of the same pass other data have had, which decides the random numbers.

        Raises
        ------
        InputNotFiniteError
            When the program checks its input and a row holds NaN or infinity.
        RuntimeError
            When it is called in the middle of another run, and trains or is on a GPU.
        """
        with self.lock:
            if self.running:
                # the lock is this thread's: a signal handler or a finalizer has interrupted its own run
                return self._run_apart(bound, work, steps, cursor, before)
            try:
                self.running = get_ident()
                work = self._with_states(bound, work)
                if cursor is None:
                    context = self.training
                else:
                    context = self._other
                    context[_CURSOR] = cursor
                    context[_STEP] = self.training[_STEP] + _first_draw(bound, before + cursor)
                if self.placement is not None:
                    self._check(bound, work)
                    done = self.placement.run(bound, work, steps, context, self._flat, self.held())
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
                # first: a signal handler may raise where a function begins
                self.running = 0
                self.note_written()

    def _with_states(self, bound: Executable, work: Bindings) -> Bindings:
        """Add the states of stateful layers to what a run uses; raises ValueError if they are of another batch size."""
        if not self.states:
            return work
        moves = bound.program.name in MOVING
        return replace(work, states=self.states.address(bound.program.batch, self.placement, keep=moves))

    def fixed(self, bound: Any, work: Bindings) -> FixedRun | None:
        """Prepare runs of a program that read no training data, from the first row; None where `run` is needed."""
        if not self.on_host or bound.calls_python or self.states:
            return None
        context = new_context(self.seed)
        kept = self._fill(context, bound, work)
        return FixedRun(bound, memoryview(context.data), Runner(context), (context, kept))

    def run_fixed(self, prepared: FixedRun, places: Iterable[tuple[int, int]] = ()) -> bool:
        """Run such a program once, on data slots at other addresses; returns False if it has to be done by `run`.

        It takes a fifth of the time of `run`.
        """
        with self.lock:
            if self.running or not self.on_host:
                return False
            bound, words, training = prepared.bound, prepared.words, self.training
            try:
                self.running = get_ident()
                words[_ARENA] = address(self._arena_of(bound))
                words[_STEP] = training[_STEP]
                words[_CURSOR] = words[_CHUNK_STEP] = words[_STATUS] = 0
                for slot, where in places:
                    words[_DATA + slot] = where
                prepared.runner.run(bound, 1, get_num_threads())
            finally:
                # first: a signal handler may raise where a function begins
                self.running = 0
        return True

    def _run_apart(
        self, bound: BoundProgram, work: Bindings, steps: int, cursor: int | None, before: int
    ) -> int:  # fmt: skip
        """Run a program in the middle of another run of the same thread, on a separate context and memory."""
        if cursor is None or self.placement is not None:
            raise RuntimeError(
                "the model is in the middle of a run, which a signal handler or a finalizer has interrupted: "
                + ("nothing can be trained there" if cursor is None else "on a GPU nothing can be run there")
            )
        if self.states:
            raise RuntimeError(
                "the model is in the middle of a run, which a signal handler or a finalizer has interrupted, and has "
                "stateful layers: nothing can be run there, because their states are those of the run"
            )
        context = self.training.copy()
        context[_CURSOR] = cursor
        context[_STEP] += _first_draw(bound, before + cursor)
        kept = self._fill(context, bound, work, aligned_zeros(bound.program.arena_bytes))
        done = Runner(context).run(bound, steps, get_num_threads())
        del kept
        if done != steps:
            fail_where_not_finite(context, self.table.dtype)
        return done

    def fail_within(self, what: str) -> None:
        """Raise if the calling thread is in the middle of a run, or of a call that a change would break.

        That is a run or a call of this model, or of one that shares weights with it.
        """
        me = get_ident()
        for holder in (self, *self._holders):
            for reference in holder.users.valuerefs():
                user = reference()
                if user is not None and (user.running == me or me in user.inside):
                    raise RuntimeError(
                        f"{what}: {'the model' if user is self else 'a model that shares weights with this one'} is in "
                        "use by a call of this thread, which a signal handler, a finalizer or the data have "
                        "interrupted; there the model can be read (predict, evaluate, gradients, get_weights, save), "
                        "but not changed"
                    )

    def prepared(
        self, bound: Any, work: Bindings, feed: Feed, data: Sequence[tuple[int, NDArray[Any]]],
        results: Sequence[NDArray[Any]] = (), *, trains: bool = False,
    ) -> Callable[[], int | None]:  # fmt: skip
        """Prepare one step on the GPU: see `fastnn.runtime.device.graph`.

        Returns
        -------
        function
            Runs the step on the first rows, as `run` does; returns None if it has to be captured again.
        """
        from fastnn.runtime.device.graph import CapturedStep

        assert self.placement is not None
        with self.lock:
            self._check(bound, work)
            made = CapturedStep(self.placement, bound, work, self._flat, feed, data, results)
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

    def run_epochs(self, parts: Sequence[tuple[BoundProgram, int]], work: Bindings, laps: Sequence[Lap]) -> int:
        """Train whole epochs on the calling thread, and return the number of finished steps.

        Parameters
        ----------
        parts : sequence of (BoundProgram, int)
            Programs, and the number of steps of an epoch that each one runs.
        """
        programs = [bound for bound, _ in parts]
        with self.lock:
            if self.running:
                raise RuntimeError("the model is in the middle of a run: nothing can be trained there")
            try:
                self.running = get_ident()
                work = self._with_states(programs[0], work)
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
                # first: a signal handler may raise where a function begins
                self.running = 0
                self.note_written()

    def _arena_of(self, bound: BoundProgram) -> NDArray[np.uint8]:
        """Return the memory of a program's values: shared by runs, unless the program may call Python."""
        nbytes = bound.program.arena_bytes
        if bound.calls_python:
            return aligned_zeros(nbytes)
        arena = self._arena
        if arena.nbytes < nbytes:
            arena = self._arena = aligned_zeros(nbytes)
        return arena

    def _fill(
        self, context: NDArray[np.int64], bound: BoundProgram, work: Bindings, arena: NDArray[np.uint8] | None = None
    ) -> Any:
        """Write a run's addresses into a context; returns the objects to hold until the run ends."""
        if arena is None:
            arena = self._arena_of(bound)
        self._check(bound, work)
        kept = write_addresses(context, work, self._flat, arena)
        if not self.owners:
            return kept
        held = [owner.parameters for owner in self.owners] if work.shared is None else work.shared
        write_shared(context, held)
        return kept, held

    def _check(self, bound: Executable, work: Bindings) -> None:
        """Make sure that the buffers that a program writes to exist, and are large enough."""
        wanted = bound.program.name in ("train", "gradients") and work.gradients is None
        if wanted and self._flat[_GRADIENTS].nbytes < self.table.nbytes:
            self.gradients = self.table.allocate()
        check_sizes(bound, work, self._flat[_OPTIMIZER].nbytes)
