"""Inner results of a model as symbols, with the model's own weights."""

from __future__ import annotations

from typing import Any

from fastnn import ops
from fastnn.activations import LogSoftmax, Softmax
from fastnn.layers import Activation, Dense, Input
from fastnn.layers.base import Layer
from fastnn.layers.symbols import Symbol
from fastnn.model import Model


def checked(what: str, model: Any) -> Model:
    """Return a model, which has to be built.

    Raises
    ------
    TypeError, ValueError
        If it is none, or has no weights yet.
    """
    if not isinstance(model, Model):
        raise TypeError(f"{what}: model: expected a fastnn.Model, got {type(model).__name__}")
    if not model.built:
        raise ValueError(f"{what}: model {model.name!r} has no shapes and weights yet: begin it with fastnn.Input")
    return model


def layer_of(what: str, model: Model, layer: str | Layer) -> Layer:
    """Return a layer of a model, given by its name or itself.

    Raises
    ------
    TypeError, ValueError
        If the model does not have it; the message names those that there are.
    """
    names = [one.label for one in model.layers]
    if isinstance(layer, str):
        try:
            found = model.get_layer(layer)
        except ValueError as error:
            raise ValueError(f"{what}: layer: {error}") from None
        if isinstance(found, Model):
            raise ValueError(f"{what}: layer: {layer!r} is a model: name one of its layers, as in '{layer}/name'")
    elif isinstance(layer, Layer):
        found = layer
    else:
        raise TypeError(f"{what}: layer: expected a layer of the model or its name, got {type(layer).__name__}")
    if not any(found is one for one in model.layers):
        raise ValueError(f"{what}: layer: {layer!r} is no layer of the model; those are {names}")
    return found  # type: ignore[no-any-return]


class Inside:
    """A model called on new inputs: its inner symbols have the model's weights.

    Attributes
    ----------
    inputs, outputs : list of Symbol
    """

    def __init__(self, what: str, model: Any) -> None:
        self._what, self._model = what, checked(what, model)
        self.inputs = [
            Input(symbol.shape, dtype=None if symbol.kind == "real" else symbol.kind, name=name)
            for symbol, name in zip(self._model.inputs, self._model.input_names, strict=True)
        ]
        made = self._model(self.inputs)
        self.outputs: list[Symbol] = list(made) if isinstance(made, list) else [made]

    @property
    def only_input(self) -> Symbol:
        """The input of a model that has one, of numbers.

        Raises
        ------
        ValueError
            If the model has several, or its input holds integers.
        """
        if len(self.inputs) > 1 or self.inputs[0].kind != "real":
            raise ValueError(
                f"{self._what}: expected a model of one input of numbers; the inputs of {self._model.name!r} are "
                f"{self.inputs}"
            )
        return self.inputs[0]

    @property
    def sized_input(self) -> Symbol:
        """The input of a model that has one, of numbers, without open sizes; raises ValueError otherwise."""
        found = self.only_input
        if None in found.shape:
            known = tuple([100 if size is None else size for size in found.shape])
            raise ValueError(
                f"{self._what}: expected inputs of a known size, the model leaves some open: {found.shape}; with "
                f"x = fastnn.Input({known}), fastnn.Model(x, model(x)) has the same weights"
            )
        return found

    def result(self, layer: str | Layer) -> Symbol:
        """Return the output of a layer; of one that is called several times the last.

        Raises
        ------
        TypeError, ValueError
            If the model does not have the layer, or it has several outputs.
        """
        chosen = layer_of(self._what, self._model, layer)
        found = [one for one in ordered(self.outputs) if one.layer is chosen and one.weight is None]
        if not found:
            raise ValueError(f"{self._what}: layer: no output of {self._model.name!r} depends on {layer!r}")
        if len(found[-1].together) > 1:
            raise ValueError(f"{self._what}: layer: {layer!r} has {len(found[-1].together)} outputs, expected one")
        return found[-1]

    def scores(self, y: Symbol, logits: bool) -> Symbol:
        """Return what a softmax was applied to, if `logits` is set and y is the result of one; else y.

        Raises
        ------
        ValueError
            If the softmax is part of a layer that is neither `Dense` nor `Activation`.
        """
        layer: Any = y.layer
        if not logits or not isinstance(getattr(layer, "activation", None), (Softmax, LogSoftmax)):
            return y
        if isinstance(layer, Activation):
            return y.inputs[0]
        if not isinstance(layer, Dense):
            raise ValueError(
                f"{self._what}: cannot take the scores before the softmax of {layer.label!r}, a "
                f"{type(layer).__name__}: make the softmax a layer of its own, or give logits=False"
            )
        found: Symbol = ops.matmul(y.inputs[0], layer.weight_symbol(0, y.part))
        if layer.use_bias:
            found = found + layer.weight_symbol(1, y.part)
        return found


def ordered(outputs: list[Symbol]) -> list[Symbol]:
    """Return all symbols that outputs depend on, each after those that it is made of."""
    order: list[Symbol] = []
    seen: set[int] = set()
    stack = [(symbol, False) for symbol in reversed(outputs)]
    while stack:
        symbol, ready = stack.pop()
        if ready:
            order.append(symbol)
        elif id(symbol) not in seen:
            seen.add(id(symbol))
            stack.append((symbol, True))
            stack.extend((x, False) for x in reversed(symbol.inputs))
    return order
