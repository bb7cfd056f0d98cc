"""Losses and numbers for the logs that are made of a model's inner symbols."""

from __future__ import annotations

from typing import Any

from fastnn.layers.architecture import Architecture
from fastnn.layers.symbols import Symbol
from fastnn.model.predicting import PredictingMixin


class ExtrasMixin(PredictingMixin):
    """A model that computes more in training than its outputs."""

    @property
    def inputs(self) -> list[Symbol]:
        """The symbols of the inputs."""
        return list(self._symbols()[0])

    @property
    def outputs(self) -> list[Symbol]:
        """The symbols of the outputs, from which losses can be made; see `add_loss`."""
        return list(self._symbols()[1])

    def add_loss(self, loss: Symbol, name: str = "") -> None:
        """Add a symbol to the loss: its mean, if it is not a single number.

        ::

            model.add_loss(0.01 * fnn.ops.mean(fnn.ops.square(code)))

        Parameters
        ----------
        loss : Symbol
            Made of the symbols that the model was made of, or of `inputs` and `outputs`, by functions of `fastnn.ops`
            and layers.
        name : str, optional

        Raises
        ------
        TypeError, ValueError
            When it is no symbol, or not one that can be computed from the model's inputs.
        RuntimeError
            When the model is compiled already, or other models are made of it.

        Notes
        -----
        It is part of the loss in `fit`, `train_on_batch`, `evaluate` and `gradients`, whatever the samples' weights.
        Then ``compile`` needs no other loss, and `fit` no targets. It is saved with the model, and is a loss of models
        that are made of it later, as in Keras: once for each call.
        """
        self._add_extra(loss, "loss", name)

    def add_metric(self, value: Symbol, name: str) -> None:
        """Report the mean of a symbol in logs, under a name.

        Parameters and errors are those of `add_loss`.
        """
        if not isinstance(name, str) or not name:
            raise TypeError(f"add_metric: name: expected a text that is not empty, got {name!r}")
        if name in [extra.name for extra in self._architecture.extras if extra.role == "metric"]:
            raise ValueError(f"add_metric: the model has a metric {name!r} already")
        self._add_extra(value, "metric", name)

    def _add_extra(self, symbol: Symbol, role: str, name: str) -> None:
        if not isinstance(symbol, Symbol):
            raise TypeError(f"add_{role}: expected a symbol, got {type(symbol).__name__}")
        if not isinstance(name, str):
            raise TypeError(f"add_{role}: name: expected a text, got {name!r}")
        old = self._runtime
        if self._state.compiled is not None or self.step:
            raise RuntimeError(f"add_{role}: the model is compiled already: call add_{role} before compile")
        inputs, outputs, extras = self._symbols()
        made = Architecture.of(inputs, outputs, [*extras, (symbol, role, name)])
        weights = {entry.name: old.weight(entry).copy() for entry in old.table}
        untrained = [layer for layer in self.layers if not old.table.is_trainable(layer)]
        self._realize(made)
        self._ends = [inputs, outputs, [*extras, (symbol, role, name)]]
        new = self._runtime
        for entry in new.table:
            if entry.name in weights:
                new.weight(entry)[...] = weights[entry.name]
        for layer in untrained:
            new.table.pin(layer, False)

    def _symbols(self) -> list[list[Any]]:
        """Return the symbols of inputs, outputs and extras: those that the model was made of, or new ones."""
        if self._ends is None:
            architecture = self._architecture
            found = architecture.symbols()
            ends = ([found[call] for call in calls] for calls in (architecture.inputs, architecture.outputs))
            self._ends = [*ends, [(found[extra.call], extra.role, extra.name) for extra in architecture.extras]]
        return self._ends
