"""A frozen network: only arrays, so that Numba takes it as an argument."""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.frozen import code as frozen_code
from fastnn.backend.cpu.frozen.code import NOTHING, Code, Recipe
from fastnn.backend.cpu.frozen.sealed import opened, sealed
from fastnn.backend.cpu.frozen.versioned import EarlierClass, earlier, versioned
from fastnn.backend.cpu.layouts.code import CodeWord, Role, Slot
from fastnn.formulas import custom
from fastnn.program.program import aligned_zeros


@versioned
class FrozenNetwork(NamedTuple):
    """A network with its weights, for the functions of `fastnn.nopython`; made by `Model.freeze`.

    All networks of a dtype have the same Numba type, whatever their architecture: a compiled function that takes one
    takes all. Pickling and copying work, also to other processes and machines. The fields are internal.

    Attributes
    ----------
    code : ndarray of int64
        The computation; valid in this process only.
    parameters : ndarray of float32 or float64
        The weights, each at a multiple of 64 bytes.
    relocations : ndarray of uint8
        The data with which another process adapts the code.
    gradient, gradient_relocations : ndarray of int64, of uint8
        The same for the gradient with respect to the inputs; empty if the model was frozen without it.
    """

    code: Code
    parameters: NDArray[Any]
    relocations: NDArray[np.uint8]
    gradient: Code
    gradient_relocations: NDArray[np.uint8]

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, sealed(type(self), *_for_another_process(self))

    def __repr__(self) -> str:
        return (
            f"<fastnn.nopython.FrozenNetwork: {written_shapes(self.code)}, {self.code[CodeWord.TRAINABLE]} weights, "
            f"{self.parameters.dtype}>"
        )


@versioned
class FrozenNetworks(NamedTuple):
    """Networks of one architecture with separate weights; made by `fastnn.nopython.stack`.

    Attributes
    ----------
    code, relocations, gradient, gradient_relocations
        As in `FrozenNetwork`.
    parameters : ndarray of float32 or float64, shape (number of networks, elements)
    """

    code: Code
    parameters: NDArray[Any]
    relocations: NDArray[np.uint8]
    gradient: Code
    gradient_relocations: NDArray[np.uint8]

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, sealed(type(self), *_for_another_process(self))

    def __repr__(self) -> str:
        shapes = written_shapes(self.code)
        return f"<fastnn.nopython.FrozenNetworks: {len(self.parameters)} of {shapes}, {self.parameters.dtype}>"


def __getattr__(name: str) -> type[EarlierClass]:
    return earlier(__name__, name)


def shapes_of(code: Code, *roles: Role) -> list[tuple[int, ...]]:
    """Return the shapes of a sample's arrays that have one of some roles."""
    slots = code[code[CodeWord.SLOTS_AT] :][: code[CodeWord.SLOTS_COUNT] * Slot.WORDS].reshape(-1, Slot.WORDS)
    return [
        tuple(slot[Slot.SHAPE : Slot.SHAPE + int(slot[Slot.NDIM])].tolist())
        for slot in slots
        if slot[Slot.ROLE] in roles
    ]


def written_shapes(code: Code) -> str:
    """Write the shapes of a sample's inputs and outputs."""
    ends = (shapes_of(code, role) for role in (Role.INPUT, Role.OUTPUT))
    return " -> ".join(", ".join(map(str, shapes)) for shapes in ends)


def freeze(network: Recipe, gradient: Recipe | None, parameters: NDArray[Any]) -> FrozenNetwork:
    """Make a network, with its gradient or without, and with a copy of the buffer of parameters."""
    code, relocations = frozen_code.assemble(network)
    backward = NOTHING if gradient is None else frozen_code.assemble(gradient)
    return FrozenNetwork(code, owned(parameters), relocations, *backward)


def same_architecture(first: Code, second: Code) -> bool:
    """Return whether two networks compute the same function apart from their weights."""
    return len(first) == len(second) and bool((first == second).all())


def alike(first: FrozenNetwork, second: FrozenNetwork) -> bool:
    """Return whether two networks compute the same function, in the same dtype, apart from their weights."""
    return first.parameters.dtype == second.parameters.dtype and same_architecture(first.code, second.code)


def stack(networks: list[FrozenNetwork]) -> FrozenNetworks:
    """Combine networks of one architecture."""
    first = networks[0]
    rows = aligned_array((len(networks), first.parameters.size), first.parameters.dtype)
    for row, network in zip(rows, networks, strict=True):
        row[...] = network.parameters
    return FrozenNetworks(first.code, rows, *first[2:])


def aligned_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array of zeros with the alignment that kernels need."""
    return aligned_zeros(int(np.prod(shape)) * dtype.itemsize).view(dtype).reshape(shape)


def owned(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy with the alignment that kernels need."""
    made = aligned_array(array.shape, array.dtype)
    made[...] = array
    return made


def _for_another_process(net: FrozenNetwork | FrozenNetworks) -> tuple[Any, ...]:
    code = frozen_code.without_addresses(net.code, net.relocations)
    gradient = frozen_code.without_addresses(net.gradient, net.gradient_relocations)
    users = packed(net.relocations, net.gradient_relocations)
    return code, np.array(net.parameters), net.relocations, gradient, net.gradient_relocations, users


def packed(*relocations: NDArray[np.uint8]) -> bytes:
    """Pickle the user-defined functions that codes call, also those that are not attributes of a module."""
    users = [function for each in relocations for function in frozen_code.users_functions(each)]
    if not users:
        return b""
    from numba import cloudpickle

    return bytes(cloudpickle.dumps(users))


def unpack(users: bytes) -> list[custom.CustomFunction]:
    """Return user-defined functions from another process; they stay registered while they are referenced."""
    return [custom.enroll(function) for function in pickle.loads(users)] if users else []


def _restore(packed: bytes, digest: bytes) -> FrozenNetwork | FrozenNetworks:
    kind: type[FrozenNetwork | FrozenNetworks]
    kind, code, parameters, relocations, gradient, gradient_relocations, users = opened(packed, digest)
    held = unpack(users)
    here, backward = frozen_code.relocate(code, relocations), frozen_code.relocate(gradient, gradient_relocations)
    del held  # the kernels, which are never freed, hold the functions
    return kind(here, owned(parameters), np.array(relocations), backward, np.array(gradient_relocations))
