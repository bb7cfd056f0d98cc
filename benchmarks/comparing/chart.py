"""The chart: how many times as long as fastnn every library takes, one panel for each section."""

from __future__ import annotations

import importlib
import importlib.util
import statistics
from pathlib import Path
from typing import Any

TITLES = {
    "training": "Training step",
    "prediction": "Prediction, called from Python",
    "matmul": "Matrix product (geometric means; dots: single shapes)",
    "small matmul": "Small matrix product from compiled code (NumPy: from Python)",
}
# Colours of Okabe and Ito (2008), which people with any colour vision can tell apart.
COLORS = {
    "NumPy": "#0072B2",
    "scikit-learn": "#56B4E9",
    "PyTorch compiled": "#CC79A7",
    "PyTorch": "#D55E00",
    "JAX": "#E69F00",
    "onnxruntime": "#009E73",
    "SciPy": "#56B4E9",
}
OWN = "#444444"
INCHES_A_BAR = 0.19


def need_matplotlib() -> None:
    """Say what to install where matplotlib is missing, before anything is measured; it is imported afterwards."""
    if importlib.util.find_spec("matplotlib") is None:
        raise SystemExit("--chart needs matplotlib: python -m pip install matplotlib")


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw the report that `compare.py` writes as JSON into a PNG file."""
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    panels = [(section, groups) for section in TITLES if (groups := bars(report, section))]
    # Panels fill two columns from the top; a column is as high as its bars need.
    columns: list[list[tuple[str, Groups]]] = [[], []] if len(panels) > 1 else [[]]
    for panel in panels:
        min(columns, key=_size).append(panel)
    height = max(_size(column) for column in columns) * INCHES_A_BAR + 1.3
    figure = pyplot.figure(figsize=(7.2 * len(columns), height), dpi=150)
    grids = figure.add_gridspec(1, len(columns), left=0.14, right=0.97, top=1 - 0.75 / height, bottom=0.6 / height,
                                wspace=0.36)  # fmt: skip
    for grid, column in zip(grids, columns, strict=True):
        heights = [_size([panel]) for panel in column]
        parts = grid.subgridspec(len(column), 1, height_ratios=heights, hspace=0.3)
        for part, (section, groups) in zip(parts, column, strict=True):
            _panel(figure.add_subplot(part), TITLES[section], groups)
    facts = report["environment"]
    figure.suptitle(
        f"Time relative to fastnn (1 = as fast as fastnn, 10 = ten times as long); medians\n{facts['cpu']}, "
        f"{facts['threads']} thread{'s' * (facts['threads'] > 1)} for each library",
        fontsize=11,
    )
    figure.savefig(path)
    pyplot.close(figure)


Groups = dict[str, dict[str, list[float]]]


def bars(report: dict[str, Any], section: str) -> Groups:
    """Return the ratios of each library by the label of the bars; several where shapes are averaged."""
    found: Groups = {}
    for comparison in report["comparisons"]:
        if comparison["section"] != section:
            continue
        label = comparison["group"] if section == "matmul" else comparison["name"]
        for one in comparison["entries"][1:]:
            if one["agrees"]:
                found.setdefault(label, {}).setdefault(one["name"], []).append(one["times as long"])
    return found


def _size(panels: list[tuple[str, Groups]]) -> float:
    """Return the height of panels in bars: one between groups, and four for title and axis."""
    return sum(4 + sum(1 + len(libraries) for libraries in groups.values()) for _, groups in panels)


def _color(library: str) -> str:
    return next((color for name, color in COLORS.items() if library.startswith(name)), "#999999")


def _panel(axes: Any, title: str, groups: Groups) -> None:
    """Draw one panel, from the top down."""
    place, ticks, known = 0.0, [], {}
    every = [ratio for libraries in groups.values() for ratios in libraries.values() for ratio in ratios]
    for label, libraries in groups.items():
        ticks.append((place + (len(libraries) - 1) / 2, label))
        for library, ratios in libraries.items():
            mean = statistics.geometric_mean(ratios)
            known[library] = axes.barh(place, mean - 1.0, left=1.0, height=0.85, color=_color(library))
            if len(ratios) > 1:
                axes.plot(ratios, [place] * len(ratios), "o", markersize=2.5, color="black", alpha=0.5)
            text = f"{mean:.2f}" if mean < 10 else f"{mean:.0f}"
            end = max(mean, 1.0, *(ratios if len(ratios) > 1 else ()))
            axes.annotate(text, (end, place), (3, 0), textcoords="offset points", va="center", fontsize=7)
            place += 1
        place += 1
    axes.axvline(1.0, color=OWN, linewidth=1.2)
    axes.set_xscale("log")
    axes.set_xlim(min(0.7, 0.8 * min(every)), 1.6 * max(every))
    locator = importlib.import_module("matplotlib.ticker")
    axes.xaxis.set_major_locator(locator.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(locator.FormatStrFormatter("%g"))
    axes.xaxis.set_minor_locator(locator.NullLocator())
    axes.tick_params(labelsize=8)
    axes.set_yticks([tick for tick, _ in ticks], [label.replace(", ", "\n", 1) for _, label in ticks])
    axes.set_ylim(place - 1.0, -1.0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(title, fontsize=10, loc="left")
    axes.legend(known.values(), known.keys(), fontsize=7, loc="best", framealpha=0.9)
