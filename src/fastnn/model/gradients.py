"""Gradients of one batch, without learning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from fastnn.data.feed import Feed
from fastnn.model.export import ExportMixin
from fastnn.runtime import feeds
from fastnn.runtime.at_once import copies
from fastnn.runtime.bindings import Bindings
from fastnn.runtime.reading import reads
from fastnn.runtime.runtime import Runtime


class GradientsMixin(ExportMixin):
    """A model that gives gradients for its weights and inputs."""

    @reads
    def gradients(
        self, x: Any, y: Any = None, sample_weight: Any = None, *, training: bool = False
    ) -> list[NDArray[Any]]:
        """Return the gradients of the loss over one batch for the trainable weights, in `get_weights` order.

        Parameters
        ----------
        x, y, sample_weight
            One batch: all rows at once.
        training : bool
            Whether dropout drops and batch normalisation uses the batch, as in a training step.
        """
        self._state.require_compiled()
        runtime, table = self._runtime, self._runtime.table
        with runtime.lock:
            feed, trained = feeds.feed(runtime, x, y, sample_weight, None), table.trained()
            request = feed.request("gradients", feed.n, training=training, trained=trained)
            bound = runtime.program(request)
            work, buffer = _single_pass(runtime, feed, training), table.allocate()
            if runtime.placement is None:
                runtime.run(bound, replace(work, gradients=buffer), 1, cursor=0)
            else:
                runtime.gradients = buffer
                runtime.run(bound, work, 1, cursor=0)
                buffer = runtime.gradients
            return [
                table.view(buffer, entry).copy() for entry, is_trained in zip(table, trained, strict=True) if is_trained
            ]

    @reads
    def input_gradients(self, x: Any, y: Any = None, sample_weight: Any = None, *, training: bool = False) -> Any:
        """Return the gradient of the loss over one batch for the inputs, of their shape; a list for several.

        Inputs of integers have no gradient: the list is for the others.

        Parameters
        ----------
        x, y, sample_weight, training
            As for `gradients`. The loss is a mean over rows: multiplied by n, each row is the gradient of its own loss.

        Raises
        ------
        ValueError
            When all inputs hold integers.
        """
        self._state.require_compiled()
        runtime = self._runtime
        if not self._architecture.takes_numbers:
            raise ValueError("input_gradients: all inputs hold integers, which have no gradient")
        with runtime.lock:
            feed = feeds.feed(runtime, x, y, sample_weight, None)
            specs = feeds.architecture_for(runtime, feed).input_specs
            feed.results.extend(runtime.empty((feed.n, *spec.shape)) for spec in specs if spec.kind == "real")
            request = feed.request("input_gradients", feed.n, training=training)
            runtime.run(runtime.program(request), _single_pass(runtime, feed, training), 1, cursor=0)
            results = feed.fetched()
        return results[0] if len(results) == 1 else results


def _single_pass(runtime: Runtime, feed: Feed, training: bool) -> Bindings:
    """Describe a run that does not change weights and totals."""
    parameters, shared = copies(runtime) if training else (None, None)
    totals = runtime.compiled()[0].initial()
    return Bindings(feed.addresses(), accumulators=totals, parameters=parameters, shared=shared)
