"""The functions of `fastnn.nopython` as Python calls them; `overloads.py` has what compiled code calls."""

from __future__ import annotations

import ctypes
import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu import frozen as backend
from fastnn.backend.cpu.c_function import CFunction
from fastnn.backend.cpu.frozen import FrozenNetwork, FrozenNetworks
from fastnn.backend.cpu.frozen_layout import LAYOUT_VERSION, Outcome, Word, workspace_bytes
from fastnn.backend.cpu.token import process_token


def predict(net: Any, x: Any, out: Any, work: Any = None) -> None:
    """Compute a network's outputs for one sample or for a batch, without Python, the GIL or (with `work`) memory.

    The results are the bits that `Model.predict` returns for the same rows at once.

    Parameters
    ----------
    net : FrozenNetwork or FrozenNetworks
        From `Model.freeze` or `stack`. With several networks x and out have one more axis in front: one element for
        each network.
    x : array of shape input_shape or (n, *input_shape)
        C-contiguous, of the network's dtype.
    out : array of shape output_shape or (n, *output_shape)
        Likewise; it is filled, and may be x or overlap it, which costs a copy.
    work : array of int64, optional
        From `workspace`, for one thread at a time. Without it, a batch allocates its own; one sample uses the stack,
        if its hidden values take no more than 8 KiB.

    Raises
    ------
    ValueError
        When shapes do not fit the network, or the workspace is too small.
    TypeError
        When dtypes or layouts do not fit; in compiled code Numba's TypingError, when the caller is compiled.
    RuntimeError
        When the network was made by another process, and got here neither as an argument nor by pickle.
    """
    if isinstance(net, FrozenNetworks):
        _check_network(net)
        for name, array in (("x", x), ("out", out)):
            _check_array(name, array, net.parameters.dtype)
            if array.ndim < 2 or len(array) != count(net):
                wanted = f"one element of the first axis for each of {count(net)} networks"
                raise ValueError(f"{name}: expected {wanted}, got shape {array.shape}")
        if np.may_share_memory(x, out):
            x = x.copy()
        for index in range(len(net.parameters)):
            predict(member(net, index), x[index], out[index], work)
        return
    _check_network(net)
    for name, array in (("x", x), ("out", out)):
        _check_array(name, array, net.parameters.dtype)
    if not out.flags.writeable:
        raise ValueError("out: expected an array that can be written to")
    code = net.code
    n = _samples(code, x, "out", out)
    _call(code, net, [x.copy() if np.may_share_memory(x, out) else x, out], work, n)


def input_gradient(net: Any, x: Any, seed: Any, dx: Any, work: Any = None) -> None:
    """Compute dx = seed dy/dx, the gradient of a weighted sum of a network's outputs for its inputs.

    With the i-th unit vector as seed that is the i-th row of the Jacobian matrix; with the gradient of a loss for the
    outputs, that of the loss for the inputs.

    Parameters
    ----------
    net : FrozenNetwork
        From ``Model.freeze(gradients=True)``.
    x : array of shape input_shape or (n, *input_shape)
        C-contiguous, of the network's dtype.
    seed : array of shape output_shape or (n, *output_shape)
        What each output counts.
    dx : array of the shape of x
        It is filled, and may be x or the seed, which costs a copy.
    work : array of int64, optional
        As for `predict`.

    Raises
    ------
    ValueError
        When the model was frozen without gradients, shapes do not fit, or the workspace is too small.
    TypeError, RuntimeError
        As `predict` does.
    """
    _check_one(net)
    for name, array in (("x", x), ("seed", seed), ("dx", dx)):
        _check_array(name, array, net.parameters.dtype)
    if not dx.flags.writeable:
        raise ValueError("dx: expected an array that can be written to")
    code = net.gradient
    if not code.size:
        raise ValueError("net: the network has no gradient: freeze the model with gradients=True")
    n = _samples(code, x, "seed", seed)
    if dx.shape != x.shape:
        raise ValueError(f"dx: expected the shape of x, {x.shape}, got {dx.shape}")
    given = [array.copy() if np.may_share_memory(array, dx) else array for array in (x, seed)]
    _call(code, net, [*given, dx], work, n)


def workspace(net: Any, batch: int) -> NDArray[np.int64]:
    """Allocate what `predict` and `input_gradient` need for at most `batch` rows.

    Parameters
    ----------
    net : FrozenNetwork or FrozenNetworks
    batch : int
        At least 1. More than 256 rows need no more: they are computed 256 at a time.

    Returns
    -------
    ndarray of int64
        Its contents mean nothing. Threads that run at the same time need one each.
    """
    _check_network(net)
    batch = operator.index(batch)
    if batch < 1:
        raise ValueError(f"batch: expected at least 1, got {batch}")
    needed = max(_needed(code, batch) for code in (net.code, net.gradient) if code.size)
    return np.empty(max(1, -(-needed // 8)), np.int64)


def parameter_count(net: Any) -> int:
    """Return the number of a network's weights: the length of the vector that `set_parameters` takes."""
    _check_network(net)
    return int(net.code[Word.TRAINABLE])


def set_parameters(net: FrozenNetwork, flat: Any) -> None:
    """Set all weights of a network, such as to a member of an evolving population.

    Parameters
    ----------
    net : FrozenNetwork
        Changed in place; the model that it was frozen from stays as it is.
    flat : array of shape (parameter_count(net),)
        The weights in the order of `Model.get_weights`, each flattened; of the network's dtype.
    """
    _check_flat(net, flat)
    first = 0
    for start, size in backend.weight_ranges(net.code):
        net.parameters[start : start + size] = flat[first : first + size]
        first += size


def get_parameters(net: FrozenNetwork, flat: Any) -> None:
    """Copy all weights of a network into a vector; see `set_parameters`."""
    _check_flat(net, flat)
    first = 0
    for start, size in backend.weight_ranges(net.code):
        flat[first : first + size] = net.parameters[start : start + size]
        first += size


def c_function(net: FrozenNetwork, signature: str = "int (const T *, T *)") -> CFunction:
    """Make a C function that computes one sample; compiled code cannot call this.

    Parameters
    ----------
    net : FrozenNetwork
        The function sees its weights, and what `set_parameters` makes of them.
    signature : str
        T is the network's dtype; x and out are contiguous and apart from each other, or a copy is made.

        - ``"int (const T *, T *)"``: x, out; returns 0, or another number where there was no memory.
        - ``"int (const T *, T *, void *)"``: the same with user data, which are ignored.
        - ``"double (int, double *)"``, ``"double (int, double *, void *)"``: as `scipy.integrate` calls it; returns the
          output of a network that has one; NaN where there was no memory.
        - ``"int (double *, intptr_t, double *, void *)"``: as `scipy.ndimage.generic_filter` calls it; returns 1, or
          0 where there was no memory.

        The integer parameters are not looked at: the caller passes as many numbers as the network has inputs.

    Returns
    -------
    CFunction
        Keep it, or its `ctypes`, for as long as the address is used.

    Raises
    ------
    ValueError
        When the signature is unknown, or does not fit the network.
    """
    _check_one(net)
    return CFunction(net, signature)


def stack(networks: Sequence[FrozenNetwork]) -> FrozenNetworks:
    """Put copies of networks of one architecture and dtype together; compiled code cannot call this.

    Raises
    ------
    ValueError
        When there are none, or they differ in more than their weights.
    """
    members = list(networks)
    if not members:
        raise ValueError("networks: expected at least one")
    for index, one in enumerate(members):
        if not isinstance(one, FrozenNetwork):
            raise TypeError(f"networks[{index}]: expected a FrozenNetwork, from Model.freeze, got {type(one).__name__}")
        if (
            not backend.same_architecture(one.code, members[0].code)
            or one.parameters.dtype != members[0].parameters.dtype
        ):
            raise ValueError(f"networks[{index}]: expected the architecture and dtype of the first, got {one!r}")
    return backend.stack(members)


def count(networks: FrozenNetworks) -> int:
    """Return how many networks there are; `len` gives the number of fields of the named tuple."""
    if not isinstance(networks, FrozenNetworks):
        raise TypeError(f"networks: expected FrozenNetworks, from stack, got {type(networks).__name__}")
    return len(networks.parameters)


def member(networks: FrozenNetworks, index: int) -> FrozenNetwork:
    """Return one of several networks; it sees their weights, and is no copy.

    Raises
    ------
    IndexError
        When there are not that many.
    """
    count(networks)
    index = operator.index(index)
    if not 0 <= index < len(networks.parameters):
        raise IndexError("member: there are not that many networks")
    return FrozenNetwork(networks.code, networks.parameters[index], *networks[2:])


def _call(code: NDArray[np.int64], net: Any, arrays: list[NDArray[Any]], work: Any, n: int) -> None:
    """Run a code on checked arrays that are apart from what is written to, the last of them."""
    needed = _needed(code, n)
    if work is None:
        work = np.empty(-(-needed // 8), np.int64)
    elif not isinstance(work, np.ndarray) or work.dtype != np.int64 or work.ndim != 1 or not work.flags.carray:
        raise TypeError("work: expected an array from fastnn.nopython.workspace")
    if work.nbytes < needed:
        raise ValueError(f"work: expected a workspace of at least {needed} bytes for {n} rows, got {work.nbytes}")
    outcome, error = ctypes.c_int64(Outcome.RAISED), ctypes.c_void_p()
    shapes = [np.array(array.shape, np.int64) for array in arrays]
    described = [
        number
        for array, shape in zip(arrays, shapes, strict=True)
        for number in (array.ctypes.data, shape.ctypes.data, array.ndim)
    ]
    parameters = net.parameters
    status = _native(5 + len(described))(int(code[Word.RUN]))(
        ctypes.addressof(outcome), ctypes.addressof(error), code.ctypes.data, parameters.ctypes.data, parameters.size,
        work.ctypes.data, work.nbytes, *described,
    )  # fmt: skip
    if status != 0 or outcome.value != Outcome.DONE:
        raise RuntimeError(f"a compiled kernel raised ({outcome.value}): this is a bug in fastnn")


@functools.cache
def _native(count: int) -> Any:
    """Return the type of a function in Numba's native convention with so many integers."""
    return ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * count)


def _needed(code: NDArray[np.int64], n: int) -> int:
    return workspace_bytes(int(code[Word.MANY_COUNT]), int(code[Word.MANY_ARENA]), int(code[Word.ONE_ARENA]), n)


def _check_network(net: Any) -> None:
    if not isinstance(net, FrozenNetwork | FrozenNetworks):
        raise TypeError(f"net: expected a FrozenNetwork, from Model.freeze, got {type(net).__name__}")
    code = net.code
    if any(not isinstance(one, np.ndarray) or one.dtype != np.int64 or one.ndim != 1 for one in (code, net.gradient)):
        raise TypeError("net: its code is not what fastnn made")
    if not _is_ours(code) or (net.gradient.size and not _is_ours(net.gradient)):
        raise RuntimeError("the network belongs to another process or version of fastnn: pickle it, or freeze it anew")
    parameters = net.parameters
    if (
        parameters.ndim != (2 if isinstance(net, FrozenNetworks) else 1)
        or parameters.shape[-1] != code[Word.PARAMETERS]
        or parameters.itemsize != code[Word.ITEM_BYTES]
        or not parameters.flags.c_contiguous
    ):
        raise RuntimeError("the network's parameters were exchanged for an array of another length, dtype or layout")


def _is_ours(code: NDArray[np.int64]) -> bool:
    """Tell whether a code is of this version and this process."""
    complete = len(code) >= Word.HEAD and code[Word.VERSION] == LAYOUT_VERSION
    return bool(complete and code[Word.TOKEN] == process_token())


def _check_one(net: Any) -> None:
    _check_network(net)
    if not isinstance(net, FrozenNetwork):
        raise TypeError("net: expected one network; member(networks, i) gives one of several")


def _check_array(name: str, array: Any, dtype: np.dtype[Any]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        got = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{name}: expected a NumPy array of {dtype}, got {got}")
    if not array.flags.c_contiguous or not array.flags.aligned:
        hint = "" if name in ("out", "dx") else " (numpy.ascontiguousarray makes one)"
        raise TypeError(f"{name}: expected a C-contiguous, aligned array{hint}")


def _check_flat(net: Any, flat: Any) -> None:
    _check_one(net)
    _check_array("flat", flat, net.parameters.dtype)
    if flat.shape != (parameter_count(net),):
        raise ValueError(f"flat: expected shape ({parameter_count(net)},), got {flat.shape}")


def _samples(code: NDArray[np.int64], x: NDArray[Any], name: str, y: NDArray[Any]) -> int:
    """Return how many samples x holds; y, which is like the outputs, has to hold as many."""
    n = _rows(code, "x", x, Word.INPUT_NDIM, Word.INPUT_SHAPE)
    found = _rows(code, name, y, Word.OUTPUT_NDIM, Word.OUTPUT_SHAPE)
    if n != found or x.ndim - code[Word.INPUT_NDIM] != y.ndim - code[Word.OUTPUT_NDIM]:
        raise ValueError(f"{name}: expected as many rows as x has, got shapes {x.shape} and {y.shape}")
    return n


def _rows(code: NDArray[np.int64], name: str, array: NDArray[Any], ndim_word: int, shape_word: int) -> int:
    """Return how many samples an array holds."""
    ndim = int(code[ndim_word])
    shape = tuple(code[shape_word : shape_word + ndim].tolist())
    if array.shape == shape:
        return 1
    if array.ndim != ndim + 1 or array.shape[1:] != shape:
        raise ValueError(f"{name}: expected shape {shape} or (n, {', '.join(map(str, shape))}), got {array.shape}")
    return len(array)
