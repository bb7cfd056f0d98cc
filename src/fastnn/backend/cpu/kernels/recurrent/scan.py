"""Recurrent layers and their gradients: one record runs all time steps.

Samples do not depend on each other, so a part is a slice of the batch, and no thread waits for another between steps. A
part takes some samples at a time through all steps, so that their states and the products stay in the caches. In each
step the states of the samples that are not masked are gathered side by side, multiplied by the packed kernel, and
become new states; samples that are masked, or have ended, cost nothing.

What is activated may lie where the inputs' products were, and its gradients where that was: of an LSTM of 100 units a
step of a sample then moves 4.8 instead of 6.4 KB, and its scan took 2.91 instead of 3.41 ms, its gradient 2.84 instead
of 3.36 (32 samples, 128 steps, one thread).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import (
    address,
    float64_pointer,
    has,
    int64_pointer,
    release,
    smaller,
    stack_bytes,
)
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, note_raised, rows_part
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.codegen.packing import make_row_maker, make_zeros
from fastnn.backend.cpu.kernels.recurrent import cells
from fastnn.backend.cpu.kernels.recurrent.products import PACKED_BYTES, products_of
from fastnn.backend.cpu.kernels.windows.memory import STACK_BYTES, working_memory
from fastnn.backend.cpu.processor.blocking import Blocking

# Samples that go through the steps together: eight of the highest tiles.
_SAMPLES = 96
#: Arrays of units that are kept for each step besides the gates; of a GRU with recurrent dropout there is one more. The
#: first is multiplied by the kernel.
KEPT = {"simple_rnn": 1, "gru": 2, "lstm": 2}


def _samples_together(samples: int) -> Any:
    """Make the function that returns how many samples of a part go through the steps together."""

    @helper
    def together(count):
        return smaller(count, samples)

    return together


@kernel("simple_rnn", "gru", "lstm")
def scan(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make the states of all steps, and what the gradient needs."""
    name = kit.op
    Y, LAST, GATES, KEPT_AT, Z, W, START, MASK = kit.words("y last gates kept z w start mask")
    BATCH, STEPS, UNITS, WIDE, STARTS, STATES, REVERSE = kit.words("batch steps units wide starts states reverse")
    A, RA = kit.words("a ra") if name != "simple_rnn" else kit.words("a a")
    (CELL,) = kit.words("cell") if name == "lstm" else (0,)
    BIAS, AFTER = kit.words("bias after") if name == "gru" else (0, 0)
    size, real, reals = kit.itemsize, kit.real, kit.reals
    is_lstm, is_gru, slots = name == "lstm", name == "gru", KEPT[name]
    lanes = Blocking.of(kit.dtype).lanes
    copy, add, multiply = (make_row_maker(kit.dtype, lanes, operation) for operation in ("copy", "add", "multiply"))
    zeros = make_zeros(kit.dtype, lanes)
    packed_bytes, pack, product = products_of(kit, transposed=False)
    together, panel_row = _samples_together(_SAMPLES), Blocking.of(kit.dtype).width * size
    if is_gru:
        activate, step, _, _ = cells.gru(kit, variant)
    else:
        step, _ = cells.lstm(kit, variant) if is_lstm else cells.simple_rnn(kit, variant)

    def scan(record, context, ith, nth):
        r = int64_pointer(record)
        first, last = rows_part(r[BATCH], ith, nth)
        if first >= last:
            return
        steps, units, wide, states, backwards = r[STEPS], r[UNITS], r[WIDE], r[STATES], r[REVERSE] != 0
        z, w = address(record, context, Z), address(record, context, W)
        y = address(record, context, Y) if has(record, Y) else 0
        ended = address(record, context, LAST) if has(record, LAST) else 0
        cell = address(record, context, CELL) if is_lstm and has(record, CELL) else 0
        gates = address(record, context, GATES) if has(record, GATES) else 0
        kept = address(record, context, KEPT_AT) if has(record, KEPT_AT) else 0
        start = address(record, context, START) if has(record, START) else 0
        mask = address(record, context, MASK) if has(record, MASK) else 0
        bias = address(record, context, BIAS) if is_gru and has(record, BIAS) else 0
        after = r[AFTER] != 0 if is_gru else True
        noisy = r[STARTS] > states and start != 0
        a, ra = real(float64_pointer(record)[A]), real(float64_pointer(record)[RA])
        row, row_wide = units * size, wide * size
        kept_slots = slots + 1 if is_gru and noisy else slots
        # memory: lists of samples, states, cells, gathered states, products, a bias, the kernel
        most = together(last - first)
        single = last - first == 1
        split = 2 * units if not after else wide
        right_bytes = 0
        if not single:
            right_bytes = packed_bytes(split, units) + (packed_bytes(units, units) if not after else 0)
        whole = right_bytes <= PACKED_BYTES
        panel_bytes = 0 if single else units * panel_row
        fixed = (most * 8 + most * (3 * row + row_wide) + row_wide + 63) // 64 * 64 + 64
        needed = fixed + (right_bytes if whole else panel_bytes)
        memory, _, allocated = working_memory(context, ith, stack_bytes(STACK_BYTES), needed, needed)
        if memory == 0:
            note_raised(record, context)
            return
        listed = int64_pointer(memory)
        h = memory + most * 8
        c, gathered = h + most * row, h + 2 * most * row
        rec, right = h + 3 * most * row, memory + fixed
        init, bias_reset = bias, bias + 2 * row if bias != 0 else 0
        if is_gru and after and bias != 0:
            # of z and r the sum of both biases
            init = rec + most * row_wide
            add(init, bias, bias + row_wide, 2 * units)
            copy(init + 2 * row, bias + row_wide + 2 * row, bias, units)
        packed, packed_reset = 0, 0
        if not single and whole:
            packed = right
            pack(w, row_wide, split, units, packed)
            if not after:
                packed_reset = right + packed_bytes(split, units)
                pack(w + 2 * row, row_wide, units, units, packed_reset)
        for begin in range(first, last, _SAMPLES):
            count = smaller(_SAMPLES, last - begin)
            for i in range(count):
                given = start + (begin + i) * r[STARTS] * row
                if states > 0:
                    copy(h + i * row, given, given, units)
                    if is_lstm:
                        copy(c + i * row, given + row, given, units)
                else:
                    zeros(h + i * row, units)
                    if is_lstm:
                        zeros(c + i * row, units)
            for turn in range(steps):
                t = steps - 1 - turn if backwards else turn
                active = 0
                for i in range(count):
                    at = (begin + i) * steps + t
                    keep = kept + at * kept_slots * row
                    if mask != 0 and reals(mask)[at] == real(0.0):
                        if y != 0:
                            copy(y + at * row, h + i * row, h, units)
                        if gates != 0:
                            zeros(gates + at * row_wide, wide)
                        if kept != 0:
                            zeros(keep, kept_slots * units)
                        continue
                    if mask != 0 and reals(mask)[at] < real(0.0):
                        zeros(h + i * row, units)
                        if is_lstm:
                            zeros(c + i * row, units)
                    listed[active] = i
                    to = gathered + active * row
                    if noisy:
                        factors = start + ((begin + i) * r[STARTS] + states) * row
                        multiply(to, h + i * row, factors, units)
                    else:
                        copy(to, h + i * row, h, units)
                    if kept != 0:
                        copy(keep, to, to, units)
                        if is_gru and noisy:
                            copy(keep + 2 * row, h + i * row, h, units)
                    active += 1
                if active == 0:
                    continue
                product(active, split, units, gathered, row, packed, w, row_wide, right, init, rec, row_wide)
                if is_gru and not after:
                    for place in range(active):
                        at = (begin + listed[place]) * steps + t
                        activate(z + at * row_wide, rec + place * row_wide, gathered + place * row, units, ra)
                    product(active, units, units, gathered, row, packed_reset, w + 2 * row, row_wide, right,
                            bias_reset, rec + 2 * row, row_wide)  # fmt: skip
                for place in range(active):
                    i = listed[place]
                    at = (begin + i) * steps + t
                    made = gates + at * row_wide if gates != 0 else 0
                    keep = kept + at * kept_slots * row if kept != 0 else 0
                    from_z, from_rec, state = z + at * row_wide, rec + place * row_wide, h + i * row
                    if is_lstm:
                        step(from_z, from_rec, state, c + i * row, made, keep, units, a, ra)
                    elif is_gru:
                        step(
                            from_z, from_rec, gathered + place * row, bias_reset, state, made, keep, units, after, a, ra
                        )
                    else:
                        step(from_z, from_rec, state, made, units, a)
                    if y != 0:
                        copy(y + at * row, state, state, units)
            for i in range(count):
                if ended != 0:
                    copy(ended + (begin + i) * row, h + i * row, h, units)
                if cell != 0:
                    copy(cell + (begin + i) * row, c + i * row, c, units)
        if allocated != 0:
            release(allocated)

    return scan


@kernel("simple_rnn_grad", "gru_grad", "lstm_grad")
def scan_gradient(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make the gradients of what is activated in all steps, and of the initial states."""
    name = kit.op.removesuffix("_grad")
    DZ, DSTART, DY, DLAST, GATES, W, START, MASK = kit.words("dz dstart dy dlast gates w start mask")
    (KEPT_AT,) = kit.words("kept") if name != "simple_rnn" else (0,)
    BATCH, STEPS, UNITS, WIDE, STARTS, STATES, REVERSE = kit.words("batch steps units wide starts states reverse")
    (ENDS,) = kit.words("ends")
    A, RA = kit.words("a ra") if name != "simple_rnn" else kit.words("a a")
    (AFTER,) = kit.words("after") if name == "gru" else (0,)
    size, real, reals = kit.itemsize, kit.real, kit.reals
    is_lstm, is_gru, has_kept, slots = name == "lstm", name == "gru", name != "simple_rnn", KEPT[name]
    dz_slots = {"simple_rnn": 1, "gru": 4, "lstm": 4}[name]
    lanes = Blocking.of(kit.dtype).lanes
    copy, add, multiply = (make_row_maker(kit.dtype, lanes, operation) for operation in ("copy", "add", "multiply"))
    zeros = make_zeros(kit.dtype, lanes)
    packed_bytes, pack, product = products_of(kit, transposed=True)
    together, panel_row = _samples_together(_SAMPLES), Blocking.of(kit.dtype).width * size
    if is_gru:
        _, _, step, reset = cells.gru(kit, variant)
    else:
        _, step = cells.lstm(kit, variant) if is_lstm else cells.simple_rnn(kit, variant)

    def scan_gradient(record, context, ith, nth):
        r = int64_pointer(record)
        first, last = rows_part(r[BATCH], ith, nth)
        if first >= last:
            return
        steps, units, wide, states, backwards = r[STEPS], r[UNITS], r[WIDE], r[STATES], r[REVERSE] != 0
        dz, w, gates = address(record, context, DZ), address(record, context, W), address(record, context, GATES)
        kept = address(record, context, KEPT_AT) if has_kept else 0
        dstart = address(record, context, DSTART) if has(record, DSTART) else 0
        dy = address(record, context, DY) if has(record, DY) else 0
        dlast = address(record, context, DLAST) if has(record, DLAST) else 0
        start = address(record, context, START) if has(record, START) else 0
        mask = address(record, context, MASK) if has(record, MASK) else 0
        after = r[AFTER] != 0 if is_gru else True
        noisy = r[STARTS] > states and start != 0
        a, ra = real(float64_pointer(record)[A]), real(float64_pointer(record)[RA])
        row, row_wide = units * size, wide * size
        kept_slots = slots + 1 if is_gru and noisy else slots
        # memory: lists of samples, gradients of states and cells, of gathered states, of products, the kernel
        most = together(last - first)
        # the gates whose products make the gradient of the state
        depth = 2 * units if not after else wide
        right_bytes = packed_bytes(units, depth) + (packed_bytes(units, units) if not after else 0)
        whole, panel_bytes = right_bytes <= PACKED_BYTES, depth * panel_row
        fixed = (most * 8 + most * (3 * row + row_wide) + 63) // 64 * 64 + 64
        needed = fixed + (right_bytes if whole else panel_bytes)
        memory, _, allocated = working_memory(context, ith, stack_bytes(STACK_BYTES), needed, needed)
        if memory == 0:
            note_raised(record, context)
            return
        listed = int64_pointer(memory)
        dh = memory + most * 8
        dc, made = dh + most * row, dh + 2 * most * row
        dgates, right = dh + 3 * most * row, memory + fixed
        packed, packed_reset = 0, 0
        if whole:
            packed = right
            pack(w, row_wide, units, depth, packed)
            if not after:
                packed_reset = right + packed_bytes(units, depth)
                pack(w + 2 * row, row_wide, units, units, packed_reset)
        for begin in range(first, last, _SAMPLES):
            count = smaller(_SAMPLES, last - begin)
            for i in range(count):
                given = dlast + (begin + i) * r[ENDS] * row
                if dlast != 0:
                    copy(dh + i * row, given, given, units)
                else:
                    zeros(dh + i * row, units)
                if is_lstm and dlast != 0 and r[ENDS] > 1:
                    copy(dc + i * row, given + row, given, units)
                elif is_lstm:
                    zeros(dc + i * row, units)
            for turn in range(steps):
                t = turn if backwards else steps - 1 - turn
                active = 0
                for i in range(count):
                    at = (begin + i) * steps + t
                    state = dh + i * row
                    if dy != 0:
                        add(state, state, dy + at * row, units)
                    to = dz + at * dz_slots * row
                    if mask != 0 and reals(mask)[at] == real(0.0):
                        zeros(to, dz_slots * units)
                        continue
                    listed[active] = i
                    made_at, keep = gates + at * row_wide, kept + at * kept_slots * row
                    gate = dgates + active * row_wide
                    if is_lstm:
                        step(state, dc + i * row, made_at, keep, to, gate, units, a, ra)
                    elif is_gru:
                        step(state, made_at, keep, keep + (2 * row if noisy else 0), to, gate, units, after, a, ra)
                    else:
                        step(state, made_at, to, gate, units, a)
                    active += 1
                if active == 0:
                    continue
                if is_gru and not after:
                    product(active, units, units, dgates + 2 * row, row_wide, packed_reset, w + 2 * row, row_wide,
                            right, 0, made, row)  # fmt: skip
                    for place in range(active):
                        i = listed[place]
                        at, gate, extra = (begin + i) * steps + t, dgates + place * row_wide, made + place * row
                        made_at, keep, to = (
                            gates + at * row_wide,
                            kept + at * kept_slots * row,
                            dz + at * dz_slots * row,
                        )
                        reset(extra, made_at, keep, to, gate, units, ra)
                        if noisy:
                            multiply(extra, extra, start + ((begin + i) * r[STARTS] + states) * row, units)
                        add(dh + i * row, dh + i * row, extra, units)
                product(active, units, depth, dgates, row_wide, packed, w, row_wide, right, 0, made, row)
                for place in range(active):
                    i = listed[place]
                    extra, state = made + place * row, dh + i * row
                    if noisy:
                        multiply(extra, extra, start + ((begin + i) * r[STARTS] + states) * row, units)
                    if is_gru:
                        add(state, state, extra, units)
                    else:
                        copy(state, extra, extra, units)
                    # the state before was set to zero
                    if mask != 0 and reals(mask)[(begin + i) * steps + t] < real(0.0):
                        zeros(state, units)
                        if is_lstm:
                            zeros(dc + i * row, units)
            if dstart != 0:
                for i in range(count):
                    to = dstart + (begin + i) * states * row
                    copy(to, dh + i * row, dh, units)
                    if is_lstm:
                        copy(to + row, dc + i * row, dc, units)
        if allocated != 0:
            release(allocated)

    return scan_gradient
