"""Modules of a folder whose functions register themselves, such as kernels: they are found, not listed."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TypeVar

F = TypeVar("F")


def import_all(package: str, folders: Iterable[str]) -> None:
    """Import all modules of a package, also those of its subpackages.

    Parameters
    ----------
    package : str
        Its dotted name.
    folders : iterable of str
        Its ``__path__``.
    """
    for found in pkgutil.walk_packages(folders, f"{package}."):
        import_module(found.name)


def entering(table: dict[str, F], names: Iterable[str]) -> Callable[[F], F]:
    """Return a decorator that enters a function into a table under some names."""

    def enter(function: F) -> F:
        table.update(dict.fromkeys(names, function))
        return function

    return enter
