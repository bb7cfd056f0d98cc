"""Gradients of recurrent layers: a block takes some samples back through all time steps.

In each step threads make the gradients of the gates of some units, and meet; then all multiply them by the transposed
recurrent kernel, which gives the gradient of the state before, and meet again. A block's memory has these arrays for
each sample, of a number for each unit: the gradient of the state, of an LSTM that of the cells, and the gradients of
all gates.
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
from fastnn.backend.cuda.kernels.recurrent.forward import make_begins_anew, make_factor, make_takes_part
from fastnn.backend.cuda.kernels.recurrent.plan import KEPT, Block, block_of, scan_kernel, scan_stage
from fastnn.backend.cuda.kernels.recurrent.products import make_transposed

_THREADS = RECURRENT.threads
as_double, keep, stay_rolled = ptx.int_as_double, ptx.keep, ptx.stay_rolled
#: gradients of each unit and step that are written, and gates
_WRITTEN = {"simple_rnn_grad": 1, "gru_grad": 4, "lstm_grad": 4}
_GATES = {"simple_rnn_grad": 1, "gru_grad": 3, "lstm_grad": 4}


def _make_stage(kit: Kit, block: Block, step: Any, reset: Any = None) -> Stage:
    """Make a kernel.

    Parameters
    ----------
    step : device function
        `step(record, memory, at, i, j, units, dh)` makes the gradients of a unit's gates in a step that is not masked;
        `dh` is that of the state after it. It returns what of `dh` goes to the state before without the kernel.
    reset : device function, optional
        `reset(record, memory, at, i, j, units, total, factor)`, where the product with the columns of h comes before
        the gradient of a gate: makes that gradient, and returns what goes to the state before.
    """
    DZ, DSTART, DY, DLAST, W, BATCH = kit.words("dz dstart dy dlast w batch")
    STEPS, UNITS, WIDE, STATES, REVERSE, ENDS = kit.words("steps units wide states reverse ends")
    (AFTER,) = kit.words("after") if kit.op == "gru_grad" else (0,)
    load, store, get, put, memory_of = kit.load, kit.store, block.get, block.put, block.memory
    samples, zero, is_lstm, separate = block.samples, kit.real(0.0), kit.op == "lstm_grad", reset is not None
    written, gates_count, gates_at = _WRITTEN[kit.op], _GATES[kit.op], KEPT[kit.op] - _GATES[kit.op]
    factor, takes_part, begins_anew = make_factor(kit), make_takes_part(kit), make_begins_anew(kit)
    of_state, gap_of = reset or step, block.gap

    @helper
    def add_to_state(record, memory, place, s, j, total):
        first, count, t = place
        at = (first + s) * record[STEPS] + t
        if s < count and takes_part(record, at):
            i = s * gap_of(record) + j
            put(memory, i, get(memory, i) + total * factor(record, first + s, j))

    @helper
    def add_through_reset(record, memory, place, s, j, total):
        first, count, t = place
        at = (first + s) * record[STEPS] + t
        if s < count and takes_part(record, at):
            i = s * gap_of(record) + j
            more = of_state(record, memory, at, i, j, record[UNITS], total, factor(record, first + s, j))
            put(memory, i, get(memory, i) + more)

    transposed = make_transposed(kit, block, add_to_state)
    through_reset = make_transposed(kit, block, add_through_reset) if separate else transposed

    @helper
    def begin(record, memory, first, count):
        units, number, gap = keep(record[UNITS]), np.int64(cuda.threadIdx.x), gap_of(record)
        while number < samples * units:
            stay_rolled()
            s, j = split(number, units)
            i = s * gap + j
            dh, dc = zero, zero
            if s < count and record[DLAST] != 0:
                given = (first + s) * record[ENDS] * units + j
                dh = load(record[DLAST], given)
                if is_lstm and record[ENDS] > 1:
                    dc = load(record[DLAST], given + units)
            put(memory, i, dh)
            if is_lstm:
                put(memory, i + units, dc)
            # gradients of masked steps, and of samples that are not there, are multiplied, too
            for gate in range(gates_count):
                put(memory, i + (gates_at + gate) * units, zero)
            number += _THREADS

    @helper
    def make_gradients(record, memory, first, count, t):
        units, number, gap = keep(record[UNITS]), np.int64(cuda.threadIdx.x), gap_of(record)
        while number < count * units:
            stay_rolled()
            s, j = split(number, units)
            at, i = (first + s) * record[STEPS] + t, s * gap + j
            dh = get(memory, i)
            if begins_anew(record, first + s, t - 1 if record[REVERSE] != 0 else t + 1):
                dh = zero
                if is_lstm:
                    put(memory, i + units, zero)
            if record[DY] != 0:
                dh += load(record[DY], at * units + j)
            if takes_part(record, at):
                dh = step(record, memory, at, i, j, units, dh)
            else:
                for slot in range(written):
                    store(record[DZ], (at * written + slot) * units + j, zero)
            put(memory, i, dh)
            number += _THREADS

    @helper
    def end(record, memory, first, count):
        units, number, gap = keep(record[UNITS]), np.int64(cuda.threadIdx.x), gap_of(record)
        while number < count * units:
            stay_rolled()
            s, j = split(number, units)
            to, i = (first + s) * record[STATES] * units + j, s * gap + j
            anew = begins_anew(record, first + s, record[STEPS] - 1 if record[REVERSE] != 0 else 0)
            store(record[DSTART], to, zero if anew else get(memory, i))
            if is_lstm:
                store(record[DSTART], to + units, zero if anew else get(memory, i + units))
            number += _THREADS

    def scan_gradient(record, context):
        units, wide, steps, w = record[UNITS], record[WIDE], record[STEPS], record[W]
        memory, first = memory_of(record), np.int64(cuda.blockIdx.x) * samples
        count, gap, gates = min(samples, record[BATCH] - first), gap_of(record), gates_at * units
        begin(record, memory, first, count)
        cuda.syncthreads()
        for turn in range(steps):
            t = turn if record[REVERSE] != 0 else steps - 1 - turn
            place, depth = (first, count, t), wide
            make_gradients(record, memory, first, count, t)
            cuda.syncthreads()
            if separate and record[AFTER] == 0:
                depth = 2 * units
                through_reset(record, memory, place, gates + depth, gap, units, w, wide, depth, units)
                cuda.syncthreads()
            transposed(record, memory, place, gates, gap, depth, w, wide, 0, units)
            cuda.syncthreads()
        if record[DSTART] != 0:
            end(record, memory, first, count)

    return scan_stage(kit, scan_gradient)


@scan_kernel("simple_rnn_grad")
def simple_rnn_grad(kit: Kit) -> list[Stage]:
    """Make the gradients of z, and of the initial state."""
    DZ, GATES, A = kit.words("dz gates a")
    block, (_, gradient), zero, real = block_of(kit), formulas(kit, kit.variant), kit.real(0.0), kit.real
    load, store, put = kit.load, kit.store, block.put

    @helper
    def step(record, memory, at, i, j, units, dh):
        dz = gradient(load(record[GATES], at * units + j), dh, real(as_double(record[A])), zero)
        store(record[DZ], at * units + j, dz)
        put(memory, i + units, dz)
        return zero

    return [_make_stage(kit, block, step)]


@scan_kernel("lstm_grad")
def lstm_grad(kit: Kit) -> list[Stage]:
    """Make the gradients of z, and of the initial states."""
    DZ, GATES, KEPT_AT, A, RA = kit.words("dz gates kept a ra")
    block, zero, real = block_of(kit), kit.real(0.0), kit.real
    name, gate_name = kit.variant.split(",")
    (act, gradient), (_, gate_gradient) = formulas(kit, name), formulas(kit, gate_name)
    load, store, get, put = kit.load, kit.store, block.get, block.put

    @helper
    def step(record, memory, at, i, j, units, dh):
        a, ra = real(as_double(record[A])), real(as_double(record[RA]))
        made, to, cell = record[GATES], at * 4 * units + j, i + units
        into, forget = load(made, to), load(made, to + units)
        new, out = load(made, to + 2 * units), load(made, to + 3 * units)
        before = load(record[KEPT_AT], (at * 2 + 1) * units + j)
        squashed = act(forget * before + into * new, a, zero)
        dc = get(memory, cell) + gradient(squashed, dh * out, a, zero)
        d_into, d_forget = gate_gradient(into, dc * new, ra, zero), gate_gradient(forget, dc * before, ra, zero)
        d_new, d_out = gradient(new, dc * into, a, zero), gate_gradient(out, dh * squashed, ra, zero)
        put(memory, cell, dc * forget)
        dz, gates = record[DZ], i + 2 * units
        store(dz, to, d_into)
        store(dz, to + units, d_forget)
        store(dz, to + 2 * units, d_new)
        store(dz, to + 3 * units, d_out)
        put(memory, gates, d_into)
        put(memory, gates + units, d_forget)
        put(memory, gates + 2 * units, d_new)
        put(memory, gates + 3 * units, d_out)
        return zero

    return [_make_stage(kit, block, step)]


@scan_kernel("gru_grad")
def gru_grad(kit: Kit) -> list[Stage]:
    """Make the gradients of h of the state's product, of z, of r, and of h of the inputs' product."""
    DZ, GATES, KEPT_AT, SLOTS, AFTER, A, RA = kit.words("dz gates kept slots after a ra")
    block, zero, one, real = block_of(kit), kit.real(0.0), kit.real(1.0), kit.real
    name, gate_name = kit.variant.split(",")
    (_, gradient), (_, gate_gradient) = formulas(kit, name), formulas(kit, gate_name)
    load, store, put = kit.load, kit.store, block.put

    @helper
    def write_reset(record, memory, at, i, j, units, value):
        store(record[DZ], (at * 4 + 2) * units + j, value)
        put(memory, i + 2 * units, value)

    @helper
    def step(record, memory, at, i, j, units, dh):
        ra, after = real(as_double(record[RA])), record[AFTER] != 0
        kept, kept_at = record[KEPT_AT], at * record[SLOTS] * units + j
        activated, gates_at = record[GATES], at * 3 * units + j
        update, reset = load(activated, gates_at), load(activated, gates_at + units)
        made = load(activated, gates_at + 2 * units)
        # the state before: with dropout it is not what was multiplied
        state = load(kept, kept_at + (2 if record[SLOTS] == 3 else 0) * units)
        d_new = gradient(made, dh * (one - update), real(as_double(record[A])), zero)
        d_update = gate_gradient(update, dh * (state - made), ra, zero)
        d_other = d_new * reset if after else d_new
        if after:
            write_reset(
                record, memory, at, i, j, units, gate_gradient(reset, d_new * load(kept, kept_at + units), ra, zero)
            )
        to, dz, gates = at * 4 * units + j, record[DZ], i + units
        store(dz, to, d_other)
        store(dz, to + units, d_update)
        store(dz, to + 3 * units, d_new)
        put(memory, gates, d_update)
        put(memory, gates + 2 * units, d_other)
        return dh * update

    @helper
    def through_reset(record, memory, at, i, j, units, total, factor):
        reset = load(record[GATES], (at * 3 + 1) * units + j)
        before = load(record[KEPT_AT], at * record[SLOTS] * units + j)
        ra = real(as_double(record[RA]))
        write_reset(record, memory, at, i, j, units, gate_gradient(reset, total * before, ra, zero))
        return total * reset * factor

    return [_make_stage(kit, block, step, through_reset)]
