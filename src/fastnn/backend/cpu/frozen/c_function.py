"""A frozen network as a C function: a few instructions that call its code with constant addresses."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from fastnn.addresses import address
from fastnn.backend.cpu.frozen.network import FrozenNetwork, shapes_of
from fastnn.backend.cpu.frozen.process_token import process_token
from fastnn.backend.cpu.layouts.call import Given, Held, Outcome, kind_of
from fastnn.backend.cpu.layouts.code import LAYOUT_VERSION, CodeWord, Role, Slot
from fastnn.backend.cpu.loading import library

_SYMBOL = "fastnn_c_function"


@dataclass(frozen=True)
class _Convention:
    """A signature: its parameters in C, the positions of x and out among them, and the return value.

    `returns` is "status" (0, or an error code), "success" (1, or 0) or "value" (the output, or NaN).
    """

    parameters: tuple[str, ...]
    x: int
    out: int | None
    returns: str


CONVENTIONS = {
    "int (const T *, T *)": _Convention(("x", "out"), 0, 1, "status"),
    "int (const T *, T *, void *)": _Convention(("x", "out", "data"), 0, 1, "status"),
    "double (int, double *)": _Convention(("int", "x"), 1, None, "value"),
    "double (int, double *, void *)": _Convention(("int", "x", "data"), 1, None, "value"),
    "int (double *, intptr_t, double *, void *)": _Convention(("x", "word", "out", "data"), 0, 2, "success"),
}


class CFunction:
    """A network as a C function, for ctypes, cffi, Cython and `scipy.LowLevelCallable`.

    The function exists as long as this object, or its `ctypes`, exists: keep one of them with the address.
    Any number of threads may call it at the same time, without the GIL.

    Attributes
    ----------
    signature : str
        The C signature, with T as `float` or `double`, and as `int64_t` where x holds integers.
    address : int
        Address of the function.
    ctypes : ctypes function pointer
        Callable from Python, and accepted by `scipy.LowLevelCallable`.

    Parameters
    ----------
    network : FrozenNetwork
    signature : str
        One of `CONVENTIONS`.

    Raises
    ------
    TypeError
        When the network is not a FrozenNetwork, or the signature is not a string.
    ValueError
        When the signature is unknown, or does not fit the network.
    """

    def __init__(self, network: FrozenNetwork, signature: str) -> None:
        if not isinstance(network, FrozenNetwork):
            raise TypeError(f"network: expected a FrozenNetwork from Model.freeze, got {type(network).__name__}")
        if not _is_whole(network):
            raise TypeError("network: it is not what fastnn made in this process")
        if not isinstance(signature, str):
            raise TypeError(f"signature: expected one of {', '.join(map(repr, CONVENTIONS))}; got {signature!r}")
        (shape,) = _one_each(network)
        kind = {"float32": "float", "float64": "double"}[str(network.parameters.dtype)]
        x_kind = "int64_t" if network.code[CodeWord.INTEGERS] else kind
        known = {_spelled(name, x_kind, kind): name for name in reversed(CONVENTIONS)}
        asked, signature = signature, known.get(_spelled(signature, x_kind, kind), "")
        if not signature:
            raise ValueError(f"signature: expected one of {', '.join(map(repr, CONVENTIONS))}; got {asked!r}")
        convention = CONVENTIONS[signature]
        if "double *" in signature and (kind != "double" or x_kind != kind):
            found = f"its input is of {'int64' if x_kind != kind else 'float32'}"
            raise ValueError(f"signature: {signature!r} is for networks of float64, of this one {found}")
        if convention.returns != "status" and shape not in ((), (1,)):
            raise ValueError(f"signature: {signature!r} is for networks with one output, this one has shape {shape}")
        self.signature = signature.replace("const T", f"const {x_kind}").replace("T", kind)
        engine = library.engine_of(_compile(network, convention))
        self.address = int(engine.get_function_address(_SYMBOL))
        self.ctypes = _prototype(convention, x_kind, kind)(self.address)
        # a function pointer of ctypes takes attributes, and the caller decides how long it lives
        self.ctypes.kept = (engine, network)

    def __repr__(self) -> str:
        if not hasattr(self, "address"):  # its arguments were refused
            return "<fastnn.nopython.CFunction>"
        return f"<fastnn.nopython.CFunction: {self.signature}, at {self.address:#x}>"


def _is_whole(network: FrozenNetwork) -> bool:
    """Return whether a network's code and weights belong together, and were made in this process."""
    code, weights = network.code, network.parameters
    if not all(isinstance(one, np.ndarray) and one.ndim == 1 and one.flags.c_contiguous for one in (code, weights)):
        return False
    if code.dtype != np.int64 or len(code) < CodeWord.HEAD or weights.dtype.kind != "f":
        return False
    ours = code[CodeWord.VERSION] == LAYOUT_VERSION and code[CodeWord.TOKEN] == process_token()
    return bool(ours and weights.size == code[CodeWord.PARAMETERS] and weights.itemsize == code[CodeWord.ITEM_BYTES])


def _one_each(network: FrozenNetwork) -> list[tuple[int, ...]]:
    """Return the shape of a network's output; raises if it has several inputs or outputs."""
    found = [shapes_of(network.code, role) for role in (Role.INPUT, Role.OUTPUT)]
    if [len(shapes) for shapes in found] != [1, 1]:
        raise ValueError(
            f"c_function: expected a network with one input and one output, this one has {len(found[0])} and "
            f"{len(found[1])}"
        )
    if shapes_of(network.code, Role.STATE):
        raise ValueError("c_function: expected a network without a state, this one goes step by step")
    return found[1]


def _spelled(signature: str, x_kind: str, kind: str) -> str:
    """Write a signature without spaces, with types instead of T."""
    return "".join(signature.split()).replace("constT", f"const{x_kind}").replace("T", kind)


def _prototype(convention: _Convention, x_kind: str, kind: str) -> Callable[[int], Any]:
    known = {"float": ctypes.c_float, "double": ctypes.c_double, "int64_t": ctypes.c_int64}
    kinds: dict[str, Any] = {
        "x": ctypes.POINTER(known[x_kind]), "out": ctypes.POINTER(known[kind]), "data": ctypes.c_void_p,
        "int": ctypes.c_int, "word": ctypes.c_ssize_t,
    }  # fmt: skip
    result = ctypes.c_double if convention.returns == "value" else ctypes.c_int
    return ctypes.CFUNCTYPE(result, *(kinds[name] for name in convention.parameters))


def _compile(network: FrozenNetwork, convention: _Convention) -> bytes:
    from llvmlite import ir

    from fastnn.backend.cpu.codegen.vectors import emit_call

    code = network.code
    word, integer, double = ir.IntType(64), ir.IntType(32), ir.DoubleType()
    pointer = ir.IntType(8).as_pointer()
    kinds = {"x": pointer, "out": pointer, "data": pointer, "int": integer, "word": word}
    result_kind = double if convention.returns == "value" else integer
    module = ir.Module(_SYMBOL)
    function = ir.Function(
        module, ir.FunctionType(result_kind, [kinds[name] for name in convention.parameters]), _SYMBOL
    )
    builder = ir.IRBuilder(function.append_basic_block())
    value = builder.alloca(double)
    x = builder.ptrtoint(function.args[convention.x], word)
    out = builder.ptrtoint(value if convention.out is None else function.args[convention.out], word)
    at = address(code)

    def table(values: Mapping[int, Any], count: int) -> Any:
        """Write words on the stack, and return their address."""
        place = builder.alloca(word, count)
        for index, value in values.items():
            builder.store(value, builder.gep(place, [word(index)]))
        return builder.ptrtoint(place, word)

    held: dict[int, Any] = {
        Held.PARAMETERS: word(address(network.parameters)),
        Held.PARAMETERS_COUNT: word(network.parameters.size),
    }
    slots: dict[int, Any] = {}
    for index, given in enumerate((x, out)):
        first = int(code[CodeWord.SLOTS_AT]) + index * Slot.WORDS
        described = {
            Given.ADDRESS: given,
            Given.KIND: word(kind_of(int(code[first + Slot.DTYPE]), int(code[first + Slot.NDIM]), strided=False)),
            Given.SHAPE: word(at + 8 * (first + int(Slot.SHAPE))),
        }
        slots |= {index * Given.WORDS + name: value for name, value in described.items()}
    arguments = [word(at), table(held, 2), table(slots, 2 * Given.WORDS), word(0), word(0), word(0)]
    status, outcome = emit_call(builder, word(int(code[CodeWord.CALL])), arguments)
    raised = builder.icmp_signed("!=", status, integer(0))
    found = builder.select(raised, word(Outcome.RAISED), outcome)
    fine = builder.icmp_signed("==", found, word(Outcome.DONE))
    if convention.returns == "value":
        builder.ret(builder.select(fine, builder.load(value), double(float("nan"))))
    elif convention.returns == "success":
        builder.ret(builder.zext(fine, integer))
    else:
        builder.ret(builder.trunc(found, integer))
    machine: Any = library.machine()
    return bytes(machine.emit_object(llvm.parse_assembly(str(module))))
