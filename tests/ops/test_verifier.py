"""The verifier: every rule that kernels rely on, broken one at a time."""

import pickle
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import fastnn as fnn
from fastnn.lower.memory import APART, Life, plan
from fastnn.program.layout import (
    ABSENT,
    DIMS_AT,
    OP_WORD,
    OPERANDS_AT,
    RECORD_WORDS,
    Buffer,
    align,
    decode,
    encode,
)
from fastnn.program.opcodes import OPS
from fastnn.program.program import Program, RecordDraft, Value, make_program
from fastnn.program.verify import ProgramError, verify


def chain() -> Program:
    """Make a program of three records: gather, softmax, add."""
    x, y, z = (encode(Buffer.ARENA, offset) for offset in (0, 256, 512))
    dims = {"rows": 8, "size": 5, "row_stride": 20}
    dims |= {f"{word}{axis}": 0 for word in ("size", "stride") for axis in range(3)}
    drafts = [
        RecordDraft("gather", {"batch": x, "source": encode(Buffer.DATA, 0)}, dims, variant="float32"),
        RecordDraft("softmax", {"y": y, "x": x}, {"rows": 8, "cols": 5}),
        RecordDraft("sum_rows", {"y": z, "x": y}, {"rows": 8, "cols": 5}),
        RecordDraft("penalty", {"total": encode(Buffer.ACCUMULATORS, 8), "w": encode(Buffer.PARAMETERS, 64)},
                    {"n": 7, "batch": 8}, {"l1": 0.1, "l2": 0.0}),
    ]  # fmt: skip
    values = [Value("x", 0, 160, 0, 1), Value("y", 256, 160, 1, 2), Value("z", 512, 20, 2, 2)]
    sizes = {Buffer.ARENA: 576, Buffer.ACCUMULATORS: 16, Buffer.PARAMETERS: 128}
    return make_program("chain", 8, "float32", drafts, values, sizes)


def word(op: str, name: str) -> int:
    return OPS[op].word(name)


def set_word(record: int, at: int, value: int) -> Callable[[Program], Program]:
    def tamper(program: Program) -> Program:
        records = program.records.copy()
        records[record, at] = value
        return replace(program, records=records)

    return tamper


def set_value(index: int, **changes: object) -> Callable[[Program], Program]:
    def tamper(program: Program) -> Program:
        values = list(program.values)
        values[index] = replace(values[index], **changes)
        return replace(program, values=tuple(values))

    return tamper


def set_size(buffer: Buffer, nbytes: int | None) -> Callable[[Program], Program]:
    def tamper(program: Program) -> Program:
        sizes = {**program.sizes, buffer: nbytes}
        return replace(program, sizes={key: size for key, size in sizes.items() if size is not None})

    return tamper


def set_param(record: int, at: int, number: float) -> Callable[[Program], Program]:
    return set_word(record, at, int(np.float64(number).view(np.int64)))


def both(first: Callable[[Program], Program], second: Callable[[Program], Program]) -> Callable[[Program], Program]:
    return lambda program: second(first(program))


ARENA, PARAMETERS, ACCUMULATORS = Buffer.ARENA, Buffer.PARAMETERS, Buffer.ACCUMULATORS
TAMPERED = {
    "arena too small": (set_size(ARENA, 512), "past the arena"),
    "offset past the buffer": (set_word(3, word("penalty", "w"), encode(PARAMETERS, 128)), "128 to 156 of buffer 0"),
    "operand ends past the buffer": (set_word(3, word("penalty", "n"), 17), "64 to 132 of buffer 0, which has 128"),
    "buffer without a size": (set_size(PARAMETERS, None), "of buffer 0, which has None"),
    "accumulator past its buffer": (set_size(ACCUMULATORS, 8), "8 to 16 of buffer 4, which has 8"),
    "operand not aligned": (set_word(3, word("penalty", "w"), encode(PARAMETERS, 32)), "not aligned to 64"),
    "accumulator not aligned": (set_word(3, word("penalty", "total"), encode(ACCUMULATORS, 4)), "aligned to 8"),
    "value not aligned": (set_value(0, offset=32), "not aligned"),
    "value without a life": (set_value(1, first=2, last=1), "no life"),
    "living values overlap": (set_value(1, offset=128), "overlap"),
    "value dead when read": (set_value(0, last=0), "no value that lives then"),
    "value smaller than its operand": (set_value(1, nbytes=156), "no value that lives then"),
    "no value there": (set_word(1, word("softmax", "y"), encode(ARENA, 320)), "no value that lives then"),
    "operand missing": (set_word(1, word("softmax", "x"), ABSENT), "lacks the operand 'x'"),
    "operand too many": (set_word(1, OPERANDS_AT + 2, encode(ARENA, 0)), "more operands"),
    "read before it is written": (
        both(set_value(1, first=0), set_word(0, word("gather", "batch"), encode(ARENA, 256))),
        "reads 'x' before anything wrote it",
    ),
    "unknown op": (set_word(2, OP_WORD, len(OPS)), "unknown op"),
    "negative op": (set_word(2, OP_WORD, -1), "unknown op"),
    "unknown buffer": (set_word(1, word("softmax", "x"), encode(96, 0)), "buffer 96"),
    "operand in a data slot": (set_word(1, word("softmax", "x"), encode(Buffer.DATA, 0)), "data slot"),
    "offset into a data slot": (set_word(0, word("gather", "source"), encode(Buffer.DATA, 64)), "data slot"),
    "output over parameters": (set_word(2, word("sum_rows", "y"), encode(PARAMETERS, 0)), "overwrite parameters"),
    "dimension of zero": (set_word(1, DIMS_AT, 0), "rows=0"),
    "negative dimension": (set_word(1, DIMS_AT + 1, -5), "cols=-5"),
    "parameter not finite": (set_param(3, word("penalty", "l1"), np.nan), "l1=nan"),
}


def test_chain_is_sound():
    program = chain()
    verify(program)
    assert decode(int(program.records[3, word("penalty", "total")])) == (ACCUMULATORS, 8)


@pytest.mark.parametrize("rule", TAMPERED)
def test_tampered_programs(rule):
    tamper, message = TAMPERED[rule]
    with pytest.raises(ProgramError, match=message):
        verify(tamper(chain()))


def test_records_of_another_shape():
    program = chain()
    with pytest.raises(ProgramError, match="shape"):
        verify(replace(program, records=program.records[:, : RECORD_WORDS - 1]))
    with pytest.raises(ProgramError, match="dtype"):
        verify(replace(program, records=program.records.astype(np.int32)))


def test_accumulating_before_anything_is_there():
    program = chain()
    records = program.records.copy()
    records[2, 2] = 1  # ACCUMULATE in the flags
    with pytest.raises(ProgramError, match="'z' before anything wrote it"):
        verify(replace(program, records=records))


def test_plans_of_any_lives_are_those_of_a_search_through_all_values():
    rng = np.random.default_rng(0)
    for _ in range(200):
        records = int(rng.integers(1, 60))
        lives = {}
        for tensor in range(int(rng.integers(0, 40))):
            first = int(rng.integers(records))
            last = min(records - 1, first + int(rng.integers(rng.choice([1, 3, 60]))))
            lives[tensor] = Life(str(tensor), int(rng.choice([0, 4, 512, 513, 1000, rng.integers(9000)])), first, last)
        offsets, _, total = plan(lives)
        wanted = {}
        for tensor, life in sorted(lives.items(), key=lambda item: (-item[1].nbytes, item[1].first, item[0])):
            size = max(align(life.nbytes), APART)
            met = [each for each in wanted if lives[each].first <= life.last and life.first <= lives[each].last]
            taken = [(wanted[each], wanted[each] + max(align(lives[each].nbytes), APART)) for each in met]
            ends = [0, *(end for _, end in taken)]
            wanted[tensor] = min(at for at in ends if all(at + size <= start or end <= at for start, end in taken))
        assert offsets == wanted
        assert total == max((wanted[each] + max(align(lives[each].nbytes), APART) for each in wanted), default=0)


def calls_of(work):
    """Count the functions that are entered and left."""
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += 1

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def deep(depth):
    # a layer that only moves values after each one that computes, and as many before the loss
    layers = [layer for _ in range(depth) for layer in (fnn.Dense(4, "relu"), fnn.Reshape((2, 2)), fnn.Flatten())]
    return fnn.Sequential([fnn.Input(4), *layers, *(fnn.Reshape((4,)) for _ in range(depth))], seed=0)


def test_thousands_of_layers_take_time_in_proportion(tmp_path):
    def calls(depth):
        model, rows = deep(depth), np.zeros((3, 4))
        model.compile("adam", "mse")
        model.save(tmp_path / "deep.fnn")
        learner = model.learner()
        return {
            "make": calls_of(lambda: deep(depth)),
            "compile": calls_of(lambda: model.compile("adam", "mse")),
            "summary": calls_of(model.summary),
            "freeze": calls_of(lambda: model.freeze(gradients=True)),
            "learner": calls_of(lambda: model.learner(gradients=True)),
            "update_from": calls_of(lambda: model.update_from(learner)),
            "pickle": calls_of(lambda: pickle.loads(pickle.dumps(learner))),
            "predict": calls_of(lambda: model.predict(rows)),
            "train_on_batch": calls_of(lambda: model.train_on_batch(rows, rows)),
            "fit": calls_of(lambda: model.fit(rows, rows, epochs=1, batch_size=2, verbose=0)),
            "evaluate": calls_of(lambda: model.evaluate(rows, rows, verbose=0)),
            "save": calls_of(lambda: model.save(tmp_path / "deep.fnn")),
            "load": calls_of(lambda: fnn.load(tmp_path / "deep.fnn")),
        }

    calls(2)
    few, many = calls(30), calls(90)
    for name in few:
        assert many[name] < 3.2 * few[name], name


def test_layers_that_are_alike_are_checked_once():
    """Making a learner lowers for 1, 16 and 32 rows; to plan and check all of them takes longer."""
    model = fnn.Sequential([fnn.Input(4), *(fnn.Dense(4, "relu") for _ in range(50))], seed=0)
    model.compile("adam", "mse")
    model.learner()
    assert calls_of(model.learner) / 50 < 10_000  # 7,200, and 21,600 before
