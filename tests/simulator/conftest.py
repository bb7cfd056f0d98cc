"""These files run in Numba's simulator only; `test_cuda_simulator.py` starts them there."""

import os
import sys
from pathlib import Path

import pytest

if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
    sys.path.insert(0, str(Path(__file__).parent))
    import handing_over

    handing_over.install()
else:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def fake(monkeypatch):
    """Have models find a GPU behind a driver of Python, and return that driver."""
    from fake_driver import FakeDriver
    from fastnn.backend.cuda import available, device
    from fastnn.backend.cuda.driver import Driver

    made, opened = FakeDriver(), {}
    monkeypatch.setattr(device, "machine_code", made.code)

    def open_device(number):
        return opened.setdefault(number, device.Device(number, Driver(made)))

    monkeypatch.setattr(available, "open_device", open_device)
    return made


@pytest.fixture
def always_warpgroups(monkeypatch):
    """Have warpgroups make all products that they can make, where a device has some."""
    from fastnn.backend.cuda.kernels import matmul_plan

    usual = matmul_plan._quickest

    def quickest(m, n, k, precision, warpgroups, sizes):
        return (precision, "huge") if warpgroups and precision != "float32" else usual(m, n, k, precision, False, sizes)

    monkeypatch.setattr(matmul_plan, "_quickest", quickest)
