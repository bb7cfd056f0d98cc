"""The public names of fastnn, and the pages of the reference that `docs/reference.toml` assigns them to."""

import importlib
import inspect
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import fastnn

TABLE = Path(__file__).parents[1] / "reference.toml"


@dataclass
class Entry:
    """An object of the reference.

    Attributes
    ----------
    name : str
        The public name that its page has.
    value : object
    others : list of str
        Its other public names.
    methods : list of str
        The methods and properties that its page shows, if it is a class.
    note : str
        What its page says besides, in reStructuredText.
    """

    name: str
    value: Any
    others: list[str]
    methods: list[str]
    note: str

    @property
    def short(self) -> str:
        """The last part of its name."""
        return self.name.rpartition(".")[2]


@dataclass
class Section:
    """A part of a page: what a module says of itself, if it is public, and objects."""

    title: str
    modules: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)


@dataclass
class Page:
    """A page of the reference: a topic."""

    name: str
    title: str
    about: str
    sections: list[Section]


def table() -> dict[str, Any]:
    """Return docs/reference.toml."""
    with TABLE.open("rb") as file:
        return tomllib.load(file)


def modules() -> dict[str, ModuleType]:
    """Return the public modules by name.

    These are the ones that `fastnn` and its public modules show, and those that the table names besides, because users
    import them by name: `fastnn.sklearn` is no attribute of `fastnn`.
    """
    shown = [f"fastnn.{name}" for name in dir(fastnn)]
    entries = [one for page in table()["page"] for section in page["sections"] for one in section["entries"]]
    by_name = [one for one in entries if one.count(".") == 1 and one not in shown]
    found = {"fastnn": fastnn} | {name: importlib.import_module(name) for name in by_name}
    waiting = [name for name in shown if isinstance(getattr(fastnn, name.partition(".")[2]), ModuleType)] + by_name
    while waiting:
        name = waiting.pop()
        found[name] = module = importlib.import_module(name)
        waiting += [f"{name}.{one}" for one in shown_by(module) if isinstance(getattr(module, one), ModuleType)]
    return dict(sorted(found.items()))


def shown_by(module: ModuleType) -> list[str]:
    """Return a module's public names, in its order, with those that it imports on first use."""
    later = dir(module) if "__dir__" in vars(module) else []
    return list(dict.fromkeys([*module.__all__, *later]))


def objects() -> dict[int, tuple[str, list[str], Any]]:
    """Return of every public object its best name, its other names and itself, by identity."""
    names: dict[int, tuple[list[str], Any]] = {}
    for home, module in modules().items():
        for name in shown_by(module):
            value = getattr(module, name)
            if not isinstance(value, ModuleType):
                names.setdefault(id(value), ([], value))[0].append(f"{home}.{name}")
    found = {}
    for identity, (all_names, value) in names.items():
        own = getattr(value, "__name__", None)
        best, *others = sorted(all_names, key=lambda name: (name.count("."), name.rpartition(".")[2] != own, name))
        found[identity] = best, others, value
    return found


def pages() -> tuple[list[Page], list[str]]:
    """Return the pages of the reference, and the public names that are on none of them."""
    given = table()
    known = objects()
    by_name = {name: each for each in known.values() for name in (each[0], *each[1])}
    common = [(by_name[name][2], text) for name, text in given["common"].items()]
    left = dict(known)
    for name in given["left_out"]["names"]:
        del left[id(by_name[name][2])]
    explicit = [
        id(by_name[one][2])
        for page in given["page"]
        for section in page["sections"]
        for one in section["entries"]
        if one in by_name
    ]
    if len(set(explicit)) != len(explicit):
        raise ValueError("docs/reference.toml: an object is on two pages")
    for identity in explicit:
        del left[identity]

    found = []
    for page in given["page"]:
        sections = []
        for part in page["sections"]:
            methods = part.get("methods", page.get("methods", True))
            section = Section(part["title"])
            for one in part["entries"]:
                if one in by_name:
                    chosen = [id(by_name[one][2])]
                else:
                    chosen = _unclaimed(one, left)
                    if one in modules():
                        section.modules.append(one)
                for identity in chosen:
                    best, others, value = known[identity]
                    shown = _shown(value, given["methods"].get(best, ["*"] if methods else []))
                    section.entries.append(Entry(best, value, others, shown, _note(value, common)))
                    left.pop(identity, None)
            sections.append(section)
        found.append(Page(page["name"], page["title"], page.get("about", ""), sections))
    return found, sorted(best for best, _, _ in left.values())


def _unclaimed(name: str, left: Iterable[int]) -> list[int]:
    module = importlib.import_module(name)
    chosen = [id(getattr(module, one)) for one in shown_by(module)]
    return list(dict.fromkeys(one for one in chosen if one in left))


def _shown(value: Any, chosen: list[str]) -> list[str]:
    return list(members(value)) if chosen == ["*"] and inspect.isclass(value) else chosen


def _note(value: Any, common: list[tuple[type, str]]) -> str:
    bases = value.__mro__[1:] if inspect.isclass(value) else ()
    return " ".join(text for base, text in common if base in bases)


def members(value: type) -> Iterator[str]:
    """Yield the methods and properties that a class's page shows.

    These are the documented ones of the class, and of those of its bases that have no page of their own.
    """
    public = {each for _, _, each in objects().values() if inspect.isclass(each)}
    elsewhere = {base for each in value.__mro__[1:] if each in public for base in each.__mro__}
    found = set()
    for base in value.__mro__:
        if not base.__module__.startswith("fastnn") or base in elsewhere:
            continue
        for name, member in vars(base).items():
            function = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if not (getattr(function, "__module__", None) or base.__module__).startswith("fastnn"):
                continue  # what another library has put into the class
            documented = inspect.isroutine(function) or isinstance(member, property) or hasattr(member, "__set_name__")
            if documented and getattr(member, "__doc__", None) and (name == "__call__" or not name.startswith("_")):
                found.add(name)
    yield from sorted(found)


def public_base(value: type) -> str | None:
    """Return the name of the nearest base that has a page, None if there is none."""
    known = objects()
    return next((known[id(base)][0] for base in value.__mro__[1:] if id(base) in known), None)
