"""The library of compiled functions: each is loaded from disk, or else compiled, when it is first asked for.

Kernels of fastnn stay for the life of the process. Those of users' functions take 4 MB each, and a new one comes with
every closure that holds new values: they stay as long as a program uses them, and the latest ones a while longer.
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

from fastnn.backend.cpu import store
from fastnn.backend.cpu.store import ObjectCode
from fastnn.formulas import own
from fastnn.locks import ForkSafeLock, hold
from fastnn.program.program import KernelKey

T = TypeVar("T")

#: How many kernels of users' functions stay that no program uses.
KEPT_UNUSED = 16

# A fork waits for what is being compiled or loaded. It asks for the first of these locks first, which every load passes
# through: a thread that compiles one kernel after the other would take the second again before the fork gets it.
_gate = ForkSafeLock(held=True)
_lock = ForkSafeLock(held=True)
hold(lambda: getattr(_compiler_lock(), "_lock", None))
hold(lambda: _llvm_lock())
_addresses: dict[str, int] = {}
_statistics = {"compiled": 0, "loaded": 0}


class Loaded:
    """A linked kernel of a user's function; its code is there for as long as this object.

    Attributes
    ----------
    address : int
        Of the function.
    calls_python : bool
        Whether the function prints or enters object mode: it then takes the GIL, and runs Python in the midst of a
        program.
    """

    def __init__(self, compiled: ObjectCode, users: own.Own) -> None:
        #: the function: what holds the kernel for good can still be sent to another process
        self.users = users
        self._engine, self.address = _linked(compiled.symbol, compiled.code)
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
    engine, found = _linked(symbol, code)
    keep_for_good(engine)
    return found


def _linked(symbol: str, code: bytes) -> tuple[Any, int]:
    """Link an object file, for as long as the engine that is returned with the address of its function."""
    if not code.startswith(_OBJECT_FILES):
        raise ValueError(f"the code of {symbol!r} is no object file")
    try:
        engine = engine_of(code)
    except RuntimeError as error:
        raise ValueError(f"the object file of {symbol!r} cannot be linked: {error}") from None
    found = int(engine.get_function_address(symbol))
    if not found:
        raise ValueError(f"the object file has no function {symbol!r}")
    return engine, found


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


def load(name: str, compile_code: Callable[[], ObjectCode]) -> int:
    """Return the address of the function of a name, compiling it when neither memory nor disk has it."""
    with _loading():
        found = _addresses.get(name)
        if found is None:
            found = _addresses[name] = _made(name, compile_code, lambda code: link(code.symbol, code.code))
        return found


def _made(name: str, compile_code: Callable[[], ObjectCode], use: Callable[[ObjectCode], T], *, keep: bool = True) -> T:
    """Link the code of a name: what the disk has, or else what the compiler makes.

    Parameters
    ----------
    use : callable
        Links it; raises ValueError where that is not possible.
    keep : bool
        Whether it is kept on disk.
    """
    stored = store.read(name) if keep else None
    if stored is not None:
        try:
            made = use(ObjectCode(*stored))
        except ValueError:
            pass
        else:
            _statistics["loaded"] += 1
            return made
    compiled = compile_code()
    # Intel's vector maths, where a user has installed it for Numba, is there only beside Numba
    if keep and b"__svml_" not in compiled.code and not compiled.environments:
        store.write(name, compiled)
    _statistics["compiled"] += 1
    return use(compiled)


def _build(key: KernelKey) -> ObjectCode:
    # Numba is imported here, and for the functions of users
    from fastnn.backend.cpu.kernels import build

    return build(key)


def address(key: KernelKey) -> int:
    """Return the address of a compiled function for good, compiling it when neither memory nor disk has it.

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
    """Load or compile a function; a user's is returned, to be held while its address is used."""
    held = borrow(key)
    if held is None:
        address(key)
    return held


def borrow(key: KernelKey) -> Loaded | None:
    """Return the kernel of a user's function, to be held while its address is used; None for one of fastnn's."""
    users, name = own.find(key.variant), str(key)
    if users is None:
        return None
    with _loading():
        found = _users.get(name)
        if found is None:
            _initialize_numba()
            found = _users[name] = _made(name, lambda: _build(key), lambda code: Loaded(code, users), keep=users.told)
        if found not in _latest:
            _latest.append(found)
        return found


@functools.cache
def _initialize_numba() -> None:
    """Make what users' functions may call known to LLVM's linker: memory for arrays, helpers of Numba's."""
    from numba.core.registry import cpu_target
    from numba.core.runtime import rtsys

    rtsys.initialize(cpu_target.target_context)


def missing(keys: set[KernelKey]) -> list[KernelKey]:
    """Return the functions that would have to be compiled, in a fixed order."""
    return sorted(key for key in keys if not _is_here(str(key)) and not _on_disk(str(key)))


def _on_disk(name: str) -> bool:
    path = store.path_of(name)
    return path is not None and path.exists()


def _is_here(name: str) -> bool:
    return name in _addresses or name in _users


def statistics() -> dict[str, int]:
    """Return how many functions this process compiled and how many it loaded from disk."""
    return dict(_statistics)
