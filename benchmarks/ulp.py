"""Measure the error of every float32 formula over all finite float32 numbers, in units in the last place.

python benchmarks/ulp.py --quick              # a sample, in seconds
python benchmarks/ulp.py --stride 1 --write   # all 2**32 bit patterns, written to docs/accuracy.md
python benchmarks/ulp.py --double             # float64 functions over random numbers, against a longer long double
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np

from fastnn.backend.cpu.codegen import bits
from fastnn.backend.cpu.codegen.options import FORMULA_FLAGS, formula
from fastnn.formulas import activations, elementary

QUICK_STRIDE = 4099
CHUNK = 1 << 16
PARAMETERS = {"leaky_relu": np.float32(0.2), "elu": np.float32(1.0)}
# from this heading on the document is written by hand
NOT_MEASURED = "## Infinite values and zero weights"
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "accuracy.md"

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
ROOT_HALF, DENSITY, INNER = math.sqrt(0.5), 1.0 / math.sqrt(2.0 * math.pi), 2.0 * math.sqrt(2.0 / math.pi)


def reference(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a float64 reference, or a loop of it."""
    compiled: Callable[..., Any] = numba.njit(error_model="numpy", nogil=True)(function)
    return compiled


@reference
def sigmoid(x: float) -> float:
    """Return the logistic function in float64."""
    e = math.exp(-abs(x))
    return (e if x < 0.0 else 1.0) / (1.0 + e)


@reference
def softplus(x: float) -> float:
    """Return log(1 + exp(x)) in float64."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@reference
def cos2pi(u: float) -> float:
    """Return cos(2 pi u) in float64, exact at its zeros."""
    return math.sin(2.0 * math.pi * (0.25 - abs(u - np.rint(u))))


@reference
def gelu_gradient(x: float) -> float:
    """Return the derivative of x Phi(x) in float64."""
    return 0.5 * math.erfc(-ROOT_HALF * x) + x * DENSITY * math.exp(-0.5 * x * x)


@reference
def gated_gradient(x: float, w: float, slope: float) -> float:
    """Return the derivative of x sigmoid(w) in float64; `slope` is x dw/dx."""
    e = math.exp(-abs(w))
    return ((e if x < 0.0 else 1.0) * (1.0 + e) + e * slope) / (1.0 + e) ** 2


@reference
def mish_gradient(x: float) -> float:
    """Return the derivative of x tanh(softplus(x)) in float64."""
    gate = math.tanh(softplus(x))
    slope: float = gate + x * sigmoid(x) * (1.0 - gate * gate)
    return slope


FUNCTIONS: dict[str, Callable[[float], float]] = {
    "exp": lambda x: math.exp(x),
    "expm1": lambda x: math.expm1(x),
    "log": lambda x: math.log(x) if x > 0.0 else (-math.inf if x == 0.0 else math.nan),
    "log1p": lambda x: math.log1p(x) if x > -1.0 else (-math.inf if x == -1.0 else math.nan),
    "tanh": lambda x: math.tanh(x),
    "sigmoid": lambda x: sigmoid(x),
    "softplus": lambda x: softplus(x),
    "erf": lambda x: math.erf(x),
    "sqrt": lambda x: math.sqrt(x) if x >= 0.0 else math.nan,
    "cos2pi": lambda x: cos2pi(x),
}
"""Elementary function -> its value in float64."""

FORWARD: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "step": lambda x: 1.0 if x >= 0.0 else 0.0,
    "sigmoid": FUNCTIONS["sigmoid"],
    "hard_sigmoid": lambda x: min(max(x + 3.0, 0.0), 6.0) / 6.0,
    "tanh": FUNCTIONS["tanh"],
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "leaky_relu": lambda x: x if x > 0.0 else x * 0.20000000298023224,
    "elu": lambda x: x if x > 0.0 else math.expm1(x),
    "selu": lambda x: SELU_SCALE * (x if x > 0.0 else SELU_ALPHA * math.expm1(x)),
    "gelu": lambda x: 0.5 * x * math.erfc(-ROOT_HALF * x),
    "gelu_tanh": lambda x: x * sigmoid(INNER * (x + 0.044715 * x * x * x)),
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * math.tanh(softplus(x)),
    "softplus": FUNCTIONS["softplus"],
    "softsign": lambda x: x / (1.0 + abs(x)),
    "exponential": FUNCTIONS["exp"],
}
"""Activation -> its value in float64."""

GRADIENT: dict[str, Callable[[float], float]] = {
    "linear": lambda x: 1.0,
    "sigmoid": lambda x: sigmoid(x) * sigmoid(-x),
    "hard_sigmoid": lambda x: 1.0 / 6.0 if -3.0 < x < 3.0 else 0.0,
    "tanh": lambda x: 4.0 * sigmoid(2.0 * x) * sigmoid(-2.0 * x),
    "relu": lambda x: 1.0 if x > 0.0 else 0.0,
    "relu6": lambda x: 1.0 if 0.0 < x < 6.0 else 0.0,
    "leaky_relu": lambda x: 1.0 if x > 0.0 else 0.20000000298023224,
    "elu": lambda x: 1.0 if x > 0.0 else math.exp(x),
    "selu": lambda x: SELU_SCALE * (1.0 if x > 0.0 else SELU_ALPHA * math.exp(x)),
    "gelu": lambda x: gelu_gradient(x),
    "gelu_tanh": lambda x: gated_gradient(x, INNER * (x + 0.044715 * x * x * x), INNER * (x + 0.134145 * x * x * x)),
    "silu": lambda x: gated_gradient(x, x, x),
    "mish": lambda x: mish_gradient(x),
    "softplus": FUNCTIONS["sigmoid"],
    "softsign": lambda x: 1.0 / (1.0 + abs(x)) ** 2,
    "exponential": FUNCTIONS["exp"],
}
"""Activation -> its derivative in float64."""

HELPERS = ("exp_parts", "exp_weight", "split", "quotient", "power", "tanh_near")
"""Functions that are parts of others, or of two numbers: tests have their bounds."""

UNBOUNDED = ("exponential",)
"""Activations whose gradient has no bound, although it is computed from the output."""


class Case(NamedTuple):
    """A compiled float32 function of arrays, its float64 reference, and the measure of their difference."""

    title: str
    loop: Any
    exact: Any
    absolute: bool


def array_loop(function: Any) -> Any:
    """Compile ``y[i] = function(x[i])`` with the flags of a kernel's formula."""

    @numba.njit(fastmath=set(FORMULA_FLAGS), error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
    def loop(x: Any, y: Any) -> None:
        for i in range(x.size):
            y[i] = function(x[i])

    return loop


def exact_loop(function: Any) -> Any:
    """Compile ``y[i] = function(float64(x[i]))``."""
    function = reference(function)

    @reference
    def loop(x: Any, y: Any) -> None:
        for i in range(x.size):
            y[i] = function(np.float64(x[i]))

    return loop


# 1 / ulp by the exponent bits of a float64; below 2**-126 float32 numbers have the fixed distance 2**-149.
PER_ULP = 2.0 ** (23.0 - np.clip(np.arange(2048.0) - 1023.0, -126.0, 127.0))
OVERFLOW = 2.0**128 - 2.0**103


@reference
def worst_error(results: Any, wanted: Any, exponents: Any, absolute: bool) -> Any:
    """Find the largest error, in ulp or (`absolute`) in units of 2**-24, and its index."""
    worst, where = -1.0, 0
    for i in range(results.size):
        got, target = np.float64(results[i]), wanted[i]
        error = abs(got - target) * (2.0**24 if absolute else PER_ULP[(exponents[i] >> 52) & 2047])
        if not (error < math.inf):
            if abs(target) < OVERFLOW and abs(got) == math.inf:
                error = abs(math.copysign(2.0**128, got) - target) * PER_ULP[(exponents[i] >> 52) & 2047]
            else:
                overflows = abs(target) >= OVERFLOW and got == math.copysign(math.inf, target)
                error = 0.0 if overflows or (math.isnan(got) and math.isnan(target)) else math.inf
        if error > worst:
            worst, where = error, i
    return worst, where


def cases() -> Iterator[Case]:
    """Iterate over all elementary functions, activations and gradients; a name without a reference is a KeyError."""
    functions = elementary.define(np.float32, formula, bits)
    for name in (n for n in vars(functions) if n not in HELPERS):
        yield Case(f"`{name}`", array_loop(getattr(functions, name)), exact_loop(FUNCTIONS[name]), False)
    for name, (forward, gradient) in activations.define(np.float32, formula, functions).items():
        a, zero, one = PARAMETERS.get(name, np.float32(0.0)), np.float32(0.0), np.float32(1.0)
        applied = _bind_forward(forward, a, zero)
        yield Case(f"activation `{name}`", array_loop(applied), exact_loop(FORWARD[name]), False)
        if gradient is None:
            continue
        from_output = activations.SAVES[name] == "output"
        absolute = from_output and name not in UNBOUNDED
        backward = _bind_gradient(applied if from_output else None, gradient, one, a, zero)
        yield Case(f"gradient of `{name}`", array_loop(backward), exact_loop(GRADIENT[name]), absolute)


def _bind_forward(forward: Any, a: Any, b: Any) -> Any:
    return formula(lambda x: forward(x, a, b))


def _bind_gradient(forward: Any, gradient: Any, dy: Any, a: Any, b: Any) -> Any:
    if forward is None:
        return formula(lambda x: gradient(x, dy, a, b))
    return formula(lambda x: gradient(forward(x), dy, a, b))


def measure(case: Case, stride: int, jobs: int) -> tuple[float, float, float]:
    """Find the largest error of a case.

    Parameters
    ----------
    case : Case
        The function and its reference.
    stride : int
        Tries every stride-th of the 2**32 bit patterns, except infinities and NaN.
    jobs : int
        Number of threads.

    Returns
    -------
    tuple of float
        Error (in ulp, or in 2**-24 if the case is absolute), x, and the float32 result there.
    """

    def chunk(start: int) -> tuple[float, float, float]:
        patterns = np.arange(start, min(start + CHUNK * stride, 1 << 32), stride, dtype=np.int64)
        x = patterns.astype(np.uint32).view(np.float32)
        x = np.ascontiguousarray(x[np.isfinite(x)])
        if x.size == 0:
            return -1.0, 0.0, 0.0
        y = np.empty_like(x)
        wanted = np.empty(x.size)
        case.loop(x, y)
        case.exact(x, wanted)
        error, where = worst_error(y, wanted, wanted.view(np.int64), case.absolute)
        return error, float(x[where]), float(y[where])

    with ThreadPoolExecutor(jobs) as pool:
        return max(pool.map(chunk, range(0, 1 << 32, CHUNK * stride)), key=lambda found: found[0])


def document(rows: dict[bool, list[str]], stride: int) -> str:
    """Put the measured rows into the Markdown text of docs/accuracy.md."""
    sample = "every finite float32" if stride == 1 else f"every {stride}th float32 bit pattern"
    table = "| function | largest error | at x | result |\n|---|---:|---:|---:|\n"
    functions, from_output = "\n".join(rows[False]), "\n".join(rows[True])
    _, heading, rest = DOCUMENT.read_text(encoding="utf-8").partition(NOT_MEASURED)
    return f"""# Accuracy of the float32 formulas

Measured by `python benchmarks/ulp.py --stride {stride} --write` over {sample}, against float64.
One ulp is the distance of neighbouring float32 numbers at the true value (2^-149 for subnormal values).
A model's programs treat subnormal inputs and outputs as zeros; here the formulas are measured without that.
Gradients are those for dy = 1; leaky_relu has the slope 0.2, elu alpha 1. The gradients of gelu, gelu_tanh,
silu and mish pass through 0 near x = -1: they are formulated so that their error in ulp is no larger there.
The gradient of exponential is its output, so it is measured in ulp, too.

## Sums over rows, and squares

Sums in float32 are split into stretches, whose sums are added up in float64 (batch norm, layer norm, their gradients,
gradients of biases and custom layers: 64 rows, or up to 2048 elements of a row), or into blocks of 512 that are added
in order (matrix products, and so kernel gradients). The order depends only on the shape, not on the number of threads.

- Mean and variance are computed from the distances to a rough mean, so that they are right to a few ulp at any offset
  and for any number of rows. So are y and the gradients, since means are kept in float64 between the passes.
  Prediction uses the moving mean, rounded to float32.
- The gradient of a kernel, or any product, is off by less than 1e-5 of the sum of the magnitudes of its terms: 6e-6
  for a million equal terms, 1e-6 for random ones.
- Columns and rows whose squares or sums exceed float32 are computed in float64. A moving variance above 3.4e38 is kept
  as 3.4e38. Norms of `MaxNorm`, `clipnorm` and `global_clipnorm` are summed in float64; in float64 models the squares
  of clipping overflow above 1e154.
- On a GPU statistics are summed in float64, other sums of rows in float32 by many threads. A thread adds up at most
  16384 terms of a product, unless the parts would take more than 2^23 numbers, or warpgroups compute the product.

`python benchmarks/long_sums.py` shows errors and times, and compares two checkouts.

## Functions, and gradients computed from the input: error in ulp

{table}{functions}

## Gradients computed from the output: absolute error in units of 2^-24

These see x only through the rounded output. Where it saturates, their error stays at the rounding of the
output while the gradient goes to 0, so the absolute error is what counts. The one large entry is a single
number: 2.99999976, the last float32 before the kink of hard_sigmoid at 3, already has the output 1.

{table}{from_output}

{heading}{rest}"""


def double_numbers(name: str, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return random arguments of many magnitudes for a float64 function."""
    rng = np.random.default_rng(0)
    u = rng.uniform(-1.0, 1.0, count)
    scales = (1e-8, 1e-3, 0.05, 0.4, 1.0, 3.0, 20.0, 40.0, 300.0, 708.0)
    x = np.concatenate([*(u * scale for scale in scales), np.copysign(np.exp(rng.uniform(-700.0, 700.0, count)), u)])
    return np.abs(x) if name == "log" else np.where((name == "log1p") & (x <= -1.0), -x, x)


def nanoseconds(loop: Callable[..., None], x: Any, y: Any) -> float:
    """Return the time of a number in a loop, the median of several."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        loop(x, y)
        times.append(time.perf_counter() - start)
    return 1e9 * statistics.median(times) / float(x.size)


def of_library(name: str, x: Any, y: Any) -> str:
    """Return the time of a number of the C library's function, if it has the name, in the same loop."""
    function = getattr(math, name, None)
    if function is None:
        return ""

    @numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
    def loop(x: Any, y: Any) -> None:
        for i in range(x.size):
            y[i] = function(x[i])

    loop(x, y)
    return f"{nanoseconds(loop, x, y):.1f}"


def doubles(count: int) -> Iterator[str]:
    """Measure the elementary functions of float64; yields rows of a table."""
    if np.finfo(np.longdouble).nmant < 63:
        raise SystemExit("--double: this platform's long double is float64")
    one, zero = np.longdouble(1.0), np.longdouble(0.0)
    exact: dict[str, Callable[[Any], Any]] = {
        **{name: getattr(np, name) for name in ("exp", "expm1", "log", "log1p", "tanh")},
        "sigmoid": lambda x: np.where(x < zero, np.exp(-np.abs(x)), one) / (one + np.exp(-np.abs(x))),
        "softplus": lambda x: np.maximum(x, zero) + np.log1p(np.exp(-np.abs(x))),
    }
    functions = elementary.define(np.float64, formula, bits)
    for name, reference_of in exact.items():
        function = getattr(functions, name)

        @numba.njit(fastmath=set(FORMULA_FLAGS), error_model="numpy")  # type: ignore[untyped-decorator]
        def loop(x: Any, y: Any, function: Any = function) -> None:
            for i in range(x.size):
                y[i] = function(x[i])

        x = double_numbers(name, count)
        y = np.empty_like(x)
        loop(x, y)
        wanted = reference_of(x.astype(np.longdouble))
        known = (np.abs(wanted) > 2.3e-308) & (np.abs(wanted) < 1.7e308)
        error = np.abs(y[known] - wanted[known]) / np.spacing(np.abs(wanted[known]).astype(np.float64))
        worst = int(np.argmax(error))
        found = f"{float(error[worst]):.3f} | {x[known][worst]:.17g} | {float(error.mean()):.3f}"
        yield f"| {name} | {found} | {nanoseconds(loop, x, y):.1f} | {of_library(name, x, y)} |"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stride", type=int, default=1, help="try every STRIDE-th bit pattern (default: all)")
    parser.add_argument("--quick", action="store_true", help=f"the same as --stride {QUICK_STRIDE}")
    parser.add_argument("--jobs", type=int, default=1, help="threads (default: 1)")
    parser.add_argument("--only", default="", help="measure only the functions whose title contains this")
    parser.add_argument("--write", action="store_true", help="write docs/accuracy.md")
    parser.add_argument("--double", action="store_true", help="measure the functions of float64 instead")
    options = parser.parse_args()
    if options.double:
        with np.errstate(all="ignore"):
            for row in doubles(1_000_000):
                print(row, flush=True)
        return
    stride = QUICK_STRIDE if options.quick else options.stride
    if stride < 1 or options.jobs < 1:
        parser.error(f"--stride and --jobs: expected at least 1, got {stride} and {options.jobs}")
    if options.write and options.only:
        parser.error("--write: the document holds all functions, so --only does not go with it")
    rows: dict[bool, list[str]] = {False: [], True: []}
    for case in cases():
        if options.only in case.title:
            start = time.perf_counter()
            error, x, y = measure(case, stride, options.jobs)
            row = f"| {case.title} | {error:.3f} | {x:.9g} | {y:.9g} |"
            rows[case.absolute].append(row)
            print(
                f"{row}  {'2^-24' if case.absolute else 'ulp'}, {time.perf_counter() - start:.1f} s",
                flush=True,
            )
    if options.write:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(document(rows, stride), encoding="utf-8")


if __name__ == "__main__":
    main()
