"""Layers of attention: MultiHeadAttention and GroupedQueryAttention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fastnn import constraints, initializers, regularizers
from fastnn.checks import flag, number, size
from fastnn.config import register
from fastnn.constraints import Constraint
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.dense import bias_add, matmul
from fastnn.graph.ops.joins import pad
from fastnn.graph.ops.moves import reshape, take_columns
from fastnn.graph.ops.pointwise import cast, pointwise
from fastnn.graph.ops.sequences.attention import attention
from fastnn.graph.ops.sequences.rotary import rotary
from fastnn.initializers import Initializer
from fastnn.layers.base import ParameterSpec, Scope, Shape
from fastnn.layers.core import Reshape
from fastnn.layers.low_rank import Adaptable, LowRank
from fastnn.layers.merge import Multiply
from fastnn.layers.operators import OPERATORS
from fastnn.layers.symbols import Symbol, identity_of
from fastnn.regularizers import Regularizer

__all__ = ["GroupedQueryAttention", "MultiHeadAttention"]


class _Attention(Adaptable):
    """Projections to heads, attention, and the projection of all heads' results."""

    arity = (1, 4)
    takes_mask = True
    passes_mask = True
    adaptable = ("query_kernel", "key_kernel", "value_kernel", "output_kernel")

    dropout: float
    use_bias: bool
    causal: bool
    rotary: float | None
    kernel_initializer: Initializer | str
    output_initializer: Initializer | str | None
    bias_initializer: Initializer | str
    kernel_regularizer: Regularizer | str | None
    bias_regularizer: Regularizer | str | None
    kernel_constraint: Constraint | str | None
    bias_constraint: Constraint | str | None

    def prepare(self) -> None:
        self.dropout = number("dropout", self.dropout, at_least=0.0, below=1.0)
        flag("use_bias", self.use_bias)
        flag("causal", self.causal)
        if self.rotary is not None:
            self.rotary = number("rotary", self.rotary, above=1.0)
            if self.heads[2] % 2:
                raise ValueError(f"rotary: it rotates pairs, so keys have an even size, got {self.heads[2]}")
        if self.output_initializer is not None:
            self.output_initializer = initializers.get(self.output_initializer)
        for name in ("kernel", "bias"):
            for what, get in (("initializer", initializers.get), ("regularizer", regularizers.get),
                              ("constraint", constraints.get)):  # fmt: skip
                setattr(self, f"{name}_{what}", get(getattr(self, f"{name}_{what}")))

    @property
    def heads(self) -> tuple[int, int, int, int]:
        """Heads of queries, heads of keys and values, the size of a key and that of a value."""
        raise NotImplementedError

    def results(self, features: int) -> int:
        """Return the size of the outputs for queries of some features."""
        return features

    def accepts(self, kind: str, position: int) -> bool:
        return kind == "real" or position == 3

    def with_mask(self, symbols: tuple[Symbol, ...]) -> tuple[Symbol, ...]:
        """Return what a call is on: query, value, key and mask, if keys or values have a mask or one is given."""
        query, value, key = (*symbols, *symbols[-1:] * 2)[:3]
        masks = list({id(one.mask): one.mask for one in (value, key) if one.mask is not None}.values())
        if len(symbols) > 3:
            given = symbols[3]
            # a file has the product already
            masks = [mask for mask in masks if not comes_from(given, mask)]
            if masks:
                given = product_of_masks([given, *masks], key.shape[0], len(given.shape))
            return (query, value, key, given)
        if not masks:
            return symbols
        return (query, value, key, masks[0] if len(masks) == 1 else Multiply()(masks))

    def mask_of(self, symbols: Sequence[Symbol]) -> Symbol | None:
        """Return the mask of the query."""
        return symbols[0].mask

    def _given(self, shapes: Sequence[Shape]) -> tuple[Shape, Shape, Shape]:
        """Return the shapes of queries, values and keys, checked."""
        query = shapes[0]
        value = shapes[1] if len(shapes) > 1 else query
        key = shapes[2] if len(shapes) > 2 else value
        for name, shape in (("query", query), ("value", value), ("key", key)):
            if len(shape) != 2:
                raise self.fail(f"takes a {name} of samples of shape (steps, features), got {shape}")
        if key[0] != value[0]:
            raise self.fail(f"takes as many keys as values, got keys of shape {key} and values of shape {value}")
        if len(shapes) > 3:
            expected = (self.heads[0], query[0], key[0])
            mask = _by_keys(shapes[3], key[0])
            whole = (1,) * (3 - len(mask)) + mask
            if (
                len(whole) != 3
                or mask[-1:] != expected[2:]
                or any(a not in (1, b) for a, b in zip(whole, expected, strict=True))
            ):
                raise self.fail(
                    f"takes a mask of samples of shape (keys,), (queries, keys) or (heads, queries, keys), here "
                    f"{expected}, got {mask}"
                )
        return query, value, key

    def output_shape(self, *shapes: Shape) -> Shape:
        query, _, _ = self._given(shapes)
        return (query[0], self.results(query[1]))

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        query, value, key = self._given(shapes)
        heads, kv_heads, key_size, value_size = self.heads
        results = self.results(query[1])
        found: list[ParameterSpec] = []
        for name, kernel, bias in (
            ("query", (query[1], heads, key_size), (heads, key_size)),
            ("key", (key[1], kv_heads, key_size), (kv_heads, key_size)),
            ("value", (value[1], kv_heads, value_size), (kv_heads, value_size)),
            ("output", (heads, value_size, results), (results,)),
        ):
            found.append(self._spec(name, "kernel", kernel))
            if self.use_bias:
                found.append(self._spec(name, "bias", bias))
        return tuple(found)

    def _spec(self, name: str, what: str, shape: Shape) -> ParameterSpec:
        initializer = getattr(self, f"{what}_initializer")
        if (name, what) == ("output", "kernel") and self.output_initializer is not None:
            initializer = self.output_initializer
        return ParameterSpec(
            f"{name}_{what}",
            shape,
            initializers.get(initializer),
            regularizer=regularizers.get(getattr(self, f"{what}_regularizer")),
            constraint=constraints.get(getattr(self, f"{what}_constraint")),
        )

    def inputs_of(self, name: str) -> int:
        return 2 if name == "output_kernel" else 1

    def adapted(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], updates: Mapping[str, LowRank],
        scope: Scope,
    ) -> Tensor:  # fmt: skip
        label, query = scope.label, inputs[0]
        value = inputs[1] if len(inputs) > 1 else query
        key = inputs[2] if len(inputs) > 2 else value
        mask = _logarithm(graph, inputs[3], key.shape[0], label) if len(inputs) > 3 else None
        q, k, v = self.projected(graph, (query, key, value), weights, updates, label)
        rate = self.dropout if scope.training else 0.0
        y = attention(
            graph, q, k, v, mask, label, scale=self.scale, causal=self.causal, rate=rate, stream=scope.number
        )  # fmt: skip
        return self.joined(graph, y, weights, updates, label)

    @property
    def scale(self) -> float:
        """The factor of scores."""
        return float(self.heads[2] ** -0.5)

    @property
    def largest(self) -> int:
        """The size of keys and values in memory: that of the larger ones."""
        return max(self.heads[2:])

    def projected(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], updates: Mapping[str, LowRank],
        label: str, positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Return the queries, keys and values of all heads, (steps, heads, size), filled up with zeros to one size.

        Steps have the positions 0, 1, 2, ..., or those that are given, for `rotary`.
        """
        projected: list[Tensor] = []
        each = 2 if self.use_bias else 1
        for place, (name, x) in enumerate(zip(self.adaptable, inputs, strict=False)):
            own = weights[place * each : (place + 1) * each]
            features, count, head = own[0].shape
            y = self._project(graph, x, own, updates.get(name), (features, count * head), label)
            y = reshape(graph, y, (y.shape[0], count, head), label)
            if self.rotary is not None and place < 2:
                y = rotary(graph, y, positions, label, wavelength=self.rotary)
            if head < self.largest:
                # zeros add nothing to products
                y = pad(graph, y, [(0, 0), (0, 0), (0, 0), (0, self.largest - head)], label)
            projected.append(y)
        q, k, v = projected
        return q, k, v

    def joined(
        self, graph: Graph, y: Tensor, weights: Sequence[Tensor], updates: Mapping[str, LowRank], label: str
    ) -> Tensor:
        """Return the projection of all heads' results."""
        value_size, output = self.heads[3], weights[3 * (2 if self.use_bias else 1) :]
        if value_size < self.largest:
            y = take_columns(graph, y, 0, value_size, label)
        steps, count, head = y.shape
        y = reshape(graph, y, (steps, count * head), label)
        shape = (count * head, output[0].shape[-1])
        return self._project(graph, y, output, updates.get("output_kernel"), shape, label)

    def _project(
        self, graph: Graph, x: Tensor, weights: Sequence[Tensor], update: LowRank | None, shape: tuple[int, int],
        label: str,
    ) -> Tensor:  # fmt: skip
        # the weights are ready before the product, so one record adds the bias, too
        kernel, *biases = (reshape(graph, w, s, label) for w, s in zip(weights, (shape, shape[1:]), strict=False))
        y = matmul(graph, x, kernel, label)
        if self.use_bias:
            y = bias_add(graph, y, biases[0], label)
        return y if update is None else update.of_product(graph, y, x, label)


def comes_from(symbol: Symbol, source: Symbol) -> bool:
    """Return whether a symbol is computed from a mask."""
    open_, seen, sought = [symbol], {id(symbol)}, identity_of(source)
    while open_:
        one = open_.pop()
        if identity_of(one) == sought:
            return True
        new = [each for each in one.inputs if id(each) not in seen]
        seen.update(map(id, new))
        open_ += new
    return False


def product_of_masks(masks: Sequence[Symbol], keys: int, axes: int) -> Symbol:
    """Return the product of masks whose last axis is that of keys, with some axes."""
    product: Symbol | None = None
    for mask in masks:
        shape = _by_keys(mask.shape, keys)
        whole = (1,) * (axes - len(shape)) + shape
        one = OPERATORS["cast"](mask, "float") if mask.kind != "real" else mask
        one = one if one.shape == whole else Reshape(whole)(one)
        product = one if product is None else product * one
    assert product is not None
    return product


def _by_keys(mask: Shape, keys: int) -> Shape:
    """Return the shape of a mask whose last axis is that of keys; masks of sequences have the shape (keys, 1)."""
    return (keys,) if mask == (keys, 1) else mask


def _logarithm(graph: Graph, mask: Tensor, keys: int, label: str) -> Tensor:
    """Turn factors of weights into summands of scores, with the axes of heads and queries."""
    if mask.kind != "real":
        mask = cast(graph, mask, "real", label)
    shape = _by_keys(mask.shape, keys)
    whole = (1,) * (3 - len(shape)) + shape
    return pointwise(graph, "log", (reshape(graph, mask, whole, label),), label)


@register("layer")
@dataclass(eq=False, repr=False)
class MultiHeadAttention(_Attention):
    """Attention of several heads (Vaswani et al. 2017): means of values, weighted by products of queries and keys.

    ::

        x = fnn.Input((64, 128))
        y = fnn.MultiHeadAttention(num_heads=4, key_dim=32, causal=True)(x)
        z = fnn.MultiHeadAttention(4, 32)([y, x])

    It is called on [query, value], on [query, value, key], or on one symbol, which is all three: self-attention. A
    fourth input is a mask: ``layer([query, value, key, mask])``.

    Parameters
    ----------
    num_heads : int
    key_dim : int
        The size of each head's queries and keys.
    value_dim : int, optional
        The size of each head's values; None means `key_dim`. Heads are padded to the larger of the two.
    dropout : float
        Fraction of the weights that are set to zero in training, in [0, 1).
    use_bias : bool
        Whether projections have biases.
    output_dim : int, optional
        The features of the outputs; None means those of the query. (Keras calls it `output_shape`.)
    causal : bool
        Whether a query has the values up to its own step alone. (An argument of the call in Keras, `use_causal_mask`.)
    rotary : float, optional
        Queries and keys are rotated by their positions, as `RotaryEmbedding` does with this `max_wavelength`; None
        means that they are not. Steps have the positions 0, 1, 2, ...; heads have an even size then.
    kernel_initializer, bias_initializer : str or initializer
    kernel_regularizer, bias_regularizer : str, regularizer or None
    kernel_constraint, bias_constraint : str, constraint or None
        Of all projections.
    output_initializer : str or initializer, optional
        Of the output's kernel; None means `kernel_initializer`.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid, or the shapes of the inputs do not fit.

    Notes
    -----
    Queries have shape (queries, features), values and keys (keys, features), outputs (queries, output_dim). The mask
    has shape (keys,), (queries, keys) or (heads, queries, keys), whose axes of queries and heads may be 1. A weight is
    multiplied by the mask before the weights of a query are divided by their sum: 1 for keys that are there, 0 for
    padding. A query without any key gives the bias of the output. No gradient reaches the mask.

    Where sequences of keys or values have a mask (`symbol.mask`, as `Embedding(mask_zero=True)` makes it), keys that it
    leaves out are left out here, besides those that the fourth input leaves out. The result has the mask of the query.

    The weights are, in Keras' order, "query_kernel" (features, heads, key_dim), "query_bias" (heads, key_dim), those
    of the key and the value likewise, "output_kernel" (heads, value_dim, output_dim) and "output_bias" (output_dim,).

    Scores are computed in blocks, and again in the gradient: memory does not grow with queries times keys. Results do
    not depend on the number of threads. Dropout depends on the model's seed, the step, the layer and the place of a
    weight.
    """

    num_heads: int
    key_dim: int
    value_dim: int | None = None
    dropout: float = 0.0
    use_bias: bool = True
    output_dim: int | None = field(default=None, kw_only=True)
    causal: bool = field(default=False, kw_only=True)
    rotary: float | None = field(default=None, kw_only=True)
    kernel_initializer: Initializer | str = field(default="glorot_uniform", kw_only=True)
    output_initializer: Initializer | str | None = field(default=None, kw_only=True)
    bias_initializer: Initializer | str = field(default="zeros", kw_only=True)
    kernel_regularizer: Regularizer | str | None = field(default=None, kw_only=True)
    bias_regularizer: Regularizer | str | None = field(default=None, kw_only=True)
    kernel_constraint: Constraint | str | None = field(default=None, kw_only=True)
    bias_constraint: Constraint | str | None = field(default=None, kw_only=True)

    def prepare(self) -> None:
        self.num_heads, self.key_dim = size("num_heads", self.num_heads), size("key_dim", self.key_dim)
        for name in ("value_dim", "output_dim"):
            if getattr(self, name) is not None:
                setattr(self, name, size(name, getattr(self, name)))
        super().prepare()

    @property
    def heads(self) -> tuple[int, int, int, int]:
        return self.num_heads, self.num_heads, self.key_dim, self.value_dim or self.key_dim

    def results(self, features: int) -> int:
        return self.output_dim or features


@register("layer")
@dataclass(eq=False, repr=False)
class GroupedQueryAttention(_Attention):
    """Attention whose heads share keys and values in groups (Ainslie et al. 2023, arXiv:2305.13245).

    ::

        y = fnn.GroupedQueryAttention(head_dim=32, num_query_heads=8, num_key_value_heads=2, causal=True)(x)

    It is called as `MultiHeadAttention` is.

    Parameters
    ----------
    head_dim : int
        The size of each head.
    num_query_heads : int
    num_key_value_heads : int
        A divisor of `num_query_heads`; 1 is multi-query attention.
    dropout, use_bias, causal, rotary
    kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint
    output_initializer
        As for `MultiHeadAttention`.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid, or the shapes of the inputs do not fit.

    Notes
    -----
    Shapes are those of `MultiHeadAttention`, as are names of weights. The kernels of keys and values have shape
    (features, num_key_value_heads, head_dim), and each of their heads belongs to neighbouring heads of queries.
    """

    head_dim: int
    num_query_heads: int
    num_key_value_heads: int
    dropout: float = 0.0
    use_bias: bool = True
    causal: bool = field(default=False, kw_only=True)
    rotary: float | None = field(default=None, kw_only=True)
    kernel_initializer: Initializer | str = field(default="glorot_uniform", kw_only=True)
    output_initializer: Initializer | str | None = field(default=None, kw_only=True)
    bias_initializer: Initializer | str = field(default="zeros", kw_only=True)
    kernel_regularizer: Regularizer | str | None = field(default=None, kw_only=True)
    bias_regularizer: Regularizer | str | None = field(default=None, kw_only=True)
    kernel_constraint: Constraint | str | None = field(default=None, kw_only=True)
    bias_constraint: Constraint | str | None = field(default=None, kw_only=True)

    def prepare(self) -> None:
        self.head_dim = size("head_dim", self.head_dim)
        self.num_query_heads = size("num_query_heads", self.num_query_heads)
        self.num_key_value_heads = size("num_key_value_heads", self.num_key_value_heads)
        if self.num_query_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_key_value_heads: expected a divisor of num_query_heads, which is {self.num_query_heads}, got "
                f"{self.num_key_value_heads}"
            )
        super().prepare()

    @property
    def heads(self) -> tuple[int, int, int, int]:
        return self.num_query_heads, self.num_key_value_heads, self.head_dim, self.head_dim
