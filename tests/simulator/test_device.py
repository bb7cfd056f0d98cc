"""The device class, against a driver in Python: memory, launches, graphs, errors."""

import gc

import numpy as np
import pytest

import fastnn as fnn
from fake_driver import FakeDriver
from fastnn.backend.cuda.driver import available, device
from fastnn.backend.cuda.driver.driver import Driver


def network(**more):
    model = fnn.Sequential([fnn.Input((4,)), fnn.Dense(6, "tanh"), fnn.Dense(2)], seed=1, **more)
    model.compile(fnn.SGD(0.1, momentum=0.9), "mse")
    return model


def data(n=12):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 4)).astype(np.float32), rng.standard_normal((n, 2)).astype(np.float32)


def test_a_model_trains_through_the_driver(fake):
    x, y = data()
    there, here = network(device="cuda"), network()
    for model in (there, here):
        model.fit(x, y, epochs=3, batch_size=4, verbose=0)
    for a, b in zip(there.get_weights(), here.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(there.predict(x), here.predict(x), rtol=1e-5, atol=1e-6)
    assert fake.calls.count("cuGraphInstantiate") >= 1


def test_a_thread_gets_its_own_context_back(fake):
    model = network(device="cuda")
    model.predict(data()[0])
    fake.current = 77
    model.predict(data()[0])
    assert fake.current == 77


def test_calls_that_come_again_replay_a_graph(fake):
    x, _ = data()
    model = network(device="cuda")
    model.predict(x)
    assert "cuGraphLaunch" not in fake.calls
    # by then memory from the pool is handed out in one order
    for _ in range(3):
        model.predict(x)
    launched, replayed = fake.calls.count("cuLaunchKernel"), fake.calls.count("cuGraphLaunch")
    assert replayed >= 1
    for _ in range(3):
        model.predict(x)
    assert fake.calls.count("cuLaunchKernel") == launched and fake.calls.count("cuGraphLaunch") == replayed + 3


def test_memory_is_kept_for_the_next_call_and_given_back_when_asked(fake):
    x, _ = data()
    model = network(device="cuda")
    model.predict(x)
    model.predict(x)
    taken = fake.calls.count("cuMemAlloc")
    for _ in range(3):
        model.predict(x)
    assert fake.calls.count("cuMemAlloc") == taken
    del model
    gc.collect()
    fnn.cuda.empty_pool()
    assert fake.used == 0 and fake.destroyed


def test_too_little_memory_says_how_much_is_missing(fake):
    fake.total = 2**16
    model = network(device="cuda")
    before = model.get_weights()
    x, y = data(3000)
    with pytest.raises(
        fnn.DeviceMemoryError, match=r"'cuda:0' \(Fake GPU\) has 0 of 0 MiB left, and 0\.\d MiB are needed"
    ):
        model.fit(x, y, verbose=0)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    model.to("cpu").fit(x[:8], y[:8], verbose=0)


def test_time_on_the_device(fake):
    opened = available.open_device(0)
    assert 0.0 <= opened.seconds(lambda: None) < 1.0
    with pytest.raises(ZeroDivisionError):
        opened.seconds(lambda: 1 / 0)
    assert fake.events == 0


def test_a_gpu_that_is_too_old(fake):
    fake.capability = (7, 0)
    with pytest.raises(fnn.DeviceError, match=r"'cuda:0': Fake GPU has compute capability 7\.0, fastnn needs 7\.5"):
        network(device="cuda")


def test_a_failing_driver_is_quoted(fake):
    model = network(device="cuda")
    fake.cuMemcpyHtoDAsync = lambda *arguments: (719,)
    with pytest.raises(fnn.DeviceError, match=r"cuMemcpyHtoDAsync: error number 719 \(CUDA error 719\)"):
        model.predict(data()[0])


def test_weights_survive_a_gpu_that_fails_in_a_run(fake):
    model = network(device="cuda")
    before = model.get_weights()
    fake.cuMemcpyDtoHAsync = lambda *arguments: (719,)
    with pytest.raises(fnn.DeviceError, match="cuMemcpyDtoHAsync"):
        model.fit(*data(), verbose=0)
    for now, then in zip(model.to("cpu").get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    "architecture, capability", [("75", (7, 5)), ("80", (8, 0)), ("90a", (9, 0)), ("100", (10, 0)), ("120", (12, 0))]
)
def test_architectures(capability, architecture):
    assert device.Device(0, Driver(FakeDriver(capability))).architecture == architecture


def test_warpgroups_have_to_be_asked_for(monkeypatch):
    for asked, capability, used in (
        ("", (9, 0), False),
        ("0", (9, 0), False),
        ("1", (9, 0), True),
        ("1", (10, 0), False),
    ):
        monkeypatch.setenv("FASTNN_CUDA_WARPGROUPS", asked)
        assert device.Device(0, Driver(FakeDriver(capability))).warpgroups is used


class TestWhatIsMissing:
    @pytest.fixture(autouse=True)
    def no_simulator(self, monkeypatch):
        monkeypatch.setattr(available, "simulated", lambda: False)
        monkeypatch.setattr(available, "missing_package", lambda: None)
        monkeypatch.setattr(available, "wrong_numba", lambda: None)

    def reason(self, monkeypatch, **more):
        monkeypatch.setattr(available, "_driver", lambda: Driver(FakeDriver(**more)))
        return fnn.cuda.why_not()

    def test_nothing(self, monkeypatch):
        assert self.reason(monkeypatch) is None and fnn.cuda.is_available()

    def test_no_gpu(self, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert self.reason(monkeypatch, count=0) == "there is no NVIDIA GPU (CUDA_VISIBLE_DEVICES is '')"

    def test_an_old_driver(self, monkeypatch):
        assert "for CUDA 12.4; fastnn needs one for CUDA 13.0" in self.reason(monkeypatch, version=12040)

    def test_no_driver(self, monkeypatch):
        def missing():
            raise OSError("no libcuda")

        monkeypatch.setattr(available, "_driver", missing)
        assert fnn.cuda.why_not() == "no NVIDIA driver is installed (its library, libcuda, was not found)"
        with pytest.raises(fnn.DeviceError, match="device 'cuda': no NVIDIA driver is installed"):
            fnn.Sequential(device="cuda")
