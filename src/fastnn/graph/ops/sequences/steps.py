"""Steps of sequences whose state is in arrays of the caller's: graph inputs that nodes write to."""

from __future__ import annotations

from typing import Any

from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Graph, Tensor, output


def attention_step(
    graph: Graph, q: Tensor, k: Tensor, v: Tensor, state: tuple[Tensor, Tensor], label: str, *, scale: float,
    first: int, most: int,
) -> Tensor:  # fmt: skip
    """Append keys and values to those of earlier steps, and make softmax(scale q k^T) v of all so far.

    Parameters
    ----------
    q : Tensor
        Shape (batch, steps, heads, size): the next steps of each sequence.
    k, v : Tensor
        Shapes (batch, steps, kv_heads, size).
    state : (Tensor, Tensor)
        Inputs of shape (batch, row): rows for keys, whose element 0 is the number of steps so far, and for values.
    first, most : int
        Where this layer's part of a row begins, and for how many steps it has room.
    """
    keys, values = state
    _, steps, heads, size = q.whole
    dims: dict[str, Any] = {
        "sequences": BATCH, "steps": steps, "heads": heads, "kv_heads": k.whole[2], "size": size, "most": most,
        "row": keys.shape[0], "first": first,
    }  # fmt: skip
    made = [output(q.whole, f"{label}.attention")]
    return graph.add("attention_step", (q, k, v, keys, values), made, label, scale=scale, **dims)[0]


def keep(graph: Graph, x: Tensor, state: Tensor, first: int, label: str) -> None:
    """Write x, of shape (batch, columns), into columns of an input, from `first` on."""
    graph.add("keep", (x, state), [], label, first=first)
