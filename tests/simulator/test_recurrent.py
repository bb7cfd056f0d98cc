"""Kernels of recurrent layers in Numba's simulator: states in scratch memory, and the choice of samples for a block."""

from dataclasses import replace

import numpy as np
import pytest

import fastnn as fnn
from cuda_running import BackwardsDevice, run_cuda
from fastnn.backend.cuda.codegen.kernel import KERNELS
from fastnn.backend.cuda.codegen.sizes import DEVICE_RECURRENT, RECURRENT
from fastnn.backend.cuda.kernels.recurrent import plan
from fastnn.program.layout import Flag
from recurrent_cases import recurrent_cases
from running import differences, run_reference

CASES = list(recurrent_cases())


# units in packs of four and others, in one sample for each block and two
@pytest.mark.parametrize(("batch", "units"), [(3, 7), (26, 16)])
@pytest.mark.parametrize("op", plan.KEPT)
def test_states_in_scratch_memory(op, batch, units, monkeypatch):
    monkeypatch.setattr(plan, "RECURRENT", replace(RECURRENT, elements=8))
    cases = [case for case in CASES if case.op == op and (case.dims["batch"], case.dims["units"]) == (batch, units)]
    wrong = []
    # one of each form of a GRU
    for case in {case.dims.get("after"): case for case in cases}.values():
        assert KERNELS[op].algorithm(case.dims, Flag(0)).startswith("scratch")
        got = run_cuda(case, "float32", BackwardsDevice())
        wrong += differences(case, "float32", got, run_reference(case, "float32"))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("op", "batch", "units", "expected"),
    [
        ("lstm", 1, 1, "shared-1-single"),
        ("lstm", 132, 128, "shared-1-packs"),
        ("lstm", 133, 128, "shared-4-packs"),
        ("lstm", 5000, 128, "shared-8-packs"),
        ("lstm", 5000, 146, "shared-8-single"),
        ("lstm", 5000, 147, "scratch-8-single"),
        ("gru", 32, 1364, "shared-1-packs"),
        ("gru_grad", 32, 2048, "shared-1-packs"),
        ("simple_rnn_grad", 32, 4100, "scratch-1-packs"),
    ],
)
def test_samples_of_a_block(op, batch, units, expected, monkeypatch):
    monkeypatch.setattr(plan, "RECURRENT", DEVICE_RECURRENT)
    dims = {"batch": batch, "units": units}
    algorithm = KERNELS[op].algorithm(dims, Flag(0))
    assert algorithm == expected
    place, samples, _ = algorithm.split("-")
    blocks = -(-batch // int(samples))
    expected_bytes = blocks * int(samples) * plan.KEPT[op] * units * 4 if place == "scratch" else 0
    assert KERNELS[op].scratch(dims, 4, algorithm) == expected_bytes


class Leaky(fnn.Cell):
    """A cell of the user's own."""

    units = 2

    def call(self, inputs, states):
        h = 0.5 * states[0] + inputs
        return h, h


def test_loops_run_on_the_cpu_only(fake):
    model = fnn.Sequential([fnn.Input((3, 2)), fnn.RNN(Leaky(), name="mine")], seed=0)
    with pytest.raises(NotImplementedError, match=r"mine: .* runs? on the CPU only"):
        model.freeze(device="cuda")
    x = np.ones((2, 3, 2), np.float32)
    expected = model.predict(x)
    model.to("cuda")
    with pytest.raises(NotImplementedError, match="mine: repeat has no CUDA kernel: it runs on the CPU only"):
        model.predict(x)
    model.to("cpu")
    assert model.predict(x).tobytes() == expected.tobytes()
