"""What layers share whose windows slide over maps: the checks of their arguments, and the order of the axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.checks import LARGEST, integer, shorten
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.moves import permute
from fastnn.layers.base import Layer, Scope, Shape

CHANNELS = ("channels_last", "channels_first")
AXES = {1: "(steps, channels)", 2: "(height, width, channels)", 3: "(depth, height, width, channels)"}


def each_axis(name: str, given: Any, rank: int, at_least: int = 1) -> Shape:
    """Return a number for each axis; an integer stands for all of them.

    Raises
    ------
    TypeError, ValueError
        If they are not so many integers of at least that size.
    """
    if not isinstance(given, (tuple, list)):
        return (integer(name, given, at_least=at_least, at_most=LARGEST),) * rank
    if len(given) != rank:
        raise ValueError(f"{name}: expected an integer, or {rank} of them, got {shorten(given)}")
    return tuple(
        integer(f"{name}[{axis}]", each, at_least=at_least, at_most=LARGEST) for axis, each in enumerate(given)
    )


def choice(name: str, given: Any, choices: Sequence[str]) -> str:
    """Return one of several words.

    Raises
    ------
    ValueError
        If it is none of them.
    """
    if not isinstance(given, str) or given.lower() not in choices:
        raise ValueError(f"{name}: expected {' or '.join(map(repr, choices))}, got {shorten(given)}")
    return given.lower()


class Windows(Layer):
    """A layer whose samples are maps of `rank` axes and channels, which come last or first."""

    rank: int = 2
    data_format: str | None

    def prepare(self) -> None:
        self.data_format = choice(
            "data_format", CHANNELS[0] if self.data_format is None else self.data_format, CHANNELS
        )

    def sizes(self, shape: Shape) -> Shape:
        """Return the sizes of a sample's axes and of its channels, which come last.

        Raises
        ------
        ValueError
            If the sample has another number of axes.
        """
        if len(shape) != self.rank + 1:
            order = AXES[self.rank] if self.data_format == CHANNELS[0] else "(channels, " + AXES[self.rank][1:].replace(
                ", channels)", ")"
            )  # fmt: skip
            raise self.fail(f"takes samples of shape {order}, got {shape}")
        return shape if self.data_format == CHANNELS[0] else (*shape[1:], shape[0])

    def ordered(self, shape: Shape) -> Shape:
        """Return a shape whose channels are last in the layer's own order."""
        return shape if self.data_format == CHANNELS[0] else (shape[-1], *shape[:-1])

    @property
    def batch_axes(self) -> tuple[int, ...]:
        """The axes of a batch along which windows slide: all but that of the samples and that of the channels."""
        first = 1 if self.data_format == CHANNELS[0] else 2
        return tuple(range(first, first + self.rank))

    def channels_last(self, graph: Graph, x: Tensor, scope: Scope) -> Tensor:
        """Bring the channels behind the other axes."""
        if self.data_format == CHANNELS[0]:
            return x
        return permute(graph, x, [*range(1, self.rank + 1), 0], scope.label)

    def own_order(self, graph: Graph, y: Tensor, scope: Scope) -> Tensor:
        """Bring the channels back to where the layer has them."""
        if self.data_format == CHANNELS[0] or len(y.shape) == 1:
            return y
        return permute(graph, y, [len(y.shape) - 1, *range(len(y.shape) - 1)], scope.label)

    def fitting(self, make: Any, *arguments: Any) -> Any:
        """Call a function whose error gets the layer's name.

        Raises
        ------
        ValueError
            That of the function, if a window does not fit.
        """
        try:
            return make(*arguments)
        except ValueError as error:
            raise self.fail(str(error)) from None
