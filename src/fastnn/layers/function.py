"""Layers that are functions of symbols."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from fastnn.checks import shorten
from fastnn.config import register
from fastnn.layers.base import Layer
from fastnn.layers.tracing import takes

__all__ = ["Function", "SymbolFunction"]


@register("function")
@dataclass(frozen=True, repr=False)
class SymbolFunction:
    """A function of symbols with a name, by which saved models refer to it.

    Parameters
    ----------
    function : function
    name : str, optional
        The function's by default.
    """

    function: Callable[..., Any]
    name: str = ""
    is_custom: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not callable(self.function) or isinstance(self.function, type):
            raise TypeError(f"function: expected a function of symbols, got {shorten(self.function)}")
        name = self.name or getattr(self.function, "__name__", type(self.function).__name__)
        object.__setattr__(self, "name", name)

    def __repr__(self) -> str:
        """Show only the name, because functions show addresses."""
        return self.name


@register("layer")
@dataclass(eq=False, repr=False)
class Function(Layer):
    """A layer without weights from a function of symbols.

    ::

        scaled = fnn.layers.Function(lambda x: x / (1.0 + fnn.ops.norm(x, axis=-1, keepdims=True)))

    Parameters
    ----------
    function : function
        Takes as many symbols as the layer has inputs, and returns a symbol or a tuple of them, made by operators and
        functions of `fastnn.ops`. For these the batch axis is the first axis. If it has a parameter ``training``, this
        says whether the model is being trained.

    Notes
    -----
    The function is called whenever a program is made, not for each batch. Saved models contain only its name: pass it
    to `fastnn.load`, as in ``custom_objects={"scale": scale}``. A layer with weights is a subclass of
    `fastnn.layers.Layer` that defines ``call``.
    """

    function: Callable[..., Any] | SymbolFunction
    arity = (1, None)

    def prepare(self) -> None:
        if not isinstance(self.function, SymbolFunction):
            self.function = SymbolFunction(self.function)
        try:
            given = inspect.signature(self.function.function).parameters.values()
        except (TypeError, ValueError):
            return
        positional = [one for one in given if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
        positional = [one for one in positional if one.name != "training"]
        least = sum(one.default is one.empty for one in positional)
        most = None if any(one.kind is one.VAR_POSITIONAL for one in given) else len(positional)
        object.__setattr__(self, "arity", (least, most))

    @property
    def word(self) -> str:
        """What a model names the layer after: the function."""
        name = self.function.name if isinstance(self.function, SymbolFunction) else ""
        return name if name.isidentifier() else "function"

    def call(self, *inputs: Any, training: bool) -> Any:
        """Call the function on symbols."""
        assert isinstance(self.function, SymbolFunction)
        function = self.function.function
        return function(*inputs, training=training) if takes(function, "training") else function(*inputs)
