"""The model: an architecture with weights, trained by `fit`, used by `predict`, saved by `save`."""

from __future__ import annotations

import copyreg
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import get_ident
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import optimizers
from fastnn.callbacks import Callback
from fastnn.layers.base import positive_int
from fastnn.layers.symbol import Symbol
from fastnn.model import quick
from fastnn.model.architecture import Architecture
from fastnn.model.compiled import CompiledMixin
from fastnn.model.reading import reads
from fastnn.model.runtime import Pass
from fastnn.optimizers import Optimizer
from fastnn.program.layout import Counter
from fastnn.training import batches, passes, quick_step
from fastnn.training.criteria import check_names
from fastnn.training.data import is_batches
from fastnn.training.feed import Feed
from fastnn.training.fit import fit
from fastnn.training.history import History
from fastnn.training.objective import Objective


class Model(CompiledMixin):
    """A neural network: any acyclic graph of layers between inputs and outputs.

    Parameters
    ----------
    inputs : Symbol or list of Symbol
        From `fastnn.Input`.
    outputs : Symbol or list of Symbol
        Results of layers.
    seed : int or numpy.random.Generator, optional
        Decides initial weights, the order of samples, dropout and noise; None draws one.
    dtype : {"float32", "float64"}
        Of weights and of all arithmetic.
    device : str
        Where the model is: "cpu", "cuda" (the first GPU) or "cuda:<number>"; see `to`.
    name : str, optional

    Raises
    ------
    TypeError, ValueError
        When inputs and outputs are not connected symbols, or an argument is not one of the above.

    Notes
    -----
    Weights belong to the model, not to its layers: two models that share layer objects have weights of their own.
    """

    def __init__(
        self,
        inputs: Symbol | Sequence[Symbol],
        outputs: Symbol | Sequence[Symbol],
        *,
        seed: int | np.random.Generator | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        name: str | None = None,
    ) -> None:
        self._begin(seed, dtype, device, name)
        ends: list[list[Any]] = [
            list(part) if isinstance(part, (list, tuple)) else [part] for part in (inputs, outputs)
        ]
        for part, what in zip(ends, ("inputs", "outputs"), strict=True):
            if not part or not all(isinstance(symbol, Symbol) for symbol in part):
                raise TypeError(f"{what}: expected symbols (fastnn.Input(...) or results of layers), got {part!r}")
        self._realize(Architecture.of(*ends))

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer; its `learning_rate` may be assigned."""
        if self._optimizer is None:
            raise RuntimeError("the model has no optimizer yet: call compile first")
        return self._optimizer

    @property
    def step(self) -> int:
        """The number of training steps taken since the model was made."""
        return self._runtime.step_count() if self.built else 0

    # --- training -----------------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: Optimizer | str = "rmsprop",
        loss: Any = None,
        *,
        metrics: Any = None,
        loss_weights: Any = None,
        weighted_metrics: Any = None,
    ) -> None:
        """Choose how the model is trained; starts the optimizer's state anew.

        Parameters
        ----------
        optimizer : str or Optimizer
        loss : str or Loss, or a list or dict of such by output
            None for an output that is not trained.
        metrics, weighted_metrics : list of str or Metric, or a list of lists or dict by output
            Weighted ones count samples by their weights.
        loss_weights : float, or list or dict by output
            Factors of the outputs' losses in the sum that is trained.

        Raises
        ------
        TypeError, ValueError
            When a name is unknown, or a metric is not defined for an output's shape.
        RuntimeError
            When the model is being trained.
        """
        if loss is None:
            raise ValueError("compile needs a loss, such as 'mse' or 'cross_entropy'")
        self._fail_in_training("compile")
        check_names(loss, metrics, weighted_metrics)
        before = self._compiled, self._optimizer
        self._optimizer = optimizers.get(optimizer)
        self._compiled = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }
        if self.built:
            try:
                self._bind()
            except BaseException:
                self._compiled, self._optimizer = before
                raise

    def _bind(self) -> None:
        architecture, compiled = self._architecture_or_fail(), self._compiled
        assert compiled is not None
        names, shapes = architecture.output_names, architecture.output_shapes
        activations = architecture.output_activations()
        objective = Objective.bind(output_names=names, output_shapes=shapes, output_activations=activations, **compiled)
        totals = objective.initial()
        with self._runtime.lock:
            self._runtime.attach(self._optimizer)
            self._objective, self._totals = objective, totals
            self._runtime.training[[Counter.CURSOR]] = 0
            self._run, self._resumable = {}, None

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = 1,
        callbacks: Callback | Sequence[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_batch_size: int | None = None,
        resume: bool = False,
        device: str | None = None,
    ) -> History:
        """Train for a number of epochs.

        Parameters
        ----------
        x : array of shape (n, *input_shape), list or dict of arrays, or an iterable of batches
            Float, integer or bool arrays of any strides, memory-mapped arrays, data frames. An iterable gives
            (x, y) or (x, y, sample_weight) for each batch.
        y : array, or list or dict by output
            Targets of shape (n, *output_shape), or integer labels (n,) for cross-entropy.
        batch_size : int, optional
            Rows a step; 32 by default.
        epochs : int
            Passes over the data. With `initial_epoch`, the number of the epoch to stop before, as in Keras.
        verbose : {1, 0, 2, "auto"}
            1 (and "auto") shows bars, 0 nothing, 2 prints a line an epoch.
        callbacks : Callback or list of Callback
            What acts at fixed points of training, such as `fastnn.EarlyStopping`.
        validation_split : float
            Fraction of the rows, the last ones, that is not trained on but evaluated after each epoch.
        validation_data : tuple (x, y) or (x, y, sample_weight)
        shuffle : bool
            Whether each epoch takes the rows in a new order.
        class_weight : dict of label to float
            Factors of the samples' weights by their class; classes that are missing have 1.
        sample_weight : array of shape (n,)
            The loss of a batch is sum(weight * loss) / rows, as in Keras.
        initial_epoch : int
            Number of the first epoch, for logs and callbacks that go on with earlier ones.
        steps_per_epoch : int, optional
            Batches an epoch of an iterable.
        validation_batch_size : int, optional
            Rows at a time in validation.
        resume : bool
            Go on where an interrupted or saved training stopped, in the middle of an epoch if need be: the same
            call on the same data gives bit for bit the weights of a training that was never interrupted.
        device : str, optional
            Where to train, such as "cuda"; the model returns to where it is. See `to`.

        Returns
        -------
        History

        Raises
        ------
        TypeError, ValueError
            When data do not fit the model; before anything runs. A row that holds NaN or infinity is named when
            its batch is met.
        RuntimeError
            When the model is not compiled, or is being trained by another thread.
        """
        options = {name: value for name, value in locals().items() if name not in ("self", "x", "y", "device")}
        with self._on(device):
            return fit(self, x, y, options)

    def train_on_batch(
        self, x: Any, y: Any, sample_weight: Any = None, class_weight: Mapping[int, float] | None = None
    ) -> dict[str, float]:
        """Take one training step on one batch and return its loss and metrics (from before the step).

        Raises
        ------
        TypeError, ValueError
            When data do not fit the model.
        RuntimeError
            When the model is not compiled, or `fit` is training it.
        """
        if self._fitting:
            self._fail_in_training("train_on_batch")
        self._build_for(x)
        self._objective_or_fail()
        runtime, me = self._runtime, get_ident()
        with runtime.lock:
            inside = runtime.inside
            if me in inside:
                runtime.fail_within("train_on_batch")
            try:
                inside[me] = True
                plain = sample_weight is None and class_weight is None
                key = quick_step.key_of(self, x, y) if plain else None
                step = None if key is None else runtime.quick_steps.get(key)
                taken = None if step is None else step(self, x, y)
                if not taken:
                    feed = self._feed(x, y, sample_weight, class_weight)
                    batches.train_batch(self, feed, fresh=True)
                    if key is not None and taken is None:
                        quick_step.learn(self, x, y, key)
                return self._logs_so_far()
            finally:
                inside.pop(me, None)

    @reads
    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        sample_weight: Any = None,
        verbose: int | str = 0,
        return_dict: bool = True,
        device: str | None = None,
    ) -> Any:
        """Return loss and metrics over data, such as {"loss": 0.1, "accuracy": 0.97}.

        Parameters
        ----------
        x, y, sample_weight
            As for `fit`; x may be an iterable of batches.
        batch_size : int, optional
            Rows at a time; does not change the result but for rounding.
        verbose : {0, 1}
            1 prints the result.
        return_dict : bool
            False gives a list, the loss first, as Keras does by default.
        device : str, optional
            Where to evaluate, such as "cuda"; see `to`.
        """
        objective = self._objective_or_fail()
        with self._on(device):
            if is_batches(x):
                totals, rows = batches.evaluate(self, x)
            else:
                feed = self._feed(x, y, sample_weight, None)
                totals, rows = passes.evaluate(self, feed, self._batch(batch_size), 0, feed.n)
        if self._objective is not objective:
            raise RuntimeError("the model was compiled anew while it was evaluated")
        logs = objective.logs(totals, rows, arrays=True)
        if verbose == 1:
            print(" - ".join(f"{name}: {value:.4g}" for name, value in logs.items() if isinstance(value, float)))
        return logs if return_dict else list(logs.values())

    def __call__(self, x: Any) -> Any:
        """Return `predict(x)` for an array; a model is not a layer, so it takes no symbols.

        Raises
        ------
        TypeError
            When x is a symbol.
        """
        if isinstance(x, Symbol):
            raise TypeError("a model cannot be called on a symbol: build a fastnn.Model of its layers instead")
        return self.predict(x)

    def predict(self, x: Any, batch_size: int | None = None, verbose: int | str = 0, device: str | None = None) -> Any:
        """Return the outputs for rows: an array of shape (n, *output_shape), a list for several outputs.

        Parameters
        ----------
        x : array of shape (n, *input_shape), list or dict of arrays, or an iterable of batches of inputs
        batch_size : int, optional
            Rows at a time; does not change the result but for rounding.
        verbose
            Taken for the sake of code written for Keras; nothing is shown.
        device : str, optional
            Where to predict, such as "cuda"; see `to`.

        Returns
        -------
        array, or list of arrays
            `fastnn.DeviceArray` where x is on a GPU, else NumPy arrays.
        """
        if device is not None and device != self._device:
            with self._on(device):
                return self.predict(x, batch_size)
        if batch_size is None:
            known = self._quick.get(quick.LATEST)
            if known is not None:
                result = known(x)
                if result is not False:
                    return result
            known = quick.find(self._quick, x)
            if known is not None:
                result = known(x)
                if result is not False:
                    return result
        return self._predict(x, batch_size)

    @reads
    def _predict(self, x: Any, batch_size: int | None) -> Any:
        self._architecture_or_fail()
        batch = self._batch(batch_size)
        if is_batches(x):
            return batches.predict(self, x)
        results = passes.predict(self, self._inputs(x), batch)
        if batch_size is None:
            quick.learn(self, x, batch)
        return results[0] if len(results) == 1 else results

    @reads
    def gradients(self, x: Any, y: Any, sample_weight: Any = None, *, training: bool = False) -> list[NDArray[Any]]:
        """Return the gradients of the loss over one batch for the trainable weights, in `get_weights` order.

        Parameters
        ----------
        x, y, sample_weight
            One batch: all rows at once.
        training : bool
            Whether dropout drops and batch normalisation uses the batch, as in a training step.
        """
        self._objective_or_fail()
        with self._runtime.lock:
            feed, trained = self._feed(x, y, sample_weight, None), self._trained()
            request = feed.request("gradients", feed.n, training=training, trained=trained)
            bound = self._runtime.program(request, self._objective, self._optimizer)
            work, buffer = self._single_pass(feed, training), self._table.allocate()
            if self._runtime.placement is None:
                self._runtime.run(bound, replace(work, gradients=buffer), 1, cursor=0)
            else:
                self._runtime.gradients = buffer
                self._runtime.run(bound, work, 1, cursor=0)
                buffer = self._runtime.gradients
            return [
                self._table.view(buffer, entry).copy()
                for entry, is_trained in zip(self._table, trained, strict=True)
                if is_trained
            ]

    @reads
    def input_gradients(self, x: Any, y: Any, sample_weight: Any = None, *, training: bool = False) -> Any:
        """Return the gradient of the loss over one batch for the inputs, of their shape; a list for several.

        Parameters
        ----------
        x, y, sample_weight, training
            As for `gradients`. The loss is a mean over rows: times n, each row has the gradient of its own loss.
        """
        shapes = self._architecture_or_fail().input_shapes
        self._objective_or_fail()
        with self._runtime.lock:
            feed = self._feed(x, y, sample_weight, None)
            feed.results.extend(self._runtime.empty((feed.n, *shape)) for shape in shapes)
            untrained = (False,) * len(self._table)
            request = feed.request("input_gradients", feed.n, training=training, trained=untrained)
            bound = self._runtime.program(request, self._objective, self._optimizer)
            self._runtime.run(bound, self._single_pass(feed, training), 1, cursor=0)
            results = feed.fetched()
        return results[0] if len(results) == 1 else results

    @reads
    def save(self, path: str | os.PathLike[str]) -> None:
        """Save weights, architecture, optimizer state and the position in training in one safetensors file.

        Parameters
        ----------
        path : path
            Written whole or not at all: a crash leaves the old file.
        """
        from fastnn.saving.model_file import save

        save(self, path)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle a model as it would be saved: `copy.deepcopy`, joblib and multiprocessing work.

        A copy is where the model is, or on the CPU where it is made by a process that has no GPU.
        """
        from fastnn.config import collecting
        from fastnn.saving.model_file import describe, restore

        if not self.built:
            return copyreg.__newobj__, (type(self),), self.__dict__.copy()  # type: ignore[attr-defined]
        with collecting() as custom:
            described = describe(self)
        return restore, (*described, self._optimizer, custom, self._device, self._precision)

    # --- inside -------------------------------------------------------------------------------------------

    def _fail_in_training(self, what: str) -> None:
        if self._fitting:
            raise RuntimeError(f"{what}: the model is being trained by fit (in another thread, or from a callback)")
        if self.built:
            self._runtime.fail_within(what)

    def _objective_or_fail(self) -> Objective:
        self._architecture_or_fail()
        if self._objective is None:
            raise RuntimeError("the model is not compiled: call compile(optimizer, loss) first")
        return self._objective

    def _single_pass(self, feed: Feed, training: bool) -> Pass:
        """Describe a run that leaves weights and totals as they are."""
        parameters = None
        if training:
            parameters = self._table.allocate()
            parameters[:] = self._runtime.parameters
        return Pass(feed.addresses(), accumulators=self._objective_or_fail().initial(), parameters=parameters)

    def _build_for(self, x: Any) -> None:
        """Infer missing shapes from data; a model of symbols has them."""

    def _inputs(self, x: Any, what: str = "") -> Feed:
        return self._placed(self._checked_inputs(x, what), what)

    def _checked_inputs(self, x: Any, what: str = "") -> Feed:
        architecture = self._architecture_or_fail()
        names, shapes = architecture.input_names, architecture.input_shapes
        return Feed.of_inputs(x, names=names, shapes=shapes, n_outputs=len(architecture.outputs), what=what)

    def _feed(self, x: Any, y: Any, sample_weight: Any, class_weight: Any, what: str = "") -> Feed:
        return self._placed(self._checked(x, y, sample_weight, class_weight, what), what)

    def _checked(self, x: Any, y: Any, sample_weight: Any, class_weight: Any, what: str = "") -> Feed:
        objective, architecture = self._objective_or_fail(), self._architecture_or_fail()
        names, shapes = architecture.input_names, architecture.input_shapes
        return Feed.of(x, y, sample_weight, class_weight, names=names, shapes=shapes, objective=objective, what=what)

    @staticmethod
    def _batch(batch_size: int | None, default: int = passes.DEFAULT_BATCH) -> int:
        return default if batch_size is None else positive_int(batch_size, "batch_size")

    @property
    def _rows_done(self) -> int:
        """Rows that the running epoch has consumed."""
        return self._earlier_rows + int(self._runtime.training[Counter.CURSOR])

    def _start_totals(self) -> None:
        self._totals = self._objective_or_fail().initial()
        self._earlier_rows = 0

    def _logs_so_far(self) -> dict[str, float]:
        return self._objective_or_fail().logs(self._totals, max(1, self._rows_done))
