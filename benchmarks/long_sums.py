"""Statistics of norms and sums over rows: their errors compared with float64, and their times.

    python benchmarks/long_sums.py [--against CHECKOUT] [--only PART ...] [--rounds N]

With --against, another checkout of fastnn does the same in a separate process, in turns with this one: the table has
errors and times of both, and the median of the ratios of times. An error is that of the worst element, in units of
float32's eps of the largest element. One thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SHAPES = ((32, 64), (128, 256), (4096, 256), (200_000, 1), (128, 768))
OPERANDS = {
    "batch_norm": ("gamma", "beta"), "batch_norm_grad": ("dx", "dgamma", "dbeta", "gamma"),
    "batch_norm_inference": ("gamma", "beta"), "layer_norm": ("gamma", "beta"), "layer_norm_grad": ("gamma",),
    "layer_norm_param_grad": ("dgamma", "dbeta"), "sum_rows": (),
}  # fmt: skip
#: m, n, k of products whose first factor is transposed, as in the gradients of kernels
PRODUCTS = ((64, 64, 64), (512, 512, 512), (784, 256, 128), (64, 32, 100_000), (4, 1, 1_000_000))
OFFSETS = (0.0, 1e2, 1e4, 1e6)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout of fastnn")
    parser.add_argument("--only", nargs="+", default=[""], metavar="PART", help="parts of lines' names")
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds (default 15)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work()
        return
    checkouts = [ROOT] if options.against is None else [options.against.resolve(), ROOT]
    workers = [start(checkout) for checkout in checkouts]
    names = [name for name in jobs() if any(part in name for part in options.only)]
    print("| what | " + " | ".join(f"{checkout.name}: error, us" for checkout in checkouts) + " | ratio of times |")
    print("|---|" + "---:|" * (len(checkouts) + 1))
    for name in names:
        errors = [ask(worker, name, 0) for worker in workers]
        times = []
        if not name.startswith("offset"):
            counts = max(1, min(4000, int(0.004 / min(ask(worker, name, 2) for worker in workers))))
            times = [[ask(worker, name, counts) for worker in workers] for _ in range(options.rounds)]
        print(line(name, errors, times), flush=True)


def line(name: str, errors: list[float], times: list[list[float]]) -> str:
    """Write a row of the table."""
    took = [f", {1e6 * statistics.median(column):.4g}" for column in zip(*times, strict=True)] or [""] * len(errors)
    ratio = f"{statistics.median(row[-1] / row[0] for row in times):.2f}" if times and len(errors) > 1 else ""
    cells = [f"{error:.3g}{us}" for error, us in zip(errors, took, strict=True)]
    return f"| {name} | {' | '.join(cells)} | {ratio} |"


def start(checkout: Path) -> subprocess.Popen[str]:
    """Start the process of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    command = [sys.executable, __file__, "--worker"]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(worker: subprocess.Popen[str], name: str, times: int) -> float:
    """Ask a worker for its error (0 times), or for the seconds of one of several repetitions."""
    assert worker.stdin is not None and worker.stdout is not None
    print(json.dumps([name, times]), file=worker.stdin, flush=True)
    return float(worker.stdout.readline())


def jobs() -> Iterator[str]:
    """Iterate over the names of all lines."""
    for op in OPERANDS:
        yield from (f"{op} {rows}x{cols}" for rows, cols in SHAPES)
    yield from (f"product {m}x{n}x{k}" for m, n, k in PRODUCTS)
    for offset in OFFSETS[1:]:
        yield from (f"offset {offset:g} {op} {rows}x{cols}" for op in ("batch_norm", "layer_norm")
                    for rows, cols in SHAPES[:4])  # fmt: skip


def work() -> None:
    """Answer the requests of the other process."""
    import fastnn as fnn

    fnn.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    made: dict[str, tuple[Any, float]] = {}
    for question in sys.stdin:
        name, times = json.loads(question)
        if name not in made:
            made[name] = make(name)
        record, error = made[name]
        begin = time.perf_counter()
        record(times)
        print((time.perf_counter() - begin) / times if times else error, flush=True)


def make(name: str) -> tuple[Any, float]:
    """Make a record, run it once, and return it with the error of its first output."""
    import numpy as np

    from fastnn.backend.cpu.processor.blocking import Blocking
    from fastnn.program.layout import Flag
    from fastnn.program.opcodes import OPS
    from kernel_record import Record, aligned

    *before, op, shape = name.split()
    sizes = [int(size) for size in shape.split("x")]
    rng = np.random.default_rng(0)
    if op == "product":
        m, n, k = sizes
        a, b = np.full((k, m), 1.1, np.float32), np.full((k, n), 0.3, np.float32)
        arrays = {"c": aligned(np.empty((m, n), np.float32)), "a": aligned(a), "b": aligned(b)}
        record = Record("matmul", arrays, {"m": m, "n": n, "k": k}, flags=Flag.TRANSPOSE_A,
                        variant=Blocking.of("float32").algorithm(m, n, k, True, False))  # fmt: skip
        record(1)
        return record, _worst(arrays["c"], np.full((m, n), k * float(a[0, 0]) * float(b[0, 0])))
    rows, cols = sizes
    offset = float(before[1]) if before else 0.0
    dims = {"rows": rows, "cols": cols}
    arrays = {}
    for spec in OPS[op].operands:
        if spec.optional and spec.name not in OPERANDS[op]:
            continue
        values = rng.standard_normal([dims[size] if isinstance(size, str) else size for size in spec.shape])
        values = values + offset if spec.name == "x" else values
        values = np.abs(values) + 0.5 if spec.name in ("rstd", "moving_variance") else values
        arrays[spec.name] = aligned(values.astype("float64" if spec.kind == "float64" else "float32"))
    wide = {key: array.astype(np.float64) for key, array in arrays.items()}
    params = {"epsilon": 1e-3, "momentum": 0.9}
    record = Record(op, arrays, dims, params={key: params[key] for key in OPS[op].params})
    record(1)
    first = next(iter(arrays))
    return record, _worst(arrays[first], _exact(op, wide))


def _exact(op: str, a: dict[str, Any]) -> Any:
    """Return the first output of an op in float64."""
    import numpy as np

    axis = 1 if op.startswith("layer_norm") else 0
    x = a["x"]
    if op == "sum_rows":
        return x.sum(axis=0)
    if op in ("batch_norm", "layer_norm"):
        normal = x - x.mean(axis=axis, keepdims=True)
        return normal / np.sqrt(x.var(axis=axis, keepdims=True) + 1e-3) * a["gamma"] + a["beta"]
    if op == "batch_norm_inference":
        return (x - a["moving_mean"]) / np.sqrt(a["moving_variance"] + 1e-3) * a["gamma"] + a["beta"]
    mean, rstd = (np.expand_dims(a[name], axis) for name in ("mean", "rstd"))
    normal = (x - mean) * rstd
    if op == "layer_norm_param_grad":
        return (a["dy"] * normal).sum(axis=0)
    g = a["dy"] * a["gamma"] if axis else a["dy"]
    dx = (g - g.mean(axis, keepdims=True) - normal * (g * normal).mean(axis, keepdims=True)) * rstd
    return dx if axis else dx * a["gamma"]


def _worst(got: Any, exact: Any) -> float:
    import numpy as np

    return float(np.abs(got - exact).max() / np.abs(exact).max() / np.finfo(np.float32).eps)


if __name__ == "__main__":
    main()
