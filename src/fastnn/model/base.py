"""The base class of models: architecture, buffers and weights, and their inspection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import casts
from fastnn.callbacks import CallbackList
from fastnn.console import say
from fastnn.constraints import MaxNorm
from fastnn.layers.architecture import Architecture
from fastnn.layers.base import Layer, positive_int
from fastnn.model import inspection
from fastnn.model.device import MovingMixin
from fastnn.objective.objective import Objective
from fastnn.optimizers import Optimizer
from fastnn.program.program import Program
from fastnn.runtime.parameters import Entry, ParameterTable, assign_trainable
from fastnn.runtime.reading import reads
from fastnn.runtime.runtime import Runtime
from fastnn.seeding import as_seed
from fastnn.training.history import History

# inputs, targets, weights and results share the data slots of a context
_MAX_ENDS = 20


# attributes that may be assigned: a misspelt name would otherwise be ignored silently
_ATTRIBUTES = ("history", "name", "stop_training", "trainable")


# stands for every layer, because None could be the name of a layer without a name
class _All:
    def __repr__(self) -> str:
        return "all"


ALL: Any = _All()
#: attributes that `_begin`, `_realize` and the models of the library set; all others are a subclass's
LIBRARY_ATTRIBUTES = frozenset(
    {
        *("dtype", "history", "name", "seed", "stop_training"),
        *("_architecture", "_bad_loss", "_callbacks", "_compiled", "_device", "_earlier_rows", "_fitting"),
        *("_objective", "_optimizer", "_precision", "_quick", "_resumable", "_run", "_runtime", "_stack"),
        *("_table", "_totals"),
    }
)


# Methods that Keras and PyTorch call and let users override.
_NEVER_CALLED = (
    "call", "forward", "train_step", "test_step", "predict_step", "compute_loss", "compute_metrics", "training_step",
    "make_train_function", "make_test_function", "make_predict_function",
)  # fmt: skip


class Network(MovingMixin):
    """An architecture with weights; `fastnn.Model` adds training and prediction."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse methods that other libraries call, but fastnn never would."""
        super().__init_subclass__(**options)
        for name in _NEVER_CALLED:
            if name in cls.__dict__:
                raise TypeError(
                    f"{cls.__name__}.{name} would never be called: a training step is compiled. Layers, losses and "
                    "optimizers may be user-defined (layers.Custom, losses.Custom, optimizers.Custom), and "
                    "Model.learner(gradients=True) gives gradients to a custom training loop"
                )

    def _begin(self, seed: int | np.random.Generator | None, dtype: str, device: str, name: str | None) -> None:
        self.seed = as_seed(seed)
        try:
            self.dtype = "None" if dtype is None else np.dtype(dtype).name
        except TypeError:
            self.dtype = repr(dtype)
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype: expected 'float32' or 'float64', got {dtype!r}")
        self._precision = "float32"
        placement = self._placement_on(device, self._precision)
        self._device = "cpu" if placement is None else placement.name
        self.name = name if name is not None else type(self).__name__.lower()
        self.stop_training = False
        self.history: History | None = None
        self._architecture: Architecture | None = None
        self._compiled: dict[str, Any] | None = None
        self._objective: Objective | None = None
        self._optimizer: Optimizer | None = None
        self._totals: NDArray[np.float64] = np.zeros(0)
        self._earlier_rows = 0
        self._run: dict[str, Any] = {}
        self._callbacks: CallbackList | None = None
        self._resumable: dict[str, Any] | None = None
        self._fitting = False
        #: whether the latest loss of `train_on_batch` was not finite
        self._bad_loss = False
        self._quick: dict[Any, Any] = {}

    def _realize(self, architecture: Architecture, *, initialize: bool = True) -> None:
        """Give the model its architecture, buffers and, unless they come from a file, initial weights."""
        if self.built:
            self._runtime.fail_within("build")
        if len(architecture.inputs) + len(architecture.outputs) > _MAX_ENDS:
            raise ValueError(f"a model has at most {_MAX_ENDS} inputs and outputs together")
        for layer, label in zip(architecture.layers, architecture.labels, strict=True):
            casts.check_hyperparameters(layer, self.dtype, label)
        table = ParameterTable(architecture, self.dtype)
        for entry in table:
            constraint = entry.spec.constraint
            if constraint is None:
                continue
            if not isinstance(constraint, MaxNorm):
                raise ValueError(f"{entry.name}: the constraint {constraint!r} has no kernel; there is MaxNorm")
            if not -len(entry.spec.shape) <= constraint.axis < len(entry.spec.shape):
                raise ValueError(f"{entry.name}: the constraint's axis {constraint.axis} is not in {entry.spec.shape}")
        runtime = Runtime(table, self.seed)
        if initialize:
            table.initialize(runtime.parameters, self.seed)
        self._architecture, self._table, self._runtime = architecture, table, runtime
        self._quick = runtime.quick
        runtime.move(self._placement_on(self._device, self._precision))
        if self._compiled is not None:
            self._bind()

    def _bind(self) -> None:
        """Bind the arguments of `compile` to the architecture; models that train define it."""

    def __setattr__(self, name: str, value: object) -> None:
        guarded = not name.startswith("_") and name not in _ATTRIBUTES
        if guarded and "_fitting" in self.__dict__ and type(self).__module__.startswith("fastnn."):
            raise AttributeError(
                f"{type(self).__name__}.{name} cannot be assigned; these can: {', '.join(_ATTRIBUTES)}, and "
                "optimizer.learning_rate"
            )
        object.__setattr__(self, name, value)

    # --- what it is ---------------------------------------------------------------------------------------

    @property
    def built(self) -> bool:
        """Whether shapes are known and weights exist."""
        return self._architecture is not None

    @property
    def layers(self) -> list[Layer]:
        """The layers in order of use, without inputs."""
        return [layer for layer in self._architecture_or_fail().layers if layer.arity != (0, 0)]

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, for dictionaries of arrays."""
        return self._architecture_or_fail().input_names

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, for dictionaries of targets, losses and metrics."""
        return self._architecture_or_fail().output_names

    @property
    def trainable(self) -> bool:
        """Whether any layer is trained.

        Assigning sets `trainable` of all layers, for this model: others that share a layer are not affected. Models
        that are made of the layers later start with the value assigned last.
        """
        table = self._table if self.built else None
        return any(layer.trainable if table is None else table.is_trainable(layer) for layer in self.layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        assign_trainable(self.layers, value, self._table if self.built else None)

    def get_layer(self, name: str) -> Layer:
        """Return the layer with a name."""
        architecture = self._architecture_or_fail()
        if name not in architecture.labels:
            raise ValueError(f"there is no layer {name!r}; the layers are {list(architecture.labels)}")
        return architecture.layers[architecture.labels.index(name)]

    def count_params(self) -> int:
        """Return the number of weights, moving averages included."""
        self._architecture_or_fail()
        return sum(entry.size for entry in self._table)

    def summary(self, batch_size: int = 32) -> None:
        """Print layers, shapes, parameters, and the memory that training takes; works before training.

        Parameters
        ----------
        batch_size : int
            Rows per batch, which decide the memory of activations.
        """
        say(inspection.summary(self, positive_int(batch_size, "batch_size")))

    @property
    def program(self) -> Program:
        """The program of a batch of 32 rows: training once compiled, else prediction; `print` shows it."""
        return inspection.program(self)

    def __repr__(self) -> str:
        state = f"{self.count_params()} parameters" if self.built else "not built"
        return f"<{type(self).__name__} {self.name!r}: {state}, {self.dtype}>"

    # --- weights ------------------------------------------------------------------------------------------

    @reads
    def get_weights(self, layer: str | Layer = ALL) -> list[NDArray[Any]]:
        """Return copies of the weights in Keras' order: kernel (n_in, n_out), bias (n_out,), layer by layer.

        Parameters
        ----------
        layer : str or Layer, optional
            Only this layer's weights.
        """
        entries = self._entries(layer)
        with self._runtime.lock:
            return [self._table.view(self._runtime.parameters, entry).copy() for entry in entries]

    def set_weights(self, weights: Sequence[ArrayLike], layer: str | Layer = ALL) -> None:
        """Set all weights, or one layer's, in the order of `get_weights`.

        Raises
        ------
        TypeError
            When the weights are not a list of arrays.
        ValueError
            When the number of arrays or a shape does not fit, elements are masked, or finite numbers are too large for
            the model's dtype. No weight is changed then.
        """
        self._architecture_or_fail()
        self._runtime.fail_within("set_weights")
        entries = self._entries(layer)
        if not isinstance(weights, Iterable):
            raise TypeError(f"weights: expected a list of arrays, got {type(weights).__name__}")
        arrays = [casts.plain(value, f"weights[{index}]") for index, value in enumerate(weights)]
        if len(arrays) != len(entries):
            raise ValueError(
                f"expected {len(entries)} arrays ({', '.join(entry.name for entry in entries)}), got {len(arrays)}"
            )
        for entry, array in zip(entries, arrays, strict=True):
            if array.shape != entry.spec.shape or array.dtype.kind not in "biuf":
                raise ValueError(
                    f"{entry.name}: expected numbers of shape {entry.spec.shape}, got {array.dtype} {array.shape}"
                )
            casts.check_fits(array, self.dtype, entry.name)
        with self._runtime.lock:
            for entry, array in zip(entries, arrays, strict=True):
                casts.store(self._table.view(self._runtime.parameters, entry), array, entry.name)

    def _entries(self, layer: str | Layer) -> list[Entry]:
        """Return the weights of one layer, or all."""
        layers = self._architecture_or_fail().layers
        if layer is ALL:
            return list(self._table)
        chosen = self.get_layer(layer) if isinstance(layer, str) else layer
        if not any(chosen is one for one in layers):
            labels = list(self._architecture_or_fail().labels)
            raise ValueError(f"layer: expected a layer of this model, or one of the names {labels}, got {layer!r}")
        return [entry for entry in self._table if layers[entry.layer] is chosen]

    def _architecture_or_fail(self) -> Architecture:
        if self._architecture is None:
            raise RuntimeError(
                "the model is not built: start it with fastnn.Input, call build(input_shape), or fit it first"
            )
        return self._architecture

    def _trained(self) -> tuple[bool, ...]:
        return self._table.trained()
