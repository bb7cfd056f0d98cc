"""Compilation of a Python function into relocatable machine code.

The result is an object file and the name of its one function, in Numba's native calling convention
(`status f(result*, error**, arguments...)`). Nothing else is kept: LLVM alone loads an
object file, in processes that never import Numba (benchmarks/startup.py: 12 kernels and the first step in 40 ms).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import config, types
from numba.core import compiler, cpu, registry
from numba.core.compiler_lock import global_compiler_lock

from fastnn.backend.cpu.options import KERNEL_FLAGS
from fastnn.backend.cpu.store import ObjectCode


def compile_native(function: Callable[..., Any], arguments: int, *, returns: bool = False) -> ObjectCode:
    """Compile a function of `arguments` int64 that returns nothing (or an int64).

    Parameters
    ----------
    function : callable
        Plain Python in Numba's nopython language; must not raise.

    Raises
    ------
    RuntimeError
        When Numba's compiler is switched off.
    """
    if config.DISABLE_JIT:
        raise RuntimeError("NUMBA_DISABLE_JIT is set, but fastnn's kernels exist as compiled code only: unset it")
    flags = compiler.Flags()
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.fastmath = cpu.FastMathOptions(set(KERNEL_FLAGS))
    target = registry.cpu_target
    with global_compiler_lock:
        result = compiler.compile_extra(
            target.typing_context,
            target.target_context,
            function,
            (types.intp,) * arguments,
            types.intp if returns else types.void,
            flags,
            {},
        )
        code = result.library._get_compiled_object()
    return ObjectCode(result.fndesc.llvm_func_name, bytes(code))
