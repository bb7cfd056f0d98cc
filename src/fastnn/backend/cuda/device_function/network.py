"""A frozen network in a GPU's memory, for users' kernels."""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.device_function.code import encode
from fastnn.backend.cuda.device_function.instructions import MAGIC
from fastnn.backend.cuda.device_function.layout import HEAD, Head
from fastnn.program.program import Program


class FrozenDeviceNetwork(NamedTuple):
    """A network with its weights in the memory of a GPU, for `fastnn.nopython.predict` in users' kernels.

    Made by ``Model.freeze(device="cuda")``. All networks of a dtype have the same Numba type, whatever their
    architecture: a kernel that takes one takes all. The fields are internal.

    Attributes
    ----------
    code : device array of int64
        The computation.
    parameters : device array of float32 or float64
        The weights, in the order in which they are read.
    """

    code: Any
    parameters: Any

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a network in a GPU's memory belongs to its process and cannot be copied: freeze the model again where it "
            "is needed"
        )

    def __repr__(self) -> str:
        head = head_of(self)
        shapes = f"{head[Head.INPUTS]} -> {head[Head.OUTPUTS]}"
        return (
            f"<fastnn.nopython.FrozenDeviceNetwork: {shapes} elements, {head[Head.WEIGHTS]} weights, "
            f"{self.parameters.dtype}>"
        )


def freeze(
    program: Program,
    parameters: NDArray[Any],
    sizes: tuple[int, int],
    integers: tuple[int, int] | None,
    weights: int,
    number: int,
) -> FrozenDeviceNetwork:
    """Make a network on a GPU from its program for one sample and the buffer of its weights.

    Parameters
    ----------
    sizes : (int, int)
        Elements of a sample's input and output.
    integers : (int, int), optional
        The range of the input, if it is of integers.
    weights : int
        The number of the model's weights.

    Raises
    ------
    NotImplementedError
        When an op runs on the CPU only.
    """
    from numba import cuda

    code, constants = encode(program, parameters, sizes, integers)
    code[Head.WEIGHTS] = weights
    with cuda.gpus[number]:
        return FrozenDeviceNetwork(cuda.to_device(code), cuda.to_device(constants))


def head_of(net: FrozenDeviceNetwork) -> NDArray[np.int64]:
    """Return the first words of a network's code.

    Raises
    ------
    RuntimeError
        When another version of fastnn made it.
    """
    head: NDArray[np.int64] = net.code[:HEAD].copy_to_host()
    if len(head) < HEAD or head[Head.MAGIC] != MAGIC:
        raise RuntimeError("the network's code was not made by this version of fastnn")
    return head
