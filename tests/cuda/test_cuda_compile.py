"""Users' kernels with a network in them, compiled by numba-cuda for several GPUs, without needing one."""

import math
import os
import re
from importlib.metadata import PackageNotFoundError, version

import numba
import numpy as np
import pytest
from numba import types
from numba.core.errors import TypingError

import fastnn as fnn
from fastnn import cache
from fastnn import nopython as fnp
from fastnn.__main__ import main

try:
    version("numba-cuda")
except PackageNotFoundError:
    pytest.skip("numba-cuda is not installed: python -m pip install '.[cuda]'", allow_module_level=True)
if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
    pytest.skip("Numba's simulator compiles nothing", allow_module_level=True)

from numba import cuda

from fastnn.backend.cuda.codegen.compile import _device_of, _ptx
from fastnn.backend.cuda.codegen.kernel import Key, capability
from fastnn.backend.cuda.codegen.library import machine_code, path_of
from fastnn.backend.cuda.device_function.code import encode
from fastnn.backend.cuda.kernels import stages
from fastnn.demo import warm, warm_cuda
from fastnn.formulas import custom
from fastnn.nopython import cuda_overloads
from fastnn.runtime.programs import codes

SIZE = 40
ITEMS = {"float32": 4, "float64": 8}


def simulate_single(net, states, out):
    i = cuda.grid(1)
    work = cuda.local.array(SIZE, numba.float32)
    if i < len(states):
        fnp.predict(net, states[i], out[i], work)


def simulate_double(net, states, out):
    i = cuda.grid(1)
    work = cuda.local.array(SIZE, numba.float64)
    if i < len(states):
        fnp.predict(net, states[i], out[i], work)


def simulate_steps(net, states, steps):
    """A whole sample is in the thread's local memory, and a network's output is its next input."""
    i = cuda.grid(1)
    work = cuda.local.array(SIZE, numba.float32)
    state = cuda.local.array(4, numba.float32)
    if i < len(states):
        for j in range(4):
            state[j] = states[i, j]
        for _ in range(steps):
            fnp.predict(net, state, state, work)
        for j in range(4):
            states[i, j] = state[j]


def array(dtype, ndim=1, layout="C"):
    return types.Array(getattr(types, dtype), ndim, layout)


def network(dtype="float32"):
    return types.NamedTuple((array("int64"), array(dtype)), fnp.FrozenDeviceNetwork)


def ptx_of(function, *arguments, architecture="90a"):
    with _device_of(capability(architecture)):
        ptx, _ = cuda.compile(
            function, types.void(*arguments), cc=capability(architecture), output="ptx", device=False, abi="numba"
        )
    return ptx


def usage(ptx, architecture):
    """Return registers, bytes of the stack, and bytes of spills of a kernel's machine code."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    options = LinkerOptions(arch=f"sm_{architecture}", ptxas_options="-v")
    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
    linker.link("cubin")
    log = linker.get_info_log()
    registers = int(re.search(r"Used (\d+) registers", log).group(1))
    frame = r"properties for (\S+)[\s\S]*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    # the power of float64 is a function of NVIDIA's library
    frames = [sizes for name, *sizes in re.findall(frame, log) if not name.startswith("__internal_")]
    assert len(frames) == 1, "a part of the interpreter has not become a part of the kernel"
    return registers, *map(int, frames[0])


@pytest.mark.parametrize("architecture", ["75", "90a"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_need_no_memory_but_the_users_own(dtype, architecture):
    function = simulate_single if dtype == "float32" else simulate_double
    ptx = ptx_of(function, network(dtype), array(dtype, 2), array(dtype, 2), architecture=architecture)
    registers, stack, *spilled = usage(ptx, architecture)
    assert spilled == [0, 0] and stack == SIZE * ITEMS[dtype]
    assert registers <= 128
    # a weight is read with its neighbours, in 16 bytes
    assert ("ld.global.v4.f32" if dtype == "float32" else "ld.global.v2.f64") in ptx
    if dtype == "float32":
        # parameters of activations are float64; nothing is computed with them. Angles of sines, and powers, are
        # reduced in float64.
        assert len(re.findall(r"(?:add|mul|fma|div|sqrt)\S*\.f64", ptx)) <= 45


def test_samples_in_a_threads_own_memory():
    ptx = ptx_of(simulate_steps, network(), array("float32", 2), types.int64)
    _, stack, *spilled = usage(ptx, "90a")
    assert spilled == [0, 0] and stack == (SIZE + 4) * 4


class OnDevice:
    """The attributes that numba-cuda reads of an array on a device to infer its type."""

    def __init__(self, held):
        self._numba_type_ = types.Array(getattr(types, str(held.dtype)), held.ndim, "C")


@pytest.mark.parametrize(("dtype", "given"), [("float32", "int32"), ("float64", "int64"), ("float32", "uint8")])
def test_kernels_of_networks_that_take_integers(dtype, given):
    function = simulate_single if dtype == "float32" else simulate_double
    ptx = ptx_of(function, network(dtype), array(given, 2), array(dtype, 2))
    registers, stack, *spilled = usage(ptx, "90a")
    assert spilled == [0, 0] and stack == SIZE * ITEMS[dtype] and registers <= 128
    # from memory of any kind
    assert re.search(rf"\sld\.[us]{8 * np.dtype(given).itemsize}\s", ptx)


def test_one_type_for_all_architectures_of_a_dtype():
    from numba.cuda.typing.typeof import typeof

    found = {}
    for dtype in ITEMS:
        for hidden in ([3], [8, 8, 8]):
            layers = [fnn.Dense(n, "relu") for n in hidden]
            model = fnn.Sequential([fnn.Input(4), *layers, fnn.Dense(len(hidden), "softmax")], seed=0, dtype=dtype)
            parameters = model._runtime.parameters.view(dtype)
            code = encode(codes.network(model._runtime.table).make(1), parameters, (4, len(hidden)))
            net = fnp.FrozenDeviceNetwork(*map(OnDevice, code))
            found.setdefault(dtype, set()).add(typeof(net))
    assert found == {dtype: {network(dtype)} for dtype in ITEMS}


def without_workspace(net, states, out):
    fnp.predict(net, states[0], out[0])


def other_workspace(net, states, out):
    fnp.predict(net, states[0], out[0], cuda.local.array(SIZE, numba.int64))


def gradient(net, states, out):
    fnp.input_gradient(net, states[0], out[0], states[0])


def elements(net, states, out):
    out[0, 0] = fnp.workspace_elements(net)


FLAT = array("float32", 2)
CPU = types.NamedTuple(
    (array("int64"), array("float32"), array("uint8"), array("int64"), array("uint8")), fnp.FrozenNetwork
)


@pytest.mark.parametrize(
    ("function", "arguments", "match"),
    [
        (without_workspace, (network(), FLAT, FLAT), "work: expected an array, from numba.cuda.local.array"),
        (other_workspace, (network(), FLAT, FLAT), "work: expected an array of float32"),
        (simulate_single, (network(), array("float64", 2), FLAT), "x: expected an array of float32"),
        (simulate_single, (network(), FLAT, array("int32", 2)), "out: expected an array of float32"),
        (simulate_single, (network(), array("float32", 2, "A"), FLAT), "C-contiguous"),
        (simulate_single, (network("float64"), FLAT, FLAT), "x: expected an array of float64"),
        (simulate_single, (network("int32"), FLAT, FLAT), "parameters: expected the array that fastnn made"),
        (simulate_single, (CPU, FLAT, FLAT), r"from Model\.freeze\(device='cuda'\)"),
        (simulate_single, (types.int64, FLAT, FLAT), "expected a FrozenDeviceNetwork"),
        (gradient, (network(), FLAT, FLAT), "input_gradient has no form for CUDA kernels"),
        (gradient, (CPU, FLAT, FLAT), "input_gradient has no form for CUDA kernels"),
        (elements, (network(), FLAT, FLAT), "workspace_elements has no form for CUDA kernels"),
    ],
)
def test_wrong_types_are_compile_errors(function, arguments, match):
    with pytest.raises(TypingError, match=match):
        ptx_of(function, *arguments)


def test_outputs_that_are_read_only():
    kept = types.Array(types.float32, 2, "C", readonly=True)
    ptx_of(simulate_single, network(), kept, FLAT)
    with pytest.raises(TypingError, match="out: expected an array that can be written to"):
        ptx_of(simulate_single, network(), FLAT, kept)


def test_every_function_but_predict_is_refused():
    refused = {function.__name__ for function in cuda_overloads._OTHERS}
    functions = {name for name in fnp.__all__ if name.islower()}
    assert refused == functions - {"predict"}


def test_functions_for_the_cpu_take_no_network_of_a_gpu():
    @numba.njit
    def call(net, x, out):
        fnp.predict(net, x, out)

    x = np.zeros(3, np.float32)
    net = fnp.FrozenDeviceNetwork(np.zeros(20, np.int64), np.zeros(4, np.float32))
    with pytest.raises(TypingError, match="expected a FrozenNetwork"):
        call(net, x, x)


WIDTH = 0.5


@numba.njit
def snake(x):
    return x + math.sin(WIDTH * x) ** 2 / WIDTH


def squared(target, prediction):
    return np.float32(0.5) * (prediction - target) ** 2


def momentum(p, g, m, learning_rate, step, beta):
    m = beta * m - learning_rate * np.tanh(g)
    return p + m, m


@pytest.mark.parametrize("architecture", ["75", "90a"])
def test_functions_of_users_in_fastnns_kernels(architecture, tmp_path, monkeypatch):
    """Functions that the simulator runs as Python are compiled here, and kept on disk under the function's key."""
    monkeypatch.setattr(cache, "_folder", lambda: tmp_path)
    activation, loss = custom.make("snake", snake, None), custom.make("squared", squared, None)
    update = custom.make("momentum", momentum, slots=1, constants=1)
    wanted = [
        Key("activation", "float32", activation.key), Key("activation_grad", "float32", activation.key),
        Key("matmul", "float64", activation.key, "nn-forward-small"), Key("loss", "float32", loss.key, "thread"),
        Key("optimizer", "float32", update.key),
    ]  # fmt: skip
    for key in wanted:
        for number, stage in enumerate(stages(key)):
            code = machine_code(key, number, stage, architecture)
            assert code.code.startswith(b"\x7fELF") and path_of(key, number, architecture).exists()


def test_usual_kernels_are_compiled_ahead(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cache, "_folder", lambda: tmp_path)
    monkeypatch.setattr(warm_cuda, "_WIDTHS", ((4, 5, 3),))
    monkeypatch.setattr(warm_cuda, "_BATCHES", (2,))
    monkeypatch.setattr(warm, "OPTIMIZERS", ())
    assert main(["warm", "--cuda", "9.0"]) == 0
    printed = capsys.readouterr().out
    count = len(warm_cuda.common(["float32"]))
    assert f"{count} CUDA kernels for sm_90a, {count} to be compiled" in printed
    assert len([path for path in tmp_path.rglob("*-sm_90a-*") if path.is_file()]) == count
    assert main(["warm", "--cuda", "90a"]) == 0
    assert f"{count} CUDA kernels for sm_90a, 0 to be compiled" in capsys.readouterr().out
    for wrong in ("70", "hopper", "9"):
        assert main(["warm", "--cuda", wrong]) == 1
        assert "expected one from 75 on" in capsys.readouterr().err
    assert main(["warm", "--cuda", "99"]) == 1
    assert "kernels for sm_99 cannot be compiled" in capsys.readouterr().err


def test_divisions_are_quick_where_they_may_be():
    """Checked in the assembler's input, since the simulator divides exactly."""
    for op in ("activation", "activation_grad"):
        gelu, softsign = (_ptx(stages(Key(op, "float32", name))[0]) for name in ("gelu", "softsign"))
        assert "div.full.f32" in gelu and "div.rn.f32" not in gelu
        assert "div.full.f32" not in softsign and re.search(r"(div|rcp)\.rn\.f32", softsign)


def test_functions_of_users_that_do_not_compile(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_folder", lambda: tmp_path)
    unknown = custom.make("unknown", lambda x: np.linalg.norm(x), None)
    key = Key("activation", "float32", unknown.key)
    with pytest.raises(ValueError, match="numba-cuda cannot compile the function 'unknown' for float32 numbers"):
        machine_code(key, 0, stages(key)[0], "80")
