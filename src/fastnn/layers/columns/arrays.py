"""What layers of numbers and categories share: calls on arrays, weights of known numbers, and data to learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import casts
from fastnn.initializers import Initializer
from fastnn.layers.base import Layer, ParameterSpec
from fastnn.layers.operators import Value

Array = NDArray[Any]


class ArrayLayer(Layer):
    """A layer that also takes arrays, whose first axis is that of the batch, and computes with NumPy then."""

    def __call__(self, inputs: Any) -> Any:
        """Return the symbol of the layer's output, or for an array that of the results."""
        given = inputs if isinstance(inputs, (list, tuple)) else (inputs,)
        if any(isinstance(one, Value) for one in given):
            return super().__call__(inputs)
        return self.on_array(inputs)

    def on_array(self, inputs: Any) -> Array:
        """Compute the layer of an array."""
        raise NotImplementedError

    def learnt(self, **fields: Any) -> None:
        """Set hyperparameters that `adapt` has found.

        Raises
        ------
        RuntimeError
            When a model has the layer already: its weights have been made.
        """
        self.check_uncalled()
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def check_uncalled(self) -> None:
        """Raise RuntimeError if a model has the layer already."""
        if "_called_on" in self.__dict__:
            raise RuntimeError(
                f"layer {self.label!r}: has been called in a model, which holds what it had learnt: call adapt before "
                "the layer is used, or make a new layer"
            )


@dataclass(frozen=True)
class _Known(Initializer):
    """The numbers of an array."""

    values: Array

    def _sample(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        return np.asarray(self.values, np.float64)


def known(name: str, values: Any) -> ParameterSpec:
    """Return the description of a weight that is not trained, of given values."""
    array = np.asarray(values, np.float64)
    return ParameterSpec(name, array.shape, _Known(array), trained=False)


def numbers(what: str, given: Any) -> Array:
    """Return a user's data as an array of numbers.

    Raises
    ------
    TypeError
        When they are no numbers.
    """
    casts.refuse_what_is_no_data(given, what)
    array = casts.plain(given, what)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{what}: expected numbers, got an array of dtype {array.dtype}")
    return array


def integers(what: str, given: Any) -> NDArray[np.int64]:
    """Return a user's data as an array of integers.

    Raises
    ------
    TypeError
        When they are no integers.
    ValueError
        When they are beyond 64 bits.
    """
    array = numbers(what, given)
    if array.dtype.kind == "f":
        raise TypeError(f"{what}: expected integers, got an array of dtype {array.dtype}")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{what}: {array.max()} is too large for int64")
    return array.astype(np.int64)


def batches(what: str, data: Any, read: Callable[[str, Any], Array]) -> Iterator[Array]:
    """Yield the data of `adapt`: an array, or the batches of an iterator, such as a generator.

    Raises
    ------
    ValueError
        When there is no element.
    """
    if not hasattr(data, "__next__"):
        data = (data,)
    count = 0
    for one in data:
        array = read(what, one)
        count += array.size
        yield array
    if count == 0:
        raise ValueError(f"{what}: expected at least one element")
