"""Places for the nodes of a graph without circles: in ranks from top to bottom, with few crossings (Sugiyama 1981)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

_SWEEPS = 12


@dataclass(frozen=True)
class Layout:
    """Places in a graph.

    Attributes
    ----------
    x : list of float
        The middle of each node.
    rank : list of int
        The row of each node, from 0 at the top.
    paths : dict of (int, int) to list of (float, int)
        For each edge from a node to another the x in every rank from the one to the other, both included.
    """

    x: list[float]
    rank: list[int]
    paths: dict[tuple[int, int], list[tuple[float, int]]]


def layout(widths: Sequence[float], edges: Sequence[tuple[int, int]], gap: float) -> Layout:
    """Place nodes.

    Parameters
    ----------
    widths : sequence of float
        Of the nodes, whose order is one in which each comes after those that it depends on.
    edges : sequence of (int, int)
        Pairs of nodes, the earlier one first.
    gap : float
        Least distance between neighbours.
    """
    edges = sorted(set(edges))
    rank = _ranks(len(widths), edges)
    sizes, ranks = list(widths), list(rank)
    above: list[list[int]] = [[] for _ in widths]
    below: list[list[int]] = [[] for _ in widths]
    chains: dict[tuple[int, int], list[int]] = {}
    for start, end in edges:
        # a long edge goes through a node without a width in each rank
        chain = [start]
        for between in range(rank[start] + 1, rank[end]):
            chain.append(len(sizes))
            sizes.append(0.0)
            ranks.append(between)
            above.append([])
            below.append([])
        chain.append(end)
        chains[start, end] = chain
        for one, other in pairwise(chain):
            below[one].append(other)
            above[other].append(one)
    rows: list[list[int]] = [[] for _ in range(max(rank, default=-1) + 1)]
    for node, level in enumerate(ranks):
        rows[level].append(node)
    x = [0.0] * len(sizes)
    for row in rows:
        _settle(row, x, [0.0] * len(row), sizes, gap)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else rows[::-1]:
            _order(row, x, above if down else below, sizes, gap)
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wanted = [_mean([x[other] for other in (*above[node], *below[node])], x[node]) for node in row]
            _settle(row, x, wanted, sizes, gap)
    places = {edge: [(x[node], ranks[node]) for node in chain] for edge, chain in chains.items()}
    return Layout(x[: len(widths)], rank, places)


def _ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return the length of the longest path to each node; those without one before them are right above the next."""
    rank = [0] * count
    for start, end in sorted(edges, key=lambda edge: edge[1]):
        rank[end] = max(rank[end], rank[start] + 1)
    ends = {end for _, end in edges}
    for node in range(count):
        if node not in ends:
            rank[node] = min((rank[end] - 1 for start, end in edges if start == node), default=0)
    return rank


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _order(
    row: list[int], x: list[float], neighbours: Sequence[Sequence[int]], sizes: Sequence[float], gap: float
) -> None:
    """Sort a rank by the means of its neighbours in another one."""
    wanted = {node: _mean([x[other] for other in neighbours[node]], x[node]) for node in row}
    row.sort(key=lambda node: wanted[node])
    _settle(row, x, [wanted[node] for node in row], sizes, gap)


def _settle(row: Sequence[int], x: list[float], wanted: Sequence[float], sizes: Sequence[float], gap: float) -> None:
    """Give the nodes of a rank, in their order, the places that are nearest to the wanted ones without overlaps.

    Without the distances that they need the places only have to ascend, which is isotonic regression.
    """
    offsets = [0.0]
    for one, other in pairwise(row):
        offsets.append(offsets[-1] + (sizes[one] + sizes[other]) / 2.0 + gap)
    blocks: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        blocks.append((want - offset, 1))
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (mine, n), (its, m) = blocks[-2:]
            blocks[-2:] = [((mine * n + its * m) / (n + m), n + m)]
    means = np.repeat([value for value, _ in blocks], [count for _, count in blocks])
    for node, mean, offset in zip(row, means.tolist(), offsets, strict=True):
        x[node] = mean + offset
