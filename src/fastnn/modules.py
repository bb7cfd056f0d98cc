"""Imports of modules that are named by text: on first use, or all of a folder, whose functions register themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, TypeVar

from fastnn.locks import importing

F = TypeVar("F")


def import_later(name: str) -> Any:
    """Import a module on first use, and return it.

    A fork waits meanwhile. One thread at a time does this. Python has locks for single modules, too, but a thread that
    imports a package and one that imports a module of it may take them in opposite orders; then one of the two imports
    fails.

    Parameters
    ----------
    name : str
        Its dotted name.
    """
    with importing:
        return import_module(name)


def import_all(package: str, folders: Iterable[str]) -> None:
    """Import all modules of a package, also those of its subpackages.

    Parameters
    ----------
    package : str
        Its dotted name.
    folders : iterable of str
        Its ``__path__``.
    """
    import pkgutil

    for found in pkgutil.walk_packages(folders, f"{package}."):
        import_module(found.name)


def entering(table: dict[str, F], names: Iterable[str]) -> Callable[[F], F]:
    """Return a decorator that enters a function into a table under some names."""

    def enter(function: F) -> F:
        table.update(dict.fromkeys(names, function))
        return function

    return enter
