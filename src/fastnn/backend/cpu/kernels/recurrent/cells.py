"""What one time step computes of the products of a row: gates, states, and their gradients, by vectors of units.

A vector of each gate is copied to the stack, where LLVM knows that nothing overlaps, and always whole: results do not
depend on the number of units that are left.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastnn.backend.cpu.codegen import bits
from fastnn.backend.cpu.codegen.elementary import functions
from fastnn.backend.cpu.codegen.intrinsics import smaller, stack_bytes, unseen
from fastnn.backend.cpu.codegen.kernel import Kit
from fastnn.backend.cpu.codegen.options import formula, inlined
from fastnn.backend.cpu.codegen.strips import make_put, make_take
from fastnn.backend.cpu.processor.blocking import Blocking
from fastnn.formulas import activations, gates


class _Functions(NamedTuple):
    """The functions of a cell, of numbers alone: their parameters are bound.

    Attributes
    ----------
    forward, gradient : jitted function
        The activation, (x, a); its gradient, (result, dy, a).
    gate_gradient : jitted function
        That of the gates.
    gates_2, gates_4 : jitted function
        The gates of a GRU, (z, r, ra); the gates and the candidate of an LSTM, (i, f, g, o, a, ra).
    """

    forward: Any
    gradient: Any
    gate_gradient: Any
    gates_2: Any
    gates_4: Any


def _functions(kit: Kit, variant: str) -> _Functions:
    elementary, zero = functions(kit.dtype), kit.real(0.0)
    table = activations.define(kit.real, formula, elementary)
    name, _, gate_name = variant.partition(",")
    (any_forward, any_gradient), (any_gate, any_gate_gradient) = table[name], table[gate_name or "linear"]
    usual = gates.define(kit.real, formula, elementary, bits)

    lstm_gates, gru_gates, usual_tanh = usual.lstm, usual.gru, usual.tanh

    @formula
    def tanh(x, a):
        return usual_tanh(x)

    @formula
    def forward(x, a):
        return any_forward(x, a, zero)

    @formula
    def gradient(y, dy, a):
        return any_gradient(y, dy, a, zero)

    @formula
    def gate_gradient(y, dy, ra):
        return any_gate_gradient(y, dy, ra, zero)

    @formula
    def usual_2(z, r, ra):
        return gru_gates(z, r)

    @formula
    def gates_2(z, r, ra):
        return any_gate(z, ra, zero), any_gate(r, ra, zero)

    @formula
    def usual_4(i, f, g, o, a, ra):
        return lstm_gates(i, f, g, o)

    @formula
    def gates_4(i, f, g, o, a, ra):
        return any_gate(i, ra, zero), any_gate(f, ra, zero), any_forward(g, a, zero), any_gate(o, ra, zero)

    return _Functions(
        tanh if name == "tanh" else forward,
        gradient,
        gate_gradient,
        usual_2 if gate_name == "sigmoid" else gates_2,
        usual_4 if variant == "tanh,sigmoid" else gates_4,
    )


class Step:
    """Functions for the vectors of a cell's step: those that copy them, and memory for them.

    Attributes
    ----------
    lanes : int
        Units of a vector.
    nbytes : int
        Bytes of the memory for sixteen vectors.
    take, put : dict of int to jitted function
        Functions that copy so many vectors from rows that are one row of units apart, and to them.
    """

    def __init__(self, kit: Kit) -> None:
        self.lanes = Blocking.of(kit.dtype).lanes
        self.nbytes = 16 * self.lanes * kit.itemsize
        self.take = {count: make_take(kit.dtype, self.lanes, count) for count in (1, 2, 3, 4)}
        self.put = {count: make_put(kit.dtype, self.lanes, count) for count in (1, 2, 3, 4)}


def simple_rnn(kit: Kit, variant: str) -> tuple[Any, Any]:
    """Make the functions of a step of h' = f(z + h w), and of its gradient.

    The step's arguments: z, rec, h, kept, units, a: addresses of the rows of the inputs' products, of the state's, of
    the state, which is replaced, and of what is kept, or 0.
    """
    forward, gradient, *_ = _functions(kit, variant)
    step, size, reals = Step(kit), kit.itemsize, kit.reals
    lanes, nbytes, take_1, put_1 = step.lanes, step.nbytes, step.take[1], step.put[1]
    vector = lanes * size

    @inlined
    def forward_step(z, rec, h, kept, units, a):
        memory = stack_bytes(nbytes)
        x, count = reals(memory), unseen(lanes)
        for j in range(0, units, lanes):
            columns, skip = smaller(lanes, units - j), j * size
            take_1(z + skip, 0, columns, memory)
            take_1(rec + skip, 0, columns, memory + vector)
            for e in range(count):
                x[e] = forward(x[e] + x[lanes + e], a)
            put_1(memory, columns, h + skip, 0)
            if kept != 0:
                put_1(memory, columns, kept + skip, 0)

    @inlined
    def gradient_step(dh, kept, dz, to, units, a):
        memory = stack_bytes(nbytes)
        x, count = reals(memory), unseen(lanes)
        for j in range(0, units, lanes):
            columns, skip = smaller(lanes, units - j), j * size
            take_1(dh + skip, 0, columns, memory)
            take_1(kept + skip, 0, columns, memory + vector)
            for e in range(count):
                x[e] = gradient(x[lanes + e], x[e], a)
            put_1(memory, columns, dz + skip, 0)
            put_1(memory, columns, to + skip, 0)

    return forward_step, gradient_step


def lstm(kit: Kit, variant: str) -> tuple[Any, Any]:
    """Make the functions of a step of an LSTM (Hochreiter and Schmidhuber, 1997), and of its gradient.

    i, f, o = s(.), g = t(.), c' = f c + i g, h' = o t(c').
    """
    forward, gradient, gate_gradient, _, gates_4 = _functions(kit, variant)
    step, size, reals = Step(kit), kit.itemsize, kit.reals
    lanes, nbytes = step.lanes, step.nbytes
    take_1, take_4, put_1, put_4 = step.take[1], step.take[4], step.put[1], step.put[4]
    vector = lanes * size
    F, G, O, C, H = lanes, 2 * lanes, 3 * lanes, 8 * lanes, 9 * lanes  # noqa: E741

    @inlined
    def forward_step(z, rec, h, c, kept, units, a, ra):
        memory = stack_bytes(nbytes)
        x, count = reals(memory), unseen(lanes)
        row = units * size
        for j in range(0, units, lanes):
            columns, skip = smaller(lanes, units - j), j * size
            take_4(z + skip, row, columns, memory)
            take_4(rec + skip, row, columns, memory + 4 * vector)
            take_1(c + skip, 0, columns, memory + 8 * vector)
            if kept != 0:
                put_1(memory + 8 * vector, columns, kept + 5 * row + skip, 0)
            for e in range(count):
                i, f, g, o = gates_4(
                    x[e] + x[4 * lanes + e], x[F + e] + x[5 * lanes + e], x[G + e] + x[6 * lanes + e],
                    x[O + e] + x[7 * lanes + e], a, ra,
                )  # fmt: skip
                cell = f * x[C + e] + i * g
                x[e], x[F + e], x[G + e], x[O + e] = i, f, g, o
                x[C + e] = cell
                x[H + e] = o * forward(cell, a)
            if kept != 0:
                put_4(memory, columns, kept + skip, row)
            put_1(memory + 8 * vector, columns, c + skip, 0)
            put_1(memory + 9 * vector, columns, h + skip, 0)

    @inlined
    def gradient_step(dh, dc, kept, dz, to, units, a, ra):
        memory = stack_bytes(nbytes)
        x, count = reals(memory), unseen(lanes)
        row = units * size
        for j in range(0, units, lanes):
            columns, skip = smaller(lanes, units - j), j * size
            take_4(kept + skip, row, columns, memory)
            take_1(kept + 5 * row + skip, 0, columns, memory + 8 * vector)
            take_1(dh + skip, 0, columns, memory + 9 * vector)
            take_1(dc + skip, 0, columns, memory + 10 * vector)
            for e in range(count):
                i, f, g, o = x[e], x[F + e], x[G + e], x[O + e]
                before, dy = x[C + e], x[H + e]
                t = forward(f * before + i * g, a)
                d = x[10 * lanes + e] + gradient(t, dy * o, a)
                x[e] = gate_gradient(i, d * g, ra)
                x[F + e] = gate_gradient(f, d * before, ra)
                x[G + e] = gradient(g, d * i, a)
                x[O + e] = gate_gradient(o, dy * t, ra)
                x[10 * lanes + e] = d * f
            put_4(memory, columns, dz + skip, row)
            put_4(memory, columns, to + skip, row)
            put_1(memory + 10 * vector, columns, dc + skip, 0)

    return forward_step, gradient_step


def gru(kit: Kit, variant: str) -> tuple[Any, Any, Any, Any]:
    """Make the functions of a step of a GRU (Cho et al., 2014), and of its gradient.

    z, r = s(.), g = t(x + r (h w)) or t(x + (r h) w), h' = z h + (1 - z) g. There are four: the gates, for which the
    second form has another product than for g; the rest of the step; and the gradients in the other order.
    """
    forward, gradient, gate_gradient, gates_2, _ = _functions(kit, variant)
    step, size, reals = Step(kit), kit.itemsize, kit.reals
    lanes, nbytes = step.lanes, step.nbytes
    take_1, take_2, take_3 = step.take[1], step.take[2], step.take[3]
    put_1, put_2, put_3 = step.put[1], step.put[2], step.put[3]
    vector, one = lanes * size, kit.real(1.0)
    L2, L3, L4, L5, L6 = 2 * lanes, 3 * lanes, 4 * lanes, 5 * lanes, 6 * lanes

    @inlined
    def activate_gates(z, rec, before, units, ra):
        """Activate the gates z, r in `rec`, and replace `before` by r times it."""
        memory = stack_bytes(nbytes)
        x, count = reals(memory), unseen(lanes)
        row = units * size
        for j in range(0, units, lanes):
            columns, skip = smaller(lanes, units - j), j * size
            take_2(z + skip, row, columns, memory)
            take_2(rec + skip, row, columns, memory + 2 * vector)
            take_1(before + skip, 0, columns, memory + 4 * vector)
            for e in range(count):
                z_gate, r_gate = gates_2(x[e] + x[L2 + e], x[lanes + e] + x[L3 + e], ra)
                x[e], x[lanes + e] = z_gate, r_gate
                x[L4 + e] = r_gate * x[L4 + e]
            put_2(memory, columns, rec + skip, row)
            put_1(memory + 4 * vector, columns, before + skip, 0)

    @inlined
    def forward_step(z, rec, before, bias, h, kept, units, after, a, ra):
        """Replace h; `before` is r times the state, where `after` is not set, else `bias` is that of the inputs' h."""
        memory = stack_bytes(nbytes)
        x, count = reals(memory), unseen(lanes)
        row = units * size
        for j in range(0, units, lanes):
            columns, skip = smaller(lanes, units - j), j * size
            take_3(z + skip, row, columns, memory)
            take_3(rec + skip, row, columns, memory + 3 * vector)
            take_1(h + skip, 0, columns, memory + 6 * vector)
            if after:
                if kept != 0:
                    put_1(memory + 5 * vector, columns, kept + 4 * row + skip, 0)
                if bias != 0:
                    take_1(bias + skip, 0, columns, memory + 7 * vector)
                    for e in range(count):
                        x[L2 + e] += x[7 * lanes + e]
                for e in range(count):
                    z_gate, r_gate = gates_2(x[e] + x[L3 + e], x[lanes + e] + x[L4 + e], ra)
                    new = forward(x[L2 + e] + r_gate * x[L5 + e], a)
                    x[e], x[lanes + e], x[L2 + e] = z_gate, r_gate, new
                    x[L6 + e] = z_gate * x[L6 + e] + (one - z_gate) * new
            else:
                if kept != 0:
                    take_1(before + skip, 0, columns, memory + 7 * vector)
                    put_1(memory + 7 * vector, columns, kept + 4 * row + skip, 0)
                for e in range(count):
                    x[e] = x[L3 + e]
                    x[lanes + e] = x[L4 + e]
                    x[L2 + e] = forward(x[L2 + e] + x[L5 + e], a)
                    x[L6 + e] = x[e] * x[L6 + e] + (one - x[e]) * x[L2 + e]
            if kept != 0:
                put_3(memory, columns, kept + skip, row)
            put_1(memory + 6 * vector, columns, h + skip, 0)

    @inlined
    def gradient_step(dh, kept, raw, dz, to, units, after, a, ra):
        """Write the gradients of what is activated to dz and, in the order z, r, h, to `to`; dh becomes dh z.

        `raw` is the state before. Where `after` is not set, the gradients of r are missing.
        """
        memory = stack_bytes(nbytes)
        x, count = reals(memory), unseen(lanes)
        row = units * size
        for j in range(0, units, lanes):
            columns, skip = smaller(lanes, units - j), j * size
            take_3(kept + skip, row, columns, memory)
            take_1(kept + 4 * row + skip, 0, columns, memory + 3 * vector)
            take_1(raw + skip, 0, columns, memory + 4 * vector)
            take_1(dh + skip, 0, columns, memory + 5 * vector)
            for e in range(count):
                z, r, g = x[e], x[lanes + e], x[L2 + e]
                d = x[L5 + e]
                x[L5 + e] = d * z
                # of the columns of h of the inputs' product, of z, of r, and of h of the state's product
                x[L6 + e] = gradient(g, d * (one - z), a)
                x[e] = gate_gradient(z, d * (x[L4 + e] - g), ra)
                x[lanes + e] = gate_gradient(r, x[L6 + e] * x[L3 + e], ra)
                x[L2 + e] = x[L6 + e] * r if after else x[L6 + e]
            put_1(memory + 5 * vector, columns, dh + skip, 0)
            put_3(memory, columns, to + skip, row)
            put_1(memory + 2 * vector, columns, dz + skip, 0)
            put_2(memory, columns, dz + row + skip, row)
            put_1(memory + 6 * vector, columns, dz + 3 * row + skip, 0)

    @inlined
    def reset_gradient(drh, kept, dz, to, units, ra):
        """Write the gradients of r from those of r times the state, which become those of the state."""
        memory = stack_bytes(nbytes)
        x, count = reals(memory), unseen(lanes)
        row = units * size
        for j in range(0, units, lanes):
            columns, skip = smaller(lanes, units - j), j * size
            take_1(kept + row + skip, 0, columns, memory)
            take_1(kept + 3 * row + skip, 0, columns, memory + vector)
            take_1(drh + skip, 0, columns, memory + 2 * vector)
            for e in range(count):
                r, d = x[e], x[L2 + e]
                x[e] = gate_gradient(r, d * x[lanes + e], ra)
                x[L2 + e] = d * r
            put_1(memory, columns, to + row + skip, 0)
            put_1(memory, columns, dz + 2 * row + skip, 0)
            put_1(memory + 2 * vector, columns, drh + skip, 0)

    return activate_gates, forward_step, gradient_step, reset_gradient
