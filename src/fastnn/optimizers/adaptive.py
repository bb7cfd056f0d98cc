"""Optimizers that divide by a root of squared gradients: AdaGrad, RMSprop, Adadelta."""

from __future__ import annotations

from dataclasses import dataclass

from fastnn.optimizers.base import Optimizer, Scalars
from fastnn.registry import register
from fastnn.schedules import LearningRate


@register("optimizer")
@dataclass
class AdaGrad(Optimizer):
    """Gradient descent divided by the root of the sum of all squared gradients (Keras 3 ``Adagrad``).

    ``accumulator += g**2`` and ``p -= learning_rate * g / sqrt(accumulator + epsilon)``.
    Source: Duchi, Hazan and Singer 2011.

    Parameters
    ----------
    learning_rate : float, Schedule or function
        As in `Optimizer`, like all keyword arguments that are not named here.
    initial_accumulator_value : float
        First value of the accumulator, not negative.
    epsilon : float
        Added under the root, positive.
    """

    learning_rate: LearningRate = 0.001
    initial_accumulator_value: float = 0.1
    epsilon: float = 1e-7

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        super().__post_init__()
        self._check("initial_accumulator_value", at_least=0.0)
        self._check("epsilon", above=0.0)

    @property
    def formula(self) -> str:
        """Name of the update formula."""
        return "adagrad"

    @property
    def _formula_initial(self) -> tuple[float, ...]:
        return (self.initial_accumulator_value,)

    def _scalars(self, first: int) -> Scalars:
        return {"epsilon": self.epsilon}


@register("optimizer")
@dataclass
class RMSprop(Optimizer):
    """Gradient descent divided by the root of a running mean of squared gradients (Keras 3 ``RMSprop``).

    ``v = rho * v + (1 - rho) * g**2`` and ``p -= learning_rate * g / sqrt(v + epsilon)``. Source: Hinton
    2012, Neural Networks for Machine Learning, lecture 6; the centered form is Graves' (2013,
    arXiv:1308.0850).

    Parameters
    ----------
    learning_rate : float, Schedule or function
        As in `Optimizer`, like all keyword arguments that are not named here.
    rho : float
        Decay of the running means, in [0, 1).
    momentum : float
        In [0, 1]; if not 0, the steps are summed up as ``m = momentum * m + step`` and ``p -= m``.
    epsilon : float
        Added under the root, positive.
    centered : bool
        Divide by the root of the running variance, ``v`` less the square of the running mean of the gradient.
    """

    learning_rate: LearningRate = 0.001
    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7
    centered: bool = False

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        super().__post_init__()
        self._check("rho", at_least=0.0, below=1.0)
        self._check("momentum", at_least=0.0, at_most=1.0)
        self._check("epsilon", above=0.0)
        self._check_flag("centered")

    @property
    def formula(self) -> str:
        """Name of the update formula."""
        return "rmsprop" + "_centered" * self.centered + "_momentum" * (self.momentum != 0.0)

    def _scalars(self, first: int) -> Scalars:
        return {
            "rho": self.rho,
            "one_minus_rho": 1.0 - self.rho,
            "epsilon": self.epsilon,
            "momentum": self.momentum,
        }


@register("optimizer")
@dataclass
class Adadelta(Optimizer):
    """Gradient descent scaled by means of squared steps over squared gradients (Keras 3 ``Adadelta``).

    ``delta = sqrt(mean(delta**2) + epsilon) / sqrt(mean(g**2) + epsilon) * g`` and ``p -= learning_rate *
    delta``. Source: Zeiler 2012 (arXiv:1212.5701).

    Parameters
    ----------
    learning_rate : float, Schedule or function
        As in `Optimizer`, like all keyword arguments that are not named here. The paper has none, which is 1.
    rho : float
        Decay of the running means, in [0, 1).
    epsilon : float
        Added under the roots, positive.
    """

    learning_rate: LearningRate = 0.001
    rho: float = 0.95
    epsilon: float = 1e-7

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        super().__post_init__()
        self._check("rho", at_least=0.0, below=1.0)
        self._check("epsilon", above=0.0)

    @property
    def formula(self) -> str:
        """Name of the update formula."""
        return "adadelta"

    def _scalars(self, first: int) -> Scalars:
        return {"rho": self.rho, "one_minus_rho": 1.0 - self.rho, "epsilon": self.epsilon}
