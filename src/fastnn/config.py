"""Hyperparameter dataclasses to and from JSON.

`to_config` turns an object of a registered class into ``{"class": name, **fields}``, which contains only JSON
values; `from_config` rebuilds it and trusts nothing: it checks each value against its field's annotation.
"""

import contextlib
import dataclasses
import math
import types
import typing
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from fastnn.checks import shorten
from fastnn.registry import REGISTRY, has_default, register, resolve, unknown_name, with_article

__all__ = ["REGISTRY", "from_config", "register", "resolve", "to_config"]

_CALLABLE = "<callable>"
_FLOAT = "<float>"  # infinities and NaN, for which JSON has no number
_DICT = "<dict>"  # because an object of JSON stands for one of a class
_MAX_DEPTH = 50
_SCALARS = (bool, int, float, str, types.NoneType)

_given: ContextVar[Mapping[str, Any]] = ContextVar("given", default=types.MappingProxyType({}))
_collected: ContextVar[dict[str, Any] | None] = ContextVar("collected", default=None)
_known_fields: weakref.WeakKeyDictionary[type[Any], tuple[dict[str, Any], dict[str, tuple[Any, ...]]]] = (
    weakref.WeakKeyDictionary()
)


def to_config(obj: object) -> dict[str, Any]:
    """Return the JSON form of a hyperparameter object.

    Parameters
    ----------
    obj : object of a registered dataclass, or function
        Its fields hold None, booleans, numbers (NumPy's too), strings, registered objects, functions, or
        tuples, lists and dicts of these, by strings.

    Returns
    -------
    dict
        ``{"class": class name, field: value, ...}`` of plain JSON values. A function cannot be stored: it
        becomes ``{"class": "<callable>", "name": its name}``, and has to be passed again to `from_config`.

    Raises
    ------
    TypeError
        If the class is not registered, or a field holds anything else; the message names the field.
    """
    return _config_of(obj, type(obj).__name__, 0)


def from_config(config: object, registry: Mapping[str, type[Any]], where: str) -> Any:
    """Build the object that a configuration describes.

    Parameters
    ----------
    config : dict
        A result of `to_config`, possibly saved as JSON and loaded again.
    registry : mapping of str to type
        The classes to choose from, e.g. ``REGISTRY["layer"]``. Objects in fields are taken from every family
        (and from this registry) as the field's annotation allows.
    where : str
        The place of the configuration, for messages: ``"layers[2]"``.

    Raises
    ------
    ValueError
        For every malformed configuration: a wrong JSON type, a class that is unknown or of another family, an
        unknown, missing or mistyped field, a value that the class refuses, a function that has to be passed
        again. The message begins with the place.
    """
    if not isinstance(config, dict):
        raise ValueError(f'{where}: expected an object with "class" and fields, got {shorten(config)}')
    family = next((name for name, classes in REGISTRY.items() if classes is registry), "class")
    name = _class_name(config, where)
    if name not in registry:
        owner = _family_of(name)
        if owner is not None:
            raise ValueError(f"{where}: expected {with_article(family)}, got {name}, which is {with_article(owner)}")
        raise ValueError(f"{where}: {unknown_name(family, name, registry)}")
    return _build(registry[name], config, registry, where, 0)


def _config_of(obj: object, where: str, depth: int) -> dict[str, Any]:
    cls = type(obj)
    if depth > _MAX_DEPTH:
        raise ValueError(f"{where}: objects are nested more than {_MAX_DEPTH} deep")
    if getattr(cls, "is_custom", False):
        return _name_of_own(obj, where)
    if any(classes.get(cls.__name__) is cls for classes in REGISTRY.values()):
        config: dict[str, Any] = {"class": cls.__name__}
        for field in dataclasses.fields(typing.cast(Any, obj)):
            if field.init:
                config[field.name] = _json_of(getattr(obj, field.name), f"{where}.{field.name}", depth + 1)
        return config
    if callable(obj) and not isinstance(obj, type) and not dataclasses.is_dataclass(obj):
        return {"class": _CALLABLE, "name": str(getattr(obj, "__qualname__", cls.__qualname__))}
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        raise TypeError(
            f"{where}: {cls.__name__} is not registered; decorate it with @register(family) above @dataclass"
        )
    raise TypeError(
        f"{where}: cannot be saved: expected a number, a string, an object of a registered class or a tuple "
        f"of these; got {shorten(obj)} of type {cls.__name__}"
    )


def _json_of(value: object, where: str, depth: int) -> Any:
    if value is None:
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        return number if math.isfinite(number) else {"class": _FLOAT, "value": repr(number)}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, tuple | list):
        if depth > _MAX_DEPTH:
            raise ValueError(f"{where}: values are nested more than {_MAX_DEPTH} deep")
        return [_json_of(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        if depth > _MAX_DEPTH:
            raise ValueError(f"{where}: values are nested more than {_MAX_DEPTH} deep")
        items = [[str(key), _json_of(item, f"{where}[{key!r}]", depth + 1)] for key, item in value.items()]
        return {"class": _DICT, "items": items}
    return _config_of(value, where, depth)


def _build(cls: type[Any], config: dict[Any, Any], registry: Mapping[str, type[Any]], where: str, depth: int) -> Any:
    if getattr(cls, "is_custom", False):
        return _own_of_name(cls, config, where)
    fields, options = _fields_of(cls)
    for name in config:
        if name != "class" and name not in fields:
            raise ValueError(f"{where}: {unknown_name(f'field of {cls.__name__}', name, fields)}")
    missing = [name for name, f in fields.items() if name not in config and not has_default(f)]
    if missing:
        raise ValueError(f"{where}: {cls.__name__} needs the missing field {', '.join(missing)}")
    arguments = {
        name: _parse(config[name], options[name], registry, f"{where}.{name}", depth + 1)
        for name in fields
        if name in config
    }
    try:
        return cls(**arguments)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"{where}: {error}") from error


def _fields_of(cls: type[Any]) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """Return a dataclass' fields, and the alternatives for each value, by name."""
    found = _known_fields.get(cls)
    if found is None:
        # evaluates annotations that are text: this took two thirds of the time to load models of many layers
        hints = typing.get_type_hints(cls)
        fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
        found = _known_fields[cls] = fields, {name: _options(hints[name]) for name in fields}
    return found


def _name_of_own(obj: Any, where: str) -> dict[str, Any]:
    """Return the name of an object with a user-defined function, which cannot be stored."""
    found = _collected.get()
    if found is not None and found.setdefault(obj.name, obj) != obj:
        raise ValueError(f"{where}: two functions have the name {obj.name!r}: give one of them another (name=...)")
    return {"class": type(obj).__name__, "name": obj.name}


def _own_of_name(cls: type[Any], config: dict[Any, Any], where: str) -> Any:
    """Return the object with a name, which the user has to pass."""
    name = config.get("name")
    if set(config) != {"class", "name"} or not isinstance(name, str):
        raise ValueError(f"{where}: expected the name of a user-defined function, got {shorten(config)}")
    given = _given.get().get(name)
    if given is None:
        raise ValueError(
            f"{where}: is the user-defined function {shorten(name)}, which is not stored: pass it, as in "
            f"custom_objects={{{name!r}: ...}}"
        )
    if isinstance(given, cls):
        return given
    try:
        return cls(given)
    except TypeError as error:
        raise ValueError(f"{where}: custom_objects[{name!r}]: {error}") from error


@contextlib.contextmanager
def custom_objects(given: Mapping[str, Any]) -> Iterator[None]:
    """Make `from_config` find user-defined functions by their names.

    Parameters
    ----------
    given : mapping of str to function, or to an object of a class that holds one
    """
    token = _given.set(given)
    try:
        yield
    finally:
        _given.reset(token)


@contextlib.contextmanager
def collecting() -> Iterator[dict[str, Any]]:
    """Make `to_config` fill a dict of the objects with user-defined functions, by their names."""
    found: dict[str, Any] = {}
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def _options(hint: Any) -> tuple[Any, ...]:
    """Flatten an annotation to the alternatives for a value."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(option for part in typing.get_args(hint) for option in _options(part))
    if hint in (Any, object):
        return (*_SCALARS, tuple, object)
    return (hint,)


def _parse(value: object, options: Sequence[Any], registry: Mapping[str, type[Any]], where: str, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError(f"{where}: the configuration is nested more than {_MAX_DEPTH} deep")
    if isinstance(value, dict):
        return _parse_object(value, options, registry, where, depth)
    if isinstance(value, list):
        return _parse_sequence(value, options, registry, where, depth)
    if type(value) in _SCALARS:
        if type(value) in options:
            return value
        if type(value) is int and float in options:
            try:
                return float(value)
            except OverflowError:
                raise ValueError(f"{where}: {shorten(value)} is too large for a float") from None
        choices = [c for o in options if typing.get_origin(o) is typing.Literal for c in typing.get_args(o)]
        if any(type(value) is type(choice) and value == choice for choice in choices):
            return value
    raise _mistyped(value, options, where)


def _parse_sequence(
    value: list[Any], options: Sequence[Any], registry: Mapping[str, type[Any]], where: str, depth: int
) -> tuple[Any, ...]:
    failure = None
    for option in (o for o in options if o is not object):
        origin = typing.get_origin(option) or option
        if origin is not list and not (isinstance(origin, type) and issubclass(tuple, origin)):
            continue
        items = typing.get_args(option) or (Any, ...)
        if origin is not tuple or items[-1] is ...:
            items = (items[0],) * len(value)
        if len(items) != len(value):
            failure = failure or ValueError(f"{where}: expected {len(items)} items, got {shorten(value)}")
            continue
        try:
            return tuple(
                _parse(item, _options(hint), registry, f"{where}[{i}]", depth + 1)
                for i, (item, hint) in enumerate(zip(value, items, strict=True))
            )
        except ValueError as error:
            failure = error
    raise failure or _mistyped(value, options, where)


def _parse_object(
    value: dict[Any, Any], options: Sequence[Any], registry: Mapping[str, type[Any]], where: str, depth: int
) -> Any:
    if value.get("class") == _FLOAT and float in options:
        if value not in ({"class": _FLOAT, "value": text} for text in ("inf", "-inf", "nan")):
            raise ValueError(f"{where}: expected the float inf, -inf or nan; got {shorten(value)}")
        return float(value["value"])
    mappings = [option for option in options if typing.get_origin(option) is Mapping]
    if value.get("class") == _DICT and mappings:
        return _parse_dict(value, mappings[0], registry, where, depth)
    bases = [typing.get_origin(option) or option for option in options]
    bases = [b for b in bases if isinstance(b, type) and b not in (*_SCALARS, tuple, list, Sequence, Mapping)]
    if not bases:
        raise _mistyped(value, options, where)
    name = _class_name(value, where)
    families = (registry, *REGISTRY.values())
    named = {classes[name] for classes in families if name in classes}
    found = [cls for cls in named if issubclass(cls, tuple(bases))]
    if len(found) == 1:
        return _build(found[0], value, registry, where, depth)
    if found:
        raise ValueError(f"{where}: the class name {name!r} is ambiguous here")
    owner = _family_of(name)
    if owner is not None:
        raise ValueError(f"{where}: expected {_describe(options)}, got {name}, which is {with_article(owner)}")
    everything = {cls for classes in families for cls in classes.values()}
    fitting = (cls.__name__ for cls in everything if issubclass(cls, tuple(bases)))
    raise ValueError(f"{where}: {unknown_name('class', name, fitting)}")


def _parse_dict(value: dict[Any, Any], hint: Any, registry: Mapping[str, type[Any]], where: str, depth: int) -> Any:
    """Return a dict by strings, from the pairs that stand for it."""
    items, options = value.get("items"), _options(typing.get_args(hint)[1])
    if set(value) != {"class", "items"} or not isinstance(items, list):
        raise ValueError(f"{where}: expected pairs of a string and a value, got {shorten(value)}")
    found: dict[str, Any] = {}
    for item in items:
        if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], str):
            raise ValueError(f"{where}: expected a pair of a string and a value, got {shorten(item)}")
        found[item[0]] = _parse(item[1], options, registry, f"{where}[{item[0]!r}]", depth + 1)
    return found


def _class_name(config: dict[Any, Any], where: str) -> str:
    name = config.get("class")
    if name == _CALLABLE:
        raise ValueError(
            f"{where}: was the Python function {shorten(config.get('name'))}, which cannot be stored; "
            f"pass it again as the argument {where.rpartition('.')[2]}"
        )
    if not isinstance(name, str):
        raise ValueError(f'{where}: expected an object with "class", a class name; got {shorten(config)}')
    return name


def _mistyped(value: object, options: Sequence[Any], where: str) -> ValueError:
    return ValueError(f"{where}: expected {_describe(options)}, got {shorten(value)} of type {type(value).__name__}")


def _describe(options: Sequence[Any]) -> str:
    names = {types.NoneType: "None", object: "object"}
    return " or ".join(
        names.get(o)
        or (o.__name__ if isinstance(o, type) and not typing.get_args(o) else str(o).replace("typing.", ""))
        for o in options
    )


def _family_of(name: str) -> str | None:
    return next((family for family, classes in REGISTRY.items() if name in classes), None)
