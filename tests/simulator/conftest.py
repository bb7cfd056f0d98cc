"""These files run in Numba's simulator, where `tests/cuda/test_cuda_simulator.py` starts them.

Some also run on a GPU, if `FASTNN_TESTS_ON_GPU` is 1: see `benchmarks/gpu/models.py`.
"""

import os
from types import SimpleNamespace

import pytest

from warpgroups import always_warpgroups  # noqa: F401

if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
    import handing_over

    handing_over.install()
elif os.environ.get("FASTNN_TESTS_ON_GPU") != "1":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def fake(monkeypatch):
    """Give models a GPU with a driver in Python, and return that driver; or record a real driver's calls."""
    from fastnn.backend.cuda.codegen import numba_cuda
    from fastnn.backend.cuda.driver import available, device
    from fastnn.backend.cuda.driver.driver import Driver

    if not numba_cuda.simulated():
        return _listen(available.open_device(0), monkeypatch)
    from fake_driver import FakeDriver

    made, opened = FakeDriver(), {}
    monkeypatch.setattr(device, "machine_code", made.code)

    def open_device(number):
        return opened.setdefault(number, device.Device(number, Driver(made)))

    monkeypatch.setattr(available, "open_device", open_device)
    return made


def _listen(device, monkeypatch):
    heard, call = SimpleNamespace(calls=[]), device._call

    def listening(name, *arguments):
        heard.calls.append(name)
        return call(name, *arguments)

    monkeypatch.setattr(device, "_call", listening)
    return heard
