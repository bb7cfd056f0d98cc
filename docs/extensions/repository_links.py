"""Sphinx extension: links to files of the repository lead to the pages of the site that show these files.

Markdown below docs stays what a code host shows: ``[music](../examples/music.py)``. Here such links become links to
pages of the gallery and to the pages that show CHANGELOG.md and CONTRIBUTING.md. Other files are offered for download.
"""

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

#: files outside of docs that are pages
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples": "gallery/index.md",
    "examples/README.md": "gallery/index.md",
}
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
_CODE = re.compile(r"(^```.*?^```$|``.+?``|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_WHOLE = re.compile(r"^```\{include\} (\S+)\n```$", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def read(app: Sphinx, docname: str, content: list[str]) -> None:
    """Rewrite the links of a page, and of the files that it includes as a whole."""
    page = Path(app.env.doc2path(docname))
    if page.suffix != ".md":
        return
    root = Path(app.srcdir).parent

    def included(match: re.Match[str]) -> str:
        path = (page.parent / match[1]).resolve()
        app.env.note_dependency(str(path))
        return rewritten(path.read_text(encoding="utf-8"), path.parent, page.parent, root)

    text = rewritten(content[0], page.parent, page.parent, root)
    content[0] = _WHOLE.sub(included, text)


def rewritten(text: str, home: Path, target: Path, root: Path) -> str:
    """Return Markdown of the folder `home` with links that hold in the folder `target`."""

    def moved(match: re.Match[str]) -> str:
        path = Path(os.path.normpath(home / match[1]))
        place = path.relative_to(root).as_posix() if path.is_relative_to(root) else ""
        if place in PAGES:
            path = root / "docs" / PAGES[place]
        elif path.parent == root / "examples" and path.suffix == ".py":
            path = root / "docs" / "gallery" / f"{path.stem}.md"
        return Path(os.path.relpath(path, target)).as_posix() + (match[2] or "")

    parts = _CODE.split(text)
    parts[::2] = [_LINK.sub(moved, part) for part in parts[::2]]
    return "".join(parts)
