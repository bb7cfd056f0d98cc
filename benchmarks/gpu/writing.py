"""The report on disk: all results as JSON, and as Markdown; each file is replaced atomically."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu import tables
from gpu.events import Found
from gpu.supervise import Plan

LISTED = 100


def paths(out: Path) -> tuple[Path, Path]:
    """Return the JSON and Markdown files; the given path may have one of their suffixes."""
    stem = out.with_suffix("") if out.suffix in (".json", ".md") else out
    return stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.md")


def write(out: Path, sections: Sequence[Found], plan: Plan, seconds: float, allowed: float) -> None:
    """Write both files."""
    numbers, text = paths(out)
    report: dict[str, Any] = {
        "flags": list(plan.flags), "salt": plan.salt, "planned": list(plan.sections), "seconds": seconds,
        "allowed": allowed, "failed": any(found.bad for found in sections),
        "sections": {found.name: found.as_json() for found in sections},
    }  # fmt: skip
    _replace(numbers, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    _replace(text, markdown(report))


def _replace(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(content, encoding="utf-8")
    os.replace(beside, path)


def markdown(report: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    sections = report["sections"]
    lines = ["# fastnn on a GPU", "", *tables.environment(sections.get("environment", {}).get("facts", {})), ""]
    flags = f", with {' '.join(report['flags'])}" if report["flags"] else ""
    lines += [
        f"{report['seconds']:.0f} of {report['allowed']:.0f} s{flags}; "
        + ("**something is wrong, see below**" if report["failed"] else "nothing is wrong in what has run"),
        "",
        "| section | ended | s | of at most s | wrong |",
        "|---|---|---:|---:|---:|",
    ]
    for name in report["planned"]:
        one = sections.get(name)
        if one is None:
            lines.append(f"| {name} | not yet | | | |")
        else:
            wrong = len(one["failures"]) or ("raised" if one["traceback"] else "")
            ended = one["ended"] or f"running: {one['current']}"
            lines.append(f"| {name} | {cell(ended)} | {one['seconds']:.0f} | {one['share']:.0f} | {wrong} |")
    for name in report["planned"]:
        one = sections.get(name)
        if one is not None and name != "environment":
            lines += ["", f"## {name.capitalize()}", "", *_section(name, one)]
    return "\n".join(lines) + "\n"


def _section(name: str, one: dict[str, Any]) -> list[str]:
    body = list(getattr(tables, name)(one)) if one["items"] or one["facts"] else []
    if one["ended"] not in ("done", ""):
        body += ["", f"Ended: {one['ended']}."]
    if one["failures"]:
        body += ["", "Wrong:", "", *(f"- {cell(failure)}" for failure in one["failures"][:LISTED])]
        if len(one["failures"]) > LISTED:
            body += [f"- and {len(one['failures']) - LISTED} more, in the JSON file"]
    for text in one["notes"]:
        body += ["", "```", text, "```"] if "\n" in text else ["", text]
    if one["traceback"]:
        body += ["", "```", one["traceback"].rstrip(), "```"]
    return body[1:] if body and not body[0] else body


def cell(text: str) -> str:
    """Escape a text for a table."""
    return text.replace("|", "\\|").replace("\n", " ")
