"""Memory-bound kernels: their bandwidth, against a copy within the device in the same minute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.backend.cuda.codegen.kernel import Key
from fastnn.backend.cuda.driver import available
from gpu import oracle
from gpu.buffers import Copy, Rotation
from gpu.events import Job
from gpu.settings import Settings
from gpu.timing import race
from kernel_numpy import HYPER

# The first elements or rows, which are compared with the reference; all of them if an op adds rows.
COMPARED, COMPARED_ROWS = 65536, 64
TOLERANCE = 1e-5


def cases(settings: Settings) -> list[Any]:
    """Return the timed cases, the most informative first."""
    make, uniform = oracle.making.Case, oracle.making.uniform
    n, long = {"n": settings.length}, {"n": settings.long}
    table = {"rows": settings.rows, "cols": settings.cols}
    short = {"rows": settings.rows * 16, "cols": max(settings.cols // 16, 1)}
    affine, saved = frozenset({"gamma", "beta"}), {"saved": uniform(-0.9, 0.9)}
    adam = {
        "optional": frozenset({"s0", "s1"}), "variant": "adam",
        "special": {"s1": uniform(0.5, 1.0), "hyper": _hyper("adam")},
    }  # fmt: skip
    return [
        make("add", long),
        make("optimizer", long, **adam),
        make("softmax", table),
        make("activation", long, formula="gelu"),
        make("layer_norm", table, {"epsilon": 1e-3}, optional=affine),
        make("sum_rows", table),
        make("bias_add", table),
        make("activation", long, formula="relu"),
        make("activation_grad", long, formula="gelu", special=saved),
        make("dropout", {**long, "node": 1}, {"rate": 0.5}, counters={"seed": 11, "step": 3}),
        make("optimizer", long, variant="sgd", special={"hyper": _hyper("sgd")}),
        make("softmax", short),
        make("layer_norm_grad", table, optional=frozenset({"gamma"}), special={"rstd": uniform(0.5, 2.0)}),
        make("add", n),
        make("optimizer", n, **adam),
    ]


def _hyper(variant: str) -> Any:
    row = np.resize((*HYPER[variant], *[0.0] * 8), 8)
    return lambda rng, shape: row


def keys(settings: Settings) -> Iterator[Key]:
    """Return the kernels of all cases."""
    for case in cases(settings):
        yield from oracle.keys(case, "float32", "float32")


def run(job: Job) -> None:
    """Time every kernel."""
    settings, device = job.settings, available.open_device(0)
    copy = Copy(device, settings)
    todo = cases(settings)[:: 3 if settings.simulated else 1]
    for number, case in enumerate(todo):
        if number and job.out(settings.piece_seconds):
            job.stop(f"{number} of {len(todo)} kernels were timed")
            return
        job.begin(case.id)
        rotation = Rotation(device, case, "float32", settings, job.salt)
        rotation.once()
        off = _off(rotation)
        rotation.fill(0)
        contestants = {"fastnn": rotation.seconds, "copy": copy.seconds}
        times = race(contestants, {"fastnn": rotation.launches, "copy": 1}, job)
        rates = {"fastnn": rotation.nbytes / times["fastnn"].median, "copy": copy.nbytes / times["copy"].median}
        job.item(
            kernel=_name(case), nbytes=rotation.nbytes, sets=rotation.sets, off=off,
            us={who: one.micro() for who, one in times.items()},
            gbps={who: rate / 1e9 for who, rate in rates.items()}, share=rates["fastnn"] / rates["copy"],
        )  # fmt: skip
        untouched = rotation.untouched()
        if not off <= TOLERANCE or untouched:
            left = f", and NaN is left in {', '.join(untouched)}" if untouched else ""
            job.fail(f"{case.id}: off by {off:.2g} of the largest element{left}")


def _name(case: Any) -> str:
    grad = " gradient" if case.op == "activation_grad" else ""
    what = case.formula or case.variant or case.op
    return f"{what}{grad} {'x'.join(str(size) for name, size in case.dims.items() if name != 'node')}"


def _off(rotation: Rotation) -> float:
    """Return the error after one launch in the first elements or rows, relative to the largest of these."""
    case, dims = rotation.case, dict(rotation.case.dims)
    if case.op != "sum_rows":
        for name, most in (("n", COMPARED), ("rows", COMPARED_ROWS)):
            if name in dims:
                dims[name] = min(dims[name], most)
    part = replace(case, dims=dims)
    values = {name: _part(array, part.shape(name)) for name, array in rotation.host.items()}
    expected = oracle.running.run_reference(part, "float32", values).outputs
    worst = 0.0
    for name, array in expected.items():
        got = _part(rotation.operand(name).copy_to_host(), array.shape).astype(np.float64)
        error = float(np.abs(got - array).max() / max(np.abs(array).max(), 1e-30))
        worst = error if not error <= worst else worst  # NaN is the worst
    return worst


def _part(array: Any, shape: tuple[int, ...]) -> Any:
    return array[tuple(slice(0, size) for size in shape)]
