"""`train_function`: training steps of losses that are symbols, for training loops of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fastnn import optimizers
from fastnn.backend.cpu.frozen.learner import Learner
from fastnn.hints import explained
from fastnn.layers.architecture import Architecture
from fastnn.layers.base import Layer
from fastnn.layers.symbols import Symbol
from fastnn.model.base import BaseModel
from fastnn.model.function import Calls, inputs_of
from fastnn.optimizers import Optimizer
from fastnn.runtime.programs.measures import check_trains
from fastnn.training.on_batch import train_on_batch
from fastnn.training.state import Compiled


class TrainFunction(Calls):
    """A compiled training step; made by `fastnn.train_function`."""

    _kind: ClassVar[str] = "TrainFunction"

    def __init__(
        self, inputs: Any, loss: Any, *, update: Any, optimizer: Any, metrics: Any, seed: Any, dtype: str | None,
        device: str | None, name: str | None,
    ) -> None:  # fmt: skip
        starts = inputs_of("train_function", inputs)
        if not isinstance(loss, Symbol):
            raise TypeError(f"train_function: loss: expected a symbol, got {type(loss).__name__}")
        named = {} if metrics is None else metrics
        if not isinstance(named, Mapping):
            raise TypeError(f"train_function: metrics: expected a dict of symbols by name, got {type(named).__name__}")
        for key, symbol in named.items():
            if not isinstance(key, str) or not key or not isinstance(symbol, Symbol):
                raise TypeError(f"train_function: metrics: expected symbols by name, got {key!r}: {symbol!r}")
        if "loss" in named:
            raise ValueError("train_function: metrics: 'loss' is the name of the loss")
        extras = [(loss, "loss", ""), *((symbol, "metric", key) for key, symbol in named.items())]
        architecture = Architecture.of(starts, [], extras, any_shape=True)
        chosen = None if update is None else _chosen(architecture, update)
        method = optimizers.get(optimizer)
        self._start([loss, *named.values()], seed, dtype, device, name or "train_function")
        self._realize(architecture)
        table = self._runtime.table
        if chosen is not None:
            table.choose(chosen)
        if not any(table.trained()):
            raise ValueError(
                "train_function: there is nothing to train: none of the layers has weights, or all have trainable=False"
            )
        self._state.compile(Compiled(method, None, None, None, None))
        check_trains(table, self._state.require_compiled())

    def __call__(self, *arrays: Any) -> Any:
        """Take one training step on arrays, one for each input, all with the same number of rows.

        Returns
        -------
        float, or dict of str to float
            The loss from before the step, penalties included; with `metrics` a dict, in which it is called "loss".

        Raises
        ------
        TypeError, ValueError
            When the arrays do not fit the inputs, or a row holds NaN or infinity. Nothing is changed then.
        RuntimeError
            When a call of this thread that this one has interrupted uses the weights.

        Notes
        -----
        A loss that is NaN or infinite gives one RuntimeWarning, until it is finite again.
        """
        x = self._arrays(arrays)
        logs = train_on_batch(self._state, x, (), None, None, self.name)
        return logs if len(logs) > 1 else logs["loss"]

    def learner(
        self, *, gradients: bool = False, targets: Any = None, steps: int | None = None, metrics: bool = False,
        rows: int | None = None,
    ) -> Learner:  # fmt: skip
        """Return a copy of the weights, the optimizer and the loss, for training steps in compiled code.

        ::

            loss = fnp.train_step(learner, (x, t))

        Parameters
        ----------
        gradients, targets
            Of models only: a training function has no outputs.
        steps : int, optional
            With a learning rate schedule: for how many more steps to compute it.
        metrics : bool
            Whether the steps also compute the metrics; `learner_logs` returns them.
        rows : int, optional
            For steps on exactly this many rows: others raise ValueError, and change nothing. Needed where all pairs of
            rows are compared.

        Returns
        -------
        fastnn.nopython.Learner
            `update_from` copies what was learned back into the models.

        Raises
        ------
        ValueError
            When a schedule comes without `steps`, or an argument is for models.
        NotImplementedError
            When the sizes of what is computed are not in proportion to the rows, as of products between all rows,
            without `rows`.
        """
        if gradients or targets is not None:
            raise ValueError("learner: gradients and targets are of outputs, which a training function has none of")
        return super().learner(steps=steps, metrics=metrics, rows=rows)

    def freeze(
        self, *, gradients: bool = False, device: str = "cpu", rows: int | None = None, stateful: bool = False
    ) -> Any:
        """Raise TypeError: a training step is made for compiled code by `learner`."""
        raise TypeError("freeze: a training step for compiled code is step.learner(); see fastnn.nopython.train_step")

    def _options(self) -> dict[str, Any]:
        chosen = self._runtime.table.chosen
        return {"update": None if chosen is None else sorted(chosen)}

    def _take_options(self, options: Any) -> None:
        if not isinstance(options, dict) or set(options) != {"update"}:
            raise ValueError(f"expected the options of a training function, got {options!r}")
        chosen, count = options["update"], len(self._architecture.layers)
        if chosen is None:
            return
        numbers = isinstance(chosen, list) and all(type(one) is int and 0 <= one < count for one in chosen)
        if not numbers:
            raise ValueError(f"update: expected numbers of layers below {count}, got {chosen!r}")
        self._runtime.table.choose(chosen)


def _chosen(architecture: Architecture, update: Any) -> list[int]:
    """Return the numbers of the layers that are trained."""
    given = list(update) if isinstance(update, (list, tuple)) else [update]
    number = {id(layer): index for index, layer in enumerate(architecture.layers)}
    found: list[int] = []
    for one in given:
        if isinstance(one, BaseModel):
            mine = [number[id(layer)] for layer in one.layers if id(layer) in number] if one.built else []
            if not mine:
                raise ValueError(f"train_function: update: the loss contains no call of the model {one.name!r}")
            found += mine
        elif isinstance(one, Layer):
            if id(one) not in number:
                raise ValueError(f"train_function: update: the loss contains no call of the layer {one.label!r}")
            found.append(number[id(one)])
        else:
            raise TypeError(f"train_function: update: expected models and layers, got {type(one).__name__}")
    _check_own(architecture, [one for one in given if isinstance(one, BaseModel)])
    return found


def _check_own(architecture: Architecture, models: Sequence[BaseModel]) -> None:
    """Raise where a model is to be trained whose layers are called without it: their weights are not the model's."""
    weighty = {number for number, _ in architecture.parameters()} if models else set()
    for model in models:
        held = {id(layer) for layer in model.layers}
        for index, layer in enumerate(architecture.layers):
            if id(layer) in held and architecture.parts[index] is None and index in weighty:
                raise ValueError(
                    f"train_function: update: the loss is made of layers of the model {model.name!r}, not of its call, "
                    f"so the weights of {architecture.labels[index]!r} would not be the model's: call it, as in "
                    "model(fastnn.Input(...))"
                )


@explained
def train_function(
    inputs: Symbol | Sequence[Symbol],
    loss: Symbol,
    *,
    update: Any = None,
    optimizer: Optimizer | str = "adam",
    metrics: Mapping[str, Symbol] | None = None,
    seed: int | np.random.Generator | None = None,
    dtype: str | None = None,
    device: str | None = None,
    name: str | None = None,
) -> TrainFunction:
    """Make a compiled training step of a loss that is a symbol.

    ::

        x, t = fnn.Input(4), fnn.Input(1)
        loss = fnn.ops.mean(fnn.ops.square(model(x) - t))
        step = fnn.train_function([x, t], loss, update=model, optimizer=fnn.Adam(1e-3))
        for xs, ts in batches:
            print(step(xs, ts))

    Parameters
    ----------
    inputs : Symbol or list of Symbol
        From `fastnn.Input`: a call takes an array for each.
    loss : Symbol
        Its mean, if it is not a single number.
    update : model, layer, or list of these, optional
        What is trained, but for layers with ``trainable=False``; all other weights are constants. By default everything
        that the loss is made of is trained.
    optimizer : str or Optimizer
        Its state and its count of steps belong to this function. It may clip, accumulate and average, and have a
        schedule.
    metrics : dict of str to Symbol, optional
        Numbers to return besides the loss: means of symbols.
    seed : int or numpy.random.Generator, optional
        Decides dropout and noise, and initial weights of layers; None draws a random seed.
    dtype : {"float32", "float64"}, optional
        That of the models that it is made of, or else float32.
    device : str, optional
        Where it is computed; the models that it is made of go there, too. By default it is where these are, or the CPU.
    name : str, optional

    Returns
    -------
    TrainFunction
        Call it with arrays to take a step. It has methods of a model: `optimizer`, `step`, `to`, `save`, `learner`,
        `finalize_variable_values`, `get_weights`.

    Raises
    ------
    TypeError, ValueError
        When symbols are not connected, the loss has no gradient for what is to be trained, or an argument is invalid.

    Notes
    -----
    Models that are called within have their own weights, which steps change in place: several functions may train the
    same models in turn, or train some and use others. Penalties of regularizers are added for what is trained, those of
    `Model.add_loss` are not.

    Dropout drops in all models, as in training. Layers that are not trained are constants in every respect: batch
    normalisation uses and keeps its averages there, as it does with ``trainable=False``.
    """
    return TrainFunction(
        inputs, loss, update=update, optimizer=optimizer, metrics=metrics, seed=seed, dtype=dtype, device=device,
        name=name,
    )  # fmt: skip
