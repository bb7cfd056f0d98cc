"""The cases of `kernels.py`, also used by the asv suite: a kernel on given shapes, and its peers.

`CASES` is the table. A case's `make()` returns its `Work`: fastnn's kernel, a NumPy function that does the same, and
PyTorch's operator if PyTorch is installed and has one; each writes separate outputs, and all read the same inputs.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from fastnn.program.layout import Flag
from fastnn.program.opcodes import OPS
from kernel_numpy import HYPER, NUMPY, Arrays, optimizer
from kernel_record import Record, aligned

SIDE = 4096
PARAMETERS = 10_000_000


@dataclass
class Work:
    """One prepared case.

    Attributes
    ----------
    fastnn : Record
        `fastnn(times)` runs the kernel several times in one call, as a program does.
    numpy, torch : callable or None
        Does the work once. Functions that allocate their results return them by name instead of writing them.
    arrays : mapping of str to arrays
        The operands of "fastnn", "numpy" and "torch" by name.
    outputs : tuple of str
        Names of the operands that are written or updated.
    """

    fastnn: Record
    numpy: Callable[[], Any] | None
    torch: Callable[[], Any] | None
    arrays: Mapping[str, Arrays]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """A kernel on arrays of given shapes.

    `large` ones stream from memory and are measured by bandwidth. `optional` operands are present, `special` ones
    are made by a function (of the generator and the shape) instead of normal numbers, `peer` names the functions of
    NumPy and PyTorch (the op by default).
    """

    op: str
    dims: Mapping[str, int]
    large: bool = False
    optional: tuple[str, ...] = ()
    special: Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], Any]] = field(default_factory=dict)
    params: Mapping[str, float] = field(default_factory=dict)
    flags: Flag = field(default=Flag(0))
    variant: str = ""
    formula: str = ""
    peer: str = ""
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """A readable name: the work and its shape."""
        shape = "x".join(str(self.dims[name]) for name in ("n", "rows", "cols", "size") if name in self.dims)
        what = self.formula or self.variant
        grad = "_grad" if self.op == "activation_grad" else ""
        plain = self.op if self.op not in ("activation", "activation_grad", "optimizer") else ""
        label = plain or f"{what}{grad}"
        dtype = "" if self.dtype == "float32" else f" {self.dtype}"
        return f"{label} {shape}{dtype}"

    def _arrays(self) -> tuple[Arrays, list[str]]:
        rng = np.random.default_rng(0)
        arrays: Arrays = {}
        written = []
        for spec in OPS[self.op].operands:
            if spec.optional and spec.name not in self.optional:
                continue
            shape = tuple(size if isinstance(size, int) else self.dims[size] for size in spec.shape)
            kind = self.dtype if spec.kind in ("real", "any") else spec.kind
            if spec.name in self.special and spec.access != "write":
                made = np.asarray(self.special[spec.name](rng, shape))
            elif spec.access == "write":
                made = np.full(shape, np.nan, kind)
            else:
                made = rng.standard_normal(shape).astype(kind)
            if spec.access != "read":
                written.append(spec.name)
            arrays[spec.name] = made
        return arrays, written

    def make(self) -> Work:
        """Allocate and fill the arrays, and compile the kernel."""
        made, written = self._arrays()
        shared = {name: aligned(array) for name, array in made.items() if name not in written}
        arrays = {
            who: {name: shared[name] if name in shared else aligned(array) for name, array in made.items()}
            for who in ("fastnn", "numpy", "torch")
        }
        record = Record(self.op, arrays["fastnn"], self.dims, dtype=self.dtype, params=self.params, flags=self.flags,
                        variant=self.variant, formula=self.formula)  # fmt: skip
        peer = self.peer or self.op
        torch = None
        if importlib.util.find_spec("torch") is not None:
            torch = importlib.import_module("kernel_peers").find(peer, arrays["torch"])
        numpy = optimizer(self.variant) if self.op == "optimizer" else NUMPY.get(peer)
        return Work(record, partial(numpy, arrays["numpy"]) if numpy else None, torch, arrays, tuple(written))


def _labels(cols: int) -> Callable[[np.random.Generator, tuple[int, ...]], Any]:
    return lambda rng, shape: rng.integers(0, cols, shape)


def _positive(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.uniform(0.5, 2.0, shape).astype(np.float32)


def _probabilities(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    e = rng.uniform(0.5, 2.0, shape).astype(np.float32)
    return e / e.sum(axis=1, keepdims=True)


def _unit(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.uniform(-0.9, 0.9, shape).astype(np.float32)


def _rows(rows: int, cols: int, *, large: bool = False, ops: tuple[str, ...] = ()) -> list[Case]:
    """Return the cases of ops on tables."""
    dims = {"rows": rows, "cols": cols}
    statistics = {"rstd": _positive, "moving_variance": _positive}
    affine = ("gamma", "beta")
    cases = [
        Case("softmax", dims, large),
        Case("log_softmax", dims, large),
        Case("softmax_grad", dims, large, special={"y": _probabilities}),
        Case("log_softmax_grad", dims, large, special={"y": lambda rng, shape: np.log(_probabilities(rng, shape))}),
        Case("layer_norm", dims, large, affine, params={"epsilon": 1e-3}),
        Case("layer_norm_grad", dims, large, ("gamma",), statistics),
        Case("layer_norm_param_grad", dims, large, ("dgamma", "dbeta"), statistics),
        Case("batch_norm", dims, large, affine, statistics, {"epsilon": 1e-3, "momentum": 0.9}),
        Case("batch_norm_grad", dims, large, ("dx", "dgamma", "dbeta", "gamma"), statistics),
        Case("sum_rows", dims, large),
        Case("bias_add", dims, large),
        Case("cross_entropy_logits_labels", {**dims, "per_sample": 1, "samples": rows}, large, ("dx",),
             {"target": _labels(cols)}, {"scale": 1.0 / rows, "label_smoothing": 0.0}),
    ]  # fmt: skip
    return [case for case in cases if not ops or case.op in ops]


def _elementwise(n: int, large: bool) -> list[Case]:
    """Return the cases of activations, their gradients, and dropout."""
    cases = []
    for formula in ("relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid"):
        cases.append(Case("activation", {"n": n}, large, formula=formula, peer=formula))
        cases.append(Case("activation_grad", {"n": n}, large, special={"saved": _unit}, formula=formula,
                          peer=f"{formula}_grad"))  # fmt: skip
    return [*cases, Case("add", {"n": n}, large), Case("dropout", {"n": n, "node": 1}, large, params={"rate": 0.5})]


def _hyper(variant: str) -> Callable[[np.random.Generator, tuple[int, ...]], Any]:
    # a row per step: as many as one call of `Record` may take
    return lambda rng, shape: np.tile(np.resize((*HYPER[variant], *[0.0] * 8), 8), (4096, 1))


def _optimizers(n: int, large: bool) -> list[Case]:
    """Return the cases of optimizers, whose slots start at 0 as PyTorch's do."""
    slots = {"sgd": (), "adam": ("s0", "s1")}
    zeros = dict.fromkeys(("s0", "s1"), lambda rng, shape: np.zeros(shape, np.float32))
    return [
        Case("optimizer", {"n": n}, large, slots.get(variant, ("s0",)), {"hyper": _hyper(variant), **zeros},
             variant=variant, peer=variant, params={"multiplier": 1.0})
        for variant in HYPER
    ]  # fmt: skip


def _gather(rows: int, size: int) -> Case:
    stride = {"row_stride": 4 * size, "size0": 0, "size1": 1, "size2": 1, "stride0": 0, "stride1": 0, "stride2": 0}
    special = {
        "source": lambda rng, shape: rng.standard_normal((4096, size), np.float32),
        "index": lambda rng, shape: rng.permutation(4096)[:rows],
        "batch": lambda rng, shape: np.full((rows, size), np.nan, np.float32),
    }
    return Case("gather", {"rows": rows, "size": size, **stride}, False, ("index",), special,
                flags=Flag.CHECK_FINITE, variant="float32")  # fmt: skip


SMALL = ("softmax", "layer_norm", "layer_norm_grad", "sum_rows", "cross_entropy_logits_labels")
CASES: tuple[Case, ...] = (
    *_rows(SIDE, SIDE, large=True),
    *_elementwise(SIDE * SIDE, True),
    *_optimizers(PARAMETERS, True),
    Case("sum_squares", {"n": PARAMETERS}, True),
    *(case for rows in (32, 128) for cols in (10, 64) for case in _rows(rows, cols, ops=SMALL)),
    *_rows(32, 1, ops=("sum_rows",)),
    *_optimizers(1000, False)[-1:],
    *_elementwise(2048, False)[:6],
    _gather(32, 64),
    _gather(128, 784),
    Case("sum_loss", {"rows": 32, "per_sample": 1, "samples": 32},
         special={"total": lambda rng, shape: np.zeros(shape)}),
    Case("loss", {"rows": 32, "cols": 1, "per_sample": 1, "samples": 32}, False, ("dx",),
         params={"scale": 1 / 32, "row_factor": 1.0}, variant="mean_squared_error"),
    Case("loss", {"rows": 128, "cols": 10, "per_sample": 1, "samples": 128}, False, ("dx",),
         params={"scale": 1 / 128, "row_factor": 0.1}, variant="mean_squared_error"),
    Case("tick", {"rows": 32}),
)  # fmt: skip
