"""Attention and its gradients, beside PyTorch's `scaled_dot_product_attention` where it is installed.

    python benchmarks/attention.py
    python benchmarks/attention.py --dtype float64 --threads 2 --only causal

Prints GF/s: two products forward and five backward, half of them if attention is causal. "share" is that of the rate of
fastnn's own product of 1024 x 1024 x 1024, on as many threads. Queries, keys and values lie as projections make them:
(batch, steps, heads, size). All take turns; medians of several rounds.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastnn as fnn
from kernel_record import Record, aligned

try:
    torch: Any = importlib.import_module("torch")
except ImportError:
    torch = None

Call = Callable[[], object]


@dataclass(frozen=True)
class Heads:
    """Heads of queries and keys of as many steps."""

    batch: int
    steps: int
    heads: int
    size: int
    causal: bool = False
    rate: float = 0.0

    @property
    def label(self) -> str:
        """What it is, in words."""
        more = (" causal" if self.causal else "") + (" dropout" if self.rate else "")
        return f"{self.batch} x {self.steps} x {self.heads} x {self.size}{more}"

    @property
    def work(self) -> float:
        """Floating-point operations of one product."""
        pairs = self.steps * (self.steps + 1) / 2 if self.causal else self.steps**2
        return 2.0 * self.batch * self.heads * self.size * pairs


def contestants(each: Heads, dtype: str) -> dict[str, dict[str, Call]]:
    """Return the calls, by direction and contestant, on the same numbers."""
    rng, shape = np.random.default_rng(0), (each.batch, each.steps, each.heads, each.size)
    q, k, v, dy = (aligned(rng.standard_normal(shape).astype(dtype)) for _ in range(4))
    y, dq, dk, dv = (aligned(np.zeros(shape, dtype)) for _ in range(4))
    count = each.batch * each.heads * each.steps
    lse, rows = (aligned(np.zeros(size, dtype)) for size in (count, 2 * count))
    dims = {
        "batch": each.batch, "queries": each.steps, "keys": each.steps, "heads": each.heads, "kv_heads": each.heads,
        "size": each.size, "causal": int(each.causal), "node": 0, "mask_size": 0, "mask_sample": 0, "mask_head": 0,
        "mask_query": 0,
    }  # fmt: skip
    params = {"scale": each.size**-0.5, "rate": each.rate}
    forward = Record("attention", {"y": y, "lse": lse, "q": q, "k": k, "v": v}, dims, dtype=dtype, params=params)
    first = {name: dims[name] for name in ("batch", "queries", "heads", "size", "mask_size")}
    sums = Record("attention_rows", {"rows": rows, "dy": dy, "y": y, "lse": lse}, {**first, "rows_size": 2 * count},
                  dtype=dtype)  # fmt: skip
    gradients = Record("attention_grad", {"dq": dq, "dk": dk, "dv": dv, "dy": dy, "q": q, "k": k, "v": v, "rows": rows},
                       {**dims, "rows_size": 2 * count}, dtype=dtype, params=params)  # fmt: skip

    def backward() -> None:
        sums()
        gradients()

    forward()
    backward()
    found: dict[str, dict[str, Call]] = {"forward": {"fastnn": forward}, "backward": {"fastnn": backward}}
    if torch is not None:
        xs = [torch.from_numpy(x).transpose(1, 2).requires_grad_() for x in (q, k, v)]
        attend = torch.nn.functional.scaled_dot_product_attention

        def theirs() -> Any:
            with torch.no_grad():
                return attend(*xs, dropout_p=each.rate, is_causal=each.causal)

        made, seed = attend(*xs, dropout_p=each.rate, is_causal=each.causal), torch.from_numpy(dy).transpose(1, 2)

        def their_gradients() -> Any:
            return torch.autograd.grad(made, xs, seed, retain_graph=True)

        if not each.rate:
            for one, other in zip((y, dq, dk, dv), (made.detach(), *their_gradients()), strict=True):
                np.testing.assert_allclose(one, other.transpose(1, 2).numpy(), rtol=0, atol=2e-4 * np.abs(one).max())
        found["forward"]["torch"], found["backward"]["torch"] = theirs, their_gradients
    return found


def product_rate(dtype: str) -> float:
    """Return the operations per second of fastnn's product of 1024 x 1024 x 1024."""
    n = 1024
    a, b, c = (aligned(np.ones((n, n), dtype)) for _ in range(3))
    record = Record("matmul", {"c": c, "a": a, "b": b}, {"m": n, "n": n, "k": n}, dtype=dtype)
    record()
    return 2.0 * n**3 / statistics.median(seconds(record) for _ in range(5))


def seconds(call: Call, least: float = 0.05) -> float:
    """Return the time of one call."""
    begin, times = time.perf_counter(), 0
    while time.perf_counter() - begin < least:
        call()
        times += 1
    return (time.perf_counter() - begin) / times


SHAPES = [
    *(Heads(*shape, causal=causal) for causal in (False, True) for shape in (
        (32, 64, 6, 64), (8, 128, 8, 64), (4, 256, 8, 64), (2, 512, 8, 64), (1, 1024, 8, 64), (1, 2048, 4, 64),
        (1, 1024, 4, 128), (2, 512, 8, 32), (8, 197, 3, 64),
    )),
    Heads(32, 64, 6, 64, True, 0.2), Heads(2, 512, 8, 64, True, 0.2),
]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="part of a label")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    fnn.set_num_threads(given.threads)
    if torch is not None:
        torch.set_num_threads(given.threads)
    print(f"{'batch x steps x heads x size':34} {'':8} {'fastnn':>8} {'share':>6} {'torch':>8} {'ratio':>6}")
    for each in SHAPES:
        if given.only not in each.label:
            continue
        for direction, calls in contestants(each, given.dtype).items():
            work = each.work * (2.0 if direction == "forward" else 5.0)
            rounds = [
                (product_rate(given.dtype), *(seconds(call) for call in calls.values())) for _ in range(given.rounds)
            ]
            ours = statistics.median(work / times[1] for times in rounds)
            share = statistics.median(work / times[1] / times[0] for times in rounds)
            line = f"{each.label:34} {direction:8} {ours / 1e9:8.1f} {share:6.2f}"
            if torch is not None:
                theirs = statistics.median(work / times[2] for times in rounds)
                ratio = statistics.median(times[2] / times[1] for times in rounds)
                line += f" {theirs / 1e9:8.1f} {ratio:6.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
