"""Normalization: numbers of mean 0 and variance 1, by statistics of data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import casts
from fastnn.checks import flag, integer, shorten
from fastnn.config import register
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.pointwise import pointwise
from fastnn.graph.ops.strided import reshape
from fastnn.layers.base import ParameterSpec, Scope, Shape
from fastnn.layers.columns.arrays import ArrayLayer, batches, known, numbers

__all__ = ["Normalization"]

# Keras' least standard deviation
_LEAST = 1e-7
Sums = tuple[int, NDArray[np.float64], NDArray[np.float64]]


def _statistics(name: str, given: Any) -> Any:
    """Return a mean or variance as a number, or nested tuples of numbers."""
    try:
        array = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected numbers, got {shorten(given)}") from None
    if not array.size or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got {shorten(given)}")

    def nested(values: Any) -> Any:
        return tuple(map(nested, values)) if isinstance(values, list) else float(values)

    return nested(array.tolist())


@register("layer")
@dataclass(eq=False, repr=False)
class Normalization(ArrayLayer):
    """Subtract a mean, and divide by the square root of a variance, which are known or learnt from data.

    ::

        scale = fnn.Normalization()
        scale.adapt(X)
        model = fnn.Sequential([fnn.Input(X.shape[1:]), scale, fnn.Dense(1)])

    Parameters
    ----------
    axis : int, tuple of int, or None
        The axes that have a mean and a variance for each entry; the batch is axis 0, which cannot be among them. By
        default the last one: one of each for every feature. None: one of each for all numbers.
    mean, variance : float or array of float, optional
        Instead of `adapt`: of the shape of these axes, or of the last of them, or a number for all.
    invert : bool
        Whether to go back: multiply by the root of the variance, and add the mean.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid or shapes do not fit; when the layer is called and has no mean and variance yet.

    Notes
    -----
    y = (x - mean) / max(sqrt(variance), 1e-7), as in Keras 3. The variance is the biased one. Both are weights, "mean"
    and "variance", which are not trained: model files, frozen networks and models on a GPU have them. On an array the
    layer gives float32, computed in float64. Inputs may be integers.
    """

    axis: int | tuple[int, ...] | None = -1
    mean: Any = None
    variance: Any = None
    invert: bool = False

    passes_mask = True

    def prepare(self) -> None:
        flag("invert", self.invert)
        if self.axis is not None and not isinstance(self.axis, (tuple, list)):
            self.axis = integer("axis", self.axis, at_least=-32, at_most=31)
        elif self.axis is not None:
            self.axis = tuple([integer("axis", each, at_least=-32, at_most=31) for each in self.axis])
        if (self.mean is None) != (self.variance is None):
            raise ValueError("expected both mean and variance, or neither of them")
        if self.mean is not None:
            self.mean, self.variance = _statistics("mean", self.mean), _statistics("variance", self.variance)
            shape, other = np.shape(self.mean), np.shape(self.variance)
            if shape != other:
                raise ValueError(f"mean and variance have one shape, got {shape} and {other}")
            if np.min(self.variance) < 0:
                raise ValueError(f"variance: expected numbers >= 0, got {shorten(self.variance)}")
        self._adapted = False

    def accepts(self, kind: str, position: int) -> bool:
        return True

    def output_shape(self, *shapes: Shape) -> Shape:
        self._arrays(shapes[0])
        return shapes[0]

    def _kept(self, shape: Shape) -> tuple[int, ...]:
        """Return the axes with statistics of their own, as axes of samples, in order."""
        rank = len(shape) + 1
        given = () if self.axis is None else (self.axis,) if isinstance(self.axis, int) else self.axis
        axes = sorted({each % rank for each in given if -rank <= each < rank})
        if len(axes) < len(given) or 0 in axes:
            raise self.fail(
                f"axis={self.axis!r} does not name axes of samples, which are of shape {('batch', *shape)}; axis=None "
                "has one mean for all numbers"
            )
        return tuple([each - 1 for each in axes])

    def _arrays(self, shape: Shape) -> list[NDArray[np.float64]]:
        """Return mean and variance, of the sizes of the kept axes."""
        if self.mean is None:
            raise self.fail("has no mean and variance: call adapt(data) first, or give both")
        sizes = tuple([shape[each] for each in self._kept(shape)])
        given = np.shape(self.mean)
        try:
            return [np.broadcast_to(np.asarray(each), sizes) for each in (self.mean, self.variance)]
        except ValueError:
            raise self.fail(
                f"has a mean of shape {given}, which does not fit the axes {self.axis!r}, of sizes {sizes}, of "
                f"samples {shape}"
            ) from None

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        mean, variance = self._arrays(shapes[0])
        return known("mean", mean), known("variance", variance)

    def _aligned(self, shape: Shape) -> Shape:
        """Return the shape in which statistics are broadcast over batches."""
        kept = self._kept(shape)
        return tuple([size if axis in kept else 1 for axis, size in enumerate(shape)])

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        (x,), label = inputs, scope.label
        shape = self._aligned(x.shape)
        deviation = pointwise(graph, "maximum", (pointwise(graph, "sqrt", (weights[1],), label), _LEAST), label)
        mean, deviation = (reshape(graph, each, shape, label) for each in (weights[0], deviation))
        if self.invert:
            return pointwise(graph, "add", (pointwise(graph, "multiply", (x, deviation), label), mean), label)
        return pointwise(graph, "divide", (pointwise(graph, "subtract", (x, mean), label), deviation), label)

    def on_array(self, inputs: Any) -> NDArray[np.float32]:
        """Normalise an array of shape (n, ...)."""
        x = numbers(self.label, inputs)
        if not x.ndim:
            raise self.fail("takes arrays of shape (n, ...), got one number")
        mean, variance = (each.reshape(self._aligned(x.shape[1:])) for each in self._arrays(x.shape[1:]))
        deviation = np.maximum(np.sqrt(variance), _LEAST)
        made = x * deviation + mean if self.invert else (x - mean) / deviation
        found: NDArray[np.float32] = casts.cast(made, "float32", self.label)
        return found

    def adapt(self, data: Any) -> None:
        """Learn mean and variance from data, and forget those of an earlier call.

        Parameters
        ----------
        data : array of shape (n, ...), or iterator of such arrays

        Raises
        ------
        TypeError, ValueError
            When the data are no finite numbers, or of a shape that does not fit.
        RuntimeError
            When the layer was made with a mean, or a model has it already.
        """
        if self.mean is not None and not self._adapted:
            raise RuntimeError(f"layer {self.label!r}: was made with a mean and a variance, and does not adapt")
        self.check_uncalled()
        total: Sums | None = None
        shape: Shape | None = None
        for x in batches(f"{self.label}.adapt", data, numbers):
            if not x.ndim or (shape is not None and x.shape[1:] != shape):
                raise self.fail(f"adapt: expected arrays of shape (n, ...), of the same samples, got {x.shape}")
            shape = x.shape[1:]
            kept = [each + 1 for each in self._kept(shape)]
            for _, chunk in casts.chunks(x):
                total = _joined(total, _sums(chunk, tuple(axis for axis in range(x.ndim) if axis not in kept)))
        assert total is not None
        count, mean, squares = total
        if not (np.isfinite(mean).all() and np.isfinite(squares).all()):
            raise self.fail("adapt: the data hold NaN, infinite numbers, or numbers whose variance is too large")
        variance = _statistics("variance", squares / count)
        self.learnt(mean=_statistics("mean", mean), variance=variance, _adapted=True)


def _sums(x: NDArray[Any], axes: tuple[int, ...]) -> Sums:
    """Return the number of elements, their mean, and the sum of squared differences from it."""
    with np.errstate(all="ignore"):
        mean = x.mean(axis=axes, dtype=np.float64)
        apart = x - mean.reshape([1 if axis in axes else size for axis, size in enumerate(x.shape)])
        count = int(np.prod([x.shape[axis] for axis in axes]))
        return count, mean, np.square(apart, out=apart).sum(axis=axes)


def _joined(one: Sums | None, other: Sums) -> Sums:
    """Return the statistics of two sets of numbers: Chan, Golub, LeVeque 1983."""
    if one is None:
        return other
    count = one[0] + other[0]
    apart = other[1] - one[1]
    mean = one[1] + apart * (other[0] / count)
    return count, mean, one[2] + other[2] + np.square(apart) * (one[0] * other[0] / count)
