"""The functions of `fastnn.nopython` as Python calls them; `overloads.py` has what compiled code calls."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.frozen import learner as learners
from fastnn.backend.cpu.frozen import network as backend
from fastnn.backend.cpu.frozen.c_function import CFunction
from fastnn.backend.cpu.frozen.learner import Learner, Learners
from fastnn.backend.cpu.frozen.network import FrozenNetwork, FrozenNetworks
from fastnn.backend.cpu.layouts.call import Outcome
from fastnn.backend.cpu.layouts.code import (
    BLOCK,
    MOST_ROWS,
    CodeWord,
    Role,
    extra_bytes,
    learner_bytes,
    network_bytes,
    seed_bytes,
)
from fastnn.backend.cuda.device_function.network import FrozenDeviceNetwork
from fastnn.nopython.calls import (
    call_code,
    check_array,
    check_count,
    check_flat,
    check_network,
    check_workspace,
    inputs_of,
    parameters_of,
    results_of,
)
from fastnn.nopython.described import error_of
from fastnn.nopython.device import predict_in_kernel
from fastnn.nopython.flat import flatten, unflatten


def predict(net: Any, x: Any, out: Any, work: Any = None) -> None:
    """Compute a network's outputs for one sample or for a batch, without Python, the GIL or (with `work`) memory.

    The results are the bits that `Model.predict` returns for the same rows at once.

    Parameters
    ----------
    net : FrozenNetwork, Learner, FrozenNetworks or FrozenDeviceNetwork
        From `Model.freeze`, `Model.learner` or `stack`. With several networks x and out have one more axis in front:
        one element for each network. See below for a FrozenDeviceNetwork.
    x : array of shape input_shape or (n, *input_shape)
        With exactly n rows if the network was frozen with ``rows=n``; then x, out and all else are whole batches.
        Of any float, integer or bool dtype but float16, with any strides; what is not C-contiguous and of the network's
        dtype is converted. An input of integers takes integers and bool, and reads int64 without a conversion. A tuple
        with an array for each input, if the network has several; a number for a sample of shape ().
    out : array of shape output_shape or (n, *output_shape)
        C-contiguous, of the network's dtype; it is filled, and may be x or overlap it, which costs a copy. A tuple with
        an array for each output, if the network has several.
    work : array of int64, optional
        From `workspace`, for one thread at a time. Without it, a batch allocates its own; one sample uses the stack,
        if its hidden values take no more than 8 KiB.

    Raises
    ------
    ValueError
        When shapes or the number of arrays do not fit the network, or the workspace is too small; when an input of
        integers gets floats, or integers that its layers do not take: then nothing has been computed.
    TypeError
        When an argument is no array of numbers, or out has another dtype or layout; in compiled code Numba's
        TypingError, when the caller is compiled.
    RuntimeError
        When the network was made by another process, and got here neither as an argument nor by pickle.

    Notes
    -----
    Kernels of ``numba.cuda.jit`` call it with a FrozenDeviceNetwork, from ``Model.freeze(device="cuda")``: each thread
    for a sample of its own, with C-contiguous x, out and work of the network's dtype in any memory. `work` has at least
    `workspace_elements` elements, and shares no memory with x and out; these two may overlap. Types are checked when
    the kernel is compiled. A kernel cannot raise: where sizes do not fit the network, out is filled with NaN. Results
    agree with those of `Model.predict` to rounding.
    """
    if isinstance(net, FrozenDeviceNetwork):
        predict_in_kernel(net, x, out, work)
        return
    if isinstance(net, FrozenNetworks):
        check_network(net)
        for name, array in (("x", x), ("out", out)):
            check_array(name, array, np.asarray(x).dtype if name == "x" else net.parameters.dtype)
            if array.ndim < 2 or len(array) != count(net):
                wanted = f"one element of the first axis for each of {count(net)} networks"
                raise ValueError(f"{name}: expected {wanted}, got shape {array.shape}")
        if np.may_share_memory(x, out):
            x = x.copy()
        for index in range(len(net.parameters)):
            predict(member(net, index), x[index], out[index], work)
        return
    call_prediction(net, x, out, work)


def call_prediction(net: Any, x: Any, out: Any, work: Any, parts: int = 0) -> None:
    """Predict by one network, or only check the arguments (`Part.CHECK`)."""
    _check_one(net)
    inputs, outputs = inputs_of("x", x), results_of("out", out, net.parameters.dtype)
    check_workspace(work)
    check_count(net.code, inputs, inputs + outputs)
    call_code(net.code, parameters_of(net), inputs + outputs, parts, work)


def input_gradient(net: Any, x: Any, seed: Any, dx: Any, work: Any = None) -> None:
    """Compute dx = seed dy/dx, the gradient of a weighted sum of a network's outputs for its inputs.

    With the i-th unit vector as seed that is the i-th row of the Jacobian matrix; with the gradient of a loss for the
    outputs, that of the loss for the inputs.

    Parameters
    ----------
    net : FrozenNetwork
        From ``Model.freeze(gradients=True)``.
    x : array of shape input_shape or (n, *input_shape)
        As for `predict`.
    seed : array of shape output_shape or (n, *output_shape)
        What each output counts; of the same dtypes as x. A tuple for several outputs.
    dx : array of the shape of x
        C-contiguous, of the network's dtype; it is filled, and may be x or the seed, which costs a copy. A tuple for
        several inputs. Inputs of integers have no gradient: dx is for the others.
    work : array of int64, optional
        As for `predict`.

    Raises
    ------
    ValueError
        When the model was frozen without gradients, or has inputs of integers only; otherwise as `predict` does.
    TypeError, RuntimeError
        As `predict` does.
    """
    _check_one(net)
    inputs, seeds = inputs_of("x", x), inputs_of("seed", seed)
    gradients = results_of("dx", dx, net.parameters.dtype)
    code = net.gradient
    if not code.size:
        raise error_of(Outcome.ABSENT)
    check_workspace(work)
    arrays = inputs + seeds + gradients
    check_count(code, inputs, arrays)
    call_code(code, parameters_of(net), arrays, 0, work)


def jacobian(net: Any, x: Any, matrix: Any, work: Any = None) -> None:
    """Compute the derivatives of all outputs for all inputs of one sample, or of all rows if there are exactly n.

    Parameters
    ----------
    net : FrozenNetwork or Learner
        From ``Model.freeze(gradients=True)``, or ``Model.learner(gradients=True)``.
    x : array of shape input_shape
        C-contiguous, of the network's dtype.
    matrix : array of shape (*output_shape, *input_shape)
        Likewise; it is filled, and shares no memory with x.
    work : array of int64, optional
        From `workspace`. Without it, some memory is allocated.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As `input_gradient` does.
    """
    _check_one(net)
    ends = [backend.shapes_of(net.code, role) for role in (Role.INPUT, Role.OUTPUT)]
    if [len(shapes) for shapes in ends] != [1, 1]:
        raise ValueError("jacobian: expected a network with one input and one output")
    inputs_of("x", x)
    check_array("x", x, x.dtype)
    check_array("matrix", matrix, net.parameters.dtype)
    (inputs,), (outputs,) = ends
    if x.shape != inputs or matrix.shape != (*outputs, *inputs):
        wanted = f"{inputs} and {(*outputs, *inputs)}"
        raise ValueError(f"x, matrix: expected shapes {wanted}, got {x.shape} and {matrix.shape}")
    if np.may_share_memory(x, matrix):
        raise ValueError("matrix: expected memory apart from that of x")
    seed = np.zeros(outputs, matrix.dtype)
    for index, row in enumerate(matrix.reshape(seed.size, *inputs)):
        seed.reshape(-1)[index] = 1
        input_gradient(net, x, seed, row, work)
        seed.reshape(-1)[index] = 0


def workspace(net: Any, batch: int) -> NDArray[np.int64]:
    """Allocate what all functions of a network or a learner need for at most `batch` rows.

    Parameters
    ----------
    net : FrozenNetwork, FrozenNetworks, Learner or Learners
    batch : int
        At least 1. A network needs no more for more than 256 rows: they are computed 256 at a time. With room for this
        many rows, a call allocates nothing, unless an output overlaps an input. What was made for exactly n rows
        (``rows=n``) gets the room for these, whatever this number is.

    Returns
    -------
    ndarray of int64
        Its contents mean nothing. Threads that run at the same time need one each.
    """
    batch = operator.index(batch)
    if not 1 <= batch <= MOST_ROWS:
        raise ValueError(f"batch: expected at least 1 and at most {MOST_ROWS}, got {batch}")
    check_network(net)
    block = min(batch, BLOCK)
    needed = max(
        network_bytes(*_sizes(code), batch) + _extra(code, block) for code in (net.code, net.gradient) if code.size
    )
    if net.gradient.size:
        last = backend.shapes_of(net.code, Role.OUTPUT)[0]
        needed += seed_bytes(math.prod(last) * int(net.code[CodeWord.ITEM_BYTES]))
    if isinstance(net, Learner | Learners):
        for code in (net.training, net.seeded):
            if code.size:
                needed = max(needed, *(learner_bytes(*_sizes(code), n) + _extra(code, n) for n in (1, batch)))
    return np.empty(max(1, -(-needed // 8)), np.int64)


def parameter_count(net: Any) -> int:
    """Return the number of a network's weights: the length of the vector that `set_parameters` takes."""
    check_network(net)
    return int(net.code[CodeWord.TRAINABLE])


def set_parameters(net: FrozenNetwork | Learner, flat: Any) -> None:
    """Set all weights of a network, such as to a member of an evolving population.

    Parameters
    ----------
    net : FrozenNetwork or Learner
        Changed in place; the model that it was frozen from stays as it is.
    flat : array of shape (parameter_count(net),)
        The weights in the order of `Model.get_weights`, each flattened; of the network's dtype.
    """
    _check_one(net)
    check_flat(net, "flat", flat)
    if not net.parameters.flags.writeable:
        raise TypeError("net: expected a network that can be changed, this one's parameters are read-only")
    unflatten(net.code, flat, net.parameters)


def get_parameters(net: FrozenNetwork | Learner, flat: Any) -> None:
    """Copy all weights of a network into a vector; see `set_parameters`."""
    _check_one(net)
    check_flat(net, "flat", flat)
    flatten(net.code, net.parameters, flat)


def c_function(net: FrozenNetwork | Learner, signature: str = "int (const T *, T *)") -> CFunction:
    """Make a C function that computes one sample; compiled code cannot call this.

    Parameters
    ----------
    net : FrozenNetwork
        The function sees its weights, and what `set_parameters` makes of them. One that was frozen with ``rows=n``
        takes n rows instead of a sample.
    signature : str
        T is the network's dtype; x and out are contiguous and apart from each other, or a copy is made. ``const T *``
        stands for ``const int64_t *`` where the input holds integers.

        - ``"int (const T *, T *)"``: x, out; returns 0, or another number where there was no memory, or an integer was
          out of range.
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
    return CFunction(net.network if isinstance(net, Learner) else net, signature)


def stack(networks: Sequence[Any]) -> Any:
    """Put copies of networks, or of learners, together; compiled code cannot call this.

    Parameters
    ----------
    networks : sequence of FrozenNetwork or of Learner
        Of one architecture and dtype; learners also of one loss and one optimizer (learning rates may differ).

    Returns
    -------
    FrozenNetworks or Learners

    Raises
    ------
    ValueError
        When there are none, or they differ in more than their weights.
    TypeError
        When they are no networks.
    """
    members = list(networks)
    if not members:
        raise ValueError("networks: expected at least one")
    if isinstance(members[0], Learner):
        return learners.stack(_alike(members, Learner, "learner", learners.alike))
    return backend.stack(_alike(members, FrozenNetwork, "freeze", backend.alike))


def _alike(members: list[Any], kind: type, method: str, alike: Callable[[Any, Any], bool]) -> list[Any]:
    """Return the members if they are of a kind and differ from the first in their numbers only."""
    for index, one in enumerate(members):
        if not isinstance(one, kind):
            wanted = f"a {kind.__name__}, from Model.{method}"
            raise TypeError(f"networks[{index}]: expected {wanted}, got {type(one).__name__}")
        if not alike(one, members[0]):
            wanted = "the architecture and dtype of the first, and of learners its schedule"
            raise ValueError(f"networks[{index}]: expected {wanted}, got {one!r}")
    return members


def count(networks: Any) -> int:
    """Return how many networks or learners there are; `len` gives the number of fields of the named tuple."""
    if not isinstance(networks, FrozenNetworks | Learners):
        raise TypeError(f"networks: expected FrozenNetworks or Learners, from stack, got {type(networks).__name__}")
    return len(networks.parameters)


def member(networks: Any, index: int) -> Any:
    """Return one of several networks or learners; it sees their weights, and is no copy.

    Raises
    ------
    IndexError
        When there are not that many.
    """
    count(networks)
    index = operator.index(index)
    if not 0 <= index < count(networks):
        raise IndexError(f"index: expected from 0 to {count(networks) - 1}, got {index}")
    if isinstance(networks, Learners):
        return learners.member(networks, index)
    return FrozenNetwork(networks.code, networks.parameters[index], *networks[2:])


def _sizes(code: NDArray[np.int64]) -> tuple[int, int, int, int]:
    """Return the words of a code that its workspace depends on."""
    many, arena, one, only = (
        int(code[word]) for word in (CodeWord.MANY_COUNT, CodeWord.MANY_ARENA, CodeWord.ONE_ARENA, CodeWord.ROWS)
    )
    return many, arena, one, only


def _extra(code: NDArray[np.int64], rows: int) -> int:
    return extra_bytes(
        int(code[CodeWord.ROW_BYTES]), int(code[CodeWord.SLOTS_COUNT]), int(code[CodeWord.BLOCKS_FROM]),
        1 if code[CodeWord.ROWS] else rows,
    )  # fmt: skip


def _check_one(net: Any) -> None:
    check_network(net)
    if not isinstance(net, FrozenNetwork | Learner):
        raise TypeError("net: expected one network; member(networks, i) gives one of several")
