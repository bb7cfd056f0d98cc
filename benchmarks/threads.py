"""Cost and gain of the thread team: a phase, a wake-up, networks on two threads against one, busy cores.

Run: python benchmarks/threads.py [--quick] [--threads 2]

The cost of a phase is the time of a shared record minus its time on one thread divided by the number of threads;
a wake-up is the additional time of the first call after a pause. Networks are trained in turns on one thread and on
several, alone and next to processes that keep every core busy. The process is bound to as many cores as threads.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

import fastnn as fnn
from fastnn.backend.cpu.executor.engine import BoundProgram
from fastnn.backend.cpu.processor import cost
from fastnn.backend.cpu.threads import thread_pool
from fastnn.program.layout import CONTEXT_WORDS, Buffer, encode
from fastnn.program.program import RecordDraft, aligned_zeros, make_program

_N, _RECORDS = 16384, 32
NETWORKS = (
    ((2, 16, 16, 1), 32),
    ((64, 128, 64, 10), 32),
    ((64, 128, 64, 10), 128),
    ((784, 256, 128, 10), 128),
    ((1024, 1024, 1024), 256),
    ((1024, 4096, 4096, 1024), 512),
)
UNDER_LOAD = (((784, 256, 128, 10), 128), ((1024, 1024, 1024), 256))


class Additions:
    """A program of many small additions, each cut into parts although that hardly pays."""

    def __init__(self) -> None:
        operands = {name: encode(Buffer.DATA + slot, 0) for slot, name in enumerate("yab")}
        drafts = [RecordDraft("add", operands, {"n": _N})] * _RECORDS
        kept, cost.PART_NANOSECONDS = cost.PART_NANOSECONDS, 1e-6
        try:
            self._bound = BoundProgram(make_program("additions", 1, "float32", drafts, [], {}))
        finally:
            cost.PART_NANOSECONDS = kept
        self._bound.sharing = None  # shared on two threads, whether that pays or not
        self._memory = [aligned_zeros(4 * _N) for _ in range(3)]
        self._context = np.zeros(CONTEXT_WORDS, np.int64)
        for slot, memory in enumerate(self._memory):
            self._context[Buffer.DATA + slot] = memory.ctypes.data

    def nanoseconds(self, threads: int, steps: int) -> float:
        """Return the nanoseconds per record of one call."""
        begin = time.perf_counter_ns()
        self._bound.run(self._context, steps, threads)
        return (time.perf_counter_ns() - begin) / (steps * _RECORDS)


def phase(threads: int) -> None:
    """Print the cost of a phase and of a wake-up."""
    additions = Additions()
    kept, thread_pool.WAKE_NANOSECONDS = thread_pool.WAKE_NANOSECONDS, 0.0
    try:
        alone: list[float] = []
        together: list[float] = []
        slept_alone: list[float] = []
        slept: list[float] = []
        for _ in range(15):
            alone.append(additions.nanoseconds(1, 200))
            additions.nanoseconds(threads, 2000)  # until workers are awake: more than 10 ms on some virtual machines
            together.append(additions.nanoseconds(threads, 200))
            for times, count in ((slept_alone, 1), (slept, threads)):
                time.sleep(0.02)  # workers go to sleep
                times.append(_RECORDS * additions.nanoseconds(count, 1))
        additions.nanoseconds(threads, 2000)
        before = thread_pool.statistics()
        additions.nanoseconds(threads, 200)
        after = thread_pool.statistics()
    finally:
        thread_pool.WAKE_NANOSECONDS = kept
    cost = statistics.median(together) - statistics.median(alone) / threads
    share = (sum(after["claimed"]) - sum(before["claimed"])) / (after["phases"] - before["phases"])
    print(f"a phase of {threads} threads: {cost:.0f} ns ({share:.2f} parts of it claimed by workers)")
    print(f"a call while the workers sleep: {statistics.median(slept) - statistics.median(slept_alone):.0f} ns more\n")


def make(sizes: tuple[int, ...]) -> fnn.Sequential:
    """Make a network of dense layers."""
    layers = [fnn.Dense(size, "relu") for size in sizes[1:-1]]
    model = fnn.Sequential([fnn.Input((sizes[0],)), *layers, fnn.Dense(sizes[-1])], seed=0)
    model.compile("adam", "mse")
    return model


def training(sizes: tuple[int, ...], batch: int, seconds: float) -> Callable[[int], float]:
    """Make a function that trains on some threads, for about `seconds`, and returns seconds per step."""
    random = np.random.default_rng(0)
    steps = max(2, min(64, 4_000_000 // (batch * sizes[0])))
    x = random.standard_normal((steps * batch, sizes[0]), np.float32)
    y = random.standard_normal((steps * batch, sizes[-1]), np.float32)
    models = {}

    def run(threads: int, epochs: int) -> float:
        fnn.set_num_threads(threads)
        if threads not in models:
            models[threads] = make(sizes)
        begin = time.perf_counter()
        models[threads].fit(x, y, batch_size=batch, epochs=epochs, verbose=0)
        return (time.perf_counter() - begin) / (steps * epochs)

    run(1, 1)
    epochs = max(1, int(seconds / (steps * run(1, 1))))
    return lambda threads: run(threads, epochs)


def compare(networks: tuple[tuple[tuple[int, ...], int], ...], threads: int, rounds: int, seconds: float) -> None:
    """Train in turns and print medians."""
    print(f"| network | 1 thread, us per step | {threads} threads | speed-up | sleeps per phase |")
    print("|---|---:|---:|---:|---:|")
    for sizes, batch in networks:
        run = training(sizes, batch, seconds)
        run(threads)
        one, several = [], []
        slept = thread_pool.statistics()["sleeps"], thread_pool.statistics()["phases"]
        for _ in range(rounds):
            one.append(run(1))
            several.append(run(threads))
        sleeps = (thread_pool.statistics()["sleeps"] - slept[0]) / max(1, thread_pool.statistics()["phases"] - slept[1])
        first, second = statistics.median(one), statistics.median(several)
        name = f"{'-'.join(map(str, sizes))}, batch {batch}"
        print(f"| {name} | {1e6 * first:.0f} | {1e6 * second:.0f} | {first / second:.2f} | {sleeps:.4f} |", flush=True)
    print()


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep cores busy with other processes."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.5)
        yield
    finally:
        for process in others:
            process.kill()
            process.wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads compared with one (2)")
    parser.add_argument("--quick", action="store_true", help="shorter, without the largest network: less than a minute")
    parser.add_argument("--only", choices=("phase", "free", "busy"), help="measure only this")
    options = parser.parse_args()
    threads = options.threads
    if threads < 2:
        parser.error("expected at least two threads")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    seconds, rounds = (0.15, 5) if options.quick else (0.5, 11)
    if options.only in (None, "phase"):
        phase(threads)
    if options.only in (None, "free"):
        compare(NETWORKS[:-1] if options.quick else NETWORKS, threads, rounds if options.quick else 7, seconds)
    if options.only in (None, "busy"):
        print(f"next to {threads} busy processes:\n")
        with busy(threads):
            compare(UNDER_LOAD, threads, rounds, 2 * seconds)


if __name__ == "__main__":
    main()
