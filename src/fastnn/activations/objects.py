"""The activations: one immutable dataclass each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fastnn.activations.base import Activation
from fastnn.checks import flag, number
from fastnn.registry import register


@register("activation")
@dataclass(frozen=True)
class Linear(Activation):
    """Identity: y = x (Keras `linear`)."""

    formula: ClassVar[str] = "linear"


@register("activation")
@dataclass(frozen=True)
class Step(Activation):
    """Threshold of the classic artificial neuron: 1 where x >= threshold, else 0; it has no gradient.

    Parameters
    ----------
    threshold : float
        Finite; the output is 1 from this value on (McCulloch & Pitts 1943; Rosenblatt 1958).
    """

    threshold: float = 0.0
    formula: ClassVar[str] = "step"

    def __post_init__(self) -> None:
        """Check the parameters."""
        object.__setattr__(self, "threshold", number("Step threshold", self.threshold))

    @property
    def parameters(self) -> tuple[float, ...]:
        """The threshold."""
        return (self.threshold,)


@register("activation")
@dataclass(frozen=True)
class Sigmoid(Activation):
    """Logistic function 1 / (1 + exp(-x)), with values in (0, 1) (Keras `sigmoid`)."""

    formula: ClassVar[str] = "sigmoid"


@register("activation")
@dataclass(frozen=True)
class HardSigmoid(Activation):
    """Piecewise linear sigmoid relu6(x + 3) / 6 (Keras `hard_sigmoid`)."""

    formula: ClassVar[str] = "hard_sigmoid"


@register("activation")
@dataclass(frozen=True)
class Tanh(Activation):
    """Hyperbolic tangent, with values in (-1, 1) (Keras `tanh`)."""

    formula: ClassVar[str] = "tanh"


@register("activation")
@dataclass(frozen=True)
class ReLU(Activation):
    """Rectified linear unit max(0, x); its gradient at 0 is 0 (Nair & Hinton 2010; Keras `relu`)."""

    formula: ClassVar[str] = "relu"


@register("activation")
@dataclass(frozen=True)
class ReLU6(Activation):
    """Rectified linear unit cut at 6: min(max(0, x), 6) (Keras `relu6`)."""

    formula: ClassVar[str] = "relu6"


@register("activation")
@dataclass(frozen=True)
class LeakyReLU(Activation):
    """Rectified linear unit with a slope on the negative side (Maas et al. 2013; Keras `leaky_relu`).

    Parameters
    ----------
    negative_slope : float
        Factor of negative x, finite and >= 0.
    """

    negative_slope: float = 0.2
    formula: ClassVar[str] = "leaky_relu"

    def __post_init__(self) -> None:
        """Check the parameters."""
        slope = number("LeakyReLU negative_slope", self.negative_slope, at_least=0.0)
        object.__setattr__(self, "negative_slope", slope)

    @property
    def parameters(self) -> tuple[float, ...]:
        """The negative slope."""
        return (self.negative_slope,)


@register("activation")
@dataclass(frozen=True)
class ELU(Activation):
    """Exponential linear unit: x, or alpha (exp(x) - 1) for negative x (Clevert et al. 2016; Keras `elu`).

    Parameters
    ----------
    alpha : float
        Minus the limit for x -> -infinity, finite and >= 0.
    """

    alpha: float = 1.0
    formula: ClassVar[str] = "elu"

    def __post_init__(self) -> None:
        """Check the parameters."""
        object.__setattr__(self, "alpha", number("ELU alpha", self.alpha, at_least=0.0))

    @property
    def parameters(self) -> tuple[float, ...]:
        """The scale alpha of the negative side."""
        return (self.alpha,)


@register("activation")
@dataclass(frozen=True)
class SELU(Activation):
    """Self-normalising scaled ELU, 1.0507 elu(x, 1.6733) (Klambauer et al. 2017; Keras `selu`)."""

    formula: ClassVar[str] = "selu"


@register("activation")
@dataclass(frozen=True)
class GELU(Activation):
    """Gaussian error linear unit x Phi(x) (Hendrycks & Gimpel 2016; Keras `gelu`).

    Parameters
    ----------
    approximate : bool
        Use the tanh approximation, as GPT-2 does: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
    """

    approximate: bool = False

    def __post_init__(self) -> None:
        """Check the parameters."""
        flag("GELU approximate", self.approximate)

    @property
    def formula(self) -> str:  # type: ignore[override]
        """`gelu_tanh` for the approximation, else `gelu`."""
        return "gelu_tanh" if self.approximate else "gelu"


@register("activation")
@dataclass(frozen=True)
class SiLU(Activation):
    """Sigmoid linear unit x sigmoid(x), also called swish (Ramachandran et al. 2017; Keras `silu`)."""

    formula: ClassVar[str] = "silu"


@register("activation")
@dataclass(frozen=True)
class Mish(Activation):
    """Mish: x tanh(softplus(x)) (Misra 2019; Keras `mish`)."""

    formula: ClassVar[str] = "mish"


@register("activation")
@dataclass(frozen=True)
class Softplus(Activation):
    """Smooth rectifier log(1 + exp(x)) (Keras `softplus`)."""

    formula: ClassVar[str] = "softplus"


@register("activation")
@dataclass(frozen=True)
class Softsign(Activation):
    """Softsign x / (1 + abs(x)) (Keras `softsign`)."""

    formula: ClassVar[str] = "softsign"


@register("activation")
@dataclass(frozen=True)
class Exponential(Activation):
    """Exponential function exp(x), whose values are rates of counts, or scales (Keras `exponential`).

    The loss `Poisson` of such outputs is computed from x.
    """

    formula: ClassVar[str] = "exponential"


@register("activation")
@dataclass(frozen=True)
class Softmax(Activation):
    """Probabilities exp(x) / sum exp(x) over the last axis (Keras `softmax`)."""

    formula: ClassVar[str] = "softmax"
    rowwise: ClassVar[bool] = True


@register("activation")
@dataclass(frozen=True)
class LogSoftmax(Activation):
    """Logarithm of the softmax over the last axis (Keras `log_softmax`)."""

    formula: ClassVar[str] = "log_softmax"
    rowwise: ClassVar[bool] = True
