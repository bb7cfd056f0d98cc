"""Numba's pipeline for kernels and their parts, without passes whose results are unused.

A part is a function that kernels call. LLVM links its intermediate code into them, so it needs no machine code of its
own. Numba would make that, and load it into its own engine, for each part and for each kernel.
"""

from __future__ import annotations

from typing import Any

from llvmlite.binding import ModuleRef
from numba.core import compiler
from numba.core.codegen import JITCodeLibrary
from numba.core.typed_passes import NopythonRewrites
from numba.core.untyped_passes import InlineClosureLikes

# Numba rewrites expressions of arrays, and inlines closures. Kernels have neither, and looking for them
# is a tenth of the time before LLVM.
_NOT_NEEDED = (InlineClosureLikes, NopythonRewrites)


class _NoEngine:
    """A code generator as `JITCodeLibrary` uses it, which has loaded nothing, so that no environment can be set."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, name: str, environment: Any) -> None:
        """Do nothing: `Loaded` sets the environments of kernels that call Python."""


class _Definitions:
    """A module of LLVM whose functions are those that it defines; passes over declarations do nothing."""

    _module: ModuleRef

    def __init__(self, module: ModuleRef) -> None:
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._module, name, value)

    @property
    def functions(self) -> list[Any]:
        return [function for function in self._module.functions if not function.is_declaration]


class Part(JITCodeLibrary):  # type: ignore[misc]
    """The code of a kernel or of a part: optimised, but never turned into machine code nor loaded by Numba."""

    @property
    def codegen(self) -> Any:
        """The code generator."""
        return _NoEngine(self._codegen)

    @property
    def optimised(self) -> Any:
        """LLVM's module after all passes."""
        self._ensure_finalized()
        return self._final_module

    def get_pointer_to_function(self, name: str) -> int:
        """Finish the code; no function can be called from Python."""
        self._ensure_finalized()
        return 0

    def _optimize_functions(self, ll_module: Any) -> None:
        super()._optimize_functions(_Definitions(ll_module))

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


_made: list[Any] = []


def _pass_manager(state: Any) -> Any:
    """Return Numba's pipeline without what kernels do not need, made once: all kernels have the same flags."""
    if not _made:
        made = compiler.PassManager("fastnn kernels")
        for step, description in compiler.DefaultPassBuilder.define_nopython_pipeline(state).passes:
            if step not in _NOT_NEEDED:
                made.add_pass(step, description)
        made.finalize()
        _made.append(made)
    return _made[0]


class Pipeline(compiler.CompilerBase):  # type: ignore[misc]
    """Compiles a kernel or a part of one."""

    def define_pipelines(self) -> list[Any]:
        """Return the passes; the code goes into a `Part`."""
        state = self.state
        if state.library is None:
            state.library = Part(state.targetctx.codegen(), state.func_id.func_qualname)
        return [_pass_manager(state)]
