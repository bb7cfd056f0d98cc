"""HTML for notebooks: tables and parts that open, escaped, in the colours of the page around them."""

from __future__ import annotations

from collections.abc import Sequence

# colours and letters are inherited, so that dark pages stay dark
_TABLE = "border-collapse:collapse;margin:0.3em 0"
_CELL = "padding:0.15em 0.6em"
_SCROLLED = "max-height:30em;overflow:auto"


def escape(text: str) -> str:
    """Return a text as HTML shows it."""
    # its table of names takes longer to import than it is worth to programs that show nothing
    from html import escape

    return escape(text)


def block(*parts: str) -> str:
    """Return parts, which are HTML, one below the other."""
    return f"<div>{''.join(parts)}</div>"


def line(text: str, *, strong: bool = False) -> str:
    """Return a text as a line of its own."""
    return f"<div><strong>{escape(text)}</strong></div>" if strong else f"<div>{escape(text)}</div>"


def table(rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return a table that scrolls if it is long.

    Parameters
    ----------
    rows : sequence of sequence of str
        Texts; the first row is the head.
    numbers : sequence of int
        Columns that are aligned on the right.
    """
    made = []
    for row, cells in enumerate(rows):
        tag = "td" if row else "th"
        sides = ["right" if column in numbers else "left" for column in range(len(cells))]
        made.append(
            "".join(
                f'<{tag} style="text-align:{side};{_CELL}">{escape(cell)}</{tag}>'
                for side, cell in zip(sides, cells, strict=True)
            )
        )
    body = "".join(f"<tr>{row}</tr>" for row in made[1:])
    head = f"<thead><tr>{made[0]}</tr></thead>"
    return f'<div style="{_SCROLLED}"><table style="{_TABLE}">{head}<tbody>{body}</tbody></table></div>'


def opening(title: str, content: str, *, is_open: bool = False) -> str:
    """Return content, which is HTML, below a title that shows and hides it."""
    return f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>{content}</details>"


def verbatim(text: str) -> str:
    """Return a text with its spaces and lines, which scrolls if it is long."""
    style = f"margin:0.3em 0;white-space:pre;background:none;color:inherit;font-size:85%;{_SCROLLED}"
    return f'<pre style="{style}">{escape(text)}</pre>'
