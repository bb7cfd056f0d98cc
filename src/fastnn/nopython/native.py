"""Intrinsics for what Numba cannot express: calls of codes with a compiled function's arrays, and the process's token.

A call writes its arrays into a table on the stack (`layouts/call.py`). Arrays are taken apart where they are used, in
LLVM's language: to pass them from function to function costs 5 ns each for their reference counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.backend.cpu.codegen.intrinsics import emit_note
from fastnn.backend.cpu.codegen.vectors import declared, emit_call
from fastnn.backend.cpu.frozen import process_token
from fastnn.backend.cpu.layouts.call import Given, Held, Outcome, Part, kind_of
from fastnn.backend.cpu.layouts.code import DTYPES, LAYOUT_VERSION, CodeWord
from fastnn.nopython.described import Failure
from fastnn.nopython.messages import CONSTANT, ERRORS

_I64 = ir.IntType(64)
_RETURNED = [outcome for outcome in ERRORS if outcome < Outcome.ARRAYS or outcome == Outcome.FULL]

# a type of Numba, and a value
Typed = tuple[Any, Any]


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


def _array_field(context: Any, builder: Any, net: Any, kind: Any, name: str) -> Any:
    value, field_kind = _field(builder, net, kind, name)
    return _array(context, builder, field_kind, value)


def _address(builder: Any, array: Any) -> Any:
    return builder.ptrtoint(array.data, _I64)


def _word(builder: Any, code: Any, word: int) -> Any:
    return builder.load(builder.gep(code.data, [_constant(word)]))


def _is_ours(builder: Any, code: Any) -> Any:
    """Return whether a code is of this version and this process."""
    token_of = declared(builder, process_token.SYMBOL, _I64, [])
    ours = cgutils.alloca_once_value(builder, cgutils.false_bit)
    with builder.if_then(builder.icmp_signed(">=", code.nitems, _constant(CodeWord.HEAD)), likely=True):
        same_layout = builder.icmp_signed("==", _word(builder, code, CodeWord.VERSION), _constant(LAYOUT_VERSION))
        same_process = builder.icmp_signed("==", _word(builder, code, CodeWord.TOKEN), builder.call(token_of, []))
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


def parts_of(builder: Any, kind: Any, value: Any) -> list[Typed]:
    """Return the elements of a tuple, or the value alone."""
    if isinstance(kind, types.BaseTuple):
        return [(each, builder.extract_value(value, index)) for index, each in enumerate(kind.types)]
    return [(kind, value)]


def _table(builder: Any, count: int) -> Any:
    """Make room for words on the stack of the running function."""
    return cgutils.alloca_once(builder, _I64, size=max(1, count))


def _write(builder: Any, table: Any, first: int, words: dict[int, Any]) -> None:
    for index, word in words.items():
        builder.store(word, builder.gep(table, [_constant(first + index)]))


def _absent() -> dict[int, Any]:
    return {int(word): _constant(0) for word in list(Given)[: Given.WORDS]}


def _given(context: Any, builder: Any, kind: Any, value: Any) -> dict[int, Any]:
    """Return the words of an array, of a number that is put on the stack, or of None."""
    if isinstance(kind, types.NoneType | types.Omitted):
        return _absent()
    if not isinstance(kind, types.Array):
        own = types.int64 if isinstance(kind, types.Integer | types.IntegerLiteral) else types.float64
        own = kind if kind == types.uint64 else own
        place = cgutils.alloca_once_value(builder, context.cast(builder, value, kind, own))
        return _absent() | {
            int(Given.ADDRESS): builder.ptrtoint(place, _I64),
            int(Given.KIND): _constant(kind_of(DTYPES.index(str(own)), 0, False)),
        }
    array = _array(context, builder, kind, value)
    strided = kind.layout != "C"
    # the sizes, and the strides after them
    sizes = cgutils.pack_array(builder, [
        *cgutils.unpack_tuple(builder, array.shape), *(cgutils.unpack_tuple(builder, array.strides) if strided else ()),
    ]) if kind.ndim else None  # fmt: skip
    shape = _constant(0) if sizes is None else builder.ptrtoint(cgutils.alloca_once_value(builder, sizes), _I64)
    return {
        int(Given.ADDRESS): _address(builder, array),
        int(Given.KIND): _constant(kind_of(DTYPES.index(str(kind.dtype)), kind.ndim, strided and kind.ndim > 0)),
        int(Given.SHAPE): shape,
    }


def _given_table(context: Any, builder: Any, arrays: Sequence[Typed]) -> Any:
    """Write the arrays of a call on the stack, and return the table's address."""
    return _table_of(builder, [_given(context, builder, kind, value) for kind, value in arrays])


def _table_of(builder: Any, given: Sequence[dict[int, Any]]) -> Any:
    """Write the words of arrays on the stack, and return the table's address."""
    table = _table(builder, len(given) * Given.WORDS)
    for index, words in enumerate(given):
        _write(builder, table, index * Given.WORDS, words)
    return builder.ptrtoint(table, _I64)


def _check_code(context: Any, builder: Any, code: Any, absent: Outcome | None, inputs: int, arrays: int) -> None:
    """Emit errors where a code is missing, of another process, or takes another number of arrays."""
    if absent is not None:
        with builder.if_then(builder.icmp_signed("==", code.nitems, _constant(0)), likely=False):
            _raise(context, builder, absent)
    with builder.if_then(builder.not_(_is_ours(builder, code)), likely=False):
        _raise(context, builder, Outcome.FOREIGN)
    if arrays:
        same = builder.icmp_signed("==", _word(builder, code, CodeWord.ARRAYS), _constant(inputs << 32 | arrays))
        with builder.if_then(builder.not_(same), likely=False):
            _raise(context, builder, Outcome.ARRAYS)


def _parameters(context: Any, builder: Any, code: Any, net: Any, kind: Any) -> dict[int, Any]:
    """Return the words of a network's buffer; the parameters of another dtype count as none."""
    value, parameters_kind = _field(builder, net, kind, "parameters")
    parameters = _array(context, builder, parameters_kind, value)
    itemsize = _constant(parameters_kind.dtype.bitwidth // 8)
    right = builder.icmp_signed("==", _word(builder, code, CodeWord.ITEM_BYTES), itemsize)
    count = builder.select(right, parameters.nitems, _constant(-1))
    return {int(Held.PARAMETERS): _address(builder, parameters), int(Held.PARAMETERS_COUNT): count}


def _emit_run(context: Any, builder: Any, signature: Any, args: Any, field: str, absent: Outcome | None) -> Any:
    """Emit the call of the code in a field of a network: (net, *arrays, work) -> nothing, or an error."""
    (net_kind, *kinds, work_kind), (net, *values, work_value) = signature.args, args
    groups = [parts_of(builder, kind, value) for kind, value in zip(kinds, values, strict=True)]
    given = [_given(context, builder, *each) for group in groups for each in group]
    _emit_call(context, builder, (net_kind, net), field, absent, given, len(groups[0]), (work_kind, work_value))
    return context.get_dummy_value()


def _emit_call(
    context: Any, builder: Any, network: Typed, field: str, absent: Outcome | None, given: Sequence[dict[int, Any]],
    inputs: int, work: Typed,
) -> None:  # fmt: skip
    """Emit the call of the code in a field of a network on arrays by their words, the inputs first; or an error."""
    net_kind, net = network
    code = _array_field(context, builder, net, net_kind, field)
    _check_code(context, builder, code, absent, inputs, len(given))
    held = _table(builder, 2)
    _write(builder, held, 0, _parameters(context, builder, code, net, net_kind))
    arguments = [
        _address(builder, code), builder.ptrtoint(held, _I64), _table_of(builder, given), _constant(0),
        *_workspace(context, builder, *work),
    ]  # fmt: skip
    _emit_outcome(context, builder, *emit_call(builder, _word(builder, code, CodeWord.CALL), arguments))


@intrinsic  # type: ignore[untyped-decorator]
def run(typingctx: Any, net: Any, x: Any, out: Any, work: Any) -> Any:
    """Compute a network's outputs, or raise what is wrong. `work` is an array or None; the others may be tuples."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _emit_run(context, builder, signature, args, "code", None)

    return types.void(net, x, out, work), codegen


@intrinsic  # type: ignore[untyped-decorator]
def run_gradient(typingctx: Any, net: Any, x: Any, seed: Any, dx: Any, work: Any) -> Any:
    """Compute the gradient for a network's inputs, or raise what is wrong; arguments as of `run`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _emit_run(context, builder, signature, args, "gradient", Outcome.ABSENT)

    return types.void(net, x, seed, dx, work), codegen


def _halves(builder: Any, kind: Any, array: Any) -> tuple[list[Any], list[dict[int, Any]]]:
    """Return the addresses and words of the two elements of a contiguous array's first axis."""
    sizes = cgutils.pack_array(builder, cgutils.unpack_tuple(builder, array.shape)[1:])
    shape = builder.ptrtoint(cgutils.alloca_once_value(builder, sizes), _I64)
    start, (apart, *_) = _address(builder, array), cgutils.unpack_tuple(builder, array.strides)
    places = [start, builder.add(start, apart)]
    of_kind = _constant(kind_of(DTYPES.index(str(kind.dtype)), kind.ndim - 1, False))
    return places, [{int(Given.ADDRESS): at, int(Given.KIND): of_kind, int(Given.SHAPE): shape} for at in places]


@intrinsic  # type: ignore[untyped-decorator]
def run_step(typingctx: Any, net: Any, state: Any, x: Any, out: Any, work: Any) -> Any:
    """Compute a step of a network of sequences, and carry over what its next one needs.

    `state` is contiguous, with two elements. As slices of Numba's, these two would cost 100 ns for reference counts.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (net_kind, state_kind, x_kind, out_kind, work_kind), (net, state, x, out, work) = signature.args, args
        array = _array(context, builder, state_kind, state)
        places, halves = _halves(builder, state_kind, array)
        given = [_given(context, builder, x_kind, x), *halves, _given(context, builder, out_kind, out)]
        _emit_call(context, builder, (net_kind, net), "code", None, given, 1, (work_kind, work))
        carried = _word(builder, _array_field(context, builder, net, net_kind, "code"), CodeWord.CARRIED)
        sizes = cgutils.unpack_tuple(builder, array.shape)
        row = builder.mul(sizes[-1], _constant(state_kind.dtype.bitwidth // 8))
        with cgutils.for_range(builder, sizes[1] if state_kind.ndim > 2 else _constant(1)) as loop:
            skip = builder.mul(loop.index, row)
            here, there = (builder.inttoptr(builder.add(place, skip), array.data.type) for place in places)
            cgutils.raw_memcpy(builder, here, there, carried, array.itemsize)
        return context.get_dummy_value()

    return types.void(net, state, x, out, work), codegen


def _emit_learn(context: Any, builder: Any, signature: Any, args: Any, field: str, parts: int) -> Any:
    """Emit the call of one of a learner's codes; returns the loss."""
    (kind, *kinds, work_kind), (learner, *values, work_value) = signature.args, args
    code = _array_field(context, builder, learner, kind, field)
    arrays: list[Typed] = []
    inputs = 0
    if parts & Part.GRADIENTS:
        x, y, weights = (parts_of(builder, each, value) for each, value in zip(kinds, values, strict=True))
        y = [] if isinstance(kinds[1], types.NoneType | types.Omitted) else y
        arrays, inputs = x + y, len(x)
        if field == "training":
            arrays += weights * len(y) if len(weights) == 1 else weights
    _check_code(context, builder, code, Outcome.UNSEEDED if field == "seeded" else None, inputs, len(arrays))
    state, progress, totals = (
        _array_field(context, builder, learner, kind, name) for name in ("state", "progress", "totals")
    )
    loss = cgutils.alloca_once(builder, ir.DoubleType())
    builder.store(ir.Constant(ir.DoubleType(), 0.0), loss)
    words = _parameters(context, builder, code, learner, kind)
    gradients = _address(builder, state)
    nbytes = builder.mul(_word(builder, code, CodeWord.GRADIENTS), _word(builder, code, CodeWord.ITEM_BYTES))
    reports = builder.icmp_signed("!=", totals.nitems, _constant(0))
    if field == "seeded":
        reports = cgutils.false_bit
    words |= {
        int(Held.GRADIENTS): gradients,
        int(Held.OPTIMIZER): builder.add(gradients, nbytes),
        int(Held.STATE_COUNT): state.nitems,
        int(Held.PROGRESS): _address(builder, progress),
        int(Held.PROGRESS_COUNT): progress.nitems,
        int(Held.TOTALS): builder.select(reports, _address(builder, totals), _constant(0)),
        int(Held.TOTALS_COUNT): totals.nitems,
        int(Held.LOSS): builder.ptrtoint(loss, _I64),
    }
    held = _table(builder, Held.WORDS)
    _write(builder, held, 0, words)
    arguments = [
        _address(builder, code), builder.ptrtoint(held, _I64), _given_table(context, builder, arrays),
        _constant(parts), *_workspace(context, builder, work_kind, work_value),
    ]  # fmt: skip
    _emit_outcome(context, builder, *emit_call(builder, _word(builder, code, CodeWord.CALL), arguments))
    return builder.load(loss)


def _learning(field: str, parts: int) -> Any:
    """Make what takes a training step, or parts of one, or raises what is wrong; it returns the loss.

    x and y are arrays, numbers or tuples of such; they, the weights and `work` may be None.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def learn(typingctx: Any, learner: Any, x: Any, y: Any, weights: Any, work: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _emit_learn(context, builder, signature, args, field, parts)

        return types.float64(learner, x, y, weights, work), codegen

    return learn


take_step = _learning("training", Part.GRADIENTS | Part.UPDATE)
compute_gradients = _learning("training", Part.GRADIENTS)
compute_seeded = _learning("seeded", Part.GRADIENTS)
update = _learning("training", Part.UPDATE)


def failing(outcome: Outcome) -> Any:
    """Make what raises where a compiled caller finds itself what is wrong: (code, three numbers, two arrays or None).

    What follows the call is not reached.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def fail(typingctx: Any, code: Any, first: Any, second: Any, third: Any, x: Any, y: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            (code_kind, *_, x_kind, y_kind), (code, *numbers, x, y) = signature.args, args
            code = _array(context, builder, code_kind, code)
            slots = _given_table(context, builder, [(x_kind, x), (y_kind, y)])
            with builder.if_then(_is_ours(builder, code)):
                words = [_constant(outcome), *(builder.bitcast(number, _I64) for number in numbers), _constant(0)]
                emit_note(builder, _address(builder, code), [*words, slots, _constant(1)])
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
