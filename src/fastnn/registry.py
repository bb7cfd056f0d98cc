"""Families of hyperparameter classes: registration, and "name or object" arguments.

``@register("initializer")`` adds a class to a family: then `resolve` finds it by name, and
`fastnn.config` saves and loads its objects.
"""

import dataclasses
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from fastnn import hints
from fastnn.checks import shorten

T = TypeVar("T")
FAMILIES = (
    "layer",
    "activation",
    "initializer",
    "regularizer",
    "constraint",
    "loss",
    "metric",
    "optimizer",
    "schedule",
    "function",
    "preparation",
)
REGISTRY: dict[str, dict[str, type[Any]]] = {family: {} for family in FAMILIES}


def register(family: str) -> Callable[[type[T]], type[T]]:
    """Return a class decorator with which objects of a dataclass can be saved, loaded and found by name.

    Parameters
    ----------
    family : str
        One of `FAMILIES`. The decorator goes above ``@dataclass``.

    Raises
    ------
    ValueError
        If the family is unknown, or contains another class of the same name. (A class that is defined again,
        as in a notebook, replaces itself.)
    TypeError
        If the decorated object is not a dataclass.
    """
    if family not in REGISTRY:
        raise ValueError(f"register: expected a family among {', '.join(FAMILIES)}; got {family!r}")

    def decorate(cls: type[T]) -> type[T]:
        if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
            raise TypeError(f"register: expected a dataclass (put @register above @dataclass); got {cls!r}")
        other = REGISTRY[family].get(cls.__name__)
        if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(
                f"register: the {family} {cls.__name__} of {cls.__module__} has the same name as "
                f"{other.__module__}.{other.__qualname__}"
            )
        REGISTRY[family][cls.__name__] = cls
        hints.explain_arguments(cls)
        return cls

    return decorate


def snake_case(name: str) -> str:
    """Return the snake_case form of a class name: ``HeNormal`` gives ``he_normal``.

    Parameters
    ----------
    name : str
        A name in CapWords.
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def resolve(family: str, value: object, aliases: Mapping[str, str | Callable[[], T]], base: type[T]) -> T:
    """Return the object for a "name or object" argument.

    Parameters
    ----------
    family : str
        One of `FAMILIES`.
    value : str or object of `base`
        A name is the class name, its snake_case form or an alias; case and underscores do not matter. The
        object is then made with the class's defaults.
    aliases : mapping of str to str or function
        More names: each stands for a class name, or for a function without arguments that makes the object.
    base : type
        The class of acceptable objects.

    Raises
    ------
    ValueError
        If the name is unknown, or its class has an argument without a default.
    TypeError
        If the value is neither a string nor an object of `base`.
    """
    article = with_article(family)
    if isinstance(value, base):
        return value
    if isinstance(value, type) and issubclass(value, base):
        raise TypeError(f"expected {article}, got the class {value.__name__}; pass an object: {value.__name__}()")
    if not isinstance(value, str):
        raise TypeError(f"expected {article}, by name or as an object; got {value!r} of type {type(value).__name__}")
    made: dict[str, str | Callable[[], T]] = {_key(name): name for name in REGISTRY[family]}
    made |= {_key(alias): target for alias, target in aliases.items()}
    target = made.get(_key(value))
    if target is None:
        spelled = {_key(name): snake_case(name) for name in REGISTRY[family]}
        spelled |= {_key(alias): alias for alias in aliases}
        raise ValueError(unknown_name(family, value, spelled.values()))
    if not isinstance(target, str):
        return target()
    cls = REGISTRY[family][target]
    required = [f.name for f in dataclasses.fields(cls) if f.init and not has_default(f)]
    if required:
        raise ValueError(f"the {family} {value!r} needs {', '.join(required)}: pass an object, {target}(...)")
    return typing.cast(T, cls())


def unknown_name(what: str, name: object, known: Iterable[str]) -> str:
    """Return the message about an unknown name, with a hint and the known names.

    Parameters
    ----------
    what : str
        The kind of thing that the name should denote.
    name : object
        The given name.
    known : iterable of str
        The existing names.
    """
    names = sorted(set(known))
    elsewhere, close = hints.of_string(str(name)), hints.like(str(name), names)
    hint = f"; there is {elsewhere}." if elsewhere else f"; did you mean {close!r}?" if close else "."
    return f"unknown {what} {shorten(name)}{hint} Known: {', '.join(names) or 'none'}"


def has_default(field: dataclasses.Field[Any]) -> bool:
    """Return whether a dataclass field may be left out.

    Parameters
    ----------
    field : dataclasses.Field
        One of ``dataclasses.fields(cls)``.
    """
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def with_article(noun: str) -> str:
    """Put the indefinite article before a noun.

    Parameters
    ----------
    noun : str
        In the singular.
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _key(name: str) -> str:
    return name.replace("_", "").lower()
