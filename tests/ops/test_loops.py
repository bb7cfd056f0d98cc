"""Loops of records: what they compute, and every rule of the verifier for them, broken one at a time."""

from dataclasses import replace

import numpy as np
import pytest

from fastnn.backend.cpu.executor.engine import BoundProgram
from fastnn.backend.reference.executor import ReferenceBackend
from fastnn.program.layout import CONTEXT_WORDS, MOST_WINDOWS, WINDOWS, Buffer, encode
from fastnn.program.opcodes import OPS
from fastnn.program.program import Program, RecordDraft, Value, aligned_zeros, make_program
from fastnn.program.verify import ProgramError, verify

ROUNDS, SIZE = 4, 16
STACK = ROUNDS * SIZE * 4
X, STATE, TEMPORARY, Y = (encode(Buffer.ARENA, at) for at in (0, 1024, 2048, 3072))
GIVEN, TAKEN = encode(Buffer.PARAMETERS, 0), encode(Buffer.GRADIENTS, 0)
READ, MADE = encode(WINDOWS, 0), encode(WINDOWS + 1, 0)


def copy(y: int, x: int, elements: int) -> RecordDraft:
    dims = {"rows": 1, "cols": elements, "target_cols": elements, "source_cols": elements}
    return RecordDraft("copy_columns", {"y": y, "x": x}, {**dims, "target_first": 0, "source_first": 0})


def window(operands: dict[str, int], number: int, **changes: int) -> RecordDraft:
    dims = {"times": ROUNDS, "size": SIZE, "number": number, "first": 0, "step": SIZE, "item": 4}
    return RecordDraft("window", operands, {**dims, **changes})


def running_sums(backwards: bool = False) -> Program:
    """Make a program that adds the arrays of a stack to a state, and keeps all sums."""
    order = {"first": (ROUNDS - 1) * SIZE, "step": -SIZE} if backwards else {}
    drafts = [
        copy(X, GIVEN, ROUNDS * SIZE),
        copy(STATE, encode(Buffer.PARAMETERS, STACK), SIZE),
        RecordDraft("repeat", {}, {"times": ROUNDS, "body": 5}),
        window({"stack": X}, 0, **order),
        window({"made": Y}, 1, **order),
        RecordDraft("add", {"y": TEMPORARY, "a": READ, "b": STATE}, {"n": SIZE}),
        copy(MADE, TEMPORARY, SIZE),
        copy(STATE, TEMPORARY, SIZE),
        copy(TAKEN, Y, ROUNDS * SIZE),
    ]
    lives = [("x", X, STACK, 0, 7), ("state", STATE, SIZE * 4, 1, 7), ("temporary", TEMPORARY, SIZE * 4, 5, 7),
             ("y", Y, STACK, 2, 8)]  # fmt: skip
    values = [Value(name, word & 0xFFFF, nbytes, first, last) for name, word, nbytes, first, last in lives]
    sizes = {Buffer.ARENA: 4096, Buffer.PARAMETERS: STACK + SIZE * 4, Buffer.GRADIENTS: STACK}
    return make_program("sums", 1, "float32", drafts, values, sizes)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("backwards", [False, True])
def test_running_sums(backwards, parts):
    program = running_sums(backwards)
    verify(program)
    given = np.random.default_rng(0).normal(size=(ROUNDS + 1, SIZE)).astype(np.float32)
    order = slice(None, None, -1) if backwards else slice(None)
    expected = (np.cumsum(np.float64(given[:ROUNDS][order]), axis=0) + given[ROUNDS])[order]
    buffers = {buffer: aligned_zeros(nbytes) for buffer, nbytes in program.sizes.items()}
    buffers[Buffer.PARAMETERS].view(np.float32)[:] = given.reshape(-1)
    context = np.zeros(CONTEXT_WORDS, np.int64)
    for buffer, raw in buffers.items():
        context[buffer] = raw.ctypes.data
    bound = BoundProgram(program)
    for _ in range(2):  # a loop leaves nothing behind
        assert bound.run(context, 1, parts=parts) == 1
        found = buffers[Buffer.GRADIENTS].view(np.float32).reshape(ROUNDS, SIZE)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    reference = ReferenceBackend(program)
    reference.buffer(Buffer.PARAMETERS)[:] = given.reshape(-1)
    assert reference.run() == 1
    np.testing.assert_allclose(reference.buffer(Buffer.GRADIENTS).reshape(ROUNDS, SIZE), expected, rtol=1e-12)
    text = str(program)
    assert "repeat-float32" in text and "times=4 body=5" in text and "a=window0+0x0(16)" in text


def changed(record: int, name: str, word: int) -> Program:
    program = running_sums()
    records = program.records.copy()
    op = ("copy_columns", "copy_columns", "repeat", "window", "window", "add", "copy_columns", "copy_columns",
          "copy_columns")[record]  # fmt: skip
    records[record, OPS[op].word(name)] = word
    return replace(program, records=records)


def lived(index: int, **changes: int) -> Program:
    program = running_sums()
    values = list(program.values)
    values[index] = replace(values[index], **changes)
    return replace(program, values=tuple(values))


BROKEN = {
    "a window that leaves its stack": (lambda: changed(3, "step", SIZE + 1), "leaves its stack"),
    "a window that begins before its stack": (lambda: changed(3, "step", -SIZE), "leaves its stack"),
    "a window without a stack": (lambda: changed(3, "stack", -1), "a window over 0 stacks"),
    "two windows of one number": (lambda: changed(4, "number", 0), "is the window number 0, of which there is one"),
    "too many windows": (lambda: changed(4, "number", MOST_WINDOWS), f"is the window number {MOST_WINDOWS}"),
    "other rounds": (lambda: changed(2, "times", 3), "a stack of 4 arrays in a loop of 3 rounds"),
    "other elements": (lambda: changed(3, "item", 8), "has elements of 8 bytes"),
    "a stack that is read and written": (lambda: changed(4, "made", X), "over a stack that another window writes"),
    "rounds that overwrite each other": (lambda: changed(4, "step", 8), "written over the array of another round"),
    "a window that is only read": (lambda: changed(6, "y", READ), "overwrites the window number 0 by 'y'"),
    "read before it is made": (lambda: changed(5, "b", MADE), "reads the window number 1 by 'b' before"),
    "a window that is not there": (lambda: changed(5, "a", encode(WINDOWS + 2, 0)), "in the window number 2, which"),
    "a window of another loop": (lambda: changed(8, "x", MADE), "in the window number 1, which its loop does not have"),
    "past a window": (lambda: changed(5, "a", encode(WINDOWS, 64)), "takes bytes 64 to 128 by 'a' of a window of 64"),
    "a stack by itself": (lambda: changed(7, "x", Y), "touches a stack of the loop's windows by 'x'"),
    "a body past the end": (lambda: changed(2, "body", 7), "has a body past the last record"),
    "a window outside": (lambda: changed(2, "body", 0), "body=0"),
    "a window after the loop": (lambda: changed(2, "body", 1), "is a window, but not at the beginning"),
    "a state that dies": (lambda: lived(1, last=6), "'state', which does not live through all rounds"),
    "a sequence that dies in the loop": (lambda: lived(0, last=5), "'x', which does not live through all rounds"),
    "a stack that begins in the loop": (lambda: lived(3, first=4), "'y', which does not live through all rounds"),
}  # fmt: skip


@pytest.mark.parametrize("rule", BROKEN)
def test_broken_loops(rule):
    make, message = BROKEN[rule]
    with pytest.raises(ProgramError, match=message):
        verify(make())
