"""The modules of a package that register something, such as kernels: found, not listed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType


def import_all(package: str, path: Iterable[str]) -> tuple[ModuleType, ...]:
    """Import every module of a package, in the order of their names.

    Parameters
    ----------
    package : str
        Its name; `import_all(__name__, __path__)` in its `__init__`.
    path : iterable of str
        Its folders.
    """
    return tuple(import_module(f"{package}.{name}") for name in sorted(found.name for found in iter_modules(path)))
