"""The fastnn model of an estimator, whose weights are the arrays of `coefs_` and `intercepts_`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import activations, losses
from fastnn.callbacks import Callback, CallbackList
from fastnn.layers.core import Activation, Dense, Input
from fastnn.layers.normalization import BatchNormalization
from fastnn.layers.random import Dropout
from fastnn.losses import Loss
from fastnn.model import Sequential
from fastnn.objective.objective import PENALTY
from fastnn.optimizers import Optimizer
from fastnn.sklearn.data import Batches, SparseRows, predicted
from fastnn.sklearn.passes import EpochOrders
from fastnn.sklearn.penalty import BatchL2
from fastnn.threads import limited
from fastnn.training.fit import fit
from fastnn.training.options import FitOptions
from fastnn.training.state import state_of

Array = NDArray[Any]

#: scikit-learn's names of activations that have other names here
_ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid", "exp": "exponential"}


@dataclasses.dataclass(frozen=True)
class Design:
    """What a network is made of.

    Attributes
    ----------
    units : tuple of int
        Of the inputs, the hidden layers and the outputs.
    activation : str or Activation
        Of the hidden layers, by scikit-learn's name or one of fastnn.
    out_activation : str
        By scikit-learn's name.
    loss : str or Loss
        By scikit-learn's name, or one of fastnn.
    alpha : float
        The factor of the L2 penalty.
    dropout : tuple of float
        The rates behind the hidden layers.
    batch_norm : bool
    dtype : {"float32", "float64"}
    device : str
    seed : int
        Of dropout.
    """

    units: tuple[int, ...]
    activation: Any
    out_activation: str
    loss: Any
    alpha: float
    dropout: tuple[float, ...] = ()
    batch_norm: bool = False
    dtype: str = "float64"
    device: str = "cpu"
    seed: int = 0

    def layers(self, *, plain: bool = False) -> list[Any]:
        """Return the layers; `plain` leaves out the penalty."""
        penalty = BatchL2() if self.alpha > 0.0 and not plain else None
        hidden = _activation(self.activation)
        found: list[Any] = [Input(self.units[0])]
        for index, units in enumerate(self.units[1:-1]):
            between = None if self.batch_norm else hidden
            found.append(Dense(units, between, kernel_initializer="zeros", kernel_regularizer=penalty))
            if self.batch_norm:
                found += [BatchNormalization(), Activation(hidden)]
            if index < len(self.dropout) and self.dropout[index] > 0.0:
                found.append(Dropout(self.dropout[index]))
        last = _activation(self.out_activation)
        found.append(Dense(self.units[-1], last, kernel_initializer="zeros", kernel_regularizer=penalty))
        return found

    def network(self) -> Network:
        """Make a network, whose weights are zeros."""
        return Network(self)

    def objective(self) -> tuple[Loss, float]:
        """Return the loss and its factor.

        A gradient is that of the sum over the outputs of half the squared error, of the Poisson deviance, or of the
        log loss; fastnn's losses are means over the outputs.
        """
        outputs = self.units[-1]
        if self.loss == "squared_error":
            return losses.MeanSquaredError(), 0.5 * outputs
        if self.loss == "poisson":
            return losses.Poisson(), float(outputs)
        if self.loss == "log_loss":
            if self.out_activation == "softmax":
                return losses.CrossEntropy(clip=True), 1.0
            return losses.BinaryCrossEntropy(clip=outputs == 1), float(outputs)
        return losses.get(self.loss), 1.0


def _activation(given: Any) -> Any:
    return activations.get(_ACTIVATIONS.get(given, given) if isinstance(given, str) else given)


class EpochEnd(Callback):
    """A function that is called at the end of each epoch, with its logs, and says whether the training ends there."""

    def __init__(self, function: Callable[[dict[str, float] | None], bool]) -> None:
        self._function = function

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Call the function."""
        if self._function(logs):
            self.model.stop_training = True


class Network:
    """A model made by a design, and its weights by scikit-learn's names.

    Attributes
    ----------
    model : Sequential
    dtype : dtype
    coefs, intercepts : list of ndarray
        Views of the model's weights: kernels of shape (n_in, n_out), biases of shape (n_out,).
    """

    def __init__(self, design: Design) -> None:
        self.design, self.dtype = design, np.dtype(design.dtype)
        self.model = Sequential(design.layers(), seed=design.seed, dtype=design.dtype, device=design.device)
        self._find()

    def _find(self) -> None:
        runtime = state_of(self.model).require_built()
        with runtime.lock:
            layers = runtime.table.architecture.layers
            #: the weights of dense layers
            self.entries = [entry for entry in runtime.table if isinstance(layers[entry.layer], Dense)]
            found = [runtime.weight(entry) for entry in self.entries]
        self.coefs: list[Array] = found[::2]
        self.intercepts: list[Array] = found[1::2]

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle holds: the design, and the model with its training's state."""
        return {"design": self.design, "model": self.model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.dtype = np.dtype(self.design.dtype)
        self._find()

    @property
    def on_device(self) -> bool:
        """Whether it trains on a GPU, which keeps a copy of the samples' weights."""
        return self.design.device != "cpu"

    def holds(self, coefs: Sequence[Array], intercepts: Sequence[Array]) -> bool:
        """Return whether arrays are the model's weights themselves."""
        mine, its = self.coefs, self.intercepts
        if len(coefs) != len(mine) or len(intercepts) != len(its):
            return False
        for index, one in enumerate(mine):
            if coefs[index] is not one or intercepts[index] is not its[index]:
                return False
        return True

    def take(self, coefs: Sequence[Any], intercepts: Sequence[Any]) -> None:
        """Copy weights into the model.

        Raises
        ------
        ValueError
            When shapes do not fit.
        """
        given = [np.asarray(one) for one in (*coefs, *intercepts)]
        places = (*self.coefs, *self.intercepts)
        if [one.shape for one in given] != [one.shape for one in places]:
            raise ValueError(
                f"coefs_ and intercepts_: expected shapes {[one.shape for one in places]}, got "
                f"{[one.shape for one in given]}"
            )
        runtime = state_of(self.model).runtime
        with runtime.lock:
            self._find()  # marks the weights on the host as the current ones
            for place, one in zip((*self.coefs, *self.intercepts), given, strict=True):
                if one is not place:
                    place[...] = one

    def all_weights(self) -> list[Array]:
        """Return copies of all weights, moving averages included."""
        return self.model.get_weights()

    def plain_model(self) -> Sequential:
        """Return a model with the same weights, without penalties, and not compiled."""
        design = self.design
        made = Sequential(design.layers(plain=True), dtype=design.dtype, device=design.device)
        made.set_weights(self.all_weights())
        return made

    def outputs_of_sparse(self, x: SparseRows) -> Array:
        """Return the outputs for sparse rows, by their own products with the first kernel and a network of the rest."""
        design = self.design
        _, first, *others = design.layers(plain=True)
        rest = [Input(design.units[1]), *([] if first.activation is None else [Activation(first.activation)]), *others]
        made = Sequential(rest, dtype=design.dtype, device=design.device)
        made.set_weights(self.all_weights()[2:])
        parts = (part + self.intercepts[0] for part in x.products(self.coefs[0]))
        return np.concatenate([made.predict(part.astype(self.dtype, copy=False)) for part in parts])

    def compile(self, optimizer: Optimizer) -> None:
        """Begin to train with an optimizer, whose state is new."""
        loss, factor = self.design.objective()
        if self.on_device:
            loss = dataclasses.replace(loss, normalize="weights")
        self.model.compile(optimizer, loss, loss_weights=factor)

    def remade(self, design: Design) -> Network:
        """Return a network of another design of the same units, with these weights and this state of an optimizer."""
        made = Network(design)
        made.model.set_weights(self.all_weights())
        if not self.compiled:
            return made
        made.compile(self.optimizer)
        mine, its = state_of(self.model).runtime, state_of(made.model).runtime
        with mine.lock, its.lock:
            old, new = mine.optimizer_state, its.optimizer_state
            for slot in range(len(self.optimizer.slots)):
                for entry, other in zip(mine.table, its.table, strict=True):
                    its.table.view(new, other, slot)[...] = mine.table.view(old, entry, slot)
            its.optimizer_state = new
            its.training[...] = mine.training
            its.begin_optimizer(mine.first_step)
        return made

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer that trains."""
        return state_of(self.model).runtime.compiled()[1]

    @property
    def compiled(self) -> bool:
        """Whether there is an optimizer."""
        return state_of(self.model).compiled is not None

    def train(
        self, x: Any, y: Any, orders: EpochOrders, *, epochs: int, batch: int,
        epoch_end: Callable[[dict[str, float] | None], bool], callbacks: Any, bar: bool, threads: int,
    ) -> None:  # fmt: skip
        """Train for a number of epochs, which `epoch_end` and callbacks may end; it comes before them."""
        given: dict[str, Any] = {"batch_size": batch, "sample_weight": orders.weights}
        if isinstance(x, SparseRows):
            x, y, given = Batches(x, y, orders, batch), None, {}
        options = FitOptions(
            epochs=epochs, verbose=int(bar), callbacks=[EpochEnd(epoch_end), *CallbackList(callbacks).callbacks],
            passes=orders, **given,
        )  # fmt: skip
        with limited(threads):
            fit(self.model, x, y, options, lambda step: None)
        if self.on_device:
            self._find()

    def loss_on(self, x: Any, y: Any) -> float:
        """Return the mean loss of data, without the penalty."""
        loss, factor = self.design.objective()
        return factor * loss(y, predicted(self.model, x))

    def losses(self, rows: int) -> tuple[float, float]:
        """Return the loss of the data and the penalty of the latest epoch, means over its rows."""
        state = state_of(self.model)
        penalty = float(state.totals[PENALTY]) / rows
        return state.require_compiled().loss(state.totals, rows) - penalty, penalty
