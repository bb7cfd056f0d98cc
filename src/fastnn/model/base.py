"""The base class of models: their state, layers and weights, and their inspection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import casts
from fastnn.checks import flag, number, size
from fastnn.console import say
from fastnn.layers.architecture import Architecture
from fastnn.layers.base import Layer
from fastnn.layers.symbols import Part
from fastnn.model import inspection, notebook
from fastnn.model.device import DeviceMixin
from fastnn.model.nesting import new_part
from fastnn.program.program import Program
from fastnn.runtime.blending import Blend
from fastnn.runtime.calls.kept_call import KeptCall
from fastnn.runtime.parameters import WeightEntry, assign_trainable
from fastnn.runtime.reading import reads
from fastnn.runtime.runtime import Runtime
from fastnn.seeding import as_seed
from fastnn.training.history import History
from fastnn.training.state import TrainingState, state_of

# attributes that may be assigned: a misspelt name would otherwise be ignored silently
_ATTRIBUTES = ("history", "name", "preparation", "stop_training", "trainable")


# stands for every layer, because None could be the name of a layer without a name
class _All:
    def __repr__(self) -> str:
        return "all"


ALL: Any = _All()
#: attributes that `_adopt` and the models of the library set; all others are a subclass's
LIBRARY_ATTRIBUTES = frozenset(
    {
        "dtype",
        "name",
        "seed",
        "_blends",
        "_ends",
        "_form",
        "_integers",
        "_part",
        "_prediction",
        "_stack",
        "_state",
        "_training",
        "_traits",
    }
)


# other models whose weights a model follows
_KEPT_BLENDS = 4

# Methods that Keras and PyTorch call and let users override.
_NEVER_CALLED = (
    "call", "forward", "train_step", "test_step", "predict_step", "compute_loss", "compute_metrics", "training_step",
    "make_train_function", "make_test_function", "make_predict_function",
)  # fmt: skip


class BaseModel(DeviceMixin):
    """An architecture with weights; `fastnn.Model` adds training and prediction."""

    #: the kind of model that a file names
    _kind: ClassVar[str] = "Model"

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse methods that other libraries call, but fastnn never would."""
        super().__init_subclass__(**options)
        for name in _NEVER_CALLED:
            if name in cls.__dict__:
                raise TypeError(
                    f"{cls.__name__}.{name} would never be called: a training step is compiled. Layers, losses and "
                    "metrics may be functions of symbols (fastnn.ops), also of inner ones (Model.add_loss); "
                    "fastnn.train_function takes training steps of one's own, and Model.learner(gradients=True) gives "
                    "gradients to compiled training loops"
                )

    def _begin(self, seed: int | np.random.Generator | None, dtype: str, device: str, name: str | None) -> None:
        """Check the arguments of a model, and make its state."""
        try:
            kind = "None" if dtype is None else np.dtype(dtype).name
        except TypeError:
            kind = repr(dtype)
        if kind not in ("float32", "float64"):
            raise ValueError(f"dtype: expected 'float32' or 'float64', got {dtype!r}")
        state = TrainingState(as_seed(seed), kind, device)
        self._adopt(state, name if name is not None else type(self).__name__.lower())

    def _adopt(self, state: TrainingState, name: str) -> None:
        """Take a state; nothing is built yet."""
        self.seed, self.dtype, self.name = state.seed, state.dtype, name
        # the runtime's, once there is one
        self._prediction = KeptCall()
        #: the model as a part of others, once it is one
        self._part: Part | None = None
        # what moves its weights towards those of others, the latest last
        self._blends: list[tuple[Runtime, Runtime, Blend]] = []
        #: the symbols of inputs, outputs and extras, once they have been given or asked for
        self._ends: list[list[Any]] | None = None
        self._state = state

    def _realize(self, architecture: Architecture, *, initialize: bool = True) -> None:
        """Give the model its architecture, buffers and, unless they come from a file, initial weights."""
        if self._part is not None:
            raise RuntimeError("other models are made of this one: its weights cannot be made again")
        try:
            self._state.build(architecture, initialize=initialize)
        finally:
            if self._state.built:
                self._prediction = self._state.runtime.prediction

    def _take_architecture(self, state: TrainingState, name: str, architecture: Architecture) -> None:
        """Make an empty model one of an architecture, with zeros as weights."""
        self._adopt(state, name)
        self._realize(architecture, initialize=False)

    def _as_part(self) -> Part:
        """Return the model as a part of others: always the same object."""
        if self._part is None:
            self._part = new_part(self, self.name, self._kind, self._state)
        return self._part

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        """Take the attributes of a copied model: all of an unbuilt one, else those that a subclass has added."""
        if "_fitting" in attributes:
            raise RuntimeError("the model was pickled unbuilt, by an earlier version: make it from its layers")
        self.__dict__.update(attributes)

    def __setattr__(self, name: str, value: object) -> None:
        guarded = not name.startswith("_") and name not in _ATTRIBUTES
        if guarded and "_state" in self.__dict__ and type(self).__module__.startswith("fastnn."):
            raise AttributeError(
                f"{type(self).__name__}.{name} cannot be assigned; these can: {', '.join(_ATTRIBUTES)}, and "
                "optimizer.learning_rate"
            )
        object.__setattr__(self, name, value)

    # --- what it is ---------------------------------------------------------------------------------------

    @property
    def built(self) -> bool:
        """Whether shapes are known and weights exist."""
        return self._state.built

    @property
    def history(self) -> History | None:
        """The history of the latest training by `fit`."""
        return self._state.history

    @history.setter
    def history(self, value: History | None) -> None:
        self._state.history = value

    @property
    def stop_training(self) -> bool:
        """Whether `fit` is to end; callbacks set it to True."""
        return self._state.stop_training

    @stop_training.setter
    def stop_training(self, value: bool) -> None:
        self._state.stop_training = value

    @property
    def _runtime(self) -> Runtime:
        """The runtime of a built model."""
        return self._state.require_built()

    @property
    def _architecture(self) -> Architecture:
        """The architecture of a built model."""
        return self._runtime.table.architecture

    @property
    def layers(self) -> list[Layer]:
        """The layers in order of use, without inputs."""
        return [layer for layer in self._architecture.layers if layer.arity != (0, 0)]

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, for dictionaries of arrays."""
        return self._architecture.input_names

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, for dictionaries of targets, losses and metrics."""
        return self._architecture.output_names

    @property
    def trainable(self) -> bool:
        """Whether any layer is trained.

        Assigning sets `trainable` of all layers, for this model: others that share a layer are not affected. Models
        that are made of the layers later start with the value assigned last.
        """
        table = self._runtime.table if self.built else None
        return any(layer.trainable if table is None else table.is_trainable(layer) for layer in self.layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        assign_trainable(self.layers, value, self._runtime.table if self.built else None)

    def get_layer(self, name: str) -> Any:
        """Return the layer with a name, or the model that this one is made of."""
        architecture = self._architecture
        if name in architecture.models:
            return architecture.models[name].model
        if name not in architecture.labels:
            raise ValueError(f"there is no layer {name!r}; the layers are {list(architecture.labels)}")
        return architecture.layers[architecture.labels.index(name)]

    def count_params(self, *, trainable: bool = False) -> int:
        """Return the number of weights, moving averages included; only of those that are trained, if asked for."""
        table = self._runtime.table
        counted = table.trained() if flag("trainable", trainable) else [True] * len(table)
        return sum(entry.size for entry, counts in zip(table, counted, strict=True) if counts)

    def summary(self, batch_size: int = 32) -> None:
        """Print layers, shapes, parameters, and the memory that training takes; works before training.

        Parameters
        ----------
        batch_size : int
            Rows per batch, which decide the memory of activations.
        """
        say(inspection.summary(self._runtime, self._title, size("batch_size", batch_size)))

    @property
    def program(self) -> Program:
        """The program of a batch of 32 rows: training once compiled, else prediction; `print` shows it."""
        return inspection.program(self._runtime)

    @property
    def _title(self) -> str:
        """The first line of a summary."""
        return f"{type(self).__name__} {self.name!r}"

    def __repr__(self) -> str:
        state = f"{self.count_params()} parameters" if self.built else "not built"
        return f"<{self._title}: {state}, {self.dtype}>"

    def _repr_html_(self) -> str:
        """Return the layers as a table, for notebooks; nothing is computed for it."""
        return notebook.model(self._state, self._title, self._rows)

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        """The table of layers."""
        return inspection.rows_of(self._runtime.table)

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
        runtime = self._runtime
        with runtime.lock:
            return [runtime.weight(entry).copy() for entry in entries]

    def set_weights(self, weights: Sequence[ArrayLike], layer: str | Layer = ALL) -> None:
        """Set all weights, or one layer's, in the order of `get_weights`.

        Parameters
        ----------
        weights : list of array
            Kernel (n_in, n_out) and bias (n_out,) of each layer in turn.
        layer : str or Layer, optional
            Only this layer's weights.

        Raises
        ------
        TypeError
            When the weights are not a list of arrays.
        ValueError
            When the number of arrays or a shape does not fit, elements are masked, or finite numbers are too large for
            the model's dtype. No weight is changed then.
        """
        runtime = self._runtime
        runtime.fail_within("set_weights")
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
        with runtime.lock:
            for entry, array in zip(entries, arrays, strict=True):
                casts.store(runtime.weight(entry), array, entry.name)

    def update_average(self, other: BaseModel, tau: float) -> None:
        """Move all weights towards those of another model, in place: each becomes ``(1 - tau) * w + tau * w_other``.

        ::

            target.update_average(online, 0.005)

        Parameters
        ----------
        other : model
            With weights of the same shapes in the same order, such as one made with the same layers' hyperparameters.
        tau : float
            From 0, which changes nothing, to 1, which copies all weights.

        Raises
        ------
        TypeError
            When `other` is no model.
        ValueError
            When weights or dtypes do not fit each other, or `tau` is not from 0 to 1.
        RuntimeError
            When a model is not built, or a call of this thread that this one has interrupted uses the weights.

        Notes
        -----
        Averages of batch normalisation are weights, too. A weight that is NaN becomes the other model's. Of models on
        different devices the other one's weights are copied to where this one is. Averages over the steps of a training
        are an option of optimizers, ``use_ema``.
        """
        if not isinstance(other, BaseModel):
            raise TypeError(f"update_average: expected a model, got {type(other).__name__}")
        tau = number("tau", tau, at_least=0.0, at_most=1.0)
        mine, its = self._runtime, state_of(other).require_built()
        mine.fail_within("update_average")
        found = next((blend for one, two, blend in self._blends if one is mine and two is its), None)
        if found is None:
            found = Blend(mine, its)
            self._blends = [*self._blends[1 - _KEPT_BLENDS :], (mine, its, found)]
        found.run(tau, self.device)

    def _entries(self, layer: str | Layer) -> list[WeightEntry]:
        """Return the weights of one layer, or all."""
        layers = self._architecture.layers
        if layer is ALL:
            return list(self._runtime.table)
        chosen = self.get_layer(layer) if isinstance(layer, str) else layer
        held = {number for number, part in enumerate(self._architecture.parts) if part and part.model is chosen}
        if held:
            return [entry for entry in self._runtime.table if entry.layer in held]
        if not any(chosen is one for one in layers):
            labels = list(self._architecture.labels)
            raise ValueError(f"layer: expected a layer of this model, or one of the names {labels}, got {layer!r}")
        return [entry for entry in self._runtime.table if layers[entry.layer] is chosen]
