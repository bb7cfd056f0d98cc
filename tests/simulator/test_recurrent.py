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
from own_cells import Associative
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


STATEFUL = {
    "lstm": lambda **options: fnn.LSTM(3, **options),
    "both": lambda **options: fnn.Bidirectional(fnn.GRU(3, **options)),
    "cell": lambda **options: fnn.RNN(Associative(3), **options),
}


@pytest.mark.parametrize("make", STATEFUL.values(), ids=STATEFUL)
def test_states_that_pass_on_to_the_next_batch(make):
    """They stay on the GPU, go with the model, and have the values that they have on a CPU."""
    rng, found = np.random.default_rng(0), []
    x, y = rng.normal(size=(6, 2, 2)), rng.normal(size=(6, 2, 1))
    for device in ("cpu", "cuda"):
        recurrent = make(return_sequences=True, stateful=True)
        model = fnn.Sequential([fnn.Input((2, 2)), recurrent, fnn.Dense(1)], seed=1)
        model.compile("sgd", "mse")
        model.to(device)
        results = [model.predict(x, batch_size=3)]
        history = model.fit(x, y, batch_size=3, shuffle=False, verbose=0, validation_data=(x[:2], y[:2]))
        results += [history.history["val_loss"], model.gradients(x[:3], y[:3])[0]]
        results += [[model.train_on_batch(x[:3], y[:3])["loss"] for _ in range(4)]]
        model.to("cpu")
        results += [model.predict(x[:3]) for _ in range(3)]
        model.to(device)
        recurrent.reset_states()
        results += [model.predict(x[:3]) for _ in range(3)]
        found.append(results)
    for on_cpu, on_gpu in zip(*found, strict=True):
        np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-4, atol=1e-6)
    assert not np.allclose(found[0][-1], found[0][-2], atol=1e-3)
