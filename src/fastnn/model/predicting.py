"""Prediction and evaluation: outputs, losses and metrics of many rows, without learning."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import integer
from fastnn.console import quantities, say
from fastnn.hints import explained
from fastnn.layers.symbols import Symbol
from fastnn.layers.tracing import Traced
from fastnn.model.nesting import applied, check_symbols
from fastnn.model.prepared import PreparedMixin
from fastnn.objective.objective import as_list
from fastnn.runtime import feeds, sweep
from fastnn.runtime.calls import prediction
from fastnn.runtime.reading import reads
from fastnn.training import iterables


class PredictingMixin(PreparedMixin):
    """A network that predicts and is evaluated; `fastnn.Model` adds training."""

    def reset_states(self) -> None:
        """Forget the states of all stateful layers: the next batch begins with zeros, and may have any size.

        A layer's `reset_states` is for the states of one layer, in all models that contain it. A model without stateful
        layers stays as it is. Callbacks may call this between epochs and between batches.

        Raises
        ------
        RuntimeError
            When the model is not built, or a run of this thread that this call has interrupted uses the states.
        """
        runtime = self._runtime
        runtime.fail_within("reset_states")
        with runtime.lock:
            runtime.states.reset()

    # both names are Keras'
    reset_state = reset_states

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = True) -> Any:
        """Return loss and metrics over one batch; see `evaluate`."""
        if iterables.are_given(self._state, x):
            raise TypeError(f"x: expected one batch, got {type(x).__name__}, an iterable of batches: use evaluate")
        return self.evaluate(x, y, sample_weight=sample_weight, return_dict=return_dict)

    @explained
    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        sample_weight: Any = None,
        verbose: int | str = 0,
        return_dict: bool = True,
        device: str | None = None,
        steps: int | None = None,
        lengths: Any = None,
    ) -> dict[str, Any] | Any:
        """Return loss and metrics over data, such as {"loss": 0.1, "accuracy": 0.97}.

        Parameters
        ----------
        x, y, sample_weight
            As for `fit`; x may be an iterable of batches. If the model has a `preparation`, x may be a data frame with
            the target.
        batch_size : int, optional
            Rows at a time, 256 by default, or as many as stateful layers have states of; changes the result only by
            rounding, unless `steps` is given, layers are stateful, or rows depend on each other, as in a loss that is
            one number for the batch.
        verbose : {0, 1}
            1 prints the result, 0 nothing.
        return_dict : bool
            False returns a list, the loss first, or only the loss if there is nothing else, as Keras does by
            default.
        device : str, optional
            Where to evaluate, such as "cuda"; see `to`.
        steps : int, optional
            Evaluate only this many batches, of 32 rows by default.
        lengths : array of int, shape (n,), optional
            As for `fit`. The order of the rows does not matter.
        """
        steps, batch_size = _rows_of_steps(steps, batch_size)
        x, y = self._prepared_pair(x, y)
        iterable = iterables.are_given(self._state, x, listed=y is None)
        if self._state.compiled is not None:
            x = iterables.build_for_data(self, x, iterable, pairs=True)
        objective = self._state.require_compiled()
        with self._state.on(device):
            totals, rows = self._evaluate(x, y, sample_weight, iterable, batch_size, steps, lengths)
        if self._runtime.objective is not objective:
            raise RuntimeError("the model was compiled again while it was evaluated")
        logs = objective.results(totals, rows)
        if verbose == 1:
            say(" - ".join(quantities({name: one for name, one in logs.items() if isinstance(one, float)}, ": ")))
        return logs if return_dict else as_list(logs)

    @reads
    def _evaluate(
        self, x: Any, y: Any, sample_weight: Any, iterable: bool, batch_size: int | None, steps: int | None,
        lengths: Any,
    ) -> tuple[NDArray[np.float64], int]:  # fmt: skip
        """Return the accumulators over all rows, and the number of rows."""
        runtime = self._runtime
        if iterable:
            iterables.refuse_lengths(lengths)
            return iterables.evaluate(runtime, x, steps)
        feed = feeds.feed(runtime, x, y, sample_weight, None, lengths=lengths)
        size = sweep.batch_rows(batch_size, runtime.states.rows or sweep.DEFAULT_BATCH)
        return sweep.evaluate(runtime, feed, size, 0, sweep.last_row(steps, size, 0, feed.n))

    def __call__(self, x: Any) -> Any:
        """Return `predict(x)` for an array; for symbols those of the model's outputs, to make other models of it.

        Models that are made of others have the weights of these: what one learns all have at once. They may stand in
        several models, and be called several times in one.

        Parameters
        ----------
        x : array, Symbol, or list of these
            One per input.

        Returns
        -------
        array or Symbol, or list of these
            A list for several outputs.

        Raises
        ------
        TypeError, ValueError
            When symbols do not fit the model's inputs.
        """
        if any(isinstance(one, Traced) for one in (x if isinstance(x, (list, tuple)) else (x,))):
            raise TypeError(
                f"model {self.name!r} has weights, which a function of symbols cannot hold: call the model on symbols "
                "outside the function"
            )
        if not isinstance(x, (Symbol, list, tuple)):
            return self.predict(x)
        symbols = [x] if isinstance(x, Symbol) else list(x)
        if not any(isinstance(symbol, Symbol) for symbol in symbols):
            return self.predict(x)
        if not self.built and len(symbols) == 1:
            self._build_on(symbols[0])
        check_symbols(self.name, self._architecture, symbols)
        return applied(self._as_part(), self._architecture, symbols)

    def _build_on(self, symbol: Symbol) -> None:
        """Infer missing shapes from a symbol; a model of symbols has them."""

    def predict_on_batch(self, x: Any) -> Any:
        """Return `predict(x)` for one batch."""
        if iterables.are_given(self._state, x):
            raise TypeError(f"x: expected one batch, got {type(x).__name__}, an iterable of batches: use predict")
        return self.predict(x)

    # `| Any`: lists for several outputs; without it each caller would need a cast
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = 0,
        steps: int | None = None,
        device: str | None = None,
        lengths: Any = None,
    ) -> NDArray[Any] | Any:
        """Return the outputs for rows: an array of shape (n, *output_shape), a list for several outputs.

        Parameters
        ----------
        x : array of shape (n, *input_shape), list or dict of arrays, or an iterable of batches of inputs
            Batches may be tuples (x, y), as for `fit`. If the model has a `preparation`, also a data frame as it is.
        batch_size : int, optional
            Rows at a time, by default 256, or fewer large images, or as many as stateful layers have states of; changes
            the result only by rounding, unless `steps` is given, layers are stateful, or rows depend on each other, as
            by a mean over axis 0: then a batch is what they depend on.
        verbose
            Accepted for code written for Keras; nothing is shown.
        steps : int, optional
            Predict only this many batches, of 32 rows by default.
        device : str, optional
            Where to predict, such as "cuda"; see `to`.
        lengths : array of int, shape (n,), optional
            As for `fit`: the steps of each row that count. Results of other steps are 0.

        Returns
        -------
        array, or list of arrays
            `fastnn.DeviceArray` if x is on a GPU and there are no `lengths`, else NumPy arrays.
        """
        if device is not None and device != self._state.device:
            with self._state.on(device):
                return self.predict(x, batch_size, steps=steps, lengths=lengths)
        if batch_size is steps is lengths is None:
            call = self._prediction.call
            if call is not None:
                result = call(x)
                if result is False:
                    result = prediction.otherwise(self._prediction, x)
                if result is not False:
                    return result
        if self._state.preparation is not None:
            x = self._prepared(x)
        steps, batch_size = _rows_of_steps(steps, batch_size)
        return self._predict(x, batch_size, steps, lengths)

    @reads
    def _predict(self, x: Any, batch_size: int | None, steps: int | None, lengths: Any) -> Any:
        iterable = iterables.are_given(self._state, x)
        x = iterables.build_for_data(self, x, iterable, pairs=False)
        runtime = self._runtime
        if iterable:
            iterables.refuse_lengths(lengths)
            return iterables.predict(runtime, x, steps)
        feed = feeds.inputs(runtime, x, lengths=lengths)
        results = sweep.predict(runtime, feed, sweep.rows_at_a_time(runtime, batch_size), steps)
        if batch_size is lengths is None and not runtime.states:
            prediction.learn(runtime, x)
        return results[0] if len(results) == 1 else results


def _rows_of_steps(steps: int | None, batch_size: int | None) -> tuple[int | None, int | None]:
    """Return `steps`, checked, and the rows of one, which decide how far the steps get."""
    if steps is None:
        return None, batch_size
    return integer("steps", steps), sweep.STEP_ROWS if batch_size is None else batch_size
