"""Hints in errors about unknown names and arguments: the counterpart of another library's, or a similar name.

Everything is looked up when an error is made, so hints never affect existing names.
"""

from __future__ import annotations

import difflib
import dis
import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from fastnn.elsewhere import ARGUMENTS, NAMES

F = TypeVar("F", bound=Callable[..., Any])
_MODULES = (
    "fastnn", "fastnn.layers", "fastnn.losses", "fastnn.metrics", "fastnn.optimizers", "fastnn.activations",
    "fastnn.callbacks", "fastnn.initializers", "fastnn.schedules", "fastnn.regularizers", "fastnn.constraints",
    "fastnn.datasets", "fastnn.nopython", "fastnn.testing", "fastnn.cuda", "fastnn.cache",
    "fastnn.applications", "fastnn.inspect", "fastnn.data", "fastnn.text", "fastnn.lora", "fastnn.plot",
    "fastnn.integrations", "fastnn.integrations.optuna",
)  # fmt: skip
_IMPORT_FROM = dis.opmap["IMPORT_FROM"]


def install(module: str, lookup: Callable[[str], object] | None = None, more: Iterable[str] = ()) -> None:
    """Make a module show only its public names, and give hints for unknown names.

    Parameters
    ----------
    module : str
        Its name; it has ``__all__``.
    lookup : function, optional
        Finds more names, and raises ValueError for unknown ones.
    more : iterable of str
        Public names that only `lookup` finds.
    """
    there = sys.modules[module]

    def __getattr__(name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        if lookup is not None:
            try:
                return lookup(name)
            except ValueError:
                pass
        here = inspect.currentframe()
        frame = None if here is None else here.f_back
        if frame is not None and frame.f_code.co_code[frame.f_lasti] == _IMPORT_FROM:
            # Python would turn an AttributeError into an ImportError without its message
            raise ImportError(f"cannot import name {name!r} from {module!r}{of_name(name, module)}", name=name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}{of_name(name, module)}")

    def __dir__() -> list[str]:
        return sorted([*there.__all__, *more])

    for name in there.__all__:
        readable(vars(there)[name])
    # not as definitions: then type checkers would accept any name
    vars(there).update(__getattr__=__getattr__, __dir__=__dir__)


class _Text(str):
    """An annotation that `help` shows without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def readable(value: Any) -> None:
    """Make `help` show the annotations of a function, or of a class's functions, as they are written."""
    if isinstance(value, type):
        for one in value.__mro__:
            if one.__module__.startswith("fastnn."):
                for each in vars(one).values():
                    function = getattr(each, "__func__", each)  # of a static or a class method
                    if inspect.isfunction(function):
                        readable(function)
        return
    written_for = inspect.unwrap(value) if inspect.isfunction(value) else None
    for name, annotation in getattr(written_for, "__annotations__", {}).items():
        written = getattr(annotation, "__forward_arg__", annotation)
        if isinstance(written, str) and written_for is not None:
            written_for.__annotations__[name] = _Text(written)


def of_name(name: str, module: str = "fastnn") -> str:
    """Return a hint for an unknown name of a module, to be appended to a message; "" if there is none."""
    home = _public(module)
    same = [one for one in home if _plain(one) == _plain(name)]
    if same:
        return f"; did you mean {same[0]!r}?"
    if name in NAMES:
        return f"; there is {NAMES[name]}"
    paths = {one: path for each in _MODULES for one, path in _public(each).items()}
    places = list(dict.fromkeys(path for one, path in paths.items() if _plain(one) == _plain(name)))
    if places:
        return f"; there is {places[0]}"
    foreign = [one for one in NAMES if _plain(one) == _plain(name)]
    if foreign:
        return f"; there is {NAMES[foreign[0]]}"
    # a name of another module only if it is more alike
    close = like(name, [*home, *paths]) if like(name, home) else ""
    if close and close in home:
        return f"; did you mean {close!r}?"
    close = close or like(name, paths) or like(name, NAMES)
    if close:
        return f"; did you mean {close!r}? There is {paths[close] if close in paths else NAMES[close]}"
    return ""


def of_string(name: str) -> str:
    """Return the counterpart here of another library's name; "" if there is none."""
    known = {_plain(one): hint for one, hint in NAMES.items()}
    return known.get(_plain(name), "")


def like(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the most similar known name, ignoring case; "" if there is none."""
    plain = {_plain(one): one for one in known}
    close = difflib.get_close_matches(_plain(name[:100]), list(plain), n=1, cutoff=cutoff)
    return plain[close[0]] if close else ""


def explained(function: F) -> F:
    """Make a function's errors give hints for unknown arguments."""
    known: list[str] = []

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if not known:
            parameters = inspect.signature(function).parameters.values()
            open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters)
            known.extend(["**"] if open_ended else [each.name for each in parameters])
        if known != ["**"]:
            for name in kwargs:
                if name not in known:
                    raise TypeError(unknown_argument(function, name, known))
        return function(*args, **kwargs)

    return checked  # type: ignore[return-value]


def explain_arguments(*classes: type[Any]) -> None:
    """Make classes' errors give hints for unknown arguments."""
    for each in classes:
        if "__init__" in vars(each):
            each.__init__ = explained(each.__init__)


def unknown_argument(function: Callable[..., Any], name: str, known: list[str]) -> str:
    """Return the message about an unknown argument, with a hint."""
    what = function.__qualname__.removesuffix(".__init__").replace("Model.__init__", "Model")
    names = [one for one in known if one not in ("self", "cls")]
    # another library's keyword comes before an argument that happens to be similar
    said = ARGUMENTS.get(name, "")
    meant = like(name, names)
    hint = f": {said}" if said else f"; did you mean {meant!r}?" if meant else ""
    return f"{what}() got an unexpected keyword argument {name!r}{hint} (its arguments: {', '.join(names) or 'none'})"


def _public(module: str) -> dict[str, str]:
    """Return the public names of a module, with the best path of each."""
    there = sys.modules.get(module)
    top = set(getattr(sys.modules.get("fastnn"), "__all__", ()))
    found = {}
    for name in getattr(there, "__all__", ()):
        same = name in top and getattr(sys.modules["fastnn"], name, None) is getattr(there, name, None)
        found[name] = f"fastnn.{name}" if same else f"{module}.{name}"
    return found


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
