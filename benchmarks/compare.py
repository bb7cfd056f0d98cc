"""Compare the training speed of fastnn with NumPy, scikit-learn, PyTorch and JAX, where they are installed.

    python benchmarks/compare.py [--quick] [--json PATH] [--workload NAME ...] [--threads N] [--rounds N]

Every contestant trains the same network from the same weights on the same batches in float32. First a check:
after one epoch the losses and the weights agree with those of a plain float64 computation. Then runs of many
steps are timed in turns (A B C A B C ...), so that a change of the clock rate meets all; a run includes
the gathering of batches and Adam, not compilation. The process is bound to one core for each thread.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contestants import Contestant
    from workloads import Workload

LOSS_TOLERANCE = 1e-4
WEIGHT_TOLERANCE = 2e-3


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison, print a Markdown table for each workload and one of all, and return 0 if all agreed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter runs, about two minutes in all")
    parser.add_argument("--json", type=Path, help="write all times to this file")
    parser.add_argument("--workload", nargs="+", default=[""], metavar="NAME", help="parts of workloads' names")
    parser.add_argument("--threads", type=int, default=1, help="threads of each contestant (default 1)")
    parser.add_argument("--rounds", type=int, help="timed runs of each, 2 or more (default 15, quick 5)")
    options = parser.parse_args(arguments)
    if options.threads < 1 or (options.rounds is not None and options.rounds < 2):
        parser.error("expected at least one thread and two rounds")
    limit_threads(options.threads)

    from workloads import WORKLOADS

    selected = [work for work in WORKLOADS if any(part in work.name for part in options.workload)]
    if not selected:
        parser.error(f"no workload has one of {options.workload} in its name: {[w.name for w in WORKLOADS]}")
    rounds = options.rounds or (5 if options.quick else 15)
    agreed = True
    results: list[dict[str, Any]] = []
    print(describe(options.threads))
    for work in selected:
        epochs = max(1, work.epochs // 4) if options.quick else work.epochs
        contestants, skipped = enter(work, options.threads)
        deviations = {one.name: deviation(one) for one in contestants}
        times = race(contestants, epochs, rounds)
        steps = epochs * work.steps_per_epoch
        print(table(work, contestants, times, deviations, steps), *skipped, sep="\n", flush=True)
        agreed &= all(agrees(*both) for both in deviations.values())
        results.append({"workload": work.name, "steps": steps, "seconds": times, "deviations": deviations})
    print(summary(results))
    if options.json:
        report = {"environment": describe(options.threads), "results": results}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0 if agreed else 1


def limit_threads(threads: int) -> None:
    """Bind the process to as many cores, and tell the thread pools, which read this as they are imported.

    Settings of OpenBLAS in the environment are dropped: one that names another CPU than this one (CORETYPE)
    would slow down NumPy and scikit-learn alone, as measured by half.
    """
    if "numpy" in sys.modules:
        raise RuntimeError("the number of threads has to be set before NumPy is imported")
    for name in [name for name in os.environ if name.startswith("OPENBLAS_")]:
        del os.environ[name]
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def describe(threads: int) -> str:
    """One line: CPU, Python, number of threads."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    share = "" if threads == 1 else " (fastnn and elementwise NumPy use one)"
    return f"{cpu}, {platform.system()}, Python {platform.python_version()}, threads: {threads}{share}"


def enter(work: "Workload", threads: int) -> tuple[list["Contestant"], list[str]]:
    """Return the contestants that can train this workload, after one epoch, and why the others cannot."""
    from compiled_contestants import Jax, PyTorch, PyTorchCompiled
    from contestants import Fastnn, Numpy, ScikitLearn

    contestants: list[Contestant] = []
    skipped = []
    data, weights = work.data(), work.initial_weights()
    for kind in (Fastnn, Numpy, ScikitLearn, PyTorch, PyTorchCompiled, Jax):
        try:
            one = kind(work, *data, weights, threads)
            one.first_loss = one.train(1)
            contestants.append(one)
        except Exception as error:
            # A peer may find no C++ compiler, or have changed; our own code has to work.
            if not isinstance(error, ImportError) and kind in (Fastnn, Numpy):
                raise
            reason = str(error).strip().splitlines() or [type(error).__name__]
            skipped.append(f"- {kind.name} skipped: {reason[0]}")
    return contestants, skipped


def deviation(one: "Contestant") -> tuple[float, float]:
    """Return how far a contestant is from the float64 reference after its first epoch.

    Returns
    -------
    tuple of float
        Relative difference of the mean loss; norm of the difference of the weights, relative to the norm of
        their way from the initial weights.
    """
    import numpy as np

    from reference import train_epoch

    initial = one.workload.initial_weights()
    loss, exact = train_epoch(one.workload, one.X, one.y, initial, one.epsilon_last)
    flat = [np.concatenate([w.ravel() for w in weights]) for weights in (initial, exact, one.get_weights())]
    way, apart = np.linalg.norm(flat[1] - flat[0]), np.linalg.norm(flat[2] - flat[1])
    return abs(one.first_loss - loss) / loss, float(apart / way)


def agrees(loss: float, weights: float) -> bool:
    """Whether both deviations are within the tolerances."""
    return loss <= LOSS_TOLERANCE and weights <= WEIGHT_TOLERANCE


def race(contestants: list["Contestant"], epochs: int, rounds: int) -> dict[str, list[float]]:
    """Time runs of all contestants in turns, each from the initial weights, and return their seconds."""
    times: dict[str, list[float]] = {one.name: [] for one in contestants}
    for number in range(rounds + 1):
        for one in contestants:
            one.set_weights(one.workload.initial_weights())
            gc.collect()
            start = time.perf_counter()
            one.train(epochs)
            if number:
                times[one.name].append(time.perf_counter() - start)
    return times


def table(
    work: "Workload",
    contestants: list["Contestant"],
    times: dict[str, list[float]],
    deviations: dict[str, tuple[float, float]],
    steps: int,
) -> str:
    """Return a Markdown table of the microseconds a step, with the ratio to the first contestant."""
    first = contestants[0].name
    base = statistics.median(times[first])
    lines = [
        f"\n### {work.name}, {work.activation}, {work.loss}: {len(times[first])} runs of {steps} steps\n",
        f"| library | version | us a step (median) | quartiles | time / {first} | loss, weights off by | |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for one in contestants:
        micro = [1e6 * seconds / steps for seconds in times[one.name]]
        low, middle, high = statistics.quantiles(micro, n=4, method="inclusive")
        loss, weights = deviations[one.name]
        note = one.differs if agrees(loss, weights) else "DISAGREES, so its time means nothing"
        ratio = statistics.median(times[one.name]) / base
        lines.append(
            f"| {one.name} | {one.version()} | {middle:.4g} | {low:.4g} to {high:.4g} | {ratio:.2f} "
            f"| {loss:.0e}, {weights:.0e} | {note} |"
        )
    lines.append(
        "\nDifferences after one epoch, from a float64 computation: of the loss, relative (at most "
        f"{LOSS_TOLERANCE:g}); of the weights, relative to their way (at most {WEIGHT_TOLERANCE:g})."
    )
    return "\n".join(lines)


def summary(results: list[dict[str, Any]]) -> str:
    """Return one table of all workloads: median microseconds a step, and in brackets the ratio to the first."""
    names = list(dict.fromkeys(name for result in results for name in result["seconds"]))
    lines = [
        "\n### Microseconds a training step (and times as long as " + names[0] + ")\n",
        "| network, batch | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for result in results:
        micro = {name: 1e6 * statistics.median(times) / result["steps"] for name, times in result["seconds"].items()}
        base = micro[names[0]]
        cells = [f"{micro[name]:.4g} ({micro[name] / base:.2f})" if name in micro else "" for name in names]
        lines.append(f"| {result['workload']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
