"""Optimizers with bias-corrected first and second moments: Adam, AdamW, Nadam."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from fastnn.formulas import corrections
from fastnn.formulas.corrections import NADAM_DECAY
from fastnn.optimizers._blocks import BLOCK, RunningProduct, powers
from fastnn.optimizers.base import Array, Optimizer, Scalars
from fastnn.registry import register
from fastnn.schedules import LearningRate

_corrections = corrections.define(lambda function: function, np.sqrt)


@dataclass
class _Moments(Optimizer):
    """Running means of the gradient and of its square."""

    learning_rate: LearningRate = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    _power_1: RunningProduct = field(init=False, repr=False, compare=False)
    _power_2: RunningProduct = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        super().__post_init__()
        self._check("beta_1", "beta_2", at_least=0.0, below=1.0)
        self._check("epsilon", above=0.0)
        self._set("_power_1", powers(self.beta_1))
        self._set("_power_2", powers(self.beta_2))

    def _moment_scalars(self) -> Scalars:
        return {
            "one_minus_beta_1": 1.0 - self.beta_1,
            "one_minus_beta_2": 1.0 - self.beta_2,
            "epsilon": self.epsilon,
        }


@register("optimizer")
@dataclass
class Adam(_Moments):
    """Adaptive moment estimation (Keras 3 ``Adam``).

    ``m += (1 - beta_1) * (g - m)``, ``v += (1 - beta_2) * (g**2 - v)`` and
    ``p -= learning_rate * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon)`` at step t = 1,
    2, ... Source: Kingma and Ba 2014 (arXiv:1412.6980), the form before section 2.1, whose ``epsilon`` this
    is.

    Parameters
    ----------
    learning_rate : float, Schedule or function
        As in `Optimizer`, like all keyword arguments that are not named here.
    beta_1, beta_2 : float
        Decay of the running means of the gradient and of its square, in [0, 1).
    epsilon : float
        Added to the root, positive.
    amsgrad : bool
        Divide by the root of the highest ``v`` so far (Reddi, Kale and Kumar 2018, arXiv:1904.09237).
    """

    amsgrad: bool = False

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        super().__post_init__()
        self._check_flag("amsgrad")

    @property
    def formula(self) -> str:
        """Name of the update formula."""
        return "adam_amsgrad" if self.amsgrad else "adam"

    def _scalars(self, first: int) -> Scalars:
        correction = _corrections.adam(self._power_1.block(first), self._power_2.block(first))
        return {**self._moment_scalars(), "step": correction}

    def _progress(self, updates: int) -> dict[str, float]:
        powers = {"power_1": self._power_1.before(updates), "power_2": self._power_2.before(updates)}
        return {"beta_1": self.beta_1, "beta_2": self.beta_2, **powers}


@register("optimizer")
@dataclass
class AdamW(Adam):
    """Adam with decoupled weight decay (Keras 3 ``AdamW``).

    Every parameter loses ``learning_rate * weight_decay`` of itself before Adam's update.
    Source: Loshchilov and Hutter 2017 (arXiv:1711.05101).

    Parameters
    ----------
    learning_rate : float, Schedule or function
        As in `Optimizer`, like all keyword arguments that are not named here.
    weight_decay : float
        Not negative.
    beta_1, beta_2, epsilon, amsgrad
        As in `Adam`.
    """

    weight_decay: float | None = 0.004

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        if self.weight_decay is None:
            raise TypeError("AdamW.weight_decay: expected a number, got None; Adam has no weight decay")
        super().__post_init__()


@register("optimizer")
@dataclass
class Nadam(_Moments):
    """Adam with Nesterov momentum (Keras 3 ``Nadam``).

    With ``u_t = beta_1 * (1 - 0.5 * 0.96**t)`` and ``U_t = u_1 * ... * u_t``, the first moment of Adam
    becomes ``u_(t+1) * m / (1 - U_(t+1)) + (1 - u_t) * g / (1 - U_t)``; the rest is Adam's paper form.
    Source: Dozat 2016, Incorporating Nesterov momentum into Adam.

    Parameters
    ----------
    learning_rate : float, Schedule or function
        As in `Optimizer`, like all keyword arguments that are not named here.
    beta_1, beta_2 : float
        Decay of the running means of the gradient and of its square, in [0, 1).
    epsilon : float
        Added to the root, positive.
    """

    _power: RunningProduct = field(init=False, repr=False, compare=False)
    _product: RunningProduct = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        super().__post_init__()
        self._set("_power", powers(NADAM_DECAY))
        self._set("_product", RunningProduct(partial(_momenta, self.beta_1, self._power)))

    @property
    def formula(self) -> str:
        """Name of the update formula."""
        return "nadam"

    def _scalars(self, first: int) -> Scalars:
        momenta = _momenta(self.beta_1, self._power, first, BLOCK + 1)
        step, step_g = _corrections.nadam(momenta[:-1], momenta[1:], self._product.block(first))
        correction = _corrections.unbiased(self._power_2.block(first))
        return {**self._moment_scalars(), "step": step, "step_g": step_g, "v_correction": correction}

    def _progress(self, updates: int) -> dict[str, float]:
        return {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "power_2": self._power_2.before(updates),
            "power": self._power.before(updates),
            "product": self._product.before(updates),
        }


def _momenta(beta_1: float, power: RunningProduct, first: int, n: int) -> Array:
    """Return the momenta of at most `BLOCK` + 1 steps from the first of a block on."""
    powers = power.block(first)
    powers = np.append(powers, powers[-1] * NADAM_DECAY)
    return np.asarray(_corrections.momentum(beta_1, powers[:n]))
