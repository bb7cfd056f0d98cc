"""The code that kernels inline for user-defined formulas: forms of fastnn's own formulas around users' functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.formulas import differences
from fastnn.formulas.custom import CustomFunction
from fastnn.formulas.single import Jit


def activation(custom: CustomFunction, real: Any, jit: Jit, users: Jit, double: Jit) -> tuple[Any, Any]:
    """Return the pair (forward, gradient) of an activation, as `formulas.activations.define` does; it saves the input.

    Parameters
    ----------
    jit, users, double : function
        Compile the surrounding code, and the user's functions for `real` numbers and for float64.
    """
    assert custom.functions[0] is not None
    function, wide = users(custom.functions[0]), double(custom.functions[0])
    derivative = None if custom.functions[1] is None else users(custom.functions[1])

    @jit
    def forward(x, a, b):  # type: ignore[no-untyped-def]
        return real(function(x))

    if derivative is not None:

        @jit
        def gradient(x, dy, a, b):  # type: ignore[no-untyped-def]
            return dy * real(derivative(x))

    else:

        @jit
        def value(given, x):  # type: ignore[no-untyped-def]
            return np.float64(wide(x))

        slope = differences.make(jit, value)

        @jit
        def gradient(x, dy, a, b):  # type: ignore[no-untyped-def]
            middle = np.float64(x)
            return dy * real(slope((0.0,), middle))

    return forward, gradient


def loss(custom: CustomFunction, real: Any, jit: Jit, users: Jit, double: Jit) -> tuple[Any, Any]:
    """Return a loss's (value, gradient), as `formulas.losses.define` does; the user's take the target first."""
    assert custom.functions[0] is not None
    function, wide = users(custom.functions[0]), double(custom.functions[0])
    derivative = None if custom.functions[1] is None else users(custom.functions[1])

    @jit
    def value(p, t, a, b):  # type: ignore[no-untyped-def]
        return real(function(t, p))

    if derivative is not None:

        @jit
        def gradient(p, t, a, b):  # type: ignore[no-untyped-def]
            return real(derivative(t, p))

    else:

        @jit
        def value_at(given, p):  # type: ignore[no-untyped-def]
            return np.float64(wide(given[0], p))

        slope = differences.make(jit, value_at)

        @jit
        def gradient(p, t, a, b):  # type: ignore[no-untyped-def]
            middle, target = np.float64(p), np.float64(t)
            return real(slope((target,), middle))

    return value, gradient


def update(custom: CustomFunction, real: Any, jit: Jit, users: Jit) -> Any:
    """Return an optimizer's update, as `formulas.optimizers.define` does; decays weights before the user's function."""
    assert custom.functions[0] is not None
    function, count = users(custom.functions[0]), custom.constants

    @jit
    def without(p, g, s0, s1, s2, rate, decay, t, h3, h4, h5, h6, h7):  # type: ignore[no-untyped-def]
        return real(function(p - decay * p, g, rate, t, *(h3, h4, h5, h6, h7)[:count])), s0, s1, s2

    @jit
    def one(p, g, s0, s1, s2, rate, decay, t, h3, h4, h5, h6, h7):  # type: ignore[no-untyped-def]
        p, s0 = function(p - decay * p, g, s0, rate, t, *(h3, h4, h5, h6, h7)[:count])
        return real(p), real(s0), s1, s2

    @jit
    def two(p, g, s0, s1, s2, rate, decay, t, h3, h4, h5, h6, h7):  # type: ignore[no-untyped-def]
        p, s0, s1 = function(p - decay * p, g, s0, s1, rate, t, *(h3, h4, h5, h6, h7)[:count])
        return real(p), real(s0), real(s1), s2

    @jit
    def three(p, g, s0, s1, s2, rate, decay, t, h3, h4, h5, h6, h7):  # type: ignore[no-untyped-def]
        p, s0, s1, s2 = function(p - decay * p, g, s0, s1, s2, rate, t, *(h3, h4, h5, h6, h7)[:count])
        return real(p), real(s0), real(s1), real(s2)

    return (without, one, two, three)[custom.slots]


def _outputs(units: Sequence[int], jit: Jit) -> Any:
    """Return a function that puts the outputs in a row, as arrays, before a tuple; the row itself without units."""
    if not units:

        @jit
        def row_before(row, rest):  # type: ignore[no-untyped-def]
            return (row, *rest)

        return row_before
    last = sum(units)
    first, others = last - units[-1], units[:-1]
    before = _outputs(others, jit) if others else jit(lambda row, rest: rest)

    @jit
    def output_before(row, rest):  # type: ignore[no-untyped-def]
        return before(row, (row[first:last], *rest))

    return output_before


def rows(custom: CustomFunction, jit: Jit) -> tuple[Any, Any]:
    """Return a layer's function and gradient, both with the argument w even if it has no weights.

    Returns
    -------
    function : (x, w, y) -> None
    gradient : (x, w, dy, dx, dw) -> None
        dx and, before the first row, dw are zeros. Several outputs follow each other in y and dy.
    """
    function, derivative = (None if each is None else jit(each) for each in custom.functions)
    assert function is not None
    weighted, outputs = custom.weighted, _outputs(custom.units, jit)

    @jit
    def forward(x, w, y):  # type: ignore[no-untyped-def]
        arrays = outputs(y, ())
        if weighted:
            function(x, w, *arrays)
        else:
            function(x, *arrays)

    @jit
    def given(x, w, dy, dx, dw):  # type: ignore[no-untyped-def]
        if weighted:
            arrays = outputs(dy, (dx, dw))
            derivative(x, w, *arrays)  # type: ignore[misc]
        else:
            arrays = outputs(dy, (dx,))
            derivative(x, *arrays)  # type: ignore[misc]

    @jit
    def total(x, w, dy, out):  # type: ignore[no-untyped-def]
        out[:] = 0.0
        forward(x, w, out)
        found = 0.0
        for unit in range(len(dy)):
            # outputs that nothing depends on may be infinite
            if dy[unit] != 0.0:
                found += dy[unit] * out[unit]
        return found

    @jit
    def value(given, number):  # type: ignore[no-untyped-def]
        x, w, dy, out, values, index = given
        kept = values[index]
        values[index] = number
        found = total(x, w, dy, out)
        values[index] = kept
        return found

    slope = differences.make(jit, value)

    @jit
    def by_differences(x, w, dy, dx, dw):  # type: ignore[no-untyped-def]
        inputs, weights, out = x.astype(np.float64), w.astype(np.float64), np.zeros(len(dy))
        for index in range(len(inputs)):
            dx[index] += slope((inputs, weights, dy, out, inputs, index), inputs[index])
        if weighted:
            flat, target = weights.reshape(-1), dw.reshape(-1)
            for index in range(len(flat)):
                target[index] += slope((inputs, weights, dy, out, flat, index), flat[index])

    return forward, by_differences if derivative is None else given
