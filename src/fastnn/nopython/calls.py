"""Calls of the functions of `fastnn.nopython` from Python: their checks, and the call of native code."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import casts
from fastnn.backend.cpu.frozen.learner import Learner, Learners
from fastnn.backend.cpu.frozen.network import FrozenNetwork, FrozenNetworks
from fastnn.backend.cpu.frozen.process_token import process_token
from fastnn.backend.cpu.layouts.call import Given, Held, Outcome, kind_of
from fastnn.backend.cpu.layouts.code import DTYPES, LAYOUT_VERSION, CodeWord
from fastnn.backend.cuda.device_function.network import FrozenDeviceNetwork
from fastnn.nopython.described import error_of
from fastnn.nopython.device import ELSEWHERE


class Arrays:
    """The arrays of a call, as compiled code sees them; it keeps what its table points to.

    Parameters
    ----------
    arrays : sequence of ndarray, or None where one is absent
        Of a dtype in `DTYPES`.
    """

    def __init__(self, arrays: Sequence[NDArray[Any] | None]) -> None:
        self._kept: list[Any] = list(arrays)
        self._table = np.zeros((max(1, len(arrays)), Given.WORDS), np.int64)
        for words, array in zip(self._table, arrays, strict=False):
            if array is not None:
                sizes = np.array([*array.shape, *array.strides], np.int64)
                self._kept.append(sizes)
                kind = kind_of(DTYPES.index(array.dtype.name), array.ndim, not array.flags.c_contiguous)
                words[Given.ADDRESS], words[Given.KIND] = array.ctypes.data, kind
                words[Given.SHAPE] = sizes.ctypes.data

    @property
    def address(self) -> int:
        """The address of the table."""
        return int(self._table.ctypes.data)


def call_code(
    code: NDArray[np.int64], held: dict[Held, int], arrays: Sequence[NDArray[Any] | None], parts: int, work: Any
) -> None:
    """Call a code on arrays.

    Parameters
    ----------
    held : dict
        Words of the table of buffers.
    arrays : sequence of ndarray or None
        One for each slot of the code, or none at all if `parts` needs none.
    parts : int
        What to do, as in `Part`; 0: all.

    Raises
    ------
    What `error_of` has for the outcome that it returns.
    """
    outcome, error = ctypes.c_int64(Outcome.RAISED), ctypes.c_void_p()
    table, buffers = Arrays(arrays), np.zeros(Held.WORDS, np.int64)
    for word, value in held.items():
        buffers[word] = value
    memory, nbytes = (0, 0) if work is None else (work.ctypes.data, work.nbytes)
    try:
        status = _NATIVE(int(code[CodeWord.CALL]))(
            ctypes.addressof(outcome), ctypes.addressof(error), code.ctypes.data, buffers.ctypes.data, table.address,
            int(parts), memory, nbytes,
        )  # fmt: skip
    except SystemError as exception:
        # ctypes says so where Python, which a user's function has called in object mode, has raised
        raise exception.__cause__ or exception from None
    found = Outcome.RAISED if status != 0 else Outcome(outcome.value)
    if found != Outcome.DONE:
        raise error_of(found)


#: the type of codes' functions: six integers, in Numba's native convention
_NATIVE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 6)


def parameters_of(net: Any) -> dict[Held, int]:
    """Return the words of a network's buffer of parameters."""
    return {Held.PARAMETERS: net.parameters.ctypes.data, Held.PARAMETERS_COUNT: net.parameters.size}


def several(value: Any) -> list[Any]:
    """Return the arrays of an argument: a tuple has one for each input or output of a network."""
    return list(value) if isinstance(value, tuple) else [value]


def check_count(code: NDArray[np.int64], inputs: Sequence[Any], arrays: Sequence[Any]) -> None:
    """Raise unless there are as many inputs, and arrays in all, as a code has."""
    if len(inputs) != code[CodeWord.X_COUNT] or len(arrays) != code[CodeWord.SLOTS_COUNT]:
        raise error_of(Outcome.ARRAYS)


def inputs_of(name: str, given: Any) -> list[NDArray[Any]]:
    """Return the arrays of an argument that compiled code reads, and may convert; a number becomes one without axes.

    Raises
    ------
    TypeError
        When one is no array of numbers that compiled code knows, or is not aligned.
    """
    arrays = [
        np.asarray(one) if isinstance(one, int | float | np.number) and not isinstance(one, bool) else one
        for one in several(given)
    ]
    for index, array in enumerate(arrays):
        label = f"{name}[{index}]" if isinstance(given, tuple) else name
        if not isinstance(array, np.ndarray) or array.dtype.name not in DTYPES or not array.dtype.isnative:
            got = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(f"{label}: expected a NumPy array of numbers or a number, got {got}")
        if type(array) is not np.ndarray:
            casts.refuse_masked(array, label)
        if not array.flags.aligned:
            raise TypeError(f"{label}: expected an aligned array")
    return arrays


def results_of(name: str, given: Any, dtype: np.dtype[Any]) -> list[NDArray[Any]]:
    """Return the arrays of an argument that compiled code fills, checked."""
    arrays = several(given)
    for index, array in enumerate(arrays):
        label = f"{name}[{index}]" if isinstance(given, tuple) else name
        check_array(label, array, dtype)
        if not array.flags.writeable:
            raise ValueError(f"{label}: expected an array that can be written to")
    return arrays


def check_network(net: Any) -> None:
    """Raise unless this is a network of this process, or several, or a learner."""
    if isinstance(net, FrozenDeviceNetwork):
        raise TypeError(ELSEWHERE)
    if not isinstance(net, FrozenNetwork | FrozenNetworks | Learner | Learners):
        raise TypeError(f"net: expected a FrozenNetwork, from Model.freeze, got {type(net).__name__}")
    codes = [net.code, net.gradient]
    if isinstance(net, Learner | Learners):
        codes += [net.training, net.seeded]
    if any(not isinstance(one, np.ndarray) or one.dtype != np.int64 or one.ndim != 1 for one in codes):
        raise TypeError("net: its code is not what fastnn made")
    if not all(_is_ours(code) for code in codes if code is net.code or code.size):
        raise RuntimeError("the network belongs to another process or version of fastnn: pickle it, or freeze it again")
    parameters = net.parameters
    if not isinstance(parameters, np.ndarray) or parameters.dtype.kind != "f":
        raise TypeError("net: its parameters are not what fastnn made")
    if (
        parameters.ndim != (2 if isinstance(net, FrozenNetworks | Learners) else 1)
        or parameters.shape[-1] != net.code[CodeWord.PARAMETERS]
        or parameters.itemsize != net.code[CodeWord.ITEM_BYTES]
        or not parameters.flags.c_contiguous
    ):
        raise RuntimeError("the network's parameters were exchanged for an array of another length, dtype or layout")


def _is_ours(code: NDArray[np.int64]) -> bool:
    """Return whether a code is of this version and this process."""
    complete = len(code) >= CodeWord.HEAD and code[CodeWord.VERSION] == LAYOUT_VERSION
    return bool(complete and code[CodeWord.TOKEN] == process_token())


def check_learner(learner: Any) -> None:
    """Raise unless this is a learner of this process."""
    if not isinstance(learner, Learner):
        raise TypeError(f"learner: expected a Learner, from Model.learner, got {type(learner).__name__}")
    check_network(learner)
    real = learner.parameters.dtype
    for name, dtype in (("parameters", real), ("state", real), ("progress", np.int64), ("totals", np.float64)):
        array = getattr(learner, name)
        right = isinstance(array, np.ndarray) and array.ndim == 1 and array.flags.carray
        if not right or array.dtype != dtype:
            raise TypeError(f"learner: its {name} is not what fastnn made")


def check_array(name: str, array: Any, dtype: np.dtype[Any]) -> None:
    """Raise unless this is a contiguous array of a dtype."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        got = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{name}: expected a NumPy array of {dtype}, got {got}")
    if type(array) is not np.ndarray:
        casts.refuse_masked(array, name)
    if not array.flags.c_contiguous or not array.flags.aligned:
        hint = "" if name in ("out", "dx") else " (numpy.ascontiguousarray makes one)"
        raise TypeError(f"{name}: expected a C-contiguous, aligned array{hint}")


def check_flat(net: Any, name: str, flat: Any, *, written: bool = False) -> None:
    """Raise unless this is a vector of as many numbers as a checked network has weights."""
    check_array(name, flat, net.parameters.dtype)
    count = int(net.code[CodeWord.TRAINABLE])
    if flat.shape != (count,):
        raise ValueError(f"{name}: expected shape ({count},), got {flat.shape}")
    if written and not flat.flags.writeable:
        raise ValueError(f"{name}: expected an array that can be written to")


def check_workspace(work: Any) -> None:
    """Raise unless this is a workspace, or None."""
    if work is None:
        return
    if not isinstance(work, np.ndarray) or work.dtype != np.int64 or work.ndim != 1 or not work.flags.carray:
        raise TypeError("work: expected an array from fastnn.nopython.workspace")
