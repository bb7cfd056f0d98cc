"""The state of a model's training: runtime, arguments of `compile`, accumulators, callbacks, and the position."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastnn import casts
from fastnn.callbacks import CallbackList
from fastnn.layers.architecture import Architecture
from fastnn.layers.symbols import Part
from fastnn.objective.objective import Objective
from fastnn.optimizers import Optimizer
from fastnn.program.layout import Counter
from fastnn.runtime.building import make_runtime
from fastnn.runtime.device.opening import placement_on
from fastnn.runtime.programs.requests import output_ends
from fastnn.runtime.runtime import Runtime
from fastnn.training.history import History

if TYPE_CHECKING:
    from fastnn.runtime.device.placement import Placement

# Plain integer: an enumeration's member costs 0.15 µs as an index.
_CURSOR = int(Counter.CURSOR)


@dataclass(frozen=True)
class Compiled:
    """The arguments of `compile`, which wait until the model is built."""

    optimizer: Optimizer
    loss: Any
    loss_weights: Any
    metrics: Any
    weighted_metrics: Any


class TrainingState:
    """All that training, saving and export know of a model; it does not refer to the model.

    Parameters
    ----------
    seed : int
        64 bits.
    dtype : {"float32", "float64"}
    device : str

    Attributes
    ----------
    runtime : Runtime
        Once the model is built.
    compiled : Compiled or None
        From `compile`.
    totals : ndarray
        The accumulators of the running epoch.
    earlier_rows : int
        Rows in `totals`, without those that the training's cursor counts.
    run : dict
        The run of `fit` that may be resumed: the epoch counter at its epoch 0 ("start"), its data ("data"), and an
        epoch that is trained but not yet recorded ("trained"); empty if there was no run.
    callbacks : CallbackList or None
        Those of the running `fit`.
    resumable : dict or None
        The callbacks' states and arrays from the last `fit`, or from a file.
    fitting : bool
        Whether `fit` is training the model.
    stop_training : bool
        Whether a callback has asked `fit` to end.
    bad_loss : bool
        Whether the latest loss of `train_on_batch` was not finite.
    preparation : object or None
        How rows of tables become inputs, of a registered class; files hold it.
    """

    runtime: Runtime

    def __init__(self, seed: int, dtype: str, device: str = "cpu") -> None:
        self.seed, self.dtype = seed, dtype
        self.device, self.precision = "cpu", "float32"
        self.built = False
        self.compiled: Compiled | None = None
        self.totals: NDArray[np.float64] = np.zeros(0)
        self.earlier_rows = 0
        self.run: dict[str, Any] = {}
        self.callbacks: CallbackList | None = None
        self.resumable: dict[str, Any] | None = None
        self.history: History | None = None
        self.preparation: Any = None
        self.fitting = self.stop_training = self.bad_loss = False
        self.move(device)

    # --- building and compiling ---------------------------------------------------------------------------

    def build(self, architecture: Architecture, *, initialize: bool = True) -> None:
        """Make the runtime of an architecture, on the model's device; see `make_runtime`."""
        if self.built:
            self.runtime.fail_within("build")
        self.runtime = make_runtime(architecture, self.dtype, self.seed, initialize=initialize)
        self.built = True
        placement = placement_on(self.device, self.precision, self.dtype)
        self.runtime.move(placement)
        if placement is not None:
            for state in self.made_of():
                if state.device != placement.name:
                    state.move(self.device, self.precision)
        if self.compiled is not None:
            self._bind(self.compiled)

    def compile(self, compiled: Compiled) -> None:
        """Take the arguments of `compile`; if they do not fit the model, the earlier ones stay."""
        if self.built:
            self._bind(compiled)
        self.compiled = compiled

    def _bind(self, compiled: Compiled) -> None:
        """Bind the arguments of `compile` to the architecture."""
        runtime, optimizer = self.runtime, compiled.optimizer
        architecture = runtime.table.architecture
        objective = Objective.bind(
            compiled.loss, compiled.loss_weights, compiled.metrics, compiled.weighted_metrics,
            architecture.output_names, architecture.output_shapes, output_ends(runtime.table),
            architecture.extra_names,
        )  # fmt: skip
        casts.check_hyperparameters(optimizer, self.dtype, "optimizer")
        optimizer.check_constants(self.dtype)
        optimizer.multipliers_of([entry.name for entry in runtime.table])  # raises for unknown names
        for name, loss, weight in zip(architecture.output_names, objective.losses, objective.loss_weights, strict=True):
            casts.check_hyperparameters(loss, self.dtype, "loss")
            casts.check_number(weight, self.dtype, f"loss_weights: of output {name!r}")
        totals = objective.initial()
        with runtime.lock:
            runtime.attach(objective, optimizer)
            self.totals = totals
            runtime.training[_CURSOR] = 0
            self.run, self.resumable = {}, None

    def require_built(self) -> Runtime:
        """Return the runtime.

        Raises
        ------
        RuntimeError
            When the model is not built.
        """
        if not self.built:
            raise RuntimeError(
                "the model is not built: start it with fastnn.Input, call build(input_shape), or fit it first"
            )
        return self.runtime

    def require_compiled(self) -> Objective:
        """Return the objective.

        Raises
        ------
        RuntimeError
            When the model is not built or not compiled.
        """
        return self.require_built().compiled()[0]

    def fail_in_training(self, what: str) -> None:
        """Raise RuntimeError if `fit` is training the model, or a run of this thread that is interrupted uses it."""
        if self.fitting:
            raise RuntimeError(f"{what}: the model is being trained by fit (in another thread, or from a callback)")
        if self.built:
            self.runtime.fail_within(what)

    # --- devices ------------------------------------------------------------------------------------------

    def move(self, device: str, precision: str = "float32") -> None:
        """Move the model to a device, and the models that it is made of; see `Model.to`."""
        inner = self.made_of()
        for state in (self, *inner):
            state.fail_in_training("to")
        self.place(placement_on(device, precision, self.dtype), precision)
        for state in inner:
            if state.device != self.device:
                state.place(placement_on(device, precision, self.dtype), precision)

    def place(self, placement: Placement | None, precision: str) -> None:
        """Move the model's own buffers."""
        if self.built:
            here = self.runtime.placement
            if placement is not None and here is not None and placement.is_like(here):
                return
            self.runtime.move(placement)
        self.device, self.precision = "cpu" if placement is None else placement.name, precision

    def made_of(self) -> list[TrainingState]:
        """Return the states of the models that this one is made of, each after those that are made of it."""
        parts = self.runtime.table.architecture.parts if self.built else ()
        states = {id(part.state): part.state for part in parts if part is not None}
        for state in list(states.values()):
            for inner in state.made_of():
                states.pop(id(inner), None)
                states[id(inner)] = inner
        return list(states.values())

    @contextmanager
    def on(self, device: str | None) -> Iterator[None]:
        """Move the model to a device for one call; None leaves it where it is."""
        if device is None or device == self.device:
            yield
            return
        before = [(state, state.device, state.precision) for state in (self, *self.made_of())]
        self.move(device)
        try:
            yield
        finally:
            # a model takes those that it is made of with it, and they come after it
            for state, *place in before:
                state.move(*place)

    # --- the running epoch --------------------------------------------------------------------------------

    @property
    def rows_done(self) -> int:
        """Rows that the running epoch has consumed."""
        return self.earlier_rows + int(self.runtime.training[_CURSOR])

    def start_totals(self) -> None:
        """Begin an epoch: empty accumulators."""
        self.totals = self.require_compiled().initial()
        self.earlier_rows = 0

    def logs_so_far(self) -> dict[str, float]:
        """Return loss and metrics of the running epoch."""
        return self.require_compiled().logs(self.totals, max(1, self.rows_done))

    # --- callbacks ----------------------------------------------------------------------------------------

    def callback_states(self) -> dict[str, Any] | None:
        """Return the states and arrays of the running callbacks, or else those of the last `fit`."""
        if self.callbacks is None:
            return self.resumable
        return {"callbacks": self.callbacks.get_state(), "tensors": self.callbacks.get_tensors()}


class Trainable:
    """A model, as training and saving know it: its state, and the hooks that build it."""

    _state: TrainingState
    #: whether outputs may be other than batches, or absent
    _any_outputs: ClassVar[bool] = False

    def _options(self) -> dict[str, Any] | None:
        """Return what files hold of the model besides layers, weights and training; None if there is nothing else."""
        return None

    def _take_options(self, options: Any) -> None:
        """Take the value of `_options` from a file, which may be anything; raises ValueError if it is not of them."""
        if options is not None:
            raise ValueError("a model has no options of functions")

    def _take_preparation(self, preparation: Any) -> None:
        """Take how rows of tables are prepared, from a file; raises ValueError if it does not fit."""
        raise ValueError("a function has no preparation")

    def _build_for(self, x: Any) -> None:
        """Infer missing shapes from data; a model of symbols has them."""

    def _take_architecture(self, state: TrainingState, name: str, architecture: Architecture) -> None:
        """Make an empty model one of an architecture, with zeros as weights."""
        raise NotImplementedError

    def _as_part(self) -> Part:
        """Return the model as a part of others: always the same object."""
        raise NotImplementedError


#: the class of a model
M = TypeVar("M", bound=Trainable)


def state_of(model: Trainable) -> TrainingState:
    """Return the state of a model's training."""
    return model._state


def part_of(model: Trainable) -> Part:
    """Return a built model as a part of others."""
    return model._as_part()


def allows_any_outputs(kind: type[Trainable]) -> bool:
    """Return whether models of a class may have outputs other than batches, or none."""
    return kind._any_outputs


def take_options(model: Trainable, options: Any) -> None:
    """Restore what `options_of` gave; raises ValueError for anything else."""
    model._take_options(options)


def take_preparation(model: Trainable, preparation: Any) -> None:
    """Give a model the preparation of a file; raises ValueError if it does not fit."""
    model._take_preparation(preparation)


def build_for(model: Trainable, x: Any) -> None:
    """Infer missing shapes of a model from data."""
    model._build_for(x)


def model_of(kind: type[M], state: TrainingState, name: str, architecture: Architecture) -> M:
    """Make a model of a class and an architecture, whose weights are zeros."""
    model = kind.__new__(kind)
    model._take_architecture(state, name, architecture)
    return model
