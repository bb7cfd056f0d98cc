"""Kernels round to nearest and flush subnormal numbers, whatever the calling thread's mode, which is restored."""

import ctypes
import platform
import sys

import numpy as np
import pytest
from llvmlite import ir

import fastnn as fnn
from fastnn.backend.cpu.codegen.float_mode import emit_exchange, kernel_mode

UPWARD = {"x86_64": 0x800, "AMD64": 0x200, "aarch64": 0x400000, "arm64": 0x400000}.get(platform.machine())
pytestmark = pytest.mark.skipif(UPWARD is None, reason="the processor's mode is set on x86-64 and ARM64 only")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 70)).astype(np.float32)
Y = RNG.integers(0, 5, 300)


@pytest.fixture
def upward():
    """The C library's function that sets the rounding mode, and the mode that rounds up."""
    libc = ctypes.CDLL(None)
    before = fnn.get_num_threads()
    yield lambda: libc.fesetround(UPWARD)
    mode = libc.fegetround()
    libc.fesetround(0)
    fnn.set_num_threads(before)
    assert mode == UPWARD, "fastnn has changed the caller's mode"


@pytest.mark.skipif(sys.platform == "win32", reason="the C library's rounding mode is set by another function there")
@pytest.mark.parametrize("threads", [1, 3])
def test_results_do_not_depend_on_the_rounding_mode_of_the_caller(upward, threads):
    fnn.set_num_threads(threads)
    models = [fnn.Sequential([fnn.Input(70), fnn.Dense(130, "tanh"), fnn.Dense(5, "softmax")], seed=0) for _ in "ab"]
    for model in models:
        model.compile("sgd", "cross_entropy")
    outcomes = []
    for model in models:
        model.fit(X, Y, batch_size=100, epochs=2, verbose=0)
        outcomes.append([*model.get_weights(), model.predict(X), fnn.matmul(X, X, transpose_b=True)])
        assert upward() == 0
    assert np.float32(1) + np.float32(1e-9) > 1, "the mode was not set"
    for nearest, other in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(nearest, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subnormal_numbers_are_zeros_in_kernels_and_stay_in_numpy(dtype):
    smallest = np.finfo(dtype).smallest_subnormal
    normal = np.finfo(dtype).smallest_normal
    a = np.array([[smallest, normal, 1]], dtype).T @ np.ones((1, 40), dtype)
    product = fnn.matmul(np.eye(3, dtype=dtype), a)
    np.testing.assert_array_equal(product, np.array([[0, normal, 1]], dtype).T @ np.ones((1, 40), dtype))
    halves = fnn.matmul(np.eye(3, dtype=dtype) / 2, a)
    np.testing.assert_array_equal(halves[:, 0], np.array([0, 0, 0.5], dtype))
    assert a[0, 0] / np.array(1, dtype) == smallest, "NumPy still computes with subnormal numbers"


def test_moments_of_weights_without_a_gradient_become_zero():
    # a relu that is never active from the second step on; without flushing, both moments end just above zero
    model = fnn.Sequential([fnn.Input(1), fnn.Dense(1, "relu", kernel_initializer="ones"), fnn.Dense(1)], seed=0)
    model.compile(fnn.Adam(1e-3, beta_2=0.9), "mean_squared_error")
    model.fit(np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), epochs=1, verbose=0)
    model.fit(-np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), epochs=3000, verbose=0)
    moments = model._runtime.optimizer_state.view(np.float32)
    assert np.count_nonzero(np.abs(moments) < np.finfo(np.float32).smallest_normal) == np.count_nonzero(moments == 0)


@pytest.mark.parametrize(
    ("triple", "mode", "calls"),
    [
        ("x86_64-pc-windows-msvc", 0x9FC0, ["llvm.x86.sse.stmxcsr", "llvm.x86.sse.ldmxcsr"]),
        ("aarch64-apple-darwin", 1 << 24, ["llvm.aarch64.get.fpcr", "llvm.aarch64.set.fpcr"]),
        ("riscv64-unknown-linux", 1 << 24, []),
    ],
)
def test_each_processor_has_its_own_register(triple, mode, calls):
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.IntType(64), [ir.IntType(64)]), "exchange")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(emit_exchange(builder, triple, function.args[0]))
    assert kernel_mode(triple) == mode
    assert [name for name in module.globals if name.startswith("llvm.")] == calls
