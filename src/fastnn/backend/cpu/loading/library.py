"""The library of compiled functions: each is loaded from disk, or else compiled, on first use.

Kernels of fastnn stay for the life of the process. Those of user-defined functions take 4 MB each, and every closure
with new values makes a new one. They stay as long as a program uses them, and the latest ones a while longer.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import llvmlite.binding as llvm

from fastnn.backend.cpu.layouts import shared
from fastnn.backend.cpu.loading import store
from fastnn.backend.cpu.loading.store import ObjectCode
from fastnn.formulas import custom
from fastnn.interrupts import interrupts_later
from fastnn.locks import ForkSafeLock, hold
from fastnn.program.record import KernelKey

T = TypeVar("T")

#: The number of kernels of user-defined functions that stay although no program uses them.
KEPT_UNUSED = 16

# A fork waits for running compilations and loads. It takes the first of these locks first, which every load passes
# through: a thread that compiles one kernel after another would take the second again before the fork gets it.
_gate = ForkSafeLock(held=True)
_lock = ForkSafeLock(held=True)
hold(lambda: getattr(_compiler_lock(), "_lock", None))
hold(lambda: _llvm_lock())
_addresses: dict[str, int] = {}
_announced: set[str] = set()
_statistics = {"compiled": 0, "loaded": 0}


class Loaded:
    """A linked kernel of a user-defined function; its code exists as long as this object.

    Attributes
    ----------
    address : int
        Address of the function.
    calls_python : bool
        Whether the function prints or enters object mode: then it takes the GIL, and runs Python in the middle of a
        program.
    """

    def __init__(self, compiled: ObjectCode, users: custom.CustomFunction) -> None:
        #: the function, so that a network that holds the kernel can still be sent to another process
        self.users = users
        self._engine, self.address = _linked(compiled)
        self._environments = compiled.environments
        for name, environment in compiled.environments:
            variable = self._engine.get_global_value_address(name)
            if variable:
                ctypes.c_void_p.from_address(variable).value = id(environment)
        self.calls_python = bool(compiled.environments)


_users: weakref.WeakValueDictionary[str, Loaded] = weakref.WeakValueDictionary()
_latest: deque[Loaded] = deque(maxlen=KEPT_UNUSED)


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def machine() -> Any:
    """Return LLVM's description of the host."""
    _initialize()
    return llvm.Target.from_default_triple().create_target_machine(jit=True)


def keep_for_good(value: Any) -> None:
    """Never free objects that native code uses: a daemon thread may be in it while the interpreter shuts down."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


# The first bytes of object files on Linux, on macOS, and on Windows for x86 and ARM; LLVM crashes on anything else.
_OBJECT_FILES = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\x64\x86", b"\x64\xaa")
# The C mathematical functions that float64 kernels call.
_MATHEMATICS = (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "pow", "tanh", "sinh", "cosh", "asinh", "acosh", "atanh",
    "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "erf", "erfc", "cbrt", "hypot", "fmod", "ldexp", "fma",
)  # fmt: skip


@functools.cache
def mathematics(platform: str) -> dict[str, int]:
    """Return the addresses of C's mathematical functions, if several libraries in a process have them.

    On Windows the linker uses the first runtime that it finds, and another one once Numba, which has its own,
    is imported: float64 results would differ in their last bits. Elsewhere a process has one such library.
    """
    if platform != "win32":
        return {}
    runtime = ctypes.CDLL("ucrtbase")
    found = {name: getattr(runtime, name, None) for name in _MATHEMATICS}
    return {name: ctypes.cast(f, ctypes.c_void_p).value or 0 for name, f in found.items() if f is not None}


def engine_of(code: bytes) -> Any:
    """Link an object file into this process, for the lifetime of the returned engine.

    A Ctrl-C waits: in the middle of llvmlite's calls, what has been freed or given away would be freed again.
    """
    with interrupts_later():
        return _engine_of(code)


def _engine_of(code: bytes) -> Any:
    for name, where in mathematics(sys.platform).items():
        llvm.add_symbol(name, where)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


def link(compiled: ObjectCode) -> int:
    """Link an object file into this process for good and return the address of its function.

    Raises
    ------
    ValueError
        When it is not an object file for this processor, or does not have the function.
    """
    engine, found = _linked(compiled)
    keep_for_good(engine)
    return found


def _linked(compiled: ObjectCode) -> tuple[Any, int]:
    """Link an object file, for the lifetime of the engine, which is returned with the address of its function."""
    if not compiled.code.startswith(_OBJECT_FILES):
        raise ValueError(f"the code of {compiled.symbol!r} is not an object file")
    for symbol in compiled.needs:
        _announce(symbol)
    try:
        engine = engine_of(compiled.code)
    except RuntimeError as error:
        raise ValueError(f"the object file of {compiled.symbol!r} cannot be linked: {error}") from None
    found = int(engine.get_function_address(compiled.symbol))
    if not found:
        raise ValueError(f"the object file has no function {compiled.symbol!r}")
    return engine, found


def _announce(symbol: str) -> None:
    """Tell LLVM's linker the address of a function that kernels share, loading or compiling it first."""
    if symbol not in _announced:
        llvm.add_symbol(symbol, address(shared.key_of(symbol)))
        _announced.add(symbol)


def _compiler_lock() -> Any:
    """Return the lock of Numba's compiler, which it also holds for users' functions; None without Numba."""
    return getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)


def _llvm_lock() -> Any:
    """Return the lock that each call of LLVM holds."""
    return getattr(getattr(llvm.ffi.lib, "_lock", None), "_lock", None)


def _renew_foreign_locks() -> None:
    """Free the compiler's locks in a child process if the fork could not get them in time."""
    holders: list[Any] = [_compiler_lock(), getattr(llvm.ffi.lib, "_lock", None)]
    for holder in holders:
        lock = getattr(holder, "_lock", None)
        if lock is not None and not lock._is_owned():
            holder._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_foreign_locks)


@contextmanager
def _loading() -> Iterator[None]:
    """Load or compile something while no other thread does, and no fork waits."""
    if not _lock.owned:
        with _gate:
            pass
    with _lock:
        yield


def load(name: str, compile_code: Callable[[], ObjectCode]) -> int:
    """Return the address of the function of a name; compiles it if neither memory nor disk has it."""
    with _loading():
        found = _addresses.get(name)
        if found is None:
            found = _addresses[name] = _made(name, compile_code, link)
        return found


def _made(name: str, compile_code: Callable[[], ObjectCode], use: Callable[[ObjectCode], T], *, keep: bool = True) -> T:
    """Link the code of a name, from disk or else from the compiler.

    Parameters
    ----------
    use : callable
        Links it; raises ValueError if that is not possible.
    keep : bool
        Whether to keep it on disk.
    """
    stored = store.read(name) if keep else None
    if stored is not None:
        try:
            made = use(stored)
        except ValueError:
            pass
        else:
            _statistics["loaded"] += 1
            return made
    compiled = compile_code()
    if keep:
        _keep(name, compiled)
    _statistics["compiled"] += 1
    return use(compiled)


def _keep(name: str, compiled: ObjectCode) -> None:
    # Intel's vector maths, if a user has installed it for Numba, is loaded only with Numba
    if b"__svml_" not in compiled.code and not compiled.environments:
        store.write(name, compiled)


def compile_to_disk(key: KernelKey) -> None:
    """Compile a function for other processes, without linking it here."""
    if not _on_disk(str(key)):
        _keep(str(key), _build(key))


def _build(key: KernelKey) -> ObjectCode:
    # Numba is imported here, and for user-defined functions
    from fastnn.backend.cpu.loading.build import build

    return build(key)


def address(key: KernelKey) -> int:
    """Return the address of a compiled function that is never freed; compiles it if neither memory nor disk has it.

    Parameters
    ----------
    key : KernelKey
        A record's kernel, an elementwise function ("map", "map_grad"), or "run".
    """
    held = borrow(key)
    if held is None:
        return load(str(key), lambda: _build(key))
    if str(key) not in _addresses:
        keep_for_good(held)
        _addresses[str(key)] = held.address
    return held.address


def ready(key: KernelKey) -> Loaded | None:
    """Load or compile a function; a user-defined one is returned, to be held while its address is used."""
    held = borrow(key)
    if held is None:
        address(key)
    return held


def borrow(key: KernelKey) -> Loaded | None:
    """Return the kernel of a user-defined function, to be held while its address is used; None for one of fastnn's."""
    users, name = custom.find(key.variant), str(key)
    if users is None:
        return None
    with _loading():
        found = _users.get(name)
        if found is None:
            _initialize_numba()
            found = _users[name] = _made(
                name, lambda: _build(key), lambda code: Loaded(code, users), keep=users.cacheable
            )
        if found not in _latest:
            _latest.append(found)
        return found


@functools.cache
def _initialize_numba() -> None:
    """Register functions that user-defined code may call with LLVM's linker: memory for arrays, Numba's helpers."""
    from numba.core.registry import cpu_target
    from numba.core.runtime import rtsys

    rtsys.initialize(cpu_target.target_context)


def missing(keys: set[KernelKey]) -> list[KernelKey]:
    """Return the functions that would have to be compiled, in a fixed order, with those that they call."""
    wanted = keys.union(*(shared.shared_by(key) for key in keys))
    return sorted(key for key in wanted if not _is_here(str(key)) and not _on_disk(str(key)))


def _on_disk(name: str) -> bool:
    path = store.path_of(name)
    return path is not None and path.exists()


def _is_here(name: str) -> bool:
    return name in _addresses or name in _users


def statistics() -> dict[str, int]:
    """Return the numbers of functions that this process compiled and loaded from disk."""
    return dict(_statistics)
