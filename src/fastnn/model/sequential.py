"""Sequential: a model that is a list of layers; its input shape may become known later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from fastnn.data.arrays import as_array
from fastnn.data.kinds import only
from fastnn.hints import explained
from fastnn.layers.architecture import Architecture
from fastnn.layers.base import Layer, Symbol, shape_of
from fastnn.layers.core import Input, InputLayer
from fastnn.model import inspection
from fastnn.model.model import Model
from fastnn.training.state import TrainingState


class Sequential(Model):
    """A stack of layers, each with one input and one output.

    ::

        model = fnn.Sequential([fnn.Dense(128, activation="relu"), fnn.Dense(10, activation="softmax")], seed=0)
        model.compile(optimizer="adam", loss="cross_entropy", metrics=["accuracy"])
        model.fit(x, y, batch_size=32, epochs=20)
        model.predict(x_new)

    Parameters
    ----------
    layers : list of Layer
        May start with `fastnn.Input(shape)`: then the weights exist at once. Otherwise the input shape comes from
        `build`, or from the first data that the model is trained on.
    seed, dtype, device, name
        As for `fastnn.Model`.

    Raises
    ------
    TypeError, ValueError
        When an element is not a layer, or shapes do not fit (the message names the layer).
    """

    _kind: ClassVar[str] = "Sequential"

    @explained
    def __init__(
        self,
        layers: Sequence[Layer | Symbol] = (),
        *,
        seed: int | np.random.Generator | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        name: str | None = None,
    ) -> None:
        self._begin(seed, dtype, device, name)
        self._stack: list[Layer] = []
        known: set[int] = set()
        for layer in layers:
            self._append(layer, known)
        self._try_build()

    @classmethod
    def _of(cls, state: TrainingState, name: str, architecture: Architecture) -> Self:
        if not architecture.is_chain:
            raise ValueError("a Sequential is a chain of layers, each on the one before")
        model = super()._of(state, name, architecture)
        model._stack = list(architecture.layers)
        return model

    def add(self, layer: Layer | Symbol) -> None:
        """Add a layer at the end, unless the model is both compiled and built."""
        if self._state.compiled is not None and self.built:
            raise RuntimeError("layers can be added only before compile, or before the model is built")
        self._append(layer, {id(one) for one in self._stack})
        try:
            self._try_build()
        except BaseException:
            self._stack.pop()
            raise

    def _append(self, layer: Layer | Symbol, known: set[int]) -> None:
        """Add a layer at the end; `known` has the ids of the layers before it."""
        if isinstance(layer, Symbol) and not layer.inputs:
            layer = layer.layer
        if not isinstance(layer, Layer):
            raise TypeError(f"expected a layer, got {layer!r}")
        if isinstance(layer, InputLayer) and self._stack:
            raise ValueError("an Input must come first in a Sequential")
        if id(layer) in known:
            raise ValueError(f"layer {layer.label!r} is in the list twice; use fastnn.Model to share weights")
        if layer.arity[0] > 1:
            raise ValueError(f"layer {layer.label!r} takes several inputs: use fastnn.Model")
        known.add(id(layer))
        self._stack.append(layer)

    def _try_build(self) -> None:
        if len(self._stack) > 1 and isinstance(self._stack[0], InputLayer):
            self.build(self._stack[0].shape)

    @property
    def layers(self) -> list[Layer]:
        """The layers, without an input."""
        return [layer for layer in self._stack if not isinstance(layer, InputLayer)]

    def build(self, input_shape: Sequence[int | None] | int) -> None:
        """Make the weights for an input shape.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one sample, optionally with a leading None for the batch axis.

        Raises
        ------
        ValueError
            When a layer cannot take its input, or the model is already built for another shape.
        """
        if isinstance(input_shape, Sequence) and len(input_shape) > 0 and input_shape[0] is None:
            input_shape = input_shape[1:]
        shape = shape_of("input_shape", input_shape)
        layers = self.layers
        if not layers:
            raise ValueError("a Sequential needs at least one layer")
        first = self._stack[0] if isinstance(self._stack[0], InputLayer) else None
        if first is not None and first.shape != shape:
            raise ValueError(f"the model starts with an Input of shape {first.shape}, got input_shape {shape}")
        dtype = None if layers[0].accepts("real", 0) else "int64"
        start = Input(shape, dtype=dtype) if first is None else first.start()
        symbol = start
        for layer in layers:
            symbol = layer(symbol)
        if self.built and self._architecture.input_shapes == (shape,):
            if len(self._architecture.layers) == len(layers) + 1:
                return
        elif self.built and self._state.compiled is not None:
            raise ValueError(f"the model is built for {self._architecture.input_shapes[0]}, got {shape}")
        self._realize(Architecture.of([start], [symbol]))

    def _build_on(self, symbol: Symbol) -> None:
        self.build(symbol.shape)

    def summary(self, batch_size: int = 32) -> None:
        """Print what `Model.summary` does, or only the layers while the input shape is unknown."""
        if self.built:
            super().summary(batch_size)
        else:
            print(inspection.unbuilt(self._title, self.layers))

    def _build_for(self, x: Any) -> None:
        if self.built:
            return
        array = as_array(only(x), "x")
        if array.ndim == 0:
            raise ValueError("x: expected an array of rows, got a single number")
        # a row of numbers is a sample of one column; of integers, a sample is one
        single: tuple[int, ...] = (1,) if not self.layers or self.layers[0].accepts("real", 0) else ()
        self.build(array.shape[1:] if array.ndim > 1 else single)
