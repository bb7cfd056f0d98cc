"""Functions of one to three broadcast arrays: `pointwise`, and the loops that it calls by their address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import (
    address,
    call_pointwise,
    float64_pointer,
    has,
    int64_pointer,
    smaller,
    stack_bytes,
)
from fastnn.backend.cpu.codegen.kernel import Kit, kernel, note_raised, part
from fastnn.backend.cpu.codegen.options import formula, helper
from fastnn.formulas.pointwise import ARITY, SHORT, define
from fastnn.program.layout import MAP_WORD

# elements of an operand that are laid out at a time, in the first-level cache; a multiple of 64, see `part`
_BLOCK = 1024
# elements that a loop of a long formula copies at a time, if it works in place or an argument is one number
_COPIED = 256
# how an operand is found: its elements are those of y in order, one number for all, or anything else
_DENSE, _SINGLE, _SPREAD = 0, 1, 2


@kernel("pointwise_map", arguments=6)
def pointwise_map(kit: Kit, variant: str) -> Callable[..., Any]:
    """Make y = f(a, b, c) over n elements; bit k of `single` says that argument k is one number; y may be a or b."""
    function = define(kit.real, formula, kit.math)[variant]
    if variant in SHORT:
        return _unary(kit, function) if ARITY[variant] == 1 else _binary(kit, function)
    return _long(kit, function, ARITY[variant])


def _unary(kit: Kit, function: Any) -> Callable[..., Any]:
    reals = kit.reals

    def unary(y_at, a_at, b_at, c_at, n, single):
        y, a = reals(y_at), reals(a_at)
        if single & 1:
            value = function(a[0])
            for i in range(n):
                y[i] = value
        elif y_at == a_at:  # with two equal pointers the vector body would be skipped
            for i in range(n):
                y[i] = function(y[i])
        else:
            for i in range(n):
                y[i] = function(a[i])

    return unary


def _binary(kit: Kit, function: Any) -> Callable[..., Any]:
    reals = kit.reals

    def binary(y_at, a_at, b_at, c_at, n, single):
        y, a, b = reals(y_at), reals(a_at), reals(b_at)
        numbers = single & 3
        if numbers == 0:
            if y_at == a_at:
                for i in range(n):
                    y[i] = function(y[i], b[i])
            elif y_at == b_at:
                for i in range(n):
                    y[i] = function(a[i], y[i])
            else:
                for i in range(n):
                    y[i] = function(a[i], b[i])
        elif numbers == 2:
            second = b[0]
            if y_at == a_at:
                for i in range(n):
                    y[i] = function(y[i], second)
            else:
                for i in range(n):
                    y[i] = function(a[i], second)
        elif numbers == 1:
            first = a[0]
            if y_at == b_at:
                for i in range(n):
                    y[i] = function(first, y[i])
            else:
                for i in range(n):
                    y[i] = function(first, b[i])
        else:
            value = function(a[0], b[0])
            for i in range(n):
                y[i] = value

    return binary


def _long(kit: Kit, function: Any, arity: int) -> Callable[..., Any]:
    """Make one loop, because a long formula takes long to compile; what does not fit it is copied to the stack."""
    reals, itemsize, block = kit.reals, kit.itemsize, _COPIED
    nbytes = block * itemsize

    @helper
    def filled(buffer_at, x_at, n):
        buffer, value = reals(buffer_at), reals(x_at)[0]
        for i in range(n):
            buffer[i] = value

    @helper
    def placed(buffer_at, x_at, y_at, single, start, count):
        """Return where the loop finds `count` elements of an argument."""
        if single:
            return buffer_at
        if x_at != y_at:
            return x_at + start * itemsize
        buffer, x = reals(buffer_at), reals(x_at)
        for i in range(count):
            buffer[i] = x[start + i]
        return buffer_at

    def unary(y_at, a_at, b_at, c_at, n, single):
        a_buffer = stack_bytes(nbytes)
        if single & 1:
            filled(a_buffer, a_at, block)
        for start in range(0, n, block):
            count = smaller(block, n - start)
            y, a = reals(y_at + start * itemsize), reals(placed(a_buffer, a_at, y_at, single & 1, start, count))
            for i in range(count):
                y[i] = function(a[i])

    def binary(y_at, a_at, b_at, c_at, n, single):
        a_buffer, b_buffer = stack_bytes(nbytes), stack_bytes(nbytes)
        if single & 1:
            filled(a_buffer, a_at, block)
        if single & 2:
            filled(b_buffer, b_at, block)
        for start in range(0, n, block):
            count = smaller(block, n - start)
            y, a = reals(y_at + start * itemsize), reals(placed(a_buffer, a_at, y_at, single & 1, start, count))
            b = reals(placed(b_buffer, b_at, y_at, single & 2, start, count))
            for i in range(count):
                y[i] = function(a[i], b[i])

    def ternary(y_at, a_at, b_at, c_at, n, single):
        a_buffer, b_buffer, c_buffer = stack_bytes(nbytes), stack_bytes(nbytes), stack_bytes(nbytes)
        if single & 1:
            filled(a_buffer, a_at, block)
        if single & 2:
            filled(b_buffer, b_at, block)
        if single & 4:
            filled(c_buffer, c_at, block)
        for start in range(0, n, block):
            count = smaller(block, n - start)
            y, a = reals(y_at + start * itemsize), reals(placed(a_buffer, a_at, y_at, single & 1, start, count))
            b = reals(placed(b_buffer, b_at, y_at, single & 2, start, count))
            c = reals(placed(c_buffer, c_at, y_at, single & 4, start, count))
            for i in range(count):
                y[i] = function(a[i], b[i], c[i])

    return (unary, binary, ternary)[arity - 1]


@kernel("pointwise")
def pointwise(kit: Kit, variant: str) -> Callable[..., Any]:
    """Apply the record's mapped function to a slice of y.

    The function sees stretches of its arguments that are as dense as y, or single numbers. What is broadcast otherwise
    is laid out on the stack first, block by block. Blocks begin at multiples of 64 elements of y, as parts do, so that
    bits do not depend on the parts. An operand that is the same in all blocks of some length is laid out once.
    """
    N, N1, N2, N3, Y, A, A0, P0 = kit.words("n n1 n2 n3 y a a0 p0")
    real, reals, itemsize = kit.real, kit.reals, kit.itemsize
    block_bytes, blocks_bytes, numbers_bytes, words_bytes = _BLOCK * itemsize, 3 * _BLOCK * itemsize, 3 * itemsize, 24

    @helper
    def form(r, strides):
        """Return how an operand with strides from this word on is found."""
        n2, n3 = r[N2], r[N3]
        rest = r[N1] * n2 * n3
        s0, s1, s2, s3 = r[strides], r[strides + 1], r[strides + 2], r[strides + 3]
        if s0 == 0 and s1 == 0 and s2 == 0 and s3 == 0:
            return _SINGLE
        dense = (
            (s3 == 1 or n3 == 1)
            and (s2 == n3 or n2 == 1)
            and (s1 == n2 * n3 or r[N1] == 1)
            and (s0 == rest or r[N] == rest)
        )
        return _DENSE if dense else _SPREAD

    @helper
    def period(r, strides):
        """Return after how many elements of y an operand repeats itself."""
        n3 = r[N3]
        if r[strides] != 0:
            return r[N]
        if r[strides + 1] != 0:
            return r[N1] * r[N2] * n3
        return r[N2] * n3 if r[strides + 2] != 0 else n3

    @helper
    def common(a, b):
        """Return the least common multiple."""
        m, n = a, b
        while n != 0:
            m, n = n, m % n
        return a // m * b

    @helper
    def spread(r, strides, x_at, buffer_at, start, count):
        """Lay out an operand's elements for `count` elements of y, from `start` on."""
        x, buffer = reals(x_at), reals(buffer_at)
        n1, n2, n3 = r[N1], r[N2], r[N3]
        s0, s1, s2, s3 = r[strides], r[strides + 1], r[strides + 2], r[strides + 3]
        rest, i3 = start // n3, start % n3
        rest, i2 = rest // n2, rest % n2
        i0, i1 = rest // n1, rest % n1
        done = 0
        while done < count:
            run = smaller(n3 - i3, count - done)
            first = i0 * s0 + i1 * s1 + i2 * s2 + i3 * s3
            if s3 == 1:
                for j in range(run):
                    buffer[done + j] = x[first + j]
            elif s3 == 0:
                value = x[first]
                for j in range(run):
                    buffer[done + j] = value
            else:
                for j in range(run):
                    buffer[done + j] = x[first + j * s3]
            done, i3, i2 = done + run, 0, i2 + 1
            if i2 == n2:
                i2, i1 = 0, i1 + 1
                if i1 == n1:
                    i1, i0 = 0, i0 + 1

    def pointwise(record, context, ith, nth):
        r, params = int64_pointer(record), float64_pointer(record)
        first, last = part(r[N], ith, nth)
        y = address(record, context, Y)
        numbers_at, forms_at = stack_bytes(numbers_bytes), stack_bytes(words_bytes)
        places_at, givens_at = stack_bytes(words_bytes), stack_bytes(words_bytes)
        numbers, forms = reals(numbers_at), int64_pointer(forms_at)
        places, givens = int64_pointer(places_at), int64_pointer(givens_at)
        single, spreads = 0, 0
        for k in range(3):
            numbers[k] = real(params[P0 + k])
            found = form(r, A0 + 4 * k)
            # an argument without an operand is a parameter
            place = address(record, context, A + k) if has(record, A + k) else numbers_at + k * itemsize
            single |= (found & 1) << k
            spreads |= (found >> 1) << k
            forms[k], places[k], givens[k] = found, place, place
        step, steady = last - first, 0
        buffers = stack_bytes(blocks_bytes)
        if spreads != 0:
            step = 64
            for k in range(3):
                if forms[k] == _SPREAD:
                    repeats = period(r, A0 + 4 * k)
                    if repeats <= _BLOCK:
                        together = common(step, repeats)
                        if together <= _BLOCK:
                            step, steady = together, steady | 1 << k
            step = _BLOCK // step * step
        start = first
        while start < last:
            count, skip = smaller(step, last - start), start * itemsize
            for k in range(3):
                if forms[k] == _DENSE:
                    givens[k] = places[k] + skip
                elif forms[k] == _SPREAD:
                    givens[k] = buffers + k * block_bytes
                    if start == first or steady & 1 << k == 0:
                        spread(r, A0 + 4 * k, places[k], givens[k], start, count)
            if call_pointwise(r[MAP_WORD], context, y + skip, givens[0], givens[1], givens[2], count, single) != 0:
                note_raised(record, context)
                return
            start += step

    return pointwise
