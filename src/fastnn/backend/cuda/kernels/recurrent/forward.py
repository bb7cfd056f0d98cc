"""Recurrent layers: a block takes some samples through all time steps, so no block waits for another.

In each step all threads multiply the states by the recurrent kernel, and meet; then each makes the states of some
units, and they meet again. A block's memory has these arrays for each sample, of a number for each unit: what is
multiplied by the kernel, the state, of an LSTM the cells, of a GRU what is multiplied by the columns of h, and the
products of all gates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from fastnn.backend.cuda.codegen.kernel import Kit, Stage, ptx
from fastnn.backend.cuda.codegen.options import helper
from fastnn.backend.cuda.codegen.sizes import RECURRENT
from fastnn.backend.cuda.kernels.elementwise import formulas
from fastnn.backend.cuda.kernels.moves import split
from fastnn.backend.cuda.kernels.recurrent.plan import KEPT, Block, block_of, scan_kernel, scan_stage
from fastnn.backend.cuda.kernels.recurrent.products import make_product

_THREADS = RECURRENT.threads
as_double, keep, stay_rolled = ptx.int_as_double, ptx.keep, ptx.stay_rolled


def make_factor(kit: Kit) -> Any:
    """Make `factor(record, sample, j)`: the factor of recurrent dropout, 1 without it."""
    START, STARTS, STATES, UNITS = kit.words("start starts states units")
    load, one = kit.load, kit.real(1.0)

    @helper
    def factor(record, sample, j):
        states = record[STATES]
        if record[START] == 0 or record[STARTS] == states:
            return one
        return load(record[START], (sample * record[STARTS] + states) * record[UNITS] + j)

    return factor


def make_takes_part(kit: Kit) -> Any:
    """Make `takes_part(record, at)`: whether a time step of a sample is not masked."""
    (MASK,), load, zero = kit.words("mask"), kit.load, kit.real(0.0)

    @helper
    def takes_part(record, at):
        return record[MASK] == 0 or load(record[MASK], at) != zero

    return takes_part


def make_begins_anew(kit: Kit) -> Any:
    """Make `begins_anew(record, sample, t)`: whether the state of a sample is set to zero before a step.

    There may be no such step: t is -1, or the number of steps.
    """
    MASK, STEPS = kit.words("mask steps")
    load, zero = kit.load, kit.real(0.0)

    @helper
    def begins_anew(record, sample, t):
        if record[MASK] == 0 or t < 0 or t >= record[STEPS]:
            return False
        return load(record[MASK], sample * record[STEPS] + t) < zero

    return begins_anew


def _make_clear(kit: Kit, number: int) -> Any:
    """Make `clear(record, at, j, units)`, which keeps zeros of a masked step, of that number of gates."""
    GATES, KEPT_AT = kit.words("gates kept")
    (SLOTS,) = kit.words("slots") if kit.op == "gru" else (0,)
    store, zero, slots = kit.store, kit.real(0.0), {"simple_rnn": 1, "gru": 0, "lstm": 2}[kit.op]

    @helper
    def clear(record, at, j, units):
        if record[GATES] != 0:
            for gate in range(number):
                store(record[GATES], (at * number + gate) * units + j, zero)
        if record[KEPT_AT] != 0:
            count = record[SLOTS] if slots == 0 else slots
            for slot in range(count):
                store(record[KEPT_AT], (at * count + slot) * units + j, zero)

    return clear


def _make_stage(kit: Kit, block: Block, step: Any, gates: Any = None) -> Stage:
    """Make a kernel.

    Parameters
    ----------
    step : device function
        `step(record, memory, at, i, j, units)` makes the state of a unit after a step that is not masked: step `at` of
        those of all samples, unit j, which is element i of the block's memory. It returns the state.
    gates : device function, optional
        The same before the product with the columns of h, where that is separate.
    """
    Y, LAST, W, START, BATCH = kit.words("y last w start batch")
    STEPS, UNITS, WIDE, STARTS, STATES, REVERSE = kit.words("steps units wide starts states reverse")
    (CELL,) = kit.words("cell") if kit.op == "lstm" else (0,)
    (AFTER,) = kit.words("after") if kit.op == "gru" else (0,)
    load, store, get, put, memory_of = kit.load, kit.store, block.get, block.put, block.memory
    samples, zero, is_lstm, separate = block.samples, kit.real(0.0), kit.op == "lstm", gates is not None
    gates = gates or step
    product, factor, takes_part = make_product(kit, block), make_factor(kit), make_takes_part(kit)
    begins_anew = make_begins_anew(kit)
    number_of_gates = {"simple_rnn": 1, "gru": 3, "lstm": 4}[kit.op]
    clear, gap_of, products_at = _make_clear(kit, number_of_gates), block.gap, KEPT[kit.op] - number_of_gates

    @helper
    def begin(record, memory, first, count):
        units, number, gap = keep(record[UNITS]), np.int64(cuda.threadIdx.x), gap_of(record)
        while number < samples * units:
            stay_rolled()
            s, j = split(number, units)
            i = s * gap + j
            h, c, noise = zero, zero, zero
            if s < count:
                noise, given = factor(record, first + s, j), (first + s) * record[STARTS] * units + j
                anew = begins_anew(record, first + s, record[STEPS] - 1 if record[REVERSE] != 0 else 0)
                if record[STATES] > 0 and not anew:
                    h = load(record[START], given)
                    if is_lstm:
                        c = load(record[START], given + units)
            put(memory, i, h * noise)
            put(memory, i + units, h)
            if is_lstm:
                put(memory, i + 2 * units, c)
            number += _THREADS

    @helper
    def make_gates(record, memory, first, count, t):
        units, number, gap = keep(record[UNITS]), np.int64(cuda.threadIdx.x), gap_of(record)
        while number < count * units:
            stay_rolled()
            s, j = split(number, units)
            gates(record, memory, (first + s) * record[STEPS] + t, s * gap + j, j, units)
            number += _THREADS

    @helper
    def make_states(record, memory, first, count, t):
        units, number, gap = keep(record[UNITS]), np.int64(cuda.threadIdx.x), gap_of(record)
        while number < count * units:
            stay_rolled()
            s, j = split(number, units)
            at, i = (first + s) * record[STEPS] + t, s * gap + j
            if takes_part(record, at):
                h = step(record, memory, at, i, j, units)
                put(memory, i + units, h)
                put(memory, i, h * factor(record, first + s, j))
            else:
                h = get(memory, i + units)
                clear(record, at, j, units)
            if record[Y] != 0:
                store(record[Y], at * units + j, h)
            if begins_anew(record, first + s, t - 1 if record[REVERSE] != 0 else t + 1):
                put(memory, i, zero)
                put(memory, i + units, zero)
                if is_lstm:
                    put(memory, i + 2 * units, zero)
            number += _THREADS

    @helper
    def end(record, memory, first, count):
        units, number, gap = keep(record[UNITS]), np.int64(cuda.threadIdx.x), gap_of(record)
        while number < count * units:
            stay_rolled()
            s, j = split(number, units)
            if record[LAST] != 0:
                store(record[LAST], first * units + number, get(memory, s * gap + units + j))
            if is_lstm and record[CELL] != 0:
                store(record[CELL], first * units + number, get(memory, s * gap + 2 * units + j))
            number += _THREADS

    def scan(record, context):
        units, wide, steps = record[UNITS], record[WIDE], record[STEPS]
        memory, first = memory_of(record), np.int64(cuda.blockIdx.x) * samples
        count, gap, target = min(samples, record[BATCH] - first), gap_of(record), products_at * units
        begin(record, memory, first, count)
        cuda.syncthreads()
        for turn in range(steps):
            t = steps - 1 - turn if record[REVERSE] != 0 else turn
            together = not separate or record[AFTER] != 0
            columns = wide if together else 2 * units
            product(memory, 0, gap, units, record[W], wide, 0, columns, target)
            cuda.syncthreads()
            if separate and not together:
                make_gates(record, memory, first, count, t)
                cuda.syncthreads()
                product(memory, 2 * units, gap, units, record[W], wide, 2 * units, units, target)
                cuda.syncthreads()
            make_states(record, memory, first, count, t)
            cuda.syncthreads()
        # each thread reads what it has written itself
        end(record, memory, first, count)

    return scan_stage(kit, scan)


@scan_kernel("simple_rnn")
def simple_rnn(kit: Kit) -> list[Stage]:
    """Make h' = f(z + h w)."""
    GATES, KEPT_AT, Z, A = kit.words("gates kept z a")
    block, (act, _), zero, real = block_of(kit), formulas(kit, kit.variant), kit.real(0.0), kit.real
    load, store, get = kit.load, kit.store, block.get

    @helper
    def step(record, memory, at, i, j, units):
        summed = load(record[Z], at * units + j) + get(memory, i + 2 * units)
        made = act(summed, real(as_double(record[A])), zero)
        if record[GATES] != 0:
            store(record[GATES], at * units + j, made)
        if record[KEPT_AT] != 0:
            store(record[KEPT_AT], at * units + j, get(memory, i))
        return made

    return [_make_stage(kit, block, step)]


@scan_kernel("lstm")
def lstm(kit: Kit) -> list[Stage]:
    """Make i, f, o = s(.), g = f(.), c' = f c + i g, h' = o f(c')."""
    GATES, KEPT_AT, Z, A, RA = kit.words("gates kept z a ra")
    block, zero, real = block_of(kit), kit.real(0.0), kit.real
    name, gate_name = kit.variant.split(",")
    (act, _), (gate, _) = formulas(kit, name), formulas(kit, gate_name)
    load, store, get, put = kit.load, kit.store, block.get, block.put

    @helper
    def step(record, memory, at, i, j, units):
        z, a, ra = record[Z], real(as_double(record[A])), real(as_double(record[RA]))
        from_z, products, cell = at * 4 * units + j, i + 3 * units, i + 2 * units
        into = gate(load(z, from_z) + get(memory, products), ra, zero)
        forget = gate(load(z, from_z + units) + get(memory, products + units), ra, zero)
        new = act(load(z, from_z + 2 * units) + get(memory, products + 2 * units), a, zero)
        out = gate(load(z, from_z + 3 * units) + get(memory, products + 3 * units), ra, zero)
        before = get(memory, cell)
        cells = forget * before + into * new
        put(memory, cell, cells)
        if record[GATES] != 0:
            made = record[GATES]
            store(made, from_z, into)
            store(made, from_z + units, forget)
            store(made, from_z + 2 * units, new)
            store(made, from_z + 3 * units, out)
        if record[KEPT_AT] != 0:
            kept, to = record[KEPT_AT], at * 2 * units + j
            store(kept, to, get(memory, i))
            store(kept, to + units, before)
        return out * act(cells, a, zero)

    return [_make_stage(kit, block, step)]


@scan_kernel("gru")
def gru(kit: Kit) -> list[Stage]:
    """Make z, r = s(.), g = f(x + r (h w + b)) or f(x + (r h) w), h' = z h + (1 - z) g."""
    GATES, KEPT_AT, Z, BIAS, SLOTS, AFTER, A, RA = kit.words("gates kept z bias slots after a ra")
    block, zero, one, real = block_of(kit), kit.real(0.0), kit.real(1.0), kit.real
    name, gate_name = kit.variant.split(",")
    (act, _), (gate, _) = formulas(kit, name), formulas(kit, gate_name)
    load, store, get, put = kit.load, kit.store, block.get, block.put

    @helper
    def of_inputs(record, at, j, units, gate):
        """Return a product of the inputs with its bias."""
        column = gate * units + j
        value = load(record[Z], at * 3 * units + column)
        return value if record[BIAS] == 0 else value + load(record[BIAS], column)

    @helper
    def of_states(record, memory, i, j, units, gate):
        """Return a product of the states with its bias."""
        value = get(memory, i + (3 + gate) * units)
        if record[BIAS] == 0 or record[AFTER] == 0:
            return value
        return value + load(record[BIAS], (3 + gate) * units + j)

    @helper
    def gate_of(record, memory, at, i, j, units, number):
        summed = of_inputs(record, at, j, units, number) + of_states(record, memory, i, j, units, number)
        return gate(summed, real(as_double(record[RA])), zero)

    @helper
    def gates(record, memory, at, i, j, units):
        put(memory, i + 2 * units, gate_of(record, memory, at, i, j, units, 1) * get(memory, i))

    @helper
    def step(record, memory, at, i, j, units):
        after = record[AFTER] != 0
        update, reset = gate_of(record, memory, at, i, j, units, 0), gate_of(record, memory, at, i, j, units, 1)
        other, h = of_states(record, memory, i, j, units, 2), get(memory, i + units)
        made = act(
            of_inputs(record, at, j, units, 2) + (reset * other if after else other), real(as_double(record[A])), zero
        )
        if record[GATES] != 0:
            to = at * 3 * units + j
            store(record[GATES], to, update)
            store(record[GATES], to + units, reset)
            store(record[GATES], to + 2 * units, made)
        if record[KEPT_AT] != 0:
            kept, to = record[KEPT_AT], at * record[SLOTS] * units + j
            store(kept, to, get(memory, i))
            store(kept, to + units, other if after else get(memory, i + 2 * units))
            if record[SLOTS] == 3:
                store(kept, to + 2 * units, h)
        return update * h + (one - update) * made

    return [_make_stage(kit, block, step, gates)]
