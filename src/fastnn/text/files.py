"""Vocabularies as JSON files."""

from __future__ import annotations

import json
import os
from typing import Any

from fastnn.files import write_whole

_VERSION = 1


def write(path: str | os.PathLike[str], kind: str, entries: dict[str, Any]) -> None:
    """Write a vocabulary; raises OSError if the file cannot be written."""
    document = {"format": f"fastnn.text.{kind}", "version": _VERSION, **entries}
    write_whole(os.fspath(path), json.dumps(document, indent=1).encode("ascii"))


def read(path: str | os.PathLike[str], kind: str, entries: dict[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """Read a vocabulary's entries.

    Parameters
    ----------
    entries : dict
        The types of the expected entries, by name.

    Raises
    ------
    ValueError
        If the file holds something else; names it.
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)!r} holds no vocabulary: {error}") from None
    wanted = f"fastnn.text.{kind}"
    found = document.get("format") if isinstance(document, dict) else None
    if found != wanted:
        raise ValueError(f"{os.fspath(path)!r} holds no vocabulary of the format {wanted!r}")
    if document.get("version") != _VERSION:
        raise ValueError(f"{os.fspath(path)!r}: expected version {_VERSION}, got {document.get('version')!r}")
    for name, kinds in entries.items():
        if not isinstance(document.get(name, ...), kinds):
            raise ValueError(f"{os.fspath(path)!r} is damaged: its entry {name!r} is not what it should be")
    return {name: document[name] for name in entries}
