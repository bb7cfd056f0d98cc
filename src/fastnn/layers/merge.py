"""Layers that join several inputs: Add, Multiply, Concatenate, MatMul, Dot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastnn.checks import flag, integer, number, shorten
from fastnn.config import register
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.dense import batched_matmul
from fastnn.graph.ops.elementwise import elementwise
from fastnn.graph.ops.moves import concatenate, permute, reshape
from fastnn.graph.ops.norms import rms_norm
from fastnn.layers.base import MAX_RANK, Layer, Scope, Shape

__all__ = ["Add", "Concatenate", "Dot", "MatMul", "Multiply"]

# added to a sum of squares, so that rows of zeros stay zeros
_LEAST_SQUARES = 1e-12


class _Elementwise(Layer):
    passes_mask = True
    arity = (2, None)
    op = ""

    def output_shape(self, *shapes: Shape) -> Shape:
        largest = max(shapes, key=len)
        if any(shape != largest[len(largest) - len(shape) :] for shape in shapes):
            said = ", ".join(map(str, shapes))
            raise self.fail(f"takes inputs of one shape, or of shapes that are the end of the longest, got {said}")
        return largest

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        return elementwise(graph, self.op, inputs, scope.label)


@register("layer")
@dataclass(eq=False, repr=False)
class Add(_Elementwise):
    """Add two or more inputs, element by element, from left to right.

    ::

        fnn.Add()([a, b])

    Notes
    -----
    Inputs have one shape; or some are shorter, and their shape is the end of the longest: samples of shape (features,)
    are used again for each of the rows of samples of shape (rows, features).
    """

    op = "add"


@register("layer")
@dataclass(eq=False, repr=False)
class Multiply(_Elementwise):
    """Multiply two or more inputs, element by element, from left to right.

    ::

        fnn.Multiply()([a, b])

    Notes
    -----
    Inputs have one shape; or some are shorter, and their shape is the end of the longest: samples of shape (features,)
    are used again for each of the rows of samples of shape (rows, features).
    """

    op = "multiply"


@register("layer")
@dataclass(eq=False, repr=False)
class Concatenate(Layer):
    """Join two or more inputs along their last axis; all other axes must agree.

    ::

        fnn.Concatenate()([a, b])
    """

    passes_mask = True
    arity = (2, None)

    def output_shape(self, *shapes: Shape) -> Shape:
        if any(not shape or shape[:-1] != shapes[0][:-1] for shape in shapes):
            raise self.fail(f"takes inputs that differ in the last axis only, got {', '.join(map(str, shapes))}")
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        return concatenate(graph, inputs, scope.label)


@register("layer")
@dataclass(eq=False, repr=False)
class MatMul(Layer):
    """Multiply two inputs as matrices, in every sample.

    ::

        scores = fnn.MatMul(transpose_b=True, scale=1 / 8)([queries, keys])
        mixed = fnn.MatMul()([fnn.Activation("softmax")(scores), values])

    Parameters
    ----------
    transpose_a, transpose_b : bool
        Whether the last two axes of the first or second input are in the other order.
    scale : float
        A factor of the result, which costs next to nothing here.

    Notes
    -----
    Samples of shape (..., m, k) and (..., k, n) give samples of shape (..., m, n). Axes before the last two are
    broadcast as `numpy.matmul` does, within a sample: where an input has an axis of size 1, or none, its matrices are
    used again, without a copy. So the heads of a group share keys: (groups, heads, steps, size) times the transpose
    of (groups, 1, steps, size).

    A `Permute` before or after it costs nothing where rows stay whole: the product reads and writes its operands in
    place.
    """

    transpose_a: bool = False
    transpose_b: bool = False
    scale: float = 1.0

    arity = (2, 2)

    def prepare(self) -> None:
        flag("transpose_a", self.transpose_a)
        flag("transpose_b", self.transpose_b)
        self.scale = number("scale", self.scale)

    def output_shape(self, *shapes: Shape) -> Shape:
        a, b = shapes
        if len(a) < 2 or len(b) < 2:
            raise self.fail(f"takes two inputs of matrices, got {a} and {b}")
        try:
            leading = np.broadcast_shapes(a[:-2], b[:-2])
        except ValueError:
            raise self.fail(f"takes inputs whose axes before the last two are equal or 1, got {a} and {b}") from None
        m, k = reversed(a[-2:]) if self.transpose_a else a[-2:]
        k_b, n = reversed(b[-2:]) if self.transpose_b else b[-2:]
        if k != k_b:
            said = [f" (transpose_{name})" if flag else "" for name, flag in self._flags]
            raise self.fail(f"takes matrices whose inner axes agree, got {a}{said[0]} and {b}{said[1]}: {k} and {k_b}")
        return (*leading, m, n)

    @property
    def _flags(self) -> tuple[tuple[str, bool], ...]:
        return ("a", self.transpose_a), ("b", self.transpose_b)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        a, b = inputs
        return batched_matmul(
            graph, a, b, scope.label, transpose_a=self.transpose_a, transpose_b=self.transpose_b, scale=self.scale
        )


@register("layer")
@dataclass(eq=False, repr=False)
class Dot(Layer):
    """Sum the products of two inputs over one axis of each, in every sample.

    ::

        fnn.Dot(axes=1)([user, item])

    Parameters
    ----------
    axes : int or tuple of two int
        The axis of each input over which products are summed; both have the same size. Axes count from 1 on, because
        axis 0 is the batch, or from -1 back.
    normalize : bool
        Whether both inputs are first divided by their L2 norms along these axes, so that the results are the cosines of
        angles. Vectors of zeros stay zeros: 1e-12 is added to each sum of squares.

    Notes
    -----
    Samples of the result have the first input's other axes and then the second's: (4, 5) and (5, 3) give (4, 3) with
    ``axes=(2, 1)``, and (5,) and (5,) give (1,), as in Keras. `MatMul` multiplies stacks of matrices pair by pair.
    """

    axes: int | tuple[int, int]
    normalize: bool = False

    arity = (2, 2)

    def prepare(self) -> None:
        axes = self.axes
        if not isinstance(axes, (tuple, list)):
            self.axes = integer("axes", axes, at_least=-MAX_RANK)
        elif len(axes) != 2:
            raise TypeError(f"axes: expected an axis or two, such as 1 or (2, 1), got {shorten(axes)}")
        else:
            first, second = (integer(f"axes[{i}]", axis, at_least=-MAX_RANK) for i, axis in enumerate(axes))
            self.axes = (first, second)
        if 0 in self._both:
            raise ValueError(f"axes: expected axes from 1 on, or from -1 back, because 0 is the batch, got {axes!r}")
        flag("normalize", self.normalize)

    @property
    def _both(self) -> tuple[int, int]:
        return self.axes if isinstance(self.axes, tuple) else (self.axes, self.axes)

    def _places(self, *shapes: Shape) -> tuple[int, int]:
        """Return the axes, counted from 0 within a sample."""
        found = []
        for axis, shape in zip(self._both, shapes, strict=True):
            place = axis - 1 if axis > 0 else axis + len(shape)
            if not 0 <= place < len(shape):
                raise self.fail(
                    f"has no axis {axis} in samples of shape {shape}: axes count from 1 on, or from -1 back"
                )
            found.append(place)
        return found[0], found[1]

    def output_shape(self, *shapes: Shape) -> Shape:
        a, b = shapes
        i, j = self._places(a, b)
        if a[i] != b[j]:
            raise self.fail(f"sums over axes of one size, got {a[i]} and {b[j]} in {a} and {b} with axes {self.axes}")
        return (*a[:i], *a[i + 1 :], *b[:j], *b[j + 1 :]) or (1,)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        size, rows = inputs[0].shape[self._places(*(x.shape for x in inputs))[0]], []
        for x, axis in zip(inputs, self._places(*(x.shape for x in inputs)), strict=True):
            order = [*(other for other in range(len(x.shape)) if other != axis), axis]
            turned = reshape(graph, permute(graph, x, order, scope.label), (x.size // size, size), scope.label)
            if self.normalize:
                # a root mean square is the norm divided by the root of the size
                turned = rms_norm(graph, turned, None, _LEAST_SQUARES / size, scope.label)
            rows.append(turned)
        scale = 1.0 / size if self.normalize else 1.0
        y = batched_matmul(graph, rows[0], rows[1], scope.label, transpose_b=True, scale=scale)
        return reshape(graph, y, self.output_shape(*(x.shape for x in inputs)), scope.label)
