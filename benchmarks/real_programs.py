"""Products and networks on several threads in programs that also sleep, or that use NumPy in between.

Run: python benchmarks/real_programs.py [--quick] [--threads 2]

A second thread that is always ready in a loop of products may be late in a program: it sleeps and has to be woken, or
the threads of NumPy's BLAS, which spin for a while after each product, hold its processor. Three tables:

- the first product after 50 ms of sleep, against NumPy's;
- a product that follows one of NumPy's, against products that follow each other;
- training steps and predictions of networks in the same places.

The process is bound to as many processors as threads. All times are medians, in turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

#: Seconds without work: long enough for every thread to sleep.
IDLE = 0.05


def in_turns(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Return the median of each run's seconds; the runs take turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(run())
    return {name: statistics.median(values) for name, values in times.items()}


def timed(act: Callable[[], object], before: Callable[[], object], warm: int = 0) -> Callable[[], float]:
    """Make a run: some calls that are not timed, the work in between, and one timed call."""

    def run() -> float:
        for _ in range(warm):
            act()
        before()
        begin = time.perf_counter()
        act()
        return time.perf_counter() - begin

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads of both libraries (2)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sizes: ten seconds")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        processors = sorted(os.sched_getaffinity(0))
        if len(processors) < options.threads:
            sys.exit(f"real_programs.py: needs {options.threads} processors, found {len(processors)}")
        os.sched_setaffinity(0, processors[-options.threads :])
    # before NumPy is imported
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)
    os.environ["FASTNN_BACKGROUND"] = "0"
    import numpy as np

    import fastnn as fnn

    fnn.set_num_threads(options.threads)
    random = np.random.default_rng(0)
    rounds, sizes = (9, (128, 256, 512)) if options.quick else (21, (128, 256, 512, 1024))

    def pause() -> None:
        time.sleep(IDLE)

    print(f"after {1e3 * IDLE:.0f} ms of sleep, us per product\n")
    print("| size | fastnn | NumPy | NumPy / fastnn |\n|---|---:|---:|---:|")
    for n in sizes:
        a, b = random.standard_normal((2, n, n), np.float32)
        c = np.empty_like(a)
        ours, theirs = partial(fnn.matmul, a, b, out=c), partial(np.matmul, a, b, out=c)
        np.testing.assert_allclose(ours(), a @ b, atol=1e-3)
        found = in_turns({"fastnn": timed(ours, pause, warm=9), "NumPy": timed(theirs, pause, warm=9)}, rounds)
        first, second = found["fastnn"], found["NumPy"]
        print(f"| {n} | {1e6 * first:.0f} | {1e6 * second:.0f} | {second / first:.2f} |", flush=True)

    print("\nafter a product of NumPy's of the same size, us per product\n")
    print("| size | fastnn alone | after NumPy | share of its own speed |\n|---|---:|---:|---:|")
    for n in sizes[1:]:
        a, b = random.standard_normal((2, n, n), np.float32)
        c = np.empty_like(a)
        ours, theirs = partial(fnn.matmul, a, b, out=c), partial(np.matmul, a, b, out=c)
        alone = statistics.median(_alone(ours, rounds))
        after = statistics.median([timed(ours, theirs)() for _ in range(rounds)])
        print(f"| {n} | {1e6 * alone:.0f} | {1e6 * after:.0f} | {alone / after:.2f} |", flush=True)

    print("\nnetworks, us\n")
    print("| network | what | alone | after sleep | after NumPy |\n|---|---|---:|---:|---:|")
    big = random.standard_normal((512, 512), np.float32)
    for layers, batch in (((784, 256, 128, 10), 128), ((1024, 1024, 1024), 256))[: 1 if options.quick else 2]:
        model = fnn.Sequential(
            [fnn.Input(layers[0]), *[fnn.Dense(n, "relu") for n in layers[1:-1]], fnn.Dense(layers[-1])], seed=0
        )
        model.compile(fnn.SGD(1e-6), "mse")
        x = random.standard_normal((batch, layers[0]), np.float32)
        y = random.standard_normal((batch, layers[-1]), np.float32)
        acts: dict[str, Callable[[], object]] = {
            "training step": partial(model.train_on_batch, x, y),
            "prediction": partial(model.predict, x, batch_size=batch),
        }
        for what, act in acts.items():
            alone = statistics.median(_alone(act, rounds))
            slept = statistics.median([timed(act, pause)() for _ in range(rounds)])
            after = statistics.median([timed(act, lambda: big @ big)() for _ in range(rounds)])
            name = f"{'-'.join(map(str, layers))}, batch {batch}"
            print(f"| {name} | {what} | {1e6 * alone:.0f} | {1e6 * slept:.0f} | {1e6 * after:.0f} |", flush=True)


def _alone(act: Callable[[], object], rounds: int) -> list[float]:
    """Return the seconds of calls that follow each other, once every other library's threads sleep."""
    time.sleep(0.2)
    for _ in range(15):
        act()
    return [timed(act, lambda: None)() for _ in range(rounds)]


if __name__ == "__main__":
    main()
