"""What Numba cannot say: the call of a frozen network from the arrays that it is given, and the process's token.

Arrays are taken apart where they are used, in LLVM's language: to pass them from function to function costs 5 ns each
for their reference counts.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.backend.cpu.codegen.intrinsics import emit_note
from fastnn.backend.cpu.codegen.vectors import declared, emit_call
from fastnn.backend.cpu.frozen import process_token
from fastnn.backend.cpu.layouts.frozen import LAYOUT_VERSION, Outcome, Word
from fastnn.nopython.described import Failure
from fastnn.nopython.messages import CONSTANT, ERRORS

_I64 = ir.IntType(64)
_RETURNED = [outcome for outcome in ERRORS if outcome < Outcome.EACH]


def _raise(context: Any, builder: Any, outcome: Outcome) -> None:
    """Return from the function with an exception: a constant, or one that is made of what has been noted."""
    if outcome in CONSTANT:
        kind, message = ERRORS[outcome]
        context.call_conv.return_user_exc(builder, kind, (f"fastnn.nopython: {message}",))
    else:
        context.call_conv.return_user_exc(builder, Failure, (int(outcome),))


def _constant(value: int) -> Any:
    return ir.Constant(_I64, int(value))


def _field(builder: Any, net: Any, kind: Any, name: str) -> tuple[Any, Any]:
    """Return the value and type of a field of a named tuple."""
    index = kind.instance_class._fields.index(name)
    return builder.extract_value(net, index), kind.types[index]


def _array(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.make_array(kind)(context, builder, value)


def _address(builder: Any, array: Any) -> Any:
    return builder.ptrtoint(array.data, _I64)


def _word(builder: Any, code: Any, word: int) -> Any:
    return builder.load(builder.gep(code.data, [_constant(word)]))


_NO_SHAPE = [_constant(0), _constant(-1)]


def _shape(builder: Any, kind: Any, array: Any) -> tuple[Any, Any]:
    """Return the address of an array's shape, and how many numbers it has."""
    place = cgutils.alloca_once_value(builder, array.shape)
    return builder.ptrtoint(place, _I64), _constant(kind.ndim)


def _is_ours(builder: Any, code: Any) -> Any:
    """Return whether a code is of this version and this process."""
    token_of = declared(builder, process_token.SYMBOL, _I64, [])
    ours = cgutils.alloca_once_value(builder, cgutils.false_bit)
    with builder.if_then(builder.icmp_signed(">=", code.nitems, _constant(Word.HEAD)), likely=True):
        same_layout = builder.icmp_signed("==", _word(builder, code, Word.VERSION), _constant(LAYOUT_VERSION))
        same_process = builder.icmp_signed("==", _word(builder, code, Word.TOKEN), builder.call(token_of, []))
        builder.store(builder.and_(same_layout, same_process), ours)
    return builder.load(ours)


def _emit_outcome(context: Any, builder: Any, status: Any, outcome: Any) -> None:
    """Emit the raising of what went wrong in a call, if anything did."""
    fine = builder.icmp_signed("==", status, ir.Constant(status.type, 0))
    fine = builder.and_(fine, builder.icmp_signed("==", outcome, _constant(Outcome.DONE)))
    with builder.if_then(builder.not_(fine), likely=False):
        for one in _RETURNED:
            with builder.if_then(builder.icmp_signed("==", outcome, _constant(one))):
                _raise(context, builder, one)
        _raise(context, builder, Outcome.RAISED)


def _workspace(context: Any, builder: Any, kind: Any, value: Any) -> list[Any]:
    """Return the address and bytes of a workspace, zeros without one."""
    if not isinstance(kind, types.Array):
        return [_constant(0), _constant(0)]
    given = _array(context, builder, kind, value)
    return [_address(builder, given), builder.mul(given.nitems, _constant(8))]


def _emit_run(context: Any, builder: Any, signature: Any, args: Any, field: str) -> Any:
    """Emit the call of the code in a field of a network: (net, *arrays, work) -> nothing, or an error."""
    (net_kind, *kinds, work_kind), (net, *values, work_value) = signature.args, args
    code_value, code_kind = _field(builder, net, net_kind, field)
    parameters_value, parameters_kind = _field(builder, net, net_kind, "parameters")
    code = _array(context, builder, code_kind, code_value)
    parameters = _array(context, builder, parameters_kind, parameters_value)
    work = _workspace(context, builder, work_kind, work_value)
    if field == "gradient":
        with builder.if_then(builder.icmp_signed("==", code.nitems, _constant(0)), likely=False):
            _raise(context, builder, Outcome.ABSENT)
    with builder.if_then(builder.not_(_is_ours(builder, code)), likely=False):
        _raise(context, builder, Outcome.FOREIGN)
    count = _count(builder, code, parameters_kind, parameters)
    arguments = [_address(builder, code), _address(builder, parameters), count, *work]
    for kind, value in zip(kinds, values, strict=True):
        array = _array(context, builder, kind, value)
        arguments += [_address(builder, array), *_shape(builder, kind, array)]
    _emit_outcome(context, builder, *emit_call(builder, _word(builder, code, Word.RUN), arguments))
    return context.get_dummy_value()


def _count(builder: Any, code: Any, kind: Any, parameters: Any) -> Any:
    """Return the number of parameters; those of another dtype count as none."""
    itemsize = _constant(kind.dtype.bitwidth // 8)
    right = builder.icmp_signed("==", _word(builder, code, Word.ITEM_BYTES), itemsize)
    return builder.select(right, parameters.nitems, _constant(-1))


def _given(context: Any, builder: Any, kind: Any, value: Any, dtype: Any) -> list[Any]:
    """Return address, shape and number of dimensions of an array, or of a number that is put on the stack."""
    if isinstance(kind, types.Array):
        array = _array(context, builder, kind, value)
        return [_address(builder, array), *_shape(builder, kind, array)]
    if isinstance(kind, types.NoneType | types.Omitted):
        return [_constant(0)] * 3
    place = cgutils.alloca_once_value(builder, context.cast(builder, value, kind, dtype))
    return [builder.ptrtoint(place, _I64), _constant(0), _constant(0)]


@intrinsic  # type: ignore[untyped-decorator]
def learn(typingctx: Any, learner: Any, code: Any, parts: Any, x: Any, y: Any, weights: Any, work: Any) -> Any:
    """Take a training step, or parts of one, or raise what is wrong; returns the loss.

    `code` is one of the learner's. `y` and `weights` are arrays or numbers; they, `x` and `work` may be None.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (kind, code_kind, _, *kinds, work_kind), (value, code_value, parts, *values, work_value) = signature.args, args
        code = _array(context, builder, code_kind, code_value)
        state, progress = (
            _array(context, builder, field_kind, field)
            for field, field_kind in (_field(builder, value, kind, name) for name in ("state", "progress"))
        )
        with builder.if_then(builder.icmp_signed("==", code.nitems, _constant(0)), likely=False):
            _raise(context, builder, Outcome.UNSEEDED)
        parameters_value, parameters_kind = _field(builder, value, kind, "parameters")
        parameters = _array(context, builder, parameters_kind, parameters_value)
        with builder.if_then(builder.not_(_is_ours(builder, code)), likely=False):
            _raise(context, builder, Outcome.FOREIGN)
        loss = cgutils.alloca_once(builder, ir.DoubleType())
        builder.store(ir.Constant(ir.DoubleType(), 0.0), loss)
        count = _count(builder, code, parameters_kind, parameters)
        arguments = [_address(builder, code), _address(builder, parameters), count]
        arguments += [_address(builder, state), state.nitems, _address(builder, progress), progress.nitems]
        arguments += [*_workspace(context, builder, work_kind, work_value), parts, builder.ptrtoint(loss, _I64)]
        real = parameters_kind.dtype
        labels, described = _constant(_is_integer(kinds[1])), []
        for each, given in zip(kinds, values, strict=True):
            described.append(_given(context, builder, each, given, real))
        if _is_integer(kinds[1]) and not isinstance(kinds[1], types.Array):
            # a whole number is a label, or a target like others
            labels = _word(builder, code, Word.LABELS)
            number = _given(context, builder, kinds[1], values[1], types.int64)
            is_label = builder.icmp_signed("!=", labels, _constant(0))
            described[1][0] = builder.select(is_label, number[0], described[1][0])
        arguments += [labels, *(word for words in described for word in words)]
        _emit_outcome(context, builder, *emit_call(builder, _word(builder, code, Word.RUN), arguments))
        return builder.load(loss)

    return types.float64(learner, code, types.int64, x, y, weights, work), codegen


def _is_integer(kind: Any) -> bool:
    return isinstance(kind.dtype if isinstance(kind, types.Array) else kind, types.Integer | types.IntegerLiteral)


@intrinsic  # type: ignore[untyped-decorator]
def run(typingctx: Any, net: Any, x: Any, out: Any, work: Any) -> Any:
    """Compute a network's outputs, or raise what is wrong. `work` is an array or None."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _emit_run(context, builder, signature, args, "code")

    return types.void(net, x, out, work), codegen


@intrinsic  # type: ignore[untyped-decorator]
def run_gradient(typingctx: Any, net: Any, x: Any, seed: Any, dx: Any, work: Any) -> Any:
    """Compute the gradient for a network's inputs, or raise what is wrong. `work` is an array or None."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _emit_run(context, builder, signature, args, "gradient")

    return types.void(net, x, seed, dx, work), codegen


def failing(outcome: Outcome) -> Any:
    """Make what raises where a compiled caller finds itself what is wrong: (code, three numbers, two arrays or None).

    What follows the call is not reached.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def fail(typingctx: Any, code: Any, first: Any, second: Any, third: Any, x: Any, y: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            (code_kind, *_, x_kind, y_kind), (code, *numbers, x, y) = signature.args, args
            code = _array(context, builder, code_kind, code)
            shapes: list[Any] = []
            for kind, value in ((x_kind, x), (y_kind, y)):
                given = isinstance(kind, types.Array)
                shapes += _shape(builder, kind, _array(context, builder, kind, value)) if given else _NO_SHAPE
            with builder.if_then(_is_ours(builder, code)):
                words = [_constant(outcome), *(builder.bitcast(number, _I64) for number in numbers), _constant(0)]
                emit_note(builder, _address(builder, code), [*words, *shapes, *_NO_SHAPE])
                _raise(context, builder, outcome)
            with builder.if_then(cgutils.true_bit):  # the builder goes on in a block of its own
                _raise(context, builder, Outcome.FOREIGN)
            return context.get_dummy_value()

        real = isinstance(first, types.Float)
        return types.void(code, types.float64 if real else types.int64, types.int64, types.int64, x, y), codegen

    return fail


@intrinsic  # type: ignore[untyped-decorator]
def share_memory(typingctx: Any, first: Any, second: Any) -> Any:
    """Return whether two contiguous arrays overlap."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        spans = []
        for kind, value in zip(signature.args, args, strict=True):
            array = _array(context, builder, kind, value)
            start = _address(builder, array)
            spans.append((start, builder.add(start, builder.mul(array.nitems, array.itemsize))))
        (start, end), (other_start, other_end) = spans
        before = builder.icmp_unsigned("<", start, other_end)
        return builder.and_(before, builder.icmp_unsigned("<", other_start, end))

    return types.boolean(first, second), codegen


@intrinsic  # type: ignore[untyped-decorator]
def is_ours(typingctx: Any, code: Any) -> Any:
    """Return whether a code is of this version and this process."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _is_ours(builder, _array(context, builder, signature.args[0], args[0]))

    return types.boolean(code), codegen
