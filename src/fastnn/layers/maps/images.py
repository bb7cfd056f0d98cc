"""Layers that change the sizes of maps: ZeroPadding, Cropping, UpSampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastnn.checks import integer, shorten
from fastnn.config import register
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.joins import pad, repeat
from fastnn.graph.ops.resizing import magnify
from fastnn.graph.ops.strided import sliced
from fastnn.layers.base import Scope, Shape
from fastnn.layers.maps.windows import Windows, choice, each_axis

__all__ = [
    "Cropping2D",
    "Cropping3D",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
]

Pairs = tuple[tuple[int, int], ...]


def _pairs(name: str, given: Any, rank: int) -> Pairs:
    """Return (before, after) for each axis: from one number, one for each axis, or a pair for each.

    Raises
    ------
    TypeError, ValueError
        If they are something else.
    """
    if not isinstance(given, (tuple, list)):
        given = (given,) * rank
    elif rank == 1 and len(given) == 2 and not isinstance(given[0], (tuple, list)):
        given = (given,)  # (before, after) of the only axis
    if len(given) != rank:
        raise ValueError(f"{name}: expected an integer, or {rank} integers or pairs of them, got {shorten(given)}")
    found = []
    for axis, each in enumerate(given):
        pair = each if isinstance(each, (tuple, list)) else (each, each)
        if len(pair) != 2:
            raise ValueError(f"{name}[{axis}]: expected an integer or two, got {shorten(each)}")
        found.append(tuple(integer(f"{name}[{axis}]", number, at_least=0) for number in pair))
    return tuple(found)  # type: ignore[arg-type]


class _Sized(Windows):
    """A layer that changes the sizes of the axes of maps, each by itself."""

    def changed(self, size: int, number: int) -> int:
        """Return the new size of the axis of a number."""
        raise NotImplementedError

    def output_shape(self, *shapes: Shape) -> Shape:
        *sizes, channels = self.sizes(shapes[0])
        return self.ordered((*(self.changed(size, number) for number, size in enumerate(sizes)), channels))


@register("layer")
@dataclass(eq=False, repr=False)
class ZeroPadding2D(_Sized):
    """Put zeros around images.

    ::

        fnn.ZeroPadding2D(((0, 1), (0, 1)))

    Parameters
    ----------
    padding : int, tuple of two int, or tuple of two pairs
        How many rows and columns: as many on all sides, on both sides of each axis, or (before, after) for each axis.
    data_format : {"channels_last", "channels_first"}
        Where the channels are; see `Conv2D`.

    Notes
    -----
    A convolution that follows reads the image without a copy, as with a padding of its own.
    """

    padding: int | Sequence[Any] = 1
    data_format: str | None = None

    def prepare(self) -> None:
        super().prepare()
        self.padding = _pairs("padding", self.padding, self.rank)

    def changed(self, size: int, number: int) -> int:
        return size + sum(self.pairs[number])

    @property
    def pairs(self) -> Pairs:
        """(before, after) for each axis."""
        return tuple(self.padding)  # type: ignore[arg-type]

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        (x,) = inputs
        pairs = [(0, 0)] * (len(x.shape) + 1)
        for axis, pair in zip(self.batch_axes, self.pairs, strict=True):
            pairs[axis] = pair
        return pad(graph, x, pairs, scope.label)


@register("layer")
@dataclass(eq=False, repr=False)
class ZeroPadding1D(ZeroPadding2D):
    """Put zeros before and after sequences: as many of both, or (before, after); see `ZeroPadding2D`.

    ::

        fnn.ZeroPadding1D((2, 0))
    """

    rank = 1


@register("layer")
@dataclass(eq=False, repr=False)
class ZeroPadding3D(ZeroPadding2D):
    """Put zeros around volumes; the arguments are those of `ZeroPadding2D`, for three axes.

    ::

        fnn.ZeroPadding3D(1)
    """

    rank = 3


@register("layer")
@dataclass(eq=False, repr=False)
class Cropping2D(_Sized):
    """Leave out the outer rows and columns of images.

    ::

        fnn.Cropping2D(((2, 2), (4, 4)))

    Parameters
    ----------
    cropping : int, tuple of two int, or tuple of two pairs
        How many rows and columns: as many on all sides, on both sides of each axis, or (before, after) for each axis.
    data_format : {"channels_last", "channels_first"}
        Where the channels are; see `Conv2D`.
    """

    cropping: int | Sequence[Any] = 0
    data_format: str | None = None

    def prepare(self) -> None:
        super().prepare()
        self.cropping = _pairs("cropping", self.cropping, self.rank)

    def changed(self, size: int, number: int) -> int:
        if size <= sum(self.pairs[number]):
            raise self.fail(f"leaves nothing of an axis of {size} with cropping {self.cropping}")
        return size - sum(self.pairs[number])

    @property
    def pairs(self) -> Pairs:
        """(before, after) for each axis."""
        return tuple(self.cropping)  # type: ignore[arg-type]

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        (x,) = inputs
        ranges = [(0, 1, size) for size in x.whole]
        for number, axis in enumerate(self.batch_axes):
            ranges[axis] = (self.pairs[number][0], 1, self.changed(x.shape[axis - 1], number))
        return sliced(graph, x, ranges, [count for _, _, count in ranges], scope.label)


@register("layer")
@dataclass(eq=False, repr=False)
class Cropping3D(Cropping2D):
    """Leave out the outer entries of volumes; the arguments are those of `Cropping2D`, for three axes.

    ::

        fnn.Cropping3D(1)
    """

    cropping: int | Sequence[Any] = 1
    rank = 3


@register("layer")
@dataclass(eq=False, repr=False)
class UpSampling2D(_Sized):
    """Make images larger, without weights.

    ::

        fnn.UpSampling2D(2, interpolation="bilinear")

    Parameters
    ----------
    size : int or tuple of two int
        How many times as high and as wide.
    data_format : {"channels_last", "channels_first"}
        Where the channels are; see `Conv2D`.
    interpolation : {"nearest", "bilinear"}
        Whether pixels are repeated, or new ones lie on lines between the centres of their neighbours; beyond the outer
        centres they are those of the edge.
    """

    size: int | Sequence[int] = 2
    data_format: str | None = None
    interpolation: str = "nearest"

    def prepare(self) -> None:
        super().prepare()
        self.size = each_axis("size", self.size, self.rank)
        self.interpolation = choice("interpolation", self.interpolation, ("nearest", "bilinear"))

    def changed(self, size: int, number: int) -> int:
        return size * self.times[number]

    @property
    def times(self) -> Shape:
        """How many times as large, along each axis."""
        return tuple(self.size)  # type: ignore[arg-type]

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        (x,) = inputs
        larger = repeat if self.interpolation == "nearest" else magnify
        for axis, times in zip(self.batch_axes, self.times, strict=True):
            if times > 1:
                x = larger(graph, x, times, axis, scope.label)
        return x


@register("layer")
@dataclass(eq=False, repr=False)
class UpSampling1D(_Sized):
    """Repeat every step of sequences.

    ::

        fnn.UpSampling1D(2)

    Parameters
    ----------
    size : int
        How often.
    """

    size: int | Sequence[int] = 2
    data_format = None
    rank = 1

    def prepare(self) -> None:
        super().prepare()
        self.size = each_axis("size", self.size, 1)[0]

    def changed(self, size: int, number: int) -> int:
        assert isinstance(self.size, int)
        return size * self.size

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        assert isinstance(self.size, int)
        self.sizes(inputs[0].shape)
        return repeat(graph, inputs[0], self.size, 1, scope.label)


@register("layer")
@dataclass(eq=False, repr=False)
class UpSampling3D(UpSampling2D):
    """Make volumes larger; the arguments are those of `UpSampling2D`, for three axes.

    ::

        fnn.UpSampling3D(2)
    """

    rank = 3
