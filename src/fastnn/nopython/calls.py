"""What the functions of `fastnn.nopython` share when Python calls them: checks, and the call of native code."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import casts
from fastnn.backend.cpu.frozen.learner import Learner, Learners
from fastnn.backend.cpu.frozen.network import FrozenNetwork, FrozenNetworks
from fastnn.backend.cpu.frozen.process_token import process_token
from fastnn.backend.cpu.layouts.frozen import LAYOUT_VERSION, Outcome, Word
from fastnn.backend.cuda.device_function.network import FrozenDeviceNetwork
from fastnn.nopython.described import error_of
from fastnn.nopython.device import ELSEWHERE


def call_native(function: int, head: Sequence[int], arrays: Sequence[NDArray[Any] | None]) -> None:
    """Call a function in Numba's native convention with integers, and with address, shape and dimensions of arrays.

    Raises
    ------
    What `error_of` has for the outcome that it returns.
    """
    outcome, error = ctypes.c_int64(Outcome.RAISED), ctypes.c_void_p()
    shapes = [np.array(() if array is None else array.shape, np.int64) for array in arrays]
    words = list(head)
    for array, shape in zip(arrays, shapes, strict=True):
        words += [0, 0, 0] if array is None else [array.ctypes.data, shape.ctypes.data, array.ndim]
    try:
        status = _native(len(words))(function)(ctypes.addressof(outcome), ctypes.addressof(error), *words)
    except SystemError as exception:
        # ctypes says so where Python, which a user's function has called in object mode, has raised
        raise exception.__cause__ or exception from None
    found = Outcome.RAISED if status != 0 else Outcome(outcome.value)
    if found != Outcome.DONE:
        raise error_of(found)


@functools.cache
def _native(count: int) -> Any:
    """Return the type of a function of `count` integers in Numba's native convention."""
    return ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * count)


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
        or parameters.shape[-1] != net.code[Word.PARAMETERS]
        or parameters.itemsize != net.code[Word.ITEM_BYTES]
        or not parameters.flags.c_contiguous
    ):
        raise RuntimeError("the network's parameters were exchanged for an array of another length, dtype or layout")


def _is_ours(code: NDArray[np.int64]) -> bool:
    """Return whether a code is of this version and this process."""
    complete = len(code) >= Word.HEAD and code[Word.VERSION] == LAYOUT_VERSION
    return bool(complete and code[Word.TOKEN] == process_token())


def check_learner(learner: Any) -> None:
    """Raise unless this is a learner of this process."""
    if not isinstance(learner, Learner):
        raise TypeError(f"learner: expected a Learner, from Model.learner, got {type(learner).__name__}")
    check_network(learner)
    for name, dtype in (("parameters", None), ("state", learner.parameters.dtype), ("progress", np.int64)):
        array = getattr(learner, name)
        right = isinstance(array, np.ndarray) and array.ndim == 1 and array.flags.carray
        if not right or array.dtype != (dtype or array.dtype):
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
    count = int(net.code[Word.TRAINABLE])
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
