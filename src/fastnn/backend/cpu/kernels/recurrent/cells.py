"""What one time step computes of the products of a row: gates, states, and their gradients, by some vectors of units.

These vectors of all gates are copied to the stack, where LLVM knows that nothing overlaps, and always whole: results do
not depend on the number of units that are left. Exponentials and what follows them are loops of their own: a loop over
all of a unit's functions is one long chain, of which the processor sees little more than one vector at a time (the
scan of an LSTM of 100 units took 1.25 times as long).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastnn.backend.cpu.codegen import bits
from fastnn.backend.cpu.codegen.elementary import functions
from fastnn.backend.cpu.codegen.intrinsics import smaller, stack_bytes
from fastnn.backend.cpu.codegen.kernel import Kit
from fastnn.backend.cpu.codegen.options import formula, inlined
from fastnn.backend.cpu.codegen.packing import make_put, make_take
from fastnn.backend.cpu.processor.blocking import Blocking
from fastnn.formulas import activations, gates

# Vectors of units that a step computes at a time.
_VECTORS = 4


class _Functions(NamedTuple):
    """The functions of a cell, of numbers alone: their parameters are bound.

    Attributes
    ----------
    start, forward : jitted function
        The activation in two steps: e = (x), result = (x, e, a).
    gradient : jitted function
        Its gradient, (result, dy, a).
    start_gate, gates_2, gates_4 : jitted function
        The gates of a GRU in two steps: e = (x), (z, r, e_z, e_r, ra); the gates and the candidate of an LSTM: (i, f,
        g, o, e_i, e_f, e_g, e_o, a, ra).
    gate_gradient : jitted function
        That of the gates.
    """

    start: Any
    forward: Any
    gradient: Any
    start_gate: Any
    gates_2: Any
    gates_4: Any
    gate_gradient: Any


def _functions(kit: Kit, variant: str) -> _Functions:
    elementary, zero = functions(kit.dtype), kit.real(0.0)
    table = activations.define(kit.real, formula, elementary)
    name, _, gate_name = variant.partition(",")
    (any_forward, any_gradient), (any_gate, any_gate_gradient) = table[name], table[gate_name or "linear"]
    usual = gates.define(kit.real, formula, elementary, bits)
    lstm_gates, gru_gates, usual_tanh = usual.lstm, usual.gru, usual.tanh

    @formula
    def nothing(x):
        return zero

    @formula
    def tanh(x, e, a):
        return usual_tanh(x, e)

    @formula
    def forward(x, e, a):
        return any_forward(x, a, zero)

    @formula
    def gradient(y, dy, a):
        return any_gradient(y, dy, a, zero)

    @formula
    def gate_gradient(y, dy, ra):
        return any_gate_gradient(y, dy, ra, zero)

    @formula
    def usual_2(z, r, e_z, e_r, ra):
        return gru_gates(z, r, e_z, e_r)

    @formula
    def gates_2(z, r, e_z, e_r, ra):
        return any_gate(z, ra, zero), any_gate(r, ra, zero)

    @formula
    def usual_4(i, f, g, o, e_i, e_f, e_g, e_o, a, ra):
        return lstm_gates(i, f, g, o, e_i, e_f, e_g, e_o)

    @formula
    def gates_4(i, f, g, o, e_i, e_f, e_g, e_o, a, ra):
        return any_gate(i, ra, zero), any_gate(f, ra, zero), any_forward(g, a, zero), any_gate(o, ra, zero)

    is_usual = name == "tanh" and gate_name == "sigmoid"
    return _Functions(
        usual.start_tanh if name == "tanh" else nothing,
        tanh if name == "tanh" else forward,
        gradient,
        usual.start if gate_name == "sigmoid" else nothing,
        usual_2 if gate_name == "sigmoid" else gates_2,
        usual_4 if is_usual else gates_4,
        gate_gradient,
    )


class _Step:
    """The copies of a step's vectors, and memory for them.

    Attributes
    ----------
    lanes, most : int
        Units of a vector, and of those that are computed at a time.
    apart, nbytes : int
        Bytes of an array of `most` units, and of the memory for twelve of them.
    take, put : dict of int to jitted function
        Functions that copy a vector of so many arrays.
    """

    def __init__(self, kit: Kit) -> None:
        self.lanes = Blocking.of(kit.dtype).lanes
        self.most = _VECTORS * self.lanes
        self.apart = self.most * kit.itemsize
        self.nbytes = 12 * self.apart
        self.take = {count: make_take(kit.dtype, self.lanes, count, self.apart) for count in (1, 2, 3, 4)}
        self.put = {count: make_put(kit.dtype, self.lanes, count, self.apart) for count in (1, 2, 3, 4)}


def simple_rnn(kit: Kit, variant: str) -> tuple[Any, Any]:
    """Make the functions of a step of h' = f(z + h w), and of its gradient.

    The step's arguments: z, rec, h, made, units, a: addresses of the rows of the inputs' products, of the state's, of
    the state, which is replaced, and of what is activated, or 0.
    """
    start, forward, gradient, *_ = _functions(kit, variant)
    step, size, reals = _Step(kit), kit.itemsize, kit.reals
    lanes, most, apart, nbytes = step.lanes, step.most, step.apart, step.nbytes
    take_1, put_1, M2 = step.take[1], step.put[1], 2 * most

    @inlined
    def forward_step(z, rec, h, made, units, a):
        memory = stack_bytes(nbytes)
        x = reals(memory)
        for j in range(0, units, most):
            count = (smaller(most, units - j) + lanes - 1) // lanes * lanes
            for v in range(0, count, lanes):
                columns, skip, at = smaller(lanes, units - j - v), (j + v) * size, memory + v * size
                take_1(z + skip, 0, columns, at)
                take_1(rec + skip, 0, columns, at + apart)
            for e in range(count):
                x[e] += x[most + e]
                x[M2 + e] = start(x[e])
            for e in range(count):
                x[e] = forward(x[e], x[M2 + e], a)
            for v in range(0, count, lanes):
                columns, skip, at = smaller(lanes, units - j - v), (j + v) * size, memory + v * size
                put_1(at, columns, h + skip, 0)
                if made != 0:
                    put_1(at, columns, made + skip, 0)

    @inlined
    def gradient_step(dh, made, dz, to, units, a):
        memory = stack_bytes(nbytes)
        x = reals(memory)
        for j in range(0, units, most):
            count = (smaller(most, units - j) + lanes - 1) // lanes * lanes
            for v in range(0, count, lanes):
                columns, skip, at = smaller(lanes, units - j - v), (j + v) * size, memory + v * size
                take_1(dh + skip, 0, columns, at)
                take_1(made + skip, 0, columns, at + apart)
            for e in range(count):
                x[e] = gradient(x[most + e], x[e], a)
            for v in range(0, count, lanes):
                columns, skip, at = smaller(lanes, units - j - v), (j + v) * size, memory + v * size
                put_1(at, columns, dz + skip, 0)
                put_1(at, columns, to + skip, 0)

    return forward_step, gradient_step


def lstm(kit: Kit, variant: str) -> tuple[Any, Any]:
    """Make the functions of a step of an LSTM (Hochreiter and Schmidhuber, 1997), and of its gradient.

    i, f, o = s(.), g = t(.), c' = f c + i g, h' = o t(c').
    """
    start, forward, gradient, start_gate, _, gates_4, gate_gradient = _functions(kit, variant)
    step, size, reals = _Step(kit), kit.itemsize, kit.reals
    lanes, most, apart, nbytes = step.lanes, step.most, step.apart, step.nbytes
    take_1, take_4, put_1, put_4 = step.take[1], step.take[4], step.put[1], step.put[4]
    M2, M3, M4, M5, M6, M7, M8, M9 = (number * most for number in range(2, 10))

    @inlined
    def forward_step(z, rec, h, c, made, kept, units, a, ra):
        memory = stack_bytes(nbytes)
        x = reals(memory)
        row = units * size
        for j in range(0, units, most):
            count = (smaller(most, units - j) + lanes - 1) // lanes * lanes
            for v in range(0, count, lanes):
                columns, skip, at = smaller(lanes, units - j - v), (j + v) * size, memory + v * size
                take_4(z + skip, row, columns, at)
                take_4(rec + skip, row, columns, at + 4 * apart)
                take_1(c + skip, 0, columns, at + 8 * apart)
                if kept != 0:
                    put_1(at + 8 * apart, columns, kept + row + skip, 0)
            for e in range(count):
                i, f, g, o = x[e] + x[M4 + e], x[most + e] + x[M5 + e], x[M2 + e] + x[M6 + e], x[M3 + e] + x[M7 + e]
                x[e], x[most + e], x[M2 + e], x[M3 + e] = i, f, g, o
                x[M4 + e], x[M5 + e], x[M6 + e], x[M7 + e] = start_gate(i), start_gate(f), start(g), start_gate(o)
            for e in range(count):
                i, f, g, o = gates_4(
                    x[e], x[most + e], x[M2 + e], x[M3 + e], x[M4 + e], x[M5 + e], x[M6 + e], x[M7 + e], a, ra
                )
                x[e], x[most + e], x[M2 + e], x[M3 + e] = i, f, g, o
                x[M8 + e] = f * x[M8 + e] + i * g
            for e in range(count):
                x[M4 + e] = start(x[M8 + e])
            for e in range(count):
                x[M9 + e] = x[M3 + e] * forward(x[M8 + e], x[M4 + e], a)
            for v in range(0, count, lanes):
                columns, skip, at = smaller(lanes, units - j - v), (j + v) * size, memory + v * size
                if made != 0:
                    put_4(at, columns, made + skip, row)
                put_1(at + 8 * apart, columns, c + skip, 0)
                put_1(at + 9 * apart, columns, h + skip, 0)

    @inlined
    def gradient_step(dh, dc, made, kept, dz, to, units, a, ra):
        memory = stack_bytes(nbytes)
        x = reals(memory)
        row = units * size
        for j in range(0, units, most):
            count = (smaller(most, units - j) + lanes - 1) // lanes * lanes
            for v in range(0, count, lanes):
                columns, skip, at = smaller(lanes, units - j - v), (j + v) * size, memory + v * size
                take_4(made + skip, row, columns, at)
                take_1(kept + row + skip, 0, columns, at + 4 * apart)
                take_1(dh + skip, 0, columns, at + 5 * apart)
                take_1(dc + skip, 0, columns, at + 6 * apart)
            for e in range(count):
                x[M7 + e] = x[most + e] * x[M4 + e] + x[e] * x[M2 + e]
                x[M8 + e] = start(x[M7 + e])
            for e in range(count):
                x[M8 + e] = forward(x[M7 + e], x[M8 + e], a)
            for e in range(count):
                i, f, g, o = x[e], x[most + e], x[M2 + e], x[M3 + e]
                before, dy, t = x[M4 + e], x[M5 + e], x[M8 + e]
                d = x[M6 + e] + gradient(t, dy * o, a)
                x[e] = gate_gradient(i, d * g, ra)
                x[most + e] = gate_gradient(f, d * before, ra)
                x[M2 + e] = gradient(g, d * i, a)
                x[M3 + e] = gate_gradient(o, dy * t, ra)
                x[M6 + e] = d * f
            for v in range(0, count, lanes):
                columns, skip, at = smaller(lanes, units - j - v), (j + v) * size, memory + v * size
                put_4(at, columns, dz + skip, row)
                put_4(at, columns, to + skip, row)
                put_1(at + 6 * apart, columns, dc + skip, 0)

    return forward_step, gradient_step


def gru(kit: Kit, variant: str) -> tuple[Any, Any, Any, Any]:
    """Make the functions of a step of a GRU (Cho et al., 2014), and of its gradient.

    z, r = s(.), g = t(x + r (h w)) or t(x + (r h) w), h' = z h + (1 - z) g. There are four: the gates, for which the
    second form has another product than for g; the rest of the step; and the gradients in the other order.
    """
    start, forward, gradient, start_gate, gates_2, _, gate_gradient = _functions(kit, variant)
    step, size, reals = _Step(kit), kit.itemsize, kit.reals
    lanes, most, apart, nbytes = step.lanes, step.most, step.apart, step.nbytes
    take_1, take_2, take_3 = step.take[1], step.take[2], step.take[3]
    put_1, put_2, put_3, one = step.put[1], step.put[2], step.put[3], kit.real(1.0)
    M2, M3, M4, M5, M6, M7 = (number * most for number in range(2, 8))

    @inlined
    def activate_gates(z, rec, before, units, ra):
        """Activate the gates z, r in `rec`, and replace `before` by r times it."""
        memory = stack_bytes(nbytes)
        x = reals(memory)
        row = units * size
        for j in range(0, units, most):
            count = (smaller(most, units - j) + lanes - 1) // lanes * lanes
            for v in range(0, count, lanes):
                columns, skip, at = smaller(lanes, units - j - v), (j + v) * size, memory + v * size
                take_2(z + skip, row, columns, at)
                take_2(rec + skip, row, columns, at + 2 * apart)
                take_1(before + skip, 0, columns, at + 4 * apart)
            for e in range(count):
                x[e] += x[M2 + e]
                x[most + e] += x[M3 + e]
                x[M2 + e], x[M3 + e] = start_gate(x[e]), start_gate(x[most + e])
            for e in range(count):
                update, reset = gates_2(x[e], x[most + e], x[M2 + e], x[M3 + e], ra)
                x[e], x[most + e] = update, reset
                x[M4 + e] = reset * x[M4 + e]
            for v in range(0, count, lanes):
                columns, skip, at = smaller(lanes, units - j - v), (j + v) * size, memory + v * size
                put_2(at, columns, rec + skip, row)
                put_1(at + 4 * apart, columns, before + skip, 0)

    @inlined
    def forward_step(z, rec, before, bias, h, made, kept, units, after, a, ra):
        """Replace h; `before` is r times the state, where `after` is not set, else `bias` is that of the inputs' h."""
        memory = stack_bytes(nbytes)
        x = reals(memory)
        row = units * size
        for j in range(0, units, most):
            count = (smaller(most, units - j) + lanes - 1) // lanes * lanes
            for v in range(0, count, lanes):
                columns, skip, at = smaller(lanes, units - j - v), (j + v) * size, memory + v * size
                take_3(z + skip, row, columns, at)
                take_3(rec + skip, row, columns, at + 3 * apart)
                take_1(h + skip, 0, columns, at + 6 * apart)
                if after and bias != 0:
                    take_1(bias + skip, 0, columns, at + 7 * apart)
                if kept != 0 and after:
                    put_1(at + 5 * apart, columns, kept + row + skip, 0)
                elif kept != 0:
                    take_1(before + skip, 0, columns, at + 7 * apart)
                    put_1(at + 7 * apart, columns, kept + row + skip, 0)
            if after:
                for e in range(count):
                    x[e] += x[M3 + e]
                    x[most + e] += x[M4 + e]
                    x[M3 + e], x[M4 + e] = start_gate(x[e]), start_gate(x[most + e])
                if bias != 0:
                    for e in range(count):
                        x[M2 + e] += x[M7 + e]
                for e in range(count):
                    update, reset = gates_2(x[e], x[most + e], x[M3 + e], x[M4 + e], ra)
                    x[e], x[most + e] = update, reset
                    x[M2 + e] += reset * x[M5 + e]
            else:
                for e in range(count):
                    x[e], x[most + e] = x[M3 + e], x[M4 + e]
                    x[M2 + e] += x[M5 + e]
            for e in range(count):
                x[M3 + e] = start(x[M2 + e])
            for e in range(count):
                update, new = x[e], forward(x[M2 + e], x[M3 + e], a)
                x[M2 + e] = new
                x[M6 + e] = update * x[M6 + e] + (one - update) * new
            for v in range(0, count, lanes):
                columns, skip, at = smaller(lanes, units - j - v), (j + v) * size, memory + v * size
                if made != 0:
                    put_3(at, columns, made + skip, row)
                put_1(at + 6 * apart, columns, h + skip, 0)

    @inlined
    def gradient_step(dh, made, kept, raw, dz, to, units, after, a, ra):
        """Write the gradients of what is activated to dz and, in the order z, r, h, to `to`; dh becomes dh z.

        `raw` is the state before. Where `after` is not set, the gradients of r are missing.
        """
        memory = stack_bytes(nbytes)
        x = reals(memory)
        row = units * size
        for j in range(0, units, most):
            count = (smaller(most, units - j) + lanes - 1) // lanes * lanes
            for v in range(0, count, lanes):
                columns, skip, at = smaller(lanes, units - j - v), (j + v) * size, memory + v * size
                take_3(made + skip, row, columns, at)
                take_1(kept + row + skip, 0, columns, at + 3 * apart)
                take_1(raw + skip, 0, columns, at + 4 * apart)
                take_1(dh + skip, 0, columns, at + 5 * apart)
            for e in range(count):
                update, reset, new = x[e], x[most + e], x[M2 + e]
                d = x[M5 + e]
                x[M5 + e] = d * update
                # of the columns of h of the inputs' product, of z, of r, and of h of the state's product
                x[M6 + e] = gradient(new, d * (one - update), a)
                x[e] = gate_gradient(update, d * (x[M4 + e] - new), ra)
                x[most + e] = gate_gradient(reset, x[M6 + e] * x[M3 + e], ra)
                x[M2 + e] = x[M6 + e] * reset if after else x[M6 + e]
            for v in range(0, count, lanes):
                columns, skip, at = smaller(lanes, units - j - v), (j + v) * size, memory + v * size
                put_1(at + 5 * apart, columns, dh + skip, 0)
                put_3(at, columns, to + skip, row)
                put_1(at + 2 * apart, columns, dz + skip, 0)
                put_2(at, columns, dz + row + skip, row)
                put_1(at + 6 * apart, columns, dz + 3 * row + skip, 0)

    @inlined
    def reset_gradient(drh, made, kept, dz, to, units, ra):
        """Write the gradients of r from those of r times the state, which become those of the state."""
        memory = stack_bytes(nbytes)
        x = reals(memory)
        row = units * size
        for j in range(0, units, most):
            count = (smaller(most, units - j) + lanes - 1) // lanes * lanes
            for v in range(0, count, lanes):
                columns, skip, at = smaller(lanes, units - j - v), (j + v) * size, memory + v * size
                take_1(made + row + skip, 0, columns, at)
                take_1(kept + skip, 0, columns, at + apart)
                take_1(drh + skip, 0, columns, at + 2 * apart)
            for e in range(count):
                reset, d = x[e], x[M2 + e]
                x[e] = gate_gradient(reset, d * x[most + e], ra)
                x[M2 + e] = d * reset
            for v in range(0, count, lanes):
                columns, skip, at = smaller(lanes, units - j - v), (j + v) * size, memory + v * size
                put_1(at, columns, to + row + skip, 0)
                put_1(at, columns, dz + 2 * row + skip, 0)
                put_1(at + 2 * apart, columns, drh + skip, 0)

    return activate_gates, forward_step, gradient_step, reset_gradient
