"""Weights of one model that move towards those of another, in place: target networks, averages of models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.graph.graph import Graph
from fastnn.layers.architecture import Architecture
from fastnn.lower.lower import lower
from fastnn.lower.task import Place, Task
from fastnn.lower.update import tick
from fastnn.program.layout import MAX_BUFFERS, SHARED, Buffer, Counter, align, encode
from fastnn.program.program import Program, RecordDraft
from fastnn.program.record import ITEM_SIZES
from fastnn.runtime.bindings import Bindings
from fastnn.runtime.device.opening import placement_on
from fastnn.runtime.parameters import ParameterTable, WeightEntry
from fastnn.runtime.runtime import Runtime

# programs for as many values of tau are kept
_KEPT = 8
# a weight's place in the first model and in the second, and its elements
_Pair = tuple[Place, Place, int]


class Blend:
    """The weights of a model, which move towards those of another one.

    It runs as a model does that has no weights of its own: under the locks of all models that hold weights, and where
    they are.

    Parameters
    ----------
    target, source : Runtime
        Of models with equal weights.

    Raises
    ------
    ValueError
        When numbers, shapes or dtypes of weights differ, or there are too many models.
    """

    def __init__(self, target: Runtime, source: Runtime) -> None:
        _check(target, source)
        self._holders: list[Runtime] = []
        pairs = [
            (self._place(target, mine), self._place(source, its), mine.size)
            for mine, its in zip(target.table, source.table, strict=True)
        ]
        if len(self._holders) > MAX_BUFFERS - SHARED:
            raise ValueError(f"update_average: the two are made of more than {MAX_BUFFERS - SHARED} models")
        # a weight that both have stays as it is
        self._ranges = _joined([pair for pair in pairs if pair[0] != pair[1]], ITEM_SIZES[target.table.dtype])
        sizes = {SHARED + number: holder.table.own_nbytes for number, holder in enumerate(self._holders)}
        empty = Architecture((), (), (), (), (), ())
        self._runtime = Runtime(ParameterTable(empty, target.table.dtype, sizes=sizes), 0, self._holders)
        # in its first step a moving average is a copy
        self._runtime.training[Counter.STEP] = 1
        self._device = "cpu"
        self._programs: dict[float, tuple[Any, Any]] = {}

    def _place(self, runtime: Runtime, entry: WeightEntry) -> Place:
        """Return where a weight is among the buffers of the models that hold weights."""
        buffer = entry.place.buffer
        holder: Any = runtime if buffer < SHARED else runtime.owners[buffer - SHARED]
        if holder not in self._holders:
            self._holders.append(holder)
        return Place(SHARED + self._holders.index(holder), entry.place.offset)

    def run(self, tau: float, device: str) -> None:
        """Set each weight to (1 - tau) of itself and tau of the other's, on a device."""
        runtime = self._runtime
        with runtime.lock:
            if device != self._device:
                runtime.move(placement_on(device, "float32", runtime.table.dtype))
                self._device = device
                self._programs.clear()
            if tau not in self._programs:
                while len(self._programs) >= _KEPT:
                    self._programs.pop(next(iter(self._programs)))
                bound = runtime.bind(self._program(tau))
                self._programs[tau] = bound, runtime.fixed(bound, Bindings({}))
            bound, fixed = self._programs[tau]
            if fixed is None or not runtime.run_fixed(fixed):
                runtime.run(bound, Bindings({}), 1, cursor=0)

    def _program(self, tau: float) -> Program:
        table = self._runtime.table
        drafts = [
            RecordDraft(
                "moving_average", {"mean": encode(*mine), "p": encode(*its)}, {"n": n, "steps": 1, "overwrite": 0},
                {"momentum": 1.0 - tau}, label="average",
            )
            for mine, its, n in self._ranges
        ]  # fmt: skip
        sizes = {Buffer.PARAMETERS: 0, Buffer.ACCUMULATORS: 0, **table.shared_sizes}
        tail = [*drafts, tick(1, training=False)]
        return lower(Task("average", Graph(), 1, table.dtype, {}, {}, frozenset(), tail, sizes))


def _check(target: Runtime, source: Runtime) -> None:
    """Raise ValueError unless two models have weights of the same shapes and dtype."""
    mine, its = target.table, source.table
    if mine.dtype != its.dtype:
        raise ValueError(f"update_average: the model has the dtype {mine.dtype}, the other one {its.dtype}")
    if len(mine) != len(its):
        raise ValueError(f"update_average: the model has {len(mine)} weights, the other one {len(its)}")
    for one, other in zip(mine, its, strict=True):
        if one.spec.shape != other.spec.shape:
            raise ValueError(
                f"update_average: the weight {one.name!r} has the shape {one.spec.shape}, {other.name!r} of the other "
                f"model {other.spec.shape}"
            )


def _joined(pairs: Sequence[_Pair], itemsize: int) -> list[_Pair]:
    """Join weights that follow each other in both models; the padding between them is zero, and stays so."""
    found: list[_Pair] = []
    for mine, its, n in pairs:
        if found:
            first, other, count = found[-1]
            apart = align(count * itemsize)
            if mine == Place(first.buffer, first.offset + apart) and its == Place(other.buffer, other.offset + apart):
                found[-1] = first, other, apart // itemsize + n
                continue
        found.append((mine, its, n))
    return found
