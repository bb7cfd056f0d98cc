"""User-defined scalar functions on a GPU: which can run there, and how they become device functions."""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator
from typing import Any

from fastnn.backend.cuda.codegen.options import formula, helper
from fastnn.formulas import custom, custom_formulas, custom_identity
from fastnn.formulas.custom import CustomFunction

#: ops whose formula may be a user-defined scalar function
SCALAR_OPS = ("activation", "activation_grad", "matmul", "conv", "conv_back", "loss", "optimizer")
_SUBSCRIPTS = {"BINARY_SUBSCR", "BINARY_SLICE", "STORE_SUBSCR"}


def why_not(users: CustomFunction, op: str) -> str | None:
    """Return why a function cannot run in a kernel of an op, or None if it can.

    A kernel can neither raise nor check an index, so a program that ends on the CPU would give garbage on a GPU.
    """
    name = f"the function {users.name!r} is user-defined"
    if op not in SCALAR_OPS:
        return f"{name} and takes arrays"
    for function in users.functions:
        for code in _codes(function, set()) if function is not None else ():
            for each in dis.get_instructions(code):
                if each.opname in _SUBSCRIPTS or (each.opname == "BINARY_OP" and each.argrepr == "[]"):
                    return f"{name} and indexes arrays or tuples"
                if each.opname in ("RAISE_VARARGS", "RERAISE"):
                    return f"{name} and may raise"
    return None


def _codes(function: Any, seen: set[int]) -> Iterator[types.CodeType]:
    """Iterate over the code of a function, of nested ones, and of those reached by global names, cells and modules."""
    plain = getattr(function, "py_func", function)
    if not isinstance(plain, types.FunctionType) or id(plain) in seen:
        return
    seen.add(id(plain))
    codes = list(custom_identity.nested(plain.__code__))
    yield from codes
    names, attributes = set[str](), set[str]()
    for each in (one for code in codes for one in dis.get_instructions(code)):
        if each.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names.add(str(each.argval))
        elif each.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes.add(str(each.argval))
    reached = [plain.__globals__[name] for name in sorted(names) if name in plain.__globals__]
    for cell in plain.__closure__ or ():
        try:
            reached.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    for value in reached:
        yield from _codes(value, seen)
        if isinstance(value, types.ModuleType) and id(value) not in seen:
            seen.add(id(value))
            for name in sorted(attributes):
                yield from _codes(getattr(value, name, None), seen)


def activation(name: str, real: Any) -> tuple[Any, Any] | None:
    """Return a user-defined activation and its gradient as device functions, or None for one of fastnn's."""
    users = custom.find(name)
    return None if users is None else custom_formulas.activation(users, real, formula, helper, helper)


def loss(name: str, real: Any) -> tuple[Any, Any] | None:
    """Return a user-defined loss and its gradient as device functions, or None for one of fastnn's."""
    users = custom.find(name)
    return None if users is None else custom_formulas.loss(users, real, formula, helper, helper)


def update(name: str, real: Any) -> tuple[Any, int] | None:
    """Return a user-defined optimizer as a device function, and its slots; None for one of fastnn's."""
    users = custom.find(name)
    return None if users is None else (custom_formulas.update(users, real, formula, helper), users.slots)
