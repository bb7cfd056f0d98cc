"""Bias corrections: the parts of an update that change from step to step, made of powers that gain a factor per step.

Python computes them for many steps at once, compiled code step by step. Both get the same bits, because the
powers are running products, and these functions are compiled without contraction.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

#: The base of the convergence of Nadam's momentum (Dozat 2016).
NADAM_DECAY = 0.96


def define(jit: Callable[[Any], Any], sqrt: Callable[[Any], Any]) -> SimpleNamespace:
    """Define the corrections.

    Parameters
    ----------
    jit : function
        Compiles a function, or returns it unchanged: then the functions take arrays as well.
    sqrt : function

    Returns
    -------
    namespace of functions
        ``adam(power_1, power_2)`` with the powers ``beta**t``; ``momentum(beta_1, power)`` with ``0.96**t``;
        ``nadam(now, following, product)`` with the momenta of the steps t and t + 1 and the product of those up to t,
        which returns the factors of the running mean and of the gradient; ``unbiased(power)``.
    """

    @jit
    def adam(power_1: Any, power_2: Any) -> Any:
        return sqrt(1.0 - power_2) / (1.0 - power_1)

    @jit
    def momentum(beta_1: Any, power: Any) -> Any:
        return beta_1 * (1.0 - 0.5 * power)

    @jit
    def nadam(now: Any, following: Any, product: Any) -> Any:
        return following / (1.0 - product * following), (1.0 - now) / (1.0 - product)

    @jit
    def unbiased(power: Any) -> Any:
        return 1.0 / (1.0 - power)

    return SimpleNamespace(adam=adam, momentum=momentum, nadam=nadam, unbiased=unbiased)
