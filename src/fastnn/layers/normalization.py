"""Layers that normalise: BatchNorm over the batch, LayerNorm and RMSNorm over the features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from math import prod

from fastnn import initializers
from fastnn.checks import flag, integer, number, size
from fastnn.config import register
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.moves import permute, reshape
from fastnn.graph.ops.norms import batch_norm, layer_norm, rms_norm
from fastnn.graph.ops.pointwise import pointwise
from fastnn.initializers import Initializer
from fastnn.layers.base import Layer, ParameterSpec, Scope, Shape

__all__ = [
    "BatchNorm",
    "BatchNormalization",
    "GroupNorm",
    "GroupNormalization",
    "LayerNorm",
    "LayerNormalization",
    "RMSNorm",
    "RMSNormalization",
]


class _Normalization(Layer):
    passes_mask = True

    epsilon: float
    center: bool
    scale: bool
    gamma_initializer: Initializer | str
    beta_initializer: Initializer | str

    def prepare(self) -> None:
        self.epsilon = number("epsilon", self.epsilon, at_least=1e-12, below=1.0)
        for what in ("center", "scale"):
            flag(what, getattr(self, what))
        self.gamma_initializer = initializers.get(self.gamma_initializer)
        self.beta_initializer = initializers.get(self.beta_initializer)

    def output_shape(self, *shapes: Shape) -> Shape:
        if not shapes[0]:
            raise self.fail("takes inputs of shape (batch, ..., features), got (batch,)")
        return shapes[0]

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        columns = (shapes[0][-1],)
        gamma = ParameterSpec("gamma", columns, initializers.get(self.gamma_initializer))
        beta = ParameterSpec("beta", columns, initializers.get(self.beta_initializer))
        return (gamma,) * self.scale + (beta,) * self.center

    def _gamma_beta(self, weights: Sequence[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        gamma = weights[0] if self.scale else None
        beta = weights[int(self.scale)] if self.center else None
        return gamma, beta


@register("layer")
@dataclass(eq=False, repr=False, kw_only=True)
class LayerNorm(_Normalization):
    """Normalise the last axis of every sample to mean 0 and variance 1, then scale and shift.

    ::

        fnn.LayerNorm()

    Parameters
    ----------
    epsilon : float
        Added to the variance.
    center, scale : bool
        Whether to add beta and to multiply by gamma, both of shape (features,).

    Notes
    -----
    Ba, Kiros, Hinton 2016; the variance is the biased one. Defaults are Keras 3's.
    """

    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    gamma_initializer: Initializer | str = "ones"
    beta_initializer: Initializer | str = "zeros"

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        return layer_norm(graph, inputs[0], *self._gamma_beta(weights), self.epsilon, scope.label)


@register("layer")
@dataclass(eq=False, repr=False, kw_only=True)
class RMSNorm(_Normalization):
    """Divide the last axis of every sample by the root of its mean square, then scale.

    ::

        fnn.RMSNorm()

    Parameters
    ----------
    epsilon : float
        Added to the mean square.
    scale : bool
        Whether to multiply by gamma, of shape (features,).

    Notes
    -----
    Zhang, Sennrich 2019. As `RMSNormalization` in Keras 3, whose weight is called "scale".
    """

    epsilon: float = 1e-6
    scale: bool = True
    gamma_initializer: Initializer | str = "ones"
    center = False
    beta_initializer = "zeros"

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        gamma, _ = self._gamma_beta(weights)
        return rms_norm(graph, inputs[0], gamma, self.epsilon, scope.label)


@register("layer")
@dataclass(eq=False, repr=False, kw_only=True)
class BatchNorm(_Normalization):
    """Normalise every feature (last axis) over the batch, then scale and shift.

    ::

        fnn.BatchNorm()

    Parameters
    ----------
    momentum : float
        moving = moving * momentum + batch * (1 - momentum).
    epsilon : float
        Added to the variance.
    center, scale : bool
        Whether to add beta and to multiply by gamma, both of shape (features,).

    Notes
    -----
    Ioffe, Szegedy 2015. Prediction uses the moving mean and (biased) variance; so does a frozen layer
    (`trainable = False`) in training. Both are as in Keras 3, and so are the defaults.

    The statistics of a batch are accurate to a few ulp at any offset and for any number of rows. A variance that
    overflows float32 enters the moving variance as the largest float32. A batch of a single row has variance 0: `fit`
    and `train_on_batch` warn about it once.
    """

    momentum: float = 0.99
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    gamma_initializer: Initializer | str = "ones"
    beta_initializer: Initializer | str = "zeros"

    def prepare(self) -> None:
        super().prepare()
        self.momentum = number("momentum", self.momentum, at_least=0.0, at_most=1.0)

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        columns = (shapes[0][-1],)
        mean = ParameterSpec("moving_mean", columns, initializers.Zeros(), trained=False)
        variance = ParameterSpec("moving_variance", columns, initializers.Ones(), trained=False)
        return (*super().parameters(*shapes), mean, variance)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        return batch_norm(
            graph,
            inputs[0],
            *self._gamma_beta(weights),
            (weights[-2], weights[-1]),
            epsilon=self.epsilon,
            momentum=self.momentum,
            training=scope.training and scope.trainable,
            label=scope.label,
        )


# Keras' names
BatchNormalization = BatchNorm
LayerNormalization = LayerNorm
RMSNormalization = RMSNorm


@register("layer")
@dataclass(eq=False, repr=False)
class GroupNorm(_Normalization):
    """Normalise groups of channels of every sample to mean 0 and variance 1, then scale and shift each channel.

    ::

        fnn.GroupNorm(8)

    Parameters
    ----------
    groups : int
        Number of groups, which divides the channels, the last axis; -1 means a group for each channel.
    epsilon : float
        Added to the variance.
    center, scale : bool
        Whether to add beta and to multiply by gamma, both of shape (channels,).

    Notes
    -----
    Wu and He 2018: mean and variance are those of all pixels and channels of a group, so they do not depend on the
    batch. Defaults are Keras 3's.
    """

    groups: int = 32
    _: KW_ONLY
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    gamma_initializer: Initializer | str = "ones"
    beta_initializer: Initializer | str = "zeros"

    def prepare(self) -> None:
        if integer("groups", self.groups, at_least=-1) != -1:
            self.groups = size("groups", self.groups)
        super().prepare()

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = super().output_shape(*shapes)
        if self.groups > 0 and shape[-1] % self.groups:
            raise self.fail(f"has {self.groups} groups, which do not divide {shape[-1]} channels")
        return shape

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        (x,), label = inputs, scope.label
        channels = x.shape[-1]
        groups = channels if self.groups == -1 else self.groups
        pixels = prod(x.shape[:-1])
        # the groups' numbers side by side
        apart = reshape(graph, x, (pixels, groups, channels // groups), label)
        rows = reshape(graph, permute(graph, apart, (1, 0, 2), label), (groups, pixels * channels // groups), label)
        y = layer_norm(graph, rows, None, None, self.epsilon, label)
        together = permute(graph, reshape(graph, y, (groups, pixels, channels // groups), label), (1, 0, 2), label)
        y = reshape(graph, together, x.shape, label)
        gamma, beta = self._gamma_beta(weights)
        if gamma is not None:
            y = pointwise(graph, "multiply", (y, gamma), label)
        return y if beta is None else pointwise(graph, "add", (y, beta), label)


GroupNormalization = GroupNorm
