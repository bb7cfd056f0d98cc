"""Kernels of windows on the CPU beyond the table of cases: long sums, large maps, any number of parts."""

import numpy as np
import pytest

from fastnn.backend.cpu.executor.engine import BoundProgram, Runner
from fastnn.program.layout import CONTEXT_WORDS, Counter, Status
from running import build, differences, run_cpu, run_reference
from window_cases import BY_CHANNEL, FEW, GEOMETRIES, LONG, POOLS, convolution_cases, pooling_cases

DTYPES = ("float32", "float64")


def named(cases):
    return [pytest.param(case, id=case.id) for case in cases]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", named(case for geometry in LONG for case in list(convolution_cases(geometry))[1::2]))
def test_what_is_cut_agrees_with_the_reference(case, dtype):
    wrong = differences(case, dtype, run_cpu(case, dtype), run_reference(case, dtype))
    assert not wrong, "\n".join(wrong)


CUT = [case for geometry in (*GEOMETRIES, *BY_CHANNEL, *FEW, *LONG) for case in convolution_cases(geometry)]
CUT += [case for geometry in POOLS for case in pooling_cases(geometry)]


@pytest.mark.parametrize("case", named(CUT[::4]))
def test_parts_do_not_change_bits(case):
    whole = run_cpu(case, "float32").outputs
    for parts in (2, 3, 5):
        for name, array in run_cpu(case, "float32", parts).outputs.items():
            np.testing.assert_array_equal(array, whole[name], err_msg=f"{name} in {parts} parts")


@pytest.mark.parametrize("geometry", [*GEOMETRIES[:4], *BY_CHANNEL[:2], *FEW[:2]])
@pytest.mark.parametrize("op", ["conv", "conv_back"])
def test_numbers_that_are_not_finite_reach_the_results(geometry, op):
    case = next(case for case in convolution_cases(geometry) if case.op == op)
    source = "x" if op == "conv" else "dy"
    clean = run_cpu(case, "float32").outputs
    values = case.values()[source].copy()
    values[0] = np.nan
    (spoiled,) = run_cpu(case, "float32", changed={source: values}).outputs.values()
    (result,) = clean.values()
    expected = run_reference(case, "float32", {source: values}).outputs["y" if op == "conv" else "dx"]
    # the reference has NaN where a number counts; zeros beside it may not hide it
    assert np.isnan(expected[0]).any()
    assert np.isnan(spoiled[np.isnan(expected)]).all()
    np.testing.assert_array_equal(spoiled[1:], result[1:])


def test_a_kernel_that_finds_no_memory_names_its_layer():
    bound = BoundProgram(build(next(convolution_cases(GEOMETRIES[0])), "float32"))
    context = np.zeros(CONTEXT_WORDS, np.int64)
    # what a kernel notes that could not allocate
    context[Counter.STATUS], context[Counter.STATUS_DETAIL] = Status.KERNEL_RAISED, bound.address
    with pytest.raises(MemoryError, match=r"layer .conv-.*: no memory for the edges"):
        Runner(context).check(bound)
    assert context[Counter.STATUS] == Status.RUNNING
