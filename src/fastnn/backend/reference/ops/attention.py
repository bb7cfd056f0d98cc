"""Records of attention: scores of queries and keys, softmax, sums of values; and the gradients."""

from __future__ import annotations

import numpy as np

from fastnn.backend.reference.instruction import Array, Counters, Instruction, executes
from fastnn.backend.reference.philox import random_words


def _rounded_up(queries: int) -> int:
    return -(-queries // 64) * 64


def _by_head(i: Instruction, name: str) -> Array:
    """Return an operand as (batch, heads, rows, size); heads that share keys get the same ones."""
    x = i[name].swapaxes(1, 2)
    return np.repeat(x, i.dims["heads"] // x.shape[1], axis=1)


def _there(i: Instruction, mask: Array | None) -> tuple[Array, Array]:
    """Return what is added to the scores (batch, heads, queries, keys), and where there is a key at all."""
    d = i.dims
    sample, head, query, key = np.indices([d[name] for name in ("batch", "heads", "queries", "keys")], sparse=True)
    there = np.broadcast_to(~((key > query) & bool(d["causal"])), (d["batch"], d["heads"], d["queries"], d["keys"]))
    if mask is None:
        return np.zeros(there.shape), there
    added = mask[sample * d["mask_sample"] + head * d["mask_head"] + query * d["mask_query"] + key]
    return added, there & (added != -np.inf)


def _kept(i: Instruction, counters: Counters) -> Array:
    """Return the factors of dropout."""
    d, rate = i.dims, i.params["rate"]
    shape = d["batch"], d["heads"], d["keys"], _rounded_up(d["queries"])
    if rate == 0.0:
        return np.ones((*shape[:2], d["queries"], d["keys"]))
    words = random_words(int(np.prod(shape)), d["node"], counters.step, counters.seed).reshape(shape)
    kept = np.where(words < np.uint64(rate * 2.0**32), 0.0, 1.0 / (1.0 - rate))
    return kept.swapaxes(2, 3)[:, :, : d["queries"]]


def _scores(i: Instruction, mask: Array | None) -> tuple[Array, Array]:
    """Return the scores, minus infinity where there is no key, and where there is one."""
    added, there = _there(i, mask)
    with np.errstate(invalid="ignore", over="ignore"):
        scores = i.params["scale"] * _by_head(i, "q") @ _by_head(i, "k").swapaxes(2, 3) + added
    return np.where(there, scores, -np.inf), there


def _times(weights: Array, there: Array, values: Array) -> Array:
    """Multiply weights (..., rows, terms) by values (..., terms, size), of those terms alone that are there."""
    with np.errstate(invalid="ignore"):
        products = np.where(there[..., None], weights[..., None] * values[:, :, None], 0.0)
        total: Array = products.sum(axis=3)
    return total


@executes("attention")
def attention(i: Instruction, counters: Counters) -> None:
    """Make y = dropout(softmax(scale q k^T + mask)) v in every head; lse is the logarithm of the softmax's sum."""
    scores, there = _scores(i, i.get("mask"))
    # infinity is larger than all numbers, NaN is not
    largest = np.fmax.reduce(scores, axis=3, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = np.exp(scores - np.where(np.isneginf(largest) | np.isnan(largest), 0.0, largest))
        total = weights.sum(axis=3, keepdims=True)
        lse = np.where(total == 0.0, 0.0, largest + np.log(total))
        weights = np.where(total == 0.0, 0.0, weights / total)
    y = _times(weights * _kept(i, counters), there, _by_head(i, "v"))
    i.write("y", y.swapaxes(1, 2))
    i.write("lse", lse[..., 0])


@executes("attention_rows")
def attention_rows(i: Instruction, counters: Counters) -> None:
    """Make what the gradient needs of rows: lse, the sums of dy y, the mask."""
    sums = (i["dy"] * i["y"]).sum(axis=3).swapaxes(1, 2)
    mask = i.get("mask")
    i.write("rows", np.concatenate([i["lse"].ravel(), sums.ravel(), *([] if mask is None else [mask])]))


@executes("attention_grad")
def attention_grad(i: Instruction, counters: Counters) -> None:
    """Make the gradients of attention for q, k and v."""
    d, rows, scale = i.dims, i["rows"], i.params["scale"]
    shape, count = (d["batch"], d["heads"], d["queries"]), d["batch"] * d["heads"] * d["queries"]
    lse, sums = (rows[n * count : (n + 1) * count].reshape(*shape, 1) for n in range(2))
    scores, there = _scores(i, rows[2 * count :] if d["mask_size"] else None)
    dy, q, k, v = (_by_head(i, name) for name in ("dy", "q", "k", "v"))
    kept = _kept(i, counters)
    with np.errstate(invalid="ignore", over="ignore"):
        weights = np.where(there, np.exp(scores - lse), 0.0)
        dscores = np.where(there, scale * weights * (kept * (dy @ v.swapaxes(2, 3)) - sums), 0.0)
    groups = (d["batch"], d["kv_heads"], d["heads"] // d["kv_heads"], d["keys"], d["size"])
    i.write("dq", _times(dscores, there, k).swapaxes(1, 2))
    turned = there.swapaxes(2, 3)
    for name, factors, values in (("dk", dscores, q), ("dv", weights * kept, dy)):
        by_head = _times(factors.swapaxes(2, 3), turned, values).reshape(groups)
        i.write(name, by_head.sum(axis=2).swapaxes(1, 2))


@executes("attention_step")
def attention_step(i: Instruction, counters: Counters) -> None:
    """Append keys and values to those of earlier steps, and make y = softmax(scale q k^T) v in every head."""
    d, first = i.dims, i.dims["first"]
    heads, size, most, end = d["kv_heads"], d["size"], d["most"], first + d["kv_heads"] * d["size"] * d["most"]
    for row in range(d["sequences"]):
        position = int(i["keys"][row, 0])
        keys = i["keys"][row, first:end].reshape(heads, size, most).swapaxes(1, 2)
        values = i["values"][row, first:end].reshape(heads, most, size)
        for step in range(d["steps"]):
            count = position + step + 1
            keys[:, count - 1], values[:, count - 1] = i["k"][row, step], i["v"][row, step]
            group = d["heads"] // heads
            seen, taken = (np.repeat(x[:, :count], group, axis=0) for x in (keys, values))
            scores = i.params["scale"] * (seen @ i["q"][row, step][:, :, None])[..., 0]
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            i["y"][row, step] = (weights[:, None] @ taken)[:, 0]
