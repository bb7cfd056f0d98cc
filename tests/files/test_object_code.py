"""Compiled kernels neither allocate nor raise nor call Python, as the symbols of their object files show."""

import gc
import struct

import llvmlite.binding as llvm
import pytest
from llvmlite import ir
from numba.core.errors import NumbaError
from numba.core.registry import cpu_target

from cases import CASES
from fastnn.backend.cpu.calls.matmul_call import FUNCTIONS
from fastnn.backend.cpu.codegen.vectors import Lanes
from fastnn.backend.cpu.executor.engine import functions_of
from fastnn.backend.cpu.layouts.shared import shared_by
from fastnn.backend.cpu.loading import library, store
from fastnn.backend.cpu.loading.build import build as compile_kernel
from fastnn.backend.cpu.loading.collection import without_collection
from fastnn.backend.cpu.loading.compile import compile_native
from fastnn.backend.cpu.loading.store import ObjectCode
from fastnn.backend.cpu.processor.blocking import ALGORITHMS, ALLOCATING
from fastnn.backend.cpu.processor.target import is_x86, vector_bytes
from fastnn.backend.cpu.threads.thread_pool import WORKER
from fastnn.formulas.custom import is_custom
from fastnn.program.record import KernelKey
from running import build

MEMORY = {"memset", "memcpy", "memmove"}
LIBM = {
    "exp", "exp2", "expm1", "log", "log2", "log1p", "pow", "tanh", "sinh", "cosh", "sin", "cos", "tan", "erf", "erfc",
    "sqrt", "ceil", "floor", "trunc", "round", "rint", "nearbyint", "fma", "fmod", "fmin", "fmax", "ldexp",
}  # fmt: skip
# The linker resolves this one itself.
LINKER = {"_GLOBAL_OFFSET_TABLE_"}
# Bands of maps that are too large for the scratch memory.
BANDS = {"malloc", "free"}
ALLOWED = MEMORY | LIBM | {f"{name}f" for name in LIBM} | LINKER


def symbols(code: bytes) -> dict[str, bool]:
    """Return the names in the symbol table of a 64-bit ELF object, and whether each is defined there."""
    if code[:5] != b"\x7fELF\x02":
        pytest.skip("object files on this platform are not 64-bit ELF")
    order = "<" if code[5] == 1 else ">"
    (sections_at,) = struct.unpack_from(order + "Q", code, 0x28)
    size, count = struct.unpack_from(order + "HH", code, 0x3A)
    headers = [struct.unpack_from(order + "IIQQQQIIQQ", code, sections_at + i * size) for i in range(count)]
    found = {}
    for _, kind, _, _, at, nbytes, link, _, _, entry in headers:
        if kind != 2:  # SHT_SYMTAB
            continue
        names_at = headers[link][4]
        for symbol_at in range(at, at + nbytes, entry):
            name, _, _, section = struct.unpack_from(order + "IBBH", code, symbol_at)
            text = code[names_at + name : code.index(b"\0", names_at + name)].decode()
            if text:
                found[text] = section != 0
    return found


def offences(compiled: ObjectCode) -> list[str]:
    """Return the forbidden symbols of a kernel: foreign functions, and the exceptions that Numba pickles."""
    allowed = ALLOWED.union(compiled.needs)
    return [
        name
        for name, defined in symbols(compiled.code).items()
        if (not defined and name not in allowed) or "picklebuf" in name or name.startswith(("NRT_", "Py", "numba_"))
    ]


def test_kernels_call_nothing_but_libm():
    keys = {*FUNCTIONS, WORKER} | {
        KernelKey("matmul", dtype, algorithm) for dtype in ("float32", "float64") for algorithm in ALGORITHMS
    }
    for case in CASES:
        for dtype in ("float32", "float64"):
            keys |= functions_of(build(case, dtype))
    keys = keys.union(*(shared_by(key) for key in keys))
    wrong = {}
    # users' functions of arrays may allocate and raise: Numba is initialised for them
    for key in sorted(key for key in keys if not is_custom(key.variant)):
        library.address(key)
        stored = store.read(str(key))
        if stored is None:  # a test of the cache has compiled it into a folder that is gone
            stored = compile_kernel(key)
        assert symbols(stored.code)[stored.symbol]
        assert all(symbols(stored.code)[name] is False for name in stored.needs)
        found = offences(stored)
        if key.op in ALLOCATING:
            found = [name for name in found if name not in BANDS]
        if found:
            wrong[str(key)] = found
    assert not wrong


def test_offences_are_seen():
    def raises(n, m):
        if n > m:
            raise ValueError("n > m")

    def allocates(n, m):
        words = [n, m]
        words.append(n + m)
        return words[m]

    def divides(n, m):
        return n // m

    assert offences(compile_native(raises, 2))
    with pytest.raises(NumbaError, match="NRT required"):
        compile_native(allocates, 2, returns=True)
    assert not offences(compile_native(divides, 2, returns=True))


@pytest.mark.skipif(vector_bytes() < 64, reason="the processor has no vectors of 64 bytes (AVX-512)")
def test_loops_use_the_widest_vectors():
    # a 64-byte load begins with the prefix of AVX-512; in its third byte the bits 5 and 6 are the vector's length
    key = KernelKey("map", "float32", "gelu")
    code = (store.read(str(key)) or compile_kernel(key)).code
    lengths = [code[at + 3] >> 5 & 3 for at in range(len(code) - 6) if code[at] == 0x62]
    assert lengths.count(2) > 50


def test_numbas_own_target_stays():
    codegen = cpu_target.target_context.codegen()
    before = codegen._tm
    compile_native(lambda n: None, 1)
    with pytest.raises(NumbaError):
        compile_native(lambda n: n.nothing, 1)
    assert codegen._tm is before


def test_numba_keeps_no_machine_code_of_kernels():
    codegen = cpu_target.target_context.codegen()
    before = set(codegen._engine._defined_symbols)
    compiled = compile_native(lambda n: None, 1)
    assert compiled.symbol not in codegen._engine._defined_symbols
    assert set(codegen._engine._defined_symbols) == before


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_afterwards_what_it_was(enabled):
    seen = []
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with without_collection():
            seen.append(gc.isenabled())
        compile_native(lambda n: None, 1)
        seen.append(gc.isenabled())
        with pytest.raises(NumbaError):
            compile_native(lambda n: n.nothing, 1)
        seen.append(gc.isenabled())
    finally:
        (gc.enable if before else gc.disable)()
    assert seen == [False, enabled, enabled]


@pytest.mark.skipif(not is_x86(llvm.get_default_triple()), reason="LLVM's host is not x86")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "lanes", "fused"), [("nehalem", 4, 0), ("haswell", 8, 1), ("skylake-avx512", 16, 1)])
def test_products_are_fused_where_the_processor_can_and_call_no_library(name, lanes, fused, dtype):
    lanes = lanes if dtype == "float32" else lanes // 2
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 4), "product")
    v = Lanes(ir.IRBuilder(function.append_basic_block()), dtype, lanes)
    *factors, result = function.args
    v.store(v.fma(*(v.load(at) for at in factors)), result)
    v.builder.ret_void()
    library.machine()
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=name)
    compiled = llvm.parse_assembly(str(module))
    assert machine.emit_assembly(compiled).count("vfmadd") == fused
    assert not [symbol for symbol, defined in symbols(machine.emit_object(compiled)).items() if not defined]
