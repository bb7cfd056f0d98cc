"""Products by warpgroups: the emulated instructions, kernels with wrong timing, the choice, and models."""

import threading
import time

import numpy as np
import pytest

import fastnn as fnn
import handing_over
from cuda_running import run_cuda
from fastnn.backend.cuda.codegen.fragments import DEPTH, place_along
from fastnn.backend.cuda.codegen.kernel import KERNELS
from fastnn.backend.cuda.codegen.sizes import DEVICE_PRODUCTS, WARPGROUP
from fastnn.backend.cuda.driver import available
from fastnn.backend.cuda.kernels.matmul import plan, warpgroup
from fastnn.backend.cuda.kernels.matmul.plan import Algorithm, choose
from fastnn.backend.cuda.launch import fusion
from fastnn.backend.cuda.simulator import memory as registered
from fastnn.backend.cuda.simulator import ptx_wgmma
from fastnn.backend.cuda.simulator.device import SimulatedDevice
from fastnn.program.layout import Flag
from making import Bound, Case
from running import excess, run_reference

ALGORITHMS = [Algorithm(False, False, "plain", "huge", precision=precision) for precision in ("tf32", "bf16")]


def device_with_warpgroups():
    device = SimulatedDevice()
    device.warpgroups = True
    return device


def whole_numbers(rng, shape):
    return rng.integers(-8, 9, shape).astype(np.float64)


def case(dims):
    return Case("matmul", dims, special=dict.fromkeys("ab", whole_numbers), bound=Bound(1))


# --- the emulated hardware -------------------------------------------------------------------------------------------


def test_sums_of_a_thread_as_the_instruction_set_has_them():
    seen = np.zeros((64, 24), int)
    for thread in range(128):
        rows, columns = ptx_wgmma.own_places(thread, 24)
        np.add.at(seen, (rows, columns), 1)
        number = np.arange(12)
        lane = thread % 32
        np.testing.assert_array_equal(rows, thread // 32 * 16 + lane // 4 + number // 2 % 2 * 8)
        np.testing.assert_array_equal(columns, number // 4 * 8 + lane % 4 * 2 + number % 2)
    assert (seen == 1).all()


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_lines_in_shared_memory(precision):
    """The swizzle of 128 bytes: 16 bytes of a line are at their place xor the line's place among eight."""
    per_word = 1 if precision == "tf32" else 2
    numbers = np.arange(16 * DEPTH * per_word, dtype=np.float32).reshape(16, -1) % 251
    words = numbers.view(np.uint32) if per_word == 1 else (numbers.view(np.uint32) >> 16).astype(np.uint16)
    lines = words.view(np.uint8).reshape(16, 8, 16)
    memory = np.empty((16, 8, 16), np.uint8)
    for line in range(16):
        for chunk in range(8):
            memory[line, chunk ^ line % 8] = lines[line, chunk]
    shared = memory.reshape(-1).view(np.float32)
    for step in range(4):
        found = ptx_wgmma.lines_of((shared, 0), 16, step, precision)
        np.testing.assert_array_equal(found, numbers[:, 8 * per_word * step : 8 * per_word * (step + 1)])
    assert place_along(9, 4) == 9 * DEPTH + 0


def test_barriers_count_bytes():
    memory, source = np.zeros(64, np.float32), np.arange(16, dtype=np.float32)
    raw = np.zeros(96, np.uint8)
    raw = raw[-raw.ctypes.data % 16 :][:64]
    raw[:] = source.view(np.uint8)
    address, barrier = registered.register(raw), (memory, 32)
    try:
        ptx_wgmma.make_barrier(barrier)
        assert not ptx_wgmma.has_opened(barrier, 0) and ptx_wgmma.has_opened(barrier, 1)
        for turn in range(3):
            ptx_wgmma.expect_bytes(barrier, 64)
            with pytest.raises(RuntimeError, match="has not opened since"):
                ptx_wgmma.expect_bytes(barrier, 64)
            ptx_wgmma.copy_block((memory, 0), address, 32, barrier)
            assert not ptx_wgmma.has_opened(barrier, turn % 2)
            ptx_wgmma.copy_block((memory, 8), address + 32, 32, barrier)
            assert np.isnan(memory[:16]).all()
            assert ptx_wgmma.has_opened(barrier, turn % 2)
            np.testing.assert_array_equal(memory[:16], source)
        ptx_wgmma.expect_bytes(barrier, 32)
        ptx_wgmma.copy_block((memory, 0), address, 64, barrier)
        with pytest.raises(RuntimeError, match="copies 64 bytes for a barrier that expects 32"):
            ptx_wgmma.has_opened(barrier, 1)
        for target, nbytes in ((1, 32), (0, 24)):
            with pytest.raises(IndexError, match="not aligned"):
                ptx_wgmma.copy_block((memory, target), address, nbytes, barrier)
    finally:
        registered.release(address)
    with pytest.raises(IndexError, match="not aligned to eight bytes"):
        ptx_wgmma.make_barrier((memory, 33))
    with pytest.raises(IndexError, match="not aligned to 1024 bytes"):
        ptx_wgmma.lines_of((memory, 8), 8, 0, "tf32")


# --- kernels ---------------------------------------------------------------------------------------------------------


def run(algorithm, dims, monkeypatch):
    monkeypatch.setattr(plan, "choose", None)  # only this algorithm
    entry = KERNELS["matmul"]
    fixed = {**vars(entry), "algorithm": lambda *arguments: str(algorithm)}
    monkeypatch.setitem(KERNELS, "matmul", type(entry)(**fixed))
    got = run_cuda(case(dims), "float32", device_with_warpgroups()).outputs["c"]
    return excess(case(dims), "c", "float32", got, run_reference(case(dims), "float32").outputs["c"])


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_one_tile_of_k(algorithm, monkeypatch):
    assert run(algorithm, {"m": 68, "n": 12, "k": 4}, monkeypatch) <= 1.0


def test_a_kernel_that_does_not_wait_is_wrong(monkeypatch):
    """Tiles are requested while earlier ones are still multiplied: the simulator shows it."""
    monkeypatch.setattr(warpgroup, "wait_but_one", lambda: None)
    assert not run(ALGORITHMS[0], {"m": 16, "n": 8, "k": 4 * DEPTH}, monkeypatch) <= 1.0


def test_a_kernel_whose_warpgroups_do_not_wait_for_each_other_is_wrong(monkeypatch):
    """The thread that requests tiles runs ahead of those that still multiply."""
    tiles, usual, wait = 4, handing_over.Thread.syncthreads, warpgroup.wait_but_one

    def slowly():
        if threading.current_thread().thread_id >= WARPGROUP:
            time.sleep(0.01)
        wait()

    def syncthreads(thread):
        number = thread.__dict__["barriers"] = thread.__dict__.get("barriers", 0) + 1
        # the first comes after the barriers are made, the last two are around the stores
        if not 1 < number <= 1 + tiles:
            usual(thread)

    dims = {"m": 68, "n": 8, "k": tiles * DEPTH}
    monkeypatch.setattr(warpgroup, "wait_but_one", slowly)
    assert run(ALGORITHMS[0], dims, monkeypatch) <= 1.0
    monkeypatch.setattr(handing_over.Thread, "syncthreads", syncthreads)
    monkeypatch.setattr(ptx_wgmma, "_PATIENCE", 1.0)
    try:
        found = run(ALGORITHMS[0], dims, monkeypatch)
    except RuntimeError:  # or barriers have opened so often that a late thread does not see it
        found = np.inf
    assert not found <= 1.0


def test_a_kernel_that_reads_its_sums_too_early_is_wrong(monkeypatch):
    monkeypatch.setattr(warpgroup, "wait_for_all", lambda: None)
    assert not run(ALGORITHMS[0], {"m": 16, "n": 8, "k": DEPTH}, monkeypatch) <= 1.0


# --- the choice, and models ------------------------------------------------------------------------------------------


def test_large_products_are_made_by_warpgroups_where_there_are_some():
    for size, huge in ((512, False), (2048, True), (8192, True)):
        dims = dict.fromkeys("mnk", size)
        for precision in ("float32", "tf32", "bf16"):
            algorithm = choose(dims, Flag(0), precision, True, DEVICE_PRODUCTS)
            assert (algorithm.shape == "huge") == (huge and precision != "float32")
            assert choose(dims, Flag(0), precision, False, DEVICE_PRODUCTS).shape != "huge"


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_model_trains_with_them_as_without(precision, monkeypatch, always_warpgroups):
    monkeypatch.setattr(fusion, "ENABLED", False)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 6)).astype(np.float32), rng.integers(0, 3, 20)
    weights, kept = [], []
    for warpgroups in (True, False):
        available.open_device.cache_clear()
        device = available.open_device(0)
        device.warpgroups = warpgroups
        model = fnn.Sequential([fnn.Input(6), fnn.Dense(10, "tanh"), fnn.Dense(3, "softmax")], seed=1)
        model.compile("sgd", "cross_entropy")
        model.to("cuda", precision=precision)
        model.fit(x, y, batch_size=20, epochs=2, verbose=0)
        weights.append(model.get_weights())
        kept.append({key.algorithm for key, _ in device._functions if key.op == "matmul"})
    available.open_device.cache_clear()
    assert any("huge" in algorithm for algorithm in kept[0]) and not any("huge" in algorithm for algorithm in kept[1])
    for one, other in zip(*weights, strict=True):
        # the others are not rounded: a step of size 0.01 times errors of 2^-8
        np.testing.assert_allclose(one, other, atol=2e-4)
