"""Networks in a GPU's memory, where Python calls functions with them: sizes, and kernels in Numba's simulator."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from fastnn.backend.cuda.codegen.numba_cuda import simulated
from fastnn.backend.cuda.device_function.layout import Head
from fastnn.backend.cuda.device_function.network import FrozenDeviceNetwork, head_of

#: what is said of every function that takes no network of a GPU
ELSEWHERE = (
    "net: a FrozenDeviceNetwork is for fastnn.nopython.predict in kernels of numba.cuda.jit; Model.freeze() without a "
    "device makes a network for this function"
)
#: what a kernel is to give as workspace
WORK = "numba.cuda.local.array(SIZE, dtype) with SIZE = fastnn.nopython.workspace_elements(net)"


def workspace_elements(net: FrozenDeviceNetwork) -> int:
    """Return how many elements of workspace `predict` needs for one sample in a CUDA kernel.

    A kernel wants it as a constant: keep it in a global variable, and give that to `numba.cuda.local.array`.

    Parameters
    ----------
    net : FrozenDeviceNetwork
        From ``Model.freeze(device="cuda")``.

    Returns
    -------
    int
        At least 1. More is as good: a kernel that takes several networks has the largest.
    """
    if not isinstance(net, FrozenDeviceNetwork):
        raise TypeError(
            f"net: expected a FrozenDeviceNetwork, from Model.freeze(device='cuda'), got {type(net).__name__}; "
            "workspace(net, batch) makes the workspace of other networks"
        )
    return max(1, int(head_of(net)[Head.WORKSPACE]))


def predict_in_kernel(net: FrozenDeviceNetwork, x: Any, out: Any, work: Any) -> None:
    """Compute one sample in a kernel that Numba's simulator runs, by the functions that are compiled for GPUs.

    Raises
    ------
    TypeError
        Outside of kernels, and for arrays that a GPU's compiler would refuse.
    """
    if not (simulated() and hasattr(threading.current_thread(), "blockIdx")):
        raise TypeError(ELSEWHERE)
    from fastnn.backend.cuda.codegen.kernel import ptx
    from fastnn.backend.cuda.device_function.interpreter import define, is_integer

    dtype = net.parameters.dtype
    if work is None:
        raise TypeError(f"work: expected an array, from {WORK}")
    flat = []
    for name, array in (("x", x), ("out", out), ("work", work)):
        kind = getattr(array, "dtype", None)
        if kind != dtype and not (name == "x" and kind is not None and is_integer(kind)):
            hint = ", or one of integers" if name == "x" else ""
            raise TypeError(f"{name}: expected an array of {dtype}, which the network is of{hint}")
        if not array.flags.c_contiguous:
            raise TypeError(f"{name}: expected a C-contiguous array")
        flat += [ptx.memory_of(array), array.size]
    places = ptx.address_of(net.code), net.code.size, ptx.address_of(net.parameters), net.parameters.size
    # a GPU makes no warnings where numbers are infinite or none
    with np.errstate(all="ignore"):
        define(str(dtype), str(x.dtype))(*places, *flat)
