"""Sphinx extension: the pages of the reference, one per topic and one per object, made before Sphinx reads them."""

import inspect
import re
from pathlib import Path

from public_names import Entry, Page, pages, public_base
from sphinx.application import Sphinx
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
FOLDER = "api"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write)
    # before numpydoc, which adds markup of its own
    app.connect("autodoc-process-docstring", escape, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write(app: Sphinx) -> None:
    """Write the pages, and warn of public names that are on none of them."""
    made, missing = pages()
    for name in missing:
        LOGGER.warning("docs/reference.toml: no page has the public name %s", name)
    files = {"index.rst": _index(made)}
    for page in made:
        files[f"{page.name}.rst"] = _page(page)
        for section in page.sections:
            files |= {f"{entry.name}.rst": _object(entry) for entry in section.entries}
    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.rst"):
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _index(made: list[Page]) -> str:
    lines = [
        *_title("Reference"),
        "All public names, by topic. :doc:`/interface` has them on one page, without explanations.",
        "",
        ".. py:module:: fastnn",
        "",
    ]
    for page in made:
        names = [entry.name for section in page.sections for entry in section.entries]
        some = ", ".join(f":py:obj:`~{name}`" for name in names[:8]) + (", ..." if len(names) > 8 else "")
        lines += [f":doc:`{page.title} <{page.name}>`", f"   {some}", ""]
    return "\n".join([*lines, *_toctree(page.name for page in made)])


def _page(page: Page) -> str:
    lines = _title(page.title)
    if page.about:
        lines += [page.about, ""]
    current = ""
    for section in page.sections:
        if len(page.sections) > 1:
            lines += [section.title, "-" * len(section.title), ""]
        for module in section.modules:
            lines += [f".. automodule:: {module}", "   :no-members:", ""]
            current = f"{module}."
        lines += [".. autosummary::", "   :nosignatures:", ""]
        # which refuses full names of the module that was shown last
        lines += [*(f"   ~{entry.name.removeprefix(current)}" for entry in section.entries), ""]
    names = (f"{entry.short} <{entry.name}>" for section in page.sections for entry in section.entries)
    return "\n".join([*lines, *_toctree(names)])


def _object(entry: Entry) -> str:
    lines = _title(entry.name)
    if not inspect.isclass(entry.value):
        kind = "autofunction" if inspect.isroutine(entry.value) else "autodata"
        lines += [f".. {kind}:: {entry.name}", ""]
        if kind == "autodata":
            lines += ["   :no-value:", ""]
    else:
        shown = entry.methods
        lines += [f".. autoclass:: {entry.name}"]
        if shown:
            lines += [f"   :members: {', '.join(shown)}", "   :member-order: alphabetical"]
            if "__call__" in shown:
                lines += ["   :special-members: __call__"]
        lines += [""]
        base = public_base(entry.value) if entry.methods else None
        if base:
            lines += [f"   Has what `{base}` has, too.", ""]
        if len(shown) > 1:
            lines += ["   .. autosummary::", "      :nosignatures:", ""]
            lines += [*(f"      ~{entry.short}.{name}" for name in shown), ""]
    if entry.note:
        lines += [entry.note, ""]
    if entry.others:
        lines += ["Other names: " + ", ".join(f"``{name}``" for name in entry.others), ""]
    return "\n".join(lines)


def _title(title: str) -> list[str]:
    return [title, "=" * len(title), ""]


def _toctree(names: object) -> list[str]:
    return [".. toctree::", "   :hidden:", "", *(f"   {name}" for name in names), ""]  # type: ignore[attr-defined]


def escape(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Escape what reStructuredText takes for markup: docstrings have code in backquotes, and no other markup."""
    literal = -1  # the indentation of what introduces the literal block that a line is in
    for number, line in enumerate(lines):
        indentation = len(line) - len(line.lstrip())
        if literal >= 0 and line.strip() and indentation <= literal:
            literal = -1
        if literal < 0 and not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(``.*?``|`[^`]*`)", line)
            parts[::2] = [re.sub(r"(?<!\\)([*|]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
            lines[number] = "".join(parts)
            if line.rstrip().endswith("::"):
                literal = indentation
