"""The library of compiled functions: each is loaded from disk, or else compiled, when it is first asked for."""

from __future__ import annotations

import ctypes
import functools
import threading
from typing import Any

import llvmlite.binding as llvm

from fastnn.backend.cpu import store
from fastnn.program.program import KernelKey

_lock = threading.RLock()
_addresses: dict[str, int] = {}
_engines: list[Any] = []  # keep the machine code alive
_statistics = {"compiled": 0, "loaded": 0}


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _load(symbol: str, code: bytes) -> int:
    """Link an object file into this process and return the address of its function."""
    _initialize()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(symbol))


def address(key: KernelKey) -> int:
    """Return the address of a compiled function, compiling it when neither memory nor disk has it.

    Parameters
    ----------
    key : KernelKey
        A record's kernel, an elementwise function ("map", "map_grad"), or "run".
    """
    name = str(key)
    with _lock:
        found = _addresses.get(name)
        if found is None:
            stored = store.read(name)
            if stored is None:
                # Numba is imported here and nowhere else
                from fastnn.backend.cpu.kernels import build

                compiled = build(key)
                # Intel's vector maths, where a user has installed it for Numba, is there only beside Numba
                if b"__svml_" not in compiled.code:
                    store.write(name, compiled)
                stored = (compiled.symbol, compiled.code)
                _statistics["compiled"] += 1
            else:
                _statistics["loaded"] += 1
            found = _addresses[name] = _load(*stored)
        return found


def missing(keys: set[KernelKey]) -> list[KernelKey]:
    """Return the functions that would have to be compiled, in a fixed order."""
    return sorted(key for key in keys if str(key) not in _addresses and not store.path_of(str(key)).exists())


def statistics() -> dict[str, int]:
    """Return how many functions this process compiled and how many it loaded from disk."""
    return dict(_statistics)


def native(key: KernelKey, arguments: int) -> Any:
    """Return a compiled function that returns an int64 as a Python callable, which releases the GIL."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * arguments)
    function = prototype(address(key))

    def call(*args: int) -> int:
        result, error = ctypes.c_int64(), ctypes.c_void_p()
        status = function(ctypes.addressof(result), ctypes.addressof(error), *args)
        if status != 0:
            raise RuntimeError(f"the compiled function {key} raised: this is a bug in fastnn")
        return result.value

    return call
