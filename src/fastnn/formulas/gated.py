"""Activations that multiply their input by a gate between 0 and 1: gelu, gelu_tanh, silu and mish.

Each has one minimum on the negative side, where its gradient passes through 0, and a left tail that
underflows. In float32 both would lose their digits, to cancellation and to subnormal intermediates. So near
its zero a gradient has it as an explicit factor, and in a tail the powers of two are multiplied by last.
"""

# The formulas take and return scalars of one type, which the compiler infers; annotations would add nothing.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.formulas.single import Jit

Pair = tuple[Any, Any]

_INNER = 2.0 * math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715 * _INNER


def define(real: Any, jit: Jit, elementary: SimpleNamespace) -> dict[str, Pair]:
    """Define the gated activations of one floating-point type.

    Parameters
    ----------
    real : type
        ``numpy.float32`` or ``numpy.float64``.
    jit : callable
        Compiles a scalar function.
    elementary : types.SimpleNamespace
        The result of ``fastnn.formulas.elementary.define`` for the same type.

    Returns
    -------
    dict of str to (forward, gradient)
        ``forward(x, a, b) -> y`` and ``gradient(x, dy, a, b) -> dx``; `a` and `b` are ignored.
    """
    single = real is np.float32
    parts = _single_parts(jit, elementary) if single else _double_parts(jit, elementary)
    near_silu, near_mish, near_gelu_tanh = parts.near_silu, parts.near_mish, parts.near_gelu_tanh
    normal_tail, normal_slope, near_gelu = parts.normal_tail, parts.normal_slope, parts.near_gelu
    exp_parts, split = elementary.exp_parts, elementary.split
    zero, half, one, two = real(0.0), real(0.5), real(1.0), real(2.0)
    # Beyond these |x| each left tail is below half of the smallest subnormal number.
    exp_end, normal_end, cubic_end = (real(v) for v in ((120, 15, 11) if single else (760, 39, 23)))
    # 2 sqrt(2 / pi) and its product with 0.044715: heads of 12 bits, for exact products, and rests.
    inner_head, inner_rest = real(1.595703125), real(_INNER - 1.595703125)
    cubic_head, cubic_rest = real(0.07135009765625), real(_CUBIC - 0.07135009765625)
    cubic3 = real(3.0 * _CUBIC)

    @jit
    def gelu(x, a, b):
        size = abs(x)
        size = normal_end if size > normal_end else size
        m, s, t = normal_tail(size)
        return near_gelu(x, (zero if x < zero else x) - m * s * t)

    @jit
    def gelu_gradient(saved, dy, a, b):
        size = abs(saved)
        m, s, t = normal_slope(normal_end if size > normal_end else size)
        y = m * s * t
        return dy * (one - y if saved > zero else y)

    @jit
    def cubic_parts(size):
        """``exp(-2 sqrt(2 / pi) (x + 0.044715 x**3))``, its argument in twice the precision."""
        h, r = split(size)
        square, square_rest = split(h * h)
        square_rest = square_rest + r * (size + h)
        product = cubic_head * square
        product_rest = cubic_head * square_rest + cubic_rest * (square + square_rest) + inner_rest
        total, _ = split(inner_head + (product + product_rest))
        rest = ((inner_head - total) + product) + product_rest
        return exp_parts(-(h * total), -(r * total + size * rest))

    @jit
    def gelu_tanh(x, a, b):
        size = abs(x)
        size = cubic_end if size > cubic_end else size
        m, s, t = cubic_parts(size)
        e = m * s * t
        left = x < zero
        # The gate is (e or 1) (1 - e / (1 + e)): the errors of this quotient weigh less than in 1 / (1 + e).
        # size and not x in the second term: inf * 0 would be NaN.
        y = -(size * m) if left else size
        y = (y if left else x) - y * (e / (one + e))
        return y * (s if left else one) * (t if left else one)

    @jit
    def gelu_tanh_gradient(saved, dy, a, b):
        size = abs(saved)
        size = cubic_end if size > cubic_end else size
        m, s, t = cubic_parts(size)
        e = m * s * t
        # 1 + e - x dw/dx for w = 2 sqrt(2 / pi) (x + 0.044715 x**3); its first product is exact.
        h, r = split(size)
        y = (one - h * inner_head) - (r * inner_head + size * (inner_rest + cubic3 * (size * size)))
        y = near_gelu_tanh(size, m * (y + e) / (one + e * (two + e)) * s * t)
        return dy * (one - y if saved > zero else y)

    @jit
    def silu(x, a, b):
        size = abs(x)
        size = exp_end if size > exp_end else size
        m, s, t = exp_parts(-size, zero)
        e = m * s * t
        left = x < zero
        y = -(size * m) if left else size
        y = (y if left else x) - y * (e / (one + e))
        return y * (s if left else one) * (t if left else one)

    @jit
    def silu_gradient(saved, dy, a, b):
        size = abs(saved)
        size = exp_end if size > exp_end else size
        m, s, t = exp_parts(-size, zero)
        e = m * s * t
        y = near_silu(size, m * ((one - size) + e) / (one + e * (two + e)) * s * t)
        return dy * (one - y if saved > zero else y)

    @jit
    def mish(x, a, b):
        size = abs(x)
        size = exp_end if size > exp_end else size
        m, s, t = exp_parts(-size, zero)
        e = m * s * t
        left, tail = x < zero, x < -half
        # With w = e (e + 2), tanh(softplus(x)) is (w / 2) (1 - w / (2 + w)) in the tail and 1 - 2 / (2 + w)
        # up to 0; on the right e is exp(-x), and the same is 1 - 2 e**2 / (1 + 2 e + 2 e**2).
        w = e * e + (e + e)
        square = two * (e * e)
        y = -size * (m + half * (m * e)) if tail else (-size if left else size)
        gap = (w if tail else two) if left else square
        y = (y if left else x) - y * (gap / (two + w if left else one + (two * e + square)))
        return y * (s if tail else one) * (t if tail else one)

    @jit
    def mish_gradient(saved, dy, a, b):
        size = abs(saved)
        size = exp_end if size > exp_end else size
        m, s, t = exp_parts(-size, zero)
        e = m * s * t
        c = e * e + (e + e)
        y = real(4.0) * (one - size) + e * ((real(6.0) - real(4.0) * size) + e * (real(4.0) + e))
        left = near_mish(size, m * y / (real(4.0) + c * (real(4.0) + c)) * s * t)
        c = two * (e + e * e)
        y = one + e * (real(4.0) + e * ((real(6.0) + real(4.0) * size) + e * (real(4.0) + real(4.0) * size)))
        return dy * (y / (one + c * (two + c)) if saved > zero else left)

    return {
        "gelu": (gelu, gelu_gradient),
        "gelu_tanh": (gelu_tanh, gelu_tanh_gradient),
        "silu": (silu, silu_gradient),
        "mish": (mish, mish_gradient),
    }


def _single_parts(jit: Jit, elementary: SimpleNamespace) -> SimpleNamespace:
    real = np.float32
    one, two = real(1.0), real(2.0)
    exp_parts, split = elementary.exp_parts, elementary.split

    @jit
    def gauss_parts(size):
        """``exp(-size**2 / 2)``, its argument in twice the precision."""
        h, r = split(size)
        return exp_parts(real(-0.5) * (h * h), real(-0.5) * (r * (size + h)))

    @jit
    def normal_tail(size):
        """``size`` times the probability that a normal variable exceeds it, from 0.74 on."""
        m, s, t = gauss_parts(size)
        # Mills' ratio times size over [0.74, 15], relative error 2**-28, in scaled / (1 + scaled).
        scaled = real(0.32) * size
        v = scaled / (one + scaled)
        u = one - two * v
        # Polynomials are evaluated in pairs: the latency of Horner's chains limited the loops around them.
        square = u * u
        q = real(-4.9093946e-05) + u * real(0.001149911)
        q = q + square * (real(-2.2604085e-05) + u * real(-0.00016593488))
        low = real(0.25266182) + u * real(0.06382688)
        low = low + square * (real(-0.0053310436) + u * real(-0.008003289))
        q = real(0.73345363) + u * (real(0.524963) + u * (low + square * square * q))
        return m * (v * q), s, t

    @jit
    def normal_slope(size):
        m, s, t = gauss_parts(size)
        # exp(x**2 / 2) gelu'(x) / (x - zero) at x = -size over [0, 15], relative error 2**-30.
        scaled = real(0.31) * size
        u = one - two * (scaled / (one + scaled))
        square = u * u
        q = real(-0.00030458148) + u * real(7.945223e-05)
        q = q + square * (real(3.3706634e-05) + u * real(-1.2209589e-05))
        low = real(0.017895093) + u * real(0.002129241) + square * real(-0.000885945)
        low = low + u * square * q
        q = (real(0.11599034) + u * real(0.056136828)) + square * low
        d = (real(0.7517915368080139) - size) - real(1.2114448999511751e-08)
        return m * (d * (real(0.47401607) + u * q)), s, t

    @jit
    def near_gelu(x, y):
        z = x * x
        # |x| < 0.75, relative error 2**-28: 1/2 is exact here, and not among the many factors of the tail.
        square = z * z
        q = real(0.009969853) + z * real(-0.0011754218) + square * real(9.8329845e-05)
        q = (real(0.39894226) + z * real(-0.0664899)) + square * q
        return x * (real(0.5) + x * q) if abs(x) < real(0.75) else y

    @jit
    def near_gelu_tanh(size, y):
        d = (real(0.7524614334106445) - size) - real(1.1339627903339533e-08)
        # |d| < 0.4, relative error 2**-29; the head of each of these polynomials is exact.
        q = real(0.0052534724) + d * (real(-0.0023164079) + d * real(-0.00087357225))
        q = real(-0.11394373) + d * (real(-0.016618975) + d * (real(0.019667683) + d * q))
        q = real(0.000712591) + d * (real(0.38751844) + d * (real(-0.015782855) + d * q))
        return d * real(0.4296875) + d * q if abs(d) < real(0.4) else y

    @jit
    def near_silu(size, y):
        d = (real(1.2784645557403564) - size) - real(1.2979282537628478e-08)
        # |d| < 0.5, relative error 2**-27.
        q = real(0.00012847334) + d * (real(0.0007778703) + d * real(0.00017198088))
        q = real(0.018874658) + d * (real(-0.0152227) + d * (real(-0.0066033998) + d * q))
        q = real(-0.000938293) + d * (real(0.1466488) + d * q)
        return d * real(0.21875) + d * q if abs(d) < real(0.5) else y

    @jit
    def near_mish(size, y):
        d = (real(1.1924312114715576) - size) + real(3.0439375464652585e-09)
        # |d| < 0.4, relative error 2**-27.
        q = real(-0.0033545112) + d * (real(0.0011689303) + d * real(0.0009581164))
        q = real(0.04190805) + d * (real(-0.020272229) + d * (real(-0.015828539) + d * q))
        q = real(0.0013229129) + d * (real(0.20473127) + d * q)
        return d * real(0.265625) + d * q if abs(d) < real(0.4) else y

    return SimpleNamespace(
        normal_tail=normal_tail, normal_slope=normal_slope, near_gelu=near_gelu,
        near_gelu_tanh=near_gelu_tanh, near_silu=near_silu, near_mish=near_mish,
    )  # fmt: skip


def _double_parts(jit: Jit, elementary: SimpleNamespace) -> SimpleNamespace:
    exp = elementary.exp
    density = 1.0 / math.sqrt(2.0 * math.pi)
    # Mills' ratio (1 - Phi(x)) / phi(x), times 1 + x, over [0, 40] as a polynomial of (x - 6) / (x + 6): our own
    # minimax fit, error 2^-56.9. The C library's erfc took 10 ns a number.
    p = (
        1.1366436262780721,
        -0.21312697721638976,
        0.0997924424615257,
        -0.010962454957625795,
        -0.040460783740332275,
        0.0566309167332415,
        -0.049547215702683646,
        0.033204964238642685,
        -0.017696342974639883,
        0.007358597125781291,
        -0.0021782465993384517,
        0.00029951614954660616,
        9.473776918139868e-05,
        -6.605816146107945e-05,
        1.1060257988882372e-05,
        4.471352598929513e-06,
        -2.5056001876846992e-06,
        -1.0756858918658576e-09,
        3.3179712477751784e-07,
        -5.0202483572605866e-08,
        -3.9203327676898894e-08,
        7.37610230813034e-09,
        3.9343840965640744e-09,
    )

    @jit
    def block(y, square, first):
        return (p[first] + y * p[first + 1]) + square * (p[first + 2] + y * p[first + 3])

    @jit
    def mills(size):
        y = (size - 6.0) / (size + 6.0)
        square = y * y
        fourth = square * square
        q = (p[20] + y * p[21]) + square * p[22]
        q = block(y, square, 12) + fourth * (block(y, square, 16) + fourth * q)
        q = block(y, square, 0) + fourth * (block(y, square, 4) + fourth * (block(y, square, 8) + fourth * q))
        return q / (1.0 + size)

    @jit
    def normal(size):
        """Return the density at `size`; the argument of its exponential is in twice the precision."""
        head = np.float64(np.float32(size))
        rest = -0.5 * ((size - head) * (size + head))
        y = exp(-0.5 * (head * head))
        return density * (y + y * (rest + rest * rest * (0.5 + rest * 0.16666666666666666)))

    @jit
    def normal_tail(size):
        return size * (normal(size) * mills(size)), 1.0, 1.0

    @jit
    def normal_slope(size):
        return normal(size) * (mills(size) - size), 1.0, 1.0

    @jit
    def near(size, y):
        return y

    return SimpleNamespace(
        normal_tail=normal_tail, normal_slope=normal_slope, near_gelu=near, near_gelu_tanh=near,
        near_silu=near, near_mish=near,
    )  # fmt: skip
