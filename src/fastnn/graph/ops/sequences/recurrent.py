"""Recurrent layers: one node for all time steps, and products with what it keeps as gradients of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastnn.graph.extent import BATCH, Size
from fastnn.graph.graph import Graph, Node, Output, Tensor, output
from fastnn.graph.ops.dense import matmul_tn, sum_rows
from fastnn.graph.ops.joins import concatenate, stack
from fastnn.graph.ops.pointwise import constant
from fastnn.graph.ops.strided import along, reshape, sliced
from fastnn.graph.rules import Gradients, gradient_of_outputs


@dataclass(frozen=True)
class Cell:
    """A kind of recurrent layer.

    Attributes
    ----------
    op : str
        The name of its node and record.
    gates : int
        How many times `units` columns the kernels have.
    states : int
        How many states of a sample there are.
    kept : int
        How many arrays of units the gradient needs of each step besides the gates, without recurrent dropout; the first
        is multiplied by the recurrent kernel.
    """

    op: str
    gates: int
    states: int
    kept: int


SIMPLE_RNN = Cell("simple_rnn", 1, 1, 1)
GRU = Cell("gru", 3, 1, 2)
LSTM = Cell("lstm", 4, 2, 2)
_CELLS = {cell.op: cell for cell in (SIMPLE_RNN, GRU, LSTM)}


@dataclass(frozen=True)
class Start:
    """What a scan begins with: `states` initial states, each (batch, units), and factors of recurrent dropout."""

    states: Sequence[Tensor] = ()
    factors: Tensor | None = None


def scan(
    graph: Graph,
    cell: Cell,
    z: Tensor,
    w: Tensor,
    label: str,
    *,
    formula: str,
    parameters: tuple[float, float] = (0.0, 0.0),
    bias: Tensor | None = None,
    start: Start = Start(),
    mask: Tensor | None = None,
    reverse: bool = False,
    after: bool = True,
) -> tuple[Tensor, ...]:
    """Make the states after all steps, (batch, steps, units), and the last states, each (batch, units).

    Parameters
    ----------
    z : Tensor
        The products of the inputs with their kernel, (batch, steps, gates * units).
    w : Tensor
        The recurrent kernel, (units, gates * units).
    formula, parameters
        The activation, and after a comma that of the gates if there are any; their parameters.
    bias : Tensor, optional
        Of a GRU: (1, 3 * units), or (2, 3 * units) with `after`.
    mask : Tensor, optional
        (batch, steps): where it is 0, states are carried on; where it is negative, they are zero before the step.
    reverse : bool
        Whether to go from the last step to the first.
    after : bool
        Of a GRU: whether the reset gate is a factor of the product of the state.
    """
    steps, units = z.whole[1], w.whole[0]
    given = [*start.states, *([] if start.factors is None else [start.factors])]
    noisy = int(start.factors is not None)
    attrs: dict[str, Size] = {
        "batch": BATCH, "steps": steps, "units": units, "wide": w.whole[1], "starts": max(1, len(given)),
        "states": len(start.states), "reverse": int(reverse),
    }  # fmt: skip
    numbers = dict(zip(("a", "ra") if cell.gates > 1 else ("a",), parameters, strict=False))
    kept = cell.kept
    inputs = [z, w, stack(graph, given, 1, label) if given else None, mask]
    if cell is GRU:
        kept += noisy
        attrs |= {"slots": kept, "after": int(after), "biases": 1 + after}
        inputs.insert(2, bias)
    outputs: list[Output] = [output((BATCH, steps, units), f"{label}.y")]
    outputs += [output((BATCH, units), f"{label}.state{number}") for number in range(cell.states)]
    outputs.append(output((BATCH, steps, w.whole[1]), f"{label}.gates"))
    outputs.append(output((BATCH, steps, *((kept,) if kept > 1 else ()), units), f"{label}.kept"))
    return graph.add(cell.op, inputs, outputs, label, formula=formula, **attrs, **numbers)[:-2]


@gradient_of_outputs("simple_rnn", "gru", "lstm")
def _scan(graph: Graph, node: Node, dys: Gradients, needs: Sequence[bool]) -> Gradients:
    cell, label, attrs = _CELLS[node.op], node.label, dict(node.attrs)
    z, w, *others = node.inputs
    bias = others.pop(0) if cell is GRU else None
    start, mask = others
    assert z is not None and w is not None
    dy, *of_states, _, _ = dys
    (gates, kept), units, steps = node.outputs[-2:], attrs["units"], attrs["steps"]
    ends = _ends(graph, of_states, units, label)
    states = attrs["states"]
    slots = 4 * units if cell is GRU else attrs["wide"]
    outputs = [output((BATCH, steps, slots), f"{label}.dz")]
    outputs += [output((BATCH, states, units), f"{label}.dstart")] if states else []
    attrs["ends"] = 1 if ends is None else ends.whole[1]
    # of one gate it is the state, and the states before are multiplied only
    read = (gates,) if cell is SIMPLE_RNN else (gates, kept)
    dz, *dstart = graph.add(f"{cell.op}_grad", (dy, ends, *read, w, start, mask), outputs, label, **attrs)
    into = dz
    if cell is GRU:
        into = sliced(graph, dz, along(dz.whole, 2, (units, 1, 3 * units)), (BATCH, steps, 3 * units), label)
    dw = _of_kernel(graph, node, cell, kept, dz) if needs[1] else None
    found: list[Tensor | None] = [into if needs[0] else None, dw]
    if cell is GRU:
        found.append(_of_biases(graph, dz, units, attrs["after"], label) if bias is not None and needs[2] else None)
    wanted = start is not None and needs[-2]
    return (*found, _of_start(graph, dstart, attrs, label) if wanted else None, None)


def _ends(graph: Graph, of_states: Sequence[Tensor | None], units: Size, label: str) -> Tensor | None:
    """Join the gradients of the last states, (batch, states, units); without those of cells there is one."""
    if all(one is None for one in of_states):
        return None
    first, *rest = of_states
    zeros = constant(graph, 0.0, (BATCH, units), label) if first is None else first
    if not rest or rest[0] is None:
        return reshape(graph, zeros, (BATCH, 1, units), label)
    return stack(graph, [zeros, rest[0]], 1, label)


def _part(graph: Graph, x: Tensor, first: Size, count: Size, label: str) -> Tensor:
    """Take neighbouring columns."""
    ranges = along(x.whole, len(x.whole) - 1, (first, 1, count))
    return sliced(graph, x, ranges, (*x.whole[:-1], count), label)


def _of_kernel(graph: Graph, node: Node, cell: Cell, kept: Tensor, dz: Tensor) -> Tensor:
    """Make the gradient of the recurrent kernel: what was multiplied by it, times the gradients of products."""
    label, units, steps = node.label, node.attrs["units"], node.attrs["steps"]
    if cell is SIMPLE_RNN:
        return matmul_tn(graph, kept, dz, label)
    rows = reshape(graph, kept, (BATCH, steps, kept.whole[2] * units), label)
    before = _part(graph, rows, 0, units, label)
    if cell is LSTM:
        return matmul_tn(graph, before, dz, label)
    if node.attrs["after"]:  # of the columns of h, z and r
        found = matmul_tn(graph, before, _part(graph, dz, 0, 3 * units, label), label)
        return concatenate(
            graph, [_part(graph, found, units, 2 * units, label), _part(graph, found, 0, units, label)], 1, label
        )
    reset = _part(graph, rows, units, units, label)
    gates = matmul_tn(graph, before, _part(graph, dz, units, 2 * units, label), label)
    return concatenate(graph, [gates, matmul_tn(graph, reset, _part(graph, dz, 0, units, label), label)], 1, label)


def _of_biases(graph: Graph, dz: Tensor, units: Size, after: bool, label: str) -> Tensor:
    """Make the gradients of a GRU's biases, of the sums over the columns of h, z, r, and h of the inputs."""
    sums = sum_rows(graph, dz, label)
    of_inputs = _part(graph, sums, units, 3 * units, label)
    if not after:
        return reshape(graph, of_inputs, (1, 3 * units), label)
    parts = [of_inputs, _part(graph, sums, units, 2 * units, label), _part(graph, sums, 0, units, label)]
    return reshape(graph, concatenate(graph, parts, 0, label), (2, 3 * units), label)


def _of_start(graph: Graph, dstart: Sequence[Tensor], attrs: dict[str, Size], label: str) -> Tensor | None:
    """Return the gradients of the initial states, with zeros for the factors of dropout, which have none."""
    if not dstart:
        return None
    if attrs["starts"] == attrs["states"]:
        return dstart[0]
    zeros = constant(graph, 0.0, (BATCH, 1, attrs["units"]), label)
    return concatenate(graph, [dstart[0], zeros], 1, label)
