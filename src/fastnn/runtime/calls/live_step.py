"""Small training steps on the CPU: one code for any number of rows, called on the model's own buffers.

The general path takes a model's first steps, and all steps while another process compiles functions of the code. Then
`train_on_batch` is a call of the code of a learner (`runtime/programs/codes.py`), which checks shapes and values before
it changes anything. The training's context has the counters. The progress, from which the code computes hyper rows,
follows them: if it is not at the context's step, the call does nothing, and Python works it out. What the code does not
take or accept is left to the general path, which says what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.addresses import address
from fastnn.backend.cpu.calls.code_call import TAKE_ARRAYS, Signature, buffers_table, code_call
from fastnn.backend.cpu.calls.team_call import TeamCall, shared_words
from fastnn.backend.cpu.executor.raised import raised
from fastnn.backend.cpu.frozen.bound_code import BoundCode, StillCompiling, compiling
from fastnn.backend.cpu.frozen.learner import Numbers, progress_of
from fastnn.backend.cpu.layouts.call import Held, Live, Outcome, Part
from fastnn.backend.cpu.layouts.code import CodeWord, Progress
from fastnn.interrupts import interrupts_later
from fastnn.layers.base import Assignments
from fastnn.losses.base import takes_any_target
from fastnn.objective.objective import Objective
from fastnn.program.layout import Counter, Status
from fastnn.program.record import ITEM_SIZES
from fastnn.runtime.calls.kept_call import grown, owners_words
from fastnn.runtime.calls.step_state import StepState
from fastnn.runtime.one_row import learns_variance
from fastnn.runtime.programs import codes
from fastnn.runtime.runtime import Runtime
from fastnn.threads import get_num_threads

if TYPE_CHECKING:
    from fastnn.data.feed import Feed

#: Steps on more data are left to the general path, which costs little in comparison.
MOST_BYTES = 1 << 18
#: The general path takes this many steps first, because making a code takes longer than a step.
FIRST_STEPS = 2
#: the number of rows that a workspace is made for at least
_LEAST_ROWS = 64
# kinds of targets and sets of layers that are trained; one is usual
_KEPT = 4

_DONE, _RAISED, _SHAPE, _BEHIND = (
    int(Outcome.DONE), int(Outcome.RAISED), int(Outcome.SHAPE), int(Outcome.BEHIND),
)  # fmt: skip
_RATE, _STEP = int(Progress.RATE), int(Progress.STEP)
# no context is at this step
_UNKNOWN = -1
_FLOAT64 = np.dtype(np.float64)


class LiveStep:
    """Training steps of a model as it is compiled, on targets of one kind and with the same layers trained.

    It keeps the model's buffers, but not its runtime, which keeps it.

    Parameters
    ----------
    runtime : Runtime
        Its lock is held by all calls.
    bound : BoundCode
        Of `codes.step`.
    labels : sequence of bool
        For each output whether its targets are labels.
    """

    def __init__(self, runtime: Runtime, bound: BoundCode, labels: Sequence[bool]) -> None:
        table, (objective, optimizer) = runtime.table, runtime.compiled()
        self._bound, self._optimizer, self._dtype = bound, optimizer, table.dtype
        self._trainable, self._looked_at = table.trainable_layers(), -1
        self._ends = len(table.architecture.inputs), len(objective.losses)
        # one label a sample, or an axis of length 1 after them
        self._takes_labels = self._ends == (1, 1) and labels[0]
        self._reports_loss_only = len(objective.log_names) == 1
        self._one_row_warns = bool(learns_variance(table))
        # targets that may come to be in their range by being rounded to the model's dtype
        self._exact = [
            self._ends[0] + output
            for output, loss in enumerate(objective.losses)
            if table.dtype != "float64" and loss is not None and not takes_any_target(loss) and not labels[output]
        ]
        # targets of functions of symbols may have any shape and dtype: those of the output's shape are tried here
        self._symbols = [self._ends[0] + output for output in range(self._ends[1]) if objective.functions(output)]
        self._real = np.dtype(table.dtype)
        self._context = runtime.training
        self._progress = np.zeros(Progress.RATES_AT, np.int64)
        self._progress[Progress.CONSTANT], self._progress[_STEP] = 1, _UNKNOWN
        self._rates = memoryview(self._progress.data).cast("B").cast("d")
        self._rate: Any = None
        loss, initial = np.zeros(1), objective.initial()
        losses = int(bound.code[CodeWord.LOSS_TOTALS])
        totals = np.zeros(objective.size + losses + 1)
        self._loss, self._totals = memoryview(loss.data).cast("B").cast("d"), totals[: objective.size]
        parameters, gradients, state = runtime.parameters, runtime.gradients, runtime.optimizer_state
        words, owners = owners_words(runtime)
        self._kept = loss, initial, totals, parameters, gradients, state, owners
        itemsize = ITEM_SIZES[table.dtype]
        self._held: dict[int, int] = {
            Held.PARAMETERS: address(parameters),
            Held.PARAMETERS_COUNT: parameters.nbytes // itemsize,
            Held.GRADIENTS: address(gradients),
            Held.OPTIMIZER: address(state),
            Held.STATE_COUNT: (table.nbytes + state.nbytes) // itemsize,
            Held.PROGRESS: address(self._progress),
            Held.PROGRESS_COUNT: self._progress.size,
            Held.TOTALS: address(totals),
            Held.TOTALS_COUNT: totals.size,
            Held.LOSS: address(loss),
            Live.CONTEXT: address(self._context),
            Live.INITIAL: address(initial),
            **words,
        }
        self._call: Any = None
        self._work = np.zeros(0, np.int64)
        self._most_rows = 0
        limit = MOST_BYTES // int(bound.code[CodeWord.ROW_BYTES])
        # batches of more rows are left to the general path, as are those for which each thread packs blocks of matrices
        self._limit = bound.unpacked_rows(limit) if get_num_threads() > 1 else limit
        self._lock = runtime.lock

    def cover(self, n: int) -> None:
        """Take batches of n rows from now on, unless they are large."""
        if self._most_rows < n <= self._limit:
            try:
                with interrupts_later():
                    self._prepare(grown(n, _LEAST_ROWS, self._limit))
            except MemoryError:
                self._limit = self._most_rows  # the step itself has found enough

    def _prepare(self, rows: int) -> None:
        """Make the call for batches of at most this many rows."""
        inputs, outputs = self._ends
        work, held = self._bound.workspace(rows), self._held
        sharing = self._bound.sharing(rows) if get_num_threads() > 1 else None
        if sharing is not None:
            held = held | shared_words(sharing.table)
        buffers = buffers_table(held)
        call = code_call(
            self._bound.code, buffers,
            Signature(inputs + 2 * outputs, inputs + outputs, rows, self._bound.short_rows),
            take=TAKE_ARRAYS, kept=(self._kept, sharing), work=work, parts=Part.GRADIENTS | Part.UPDATE | Part.LIVE,
        )  # fmt: skip
        if call is not None and sharing is not None and sharing.alone < rows:
            call = TeamCall(call, buffers, self._lock, sharing.alone + 1, sharing.nanoseconds)
        self._call, self._work, self._most_rows = call, work, rows

    def take(self, state: StepState, x: Any, y: Any, sample_weight: Any) -> dict[str, Any] | None:
        """Take a step and return its logs; None if it is left to the general path."""
        runtime = state.runtime
        if self._call is None or (Assignments.latest != self._looked_at and not self._trains_the_same(runtime)):
            return None
        arguments = self._arguments(x, y, sample_weight)
        if arguments is None:
            return None
        rate = self._optimizer.learning_rate
        if rate is not self._rate:
            self._rates[_RATE] = self._optimizer.rate_of_step(runtime.optimizer_step(), self._dtype)
            self._rate = rate if type(rate) is float else None
        outcome = self._call(*arguments)
        if outcome == _BEHIND:
            self._catch_up(runtime)
            outcome = self._call(*arguments)
        if outcome == _SHAPE and self._takes_labels and y.shape[-1:] == (1,):
            outcome = self._call(x, y[..., 0], sample_weight)
        if outcome != _DONE:
            if outcome == _RAISED:
                state.totals, state.earlier_rows = self._totals, 0
                raise self._raised(len(arguments[0]))
            return None
        state.totals, state.earlier_rows = self._totals, len(arguments[0])
        return {"loss": self._loss[0]} if self._reports_loss_only else state.logs_so_far()

    def _trains_the_same(self, runtime: Runtime) -> bool:
        """Return whether the model still trains the layers that the code trains."""
        latest = Assignments.latest
        if runtime.table.trainable_layers() != self._trainable:
            return False
        self._looked_at = latest
        return True

    def _arguments(self, x: Any, y: Any, sample_weight: Any) -> tuple[Any, ...] | None:
        """Return the arrays of the code's slots; None if they are surely none that it takes."""
        inputs, outputs = self._ends
        if inputs == outputs == 1:
            found = (x, y, sample_weight)
        elif outputs == 0:
            found = x if type(x) is tuple else (x,)
        else:
            xs, ys = _several(x, inputs), _several(y, outputs)
            if len(xs) != inputs or len(ys) != outputs or (outputs > 1 and sample_weight is not None):
                return None
            found = (*xs, *ys, *[sample_weight] * outputs)
        if self._exact and any(getattr(found[place], "dtype", None) == _FLOAT64 for place in self._exact):
            return None
        if self._symbols and any(getattr(found[place], "dtype", None) != self._real for place in self._symbols):
            return None
        if self._one_row_warns and len(getattr(found[0], "shape", ())) > 0 and len(found[0]) == 1:
            return None
        return found

    def _catch_up(self, runtime: Runtime) -> None:
        """Bring the progress to the context's step, after steps that were taken elsewhere."""
        optimizer, done = self._optimizer, runtime.optimizer_step()
        numbers = Numbers(
            runtime.step_count(), done, 0, optimizer.unit_row(done), self._rates[_RATE], optimizer.progress(done)
        )
        self._progress[...] = progress_of(numbers)

    def _raised(self, rows: int) -> RuntimeError:
        """Return the error for a kernel that has raised, and forget that it has."""
        context = self._context
        self._progress[_STEP] = _UNKNOWN  # the code may have computed a hyper row
        if context[Counter.STATUS] != Status.KERNEL_RAISED:
            return raised("", 0)
        context[Counter.STATUS] = Status.RUNNING
        name = self._bound.function_at(int(context[Counter.STATUS_DETAIL]), rows, self._work)
        return raised(name, int(context[Counter.ERROR]))


def _several(given: Any, count: int) -> tuple[Any, ...]:
    """Return the arrays of an argument for several inputs or outputs."""
    if count == 1:
        return (given,)
    return tuple(given) if type(given) in (list, tuple) else ()


def learn(state: StepState, feed: Feed) -> None:
    """Take steps on data like these, on which the general path has just taken one, by calls of a code."""
    runtime = state.runtime
    runtime.general_steps += 1
    kinds = tuple([None if target is None else target.labels for target in feed.targets])
    key, kept = (kinds, tuple(runtime.table.trainable_layers())), runtime.live_steps
    if key not in kept:
        if runtime.general_steps < FIRST_STEPS or compiling():
            return
        try:
            with interrupts_later():
                made = _make(runtime, kinds)
        except StillCompiling:
            return
        while len(kept) >= _KEPT:
            kept.pop(next(iter(kept)))
        kept[key] = made
    step = kept[key]
    if step is not None:
        step.cover(feed.n)
        runtime.quick_step = step


def _make(runtime: Runtime, kinds: tuple[bool | None, ...]) -> LiveStep | None:
    """Make the steps on targets that are labels or not; None if they are left to the general path."""
    table, (objective, optimizer) = runtime.table, runtime.compiled()
    labels = [kind for kind in kinds if kind is not None]
    if not _checked_by_code(objective, kinds):
        return None

    def make() -> BoundCode:
        return BoundCode(codes.step(table, objective, optimizer, labels, as_one=False))

    try:
        bound = runtime.shared(("step", tuple(labels), tuple(table.trainable_layers())), make)
    except (NotImplementedError, ValueError):
        return None  # there is no code for any number of rows
    return None if bound.calls_python else LiveStep(runtime, bound, labels)


def _checked_by_code(objective: Objective, kinds: tuple[bool | None, ...]) -> bool:
    """Return whether the code makes all checks of targets that losses and metrics make."""
    parts = [*objective.losses, *(reading.metric for reading in objective.readings)]
    if None in (*objective.losses, *kinds) or not all(type(part).__module__.startswith("fastnn.") for part in parts):
        return False
    # labels are looked up by all alike; of other targets, metrics may ask more than that they are finite
    return all(kinds[one.output] or one.accumulator == "regression_sums" for one in objective.measures)
