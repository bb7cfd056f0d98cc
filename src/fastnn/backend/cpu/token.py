"""A number that tells one process from another, for compiled code: addresses of functions mean nothing elsewhere.

Arrays that hold addresses travel: pickled, or as constants that Numba keeps on disk with a user's function. So what
calls an address out of an array first compares the array's token with the process's. A child of a fork has the same
addresses, and the same token.
"""

from __future__ import annotations

import os
import threading

import llvmlite.binding as llvm

from fastnn.backend.cpu import library

#: The C function `int64 f()` that gives the token, for functions that Numba compiles.
SYMBOL = "fastnn_process_token"


# above 0, in 62 bits
_TOKEN = int.from_bytes(os.urandom(8), "little") >> 2 | 1
_lock = threading.RLock()
_made: list[int] = []


def _renew_lock() -> None:
    """Make a new lock in a child process: the old one may have been held by a thread that is not there."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def process_token() -> int:
    """Return the process's token, and make `SYMBOL` known to LLVM's linker."""
    if not _made:
        with _lock:
            if not _made:
                _made.append(_make())
    return _made[0]


def _make() -> int:
    from llvmlite import ir

    module, word = ir.Module(SYMBOL), ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(word, []), SYMBOL)
    ir.IRBuilder(function.append_basic_block()).ret(word(_TOKEN))
    code = library.machine().emit_object(llvm.parse_assembly(str(module)))
    llvm.add_symbol(SYMBOL, library.link(SYMBOL, code))
    return _TOKEN
