"""Modules that are imported on first use, and modules that are found, since their functions register themselves.

Threads that import modules of fastnn at the same time must never wait for each other. Python has a lock for
each module, and files import each other in one direction only. But Python imports a module's package before the
module. If one thread imports a package, which imports its modules, and another thread one of these modules,
they may take the two locks in opposite orders; then Python raises an error in one of them. So the packages that
import their modules are there from the start, as `LatePackage`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from types import FrameType, ModuleType
from typing import Any, TypeVar

from fastnn.locks import ForkSafeLock, imports

F = TypeVar("F")


class LatePackage(ModuleType):
    """A package whose ``__init__.py`` runs when one of its names is first asked for.

    Importing one of its modules does not run it. What needs the whole package, such as all classes of a family, says so
    with `complete`.
    """

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        """The text at the beginning of the file."""
        complete(self)
        found: str | None = vars(self)["__doc__"]
        return found

    def __getattr__(self, name: str) -> Any:
        unknown = name.startswith("__") and name != "__all__"
        # `from package import module` imports a module that it does not find
        if not unknown and asked_by_import(inspect.currentframe()):
            unknown = is_module(self.__name__, name)
        if unknown or not complete(self):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self, name)

    def __dir__(self) -> list[str]:
        complete(self)
        return dir(self) if type(self) is ModuleType else list(vars(self))


#: by package: the lock of the thread that runs its file
_running: dict[str, ForkSafeLock] = {}


def late_packages(parent: str, names: Iterable[str]) -> None:
    """Put packages among the imported modules, without running them.

    Parameters
    ----------
    parent : str
        The package that they are in.
    names : iterable of str
    """
    from importlib.util import find_spec, module_from_spec

    for name in names:
        path = f"{parent}.{name}"
        spec = find_spec(path)
        if spec is not None and path not in sys.modules:
            made = module_from_spec(spec)
            made.__class__ = LatePackage
            _running[path] = ForkSafeLock()
            sys.modules[path] = vars(sys.modules[parent])[name] = made


def complete(module: ModuleType) -> bool:
    """Run a `LatePackage` unless that has been done, and wait for another thread that does.

    Returns
    -------
    bool
        False if the calling thread is running it.
    """
    lock = _running.get(module.__name__)
    if lock is None or type(module) is ModuleType:
        return True
    if lock.owned:
        return False
    with imports, lock:
        spec = module.__spec__
        if type(module) is LatePackage and spec is not None and spec.loader is not None:
            spec.loader.exec_module(module)
            module.__class__ = ModuleType  # type: ignore[assignment]
    return True


def import_later(name: str) -> Any:
    """Import a module on first use, while forks wait, and return it.

    Parameters
    ----------
    name : str
        Its dotted name.
    """
    with imports:
        module = import_module(name)
        complete(module)
    return module


def asked_by_import(frame: FrameType | None) -> bool:
    """Return whether the caller of a frame is ``from package import name``, which asks whether there is the name."""
    caller = None if frame is None else frame.f_back
    return caller is not None and caller.f_globals.get("__name__") == "importlib._bootstrap"


def is_module(package: str, name: str) -> bool:
    """Return whether there is a module of this name, imported or not, in a package that is being used."""
    from importlib.util import find_spec

    return name.isidentifier() and find_spec(f"{package}.{name}") is not None


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
