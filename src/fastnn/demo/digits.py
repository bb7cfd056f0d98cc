"""The demonstration: train on the bundled digits, test on held-out ones, race against plain NumPy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn
from fastnn.console import complain, tell, unannounced
from fastnn.demo import warm
from fastnn.demo.race import Setup, held_out_split, make_model

# Set before NumPy is imported, these keep its BLAS on one thread, and fastnn too.
_POOLS = ("FASTNN", "OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "VECLIB_MAXIMUM")
_ONE_THREAD = {f"{pool}_NUM_THREADS": "1" for pool in _POOLS}


@dataclass
class Report:
    """The results of a demonstration.

    Attributes
    ----------
    loss, accuracy : float
        On the held-out images.
    seconds : float
        Time of `fit`, without compilation.
    """

    loss: float
    accuracy: float
    seconds: float


def demonstrate(setup: Setup, *, quiet: bool) -> int:
    """Run the demonstration and print its results.

    Parameters
    ----------
    setup : Setup
        Network, data and training.
    quiet : bool
        Print only the results: no bars, no explanations.

    Returns
    -------
    int
        Exit code: 1 when the race with NumPy could not be run.
    """
    say = _silent if quiet else tell
    X, y = fnn.datasets.load_digits()
    train, test = held_out_split(len(X), setup.seed)
    X = X.astype(setup.dtype, copy=False)
    say(
        f"fastnn {fnn.__version__}: {len(X)} handwritten digits of 8 x 8 pixels, {len(train)} to train on and "
        f"{len(test)} held out.\nThe held-out fifth is drawn at random (seed {setup.seed}), because the last rows "
        "of the file come from other\nwriters and are harder. With the defaults, 16 seeds gave accuracies of "
        "96.9 to 99.2 %.\n"
    )
    model = make_model(setup, metrics=["accuracy"])
    sizes = "-".join(map(str, setup.sizes))
    say(
        f"Network {sizes} with ReLU and softmax, {model.count_params():,} parameters, {setup.dtype}; Adam, "
        f"batches of {setup.batch_size}, {setup.epochs} epochs."
    )
    _prepare(model, quiet=quiet)
    report = _train(model, setup, (X[train], y[train]), (X[test], y[test]), quiet=quiet)
    tell(
        f"held-out images: loss {report.loss:.4f}, accuracy {100 * report.accuracy:.2f} % "
        f"(trained in {report.seconds:.2f} s)"
    )
    say("\nNow the same training (weights, batches, Adam, one thread) in plain NumPy, alternating with fastnn ...")
    try:
        race = _race(setup)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        complain(f"fastnn: the race with NumPy could not be run: {error}")
        return 1
    tell(_table(race))
    say(
        f"Medians of {race['rounds']} runs of {race['epochs']} epochs each. A run includes all of the training: "
        "shuffling, gathering\nbatches, forward, loss, backward, Adam. `benchmarks/compare.py` in the source "
        "compares more networks and libraries.\n"
        "NumPy's epochs slow down as the network converges: fading values become subnormal numbers, with which\n"
        "processors compute slowly. fastnn treats them as zeros."
    )
    return 0


def _prepare(model: fnn.Model, *, quiet: bool) -> None:
    """Compile missing kernels, and print the time it took."""
    keys = warm.keys_of(model.program)
    missing = warm.missing(keys)
    if missing and not quiet:
        # 12 kernels took 3.6 to 13 s in a separate process on three processors, and a minute on a busy one
        tell(
            f"Compiling {len(missing)} kernels for this processor; this happens once and takes some seconds, or on a "
            "slow machine a minute or more ..."
        )
    with unannounced():
        seconds = warm.prepare(keys)
    if missing and not quiet:
        tell(f"Compiled in {seconds:.1f} s; kept in {fnn.cache.described()}")


def _train(
    model: fnn.Model,
    setup: Setup,
    train: tuple[NDArray[Any], NDArray[np.int64]],
    test: tuple[NDArray[Any], NDArray[np.int64]],
    *,
    quiet: bool,
) -> Report:
    begin = time.perf_counter()
    model.fit(*train, batch_size=setup.batch_size, epochs=setup.epochs, verbose=0 if quiet else 1)
    seconds = time.perf_counter() - begin
    logs = model.evaluate(*test)
    return Report(logs["loss"], logs["accuracy"], seconds)


def _race(setup: Setup) -> dict[str, Any]:
    """Run the race in a new process, where NumPy's BLAS can still be limited to one thread."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    done = subprocess.run(
        [sys.executable, "-m", "fastnn.demo.race", json.dumps(asdict(setup))],
        env=environment | _ONE_THREAD,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ValueError(lines[-1])
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _table(race: dict[str, Any]) -> str:
    """Format the times and accuracies of both, and the ratio of the times."""
    own, other = race["fastnn"], race["numpy"]
    lines = [f"{'':14}{'time per epoch':>16}{'held-out accuracy':>20}"]
    for name, one in (("fastnn", own), (f"NumPy {np.__version__}", other)):
        lines.append(f"{name:<14}{1e3 * one['seconds']:>13.2f} ms{100 * one['accuracy']:>18.2f} %")
    ratio = other["seconds"] / own["seconds"]
    lines.append(
        f"fastnn is {ratio:.1f} times as fast." if ratio >= 1.0 else f"fastnn is {1 / ratio:.1f} times as slow."
    )
    return "\n".join(lines)


def _silent(text: str) -> None:
    """Print nothing."""
