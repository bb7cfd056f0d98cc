"""`function`: compiled calls over arrays, of any symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fastnn.checks import flag
from fastnn.hints import explained
from fastnn.layers.architecture import Architecture
from fastnn.layers.symbols import Symbol
from fastnn.model.export import ExportMixin
from fastnn.runtime import at_once, feeds, sweep
from fastnn.runtime.calls import prediction
from fastnn.runtime.programs.independence import Traits, traits
from fastnn.runtime.reading import reads

#: how results are returned: one array, a list, or a dict by the names in a list
Form = str | list[str]
_ONE, _LIST = "one", "list"


class Calls(ExportMixin):
    """What functions over arrays have in common."""

    _any_outputs: ClassVar[bool] = True

    def _start(
        self, symbols: Sequence[Symbol], seed: Any, dtype: str | None, device: str | None, name: str | None
    ) -> None:  # fmt: skip
        """Make the state; without a dtype or device they are those of the models that the symbols are made of."""
        parts = _parts_behind(symbols)
        if dtype is None:
            dtype = parts[0].dtype if parts else "float32"
        if device is None:
            devices = {part.state.device for part in parts}
            device = devices.pop() if len(devices) == 1 else "cpu"
        self._begin(seed, dtype, device, name)

    def _realize(self, architecture: Architecture, *, initialize: bool = True) -> None:
        carries = architecture.carries()
        if carries:
            raise ValueError(
                f"layer {architecture.labels[carries[0][0]]!r} is stateful, and a function of symbols keeps no states "
                "from batch to batch: give states as arrays (initial_state=, return_state=True), or make a fastnn.Model"
            )
        super()._realize(architecture, initialize=initialize)

    def _arrays(self, given: tuple[Any, ...]) -> Any:
        """Return the arguments of a call as a model takes its inputs."""
        names = self._architecture.input_names
        if len(given) != len(names):
            raise TypeError(f"{self.name}() takes {len(names)} array(s) ({', '.join(names)}), got {len(given)}")
        return given[0] if len(given) == 1 else given


class Function(Calls):
    """A compiled function of arrays; made by `fastnn.function`."""

    _kind: ClassVar[str] = "Function"
    _traits: Traits
    _form: Form
    _integers: tuple[bool, ...]
    _training: bool

    def __init__(
        self, inputs: Any, outputs: Any, *, training: bool, seed: Any, dtype: str | None, device: str | None,
        name: str | None,
    ) -> None:  # fmt: skip
        starts = inputs_of("function", inputs)
        form: Form = _LIST
        if isinstance(outputs, Mapping):
            form, found = list(outputs), list(outputs.values())
            if not all(isinstance(key, str) for key in form):
                raise TypeError(f"function: outputs: expected texts as names, got {form!r}")
        elif isinstance(outputs, (list, tuple)):
            found = list(outputs)
        else:
            form, found = _ONE, [outputs]
        if not found or not all(isinstance(symbol, Symbol) for symbol in found):
            raise TypeError(f"function: outputs: expected symbols, a list or a dict of them, got {outputs!r}")
        self._form, self._training = form, flag("training", training)
        self._start(found, seed, dtype, device, name)
        self._realize(Architecture.of(starts, found, any_shape=True))

    def _realize(self, architecture: Architecture, *, initialize: bool = True) -> None:
        super()._realize(architecture, initialize=initialize)
        self._integers = tuple([architecture.calls[output].kind == "int64" for output in architecture.outputs])
        self._look()

    def _look(self) -> None:
        """Find out how the outputs may be computed."""
        if "_training" in self.__dict__:
            self._traits = traits(self._runtime.table, training=self._training)

    def __call__(self, *arrays: Any) -> Any:
        """Return the outputs for arrays, one for each input, all with the same number of rows.

        Returns
        -------
        array, or list or dict of arrays
            As `outputs` was given. A symbol without axes gives a number. Where the arrays are on a GPU, so are the
            results.

        Raises
        ------
        TypeError, ValueError
            When the arrays do not fit the inputs.
        """
        kept = self._prediction
        if kept.call is not None:
            found = kept.call(*arrays)
            if found is False and kept.together is not None:
                found = kept.together(*arrays)
            if found is not False:
                if self._form == _ONE:
                    return found
                return self._formed(found if len(self._integers) > 1 else [found])
        return self._general(arrays)

    @reads
    def _general(self, arrays: tuple[Any, ...]) -> Any:
        """Compute arrays of any kind."""
        x, runtime, found = self._arrays(arrays), self._runtime, self._traits
        feed = feeds.inputs(runtime, x)
        if found.by_row and not (found.random or self._training or any(self._integers)):
            results = sweep.predict(runtime, feed, sweep.DEFAULT_BATCH)
            prediction.learn(runtime, x)
        else:
            results = at_once.compute(runtime, feed, found, training=self._training)
            at_once.learn(runtime, arrays, feed, found, training=self._training)
        return self._formed(results)

    def _formed(self, results: list[Any]) -> Any:
        """Return results in the form in which the outputs were given."""
        form = self._form
        if form == _ONE:
            return results[0]
        return results if form == _LIST else dict(zip(form, results, strict=True))

    def freeze(
        self, *, gradients: bool = False, device: str = "cpu", rows: int | None = None, stateful: bool = False
    ) -> Any:
        """Return the function with a copy of its current weights, for compiled code: see `Model.freeze`.

        Raises
        ------
        ValueError
            When rows depend on each other, or an output is not a batch, without `rows`; when an output holds integers,
            or outputs depend on random numbers.
        """
        if self._training or any(self._integers):
            reason = "it was made with training=True" if self._training else "an output holds integers"
            raise ValueError(f"freeze: {self.name!r} cannot be called from compiled code: {reason}")
        return super().freeze(gradients=gradients, device=device, rows=rows, stateful=stateful)

    def learner(self, **options: Any) -> Any:
        """Raise TypeError: there is nothing to train."""
        raise TypeError("learner: a function has no loss and no optimizer: fastnn.train_function makes one that has")

    def _options(self) -> dict[str, Any]:
        return {"form": self._form, "training": self._training}

    def _take_options(self, options: Any) -> None:
        if not isinstance(options, dict) or set(options) != {"form", "training"}:
            raise ValueError(f"expected the options of a function, got {options!r}")
        form, count = options["form"], len(self._integers)
        named = isinstance(form, list) and len(form) == count and all(isinstance(key, str) for key in form)
        if not (named or form == _LIST or (form == _ONE and count == 1)):
            raise ValueError(f"form: expected names of {count} outputs, got {form!r}")
        self._form, self._training = form, flag("training", options["training"])
        self._look()


def inputs_of(what: str, inputs: Any) -> list[Symbol]:
    """Return the inputs of a function as a list, checked."""
    found = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    if not found or not all(isinstance(symbol, Symbol) for symbol in found):
        raise TypeError(f"{what}: inputs: expected results of fastnn.Input, got {inputs!r}")
    return found


def _parts_behind(symbols: Sequence[Symbol]) -> list[Any]:
    """Return the models that symbols are made of."""
    found: dict[int, Any] = {}
    seen: set[int] = set()
    left = list(symbols)
    while left:
        symbol = left.pop()
        if id(symbol) not in seen:
            seen.add(id(symbol))
            left += symbol.inputs
            if symbol.part is not None:
                found[id(symbol.part)] = symbol.part
    return list(found.values())


@explained
def function(
    inputs: Symbol | Sequence[Symbol],
    outputs: Symbol | Sequence[Symbol] | Mapping[str, Symbol],
    *,
    training: bool = False,
    seed: int | np.random.Generator | None = None,
    dtype: str | None = None,
    device: str | None = None,
    name: str | None = None,
) -> Function:
    """Make a compiled function of arrays from symbols.

    ::

        x, t = fnn.Input(4), fnn.Input(1)
        errors = fnn.ops.square(model(x) - t)
        f = fnn.function([x, t], [model(x), fnn.ops.mean(errors)])
        y, loss = f(xs, ts)

    Parameters
    ----------
    inputs : Symbol or list of Symbol
        From `fastnn.Input`: a call takes an array for each.
    outputs : Symbol, or list or dict of Symbol
        What a call returns, in the same form: batches, and any other symbols, such as numbers, matrices of distances
        between rows, weights, or gradients.
    training : bool
        Whether dropout drops and batch normalisation uses the batch; its averages are not moved.
    seed : int or numpy.random.Generator, optional
        Decides random numbers, which are others in each call, and initial weights of layers; None draws a random seed.
    dtype : {"float32", "float64"}, optional
        That of the models that it is made of, or else float32.
    device : str, optional
        Where it is computed; the models that it is made of go there, too. By default it is where these are, or the CPU.
    name : str, optional

    Returns
    -------
    Function
        Call it with arrays. It has methods of a model: `to`, `get_weights`, `set_weights`, `summary`, `save`, `freeze`.

    Raises
    ------
    TypeError, ValueError
        When inputs and outputs are not connected symbols, or an argument is invalid.

    Notes
    -----
    Models that are called within have their own weights: the function sees what they learn. Weights of layers that are
    called without a model belong to the function. All rows of a call are one batch, however many they are.
    """
    return Function(inputs, outputs, training=training, seed=seed, dtype=dtype, device=device, name=name)
