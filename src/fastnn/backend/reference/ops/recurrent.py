"""Records of recurrent layers, step by step.

LSTM: Hochreiter and Schmidhuber, 1997, with forget gates (Gers et al., 2000); GRU: Cho et al., 2014, and the form of
cuDNN, which resets the product of the state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.reference.activations import gradient, value
from fastnn.backend.reference.instruction import Counters, Instruction, executes

Array = NDArray[np.float64]


@dataclass
class _Scan:
    """The steps of a record, and its activation functions."""

    i: Instruction

    def __post_init__(self) -> None:
        self.formula, _, self.gate_formula = self.i.variant.partition(",")
        self.batch, self.steps, self.units = (self.i.dims[name] for name in ("batch", "steps", "units"))

    def act(self, x: Array) -> Array:
        """Apply the activation."""
        return value(self.formula, x, self.i.params["a"])

    def gate(self, x: Array) -> Array:
        """Apply the gates' activation."""
        return value(self.gate_formula, x, self.i.params["ra"])

    def act_gradient(self, saved: Array, dy: Array) -> Array:
        """Return dy times the activation's derivative."""
        return gradient(self.formula, saved, dy, self.i.params["a"])

    def gate_gradient(self, saved: Array, dy: Array) -> Array:
        """Return dy times the derivative of the gates' activation."""
        return gradient(self.gate_formula, saved, dy, self.i.params["ra"])

    def order(self, *, back: bool) -> Iterator[tuple[int, Array]]:
        """Iterate over steps, with a column of True for the samples that take part."""
        mask = self.i.get("mask")
        turned = bool(self.i.dims["reverse"]) != back
        for t in range(self.steps - 1, -1, -1) if turned else range(self.steps):
            yield t, np.ones((self.batch, 1), bool) if mask is None else mask[:, t, None] != 0.0

    def anew(self, t: int, *states: Array) -> Iterator[Array]:
        """Iterate over states, or their gradients, with zeros for the samples that begin anew at a step."""
        mask = self.i.get("mask")
        for state in states:
            yield state if mask is None else np.where(mask[:, t, None] < 0.0, 0.0, state)

    def initial(self, number: int) -> Array:
        """Return an initial state."""
        start = self.i.get("start")
        if start is None or number >= self.i.dims["states"]:
            return np.zeros((self.batch, self.units))
        return np.array(start[:, number])

    @property
    def factors(self) -> Array | float:
        """The factors of recurrent dropout."""
        start = self.i.get("start")
        if start is None or self.i.dims["starts"] == self.i.dims["states"]:
            return 1.0
        return np.array(start[:, self.i.dims["states"]])

    def keep(self, t: int, here: Array, gates: Sequence[Array], *values: Array) -> None:
        """Write what the gradient needs of a step."""
        for name, parts in (("gates", gates), ("kept", values)):
            to = self.i.get(name)
            if to is not None:
                to[:, t] = np.where(here, np.concatenate(parts, axis=1), 0.0).reshape(to[:, t].shape)

    def finish(self, t: int, h: Array) -> None:
        """Write the state after a step."""
        y = self.i.get("y")
        if y is not None:
            y[:, t] = h


@executes("simple_rnn")
def simple_rnn(i: Instruction, counters: Counters) -> None:
    """Make h' = f(z + h w)."""
    scan = _Scan(i)
    h = scan.initial(0)
    for t, here in scan.order(back=False):
        (h,) = scan.anew(t, h)
        before = h * scan.factors
        made = scan.act(i["z"][:, t] + before @ i["w"])
        scan.keep(t, here, (made,), before)
        h = np.where(here, made, h)
        scan.finish(t, h)
    i.write("last", h)


@executes("lstm")
def lstm(i: Instruction, counters: Counters) -> None:
    """Make i, f, o = s(.), g = f(.), c' = f c + i g, h' = o f(c')."""
    scan = _Scan(i)
    h, c = scan.initial(0), scan.initial(1)
    for t, here in scan.order(back=False):
        h, c = scan.anew(t, h, c)
        before = h * scan.factors
        into, forget, new, out = np.split(i["z"][:, t] + before @ i["w"], 4, axis=1)
        into, forget, new, out = scan.gate(into), scan.gate(forget), scan.act(new), scan.gate(out)
        cells = forget * c + into * new
        scan.keep(t, here, (into, forget, new, out), before, c)
        h, c = np.where(here, out * scan.act(cells), h), np.where(here, cells, c)
        scan.finish(t, h)
    i.write("last", h)
    i.write("cell", c)


@executes("gru")
def gru(i: Instruction, counters: Counters) -> None:
    """Make z, r = s(.), g = f(x + r (h w + b)) or f(x + (r h) w), h' = z h + (1 - z) g."""
    scan, units = _Scan(i), i.dims["units"]
    h = scan.initial(0)
    bias = i.get("bias")
    of_inputs = np.zeros(3 * units) if bias is None else bias[0]
    of_states = np.zeros(3 * units) if bias is None or not i.dims["after"] else bias[1]
    for t, here in scan.order(back=False):
        (h,) = scan.anew(t, h)
        before = h * scan.factors
        inputs, w = i["z"][:, t] + of_inputs, i["w"]
        gates = scan.gate(inputs[:, : 2 * units] + before @ w[:, : 2 * units] + of_states[: 2 * units])
        update, reset = gates[:, :units], gates[:, units:]
        if i.dims["after"]:
            other = before @ w[:, 2 * units :] + of_states[2 * units :]
            made = scan.act(inputs[:, 2 * units :] + reset * other)
        else:
            other = reset * before
            made = scan.act(inputs[:, 2 * units :] + other @ w[:, 2 * units :])
        scan.keep(t, here, (update, reset, made), before, other, *([h] if i.dims["slots"] == 3 else []))
        h = np.where(here, update * h + (1.0 - update) * made, h)
        scan.finish(t, h)
    i.write("last", h)


def _seeds(i: Instruction, scan: _Scan) -> tuple[Array, Array]:
    """Return the gradients of the last state and of the last cells."""
    last, nothing = i.get("dlast"), np.zeros((scan.batch, scan.units))
    if last is None:
        return nothing, nothing
    return np.array(last[:, 0]), np.array(last[:, 1]) if last.shape[1] > 1 else nothing


def _reached(i: Instruction, t: int, dh: Array) -> Array:
    dy = i.get("dy")
    return dh if dy is None else dh + dy[:, t]


def _write_start(i: Instruction, *gradients: Array) -> None:
    i.write("dstart", np.stack(gradients, axis=1))


@executes("simple_rnn_grad")
def simple_rnn_grad(i: Instruction, counters: Counters) -> None:
    """Make the gradients of z, and of the initial state."""
    scan = _Scan(i)
    dh, _ = _seeds(i, scan)
    for t, here in scan.order(back=True):
        dh = _reached(i, t, dh)
        dz = np.where(here, scan.act_gradient(i["gates"][:, t], dh), 0.0)
        i["dz"][:, t] = dz
        (dh,) = scan.anew(t, np.where(here, scan.factors * (dz @ i["w"].T), dh))
    _write_start(i, dh)


@executes("lstm_grad")
def lstm_grad(i: Instruction, counters: Counters) -> None:
    """Make the gradients of z, and of the initial states."""
    scan = _Scan(i)
    dh, dc = _seeds(i, scan)
    for t, here in scan.order(back=True):
        dh = _reached(i, t, dh)
        into, forget, new, out = np.split(np.array(i["gates"][:, t]), 4, axis=1)
        before = i["kept"][:, t, 1]
        squashed = scan.act(forget * before + into * new)
        dcells = dc + scan.act_gradient(squashed, dh * out)
        parts = (
            scan.gate_gradient(into, dcells * new),
            scan.gate_gradient(forget, dcells * before),
            scan.act_gradient(new, dcells * into),
            scan.gate_gradient(out, dh * squashed),
        )
        dz = np.where(here, np.concatenate(parts, axis=1), 0.0)
        i["dz"][:, t] = dz
        dh, dc = np.where(here, scan.factors * (dz @ i["w"].T), dh), np.where(here, dcells * forget, dc)
        dh, dc = scan.anew(t, dh, dc)
    _write_start(i, dh, dc)


@executes("gru_grad")
def gru_grad(i: Instruction, counters: Counters) -> None:
    """Make the gradients of h of the state's product, of z, of r, and of h of the inputs' product."""
    scan, w, units = _Scan(i), i["w"], i.dims["units"]
    dh, _ = _seeds(i, scan)
    for t, here in scan.order(back=True):
        dh = _reached(i, t, dh)
        update, reset, made = np.split(i["gates"][:, t], 3, axis=1)
        before, other, *raw = np.moveaxis(i["kept"][:, t], 1, 0)
        state = raw[0] if raw else before
        d_new = scan.act_gradient(made, dh * (1.0 - update))
        d_update = scan.gate_gradient(update, dh * (state - made))
        through = d_new * reset if i.dims["after"] else d_new
        back = through @ w[:, 2 * units :].T
        if i.dims["after"]:
            d_other, first = through, back
            d_reset, back = d_new * other, 0.0
        else:
            d_other, first = d_new, 0.0
            d_reset, back = back * before, scan.factors * (back * reset)
        d_reset = scan.gate_gradient(reset, d_reset)
        back = back + scan.factors * (first + d_update @ w[:, :units].T + d_reset @ w[:, units : 2 * units].T)
        parts = np.stack((d_other, d_update, d_reset, d_new), axis=1)
        i["dz"][:, t] = np.where(here[..., None], parts, 0.0)
        (dh,) = scan.anew(t, np.where(here, dh * update + back, dh))
    _write_start(i, dh)
