"""Users' data as strided rows, with as few copies as possible."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import casts
from fastnn.addresses import place
from fastnn.backend.devices import is_on_gpu, received
from fastnn.data import frames
from fastnn.data.kinds import list_of
from fastnn.layers.open_shapes import fits
from fastnn.layers.ranges import InputSpec
from fastnn.losses.function import target_shape
from fastnn.losses.targets import ElementError, check_elements
from fastnn.lower.task import Source

Shape = tuple[int, ...]
# bool is read as uint8; other dtypes are converted as a whole
_READABLE = frozenset(["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])


@functools.cache
def _name(dtype: np.dtype[Any]) -> str:
    """Return the name of a dtype, cached because NumPy takes 2 µs to compose it."""
    return dtype.name


def as_array(value: Any, what: str) -> NDArray[Any]:
    """Return data as an array of numbers.

    NumPy arrays (memory-mapped ones included) are returned as they are, whatever their strides. Data frames give their
    values, arrays on a GPU are copied from there, and anything else goes through `numpy.asarray`. Half precision and
    foreign byte order are converted.

    Raises
    ------
    TypeError
        When the data are not numbers; names such columns of a data frame.
    ValueError
        When elements of a masked array are masked.
    """
    if type(value) is not np.ndarray and is_on_gpu(value, what):
        return received(value, what).copy_to_host()
    casts.refuse_what_is_no_data(value, what)
    given = value
    if not isinstance(value, np.ndarray) and hasattr(value, "to_numpy"):
        value = frames.values(value, what)
    array = casts.plain(value, what)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{what}: expected numbers, got an array of dtype {array.dtype}{frames.recipe(given, array)}")
    if array.dtype == np.bool_:
        return array.view(np.uint8)
    if not array.dtype.isnative or _name(array.dtype) not in _READABLE:
        name = _name(array.dtype) if _name(array.dtype) in _READABLE else "float32"
        wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
        array = casts.cast(array, "float64", what) if wide else array.astype(name)
    if not array.flags.aligned:
        array = array.copy()
    return array


@dataclass(frozen=True)
class Rows:
    """An array whose rows kernels fetch, with all that a gather record and a context need.

    Attributes
    ----------
    array : numpy.ndarray or DeviceArray
        Keeps the memory alive.
    columns : sequence, optional
        The names of the columns of the data frame that the rows come from.
    """

    array: Any
    inner: tuple[tuple[int, int], ...]
    columns: Any = None

    @classmethod
    def of(cls, array: Any, columns: Any = None) -> Rows:
        """Describe an array of shape (n, ...), copying it only when a row has more than three odd axes."""
        row_strides = array.strides[1:]
        expected, contiguous = array.itemsize, True
        for size, stride in zip(array.shape[:0:-1], row_strides[::-1], strict=True):
            contiguous &= size == 1 or stride == expected
            expected *= size
        if contiguous:
            return cls(array, (), columns)
        if array.ndim > 4:
            return cls(np.ascontiguousarray(array if isinstance(array, np.ndarray) else array.copy_to_host()), ())
        return cls(array, tuple(zip(array.shape[1:], row_strides, strict=True)), columns)

    def source(self, slot: int, *, indexed: bool, check_finite: bool) -> Source:
        """Describe the rows for a data slot."""
        array = self.array
        floating = array.dtype.kind == "f"
        return Source(slot, _name(array.dtype), array.strides[0], self.inner, indexed, check_finite and floating)

    @property
    def address(self) -> int:
        """The address of the first row."""
        return place(self.array)

    def row(self, index: int) -> NDArray[Any]:
        """Return one row, copied from a GPU's memory if needed."""
        array = self.array
        return np.asarray(array[index] if isinstance(array, np.ndarray) else array.row(index).copy_to_host())

    def __len__(self) -> int:
        return len(self.array)


def features(x: Any, specs: Sequence[InputSpec], what: str = "x") -> list[Rows]:
    """Check a model's inputs: one array of shape (n, *shape) each, with the same n.

    Raises
    ------
    TypeError, ValueError
        When something is not an array of numbers, or of integers where these are expected, a shape does not fit, an
        integer is out of range, or numbers of rows differ.
    """
    found = []
    names = [spec.name for spec in specs]
    for value, spec in zip(list_of(x, names, what), specs, strict=True):
        name, shape = spec.name, spec.shape
        where = what if len(names) == 1 else f"{what}[{name!r}]"
        array: Any = received(value, where) if type(value) is not np.ndarray and is_on_gpu(value, where) else None
        if array is None:
            array = as_array(value, where)
        if array.ndim == 1 and shape == (1,):
            array = array[:, None] if isinstance(array, np.ndarray) else array.with_unit_axis()
        if array.ndim == 0 or not fits(array.shape[1:], shape):
            one = array.ndim > 0 and fits(array.shape, shape)
            raise ValueError(
                f"{where}: input layer {name!r} expects shape {_spell(shape)}, got {array.shape}"
                + (f"; one sample is x[None], of shape {(1, *array.shape)}" if one else "")
            )
        if 0 in array.shape[1:] and 0 not in shape:
            raise ValueError(f"{where}: expected at least one step, got shape {array.shape}")
        if len(array) == 0:
            raise ValueError(f"{where}: expected at least one row, got shape {array.shape}")
        columns = frames.columns(value)
        if spec.kind == "int64":
            _check_integers(array, spec, where, columns)
        found.append(Rows.of(array, columns))
    _same_length(found, names, what)
    return found


def _check_integers(array: Any, spec: InputSpec, where: str, columns: Any) -> None:
    """Raise unless all elements are integers that the input's layers take; those on a GPU are copied to be checked."""
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{where}: input layer {spec.name!r} takes integers, got {array.dtype}; x.astype(np.int64) makes "
            "integers of whole numbers"
        )
    taken = f", which layer {spec.narrowest!r} takes" * bool(spec.narrowest)
    expected = f"integers from {spec.low} to {spec.high}{taken}"
    here = array if isinstance(array, np.ndarray) else array.copy_to_host()
    try:
        check_elements(here, lambda part: (part >= spec.low) & (part <= spec.high), expected, where)
    except ElementError as error:
        error.columns = columns
        raise


def _spell(shape: Shape) -> str:
    return f"(n, {', '.join(map(str, shape))})" if shape else "(n,)"


def _same_length(rows: Sequence[Rows], names: Sequence[str], what: str) -> None:
    lengths = [len(part) for part in rows]
    if len(set(lengths)) > 1:
        raise ValueError(f"{what}: numbers of rows differ: {dict(zip(names, lengths, strict=True))}")


@dataclass(frozen=True)
class Targets:
    """The targets of one output: rows, and whether they are class labels.

    Attributes
    ----------
    shape : tuple of int, optional
        The shape of a sample's targets as functions of symbols get them, if there are any.
    numbered : bool
        Whether they are labels of no known number of classes, for functions of symbols alone.
    """

    rows: Rows
    labels: bool
    shape: Shape | None = None
    numbered: bool = False


def targets(y: Any, objective: Any, n: int, dtype: str, what: str = "y") -> list[Targets | None]:
    """Check the targets of all outputs that have a loss or a metric.

    Parameters
    ----------
    n : int
        The expected number of rows.
    dtype : {"float32", "float64"}
        The model's dtype, in which dense targets have to be finite.

    Raises
    ------
    TypeError, ValueError
        When a loss or a metric cannot use them; the message names the first bad row.
    """
    names = objective.output_names
    found: list[Targets | None] = []
    targeted = objective.targeted
    if y is None and not targeted:
        return [None] * len(names)
    for output, value in enumerate(list_of(y, names, what)):
        where = what if len(names) == 1 else f"{what}[{names[output]!r}]"
        loss, shape = objective.losses[output], objective.output_shapes[output]
        if output not in targeted:
            found.append(None)
            continue
        if value is None:
            raise ValueError(f"{where}: targets are needed for the loss")
        array = as_array(value, where)
        if len(array.shape) == 0 or len(array) != n:
            raise ValueError(f"{where}: expected {n} rows, as many as x has, got shape {array.shape}")
        columns = frames.columns(value)
        try:
            kinds = [] if loss is None else [loss.check_targets(array, shape, where)]
            for reading in objective.readings:
                if reading.measure.output == output:
                    kinds.append(reading.metric.check_targets(array, shape, f"{where} (for {reading.name})"))
        except ElementError as error:
            error.columns = columns
            raise
        fixed = set(kinds) - {"any"}
        if len(fixed) > 1:
            raise ValueError(f"{where}: some losses and metrics take class labels, others dense targets")
        casts.check_fits(array, dtype, where, columns)
        found.append(_targets(array, shape, next(iter(fixed), "any"), dtype, where, of_symbols="any" in kinds))
    return found


def _targets(array: Any, shape: Shape, kind: str, dtype: str, where: str, *, of_symbols: bool) -> Targets:
    """Describe checked targets; `of_symbols` says whether functions of symbols get them, too."""
    seen = target_shape(array.shape[1:], shape) if of_symbols else None
    numbered = False
    if seen is not None and array.dtype.kind in "iu":
        most = 1 << np.finfo(dtype).nmant + 1
        expected = f"integers from {-most} to {most}, which {dtype} holds exactly, for a function of symbols"
        check_elements(array, lambda part: (part >= -most) & (part <= most), expected, where)
        numbered = seen == shape[:-1] and seen != shape
    if kind == "any":
        assert seen is not None
        return Targets(Rows.of(array.reshape(len(array), *seen)), False, seen, numbered)
    return Targets(Rows.of(_drop_unit_axis(array, shape, kind)), kind == "classes", seen)


def _drop_unit_axis(array: NDArray[Any], shape: Shape, kind: str) -> NDArray[Any]:
    """Reshape targets to (n, *shape), or labels to (n, *shape[:-1])."""
    wanted = (len(array), *(shape[:-1] if kind == "classes" else shape))
    if array.shape == wanted:
        return array
    return array[..., 0] if array.ndim > len(wanted) else array[..., None]
