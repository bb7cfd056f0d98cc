"""Compilation of a Python function into relocatable machine code.

The result is an object file and the name of its one function, in Numba's native calling convention
(`status f(result*, error**, arguments...)`). Nothing else is kept: LLVM alone loads an
object file, in processes without Numba (benchmarks/startup.py: 12 kernels and the first step in 40 ms).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
from numba import config, types
from numba.core import compiler, registry
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu import FastMathOptions
from numba.core.environment import lookup_environment

from fastnn.backend.cpu.codegen.options import KERNEL_FLAGS
from fastnn.backend.cpu.codegen.parts import Pipeline
from fastnn.backend.cpu.layouts.shared import PREFIX
from fastnn.backend.cpu.loading.collection import without_collection
from fastnn.backend.cpu.loading.store import ObjectCode
from fastnn.backend.cpu.processor.target import cpu, vector_bytes

# The function with which Numba's code takes the GIL, and the names of variables that point to environments.
_TAKES_GIL = b"numba_gil_ensure"
_ENVIRONMENT = re.compile(rb"_ZN08NumbaEnv[\w$.]+")


def compile_native(
    function: Callable[..., Any], arguments: int, *, returns: bool = False, runtime: bool = False
) -> ObjectCode:
    """Compile a function of `arguments` int64 that returns nothing (or an int64).

    Parameters
    ----------
    function : callable
        Plain Python that Numba's nopython mode can compile.
    runtime : bool
        Whether it may make arrays, or exceptions with values, which need Numba's runtime.

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
    flags.nrt = runtime
    flags.fastmath = FastMathOptions(set(KERNEL_FLAGS))
    target = registry.cpu_target
    codegen = target.target_context.codegen()
    # the collector would look through all of Numba's objects again and again (7 %)
    with global_compiler_lock, without_collection():
        with _widest_vectors(codegen):
            result = compiler.compile_extra(
                target.typing_context,
                target.target_context,
                function,
                (types.intp,) * arguments,
                types.intp if returns else types.void,
                flags,
                {},
                pipeline_class=Pipeline,
            )
            module = result.library.optimised
        code = codegen._tm.emit_object(module)
        needs = {function.name for function in module.functions if function.is_declaration}
    lasting = _made_for(target.target_context) == cpu()
    return ObjectCode(
        result.fndesc.llvm_func_name,
        code,
        needs=tuple(sorted(name for name in needs if name.startswith(PREFIX))),
        lasting=lasting,
        environments=_environments(code),
    )


def _made_for(context: Any) -> tuple[str, str]:
    """Return the processor that Numba compiles for; Numba keeps the features found at its import."""
    codegen = context.codegen()
    return codegen._get_host_cpu_name(), codegen._tm_features


def _environments(code: bytes) -> tuple[tuple[str, Any], ...]:
    """Return Numba's environments for the parts of an object file that call Python: `print`, `objmode`.

    Code reads them from variables, which Numba sets when it links code itself. If they are not set, `print` returns
    an error while it holds the GIL, and the thread then waits for itself.
    """
    if _TAKES_GIL not in code:
        return ()
    names = sorted({name.decode() for name in _ENVIRONMENT.findall(code)})
    found = [(name, lookup_environment(name)) for name in names]
    return tuple((name, environment) for name, environment in found if environment is not None)


@contextmanager
def _widest_vectors(codegen: Any) -> Iterator[None]:
    """Make LLVM use vectors of 64 bytes if the processor has them; for many processors it prefers 32.

    LLVM's choice keeps the clock rate of programs with few wide vectors; our matrix products are full of them anyway.
    gelu of 2048 elements went from 2.5 to 1.8 us, a step of 2-16-16-1 from 2.0 to 1.75. The target machine of
    Numba's passes is replaced during one compilation, which the compiler's lock protects.
    """
    usual = getattr(codegen, "_tm", None)
    if vector_bytes() < 64 or usual is None:
        yield
        return
    options: dict[str, Any] = {"opt": config.OPT}
    codegen._customize_tm_options(options)
    options["features"] += ",-prefer-256-bit"
    codegen._tm = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(**options)
    try:
        yield
    finally:
        codegen._tm = usual
