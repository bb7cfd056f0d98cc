"""Positions: cosines and sines of angles that grow with them, and rotations of pairs by such angles."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from fastnn.graph.graph import Graph, Node, Tensor, output
from fastnn.graph.ops.strided import product, refuse_integers
from fastnn.graph.rules import Gradients, gradient


def angles(
    graph: Graph, positions: Tensor | int, size: int, label: str, *, wavelength: float = 10000.0, scale: float = 1.0
) -> Tensor:
    """Make cosines and sines of p scale wavelength^(-2 i / size), i = 0, 1, ..., of each position p.

    They are computed in float64 and then rounded, so those of a position are the same bits wherever it is asked for.
    Layers that ask for the same angles share one node.

    Parameters
    ----------
    positions : Tensor or int
        Integers, of any shape; or how many there are: 0, 1, 2, ...
    size : int
        Half of it, rounded up, is the number of angles.
    wavelength : float
        Positions after which the slowest angles would have made a turn, divided by 2 pi.
    scale : float
        Of positions.

    Returns
    -------
    Tensor
        Shape (*positions, 2, (size + 1) // 2): cosines, then sines. Not batched if `positions` is a number.

    Raises
    ------
    ValueError
        When positions are no integers.
    """
    given = positions if isinstance(positions, Tensor) else None
    if given is not None and given.kind != "int64":
        raise ValueError("angles: positions are integers, got a tensor of real numbers; cast it first")
    lead = (positions,) if not isinstance(positions, Tensor) else positions.whole
    half = (size + 1) // 2
    attrs = {"rows": product(lead), "half": half, "scale": float(scale), "decay": 2.0 * log(wavelength) / size}
    for node in graph.nodes:
        if node.op == "angles" and node.inputs[0] is given and node.attrs == attrs:
            return node.outputs[0]
    return graph.add("angles", (given,), [output((*lead, 2, half), f"{label}.angles")], label, **attrs)[0]


@gradient("angles")
def _angles(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return (None,)


def rotary(
    graph: Graph,
    x: Tensor,
    positions: Tensor | None,
    label: str,
    *,
    wavelength: float = 10000.0,
    scale: float = 1.0,
) -> Tensor:
    """Rotate each pair of an entry of the first half of a head and one of the second by its position's angle.

    Parameters
    ----------
    x : Tensor
        Shape (batch, steps, heads, size), where size is even.
    positions : Tensor or None
        Integers of shape (steps,) or (batch, steps), the places of the steps. None means 0, 1, 2, ..., with the same
        bits as if these were given.
    wavelength, scale : float
        As for `angles`.

    Raises
    ------
    ValueError
        When the size is odd, or shapes do not fit.

    Notes
    -----
    Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding", arXiv:2104.09864, with the pairs
    that LLaMA's network has in transformers: entries i and i + size / 2.
    """
    refuse_integers(x, "rotary")
    if len(x.whole) != 4 or x.whole[3] % 2:
        raise ValueError(f"rotary: expected heads of an even size, (batch, steps, heads, size), got {x.whole}")
    batch, steps, heads, size = x.whole
    if positions is not None and positions.whole not in ((steps,), (batch, steps)):
        raise ValueError(f"rotary: expected positions of shape {(steps,)} or {(batch, steps)}, got {positions.whole}")
    table = angles(graph, steps if positions is None else positions, size, label, wavelength=wavelength, scale=scale)
    dims = {"rows": steps, "heads": heads, "half": size // 2, "inverse": 0, "outer": batch}
    if table.batched:
        dims |= {"rows": batch * steps, "outer": 1}
    return graph.like("rotate", (x, table), label, **dims)


@gradient("rotate")
def _rotate(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    attrs = {**node.attrs, "inverse": 1 - node.attrs["inverse"]}
    return graph.like("rotate", (dy, node.inputs[1]), node.label, **attrs), None
