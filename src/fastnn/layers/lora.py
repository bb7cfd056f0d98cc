"""LoRA: a layer around another one, whose kernels get low-rank updates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from fastnn import initializers
from fastnn.checks import number, shorten, size
from fastnn.config import register
from fastnn.graph.graph import Graph, Tensor
from fastnn.initializers import Initializer
from fastnn.layers.base import Layer, ParameterSpec, Scope, Shape
from fastnn.layers.low_rank import Adaptable, LowRank
from fastnn.layers.symbols import Symbol

__all__ = ["LoRA"]


@register("layer")
@dataclass(eq=False, repr=False)
class LoRA(Layer):
    """Fine-tune a layer by low-rank updates of its kernels (Hu et al. 2021, "LoRA", arXiv:2106.09685).

    ::

        fnn.LoRA(fnn.Dense(64, activation="relu"), rank=4)
        fnn.LoRA(fnn.MultiHeadAttention(4, 32), rank=8, alpha=16, targets=("query_kernel", "value_kernel"))

    A kernel W of some inputs and outputs becomes W + alpha / rank * A @ B with A of shape (inputs, rank) and B of shape
    (rank, outputs). Only A and B are trained: the weights of `layer` are frozen, its biases too. B is zero at first, so
    the result is that of `layer`. `fastnn.lora` puts adapters into a model with trained weights, merges and saves them.

    Parameters
    ----------
    layer : Dense, Embedding, SwiGLU, MultiHeadAttention, GroupedQueryAttention, TransformerEncoder, TransformerDecoder
    rank : int
        Columns of A.
    alpha : float, optional
        The update is multiplied by alpha / rank; None means `rank`, and so the factor 1.
    targets : str or sequence of str, optional
        The names of the weights that get updates: "kernel" of `Dense`, "embeddings" of `Embedding`, "gate_kernel",
        "up_kernel" and "down_kernel" of `SwiGLU`, "query_kernel", "key_kernel", "value_kernel" and "output_kernel" of
        attention; of blocks those of attention after "self_attention_" or "cross_attention_", and
        "feedforward_intermediate_dense_kernel" and "feedforward_output_dense_kernel". None means all of these.
    a_initializer : str or initializer
        Of A. B begins with zeros.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid, or it is another layer: convolutions, recurrent and normalisation layers, and
        layers around others are not adapted. When it is called, and the layer has no weight of a name in `targets`:
        a `TransformerDecoder` has attention to an encoder only if the call has one.

    Notes
    -----
    The weights are those of `layer` under their names, and after them "lora_kernel_a" and "lora_kernel_b" for the
    weight "kernel", and likewise for others. The axes of heads are one axis of A and B. Neither A @ B nor gradients for
    W are computed. A call has the arguments of one of `layer`. Results, masks and the name, unless one is given, are
    those of `layer`. Names and defaults are those of ``enable_lora`` in Keras 3.
    """

    layer: Layer
    rank: int
    alpha: float | None = None
    targets: str | Sequence[str] | None = None
    a_initializer: Initializer | str = field(default="he_uniform", kw_only=True)

    def prepare(self) -> None:
        layer = self.layer
        if not isinstance(layer, Adaptable) or type(layer).apply is not Adaptable.apply:
            raise TypeError(
                "layer: expected a Dense, an Embedding, a SwiGLU, a MultiHeadAttention, a GroupedQueryAttention, a "
                f"TransformerEncoder or a TransformerDecoder, got {shorten(layer)}; others have no low-rank updates"
            )
        self.rank = size("rank", self.rank)
        if self.alpha is not None:
            self.alpha = number("alpha", self.alpha, above=0.0)
        self.targets = _checked_targets(self.targets, layer.adaptable)
        self.a_initializer = initializers.get(self.a_initializer)
        if self.name is None:
            self.name = layer.given_name

    @property
    def base(self) -> Adaptable:
        """The layer that is adapted."""
        assert isinstance(self.layer, Adaptable)
        return self.layer

    @property
    def scale(self) -> float:
        """The factor of A @ B."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    # --- as the layer -----------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Apply the layer to symbols, with the arguments of `layer`'s call."""
        return super().__call__(self.base.gathered(*args, **options))

    def check_count(self, count: int) -> None:
        self.base.check_count(count)

    def with_mask(self, symbols: tuple[Symbol, ...]) -> tuple[Symbol, ...]:
        return self.base.with_mask(symbols)

    def mask_of(self, symbols: Sequence[Symbol]) -> Symbol | None:
        return self.base.mask_of(symbols)

    def accepts(self, kind: str, position: int) -> bool:
        return self.layer.accepts(kind, position)

    def input_range(self, position: int, *shapes: Shape) -> tuple[int, int] | None:
        return self.layer.input_range(position, *shapes)

    def output_shape(self, *shapes: Shape) -> Shape | Sequence[Shape]:
        found = self.layer.output_shape(*shapes)
        self._targeted(self.layer.parameters(*shapes))  # raises if some are missing
        return found

    @property
    def passes_mask(self) -> bool:
        """Whether the layer passes masks on."""
        return self.layer.passes_mask

    @property
    def takes_mask(self) -> bool:
        """Whether the layer takes the mask of its first input."""
        return self.layer.takes_mask

    @property
    def makes_mask(self) -> bool:
        """Whether the layer makes a mask."""
        return self.layer.makes_mask

    # --- with updates -----------------------------------------------------------------------------------------

    def _targeted(self, specs: Sequence[ParameterSpec]) -> list[tuple[ParameterSpec, int, int]]:
        """Return the weights that have updates, among those of the layer, with their numbers of inputs and outputs."""
        found = []
        for spec in specs:
            if spec.name in (self.targets or ()):
                cut = self.base.inputs_of(spec.name)
                found.append((spec, prod(spec.shape[:cut]), prod(spec.shape[cut:])))
        known = [spec.name for spec in specs]
        missing = [name for name in self.targets or () if name not in known]
        if missing and self.targets != self.base.adaptable:
            raise self.fail(f"has low-rank updates of {missing[0]!r}, which its layer lacks for these inputs")
        return found

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        specs = self.layer.parameters(*shapes)
        frozen = [dataclasses.replace(spec, trained=False) for spec in specs]
        first, zeros = initializers.get(self.a_initializer), initializers.get("zeros")
        for spec, ins, outs in self._targeted(specs):
            frozen.append(ParameterSpec(f"lora_{spec.name}_a", (ins, self.rank), first))
            frozen.append(ParameterSpec(f"lora_{spec.name}_b", (self.rank, outs), zeros))
        return tuple(frozen)

    def split(self, weights: Sequence[Any], names: Sequence[str]) -> tuple[list[Any], dict[str, tuple[Any, Any]]]:
        """Return the layer's own weights, and A and B by the names of the weights that they update.

        `names` are those of its own weights, and possibly more.
        """
        targeted = [name for name in names if name in (self.targets or ())]
        count = len(weights) - 2 * len(targeted)
        pairs = zip(weights[count::2], weights[count + 1 :: 2], strict=True)
        return list(weights[:count]), dict(zip(targeted, pairs, strict=True))

    def updates(self, weights: Sequence[Tensor], *shapes: Shape) -> tuple[list[Tensor], dict[str, LowRank]]:
        """Return the layer's own weights, for inputs of some shapes, and the updates by the names of weights."""
        own, pairs = self.split(weights, [spec.name for spec in self.layer.parameters(*shapes)])
        return own, {name: LowRank(a, b, self.scale) for name, (a, b) in pairs.items()}

    def apply(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope
    ) -> Tensor | Sequence[Tensor]:
        own, updates = self.updates(weights, *(x.shape for x in inputs))
        return self.base.adapted(graph, inputs, own, updates, scope)


def _checked_targets(given: Any, adaptable: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the weights that get updates, in the layer's order."""
    names = adaptable if given is None else (given,) if isinstance(given, str) else given
    if not isinstance(names, (tuple, list)) or not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"targets: expected names of weights, among {list(adaptable)}, got {shorten(given)}")
    unknown = [name for name in names if name not in adaptable]
    if unknown:
        raise ValueError(f"targets: expected names among {list(adaptable)}, got {unknown[0]!r}")
    return tuple(name for name in adaptable if name in names)
