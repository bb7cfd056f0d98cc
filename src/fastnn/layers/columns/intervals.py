"""Discretization: numbers as the numbers of the intervals in which they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import integer, number, shorten
from fastnn.config import register
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.pointwise import cast, pointwise
from fastnn.graph.ops.reductions import reduce
from fastnn.graph.ops.strided import reshape
from fastnn.layers.base import ParameterSpec, Scope, Shape
from fastnn.layers.columns.arrays import ArrayLayer, batches, known, numbers
from fastnn.layers.columns.encoding import ROWS, output_mode, rows, rows_of_array, rows_shape

__all__ = ["Discretization"]


@register("layer")
@dataclass(eq=False, repr=False)
class Discretization(ArrayLayer):
    """Give the number of the interval in which a number lies.

    ::

        ages = fnn.Discretization([18.0, 30.0, 65.0], output_mode="one_hot")
        income = fnn.Discretization(num_bins=8)
        income.adapt(incomes)

    Parameters
    ----------
    bin_boundaries : sequence of float, optional
        In ascending order: [0, 1] makes the intervals below 0, from 0 to below 1, and from 1.
    num_bins : int, optional
        Instead: `adapt` finds this many intervals with equally many of the data.
    output_mode : {"int", "one_hot", "multi_hot", "count"}
        "int": the numbers of intervals, as integers, for `Embedding`; otherwise rows, as for `CategoryEncoding`.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid; when the layer is called and has no boundaries yet.

    Notes
    -----
    Boundaries are a weight, "boundaries", which is not trained; comparisons are in the model's dtype. NaN is in the
    last interval, as `numpy.digitize` has it. No gradient reaches the numbers. Names and arguments are Keras 3's, whose
    `adapt` approximates quantiles: here they are exact, the smallest number with at least that share of the data at or
    below it, so there is no `epsilon`.
    """

    bin_boundaries: tuple[float, ...] | None = None
    num_bins: int | None = None
    _: KW_ONLY
    output_mode: str = "int"

    def prepare(self) -> None:
        self.output_mode = output_mode(self.output_mode, ("int", *ROWS))
        if self.num_bins is not None:
            self.num_bins = integer("num_bins", self.num_bins, at_least=2)
        if self.bin_boundaries is not None:
            self.bin_boundaries = self._checked(self.bin_boundaries)
        elif self.num_bins is None:
            raise ValueError("expected bin_boundaries, or num_bins for adapt")
        # files of adapted layers have both
        if None not in (self.bin_boundaries, self.num_bins) and self.depth != self.num_bins:
            raise ValueError(f"got {len(self.bin_boundaries or ())} bin_boundaries and num_bins={self.num_bins}")

    @staticmethod
    def _checked(given: Any) -> tuple[float, ...]:
        if isinstance(given, str) or not isinstance(given, (Sequence, np.ndarray)):
            raise TypeError(f"bin_boundaries: expected numbers, got {shorten(given)}")
        found = tuple([number(f"bin_boundaries[{index}]", each) for index, each in enumerate(given)])
        if any(later < one for one, later in pairwise(found)):
            raise ValueError(f"bin_boundaries: expected numbers in ascending order, got {shorten(given)}")
        if not found:
            raise ValueError("bin_boundaries: expected at least one number")
        return found

    @property
    def depth(self) -> int:
        """The number of intervals."""
        return len(self._boundaries()) + 1

    def _boundaries(self) -> tuple[float, ...]:
        if self.bin_boundaries is None:
            raise self.fail("has no boundaries: call adapt(data) first, or give bin_boundaries")
        return self.bin_boundaries

    def accepts(self, kind: str, position: int) -> bool:
        return True

    def output_kind(self, *kinds: str) -> str:
        return "int64" if self.output_mode == "int" else "real"

    def output_range(self, *shapes: Shape) -> tuple[int, int]:
        return 0, self.depth - 1

    def output_shape(self, *shapes: Shape) -> Shape:
        depth = self.depth
        return shapes[0] if self.output_mode == "int" else rows_shape(shapes[0], depth, self.output_mode)

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        return (known("boundaries", self._boundaries()),)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        label = scope.label
        x = cast(graph, inputs[0], "real", label)
        # not below a boundary, rather than at or above it: so NaN is in the last interval
        below = pointwise(graph, "less", (reshape(graph, x, (*x.whole, 1), label), weights[0]), label)
        above = pointwise(graph, "logical_not", (below,), label)
        index = cast(graph, reduce(graph, "sum", above, len(x.whole), False, label), "int64", label)
        if self.output_mode == "int":
            return index
        return rows(graph, index, self.depth, self.output_mode, label)

    def on_array(self, inputs: Any) -> NDArray[Any]:
        """Find the intervals of an array of shape (n, ...): int64, or rows of float32."""
        index = np.digitize(numbers(self.label, inputs), self._boundaries()).astype(np.int64)
        return index if self.output_mode == "int" else rows_of_array(index, self.depth, self.output_mode)

    def adapt(self, data: Any) -> None:
        """Learn boundaries from data, and forget those of an earlier call.

        Parameters
        ----------
        data : array, or iterator of arrays

        Raises
        ------
        TypeError, ValueError
            When the data are no finite numbers.
        RuntimeError
            When the layer was made with boundaries, or a model has it already.
        """
        if self.num_bins is None:
            raise RuntimeError(f"layer {self.label!r}: was made with bin_boundaries, and does not adapt")
        self.check_uncalled()
        values = np.concatenate([each.ravel() for each in batches(f"{self.label}.adapt", data, numbers)])
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            raise self.fail("adapt: expected finite numbers, got NaN or infinite ones")
        shares = np.arange(1, self.num_bins) / self.num_bins
        self.learnt(bin_boundaries=tuple(np.quantile(values, shares, method="inverted_cdf").tolist()))
