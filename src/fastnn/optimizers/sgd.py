"""Optimizers without a second moment: gradient descent with its momentum variants, and Lion."""

from __future__ import annotations

from dataclasses import dataclass

from fastnn.optimizers.base import Optimizer, Scalars
from fastnn.registry import register
from fastnn.schedules import LearningRate


@register("optimizer")
@dataclass
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum or Nesterov momentum (Keras 3 ``SGD``).

    Without momentum ``p -= learning_rate * g``. With it ``m = momentum * m - learning_rate * g`` and ``p +=
    m``; Nesterov's form adds ``momentum * m - learning_rate * g`` instead (Sutskever et al. 2013).

    Parameters
    ----------
    learning_rate : float, Schedule or function
        As in `Optimizer`, like all keyword arguments that are not named here.
    momentum : float
        In [0, 1].
    nesterov : bool
        Use Nesterov's form. Without momentum there is no difference.
    """

    learning_rate: LearningRate = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        super().__post_init__()
        self._check("momentum", at_least=0.0, at_most=1.0)
        self._check_flag("nesterov")

    @property
    def formula(self) -> str:
        """Name of the update formula."""
        if self.momentum == 0.0:
            return "sgd"
        return "sgd_nesterov" if self.nesterov else "sgd_momentum"

    def _scalars(self, first: int) -> Scalars:
        return {"momentum": self.momentum}


@register("optimizer")
@dataclass
class Lion(Optimizer):
    """Steps of one size along the sign of an averaged gradient (Keras 3 ``Lion``).

    ``p -= learning_rate * sign(beta_1 * m + (1 - beta_1) * g)``, then ``m = beta_2 * m + (1 - beta_2) * g``.
    Source: Chen et al. 2023 (arXiv:2302.06675).

    Parameters
    ----------
    learning_rate : float, Schedule or function
        As in `Optimizer`, like all keyword arguments that are not named here. Three to ten times smaller than
        Adam's is usual.
    beta_1 : float
        Weight of the average in the step, in (0, 1).
    beta_2 : float
        Decay of the average, in [0, 1).
    """

    learning_rate: LearningRate = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.99

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        super().__post_init__()
        self._check("beta_1", above=0.0, below=1.0)
        self._check("beta_2", at_least=0.0, below=1.0)

    @property
    def formula(self) -> str:
        """Name of the update formula."""
        return "lion"

    def _scalars(self, first: int) -> Scalars:
        return {
            "beta_1": self.beta_1,
            "one_minus_beta_1": 1.0 - self.beta_1,
            "beta_2": self.beta_2,
            "one_minus_beta_2": 1.0 - self.beta_2,
        }
