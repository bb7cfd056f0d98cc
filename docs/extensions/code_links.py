"""Sphinx extension: code that names something public, such as `fnn.Dense(64)`, becomes a link to its page.

So Markdown and docstrings need no markup for references: backquotes are enough.
"""

import re

from docutils import nodes
from public_names import modules, objects
from sphinx.application import Sphinx

#: what variables of these names hold, in the documents
VARIABLES = {
    "model": ("fastnn.Model", "fastnn.Sequential"),
    "history": ("fastnn.History",),
    "fnn": ("fastnn",),
    "fnp": ("fastnn.nopython",),
}
_NAME = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\(.*\))?", re.DOTALL)
_FILE = re.compile(r"(?:examples/(?P<example>\w+)\.py|docs/(?P<page>[\w-]+)\.md)")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-resolved", _Linker())
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class _Names:
    """Where the objects of the reference are, by all their names."""

    def __init__(self, app: Sphinx) -> None:
        found = app.env.get_domain("py").objects
        self.places = {name: (entry.docname, entry.node_id) for name, entry in found.items()}
        for best, others, _ in objects().values():
            for name in others:
                if best in self.places:
                    self.places.setdefault(name, self.places[best])
        self.modules = [name.removeprefix("fastnn.") for name in modules()]
        # the modules that each object is in, and the objects of each short name
        self.homes = {
            best: {name.rpartition(".")[0] for name in (best, *others)} for best, others, _ in objects().values()
        }
        self.short: dict[str, list[str]] = {}
        for best in self.homes:
            self.short.setdefault(best.rpartition(".")[2], []).append(best)

    def find(self, name: str, docname: str) -> tuple[str, str] | None:
        first, _, rest = name.partition(".")
        candidates = [name] if first == "fastnn" else []
        if rest:
            candidates += [f"{value}.{rest}" for value in VARIABLES.get(first, ())]
            if first in self.modules:
                candidates.append(f"fastnn.{name}")
        if docname.startswith("api/"):
            candidates += self._nearby(name, docname.removeprefix("api/"))
        for candidate in candidates:
            if candidate in self.places:
                return self.places[candidate]
        return None

    def _nearby(self, name: str, here: str) -> list[str]:
        """Return what a name without a module may mean on the page of an object, or of a module."""
        homes = self.homes.get(here, {f"fastnn.{here}"})
        near = [f"{here}.{name}", *(f"{home}.{name}" for home in homes if home != "fastnn")]
        # a lower-case word is more often an argument than something of another module
        if "." in name or name[0].isupper():
            known = self.short.get(name, [])
            near += [f"fastnn.{name}", f"fastnn.layers.{name}", *(known if len(known) == 1 else [])]
        return near


class _Linker:
    """Turns the code of a page that names something into links."""

    names: _Names | None = None

    def __call__(self, app: Sphinx, doctree: nodes.document, docname: str) -> None:
        self.names = self.names or _Names(app)
        for node in list(doctree.findall(nodes.literal)):
            if not _inside(node, (nodes.reference, nodes.title)):
                place = self.place(app, node.astext(), docname)
                if place and place != (docname, docname.removeprefix("api/")):
                    target = app.builder.get_relative_uri(docname, place[0]) if place[0] != docname else ""
                    wrapper = nodes.reference("", "", internal=True, refuri=target + (place[1] and f"#{place[1]}"))
                    node.replace_self(wrapper)
                    wrapper += node

    def place(self, app: Sphinx, text: str, docname: str) -> tuple[str, str] | None:
        """Return the page that some code names, and the place on it; None if there is none."""
        file, match = _FILE.fullmatch(text), _NAME.fullmatch(text)
        if file:
            page = f"gallery/{file['example']}" if file["example"] else file["page"]
            return (page, "") if page in app.env.all_docs else None
        return self.names.find(match[1], docname) if match and self.names else None


def _inside(node: nodes.Node, kinds: tuple[type, ...]) -> bool:
    parent = node.parent
    while parent is not None:
        if isinstance(parent, kinds):
            return True
        parent = parent.parent
    return False
