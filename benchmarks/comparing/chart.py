"""The chart: every library's time divided by fastnn's, one panel for each section."""

from __future__ import annotations

import importlib
import importlib.util
import statistics
from pathlib import Path
from typing import Any

TITLES = {
    "training": "Training step",
    "many": "Training step of one of many networks",
    "prediction": "Prediction, called from Python",
    "compiled": "One sample: fastnn from compiled code, others from Python",
    "matmul": "Matrix product (geometric means; dots: single shapes)",
    "small matmul": "Small matrix product from compiled code (NumPy: from Python)",
}
# Colours of Okabe and Ito (2008), which people with any colour vision can distinguish.
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
# Inches: a bar, the head of the page, the margins of a panel, a column, and the labels in it.
BAR, HEAD, GAP, COLUMN, LABELS = 0.18, 0.35, 0.95, 7.4, 1.7


def need_matplotlib() -> None:
    """Say what to install if matplotlib is missing, before anything is measured; it is imported afterwards."""
    if importlib.util.find_spec("matplotlib") is None:
        raise SystemExit("--chart needs matplotlib: python -m pip install matplotlib")


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw the report that `compare.py` writes as JSON into a PNG file."""
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    panels = [(section, groups) for section in TITLES if (groups := bars(report, section))]
    columns: list[list[tuple[str, Groups]]] = [panels[::2], panels[1::2]] if len(panels) > 1 else [panels]
    height = HEAD + max(sum(_inches(groups) + GAP for _, groups in column) for column in columns)
    width = COLUMN * len(columns)
    figure = pyplot.figure(figsize=(width, height), dpi=150)
    for number, column in enumerate(columns):
        top = height - HEAD
        for section, groups in column:
            top -= GAP
            place = (number * COLUMN + LABELS, top - _inches(groups), COLUMN - LABELS - 0.4, _inches(groups))
            axes = figure.add_axes([size / (width, height)[index % 2] for index, size in enumerate(place)])
            _panel(axes, TITLES[section], groups)
            top -= _inches(groups)
    facts = report["environment"]
    title = "Time divided by fastnn's: 1 takes as long as fastnn, 10 ten times as long, 0.5 half as long"
    figure.text(0.02, 1 - 0.25 / height, title, fontsize=13, weight="bold", va="center")
    share = f"{facts['threads']} thread{'s' * (facts['threads'] > 1)} for each library; medians of runs in turns"
    figure.text(0.02, 1 - 0.52 / height, f"{facts['cpu']}, {share}", fontsize=10, va="center")
    figure.savefig(path, bbox_inches="tight", pad_inches=0.15)
    pyplot.close(figure)


Groups = dict[str, dict[str, list[float]]]


def bars(report: dict[str, Any], section: str) -> Groups:
    """Return the ratios of each library by the label of the bars; several if shapes are averaged."""
    found: Groups = {}
    for comparison in report["comparisons"]:
        if comparison["section"] != section:
            continue
        label = comparison["group"] if section == "matmul" else comparison["name"].removesuffix(" NN")
        for one in comparison["entries"][1:]:
            if one["agrees"]:
                found.setdefault(label, {}).setdefault(one["name"], []).append(one["times as long"])
    return found


def _inches(groups: Groups) -> float:
    """Return the height of a panel, whose groups of bars are one bar apart."""
    return BAR * (1 + sum(1 + len(libraries) for libraries in groups.values()))


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
            most = max(mean, 1.0, *ratios) if len(ratios) > 1 else max(mean, 1.0)
            axes.annotate(text, (most, place), (4, 0), textcoords="offset points", va="center", fontsize=7.5)
            place += 1
        place += 1
    axes.axvline(1.0, color=OWN, linewidth=1.2)
    axes.set_xscale("log")
    axes.set_xlim(min(0.7, 0.8 * min(every)), 1.6 * max(every))
    locator = importlib.import_module("matplotlib.ticker")
    axes.xaxis.set_major_locator(locator.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(locator.FormatStrFormatter("%g"))
    axes.xaxis.set_minor_locator(locator.NullLocator())
    axes.tick_params(labelsize=8.5)
    axes.tick_params(axis="y", length=0)
    axes.set_yticks([tick for tick, _ in ticks], [label.replace(", ", "\n", 1) for _, label in ticks])
    axes.set_ylim(place - 0.5, -1.0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(title, fontsize=11, loc="left", weight="bold", pad=20)
    axes.legend(known.values(), known.keys(), fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False,
                ncols=len(known), borderaxespad=0.1, handlelength=1, columnspacing=1.2, handletextpad=0.4)  # fmt: skip
