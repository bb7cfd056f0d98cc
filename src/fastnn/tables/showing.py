"""Tables as text and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDEST = 90


def as_text(header: str, heads: Sequence[str], lines: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Return a table of aligned columns; long entries are cut."""
    rows = [heads, *([_cut(_plain(entry)) for entry in line] for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    made = ["  ".join([entry.ljust(width) for entry, width in zip(row, widths, strict=True)]).rstrip() for row in rows]
    made.insert(1, "  ".join(["-" * width for width in widths]))
    return "\n".join([header, *made, *(f"note: {_plain(note)}" for note in notes)])


def as_html(header: str, heads: Sequence[str], lines: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Return the same as a table of HTML; texts of the user are escaped."""

    def row(entries: Sequence[str], tag: str) -> str:
        cells = [f'<{tag} style="text-align:left">{escape(entry)}</{tag}>' for entry in entries]
        return f"<tr>{''.join(cells)}</tr>"

    body = "".join([row(line, "td") for line in lines])
    said = "".join([f"<p>{escape(note)}</p>" for note in notes])
    caption = f'<caption style="text-align:left">{escape(header)}</caption>'
    return f"<table>{caption}<thead>{row(heads, 'th')}</thead><tbody>{body}</tbody></table>{said}"


def _plain(text: str) -> str:
    """Return text in one line, without characters that move the cursor."""
    return "".join([letter if letter.isprintable() else "?" for letter in text])


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."
