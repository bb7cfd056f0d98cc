"""The library of compiled functions: each is loaded from disk, or else compiled, when it is first asked for."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm

from fastnn.backend.cpu import store
from fastnn.backend.cpu.store import ObjectCode
from fastnn.formulas import own
from fastnn.locks import ForkSafeLock, hold
from fastnn.program.program import KernelKey

# A fork waits for what is being compiled or loaded. It asks for the first of these locks first, which every load passes
# through: a thread that compiles one kernel after the other would take the second again before the fork gets it.
_gate = ForkSafeLock(held=True)
_lock = ForkSafeLock(held=True)
hold(lambda: getattr(_compiler_lock(), "_lock", None))
hold(lambda: _llvm_lock())
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


# How object files begin on Linux, on macOS, and on Windows for x86 and ARM; LLVM crashes on anything else.
_OBJECT_FILES = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\x64\x86", b"\x64\xaa")
# What float64 kernels call of C's mathematics.
_MATHEMATICS = (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "pow", "tanh", "sinh", "cosh", "asinh", "acosh", "atanh",
    "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "erf", "erfc", "cbrt", "hypot", "fmod", "ldexp", "fma",
)  # fmt: skip


@functools.cache
def mathematics(platform: str) -> dict[str, int]:
    """Return the addresses of C's mathematical functions where several libraries in a process have them.

    On Windows the linker finds those of whichever runtime it meets first, and others once Numba is imported, which has
    its own: float64 results would differ in their last bits. Elsewhere a process has one such library.
    """
    if platform != "win32":
        return {}
    runtime = ctypes.CDLL("ucrtbase")
    found = {name: getattr(runtime, name, None) for name in _MATHEMATICS}
    return {name: ctypes.cast(f, ctypes.c_void_p).value or 0 for name, f in found.items() if f is not None}


def engine_of(code: bytes) -> Any:
    """Link an object file into this process, for as long as the engine that is returned."""
    for name, where in mathematics(sys.platform).items():
        llvm.add_symbol(name, where)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


def link(symbol: str, code: bytes) -> int:
    """Link an object file into this process for good and return the address of its function.

    Raises
    ------
    ValueError
        When it is no object file for this processor, or has no such function.
    """
    if not code.startswith(_OBJECT_FILES):
        raise ValueError(f"the code of {symbol!r} is no object file")
    try:
        engine = engine_of(code)
    except RuntimeError as error:
        raise ValueError(f"the object file of {symbol!r} cannot be linked: {error}") from None
    found = int(engine.get_function_address(symbol))
    if not found:
        raise ValueError(f"the object file has no function {symbol!r}")
    keep_for_good(engine)
    return found


def _compiler_lock() -> Any:
    """Return the lock that Numba's compiler runs under, also for functions of the user's; None without Numba."""
    return getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)


def _llvm_lock() -> Any:
    """Return the lock that each call of LLVM runs under."""
    return getattr(getattr(llvm.ffi.lib, "_lock", None), "_lock", None)


def _renew_foreign_locks() -> None:
    """Free the compiler's locks in a child process, where a fork has waited for them in vain."""
    holders: list[Any] = [_compiler_lock(), getattr(llvm.ffi.lib, "_lock", None)]
    for holder in holders:
        lock = getattr(holder, "_lock", None)
        if lock is not None and not lock._is_owned():
            holder._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_foreign_locks)


@contextmanager
def _loading() -> Iterator[None]:
    """Load or compile something, while no other thread does, nor a fork is waiting to."""
    if not _lock.owned:
        with _gate:
            pass
    with _lock:
        yield


def load(name: str, compile_code: Callable[[], ObjectCode], *, keep: bool = True) -> int:
    """Return the address of the function of a name, compiling it when neither memory nor disk has it.

    Parameters
    ----------
    keep : bool
        Whether to keep it on disk.
    """
    with _loading():
        found = _addresses.get(name)
        if found is None:
            found = _addresses[name] = (_stored(name) if keep else None) or _compiled(name, compile_code, keep)
        return found


def _stored(name: str) -> int | None:
    """Return the address of a function that the disk has, None where it has none or one that cannot be linked."""
    stored = store.read(name)
    if stored is None:
        return None
    try:
        found = link(*stored)
    except ValueError:
        return None
    _statistics["loaded"] += 1
    return found


def _compiled(name: str, compile_code: Callable[[], ObjectCode], keep: bool) -> int:
    compiled = compile_code()
    # Intel's vector maths, where a user has installed it for Numba, is there only beside Numba
    if keep and b"__svml_" not in compiled.code:
        store.write(name, compiled)
    _statistics["compiled"] += 1
    return link(compiled.symbol, compiled.code)


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
    if users is None:
        return load(str(key), compile_kernel)
    with _loading():
        _initialize_numba()
        return load(str(key), compile_kernel, keep=users.told)


@functools.cache
def _initialize_numba() -> None:
    """Make what users' functions may call known to LLVM's linker: memory for arrays, helpers of Numba's."""
    from numba.core.registry import cpu_target
    from numba.core.runtime import rtsys

    rtsys.initialize(cpu_target.target_context)


def missing(keys: set[KernelKey]) -> list[KernelKey]:
    """Return the functions that would have to be compiled, in a fixed order."""
    return sorted(key for key in keys if str(key) not in _addresses and not _on_disk(str(key)))


def _on_disk(name: str) -> bool:
    path = store.path_of(name)
    return path is not None and path.exists()


def statistics() -> dict[str, int]:
    """Return how many functions this process compiled and how many it loaded from disk."""
    return dict(_statistics)
