"""Print the table of all ops, as in docs/ops.md: ``python -m fastnn.ops``."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module

import fastnn.ops
from fastnn.ops.definition import NUMPY_NAMES

_HEAD = """# Ops on symbols

`fastnn.ops` has functions of symbols: of what `fastnn.Input` and layers give, and of the arguments of functions of your
own ([layers, losses, metrics](symbols.md)). Names and broadcasting are NumPy's; the batch axis is axis
0. Python's operators `+ - * / % ** @ < <= > >= == != ~ & | []` do the same. `python -m fastnn.ops` makes this page.
"""


def rows_of(module: str) -> list[tuple[str, str, str]]:
    """Return for each op of a module its call, NumPy's name, and what it returns."""
    found = []
    for name in import_module(f"fastnn.ops.{module}").__all__:
        function = getattr(fastnn.ops, name)
        taken = ", ".join(_parameter(one) for one in inspect.signature(function).parameters.values())
        there = NUMPY_NAMES[name]
        plain = "" if not there else f"`{there}`" if "." in there or " " in there else f"`numpy.{there}`"
        text = (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        found.append((f"`{name}({taken})`", plain, text.removeprefix("Return ")))
    return found


def _parameter(one: inspect.Parameter) -> str:
    star = "*" if one.kind is one.VAR_POSITIONAL else ""
    return f"{star}{one.name}" + ("" if one.default is one.empty else f"={one.default!r}")


def page() -> str:
    """Return the text of docs/ops.md."""
    parts = [_HEAD]
    for module in (
        "elementwise", "activations", "reductions", "products", "windows", "shapes", "indexing", "random", "gradients",
    ):  # fmt: skip
        about = (import_module(f"fastnn.ops.{module}").__doc__ or "").strip()
        parts.append(f"## {module.capitalize()}\n\n{about}\n\n| op | NumPy | returns |\n|---|---|---|")
        parts.append("\n".join(f"| {call} | {numpy} | {text} |" for call, numpy, text in rows_of(module)) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
