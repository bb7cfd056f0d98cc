"""Positions without weights: SinePositionEncoding, and RotaryEmbedding of queries and keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastnn.checks import number
from fastnn.config import register
from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.reductions import broadcast_to
from fastnn.graph.ops.sequences.rotary import angles, rotary
from fastnn.graph.ops.strided import flip, getitem, reshape, swapaxes
from fastnn.layers.base import Layer, Scope, Shape

__all__ = ["RotaryEmbedding", "SinePositionEncoding"]


class _Positions(Layer):
    """Takes sequences, and optionally the position of each step."""

    arity = (1, 2)
    passes_mask = True

    max_wavelength: float

    def prepare(self) -> None:
        self.max_wavelength = number("max_wavelength", self.max_wavelength, above=1.0)

    def accepts(self, kind: str, position: int) -> bool:
        return kind == ("real", "int64")[position]

    def _check(self, axes: str, shapes: Sequence[Shape]) -> None:
        """Raise unless sequences have some axes, and positions fit them."""
        if len(shapes[0]) != len(axes.split(", ")):
            raise self.fail(f"takes samples of shape ({axes}), got {shapes[0]}")
        if len(shapes) > 1 and shapes[1] != shapes[0][:1]:
            raise self.fail(f"takes positions of samples of shape {shapes[0][:1]}, got {shapes[1]}")


@register("layer")
@dataclass(eq=False, repr=False)
class SinePositionEncoding(_Positions):
    """Give sines and cosines for every place in a sequence, as KerasHub's layer does.

    ::

        words = fnn.Embedding(1000, 64)(fnn.Input(20, dtype="int64"))
        x = fnn.Add()([words, fnn.SinePositionEncoding()(words)])

    It is called on a sequence, or on [sequence, positions], integers of samples of shape (steps,). Without positions
    steps have the places 0, 1, 2, ...

    Parameters
    ----------
    max_wavelength : float
        Number L of the formula: the slowest sine has almost the period 2 pi L.

    Raises
    ------
    TypeError, ValueError
        When the argument is no number above 1, or shapes do not fit.

    Notes
    -----
    The input has shape (steps, features), and so has the result: columns 2 i and 2 i + 1 are the sine and the cosine of
    position L^(-2 i / features). Vaswani et al. 2017, "Attention is all you need", arXiv:1706.03762. Angles are
    computed in float64. The numbers of the input have no influence. The result has the mask of the sequence.
    """

    max_wavelength: float = 10000.0

    def output_shape(self, *shapes: Shape) -> Shape:
        self._check("steps, features", shapes)
        return shapes[0]

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        x, label = inputs[0], scope.label
        steps, features = x.shape
        positions = inputs[1] if len(inputs) > 1 else steps
        table = angles(graph, positions, features, label, wavelength=self.max_wavelength)
        # cosines and sines, one after the other, become pairs of a sine and a cosine
        pairs = swapaxes(graph, flip(graph, table, -2, label), -1, -2, label)
        columns = reshape(graph, pairs, (*pairs.whole[:-2], 2 * pairs.whole[-2]), label)
        if features % 2:
            columns = getitem(graph, columns, (..., slice(0, features)), label)
        return columns if columns.batched else broadcast_to(graph, columns, (BATCH, *x.shape), label)


@register("layer")
@dataclass(eq=False, repr=False)
class RotaryEmbedding(_Positions):
    """Rotate pairs of numbers by angles that grow with the place in a sequence (Su et al. 2021, arXiv:2104.09864).

    ::

        x = fnn.Input((20, 4, 16))  # queries or keys of 4 heads
        y = fnn.RotaryEmbedding()(x)

    It is called on a sequence, or on [sequence, positions], integers of samples of shape (steps,). Without positions
    steps have the places 0, 1, 2, ... Attention layers do the same with queries and keys: ``rotary=10000.0``.

    Parameters
    ----------
    max_wavelength : float
        Number L of the formula: the slowest pair makes almost a turn in 2 pi L steps.
    scaling_factor : float
        What positions are divided by.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid, the size is odd, or shapes do not fit.

    Notes
    -----
    The input has shape (steps, heads, size), and so has the result. The numbers a = x[i] and b = x[i + size / 2] of a
    step become a cos(t) - b sin(t) and b cos(t) + a sin(t), where t = position / scaling_factor L^(-2 i / size). These
    are the pairs of LLaMA in transformers and of KerasHub's layer; the paper, and LLaMA's own code, have neighbours. A
    network does the same with either if columns of the kernels of queries and keys are in the other order. Angles are
    computed in float64, and a position has the same bits in all sequences. The product of a query and a key depends on
    the difference of their positions alone.
    """

    max_wavelength: float = 10000.0
    scaling_factor: float = 1.0

    def prepare(self) -> None:
        super().prepare()
        self.scaling_factor = number("scaling_factor", self.scaling_factor, above=0.0)

    def output_shape(self, *shapes: Shape) -> Shape:
        self._check("steps, heads, size", shapes)
        if shapes[0][2] % 2:
            raise self.fail(f"rotates pairs, got samples of an odd size: {shapes[0]}")
        return shapes[0]

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        positions = inputs[1] if len(inputs) > 1 else None
        return rotary(
            graph, inputs[0], positions, scope.label, wavelength=self.max_wavelength, scale=1.0 / self.scaling_factor
        )
