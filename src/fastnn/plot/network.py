"""A model as a graph: its layers with shapes and parameters, from the inputs at the top to the outputs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fastnn.figures import axes_for, brief
from fastnn.hints import explained
from fastnn.inspect.inner import checked
from fastnn.layers.architecture import Architecture
from fastnn.model import Model
from fastnn.plot.layering import Layout, layout
from fastnn.runtime.parameters import ParameterTable
from fastnn.training.state import state_of

# inches
_HEIGHT, _PITCH, _GAP, _LETTER, _MARGIN = 0.36, 0.58, 0.25, 0.068, 0.2
_NARROWEST, _LARGEST = 3.8, 500.0
_EDGE, _SHARED = "0.35", "#D55E00"
_FILLS = {"input": "#D9F0D3", "with weights": "#D6E8F7", "without weights": "#F0F0F0"}


@dataclass(frozen=True)
class _Box:
    """A use of a layer: two lines of text, a kind of `_FILLS`, and how the edge looks."""

    name: str
    text: str
    kind: str
    output: bool
    shared: bool
    frozen: bool

    @property
    def width(self) -> float:
        return _LETTER * max(1.1 * len(self.name), len(self.text)) + 0.2


@explained
def network(model: Model, *, ax: Any = None) -> Any:
    """Draw a model as a graph from top to bottom: each use of a layer is a box, with shape and number of parameters.

    Outputs have a thick edge, frozen layers a dashed one. A layer that is used several times has a box for each use,
    with a red edge; its parameters are in the first one. Shapes are those of a sample.

    Parameters
    ----------
    model : Model
        Built.
    ax : matplotlib Axes, optional
        None makes a figure, as large as the network needs: letters have the same size in all of them.

    Returns
    -------
    Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        When it is no model, or not built.
    """
    model = checked("network", model)
    table = state_of(model).runtime.table
    boxes, edges = _boxes(table)
    places = layout([box.width for box in boxes], edges, _GAP)
    left = min(x - box.width / 2.0 for x, box in zip(places.x, boxes, strict=True)) - _MARGIN
    right = max(x + box.width / 2.0 for x, box in zip(places.x, boxes, strict=True)) + _MARGIN
    for path in places.paths.values():
        left, right = min(left, *(x - _MARGIN for x, _ in path)), max(right, *(x + _MARGIN for x, _ in path))
    top, bottom = _HEIGHT / 2.0 + _MARGIN, -_PITCH * max(places.rank) - _HEIGHT / 2.0 - _MARGIN
    width = max(right - left, _NARROWEST)
    size = (min(width + 0.2, _LARGEST), min(top - bottom + 1.1, _LARGEST))
    axes = axes_for("network", ax, size)
    _draw(axes, boxes, places)
    middle = (left + right) / 2.0
    axes.set(xlim=(middle - width / 2.0, middle + width / 2.0), ylim=(bottom, top), aspect="equal")
    axes.set_axis_off()
    count = sum(entry.size for entry in table)
    axes.set_title(f"{brief(model.name, 30)}: {count:,} parameters", fontsize="medium")
    return axes


def _boxes(table: ParameterTable) -> tuple[list[_Box], list[tuple[int, int]]]:
    """Return boxes and the edges between them."""
    architecture = table.architecture
    sizes: Counter[int] = Counter()
    for entry in table:
        sizes[entry.layer] += entry.size
    uses = Counter(call.layer for call in architecture.calls if not call.output and call.weight is None)
    boxes: list[_Box] = []
    edges: list[tuple[int, int]] = []
    node_of: dict[int, int] = {}
    seen: set[int] = set()
    for at, call in enumerate(architecture.calls):
        if call.output:
            node_of[at] = len(boxes) - 1
            continue
        node_of[at] = len(boxes)
        edges += [(node_of[source], len(boxes)) for source in call.inputs]
        layer, first = architecture.layers[call.layer], call.layer not in seen
        outputs = range(at, at + len(architecture.uses(at)))
        is_output = bool(set(outputs) & set(architecture.outputs))
        if call.weight is not None:
            text = f"weight  {_shape(call.shape)}"
            boxes.append(
                _Box(brief(architecture.labels[call.layer], 30), text, "with weights", is_output, False, False)
            )
            continue
        seen.add(call.layer)
        kind = "input" if at in architecture.inputs else "with weights" if sizes[call.layer] else "without weights"
        parts = [type(layer).__name__.removesuffix("Layer"), _shapes(architecture, at)]
        if sizes[call.layer]:
            parts.append(f"{sizes[call.layer]:,}" if first else "shared")
        frozen = bool(sizes[call.layer]) and not table.is_trainable(layer)
        name = brief(architecture.labels[call.layer], 30)
        boxes.append(_Box(name, "  ".join(parts), kind, is_output, uses[call.layer] > 1, frozen))
    return boxes, edges


def _shape(shape: tuple[Any, ...]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def _shapes(architecture: Architecture, at: int) -> str:
    return ", ".join(_shape(use.shape) + ("" if use.kind == "real" else " integers") for use in architecture.uses(at))


def _draw(axes: Any, boxes: list[_Box], places: Layout) -> None:
    """Draw edges, boxes above them, and a legend of what is there."""
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch
    from matplotlib.path import Path

    for path in places.paths.values():
        points, codes = [(path[0][0], -_PITCH * path[0][1] - _HEIGHT / 2.0)], [Path.MOVETO]
        for (x, _), (to, rank) in pairwise(path):
            last = rank == path[-1][1]
            end = -_PITCH * rank + (_HEIGHT / 2.0 if last else 0.0)
            middle = (points[-1][1] + end) / 2.0
            points += [(x, middle), (to, middle), (to, end)]
            codes += [Path.CURVE4] * 3
        arrow: dict[str, Any] = {
            "arrowstyle": "-|>",
            "mutation_scale": 8,
            "color": _EDGE,
            "linewidth": 0.9,
            "shrinkA": 0,
            "shrinkB": 0,
        }
        axes.add_patch(FancyArrowPatch(path=Path(points, codes), zorder=1, **arrow))
    for box, x, rank in zip(boxes, places.x, places.rank, strict=True):
        y = -_PITCH * rank
        style: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.06", "facecolor": _FILLS[box.kind]}
        colour, width = (_SHARED if box.shared else _EDGE), (2.2 if box.output else 1.4 if box.shared else 0.9)
        axes.add_patch(
            FancyBboxPatch(
                (x - box.width / 2.0, y - _HEIGHT / 2.0), box.width, _HEIGHT, edgecolor=colour, linewidth=width,
                linestyle="--" if box.frozen else "-", zorder=2, **style,
            )
        )  # fmt: skip
        axes.text(x, y + 0.075, box.name, ha="center", va="center", fontsize=8, fontweight="bold", zorder=3)
        axes.text(x, y - 0.085, box.text, ha="center", va="center", fontsize=7, zorder=3)
    kinds = [kind for kind in _FILLS if any(box.kind == kind for box in boxes)]
    handles = [Patch(facecolor=_FILLS[kind], edgecolor=_EDGE, label=kind) for kind in kinds]
    if any(box.shared for box in boxes):
        handles.append(Patch(facecolor="white", edgecolor=_SHARED, label="used several times"))
    if any(box.frozen for box in boxes):
        handles.append(Patch(facecolor="white", edgecolor=_EDGE, linestyle="--", label="frozen"))
    options: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "frameon": False, "ncols": 3}
    axes.legend(
        handles=handles, title="layer (shape) parameters", fontsize="x-small", title_fontsize="x-small", **options
    )
