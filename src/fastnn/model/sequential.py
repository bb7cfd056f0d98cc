"""Sequential: a model that is a list of layers and models; its input shape may become known later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from fastnn.data.arrays import as_array
from fastnn.data.kinds import only
from fastnn.hints import explained
from fastnn.layers.architecture import Architecture, inherited, masks_of
from fastnn.layers.base import Layer, shape_of
from fastnn.layers.core import Input, InputLayer
from fastnn.layers.symbols import Symbol
from fastnn.model import inspection
from fastnn.model.model import Model
from fastnn.training.state import TrainingState, state_of


class Sequential(Model):
    """A stack of layers and models, each with one input and one output.

    ::

        model = fnn.Sequential([fnn.Dense(128, activation="relu"), fnn.Dense(10, activation="softmax")], seed=0)
        model.compile(optimizer="adam", loss="cross_entropy", metrics=["accuracy"])
        model.fit(x, y, batch_size=32, epochs=20)
        model.predict(x_new)

    Parameters
    ----------
    layers : list of Layer or Model
        May start with `fastnn.Input(shape)`, or with a model that has an input shape: then the weights exist at once.
        Otherwise the input shape comes from `build`, or from the first data that the model is trained on. The weights
        of models are shared, as in ``fnn.Model(x, decoder(encoder(x)))``; models without weights get them when the
        whole is built.
    seed, dtype, device, name
        As for `fastnn.Model`.

    Raises
    ------
    TypeError, ValueError
        When an element is neither a layer nor a model, or shapes do not fit (the message names the layer).
    """

    _kind: ClassVar[str] = "Sequential"

    @explained
    def __init__(
        self,
        layers: Sequence[Layer | Model | Symbol] = (),
        *,
        seed: int | np.random.Generator | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        name: str | None = None,
    ) -> None:
        self._begin(seed, dtype, device, name)
        self._stack: list[Layer | Model] = []
        known: set[int] = set()
        for layer in layers:
            self._append(layer, known)
        self._try_build()

    def _take_architecture(self, state: TrainingState, name: str, architecture: Architecture) -> None:
        stack: list[Layer | Model] = []
        bare = architecture.bare()
        for number in _chained(bare):
            layer, part = bare.layers[number], bare.parts[number]
            if part is None:
                stack.append(layer)
            elif not stack or stack[-1] is not part.model:
                stack.append(part.model)
        plain = bare.is_chain and not any(bare.parts)
        if not plain and not _gives(stack, bare):
            raise ValueError("a Sequential is a chain of layers and models, each on the one before")
        super()._take_architecture(state, name, architecture)
        self._stack = stack

    def add(self, layer: Layer | Model | Symbol) -> None:
        """Add a layer or a model at the end, unless the whole is both compiled and built."""
        if self._state.compiled is not None and self.built:
            raise RuntimeError("layers can be added only before compile, or before the model is built")
        if self.built and any(extra.role != "mask" for extra in self._architecture.extras):
            raise RuntimeError("layers can be added only before add_loss and add_metric")
        self._append(layer, {id(one) for element in self._stack for one in _layers_of(element)})
        try:
            self._try_build()
        except BaseException:
            self._stack.pop()
            raise

    def _append(self, layer: Layer | Model | Symbol, known: set[int]) -> None:
        """Add an element at the end; `known` has the ids of the layers before it."""
        if isinstance(layer, Symbol) and not layer.inputs:
            layer = layer.layer
        if not isinstance(layer, (Layer, Model)):
            raise TypeError(f"expected a layer or a model, got {layer!r}")
        if isinstance(layer, InputLayer) and self._stack:
            raise ValueError("an Input must come first in a Sequential")
        what = "layer" if isinstance(layer, Layer) else "model"
        label = layer.label if isinstance(layer, Layer) else layer.name
        if any(one is self for one in _models_in(layer)):
            raise ValueError(f"the model {label!r} cannot contain itself")
        if _inputs_of(layer) > 1:
            raise ValueError(f"{what} {label!r} takes several inputs: use fastnn.Model")
        if _outputs_of(layer) > 1:
            raise ValueError(f"{what} {label!r} gives several outputs: use fastnn.Model")
        if isinstance(layer, Model) and any(one is layer for one in self._stack):
            raise ValueError(f"model {label!r} is in the list twice; use fastnn.Model to share weights")
        _check_once(_layers_of(layer), known)
        self._stack.append(layer)

    def _try_build(self) -> None:
        """Make the weights if the input shape is known."""
        first = self._stack[0] if self._stack else None
        if self.built:
            self._build(self._architecture.input_shapes[0])
        elif isinstance(first, InputLayer) and len(self._stack) > 1:
            self._build(first.shape)
        elif isinstance(first, Model) and first.built:
            self._build(_architecture_of(first).input_shapes[0])

    @property
    def layers(self) -> list[Layer]:
        """The layers in order of use, those of its models among them, without inputs."""
        return [layer for element in self._stack for layer in _layers_of(element) if not isinstance(layer, InputLayer)]

    def build(self, input_shape: Sequence[int | None] | int) -> None:
        """Make the weights for an input shape.

        Parameters
        ----------
        input_shape : tuple of int or None
            Shape of one sample, optionally with a leading None for the batch axis. Further ones are sizes that are left
            open, as in `fastnn.Input`: ``build((None, None, 64))``.

        Raises
        ------
        ValueError
            When a layer cannot take its input, or the model is already built for another shape.
        """
        if isinstance(input_shape, Sequence) and len(input_shape) > 0 and input_shape[0] is None:
            input_shape = input_shape[1:]
        self._build(input_shape)

    def _build(self, input_shape: Sequence[int | None] | int) -> None:
        """Make the weights for the shape of a sample."""
        shape = shape_of("input_shape", input_shape, may_be_open=True)
        first = self._stack[0] if self._stack and isinstance(self._stack[0], InputLayer) else None
        elements = self._stack if first is None else self._stack[1:]
        if not elements:
            raise ValueError("a Sequential needs at least one layer")
        layers = self.layers
        _check_once(layers, set())
        if first is not None and first.shape != shape:
            raise ValueError(f"the model starts with an Input of shape {first.shape}, got input_shape {shape}")
        start = Input(shape, dtype=None if self._takes_numbers else "int64") if first is None else first.start()
        symbol = start
        for element in elements:
            symbol = element(symbol)
            if not isinstance(symbol, Symbol):
                label = element.label if isinstance(element, Layer) else element.name
                raise ValueError(f"{label!r} gives several outputs: use fastnn.Model")
        if self.built and self._architecture.input_shapes == (shape,):
            if len(self._architecture.bare().layers) == len(layers) + 1:
                return
        elif self.built and self._state.compiled is not None:
            raise ValueError(f"the model is built for {self._architecture.input_shapes[0]}, got {shape}")
        extras = [*inherited([start], [symbol]), *masks_of([symbol])]
        self._realize(Architecture.of([start], [symbol], extras))
        self._ends = [[start], [symbol], extras]

    @property
    def _takes_numbers(self) -> bool:
        """Whether its input may be numbers, or is integers alone; only of interest where it does not start with one."""
        first = self._stack[0] if self._stack else None
        if isinstance(first, Sequential) and not first.built:
            return first._takes_numbers
        if isinstance(first, Model):
            return not _architecture_of(first).takes_integers
        return first is None or isinstance(first, InputLayer) or first.accepts("real", 0)

    def _build_on(self, symbol: Symbol) -> None:
        self._build(symbol.shape)

    def summary(self, batch_size: int = 32) -> None:
        """Print what `Model.summary` does, or only the layers while the input shape is unknown."""
        if self.built:
            super().summary(batch_size)
        else:
            print(inspection.unbuilt(self._title, self._named_layers()))

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        return super()._rows if self.built else inspection.unbuilt_rows(self._named_layers())

    def _named_layers(self) -> list[tuple[str, Layer]]:
        """Return the layers with names to show, which begin with those of the models."""
        found: list[tuple[str, Layer]] = []
        for element in self._stack:
            if isinstance(element, Sequential):
                found += [(f"{element.name}/{name}", layer) for name, layer in element._named_layers()]
            elif isinstance(element, Model):
                found += [(f"{element.name}/{layer.label}", layer) for layer in element.layers]
            elif not isinstance(element, InputLayer):
                found.append((element.label, element))
        return found

    def _build_for(self, x: Any) -> None:
        if self.built:
            return
        array = as_array(only(x), "x")
        if array.ndim == 0:
            raise ValueError("x: expected an array of rows, got a single number")
        # a row of numbers is a sample of one column; of integers, a sample is one
        self.build(array.shape[1:] if array.ndim > 1 else (1,) if self._takes_numbers else ())


def _models_in(element: Layer | Model) -> Iterator[Model]:
    """Yield a model, and those that an unbuilt one contains."""
    if isinstance(element, Model):
        yield element
        if isinstance(element, Sequential) and not element.built:
            for one in element._stack:
                yield from _models_in(one)


def _check_once(layers: Sequence[Layer], known: set[int]) -> None:
    """Raise ValueError if a layer is there twice or its id is known; adds the ids to those that are known."""
    for layer in layers:
        if id(layer) in known:
            raise ValueError(f"layer {layer.label!r} is in the list twice; use fastnn.Model to share weights")
        known.add(id(layer))


def _architecture_of(model: Model) -> Architecture:
    """Return the architecture of a built model."""
    return state_of(model).runtime.table.architecture


def _layers_of(element: Layer | Model) -> list[Layer]:
    """Return a layer, or those of a model, in a list."""
    return [element] if isinstance(element, Layer) else element.layers


def _inputs_of(element: Layer | Model) -> int:
    """Return the least number of inputs."""
    if isinstance(element, Layer):
        return element.arity[0]
    return len(_architecture_of(element).inputs) if element.built else 1


def _outputs_of(element: Layer | Model) -> int:
    """Return the number of outputs, as far as it is known."""
    return len(_architecture_of(element).outputs) if isinstance(element, Model) and element.built else 1


def _chained(architecture: Architecture) -> list[int]:
    """Return the numbers of layers from the input to the output: without those that calls make of masks."""
    if len(architecture.outputs) != 1:
        return []
    calls, found = architecture.calls, [architecture.outputs[0]]
    while calls[found[-1]].inputs:
        found.append(calls[found[-1]].inputs[0])
    on_the_way = {calls[call].layer for call in found}
    return [number for number, part in enumerate(architecture.parts) if number in on_the_way or part is not None]


def _gives(stack: Sequence[Layer | Model], architecture: Architecture) -> bool:
    """Return whether a stack is what an architecture was made of: no layer or model may be called in another way."""
    if not stack or not isinstance(stack[0], InputLayer):
        return False
    start = symbol = stack[0].start()
    for element in stack[1:]:
        if isinstance(element, InputLayer) or _inputs_of(element) != 1 or _outputs_of(element) != 1:
            return False
        symbol = element(symbol)
        if not isinstance(symbol, Symbol):
            return False
    made = Architecture.of([start], [symbol])
    pairs = zip(made.layers, architecture.layers, strict=False)
    known = {id(layer) for element in stack for layer in _layers_of(element)}
    if not all(one is other or (not ({id(one), id(other)} & known) and _alike(one, other)) for one, other in pairs):
        return False
    return replace(made, layers=architecture.layers, labels=architecture.labels) == architecture


def _alike(one: Layer, other: Layer) -> bool:
    """Return whether two layers that calls make of masks do the same."""
    return type(one) is type(other) and {**one.config(), "name": None} == {**other.config(), "name": None}
