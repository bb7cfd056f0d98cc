"""The library of compiled functions: each is loaded from disk, or else compiled, when it is first asked for."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm

from fastnn.backend.cpu import store
from fastnn.backend.cpu.store import ObjectCode
from fastnn.formulas import own
from fastnn.program.program import KernelKey

_lock = threading.RLock()
_addresses: dict[str, int] = {}
_statistics = {"compiled": 0, "loaded": 0}


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def machine() -> Any:
    """Return LLVM's description of the host."""
    _initialize()
    return llvm.Target.from_default_triple().create_target_machine(jit=True)


def keep_for_good(value: Any) -> None:
    """Never free what native code uses: a daemon thread may be in it when the interpreter takes its modules apart."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def engine_of(code: bytes) -> Any:
    """Link an object file into this process, for as long as the engine that is returned."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


def link(symbol: str, code: bytes) -> int:
    """Link an object file into this process for good and return the address of its function."""
    engine = engine_of(code)
    keep_for_good(engine)
    return int(engine.get_function_address(symbol))


def load(name: str, compile_code: Callable[[], ObjectCode], *, keep: bool = True) -> int:
    """Return the address of the function of a name, compiling it when neither memory nor disk has it.

    Parameters
    ----------
    keep : bool
        Whether to keep it on disk.
    """
    with _lock:
        found = _addresses.get(name)
        if found is None:
            stored = store.read(name) if keep else None
            if stored is None:
                compiled = compile_code()
                # Intel's vector maths, where a user has installed it for Numba, is there only beside Numba
                if keep and b"__svml_" not in compiled.code:
                    store.write(name, compiled)
                stored = (compiled.symbol, compiled.code)
                _statistics["compiled"] += 1
            else:
                _statistics["loaded"] += 1
            found = _addresses[name] = link(*stored)
        return found


def _renew_lock() -> None:
    """Make a new lock in a child process: the old one may have been held by a thread that is not there."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def address(key: KernelKey) -> int:
    """Return the address of a compiled function, compiling it when neither memory nor disk has it.

    Parameters
    ----------
    key : KernelKey
        A record's kernel, an elementwise function ("map", "map_grad"), or "run".
    """

    def compile_kernel() -> ObjectCode:
        # Numba is imported here, and for the functions of users
        from fastnn.backend.cpu.kernels import build

        return build(key)

    users = own.find(key.variant)
    if users is not None:
        _initialize_numba()
    return load(str(key), compile_kernel, keep=users is None or users.told)


@functools.cache
def _initialize_numba() -> None:
    """Make what users' functions may call known to LLVM's linker: memory for arrays, helpers of Numba's."""
    from numba.core.registry import cpu_target
    from numba.core.runtime import rtsys

    rtsys.initialize(cpu_target.target_context)


def missing(keys: set[KernelKey]) -> list[KernelKey]:
    """Return the functions that would have to be compiled, in a fixed order."""
    return sorted(key for key in keys if str(key) not in _addresses and not store.path_of(str(key)).exists())


def statistics() -> dict[str, int]:
    """Return how many functions this process compiled and how many it loaded from disk."""
    return dict(_statistics)
