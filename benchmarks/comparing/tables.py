"""Markdown tables of the measurements: one for each workload, or one of all products, and a summary."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from comparing.race import Comparison, Entry

WRONG = "DISAGREES, so its time is invalid"


def table(comparison: Comparison, threads: int) -> str:
    """Return the table of one workload: median and quartiles in microseconds, and time divided by the first's."""
    entries = comparison.entries
    first, unit = entries[0], comparison.unit
    units = first.count * first.units
    runs = f"{len(first.seconds)} runs" + (f" of {units} {unit}s" if unit == "step" else "")
    lines = [
        f"\n### {comparison.name} ({comparison.group}); {threads} thread{'s' * (threads > 1)}, {runs}\n",
        f"| library | version | µs per {unit} (median) | quartiles | time / {first.name} | off by | |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for one in entries:
        low, high = one.quartiles()
        lines.append(
            f"| {one.name} | {one.version} | {one.median:.4g} | {low:.4g} to {high:.4g} "
            f"| {comparison.ratio(one):.2f} | {one.deviation} | {one.note if one.agrees else WRONG} |"
        )
    return "\n".join([*lines, *([""] if comparison.skipped else []), *comparison.skipped])


def summary(comparisons: Sequence[Comparison]) -> str:
    """Return one table of all workloads: median microseconds, and in brackets the ratio to the first."""
    names = libraries(comparisons)
    unit = {"step": "per training step", "call": "per call"}[comparisons[0].unit]
    lines = [
        f"\n### Microseconds {unit} (and time divided by that of {names[0]})\n",
        "| network | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for comparison in comparisons:
        lines.append(f"| {comparison.name} | {' | '.join(_cells(comparison, names, microseconds))} |")
    return "\n".join(lines)


def products(comparisons: Sequence[Comparison], nanoseconds: bool, threads: int) -> str:
    """Return one table of all matrix products, with geometric means of the ratios by group and of all.

    Parameters
    ----------
    nanoseconds : bool
        Whether to give times of small products instead of GFLOP/s.
    """
    names = libraries(comparisons)
    versions = {one.name: one.version for comparison in comparisons for one in comparison.entries}
    quantity = "Nanoseconds per product" if nanoseconds else "GFLOP/s"
    lines = [
        f"\n### {quantity} ({threads} thread{'s' * (threads > 1)}, {len(comparisons[0].entries[0].seconds)} runs)\n",
        ", ".join(f"{name}: {version}" for name, version in versions.items() if version not in name),
        "\n| product | " + " | ".join(names) + " | spread |",
        "|---|" + "---:|" * (len(names) + 1),
    ]
    value = nanoseconds_of if nanoseconds else rate
    for comparison in comparisons:
        cells = _cells(comparison, names, value)
        spread = max((high - low) / 2 / one.median for one in comparison.entries for low, high in [one.quartiles()])
        lines.append(f"| {comparison.name} | {' | '.join(cells)} | {100 * spread:.0f} % |")
    groups = list(dict.fromkeys(comparison.group for comparison in comparisons))
    for group in groups:
        lines.append(_mean_line(f"geometric mean, {group}", names, [c for c in comparisons if c.group == group]))
    skipped = list(dict.fromkeys(line for comparison in comparisons for line in comparison.skipped))
    return "\n".join([*lines, *([""] if skipped else []), *skipped])


def _mean_line(label: str, names: Sequence[str], comparisons: Sequence[Comparison]) -> str:
    cells = []
    for name in names:
        ratios = [c.ratio(one) for c in comparisons for one in c.entries if one.name == name and one.agrees]
        cells.append(f"**{statistics.geometric_mean(ratios):.2f}**" if ratios else "")
    return f"| {label} | {' | '.join(cells)} | |"


def _cells(comparison: Comparison, names: Sequence[str], value: Callable[[Comparison, Entry], float]) -> list[str]:
    """Return a value for each library, and in brackets its ratio, or "disagrees"."""
    found = {one.name: one for one in comparison.entries}
    cells = []
    for name in names:
        if name not in found:
            cells.append("")
            continue
        one = found[name]
        ratio = f"{comparison.ratio(one):.2f}" if one.agrees else "disagrees"
        cells.append(f"{value(comparison, one):.4g} ({ratio})")
    return cells


def microseconds(comparison: Comparison, one: Entry) -> float:
    """Return the median of an entry."""
    return one.median


def nanoseconds_of(comparison: Comparison, one: Entry) -> float:
    """Return the median of an entry in nanoseconds."""
    return 1e3 * one.median


def rate(comparison: Comparison, one: Entry) -> float:
    """Return the GFLOP/s of an entry."""
    return comparison.flops / one.median / 1e3


def libraries(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the names of the libraries, in order of appearance."""
    return list(dict.fromkeys(one.name for comparison in comparisons for one in comparison.entries))
