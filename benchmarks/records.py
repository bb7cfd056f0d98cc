"""Where the time of a training step goes: each record of its program alone, on one thread and on several.

    python benchmarks/records.py [--network 64-128-64-10] [--batch 32] [--loss mse] [--optimizer adam] [--threads 2]
        [--rounds N]
    python benchmarks/records.py --network cnn --batch 64

    python benchmarks/records.py --network "LSTM 100"

A network is the sizes of its dense layers, a name of `image_networks.py`, or how the name of one of `recurrent.py`
begins.

Each record runs many times in one call, in turns with all records together. The figures are medians, in nanoseconds.
A record that runs alone finds its operands in the caches, on several threads those of the right core: so the records'
sum is less than what a step takes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

import fastnn as fnn
from fastnn.backend.cpu.executor.engine import RUN, BoundProgram
from fastnn.backend.cpu.loading import library
from fastnn.backend.cpu.loading.entry_point import EntryPoint
from fastnn.backend.cpu.processor.blocking import SCRATCH_BYTES
from fastnn.backend.cpu.threads import thread_pool
from fastnn.program.layout import RECORD_WORDS, Buffer, Counter
from fastnn.program.program import aligned_zeros
from fastnn.runtime.bindings import Bindings, new_context, write_addresses
from fastnn.runtime.feeds import checked
from image_networks import NETWORKS
from recurrent import WORKLOADS, our_network

#: a timed run lasts about this long
SECONDS = 0.003
#: batches of data
BATCHES = 20


class Step:
    """The program of a training step, and its parts.

    Parameters
    ----------
    model : Model
        Compiled, with a loss of labels or of arrays.
    shape : sequence of int
        Of a sample.
    outputs, batch : int
    labels : bool
        Whether targets are labels.
    """

    def __init__(self, model: fnn.Model, shape: Sequence[int], outputs: int, batch: int, *, labels: bool) -> None:
        random = np.random.default_rng(0)
        n = batch * BATCHES
        x = random.standard_normal((n, *shape), np.float32)
        y = random.integers(0, outputs, n) if labels else random.standard_normal((n, outputs), np.float32)
        model.fit(x, y, batch_size=batch, epochs=1, verbose=0)
        runtime = model._runtime
        objective, rule = runtime.compiled()
        feed = checked(runtime, x, y, None, None)
        request = feed.request("train", batch, training=True, trained=runtime.table.trained())
        self.program: BoundProgram = runtime.program(request)
        work = Bindings(feed.addresses(), hyper=rule.hyper_rows(0, BATCHES), accumulators=objective.initial())
        self._context = new_context(0)
        flat = runtime.parameters, runtime.gradients, runtime.optimizer_state
        arena = aligned_zeros(self.program.program.sizes[Buffer.ARENA])
        self._kept = write_addresses(self._context, work, flat, arena)
        self._scratch = aligned_zeros(8 * SCRATCH_BYTES)
        self._context[Buffer.SCRATCH] = self._scratch.ctypes.data
        self._model, self._feed, self._work = model, feed, work

    def runs(self, first: int, count: int, threads: int) -> Callable[[int], float]:
        """Return a function that runs some of the records a number of times, and returns the seconds."""
        team = thread_pool.gather(threads, 1e9) if threads > 1 else 0
        address = self.program.address + first * RECORD_WORDS * 8
        context = self._context
        entry = EntryPoint(
            library.address(RUN), address, count, int(context.ctypes.data), 0, threads if team else 1, team
        )

        def run(steps: int) -> float:
            context[Counter.CURSOR] = context[Counter.CHUNK_STEP] = context[Counter.STATUS] = 0
            entry.arguments[3] = steps
            thread_pool.settle()
            begin = time.perf_counter()
            done = entry.start()
            seconds = time.perf_counter() - begin
            assert done == steps, f"stopped after {done} of {steps} steps with status {context[Counter.STATUS]}"
            return seconds

        return run


def dense(sizes: list[int], loss: str, optimizer: str) -> fnn.Sequential:
    """Return a compiled network of dense layers."""
    layers = [fnn.Dense(size, "relu") for size in sizes[1:-1]]
    last = fnn.Dense(sizes[-1], "softmax" if loss == "cross_entropy" else None)
    model = fnn.Sequential([fnn.Input((sizes[0],)), *layers, last], seed=0)
    model.compile(optimizer, loss)
    return model


def measured(step: Step, threads: list[int], rounds: int) -> list[list[float]]:
    """Return nanoseconds for each number of threads: of an empty program, of all records, and of each record."""
    count = step.program.count
    slices = [(0, 0), (0, count), *((index, 1) for index in range(count))]
    runs = [[step.runs(first, length, number) for first, length in slices] for number in threads]
    # a step on all records moves on to the next batch
    most = [BATCHES if length == count else 1 << 20 for _, length in slices]
    steps = [min(limit, max(1, int(SECONDS / (run(4) / 4)))) for run, limit in zip(runs[0], most, strict=True)]
    found: list[list[list[float]]] = [[[] for _ in slices] for _ in threads]
    for _ in range(rounds):
        for index, number in enumerate(steps):
            for which in range(len(threads)):
                repeats = max(1, int(SECONDS / max(1e-9, runs[which][index](number))))
                seconds = sum(runs[which][index](number) for _ in range(repeats))
                found[which][index].append(seconds / number / repeats * 1e9)
    return [[statistics.median(times) for times in of_threads] for of_threads in found]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="64-128-64-10")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--loss", default="mse", choices=["mse", "cross_entropy"])
    parser.add_argument("--optimizer", default="adam")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    if options.network in NETWORKS:
        network = NETWORKS[options.network]
        step = Step(network.fastnn(options.optimizer), network.shape, 10, options.batch, labels=True)
    elif found := [work for work in WORKLOADS if work.name.startswith(options.network)]:
        work = found[0]
        options.batch = work.batch
        step = Step(our_network(work, "float32"), (work.steps, work.features), 1, work.batch, labels=False)
    else:
        sizes = [int(size) for size in options.network.split("-")]
        model = dense(sizes, options.loss, options.optimizer)
        step = Step(model, sizes[:1], sizes[-1], options.batch, labels=options.loss == "cross_entropy")
    fnn.set_num_threads(max(options.threads))
    times = measured(step, options.threads, options.rounds)
    program = step.program.program
    heads = [f"{number} thread{'s' if number > 1 else ''}" for number in options.threads]
    print(f"{options.network}, batch {options.batch}: nanoseconds\n")
    print("| | record | node | " + " | ".join(heads) + " |")
    print("|---:|---|---|" + "---:|" * len(heads))
    for place, index in enumerate(step.program.numbers[: step.program.count]):
        op, node = ("chain", "") if index < 0 else (program.kernels[index].op, program.labels[index])
        cells = " | ".join(f"{of_threads[2 + place]:.0f}" for of_threads in times)
        print(f"| {place} | {op} | {node} | {cells} |")
    for name, row in (("sum", [sum(one[2:]) for one in times]), ("a step", [one[1] for one in times])):
        print(f"| | {name} | | " + " | ".join(f"{value:.0f}" for value in row) + " |")
    print("| | a call without records | | " + " | ".join(f"{one[0]:.0f}" for one in times) + " |")


if __name__ == "__main__":
    main()
