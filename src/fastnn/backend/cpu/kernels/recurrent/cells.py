"""What one time step computes of the products of a row: gates, states, and their gradients, by vectors of units.

A vector of each gate is copied to the stack, where LLVM knows that nothing overlaps, and always whole: results do not
depend on the number of units that are left.
"""

from __future__ import annotations

from typing import Any

from fastnn.backend.cpu.codegen.elementary import functions
from fastnn.backend.cpu.codegen.intrinsics import smaller, stack_bytes
from fastnn.backend.cpu.codegen.kernel import Kit
from fastnn.backend.cpu.codegen.options import formula, inlined
from fastnn.backend.cpu.codegen.strips import make_put, make_take
from fastnn.backend.cpu.processor.blocking import Blocking
from fastnn.formulas import activations


def _functions(kit: Kit, variant: str) -> tuple[Any, Any, Any, Any]:
    """Return the activation, its gradient, the gates' activation, its gradient."""
    table = activations.define(kit.real, formula, functions(kit.dtype))
    first, _, second = variant.partition(",")
    return *table[first], *table[second or "linear"]


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
        self.take = {count: make_take(kit.dtype, self.lanes, count) for count in (1, 2, 3, 4, 5)}
        self.put = {count: make_put(kit.dtype, self.lanes, count) for count in (1, 2, 3, 4)}


def simple_rnn(kit: Kit, variant: str) -> tuple[Any, Any]:
    """Make the functions of a step of h' = f(z + h w), and of its gradient.

    The step's arguments: z, rec, h, kept, units, a: addresses of the rows of the inputs' products, of the state's, of
    the state, which is replaced, and of what is kept, or 0.
    """
    forward, gradient, _, _ = _functions(kit, variant)
    step, size, reals = Step(kit), kit.itemsize, kit.reals
    lanes, nbytes, take_1, put_1 = step.lanes, step.nbytes, step.take[1], step.put[1]
    vector, zero = lanes * size, kit.real(0.0)

    @inlined
    def forward_step(z, rec, h, kept, units, a):
        memory = stack_bytes(nbytes)
        x = reals(memory)
        for j in range(0, units, lanes):
            columns, skip = smaller(lanes, units - j), j * size
            take_1(z + skip, 0, columns, memory)
            take_1(rec + skip, 0, columns, memory + vector)
            for e in range(lanes):
                x[e] = forward(x[e] + x[lanes + e], a, zero)
            put_1(memory, columns, h + skip, 0)
            if kept != 0:
                put_1(memory, columns, kept + skip, 0)

    @inlined
    def gradient_step(dh, kept, dz, to, units, a):
        memory = stack_bytes(nbytes)
        x = reals(memory)
        for j in range(0, units, lanes):
            columns, skip = smaller(lanes, units - j), j * size
            take_1(dh + skip, 0, columns, memory)
            take_1(kept + skip, 0, columns, memory + vector)
            for e in range(lanes):
                x[e] = gradient(x[lanes + e], x[e], a, zero)
            put_1(memory, columns, dz + skip, 0)
            put_1(memory, columns, to + skip, 0)

    return forward_step, gradient_step


def lstm(kit: Kit, variant: str) -> tuple[Any, Any]:
    """Make the functions of a step of an LSTM (Hochreiter and Schmidhuber, 1997; Gers et al., 2000), and of its gradient.

    i, f, o = s(.), g = t(.), c' = f c + i g, h' = o t(c').
    """
    forward, gradient, gate, gate_gradient = _functions(kit, variant)
    step, size, reals = Step(kit), kit.itemsize, kit.reals
    lanes, nbytes = step.lanes, step.nbytes
    take_1, take_4, put_1, put_4 = step.take[1], step.take[4], step.put[1], step.put[4]
    vector, zero = lanes * size, kit.real(0.0)
    F, G, O, C, H = lanes, 2 * lanes, 3 * lanes, 8 * lanes, 9 * lanes

    @inlined
    def forward_step(z, rec, h, c, kept, units, a, ra):
        memory = stack_bytes(nbytes)
        x = reals(memory)
        row = units * size
        for j in range(0, units, lanes):
            columns, skip = smaller(lanes, units - j), j * size
            take_4(z + skip, row, columns, memory)
            take_4(rec + skip, row, columns, memory + 4 * vector)
            take_1(c + skip, 0, columns, memory + 8 * vector)
            if kept != 0:
                put_1(memory + 8 * vector, columns, kept + 5 * row + skip, 0)
            for e in range(lanes):
                x[e] = gate(x[e] + x[O + lanes + e], ra, zero)
                x[F + e] = gate(x[F + e] + x[5 * lanes + e], ra, zero)
                x[G + e] = forward(x[G + e] + x[6 * lanes + e], a, zero)
                x[O + e] = gate(x[O + e] + x[7 * lanes + e], ra, zero)
                x[C + e] = x[F + e] * x[C + e] + x[e] * x[G + e]
                x[H + e] = x[O + e] * forward(x[C + e], a, zero)
            if kept != 0:
                put_4(memory, columns, kept + skip, row)
            put_1(memory + 8 * vector, columns, c + skip, 0)
            put_1(memory + 9 * vector, columns, h + skip, 0)

    @inlined
    def gradient_step(dh, dc, kept, dz, to, units, a, ra):
        memory = stack_bytes(nbytes)
        x = reals(memory)
        row = units * size
        for j in range(0, units, lanes):
            columns, skip = smaller(lanes, units - j), j * size
            take_4(kept + skip, row, columns, memory)
            take_1(kept + 5 * row + skip, 0, columns, memory + 8 * vector)
            take_1(dh + skip, 0, columns, memory + 9 * vector)
            take_1(dc + skip, 0, columns, memory + 10 * vector)
            for e in range(lanes):
                i, f, g, o = x[e], x[F + e], x[G + e], x[O + e]
                before, dy = x[C + e], x[H + e]
                t = forward(f * before + i * g, a, zero)
                d = x[10 * lanes + e] + gradient(t, dy * o, a, zero)
                x[e] = gate_gradient(i, d * g, ra, zero)
                x[F + e] = gate_gradient(f, d * before, ra, zero)
                x[G + e] = gradient(g, d * i, a, zero)
                x[O + e] = gate_gradient(o, dy * t, ra, zero)
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
    forward, gradient, gate, gate_gradient = _functions(kit, variant)
    step, size, reals = Step(kit), kit.itemsize, kit.reals
    lanes, nbytes = step.lanes, step.nbytes
    take_1, take_2, take_3, take_4 = step.take[1], step.take[2], step.take[3], step.take[4]
    put_1, put_2, put_3, put_4 = step.put[1], step.put[2], step.put[3], step.put[4]
    vector, zero, one = lanes * size, kit.real(0.0), kit.real(1.0)
    L2, L3, L4, L5, L6 = 2 * lanes, 3 * lanes, 4 * lanes, 5 * lanes, 6 * lanes

    @inlined
    def gates(z, rec, before, units, ra):
        """Activate the gates z, r in `rec`, and replace `before` by r times it."""
        memory = stack_bytes(nbytes)
        x = reals(memory)
        row = units * size
        for j in range(0, units, lanes):
            columns, skip = smaller(lanes, units - j), j * size
            take_2(z + skip, row, columns, memory)
            take_2(rec + skip, row, columns, memory + 2 * vector)
            take_1(before + skip, 0, columns, memory + 4 * vector)
            for e in range(lanes):
                x[e] = gate(x[e] + x[L2 + e], ra, zero)
                x[lanes + e] = gate(x[lanes + e] + x[L3 + e], ra, zero)
                x[L4 + e] = x[lanes + e] * x[L4 + e]
            put_2(memory, columns, rec + skip, row)
            put_1(memory + 4 * vector, columns, before + skip, 0)

    @inlined
    def forward_step(z, rec, before, bias, h, kept, units, after, a, ra):
        """Replace h; `before` is r times the state, where `after` is not set, else `bias` is that of the inputs' h."""
        memory = stack_bytes(nbytes)
        x = reals(memory)
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
                    for e in range(lanes):
                        x[L2 + e] += x[7 * lanes + e]
                for e in range(lanes):
                    x[e] = gate(x[e] + x[L3 + e], ra, zero)
                    x[lanes + e] = gate(x[lanes + e] + x[L4 + e], ra, zero)
                    x[L2 + e] = forward(x[L2 + e] + x[lanes + e] * x[L5 + e], a, zero)
                    x[L6 + e] = x[e] * x[L6 + e] + (one - x[e]) * x[L2 + e]
            else:
                if kept != 0:
                    take_1(before + skip, 0, columns, memory + 7 * vector)
                    put_1(memory + 7 * vector, columns, kept + 4 * row + skip, 0)
                for e in range(lanes):
                    x[e] = x[L3 + e]
                    x[lanes + e] = x[L4 + e]
                    x[L2 + e] = forward(x[L2 + e] + x[L5 + e], a, zero)
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
        x = reals(memory)
        row = units * size
        for j in range(0, units, lanes):
            columns, skip = smaller(lanes, units - j), j * size
            take_3(kept + skip, row, columns, memory)
            take_1(kept + 4 * row + skip, 0, columns, memory + 3 * vector)
            take_1(raw + skip, 0, columns, memory + 4 * vector)
            take_1(dh + skip, 0, columns, memory + 5 * vector)
            for e in range(lanes):
                z, r, g = x[e], x[lanes + e], x[L2 + e]
                d = x[L5 + e]
                x[L5 + e] = d * z
                # of the columns of h of the inputs' product, of z, of r, and of h of the state's product
                x[L6 + e] = gradient(g, d * (one - z), a, zero)
                x[e] = gate_gradient(z, d * (x[L4 + e] - g), ra, zero)
                x[lanes + e] = gate_gradient(r, x[L6 + e] * x[L3 + e], ra, zero)
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
        x = reals(memory)
        row = units * size
        for j in range(0, units, lanes):
            columns, skip = smaller(lanes, units - j), j * size
            take_1(kept + row + skip, 0, columns, memory)
            take_1(kept + 3 * row + skip, 0, columns, memory + vector)
            take_1(drh + skip, 0, columns, memory + 2 * vector)
            for e in range(lanes):
                r, d = x[e], x[L2 + e]
                x[e] = gate_gradient(r, d * x[lanes + e], ra, zero)
                x[L2 + e] = d * r
            put_1(memory, columns, to + row + skip, 0)
            put_1(memory, columns, dz + 2 * row + skip, 0)
            put_1(memory + 2 * vector, columns, drh + skip, 0)

    return gates, forward_step, gradient_step, reset_gradient
