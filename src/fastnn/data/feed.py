"""A checked data set for one model: inputs, targets and weights, and the data slots that they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastnn import casts
from fastnn.addresses import place
from fastnn.backend.devices import DeviceArray
from fastnn.data import arrays
from fastnn.data.arrays import Rows, Targets
from fastnn.data.lengths import Lengths
from fastnn.data.sample_weights import weights_by_output
from fastnn.errors import InputNotFiniteError
from fastnn.layers.ranges import InputSpec
from fastnn.lower.task import Request, TargetLayout, WeightLayout
from fastnn.objective.objective import Objective

#: Returns the shapes of a model's outputs for those of its inputs (None for those that it takes, with open sizes);
#: raises ValueError where they do not fit.
OutputShapes = Callable[[tuple[tuple[int, ...], ...] | None], tuple[tuple[int, ...], ...]]


@dataclass(frozen=True)
class Feed:
    """Rows of inputs, and of targets and weights by output; all have `n` rows.

    Data slots are numbered in this order: inputs, targets, weights, and the arrays for results.

    Attributes
    ----------
    results : list of arrays
        On the model's device.
    came_on_gpu : bool
        Whether the user's inputs are on a GPU; then results stay there.
    shapes : tuple of shape
        Of the inputs' samples, if the model leaves sizes of them open.
    lengths : Lengths, optional
        The steps of rows that count; then the last input is these.
    """

    inputs: tuple[Rows, ...]
    targets: tuple[Targets | None, ...]
    weights: tuple[Rows | None, ...]
    n_outputs: int
    results: list[Any] = field(default_factory=list)
    came_on_gpu: bool = False
    shapes: tuple[tuple[int, ...], ...] = ()
    lengths: Lengths | None = None

    @classmethod
    def of(
        cls,
        x: Any,
        y: Any,
        sample_weight: Any,
        class_weight: Any,
        *,
        specs: Sequence[InputSpec],
        objective: Objective,
        dtype: str,
        output_shapes: OutputShapes | None = None,
        lengths: Any = None,
        what: str = "",
    ) -> Feed:
        """Check data for training or evaluation; raises TypeError or ValueError before anything runs.

        `output_shapes` returns the shapes of outputs for those of inputs, if the model leaves sizes open.
        """
        fed = cls.of_inputs(
            x,
            specs=specs,
            n_outputs=len(objective.output_names),
            output_shapes=output_shapes,
            lengths=lengths,
            what=what,
        )
        n = fed.n
        if output_shapes is not None:
            objective = objective.at(output_shapes(fed.shapes))
        targets = arrays.targets(y, objective, n, dtype, f"{what}y")
        weights = weights_by_output(
            sample_weight, class_weight, targets, objective.output_names, objective.output_shapes, n, dtype,
            None if fed.lengths is None else fed.lengths.of_output(0),
        )  # fmt: skip
        return replace(fed, targets=tuple(targets), weights=tuple(weights))

    @classmethod
    def of_inputs(
        cls, x: Any, *, specs: Sequence[InputSpec], n_outputs: int, output_shapes: OutputShapes | None = None,
        lengths: Any = None, what: str = "",
    ) -> Feed:  # fmt: skip
        """Check data for prediction; the arguments are those of `of`."""
        inputs = arrays.features(x, specs, f"{what}x")
        on_gpu = any(isinstance(rows.array, DeviceArray) for rows in inputs)
        shapes: tuple[tuple[int, ...], ...] = ()
        counted = None
        if output_shapes is not None:
            shapes = tuple([tuple(rows.array.shape[1:]) for rows in inputs])
            if lengths is not None:
                counted = Lengths.of(
                    lengths, len(inputs[0]), [*zip([spec.shape for spec in specs], shapes, strict=True)],
                    output_shapes(None),
                )  # fmt: skip
                inputs.append(Rows.of(counted.counts))
                shapes += ((),)
            output_shapes(shapes)  # raises where they do not fit
        return cls(tuple(inputs), (), (), n_outputs, came_on_gpu=on_gpu, shapes=shapes, lengths=counted)

    @property
    def n(self) -> int:
        """The number of rows."""
        return len(self.inputs[0])

    def fetched(self) -> list[Any]:
        """Return the results on the device of the user's inputs."""
        if self.came_on_gpu:
            return self.results
        return [result.copy_to_host() if isinstance(result, DeviceArray) else result for result in self.results]

    def request(
        self,
        kind: str,
        batch: int,
        *,
        training: bool = False,
        indexed: bool = False,
        trained: tuple[bool, ...] = (),
        steps: int | None = None,
    ) -> Request:
        """Describe the program that runs these rows in batches, cut to a number of steps if there are `lengths`."""
        check = kind == "train"
        first = len(self.inputs)
        targets = tuple(
            None
            if target is None
            else TargetLayout(
                target.rows.source(first + output, indexed=indexed, check_finite=False), target.labels, target.shape
            )
            for output, target in enumerate(self.targets)
        )
        weights = tuple(
            None
            if rows is None
            else WeightLayout(
                rows.source(first + self.n_outputs + output, indexed=indexed, check_finite=False), rows.array.shape[1:]
            )
            for output, rows in enumerate(self.weights)
        )
        inputs = tuple(rows.source(slot, indexed=indexed, check_finite=check) for slot, rows in enumerate(self.inputs))
        results = tuple(range(first + 2 * self.n_outputs, first + 2 * self.n_outputs + len(self.results)))
        made = Request(kind, batch, training, inputs, targets, weights, results, trained, self.shapes)
        return made if steps is None or self.lengths is None else self.lengths.request(made, steps)

    def slots(self) -> Iterator[tuple[int, Rows]]:
        """Yield the data slots of inputs, targets and weights, and their rows."""
        first = len(self.inputs)
        yield from enumerate(self.inputs)
        for output, target in enumerate(self.targets):
            if target is not None:
                yield first + output, target.rows
        for output, rows in enumerate(self.weights):
            if rows is not None:
                yield first + self.n_outputs + output, rows

    def with_rows(self, change: Callable[[Rows], Rows]) -> Feed:
        """Return the feed with all rows replaced, and without results."""
        targets = tuple(
            None if target is None else replace(target, rows=change(target.rows)) for target in self.targets
        )
        weights = tuple(None if rows is None else change(rows) for rows in self.weights)
        inputs = tuple(replace(change(rows), columns=rows.columns) for rows in self.inputs)
        return replace(self, inputs=inputs, targets=targets, weights=weights, results=[])

    def locate(self, error: InputNotFiniteError, names: Sequence[str]) -> None:
        """Add the number that is not finite, its column and its input to the error of a row."""
        for name, rows in zip(names, self.inputs, strict=self.lengths is None):
            array = rows.row(error.row)
            if array.dtype.kind != "f":
                continue
            with np.errstate(all="ignore"):
                bad = np.argwhere(~np.isfinite(array.astype(error.dtype)))
            if len(bad):
                index = tuple(int(i) for i in bad[0])
                place = casts.spell_within((error.row, *index), (len(rows), *array.shape), rows.columns)
                among = [place] * bool(place) + [f"of input {name!r}"] * (len(names) > 1)
                error.cell = " ".join([str(array[index]), *among])
                return

    def addresses(self) -> dict[int, int]:
        """Return the address of every array by data slot."""
        return {slot: rows.address for slot, rows in self.slots()} | self.result_addresses()

    def result_addresses(self) -> dict[int, int]:
        """Return the addresses of the arrays of results by data slot."""
        first = len(self.inputs) + 2 * self.n_outputs
        return {first + index: place(result) for index, result in enumerate(self.results)}
