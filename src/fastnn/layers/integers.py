"""Tables of rows: Embedding and OneHot of integers, PositionEmbedding of places, TiedDense, which scores the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastnn import constraints, initializers, regularizers
from fastnn.checks import flag, size
from fastnn.config import register
from fastnn.constraints import Constraint
from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.indexing import one_hot, take
from fastnn.graph.ops.pointwise import cast, pointwise
from fastnn.graph.ops.reductions import broadcast_to
from fastnn.graph.ops.strided import getitem, reshape
from fastnn.initializers import Initializer
from fastnn.layers.base import Layer, ParameterSpec, Scope, Shape
from fastnn.layers.low_rank import Adaptable, LowRank
from fastnn.layers.operators import OPERATORS
from fastnn.regularizers import Regularizer

__all__ = ["Embedding", "OneHot", "PositionEmbedding", "TiedDense"]


@register("layer")
@dataclass(eq=False, repr=False)
class Embedding(Adaptable):
    """Look up a row of a table for every integer.

    ::

        words = fnn.Input(20, dtype="int64")
        model = fnn.Model(words, fnn.Dense(1)(fnn.Flatten()(fnn.Embedding(1000, 16)(words))))

    Parameters
    ----------
    input_dim : int
        Rows of the table: integers are from 0 to input_dim - 1.
    output_dim : int
        Columns of the table.
    embeddings_initializer : str or initializer
        Of the table.
    embeddings_regularizer : str or regularizer, optional
    embeddings_constraint : str or constraint, optional
        Of the table; `MaxNorm(2, axis=1)` bounds the norm of every row.
    mask_zero : bool
        Whether 0 stands for no step: the result has a mask, which layers pass on. Recurrent layers, attention
        and `GlobalAveragePooling1D` leave these steps out, and losses and metrics do not count them.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid. When the model runs, also for integers out of range, before anything is computed.

    Notes
    -----
    The input has shape (...), the output (..., output_dim). The weight "embeddings" has shape (input_dim, output_dim).
    Its gradient is the sum of the gradients of all rows that were looked up, in the order of the samples, whatever the
    number of threads; rows that were not have the gradient 0, and optimizers treat them as any other weight. Names,
    arguments and defaults are Keras 3's.
    """

    adaptable = ("embeddings",)

    input_dim: int
    output_dim: int
    embeddings_initializer: Initializer | str = "uniform"
    embeddings_regularizer: Regularizer | str | None = None
    embeddings_constraint: Constraint | str | None = None
    mask_zero: bool = False

    def prepare(self) -> None:
        flag("mask_zero", self.mask_zero)
        self.input_dim = size("input_dim", self.input_dim)
        self.output_dim = size("output_dim", self.output_dim)
        self.embeddings_initializer = initializers.get(self.embeddings_initializer)
        self.embeddings_regularizer = regularizers.get(self.embeddings_regularizer)
        self.embeddings_constraint = constraints.get(self.embeddings_constraint)

    def accepts(self, kind: str, position: int) -> bool:
        return kind == "int64"

    def input_range(self, position: int, *shapes: Shape) -> tuple[int, int]:
        return 0, self.input_dim - 1

    @property
    def makes_mask(self) -> bool:
        """Whether there is a mask of the steps that are not 0."""
        return self.mask_zero

    def output_shape(self, *shapes: Shape) -> Shape | Sequence[Shape]:
        rows = (*shapes[0], self.output_dim)
        if not self.mask_zero:
            return rows
        if len(shapes[0]) != 1:
            raise self.fail(
                f"with mask_zero it takes sequences of integers, (batch, steps), got {('batch', *shapes[0])}"
            )
        return [rows, (*shapes[0], 1)]

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        return (
            ParameterSpec(
                "embeddings",
                (self.input_dim, self.output_dim),
                initializers.get(self.embeddings_initializer),
                regularizer=regularizers.get(self.embeddings_regularizer),
                constraint=constraints.get(self.embeddings_constraint),
            ),
        )

    def adapted(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], updates: Mapping[str, LowRank],
        scope: Scope,
    ) -> Tensor | Sequence[Tensor]:  # fmt: skip
        (index,), label = inputs, scope.label
        rows = take(graph, weights[0], index, 0, label)
        if "embeddings" in updates:
            rows = updates["embeddings"].of_rows(graph, rows, index, label)
        if not self.mask_zero:
            return rows
        mask = pointwise(graph, "not_equal", [cast(graph, index, "real", label), 0.0], label)
        return [rows, reshape(graph, mask, (*mask.whole, 1), label)]


@register("layer")
@dataclass(eq=False, repr=False)
class OneHot(Layer):
    """Turn every integer into a row of zeros with a one at its place.

    ::

        weekday = fnn.Input((), dtype="int64")
        model = fnn.Model(weekday, fnn.Dense(1)(fnn.OneHot(7)(weekday)))

    Parameters
    ----------
    depth : int
        The length of a row: integers are from 0 to depth - 1.

    Notes
    -----
    The input has shape (...), the output (..., depth). No gradient reaches the integers. A `Dense` layer after it looks
    up rows of its kernel, but multiplies by all the zeros: it costs depth times as much as `Embedding`.
    """

    depth: int

    def prepare(self) -> None:
        self.depth = size("depth", self.depth)

    def accepts(self, kind: str, position: int) -> bool:
        return kind == "int64"

    def input_range(self, position: int, *shapes: Shape) -> tuple[int, int]:
        return 0, self.depth - 1

    def output_shape(self, *shapes: Shape) -> Shape:
        return (*shapes[0], self.depth)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        return one_hot(graph, inputs[0], self.depth, scope.label)


@register("layer")
@dataclass(eq=False, repr=False)
class PositionEmbedding(Layer):
    """Give a learned row for every place in a sequence, as KerasHub's layer does.

    ::

        words = fnn.Embedding(1000, 64)(fnn.Input(20, dtype="int64"))
        x = fnn.Add()([words, fnn.PositionEmbedding(20)(words)])

    Parameters
    ----------
    sequence_length : int
        The most steps that a sequence may have.
    initializer : str or initializer
        Of the rows.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid, or sequences have more steps.

    Notes
    -----
    The input has shape (steps, features), and so has the result: the first rows of the weight "position_embeddings",
    of shape (sequence_length, features), for every sample. The numbers of the input have no influence. `Add` adds rows
    to the sequence. The result has the mask of the sequence.
    """

    passes_mask = True

    sequence_length: int
    initializer: Initializer | str = "glorot_uniform"

    def prepare(self) -> None:
        self.sequence_length = size("sequence_length", self.sequence_length)
        self.initializer = initializers.get(self.initializer)

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if len(shape) != 2 or shape[0] > self.sequence_length:
            raise self.fail(
                f"takes samples of shape (steps, features) of at most {self.sequence_length} steps, got {shape}"
            )
        return shape

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        rows = (self.sequence_length, shapes[0][1])
        return (ParameterSpec("position_embeddings", rows, initializers.get(self.initializer)),)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        shape = inputs[0].shape
        rows = getitem(graph, weights[0], slice(0, shape[0]), scope.label)
        return broadcast_to(graph, rows, (BATCH, *shape), scope.label)


@register("layer")
@dataclass(eq=False, repr=False)
class TiedDense(Layer):
    """Dense layer whose kernel is the table of an `Embedding`, transposed: y = x table^T + bias.

    ::

        table = fnn.Embedding(1000, 64)
        x = table(fnn.Input(20, dtype="int64"))
        scores = fnn.TiedDense()([x, table.embeddings])

    It is called on [x, table]; the table is the symbol of a weight, of shape (rows, features).

    Parameters
    ----------
    use_bias : bool
        Whether to add a bias, one number for each row of the table.
    bias_initializer : str or initializer
        Of the bias.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid, or shapes do not fit.

    Notes
    -----
    Press and Wolf 2017, "Using the output embedding to improve language models", arXiv:1608.05859. The input has shape
    (..., features), the output (..., rows). The weight is "bias" (rows,); the table belongs to its own layer, and has
    the gradients of both.
    """

    arity = (2, 2)
    passes_mask = True

    use_bias: bool = True
    bias_initializer: Initializer | str = field(default="zeros", kw_only=True)

    def prepare(self) -> None:
        flag("use_bias", self.use_bias)
        self.bias_initializer = initializers.get(self.bias_initializer)

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        x, table = shapes
        if not x or len(table) != 2 or x[-1] != table[1]:
            raise self.fail(f"takes samples (..., features) and a table (rows, features), got {x} and {table}")
        return (ParameterSpec("bias", (table[0],), initializers.get(self.bias_initializer)),) * self.use_bias

    def call(self, x: Any, table: Any, *bias: Any) -> Any:
        """Score every row of the table."""
        scores = OPERATORS["matmul"](x, OPERATORS["transpose"](table))
        return scores + bias[0] if bias else scores
