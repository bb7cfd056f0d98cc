"""The model: an architecture with weights, trained by `fit`, used by `predict`, saved by `save`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import optimizers
from fastnn.callbacks import Callback
from fastnn.hints import explained
from fastnn.layers.architecture import Architecture, inherited, masks_of
from fastnn.layers.symbols import Symbol
from fastnn.locks import importing
from fastnn.model.generation import GeneratingMixin
from fastnn.model.nesting import new_part
from fastnn.objective.objective import as_list
from fastnn.objective.resolve import check_names
from fastnn.optimizers import Optimizer
from fastnn.training.fit import fit
from fastnn.training.history import History
from fastnn.training.on_batch import train_on_batch
from fastnn.training.options import FitOptions
from fastnn.training.state import Compiled


class Model(GeneratingMixin):
    """A neural network: any acyclic graph of layers between inputs and outputs.

    ::

        x = fnn.Input(4)
        hidden = fnn.Dense(8, activation="relu")(x)
        model = fnn.Model(x, fnn.Dense(1)(fnn.Concatenate()([x, hidden])), seed=0)

    Parameters
    ----------
    inputs : Symbol or list of Symbol
        From `fastnn.Input`.
    outputs : Symbol or list of Symbol
        Results of layers, or of models: then the new model has the weights of these.
    seed : int or numpy.random.Generator, optional
        Decides initial weights, the order of samples, dropout and noise; None draws a random seed.
    dtype : {"float32", "float64"}
        The dtype of weights and of all arithmetic.
    device : str
        Where the model is: "cpu", "cuda" (the first GPU) or "cuda:<number>"; see `to`.
    name : str, optional

    Raises
    ------
    TypeError, ValueError
        When inputs and outputs are not connected symbols, or an argument is invalid.

    Notes
    -----
    Weights belong to the model, not to its layers: two models that share layer objects have separate weights. A model
    that is made of models, as in ``fnn.Model(x, decoder(encoder(x)))``, has theirs: what one learns all have at once.
    It has an optimizer's state of its own, and what it trains is its own, too. Losses and metrics that a model has by
    `add_loss` and `add_metric` are also those of models that are made of it, once for each call; but not what it was
    compiled with.
    """

    @explained
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
        extras = [*inherited(*ends), *masks_of(ends[1])]
        self._realize(Architecture.of(ends[0], ends[1], extras))
        self._ends = [*ends, extras]

    def _next_steps(self, steps: int | None) -> Model:
        with importing:
            from fastnn.model.stepping import next_step, next_steps

        self._state.require_built()
        part = new_part(self, self.name, self._kind, self._state)
        made = next_step(self._architecture, part) if steps is None else next_steps(self._architecture, part, steps)
        return Model(*made, dtype=self._state.dtype, name=f"{self.name}_steps")

    # --- training -----------------------------------------------------------------------------------------

    @explained
    def compile(
        self,
        optimizer: Optimizer | str = "rmsprop",
        loss: Any = None,
        *,
        metrics: Any = None,
        loss_weights: Any = None,
        weighted_metrics: Any = None,
    ) -> None:
        """Choose how the model is trained.

        The optimizer's state and its count of steps start at zero, unless the model already has this optimizer object:
        then they are kept, so that training can continue, for example after layers were unfrozen.

        Parameters
        ----------
        optimizer : str or Optimizer
        loss : str, Loss or function, or a list or dict of such by output
            A function is one of symbols (`losses.Function`) or of two numbers (`losses.Custom`). None for an output
            that is not trained, or if `add_loss` has given all that is.
        metrics, weighted_metrics : list of str, Metric, Loss or function, or a list of lists or dict by output
            Weighted ones count samples by their weights. If both have the same name, the weighted one gets the prefix
            ``weighted_``.
        loss_weights : float, or list or dict by output
            Factors of the outputs' losses in the sum that is trained.

        Raises
        ------
        TypeError, ValueError
            When a name is unknown, a metric is not defined for an output's shape, a number is too large for the model's
            dtype, a loss does not fit the values of its output, or two quantities would have the same name in
            logs.
        RuntimeError
            When the model is being trained.
        """
        if loss is None and not (self.built and any(extra.role == "loss" for extra in self._architecture.extras)):
            raise ValueError("compile needs a loss, such as 'mse' or 'cross_entropy'")
        self._state.fail_in_training("compile")
        check_names(loss, metrics, weighted_metrics)
        self._state.compile(Compiled(optimizers.get(optimizer), loss, loss_weights, metrics, weighted_metrics))

    @explained
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
        class_weight: Mapping[int, float] | str | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Iterable[int] = 1,
        resume: bool = False,
        device: str | None = None,
        lengths: Any = None,
    ) -> History:
        """Train for a number of epochs.

        Where the optimizer averages the weights (``use_ema=True``), the averages are the weights at the end.

        Parameters
        ----------
        x : array of shape (n, *input_shape), list or dict of arrays, or an iterable of batches
            Float, integer or bool arrays of any strides, memory-mapped arrays, data frames. An iterable yields
            (x, y) or (x, y, sample_weight) for each batch; so does a list of such tuples if y is None.
        y : array, or list or dict by output
            Targets of shape (n, *output_shape), or integer labels (n,) for cross-entropy; of any shape (n, ...) for a
            function of symbols. None if the model has only losses and metrics of its own (`add_loss`).
        batch_size : int, optional
            Rows per step; 32 by default.
        epochs : int
            Passes over the data. With `initial_epoch`, the epoch number to stop at (exclusive), as in Keras.
        verbose : {1, 0, 2, "auto"}
            1 (and "auto") shows bars, 0 nothing, 2 prints a line per epoch.
        callbacks : Callback or list of Callback
            Called at fixed points of training, such as `fastnn.EarlyStopping`.
        validation_split : float
            The last fraction of the rows, which is evaluated after each epoch instead of trained on.
        validation_data : tuple (x, y) or (x, y, sample_weight)
            With `lengths` (x, y, sample_weight, lengths), where sample_weight may be None.
        shuffle : bool
            Whether each epoch takes the rows in a new order. Models with stateful layers want False.
        class_weight : dict of label to float, or "balanced"
            Factors of the sample weights, 0 or larger, by class; missing classes have 1. "balanced" computes
            n / (n_classes * rows of the class), as in scikit-learn. Targets must be classes: labels, one-hot
            rows, or 0 and 1. Labels of shape (n, T) have a weight each.
        sample_weight : array of shape (n,) or (n, ...)
            One per sample, or one per row of the output: (n, T) for an output of shape (n, T, columns). The loss of a
            batch is sum(weight * loss) / rows, as in Keras. Rows of weight 0 add nothing, but their targets are
            checked like all others. A list or dict by output, for several.
        initial_epoch : int
            Number of the first epoch, for logs and callbacks that continue earlier ones.
        steps_per_epoch : int, optional
            Batches per epoch. The next epoch continues where the last one stopped; an epoch that reaches the end of the
            arrays is shorter, with a warning.
        validation_steps : int, optional
            Batches per validation, from the start of the validation data.
        validation_batch_size : int, optional
            Rows at a time in validation. Changes the result only with `validation_steps`; then the default is
            `batch_size`.
        validation_freq : int or list of int
            Validate after every n-th epoch, or after the epochs in a list, counted from 1. The history has NaN for
            other epochs.
        resume : bool
            Continue where an interrupted or saved training stopped, even in the middle of an epoch: the same
            call on the same data gives the weights of a training that was never interrupted, bit for bit.
        device : str, optional
            Where to train, such as "cuda"; afterwards the model returns to its device. See `to`.
        lengths : array of int, shape (n,), optional
            The steps of each row that count, from the first on, for a model whose input leaves their number open
            (``fastnn.Input((None, 64))``): all layers get a mask that leaves out the others. Batches are cut to their
            longest rows. With `shuffle`, rows of similar lengths are in a batch, so that short ones cost less. The
            others are checked like all data: pad x and y with finite numbers, tokens and labels that there are.

        Returns
        -------
        History

        Raises
        ------
        TypeError, ValueError
            When data do not fit the model; before anything runs. A row that holds NaN or infinity raises when
            its batch is gathered, and is named.
        RuntimeError
            When the model is not compiled, or is being trained by another thread.
        """
        options = FitOptions(
            batch_size=batch_size, epochs=epochs, verbose=verbose, callbacks=callbacks,
            validation_split=validation_split, validation_data=validation_data, shuffle=shuffle,
            class_weight=class_weight, sample_weight=sample_weight, initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch, validation_steps=validation_steps,
            validation_batch_size=validation_batch_size, validation_freq=validation_freq, resume=resume,
            lengths=lengths,
        )  # fmt: skip
        with self._state.on(device):
            return fit(self, x, y, options)

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Take one training step on one batch and return its loss and metrics (from before the step).

        A loss that is NaN or infinite gives one RuntimeWarning, until it is finite again.

        Parameters
        ----------
        x, y, sample_weight, class_weight
            One batch, as for `fit`.
        return_dict : bool
            True returns a dict by name. False returns a list, the loss first, or only the loss if there is nothing
            else, as Keras does by default.

        Raises
        ------
        TypeError, ValueError
            When data do not fit the model.
        RuntimeError
            When the model is not compiled, or `fit` is training it.
        """
        state = self._state
        if state.fitting:
            state.fail_in_training("train_on_batch")
        if not state.built:
            self._build_for(x)
        state.require_compiled()
        logs = train_on_batch(state, x, y, sample_weight, class_weight, "train_on_batch")
        return logs if return_dict else as_list(logs)
