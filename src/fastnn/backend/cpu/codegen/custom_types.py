"""Checks whether Numba can infer the types of a user-defined function, and the message if it cannot.

Only types are inferred, nothing is compiled (except helpers that the function calls, which Numba compiles to know
their return types): 5 to 30 ms per function, once Numba is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np
from numba import config, types
from numba.core import compiler, typed_passes
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import AnalysisPass, PassManager, register_pass
from numba.core.errors import NumbaError, UnsupportedBytecodeError
from numba.core.registry import cpu_target

from fastnn.backend.cpu.codegen.options import users
from fastnn.formulas.custom import CustomFunction

# a function's arguments, for messages about impossible uses of them
_GIVEN = {
    "activation": "an activation gets one number; what needs a whole row is a layer, fastnn.layers.Custom",
    "loss": "a loss gets one number of the target and one of the prediction; fastnn takes the mean of what it returns",
    "optimizer": "an optimizer gets the numbers of one parameter: its value, its gradient, its state",
    "layer": "a layer's function gets arrays of one axis: a row of inputs, and the row of outputs, which it fills",
}
_REDUCTIONS = {
    "all", "amax", "amin", "any", "argmax", "argmin", "average", "cumprod", "cumsum", "max", "mean", "median", "min",
    "nanmax", "nanmean", "nanmin", "nanstd", "nansum", "nanvar", "prod", "ptp", "std", "sum", "var",
}  # fmt: skip
_FOR_NUMBERS = {"where": "a if condition else b", "clip": "min(max(x, low), high)"}
_OWN_FOLDERS = (Path(numba.__file__).parent, Path(__file__).parents[2])


class _Unfit(Exception):
    """Types exist, but are not those of a formula."""


@register_pass(mutates_CFG=False, analysis_only=True)
class _Keep(AnalysisPass):  # type: ignore[misc]
    """Make the inferred types the result of the pipeline."""

    _name = "fastnn_keep_types"

    def __init__(self) -> None:
        AnalysisPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        state.cr = state.return_type, state.typemap, state.calltypes
        return False


class _Types(compiler.CompilerBase):  # type: ignore[misc]
    """Numba's pipeline up to the types."""

    def define_pipelines(self) -> list[Any]:
        passes = PassManager("types")
        passes.passes.extend(compiler.DefaultPassBuilder.define_untyped_pipeline(self.state).passes)
        passes.add_pass(typed_passes.NopythonTypeInference, "type inference")
        passes.add_pass(_Keep, "keep the types")
        passes.finalize()
        return [passes]


def check(custom: CustomFunction, kind: str) -> None:
    """Check the functions of a formula or a layer.

    A function for one dtype only (using its bits, for example) passes if its types can be inferred for that dtype.

    Parameters
    ----------
    kind : str
        "activation", "loss", "optimizer" or "layer".

    Raises
    ------
    ValueError
        When Numba cannot compile a function for float32 nor for float64, or it does not return numbers.
    """
    if config.DISABLE_JIT:
        return
    for function, derivative in zip(custom.functions, (False, True), strict=False):
        if function is not None:
            arguments = _arguments(custom, kind, derivative)
            error = _error(function, arguments(types.float32), custom, kind)
            if error is not None and _error(function, arguments(types.float64), custom, kind) is not None:
                raise ValueError(explain(function, error, kind)) from None


def _arguments(custom: CustomFunction, kind: str, derivative: bool) -> Callable[[Any], tuple[Any, ...]]:
    def of(real: Any) -> tuple[Any, ...]:
        if kind != "layer":
            return (real,) * {"activation": 1, "loss": 2, "optimizer": 4 + custom.slots + custom.constants}[kind]
        row = types.Array(real, 1, "C")
        weights = (types.Array(real, len(custom.shape), "C"),) if custom.weighted else ()
        outputs = (row,) * max(len(custom.units), 1)
        return (row, *weights, *outputs, row, *weights) if derivative else (row, *weights, *outputs)

    return of


def _error(
    function: Callable[..., Any], arguments: tuple[Any, ...], custom: CustomFunction, kind: str
) -> Exception | None:
    """Return the error of a function for arguments of these types, or None."""
    flags = compiler.Flags()
    flags.error_model = "numpy"
    flags.boundscheck = True
    flags.nrt = kind == "layer"  # as they are compiled: scalar functions have no memory for arrays
    contexts = cpu_target.typing_context, cpu_target.target_context
    # arguments that have defaults, or are gathered by *names
    _, folded = users(function).fold_argument_types(arguments, {})  # type: ignore[attr-defined]
    with global_compiler_lock:
        for context in contexts:
            context.refresh()
        pipeline = _Types(*contexts, None, folded, None, flags, {})
        try:
            result, typemap, calltypes = pipeline.compile_extra(function)
            _check_calls(typemap, calltypes)
            if kind != "layer":
                _check_result(result, custom.slots + 1 if kind == "optimizer" else 1)
        except (NumbaError, UnsupportedBytecodeError, _Unfit) as error:
            return error
        except Exception as error:
            # as in math.sinus(x); anything else is a change in Numba: compilation will show the error
            return error if isinstance(getattr(error, "obj", None), ModuleType) else None
    return None


def _check_calls(typemap: Any, calltypes: Any) -> None:
    """Refuse NumPy's array functions on a single number, which would return the number unchanged."""
    for call, signature in calltypes.items():
        if getattr(call, "op", "") == "call" and signature is not None and signature.args:
            called = getattr(typemap[call.func.name], "typing_key", None)
            name = getattr(called, "__name__", "")
            if name in _REDUCTIONS and called is getattr(np, name, None) and _is_number(signature.args[0]):
                place = f'File "{call.loc.filename}", line {call.loc.line}:'
                raise _Unfit(f"np.{name} is called with one number, not with an array\n{place}")


def _check_result(result: Any, count: int) -> None:
    wanted = "one number" if count == 1 else f"a tuple of {count} numbers"
    if isinstance(result, types.NoneType | types.Optional):
        when = "" if isinstance(result, types.NoneType) else "sometimes "
        raise _Unfit(f"it {when}returns nothing, expected {wanted}")
    numbers = (result,) if count == 1 else getattr(result, "types", ())
    if len(numbers) != count or not all(_is_number(each) for each in numbers):
        raise _Unfit(f"it returns {_readable(str(result))}, expected {wanted}")


def _is_number(value: Any) -> bool:
    return isinstance(value, types.Integer | types.Float | types.Boolean)


# --- messages ------------------------------------------------------------------------------------------------------


def explain(function: Callable[..., Any], error: Exception, kind: str = "") -> str:
    """Return one sentence on why a function cannot be compiled: its name, the line, and the core of Numba's message."""
    text = re.sub(r"\x1b\[[\d;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines()]
    said = _heart(lines) or type(error).__name__
    path, line = _place(text) or (function.__code__.co_filename, function.__code__.co_firstlineno)
    hint = _hint(said, text, kind)
    cannot = "fastnn cannot use" if isinstance(error, _Unfit) else "Numba cannot compile"
    return f"{cannot} the function {function.__name__!r} ({Path(path).name}, line {line}): {said}{hint}"


def _heart(lines: list[str]) -> str:
    """Return the line with the error, without Numba's lists of passes and candidates."""
    told = [line for line in lines if line and not line.startswith("Failed in ")]
    if not told:
        return ""
    first = told[0]
    for line in lines:
        if first.startswith(("No implementation of function", "Invalid use of")) and line.startswith(">>>"):
            # Numba 0.61 has no reductions of one number, and prints NumPy's functions without their module
            name = re.match(r">>> (\w+)\(", line)
            numpys = name is not None and name[1] in _REDUCTIONS and f"<function {name[1]} at" in first
            return f"there is no {'np.' if numpys else ''}{_readable(line[3:].strip())}"
        if first.startswith("Cannot unify") and line.startswith("Cannot unify"):
            return _readable(line)
    return _readable(re.sub(r"\.*\s*Raised from.*", "", first).rstrip("."))


def _readable(text: str) -> str:
    """Name types as Python and NumPy do."""
    text = re.sub(r"Literal\[\w+\]\(([^()]*)\)", r"\1", text)
    text = re.sub(r"<(?:built-in )?function (\w+)[^>]*>", r"\1", text)
    return re.sub(r"\b(?:reflected |unaligned |readonly )", "", text)


def _place(text: str) -> tuple[str, int] | None:
    """Return the first line of user code that a message names."""
    for match in re.finditer(r'File "([^"]+)", line (\d+)|\bat (\S+\.py|<\S+>|/\S+) \((\d+)\)', text):
        path, line = match[1] or match[3], int(match[2] or match[4])
        full = Path(path).resolve()
        if not any(full.is_relative_to(folder) for folder in _OWN_FOLDERS):
            return path, line
    return None


def _hint(said: str, text: str, kind: str) -> str:
    name = re.search(r"Untyped global name '?(\w+)'?", text)
    if name is not None:
        if "<class 'function'>" in text and name[1] not in ("jit", "njit"):
            return f"; {name[1]!r} is plain Python: put @numba.njit above it, so that compiled code can call it"
        return f"; Numba cannot use {name[1]!r} in compiled code"
    helper = re.search(r"Unknown attribute '(\w+)' of type Module", text)
    if helper is not None:
        return f"; compiled code can call what Numba knows, and functions with @numba.njit ({helper[1]!r} is neither)"
    called = re.match(r"there is no (where|clip)\(", said)
    if called is not None and kind != "layer":
        return f"; for numbers write `{_FOR_NUMBERS[called[1]]}`"
    # numbers instead of arrays
    given = r"float(32|64)\b|array\(" if kind == "layer" else r"(?<!array\()float(32|64)\b|one number"
    fits = said.startswith(("there is no", "Unknown attribute", "np.", "Invalid", "No ")) and re.search(given, text)
    return f"; {_GIVEN[kind]}" if kind and fits else ""
