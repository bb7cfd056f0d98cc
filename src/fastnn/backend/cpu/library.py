"""The library of compiled functions: each is loaded from disk, or else compiled, when it is first asked for.

Kernels of fastnn stay for the life of the process. Those of users' functions take 4 MB each, and a new one comes with
every closure that holds new values: they stay as long as a program uses them, and the latest ones a while longer.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm

from fastnn.backend.cpu import store
from fastnn.backend.cpu.store import ObjectCode
from fastnn.formulas import own
from fastnn.program.program import KernelKey

#: How many kernels of users' functions stay that no program uses.
KEPT_UNUSED = 16

_lock = threading.RLock()
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
        self._engine, self._environments = engine_of(compiled.code), compiled.environments
        for name, environment in compiled.environments:
            variable = self._engine.get_global_value_address(name)
            if variable:
                ctypes.c_void_p.from_address(variable).value = id(environment)
        self.address = int(self._engine.get_function_address(compiled.symbol))
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


def load(name: str, compile_code: Callable[[], ObjectCode]) -> int:
    """Return the address of the function of a name, compiling it when neither memory nor disk has it."""
    with _lock:
        found = _addresses.get(name)
        if found is None:
            code = _code_of(name, compile_code, keep=True)
            found = _addresses[name] = link(code.symbol, code.code)
        return found


def _code_of(name: str, compile_code: Callable[[], ObjectCode], *, keep: bool) -> ObjectCode:
    """Return the code of a name, from disk unless it is not to be kept there, or else compiled."""
    stored = store.read(name) if keep else None
    if stored is not None:
        _statistics["loaded"] += 1
        return ObjectCode(*stored)
    compiled = compile_code()
    # Intel's vector maths, where a user has installed it for Numba, is there only beside Numba
    if keep and b"__svml_" not in compiled.code and not compiled.environments:
        store.write(name, compiled)
    _statistics["compiled"] += 1
    return compiled


def _renew_lock() -> None:
    """Make a new lock in a child process: the old one may have been held by a thread that is not there."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


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
    with _lock:
        found = _users.get(name)
        if found is None:
            _initialize_numba()
            found = _users[name] = Loaded(_code_of(name, lambda: _build(key), keep=users.told), users)
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
    return sorted(key for key in keys if not _is_here(str(key)) and not store.path_of(str(key)).exists())


def _is_here(name: str) -> bool:
    return name in _addresses or name in _users


def statistics() -> dict[str, int]:
    """Return how many functions this process compiled and how many it loaded from disk."""
    return dict(_statistics)
