"""Data of a model: checked and brought to its device; and gradients of one batch, without learning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from fastnn.data.feed import Feed
from fastnn.data.kinds import is_batches
from fastnn.layers.base import positive_int
from fastnn.model.export import CompiledMixin
from fastnn.objective.objective import Objective
from fastnn.runtime import sweep
from fastnn.runtime.reading import reads
from fastnn.runtime.runtime import Pass
from fastnn.training import iterables


class FeedingMixin(CompiledMixin):
    """A network that takes data; `fastnn.Model` adds training and prediction."""

    @reads
    def gradients(self, x: Any, y: Any, sample_weight: Any = None, *, training: bool = False) -> list[NDArray[Any]]:
        """Return the gradients of the loss over one batch for the trainable weights, in `get_weights` order.

        Parameters
        ----------
        x, y, sample_weight
            One batch: all rows at once.
        training : bool
            Whether dropout drops and batch normalisation uses the batch, as in a training step.
        """
        self._objective_or_fail()
        with self._runtime.lock:
            feed, trained = self._feed(x, y, sample_weight, None), self._trained()
            request = feed.request("gradients", feed.n, training=training, trained=trained)
            bound = self._runtime.program(request, self._objective, self._optimizer)
            work, buffer = self._single_pass(feed, training), self._table.allocate()
            if self._runtime.placement is None:
                self._runtime.run(bound, replace(work, gradients=buffer), 1, cursor=0)
            else:
                self._runtime.gradients = buffer
                self._runtime.run(bound, work, 1, cursor=0)
                buffer = self._runtime.gradients
            return [
                self._table.view(buffer, entry).copy()
                for entry, is_trained in zip(self._table, trained, strict=True)
                if is_trained
            ]

    @reads
    def input_gradients(self, x: Any, y: Any, sample_weight: Any = None, *, training: bool = False) -> Any:
        """Return the gradient of the loss over one batch for the inputs, of their shape; a list for several.

        Parameters
        ----------
        x, y, sample_weight, training
            As for `gradients`. The loss is a mean over rows: multiplied by n, each row is the gradient of its own loss.
        """
        specs = self._architecture_or_fail().input_specs
        self._objective_or_fail()
        for spec in specs:
            if spec.kind == "int64":
                raise ValueError(f"input_gradients: the input {spec.name!r} holds integers, which have no gradient")
        with self._runtime.lock:
            feed = self._feed(x, y, sample_weight, None)
            feed.results.extend(self._runtime.empty((feed.n, *shape)) for shape in (spec.shape for spec in specs))
            untrained = (False,) * len(self._table)
            request = feed.request("input_gradients", feed.n, training=training, trained=untrained)
            bound = self._runtime.program(request, self._objective, self._optimizer)
            self._runtime.run(bound, self._single_pass(feed, training), 1, cursor=0)
            results = feed.fetched()
        return results[0] if len(results) == 1 else results

    # --- inside ------------------------------------------------------------------------------------------

    def _objective_or_fail(self) -> Objective:
        self._architecture_or_fail()
        if self._objective is None:
            raise RuntimeError("the model is not compiled: call compile(optimizer, loss) first")
        return self._objective

    def _single_pass(self, feed: Feed, training: bool) -> Pass:
        """Describe a run that does not change weights and totals."""
        parameters = None
        if training:
            parameters = self._table.allocate()
            parameters[:] = self._runtime.parameters
        return Pass(feed.addresses(), accumulators=self._objective_or_fail().initial(), parameters=parameters)

    def _build_for(self, x: Any) -> None:
        """Infer missing shapes from data; a model of symbols has them."""

    def _built_for(self, x: Any, iterable: bool, *, pairs: bool) -> Any:
        """Infer missing shapes from data or from the first batch of an iterable; returns the data, complete.

        `pairs` says whether batches are (x, y) rather than inputs alone.
        """
        if self.built:
            return x
        first = x
        if iterable:
            first, x = iterables.peek(x)
            first = iterables.unpack(first, "batch 0: ")[0] if pairs else iterables.inputs_of(first, 1)
        self._build_for(first)
        return x

    def _is_batches(self, x: Any, *, listed: bool = False) -> bool:
        shapes = self._architecture.input_shapes if self._architecture is not None else ()
        return is_batches(x, shapes[0] if len(shapes) == 1 else None, listed=listed)

    def _inputs(self, x: Any, what: str = "") -> Feed:
        return self._placed(self._checked_inputs(x, what), what)

    def _checked_inputs(self, x: Any, what: str = "") -> Feed:
        architecture = self._architecture_or_fail()
        return Feed.of_inputs(x, specs=architecture.input_specs, n_outputs=len(architecture.outputs), what=what)

    def _feed(self, x: Any, y: Any, sample_weight: Any, class_weight: Any, what: str = "") -> Feed:
        return self._placed(self._checked(x, y, sample_weight, class_weight, what), what)

    def _checked(self, x: Any, y: Any, sample_weight: Any, class_weight: Any, what: str = "") -> Feed:
        objective, architecture = self._objective_or_fail(), self._architecture_or_fail()
        return Feed.of(
            x, y, sample_weight, class_weight,
            specs=architecture.input_specs, objective=objective, dtype=self.dtype, what=what,
        )  # fmt: skip

    @staticmethod
    def _batch(batch_size: int | None, default: int = sweep.DEFAULT_BATCH) -> int:
        return default if batch_size is None else positive_int(batch_size, "batch_size")
