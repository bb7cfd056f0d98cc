# mypy: allow-untyped-defs
"""The optimizers' update formulas: one scalar function per variant, jitted by every compiled backend.

A formula is called for one parameter and one step as

    update(p, g, s0, s1, s2, h0, h1, h2, h3, h4, h5, h6, h7) -> (p, s0, s1, s2)

with the parameter ``p``, its gradient ``g``, the optimizer's state ``s`` (slots) and the step's scalars ``h``
(one hyper row, the same for all parameters). `FORMULAS` names the slots and scalars that a formula uses, in
this order; further slots are passed through, and further scalars ignored. The functions' parameters
have the names of the table.

All formulas are Keras 3's, with one exception: where gradients are squared, a gradient above `LARGEST_GRADIENT`
counts as 0. Its square would be infinite, and the mean of squares infinite or NaN forever: RMSprop would never move
that parameter again, and Adam would make it NaN. At the limit itself a mean of squares would take 10^5 steps to fade.

Values that depend only on the step (learning rate, bias correction) are passed in
``h``, so a formula has no power and no branch, and the loop that inlines it vectorises.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

MAX_SLOTS = 3
HYPER_COLUMNS = 8
#: the factor of penalties, where regularizers have one by step
PENALTY_COLUMN = HYPER_COLUMNS - 1


#: Powers of 2 whose squares leave room for sums and corrections in the formulas.
LARGEST_GRADIENT: dict[type, float] = {np.float32: 2.0**63, np.float64: 2.0**500}


class Formula(NamedTuple):
    """Names of the slots and scalars of one update formula.

    Parameters
    ----------
    slots : tuple of str
        State arrays, each of the parameters' shape and dtype; at most `MAX_SLOTS`.
    rates : tuple of str
        Scalars that are proportional to the learning rate: the first columns of a hyper row. ``step`` is the
        step size, ``decay`` the share of the parameter that decoupled weight decay removes (learning rate
        times weight decay).
    constants : tuple of str
        Scalars that do not depend on the learning rate: the columns after the rates.
    correction : str
        "adam" or "nadam" if scalars change from step to step by the bias corrections of that name.
    """

    slots: tuple[str, ...]
    rates: tuple[str, ...]
    constants: tuple[str, ...]
    correction: str = ""

    @property
    def scalars(self) -> tuple[str, ...]:
        """Names of the columns of a hyper row, from column 0 on."""
        return self.rates + self.constants


_RATES = ("step", "decay")
_AVERAGE = ("rho", "one_minus_rho", "epsilon")
_MOMENTS = ("one_minus_beta_1", "one_minus_beta_2", "epsilon")

FORMULAS: dict[str, Formula] = {
    "sgd": Formula((), _RATES, ()),
    "sgd_momentum": Formula(("m",), _RATES, ("momentum",)),
    "sgd_nesterov": Formula(("m",), _RATES, ("momentum",)),
    "adagrad": Formula(("accumulator",), _RATES, ("epsilon",)),
    "rmsprop": Formula(("v",), _RATES, _AVERAGE),
    "rmsprop_momentum": Formula(("v", "m"), _RATES, (*_AVERAGE, "momentum")),
    "rmsprop_centered": Formula(("v", "mean"), _RATES, _AVERAGE),
    "rmsprop_centered_momentum": Formula(("v", "mean", "m"), _RATES, (*_AVERAGE, "momentum")),
    "adadelta": Formula(("accumulated_g", "accumulated_delta"), _RATES, _AVERAGE),
    "adam": Formula(("m", "v"), _RATES, _MOMENTS, "adam"),
    "adam_amsgrad": Formula(("m", "v", "v_max"), _RATES, _MOMENTS, "adam"),
    "nadam": Formula(("m", "v"), (*_RATES, "step_g"), (*_MOMENTS, "v_correction"), "nadam"),
    "lion": Formula(("m",), _RATES, ("beta_1", "one_minus_beta_1", "beta_2", "one_minus_beta_2")),
}


def define(real: type, jit: Callable[[Any], Any], math: Any) -> dict[str, Callable[..., Any]]:
    """Jit all update formulas for one dtype.

    Parameters
    ----------
    real : type
        ``numpy.float32`` or ``numpy.float64``: the type of every argument and result.
    jit : function
        Decorator that compiles a scalar function; with Numba under ``error_model="numpy"``, since a division that
        may raise keeps loops from being vectorised.
    math : object
        Has the compiled functions ``sqrt(x)``, and ``quotient(x, d) = x / d`` for a root d (`elementary.define`).

    Returns
    -------
    dict of str to function
        ``update(p, g, s0, s1, s2, h0, ..., h7) -> (p, s0, s1, s2)`` by the names of `FORMULAS`.
    """
    zero, one, limit = real(0.0), real(1.0), real(LARGEST_GRADIENT[real])
    most = real(2.0 * LARGEST_GRADIENT[real] ** 2)
    sqrt, quotient = math.sqrt, math.quotient

    @jit
    def measured(g):
        """Return a gradient that can be squared; NaN fails the comparison and stays."""
        return zero if abs(g) > limit else g

    @jit
    def sgd(p, g, s0, s1, s2, step, decay, h2, h3, h4, h5, h6, h7):
        p = p - decay * p
        return p - step * g, s0, s1, s2

    @jit
    def sgd_momentum(p, g, m, s1, s2, step, decay, momentum, h3, h4, h5, h6, h7):
        p = p - decay * p
        m = momentum * m - step * g
        return p + m, m, s1, s2

    @jit
    def sgd_nesterov(p, g, m, s1, s2, step, decay, momentum, h3, h4, h5, h6, h7):
        p = p - decay * p
        m = momentum * m - step * g
        return p + (momentum * m - step * g), m, s1, s2

    @jit
    def adagrad(p, g, accumulator, s1, s2, step, decay, epsilon, h3, h4, h5, h6, h7):
        p = p - decay * p
        g = measured(g)
        accumulator = accumulator + g * g
        # this sum never decreases, so it must not become infinite
        accumulator = most if accumulator > most else accumulator
        return p - quotient(step * g, sqrt(accumulator + epsilon)), accumulator, s1, s2

    @jit
    def rmsprop(p, g, v, s1, s2, step, decay, rho, one_minus_rho, epsilon, h5, h6, h7):
        p = p - decay * p
        g = measured(g)
        v = rho * v + one_minus_rho * (g * g)
        return p - quotient(step * g, sqrt(v + epsilon)), v, s1, s2

    @jit
    def rmsprop_momentum(p, g, v, m, s2, step, decay, rho, one_minus_rho, epsilon, momentum, h6, h7):
        p = p - decay * p
        g = measured(g)
        v = rho * v + one_minus_rho * (g * g)
        m = momentum * m + quotient(step * g, sqrt(v + epsilon))
        return p - m, v, m, s2

    @jit
    def variance(v, mean):
        # v >= mean**2 holds only before rounding: with gradients far above sqrt(epsilon) that hardly vary,
        # the rounded difference falls below -epsilon, and its root would be NaN.
        difference = v - mean * mean
        return zero if difference < zero else difference

    @jit
    def rmsprop_centered(p, g, v, mean, s2, step, decay, rho, one_minus_rho, epsilon, h5, h6, h7):
        p = p - decay * p
        g = measured(g)
        v = rho * v + one_minus_rho * (g * g)
        mean = rho * mean + one_minus_rho * g
        return p - quotient(step * g, sqrt(variance(v, mean) + epsilon)), v, mean, s2

    @jit
    def rmsprop_centered_momentum(p, g, v, mean, m, step, decay, rho, one_minus_rho, epsilon, momentum, h6, h7):
        p = p - decay * p
        g = measured(g)
        v = rho * v + one_minus_rho * (g * g)
        mean = rho * mean + one_minus_rho * g
        m = momentum * m + quotient(step * g, sqrt(variance(v, mean) + epsilon))
        return p - m, v, mean, m

    @jit
    def adadelta(p, g, accumulated_g, accumulated_delta, s2, step, decay, rho, one_minus_rho, epsilon, h5, h6, h7):
        p = p - decay * p
        g = measured(g)
        accumulated_g = rho * accumulated_g + one_minus_rho * (g * g)
        delta = quotient(sqrt(accumulated_delta + epsilon) * g, sqrt(accumulated_g + epsilon))
        accumulated_delta = rho * accumulated_delta + one_minus_rho * (delta * delta)
        return p - step * delta, accumulated_g, accumulated_delta, s2

    @jit
    def adam(p, g, m, v, s2, step, decay, one_minus_beta_1, one_minus_beta_2, epsilon, h5, h6, h7):
        p = p - decay * p
        g = measured(g)
        m = m + one_minus_beta_1 * (g - m)
        v = v + one_minus_beta_2 * (g * g - v)
        return p - quotient(step * m, sqrt(v) + epsilon), m, v, s2

    @jit
    def adam_amsgrad(p, g, m, v, v_max, step, decay, one_minus_beta_1, one_minus_beta_2, epsilon, h5, h6, h7):
        p = p - decay * p
        g = measured(g)
        m = m + one_minus_beta_1 * (g - m)
        v = v + one_minus_beta_2 * (g * g - v)
        # A NaN in v fails the comparison and is kept, as it must be.
        v_max = v_max if v_max > v else v
        return p - quotient(step * m, sqrt(v_max) + epsilon), m, v, v_max

    @jit
    def nadam(p, g, m, v, s2, step, decay, step_g, one_minus_beta_1, one_minus_beta_2, epsilon, v_correction, h7):
        p = p - decay * p
        g = measured(g)
        m = m + one_minus_beta_1 * (g - m)
        v = v + one_minus_beta_2 * (g * g - v)
        return p - quotient(step * m + step_g * g, sqrt(v * v_correction) + epsilon), m, v, s2

    @jit
    def lion(p, g, m, s1, s2, step, decay, beta_1, one_minus_beta_1, beta_2, one_minus_beta_2, h6, h7):
        p = p - decay * p
        mixed = beta_1 * m + one_minus_beta_1 * g
        sign = (one if mixed > zero else zero) - (one if mixed < zero else zero)
        # Comparisons with NaN are false, which would turn a NaN gradient into a sign of 0.
        sign = sign if mixed == mixed else mixed
        return p - step * sign, beta_2 * m + one_minus_beta_2 * g, s1, s2

    return {
        "sgd": sgd,
        "sgd_momentum": sgd_momentum,
        "sgd_nesterov": sgd_nesterov,
        "adagrad": adagrad,
        "rmsprop": rmsprop,
        "rmsprop_momentum": rmsprop_momentum,
        "rmsprop_centered": rmsprop_centered,
        "rmsprop_centered_momentum": rmsprop_centered_momentum,
        "adadelta": adadelta,
        "adam": adam,
        "adam_amsgrad": adam_amsgrad,
        "nadam": nadam,
        "lion": lion,
    }
