"""The functions of `fastnn.nopython` as numba-cuda compiles them into its users' kernels; imported where there is one.

`predict` hands addresses and sizes to the interpreter, which is compiled once a dtype, whatever the networks are.
"""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from numba import types
from numba.core.errors import TypingError
from numba.cuda.extending import overload

from fastnn.backend.cuda.codegen.kernel import ptx
from fastnn.backend.cuda.device_function.interpreter import define
from fastnn.backend.cuda.device_function.network import FrozenDeviceNetwork
from fastnn.nopython import checking, device, functions, stepping, train
from fastnn.nopython.numba_types import array_type, is_kind

_address_of, _memory_of = ptx.address_of, ptx.memory_of


@overload(functions.predict)
def _predict(net: Any, x: Any, out: Any, work: Any = None) -> Callable[..., None]:
    if not is_kind(net, FrozenDeviceNetwork):
        raise TypingError(
            "fastnn.nopython: net: expected a FrozenDeviceNetwork, from Model.freeze(device='cuda'), in a CUDA kernel, "
            f"got {net}"
        )
    code, parameters = net.types
    for name, field, kinds in (
        ("code", code, (types.int64,)),
        ("parameters", parameters, (types.float32, types.float64)),
    ):
        if not isinstance(field, types.Array) or (field.layout, field.ndim) != ("C", 1) or field.dtype not in kinds:
            raise TypingError(f"fastnn.nopython: {name}: expected the array that fastnn made, got {field}")
    dtype = parameters.dtype
    # a network of integers has the same type as others
    integers = isinstance(x, types.Array) and isinstance(x.dtype, types.Integer)
    array_type("x", x, x.dtype if integers else dtype)
    array_type("out", out, dtype, written=True)
    if work is None or isinstance(work, types.NoneType | types.Omitted):
        raise TypingError(f"fastnn.nopython: work: expected an array, from {device.WORK}")
    array_type("work", work, dtype, written=True)
    run = define(str(dtype), str(x.dtype))

    def predict(net: Any, x: Any, out: Any, work: Any = None) -> None:
        run(
            _address_of(net.code), net.code.size, _address_of(net.parameters), net.parameters.size,
            _memory_of(x), x.size, _memory_of(out), out.size, _memory_of(work), work.size,
        )  # fmt: skip

    return predict


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise TypingError(f"fastnn.nopython: {name} has no form for CUDA kernels, where there is predict alone")

    return refuse


_OTHERS = (
    functions.input_gradient, functions.jacobian, functions.workspace, functions.parameter_count,
    functions.set_parameters, functions.get_parameters, functions.c_function, functions.stack, functions.count,
    functions.member, checking.check, train.train_step, train.loss_and_gradients, train.parameter_gradient,
    train.apply_gradients, train.set_learning_rate, device.workspace_elements, stepping.state, stepping.step,
)  # fmt: skip
for _other in _OTHERS:
    overload(_other, strict=False)(_refuse(_other.__name__))
