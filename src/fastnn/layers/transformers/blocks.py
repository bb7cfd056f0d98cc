"""Blocks of transformers: TransformerEncoder and TransformerDecoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, ClassVar

from fastnn import activations, initializers, regularizers
from fastnn.activations import Activation
from fastnn.checks import flag, number, shorten, size
from fastnn.config import register
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.elementwise import elementwise
from fastnn.graph.ops.moves import reshape
from fastnn.initializers import Initializer
from fastnn.layers.base import Layer, ParameterSpec, Scope, Shape
from fastnn.layers.core import Dense
from fastnn.layers.low_rank import Adaptable, LowRank
from fastnn.layers.normalization import LayerNorm
from fastnn.layers.random import Dropout
from fastnn.layers.symbols import Symbol
from fastnn.layers.tracing import STREAMS
from fastnn.layers.transformers.attention import MultiHeadAttention, comes_from, product_of_masks
from fastnn.regularizers import Regularizer

__all__ = ["TransformerDecoder", "TransformerEncoder"]


#: computes the self-attention of a block: of its inputs, its weights, and the updates of these
Attend = Callable[[Tensor, Sequence[Tensor], Mapping[str, LowRank], Scope], Tensor]
_DENSE = ("feedforward_intermediate_dense_kernel", "feedforward_output_dense_kernel")
_SELF, _CROSS = (
    tuple([f"{kind}_attention_{name}" for name in MultiHeadAttention.adaptable]) for kind in ("self", "cross")
)


class _Block(Adaptable):
    """Attention and two dense layers, with normalisation and sums.

    A call is on the sequence, then the sequence of an encoder, if any. Masks follow, which have more axes: those of the
    block's own sequence three, those of the encoder's four.
    """

    takes_mask = True
    passes_mask = True

    intermediate_dim: int
    num_heads: int
    dropout: float
    activation: Activation | str | None
    layer_norm_epsilon: float
    kernel_initializer: Initializer | str
    bias_initializer: Initializer | str
    normalize_first: bool
    kernel_regularizer: Regularizer | str | None
    bias_regularizer: Regularizer | str | None
    #: whether a step has itself and the steps before alone
    causal: bool
    #: how many sequences it takes at most
    most: ClassVar[int]
    #: the parts after attention, in the order of their weights
    feedforward: ClassVar[tuple[str, ...]]

    def prepare(self) -> None:
        for name in ("intermediate_dim", "num_heads"):
            setattr(self, name, size(name, getattr(self, name)))
        self.dropout = number("dropout", self.dropout, at_least=0.0, below=1.0)
        self.layer_norm_epsilon = number("layer_norm_epsilon", self.layer_norm_epsilon, at_least=1e-12, below=1.0)
        flag("normalize_first", self.normalize_first)
        flag("causal", self.causal)
        self.activation = activations.get(self.activation)
        for name in ("kernel", "bias"):
            for what, get in (("initializer", initializers.get), ("regularizer", regularizers.get)):
                setattr(self, f"{name}_{what}", get(getattr(self, f"{name}_{what}")))

    def _masked(
        self, inputs: Symbol | Sequence[Symbol], own: Sequence[Symbol | None], others: Sequence[Symbol | None]
    ) -> list[Symbol]:
        """Return what a call is on: sequences, and the product of all masks of each."""
        symbols = self.symbols(inputs)
        found = [x for x in symbols if len(x.shape) < 3]
        if len(found) < 2 and any(mask is not None for mask in others):
            raise self.fail("takes masks of an encoder's sequence with such a sequence only")
        sequences = found[:2]
        for axes, sequence, masks in zip((3, 4), sequences, (own, others), strict=False):
            given = [x for x in symbols if len(x.shape) == axes]
            for mask in masks:
                if mask is not None and (not isinstance(mask, Symbol) or len(mask.shape) > 3):
                    raise self.fail(f"takes masks that are symbols of one to three axes, got {shorten(mask)}")
                given += [] if mask is None else [mask]
            implied = sequence.mask
            if implied is not None and not any(comes_from(mask, implied) for mask in given):
                given.append(implied)
            if given:
                found.append(product_of_masks(given, sequence.shape[0], axes))
        return found

    def with_mask(self, symbols: tuple[Symbol, ...]) -> tuple[Symbol, ...]:
        return tuple(self._masked(symbols, (), ()))

    def mask_of(self, symbols: Sequence[Symbol]) -> Symbol | None:
        """Return the mask of the sequence."""
        return symbols[0].mask

    def _sequences(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Return the shapes of the sequences, checked."""
        found = [shape for shape in shapes if len(shape) < 3]
        for shape in found:
            if len(shape) != 2:
                raise self.fail(f"takes sequences of samples of shape (steps, features), got {shape}")
        if not 0 < len(found) <= self.most:
            raise self.fail(f"takes {self.most} sequence(s), got samples of shapes {list(shapes)}")
        if found[0][1] < self.num_heads:
            raise self.fail(f"has {self.num_heads} heads, and takes at least as many features, got {found[0]}")
        return found

    def output_shape(self, *shapes: Shape) -> Shape:
        found = self._sequences(shapes)
        for layer, sequences, axes in zip(self._attentions(found), (found[:1] * 2, found), (3, 4), strict=False):
            query, value = sequences
            for mask in (shape[axes - 3 :] for shape in shapes if len(shape) == axes):
                layer.output_shape(query, value, value, mask)
        return found[0]

    def self_attention(self, features: int) -> MultiHeadAttention:
        """Return the layer of attention to the block's own sequence."""
        return MultiHeadAttention(
            self.num_heads, features // self.num_heads, dropout=self.dropout, causal=self.causal, name=self.name,
            kernel_initializer=self.kernel_initializer, bias_initializer=self.bias_initializer,
            kernel_regularizer=self.kernel_regularizer, bias_regularizer=self.bias_regularizer,
        )  # fmt: skip

    def _attentions(self, sequences: Sequence[Shape]) -> list[MultiHeadAttention]:
        own = self.self_attention(sequences[0][1])
        return [own, replace(own, causal=False)][: len(sequences)]

    def _parts(self, sequences: Sequence[Shape]) -> dict[str, tuple[Layer, tuple[Shape, ...]]]:
        """Return the layers with weights and the shapes of their inputs, in the order of the weights."""
        x, features = sequences[0], sequences[0][1]
        norm = LayerNorm(epsilon=self.layer_norm_epsilon)
        found: dict[str, tuple[Layer, tuple[Shape, ...]]] = {}
        names = ("self_attention", "cross_attention")
        for name, layer, given in zip(names, self._attentions(sequences), ((x,), tuple(sequences)), strict=False):
            found[name] = (layer, given)
            found[f"{name}_layer_norm"] = (norm, (x,))
        after: dict[str, tuple[Layer, tuple[Shape, ...]]] = {"layer_norm": (norm, (x,))}
        for name, units, activation, inner in (
            ("intermediate_dense", self.intermediate_dim, self.activation, x),
            ("output_dense", features, None, (x[0], self.intermediate_dim)),
        ):
            dense = Dense(
                units, activation, True, self.kernel_initializer, self.bias_initializer, self.kernel_regularizer,
                self.bias_regularizer,
            )  # fmt: skip
            after[name] = (dense, (inner,))
        return found | {f"feedforward_{name}": after[name] for name in self.feedforward}

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        return tuple(
            replace(spec, name=f"{name}_{spec.name}")
            for name, (layer, given) in self._parts(self._sequences(shapes)).items()
            for spec in layer.parameters(*given)
        )

    def inputs_of(self, name: str) -> int:
        return 2 if name.endswith("attention_output_kernel") else 1

    def adapted(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], updates: Mapping[str, LowRank],
        scope: Scope,
    ) -> Tensor:  # fmt: skip
        return self.computed(graph, inputs, weights, updates, scope, None)

    def computed(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], updates: Mapping[str, LowRank],
        scope: Scope, attend: Attend | None,
    ) -> Tensor:  # fmt: skip
        """Add the block's nodes to a graph, with another self-attention if it is given."""
        sequences = [x for x in inputs if len(x.shape) < 3]
        parts, held, at = self._parts([x.shape for x in sequences]), {}, 0
        for name, (layer, given) in parts.items():
            following = at + len(layer.parameters(*given))
            held[name], at = weights[at:following], following
        scopes = (replace(scope, number=scope.number + place * STREAMS) for place in count())
        dropped = Dropout(self.dropout)

        def updates_of(name: str) -> dict[str, LowRank]:
            ahead = f"{name}_"
            return {full.removeprefix(ahead): one for full, one in updates.items() if full.startswith(ahead)}

        def part(name: str, *given: Tensor) -> Tensor:
            layer, scope = parts[name][0], next(scopes)
            made: Any = (
                layer.adapted(graph, given, held[name], updates_of(name), scope) if isinstance(layer, Adaptable)
                else layer.apply(graph, given, held[name], scope)
            )  # fmt: skip
            found: Tensor = made
            return found

        def added(x: Tensor, name: str, compute: Callable[[Tensor], Tensor]) -> Tensor:
            y = compute(part(f"{name}_layer_norm", x) if self.normalize_first else x)
            y = elementwise(graph, "add", [x, dropped.apply(graph, [y], (), next(scopes))], scope.label)
            return y if self.normalize_first else part(f"{name}_layer_norm", y)

        def attended(name: str, axes: int, other: Tensor | None) -> Callable[[Tensor], Tensor]:
            masks = [reshape(graph, x, x.shape[axes - 3 :], scope.label) for x in inputs if len(x.shape) == axes]

            def compute(y: Tensor) -> Tensor:
                value = y if other is None else other
                return part(name, y, value, value, *masks)

            return compute

        def own(y: Tensor) -> Tensor:
            if attend is not None:
                return attend(y, held["self_attention"], updates_of("self_attention"), next(scopes))
            return attended("self_attention", 3, None)(y)

        x = added(sequences[0], "self_attention", own)
        for other in sequences[1:]:
            x = added(x, "cross_attention", attended("cross_attention", 4, other))
        return added(
            x, "feedforward", lambda y: part("feedforward_output_dense", part("feedforward_intermediate_dense", y))
        )


@register("layer")
@dataclass(eq=False, repr=False)
class TransformerEncoder(_Block):
    """A block of an encoder (Vaswani et al. 2017): self-attention and two dense layers, each added to what it takes.

    ::

        y = fnn.TransformerEncoder(intermediate_dim=512, num_heads=4, normalize_first=True)(x)

    Parameters
    ----------
    intermediate_dim : int
        Units of the first dense layer.
    num_heads : int
        Heads of attention, of features // num_heads numbers each.
    dropout : float
        Of the weights of attention and of what is added, in [0, 1).
    activation : str or activation object
        Of the first dense layer.
    layer_norm_epsilon : float
        Of both normalisations.
    kernel_initializer, bias_initializer : str or initializer
    kernel_regularizer, bias_regularizer : str, regularizer or None
        Of attention and the dense layers.
    normalize_first : bool
        Whether what attention and the dense layers take is normalised, as in GPT-2, or the sums, as in BERT.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid, or shapes do not fit.

    Notes
    -----
    Samples have shape (steps, features), and so have the results. Padded steps are left out by attention: those of the
    mask of the sequence (`symbol.mask`), and those of the masks that a call gets. Arguments, defaults and the order of
    the weights are KerasHub's: those of attention, as in `MultiHeadAttention`, its normalisation, that of the dense
    layers, and the two dense layers.
    """

    arity = (1, 2)
    causal = False
    most = 1
    adaptable = (*_SELF, *_DENSE)
    feedforward = ("layer_norm", "intermediate_dense", "output_dense")

    intermediate_dim: int
    num_heads: int
    dropout: float = 0.0
    activation: Activation | str | None = "relu"
    layer_norm_epsilon: float = 1e-5
    kernel_initializer: Initializer | str = "glorot_uniform"
    bias_initializer: Initializer | str = "zeros"
    normalize_first: bool = field(default=False, kw_only=True)
    kernel_regularizer: Regularizer | str | None = field(default=None, kw_only=True)
    bias_regularizer: Regularizer | str | None = field(default=None, kw_only=True)

    def __call__(
        self, inputs: Symbol | Sequence[Symbol], padding_mask: Symbol | None = None,
        attention_mask: Symbol | None = None,
    ) -> Any:  # fmt: skip
        """Apply the block to a symbol.

        Parameters
        ----------
        inputs : Symbol
            Sequences, of samples (steps, features).
        padding_mask : Symbol, optional
            1 for the steps that there are and 0 for others, of samples (steps,).
        attention_mask : Symbol, optional
            1 for keys that a query has and 0 for others, of samples (queries, keys) or (heads, queries, keys).
        """
        return super().__call__(self.gathered(inputs, padding_mask, attention_mask))

    def gathered(
        self, inputs: Any, padding_mask: Symbol | None = None, attention_mask: Symbol | None = None
    ) -> list[Symbol]:
        return self._masked(inputs, (padding_mask, attention_mask), ())


@register("layer")
@dataclass(eq=False, repr=False)
class TransformerDecoder(_Block):
    """A block of a decoder (Vaswani et al. 2017): causal self-attention, attention to an encoder, two dense layers.

    ::

        y = fnn.TransformerDecoder(intermediate_dim=512, num_heads=4)(x)
        y = fnn.TransformerDecoder(intermediate_dim=512, num_heads=4)(x, encoded)

    The first form has no attention to an encoder.

    Parameters
    ----------
    intermediate_dim : int
        Units of the first dense layer.
    num_heads : int
        Heads of attention, of features // num_heads numbers each.
    dropout : float
        Of the weights of attention and of what is added, in [0, 1).
    activation : str or activation object
        Of the first dense layer.
    layer_norm_epsilon : float
        Of all normalisations.
    kernel_initializer, bias_initializer : str or initializer
    kernel_regularizer, bias_regularizer : str, regularizer or None
        Of attention and the dense layers.
    normalize_first : bool
        Whether what attention and the dense layers take is normalised, as in GPT-2, or the sums.
    causal : bool
        Whether a step has itself and the steps before alone. (An argument of the call in KerasHub, `use_causal_mask`.)

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid, or shapes do not fit.

    Notes
    -----
    Samples have shape (steps, features), and so have the results; the encoder's may have others. Padded steps are left
    out by attention: those of the masks of the sequences (`symbol.mask`), and those of the masks that a call gets.
    Arguments, defaults and the order of the weights are KerasHub's: those of self-attention and its normalisation, of
    attention to the encoder and its normalisation, of the two dense layers and their normalisation. Blocks without an
    encoder go step by step (`fastnn.nopython.step`).
    """

    arity = (1, 4)
    most = 2
    adaptable = (*_SELF, *_CROSS, *_DENSE)
    feedforward = ("intermediate_dense", "output_dense", "layer_norm")

    intermediate_dim: int
    num_heads: int
    dropout: float = 0.0
    activation: Activation | str | None = "relu"
    layer_norm_epsilon: float = 1e-5
    kernel_initializer: Initializer | str = "glorot_uniform"
    bias_initializer: Initializer | str = "zeros"
    normalize_first: bool = field(default=False, kw_only=True)
    kernel_regularizer: Regularizer | str | None = field(default=None, kw_only=True)
    bias_regularizer: Regularizer | str | None = field(default=None, kw_only=True)
    causal: bool = field(default=True, kw_only=True)

    def __call__(
        self, decoder_sequence: Symbol | Sequence[Symbol], encoder_sequence: Symbol | None = None,
        decoder_padding_mask: Symbol | None = None, decoder_attention_mask: Symbol | None = None,
        encoder_padding_mask: Symbol | None = None, encoder_attention_mask: Symbol | None = None,
    ) -> Any:  # fmt: skip
        """Apply the block to symbols.

        Parameters
        ----------
        decoder_sequence : Symbol
            Sequences, of samples (steps, features); or a list of them and the encoder's.
        encoder_sequence : Symbol, optional
            The encoder's, of samples (keys, features).
        decoder_padding_mask, encoder_padding_mask : Symbol, optional
            1 for the steps that there are and 0 for others, of samples (steps,) and (keys,).
        decoder_attention_mask, encoder_attention_mask : Symbol, optional
            1 for what a step has and 0 for others, of samples (steps, steps) and (steps, keys), or with an axis of
            heads before them.
        """
        return super().__call__(
            self.gathered(
                decoder_sequence, encoder_sequence, decoder_padding_mask, decoder_attention_mask, encoder_padding_mask,
                encoder_attention_mask,
            )
        )  # fmt: skip

    def gathered(
        self, decoder_sequence: Any, encoder_sequence: Symbol | None = None,
        decoder_padding_mask: Symbol | None = None, decoder_attention_mask: Symbol | None = None,
        encoder_padding_mask: Symbol | None = None, encoder_attention_mask: Symbol | None = None,
    ) -> list[Symbol]:  # fmt: skip
        several = isinstance(decoder_sequence, (list, tuple))
        given: list[Any] = list(decoder_sequence) if several else [decoder_sequence]
        if encoder_sequence is not None:
            given.append(encoder_sequence)
        own, others = (decoder_padding_mask, decoder_attention_mask), (encoder_padding_mask, encoder_attention_mask)
        return self._masked(given, own, others)
