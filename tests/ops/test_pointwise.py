"""Elementwise functions beside NumPy: special values, errors in ulp, calls in place, strides that leave an operand."""

from dataclasses import replace

import numpy as np
import pytest

from fastnn.backend.cpu.executor.engine import BoundProgram
from fastnn.formulas.pointwise import ARITY
from fastnn.program.layout import CONTEXT_WORDS, OPERANDS_AT
from fastnn.program.opcodes import OPS
from fastnn.program.verify import ProgramError, verify
from making import Case
from pointwise_cases import laid_out, pointwise_case
from running import Reference, build, fill, filled, outputs_of, run_cpu

DTYPES = ("float32", "float64")
SPECIAL = (
    0.0, -0.0, 0.3, -0.3, 0.5, -0.5, 0.7, 1.0, -1.0, 1.5, -1.5, 2.0, 2.5, -2.5, 3.0, -3.0, 1e10, -1e10, 4194303.5,
    8388607.0, -8388607.0, 16777215.0, 16777216.0, np.inf, -np.inf, np.nan,
)  # fmt: skip
NAMED = {"round": np.rint, "rsqrt": lambda x: 1.0 / np.sqrt(x), "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x))}


def dense(function: str, n: int) -> Case:
    return pointwise_case(function, laid_out((n,), **{name: (1,) for name in "abc"[: ARITY[function]]}))


def computed(function: str, dtype: str, *arguments: np.ndarray) -> np.ndarray:
    values = dict(zip("abc", arguments, strict=False))
    return run_cpu(dense(function, arguments[0].size), dtype, 1, values).outputs["y"]


def expected(function: str, *arguments: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(NAMED.get(function, getattr(np, function, None))(*arguments))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", sorted(ARITY.keys() - {"above", "where", "identity", "erf"}))
def test_special_values_as_numpy(function, dtype):
    arguments = [np.array(SPECIAL, dtype)]
    if ARITY[function] == 2:
        arguments = [axis.reshape(-1) for axis in np.meshgrid(*2 * arguments)]
    if function in ("exp", "expm1", "sinh", "cosh"):  # float32's and float64's infinities begin elsewhere
        arguments = [np.where(np.abs(x) == 1e10, 50.0, x) for x in arguments]
    got, wanted = computed(function, dtype, *arguments), expected(function, *arguments)
    np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=1e-37)
    signed = ~np.isnan(wanted) & (np.abs(wanted) < 1e30)
    if dtype == "float32" and function in ("power", "exp"):
        signed &= (np.abs(wanted) > 1e-30) | (wanted == 0.0)
    np.testing.assert_array_equal(np.signbit(got)[signed], np.signbit(wanted)[signed])


def test_where_and_slopes_of_maxima():
    nan, inf = np.nan, np.inf
    found = computed("where", "float64", np.array([0.0, -0.0, nan, 2.0]), np.ones(4), np.array([nan, inf, 3.0, nan]))
    np.testing.assert_array_equal(found, [nan, inf, 1.0, 1.0])
    found = computed("above", "float64", np.array([1.0, 2.0, 3.0, nan, 1.0]), np.array([2.0, 2.0, 2.0, 2.0, nan]))
    np.testing.assert_array_equal(found, [0.0, 0.5, 1.0, 0.0, 0.0])


# bounds in ulp, and intervals of arguments
MEASURED = {
    "sin": (1.6, ((-4.0, 4.0), (-1.6e6, 1.6e6))), "cos": (1.6, ((-4.0, 4.0), (-1.6e6, 1.6e6))),
    "tan": (3.0, ((-4.0, 4.0), (-1.6e6, 1.6e6))), "arctan": (2.0, ((-1.0, 1.0), (-20.0, 20.0))),
    "sinh": (2.4, ((-1.0, 1.0), (-88.0, 88.0))), "cosh": (2.4, ((-1.0, 1.0), (-88.0, 88.0))),
    "power": (0.6, ((0.01, 4.0), (0.99, 1.01))), "rsqrt": (1.6, ((0.01, 9.0),)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", MEASURED)
def test_errors_in_ulp(function, dtype):
    wide = np.float64 if dtype == "float32" else np.longdouble
    if np.finfo(wide).nmant <= np.finfo(dtype).nmant:
        pytest.skip("NumPy has no wider numbers here")
    bound, intervals = MEASURED[function]
    rng = np.random.default_rng(1)
    for low, high in intervals:
        arguments = [rng.uniform(low, high, 20_000).astype(dtype)]
        if function == "power":
            arguments.append(rng.uniform(-9.0, 9.0, 20_000).astype(dtype))
        got = computed(function, dtype, *arguments)
        wanted = expected(function, *(x.astype(wide) for x in arguments))
        errors = np.abs(got - wanted) / np.spacing(np.abs(wanted).astype(dtype))
        assert errors.max() < bound, f"{function} from {low} to {high}: {errors.max():.2f} ulp"


@pytest.mark.parametrize("function", ["sin", "cos", "tan"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_huge_angles_stay_bounded(function, dtype):
    huge = np.array([1e12, 1e17, -1e25, 1e38], dtype)
    got = computed(function, dtype, huge)
    assert np.isfinite(got).all()
    assert function == "tan" or (np.abs(got) <= 1.0).all()


# --- in place -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", ["add", "subtract", "less", "negative", "exp", "power", "where"])
def test_results_may_take_the_place_of_an_argument(function, dtype):
    for n in (1, 33, 700):
        case = dense(function, n)
        wanted = run_cpu(case, dtype).outputs["y"]
        for number in range(ARITY[function]):
            program = build(case, dtype)
            buffers = filled(program, fill(case, dtype), dtype)
            before = {buffer: raw.copy() for buffer, raw in buffers.items()}
            # y is written over an argument; the verifier does not let records do that, but a kernel could
            records = program.records.copy()
            records[0, OPERANDS_AT] = records[0, OPERANDS_AT + 1 + number]
            program = replace(program, records=records)
            context = np.zeros(CONTEXT_WORDS, np.int64)
            for buffer, raw in buffers.items():
                context[buffer] = raw.ctypes.data
            BoundProgram(program).run(context, 1, parts=1)
            got = outputs_of(program, before, buffers, dtype)["y"]
            assert got.tobytes() == wanted.tobytes(), f"{function} over argument {number} of {n}"


# --- the verifier ---------------------------------------------------------------------------------------------


def test_strides_must_stay_within_operands():
    case = pointwise_case("add", laid_out((5, 7), a=(7, 1), b=(1, 0)))
    program = Reference(case, "float32").program
    verify(program)
    for name, number, wrong in (("n1", 2, "axes"), ("b2", 100, "of buffer"), ("a2", 1000, "of buffer")):
        dims = {**case.dims, name: number}
        records = program.records.copy()
        for key in dims:
            records[0, OPS["pointwise"].word(key)] = dims[key]
        with pytest.raises(ProgramError, match=wrong):
            verify(replace(program, records=records))
