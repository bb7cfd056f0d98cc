"""The compilation of a key's function: its factory is found by the op's name."""

from __future__ import annotations

from numba.core.errors import NumbaError

from fastnn.backend.cpu import kernels, native
from fastnn.backend.cpu.codegen.custom_types import explain
from fastnn.backend.cpu.codegen.kernel import KERNELS, Kit
from fastnn.backend.cpu.loading.compile import compile_native
from fastnn.backend.cpu.loading.store import ObjectCode
from fastnn.formulas.custom import find
from fastnn.modules import import_all
from fastnn.program.record import KernelKey

# each module registers its factories on import
for _package in (kernels, native):
    import_all(_package.__name__, _package.__path__)


def build(key: KernelKey) -> ObjectCode:
    """Compile the function of a key.

    Raises
    ------
    ValueError
        When a user-defined function cannot be compiled.
    """
    entry, users = KERNELS[key.op], find(key.variant)
    if users is not None:
        users.check_unchanged()
    try:
        function = entry.factory(Kit(key.op, key.dtype), key.variant)
        return compile_native(function, entry.arguments, returns=entry.returns, runtime=users is not None)
    except NumbaError as error:
        if users is None:
            raise
        assert users.functions[0] is not None
        raise ValueError(f"{explain(users.functions[0], error)} (for {key.dtype} numbers)") from error
