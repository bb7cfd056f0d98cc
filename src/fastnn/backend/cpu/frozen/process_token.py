"""A number that identifies the process, for compiled code: addresses of functions mean nothing in another one.

Arrays with addresses can reach another process: pickled, or as constants that Numba keeps on disk with a user's
function. So code that calls an address from an array first compares the array's token with the process's. A child of
a fork has the same addresses, and the same token. The token detects foreign arrays, not damaged ones: pickles carry a
digest (`sealed.py`), files of Numba's cache do not.
"""

from __future__ import annotations

import os

import llvmlite.binding as llvm

from fastnn.backend.cpu.loading import library
from fastnn.backend.cpu.loading.store import ObjectCode
from fastnn.locks import ForkSafeLock

#: The C function `int64 f()` that returns the token, for functions that Numba compiles.
SYMBOL = "fastnn_process_token"


# above 0, in 62 bits
_TOKEN = int.from_bytes(os.urandom(8), "little") >> 2 | 1
_lock = ForkSafeLock()
_made: list[int] = []


def process_token() -> int:
    """Return the process's token, and register `SYMBOL` with LLVM's linker."""
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
    llvm.add_symbol(SYMBOL, library.link(ObjectCode(SYMBOL, code)))
    return _TOKEN
