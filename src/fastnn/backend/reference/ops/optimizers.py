"""Records after the backward pass: clipping, the optimizers' steps as in Keras 3, constraints."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.reference.instruction import Counters, Instruction, executes
from fastnn.formulas.optimizers import FORMULAS, LARGEST_GRADIENT

Array = NDArray[np.float64]
Hyper = Mapping[str, float]
Slots = list[Array]


@executes("clip_by_value")
def clip_by_value(i: Instruction, counters: Counters) -> None:
    """Clip g to [-limit, limit]."""
    i.write("g", np.clip(i["g"], -i.params["limit"], i.params["limit"]))


@executes("sum_squares")
def sum_squares(i: Instruction, counters: Counters) -> None:
    """Make total (+)= sum(x^2)."""
    i.add("total", float((i["x"] ** 2).sum()))


@executes("clip_by_norm")
def clip_by_norm(i: Instruction, counters: Counters) -> None:
    """Scale g by limit / norm if the norm, the root of the total, exceeds the limit."""
    norm, limit = np.sqrt(i["total"][0]), i.params["limit"]
    if not norm <= limit:
        i.write("g", i["g"] * (limit / norm))


@executes("max_norm")
def max_norm(i: Instruction, counters: Counters) -> None:
    """Scale down vectors along `size` whose L2 norm exceeds the limit."""
    w, limit = i["w"], i.params["limit"]
    # in units of the largest element: squares of float64 may not fit either
    largest = np.abs(w).max(axis=1, keepdims=True)
    unit = np.where((largest > 0.0) & np.isfinite(largest), largest, 1.0)
    norm = np.sqrt(((w / unit) ** 2).sum(axis=1, keepdims=True))
    i.write("w", np.where(norm * unit <= limit, w, w / unit * (limit / norm)))


def _sgd(p: Array, g: Array, s: Slots, h: Hyper) -> tuple[Array, Slots]:
    return p - h["step"] * g, []


def _sgd_momentum(p: Array, g: Array, s: Slots, h: Hyper) -> tuple[Array, Slots]:
    velocity = h["momentum"] * s[0] - h["step"] * g
    return p + velocity, [velocity]


def _sgd_nesterov(p: Array, g: Array, s: Slots, h: Hyper) -> tuple[Array, Slots]:
    velocity = h["momentum"] * s[0] - h["step"] * g
    return p + h["momentum"] * velocity - h["step"] * g, [velocity]


def _adagrad(p: Array, g: Array, s: Slots, h: Hyper) -> tuple[Array, Slots]:
    total = s[0] + g**2
    return p - h["step"] * g / np.sqrt(total + h["epsilon"]), [total]


def _rmsprop(centered: bool, momentum: bool) -> Callable[[Array, Array, Slots, Hyper], tuple[Array, Slots]]:
    def rmsprop(p: Array, g: Array, s: Slots, h: Hyper) -> tuple[Array, Slots]:
        v = h["rho"] * s[0] + h["one_minus_rho"] * g**2
        slots, variance = [v], v
        if centered:
            mean = h["rho"] * s[1] + h["one_minus_rho"] * g
            slots.append(mean)
            # rounding may leave a difference below 0
            variance = np.where(v - mean**2 < 0.0, 0.0, v - mean**2)
        move = h["step"] * g / np.sqrt(variance + h["epsilon"])
        if momentum:
            move = h["momentum"] * s[-1] + move
            slots.append(move)
        return p - move, slots

    return rmsprop


def _adadelta(p: Array, g: Array, s: Slots, h: Hyper) -> tuple[Array, Slots]:
    squares = h["rho"] * s[0] + h["one_minus_rho"] * g**2
    delta = np.sqrt(s[1] + h["epsilon"]) / np.sqrt(squares + h["epsilon"]) * g
    return p - h["step"] * delta, [squares, h["rho"] * s[1] + h["one_minus_rho"] * delta**2]


def _moments(g: Array, s: Slots, h: Hyper) -> Slots:
    m = s[0] + h["one_minus_beta_1"] * (g - s[0])
    return [m, s[1] + h["one_minus_beta_2"] * (g**2 - s[1])]


def _adam(p: Array, g: Array, s: Slots, h: Hyper) -> tuple[Array, Slots]:
    m, v = _moments(g, s, h)
    return p - h["step"] * m / (np.sqrt(v) + h["epsilon"]), [m, v]


def _adam_amsgrad(p: Array, g: Array, s: Slots, h: Hyper) -> tuple[Array, Slots]:
    m, v = _moments(g, s, h)
    v_max = np.where(s[2] > v, s[2], v)
    return p - h["step"] * m / (np.sqrt(v_max) + h["epsilon"]), [m, v, v_max]


def _nadam(p: Array, g: Array, s: Slots, h: Hyper) -> tuple[Array, Slots]:
    m, v = _moments(g, s, h)
    move = h["step"] * m + h["step_g"] * g
    return p - move / (np.sqrt(v * h["v_correction"]) + h["epsilon"]), [m, v]


def _lion(p: Array, g: Array, s: Slots, h: Hyper) -> tuple[Array, Slots]:
    move = np.sign(h["beta_1"] * s[0] + h["one_minus_beta_1"] * g)
    return p - h["step"] * move, [h["beta_2"] * s[0] + h["one_minus_beta_2"] * g]


UPDATES: dict[str, Callable[[Array, Array, Slots, Hyper], tuple[Array, Slots]]] = {
    "sgd": _sgd,
    "sgd_momentum": _sgd_momentum,
    "sgd_nesterov": _sgd_nesterov,
    "adagrad": _adagrad,
    "rmsprop": _rmsprop(centered=False, momentum=False),
    "rmsprop_momentum": _rmsprop(centered=False, momentum=True),
    "rmsprop_centered": _rmsprop(centered=True, momentum=False),
    "rmsprop_centered_momentum": _rmsprop(centered=True, momentum=True),
    "adadelta": _adadelta,
    "adam": _adam,
    "adam_amsgrad": _adam_amsgrad,
    "nadam": _nadam,
    "lion": _lion,
}


# In formulas with squares, a gradient whose square overflows the program's dtype counts as 0.
WITHOUT_SQUARES = frozenset({"sgd", "sgd_momentum", "sgd_nesterov", "lion"})


def _steps_of_state(counters: Counters) -> int:
    """Return how many steps the optimizer's state is old."""
    return counters.step - counters.first_step


@executes("accumulate")
def accumulate(i: Instruction, counters: Counters) -> None:
    """Add gradients up; the last of `steps` steps takes their mean."""
    total, steps = i["total"] + i["g"], i.dims["steps"]
    if (_steps_of_state(counters) + 1) % steps == 0:
        i.write("g", total / steps)
        total = np.zeros_like(total)
    i.write("total", total)


@executes("moving_average")
def moving_average(i: Instruction, counters: Counters) -> None:
    """Average the parameters over the steps, and put the mean in their place in some of them."""
    stretch, momentum = _steps_of_state(counters) // i.dims["steps"], i.params["momentum"]
    mean = momentum * i["mean"] + (1.0 - momentum) * i["p"]
    mean = np.where(np.isnan(i["mean"]) | (stretch == 0), i["p"], mean)
    i.write("mean", mean)
    if i.dims["overwrite"] and (stretch + 1) % i.dims["overwrite"] == 0:
        i.write("p", mean)


@executes("optimizer")
def optimizer(i: Instruction, counters: Counters) -> None:
    """Take a step with the scalars of this step's hyper row: first the decoupled decay, then the update."""
    if i.dims["accumulated"] and (_steps_of_state(counters) + 1) % i.dims["accumulated"]:
        return
    formula = FORMULAS[i.variant]
    hyper = dict(zip(formula.scalars, map(float, i["hyper"][counters.chunk_step]), strict=False))
    hyper |= {name: i.params["multiplier"] * hyper[name] for name in formula.rates}
    slots = [i[f"s{index}"].copy() for index in range(len(formula.slots))]
    g, limit = i["g"], LARGEST_GRADIENT[np.float32 if i.dtype == "float32" else np.float64]
    if i.variant not in WITHOUT_SQUARES:
        g = np.where(np.abs(g) > limit, 0.0, g)
    p, updated = UPDATES[i.variant](i["p"] - hyper["decay"] * i["p"], g, slots, hyper)
    i.write("p", p)
    if i.variant == "adagrad":
        # this sum never decreases, so it saturates
        updated = [np.minimum(updated[0], 2.0 * limit**2)]
    for index, value in enumerate(updated):
        i.write(f"s{index}", value)
