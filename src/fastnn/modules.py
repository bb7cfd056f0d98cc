"""Modules of a folder that register themselves, such as kernels: they are found, not listed."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module


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
