"""Every CUDA kernel in Numba's simulator, against the float64 reference; `test_cuda_simulator.py` runs this file."""

import os
from collections import Counter

import pytest

from cases import CASES
from cuda_running import BackwardsDevice, run_cuda
from fastnn.backend.cuda.codegen.kernel import KERNELS
from fastnn.backend.cuda.simulator.device import SimulatedDevice
from running import differences, run_reference

# each order of blocks for one of the dtypes: what they compute must not depend on it
DEVICES = {"float32": BackwardsDevice, "float64": SimulatedDevice}
DTYPES = tuple(DEVICES)
GROUPS: dict[str, list] = {}
for _case in CASES:
    if _case.op in KERNELS:
        GROUPS.setdefault("-".join(part for part in (_case.op, _case.variant, _case.formula) if part), []).append(_case)

# A simulated thread takes a millisecond: of large groups some cases are run, others for each dtype, unless all are
# wanted.
EVERY_CASE = os.environ.get("FASTNN_EVERY_CASE") == "1"
MOST = 2
OPS = Counter(cases[0].op for cases in GROUPS.values())


def chosen(group, dtype):
    cases = GROUPS[group]
    # the kernels of an op with many formulas differ in nothing else; some formulas have cases of other layouts
    most = 1 if OPS[cases[0].op] > MOST and not any(case.note for case in cases) else MOST
    if EVERY_CASE or len(cases) <= most:
        return cases
    step = len(cases) / most
    return [cases[int((index + 0.5 * DTYPES.index(dtype)) * step)] for index in range(most)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("group", GROUPS)
def test_cuda_agrees_with_reference(group, dtype):
    wrong = []
    for case in chosen(group, dtype):
        got, expected = run_cuda(case, dtype, DEVICES[dtype]()), run_reference(case, dtype)
        wrong += differences(case, dtype, got, expected)
    assert not wrong, "\n".join(wrong)
