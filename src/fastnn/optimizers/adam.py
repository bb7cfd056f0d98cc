"""Optimizers with bias-corrected first and second moments: Adam, AdamW, Nadam."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fastnn.optimizers._blocks import BLOCK
from fastnn.optimizers.base import Array, Optimizer, Scalars
from fastnn.registry import register
from fastnn.schedules import LearningRate

_NADAM_DECAY = 0.96


@dataclass
class _Moments(Optimizer):
    """Running means of the gradient and of its square."""

    learning_rate: LearningRate = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        super().__post_init__()
        self._check("beta_1", "beta_2", at_least=0.0, below=1.0)
        self._check("epsilon", above=0.0)

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

    def _scalars(self, steps: npt.NDArray[np.int64]) -> Scalars:
        t = steps + 1
        correction = np.sqrt(1.0 - np.power(self.beta_2, t)) / (1.0 - np.power(self.beta_1, t))
        return {**self._moment_scalars(), "step": correction}


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

    # Product of all momenta before a block, by the block's first step.
    _products: dict[int, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the hyperparameters."""
        super().__post_init__()
        self._set("_products", {0: 1.0})

    @property
    def formula(self) -> str:
        """Name of the update formula."""
        return "nadam"

    def _scalars(self, steps: npt.NDArray[np.int64]) -> Scalars:
        momenta = self._momenta(int(steps[0]), BLOCK + 1)
        now, following = momenta[:-1], momenta[1:]
        product = self._product_before(int(steps[0])) * np.cumprod(now)
        return {
            **self._moment_scalars(),
            "step": following / (1.0 - product * following),
            "step_g": (1.0 - now) / (1.0 - product),
            "v_correction": 1.0 / (1.0 - np.power(self.beta_2, steps + 1)),
        }

    def _momenta(self, first: int, n: int) -> Array:
        t = np.arange(first + 1, first + 1 + n)
        return np.asarray(self.beta_1 * (1.0 - 0.5 * np.power(_NADAM_DECAY, t)))

    def _product_before(self, first: int) -> float:
        """Product of the momenta of all steps before `first`, a multiple of `BLOCK`.

        It is multiplied block by block from the last known one on, so that its bits do not depend on what
        was asked for before. The product of 7,000 steps and more underflows to 0 (beta_1 = 0.9), and stays
        there.
        """
        products = self._products
        known = first
        while known not in products:
            known -= BLOCK
        product = products[known]
        while known < first and product != 0.0:
            product *= float(np.prod(self._momenta(known, BLOCK)))
            known += BLOCK
            products[known] = product
        products[first] = product
        return product
