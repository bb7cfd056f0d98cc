"""Chains: elementwise records that run piece by piece give the bits of the same records one after the other."""

from dataclasses import replace
from math import prod

import numpy as np
import pytest

from computed import build
from fastnn.backend.cpu.executor.chains import arrange
from fastnn.backend.cpu.processor.pieces import CHAIN_OP, LOCAL, ChainWord
from fastnn.graph.graph import Graph
from fastnn.graph.ops.elementwise import activation, dropout, elementwise, gaussian_noise
from fastnn.graph.ops.pointwise import pointwise, random
from fastnn.graph.ops.reductions import reduce
from fastnn.lower import lower as lowering
from fastnn.lower.chains import CACHED_BYTES
from fastnn.program.chains import MOST_LOCAL, Chain, numbers
from fastnn.program.layout import FLAGS_WORD, OP_WORD, OPERANDS_AT, Buffer, Flag, decode, encode
from fastnn.program.opcodes import OPS
from fastnn.program.record import op_of
from fastnn.program.value import Value
from fastnn.program.verify import ProgramError, verify


@pytest.fixture
def unchained(monkeypatch):
    """Return a function that builds a program without chains."""

    def make(*arguments, **options):
        monkeypatch.setattr(lowering, "CHAINED", False)
        built = build(*arguments, **options)
        monkeypatch.setattr(lowering, "CHAINED", True)
        assert not built.program.chains
        return built

    return make


def six(graph, x, w):
    """Make sqrt(relu(x a + 0.3) - c)^2 + 1) by seven records of two inputs."""
    t = elementwise(graph, "multiply", [x, w], "scale")
    t = pointwise(graph, "add", [t, 0.3], "shift")
    t = activation(graph, t, "relu", (), "relu")
    t = pointwise(graph, "subtract", [t, w], "centre")
    t = pointwise(graph, "square", [t], "square")
    t = pointwise(graph, "add", [t, 1.0], "one")
    return [pointwise(graph, "sqrt", [t], "root")]


def test_a_chain_is_one_pass():
    program = build(six, [(True, (700,))] * 2, batch=30, dtype="float32").program
    assert program.chains == (Chain(0, 6),)
    arranged = arrange(program, program.records.copy())
    assert arranged.run == 1 and len(arranged.records) == 8
    head, *members = arranged.records
    assert head[OP_WORD] == CHAIN_OP and head[ChainWord.COUNT] == 7 and head[ChainWord.ELEMENTS] == 21000
    # of all values but the inputs and the result no element is in memory
    buffers = [[decode(int(word))[0] for word in record[OPERANDS_AT:][: len(op_of(record).operands)] if word >= 0]
               for record in members]  # fmt: skip
    memory = int(Buffer.GRADIENTS)
    assert buffers == [
        [LOCAL, memory, memory], [LOCAL, LOCAL], [LOCAL, LOCAL], [LOCAL, LOCAL, memory], [LOCAL, LOCAL], [LOCAL, LOCAL],
        [memory, LOCAL],
    ]  # fmt: skip
    # two local values at a time
    assert len({int(record[OPERANDS_AT]) for record in members[:-1]}) == 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1023, 1024, 8191, 20011])
def test_bits_do_not_depend_on_chains(n, dtype, unchained):
    rng = np.random.default_rng(n)
    x, w = rng.standard_normal((2, 3, n)).astype(dtype)
    built = build(six, [(True, (n,))] * 2, batch=3, dtype=dtype)
    assert (len(built.program.chains) == 1) == (9 * 3 * n * np.dtype(dtype).itemsize > CACHED_BYTES)
    (plain,) = unchained(six, [(True, (n,))] * 2, batch=3, dtype=dtype).run([x, w])
    np.testing.assert_allclose(plain, np.sqrt((np.maximum(x * w + 0.3, 0) - w) ** 2 + 1), rtol=1e-5)
    for parts in (1, 2, 3, 7):
        (found,) = built.run([x, w], parts=parts)
        assert found.tobytes() == plain.tobytes()


OF_ONE = ["negative", "square", "absolute", "tanh", "sigmoid", "exp"]
OF_TWO = ["add", "multiply", "subtract", "maximum"]


def drawn(rng, count):
    """Return a function that makes a graph of random elementwise ops on two large inputs, a row and a column."""
    plan = [(int(rng.integers(8)), *rng.integers(0, 1 << 30, 3).tolist()) for _ in range(count)]

    def make(graph: Graph, x, w, row, column):
        large, small = [x, w], [row, column]
        for number, (kind, first, second, third) in enumerate(plan):
            a, b = large[first % len(large)], large[second % len(large)]
            if kind == 0:
                y = dropout(graph, a, 0.3, number, f"l{number}")
            elif kind == 1:
                y = activation(graph, a, ["relu", "gelu", "tanh"][third % 3], (), f"l{number}")
            elif kind == 2:
                y = elementwise(graph, "add", [a, b], f"l{number}")
            elif kind == 3:
                y = pointwise(graph, OF_ONE[third % 6], [pointwise(graph, "tanh", [a], "t")], f"l{number}")
            elif kind == 4:
                y = pointwise(graph, OF_TWO[third % 4], [a, small[second % 2]], f"l{number}")
            elif kind == 5:
                y = pointwise(graph, "where", [a, b, small[third % 2]], f"l{number}")
            elif kind == 6:
                noise = random(graph, "uniform", a.whole, number, f"l{number}", low=-1.0, high=1.0)
                y = pointwise(graph, "multiply", [a, noise], f"l{number}")
            else:
                y = gaussian_noise(graph, pointwise(graph, "tanh", [b], "t"), 0.2, number, f"l{number}")
            large.append(pointwise(graph, "tanh", [y], f"t{number}") if number % 3 == 0 else y)
        return large[-2:]

    return make


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed, unchained):
    rng = np.random.default_rng(seed)
    batch, columns, dtype = int(rng.integers(2, 60)), int(rng.integers(1, 900)), ["float32", "float64"][seed % 2]
    make = drawn(rng, int(rng.integers(2, 25)))
    inputs = [(True, (columns,)), (True, (columns,)), (False, (columns,)), (True, (1,))]
    arrays = [rng.standard_normal(shape).astype(dtype)
              for shape in ((batch, columns), (batch, columns), (columns,), (batch, 1))]  # fmt: skip
    built = build(make, inputs, batch, dtype)
    plain = unchained(make, inputs, batch, dtype)
    wanted = plain.run(arrays, step=3, seed=seed)
    for parts in (1, 2, 3):
        found = built.run(arrays, step=3, seed=seed, parts=parts)
        assert [y.tobytes() for y in found] == [y.tobytes() for y in wanted]
    # a backend that runs record after record computes the same
    tolerance = 1e-3 if dtype == "float32" else 1e-9
    for y, exact in zip(wanted, built.reference(arrays, step=3, seed=seed), strict=True):
        np.testing.assert_allclose(y, exact, rtol=tolerance, atol=tolerance)


def test_random_graphs_have_chains():
    found = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        make = drawn(rng, 12)
        inputs = [(True, (500,)), (True, (500,)), (False, (500,)), (True, (1,))]
        program = build(make, inputs, 40).program
        found += sum(chain.last - chain.first + 1 for chain in program.chains)
    assert found > 50


def chained_labels(make, inputs, batch=64):
    """Return the labels of the records of each chain."""
    program = build(make, inputs, batch, "float32").program
    return [list(program.labels[chain.first : chain.last + 1]) for chain in program.chains]


LARGE = (True, (500,))


def test_values_that_stay_in_the_cache_make_no_chain():
    assert chained_labels(six, [(True, (20,))] * 2, batch=40) == []
    assert len(chained_labels(six, [(True, (20,))] * 2, batch=400)) == 1


def test_nodes_move_next_to_each_other():
    def make(graph, x, row, _):
        a = activation(graph, x, "relu", (), "a")
        b = pointwise(graph, "square", [row], "b")
        (s,) = graph.add("softmax", (b,), [(b.shape, b.batched, "s")], "s")
        c = pointwise(graph, "multiply", [a, 2.0], "c")
        d = pointwise(graph, "add", [c, s], "d")
        return [d, pointwise(graph, "exp", [d], "e")]

    # d has to wait for s, which is of another size; a and c move behind nothing
    assert chained_labels(make, [LARGE, (False, (500,)), LARGE]) == [["a", "c"], ["d", "e"]]


def test_what_a_chain_makes_is_read_element_by_element():
    def make(graph, x):
        a = pointwise(graph, "square", [x], "a")
        b = pointwise(graph, "exp", [a], "b")
        first = reduce(graph, "sum", b, (1,), True, "sum")
        c = pointwise(graph, "multiply", [b, first], "c")
        return [pointwise(graph, "negative", [c], "d")]

    assert chained_labels(make, [LARGE]) == [["a", "b"], ["c", "d"]]

    def spread(graph, x, column):
        a = pointwise(graph, "square", [column], "a")
        b = pointwise(graph, "exp", [a], "b")
        c = pointwise(graph, "multiply", [x, b], "c")
        return [pointwise(graph, "negative", [c], "d")]

    assert chained_labels(spread, [LARGE, (True, (1,))], batch=8000) == [["a", "b"], ["c", "d"]]


def test_independent_chains_are_apart():
    def make(graph, x, w):
        a = pointwise(graph, "square", [x], "a")
        b = pointwise(graph, "exp", [w], "b")
        return [pointwise(graph, "negative", [a], "c"), pointwise(graph, "negative", [b], "d")]

    assert sorted(chained_labels(make, [LARGE, LARGE])) == [["a", "c"], ["b", "d"]]


def test_too_many_local_values_are_several_chains(unchained):
    def make(graph, x):
        parts = [pointwise(graph, "multiply", [x, 1.0 + k], f"p{k}") for k in range(3 * MOST_LOCAL)]
        total = parts[0]
        for k, part in enumerate(parts[1:]):
            total = elementwise(graph, "add", [total, part], f"s{k}")
        return [total]

    built = build(make, [LARGE], 64, "float32")
    assert len(built.program.chains) > 1
    x = np.random.default_rng(0).standard_normal((64, 500), np.float32)
    assert built.run([x])[0].tobytes() == unchained(make, [LARGE], 64, "float32").run([x])[0].tobytes()


def test_values_share_numbers_when_their_lives_are_apart():
    assert numbers([(0, 1), (1, 2), (2, 5), (3, 4), (5, 6)]) == [0, 1, 0, 1, 1]


def test_a_program_says_what_its_chains_are():
    program = build(six, [LARGE] * 2, 64, "float32").program
    lines = str(program).splitlines()
    assert lines[1] == (
        "      chain of records 0-6, 32000 elements; "
        "local values: scale.multiply, shift.add, relu.activation, centre.subtract, square.square, one.add"
    )
    assert lines[2].startswith("   0  multiply-float32") and lines[8].startswith("   6  pointwise-float32")


# --- the verifier ---------------------------------------------------------------------------------------------


def mixed(graph, x, w):
    """Make a chain with a value from an earlier record, and one that a later record reads."""
    (s,) = graph.add("softmax", (x,), [(x.shape, x.batched, "s")], "s")
    a = elementwise(graph, "multiply", [s, w], "a")
    b = pointwise(graph, "exp", [a], "b")
    c = pointwise(graph, "tanh", [b], "c")
    (t,) = graph.add("softmax", (c,), [(x.shape, x.batched, "t")], "t")
    return [t]


def sound():
    program = build(mixed, [LARGE] * 2, 64, "float32").program
    assert program.chains == (Chain(1, 3),)
    verify(program)
    return program


def with_value(program, name, **changes):
    values = tuple(replace(value, **changes) if value.name == name else value for value in program.values)
    return replace(program, values=values)


def with_word(program, record, name, word):
    records = program.records.copy()
    records[record, OPS[program.kernels[record].op].word(name)] = word
    return replace(program, records=records)


def with_flag(program, record, flag):
    records = program.records.copy()
    records[record, FLAGS_WORD] |= flag
    return replace(program, records=records)


def test_values_that_a_chain_reads_live_until_its_end():
    program = sound()
    (s,) = [value for value in program.values if value.name == "s"]
    assert (s.first, s.last) == (0, 3)  # record 1 is the last one that reads it
    with pytest.raises(ProgramError, match="reads 's', which lives until record 1 only"):
        verify(with_value(program, "s", last=1))


@pytest.mark.parametrize(
    ("chains", "message"),
    [
        ([Chain(1, 1)], "several records"),
        ([Chain(3, 1)], "several records"),
        ([Chain(1, 5)], "several records"),
        ([Chain(-1, 2)], "several records"),
        ([Chain(1, 2), Chain(2, 3)], "several records"),
        ([Chain(1, 3), Chain(1, 2)], "several records"),
        ([Chain(0, 3)], "contains 'softmax'"),
        ([Chain(2, 4)], "contains 'softmax'"),
    ],
)
def test_records_that_are_no_chain(chains, message):
    with pytest.raises(ProgramError, match=message):
        verify(replace(sound(), chains=tuple(chains)))


def test_members_of_different_sizes():
    program = sound()
    records = program.records.copy()
    for name in ("n", "n3"):
        records[3, OPS["pointwise"].word(name)] -= 1
    with pytest.raises(ProgramError, match=r"has values of \[31999, 32000\] elements"):
        verify(replace(program, records=records))


def test_members_that_read_other_places():
    program = build(mixed, [LARGE] * 2, 64, "float32").program
    records = program.records.copy()
    a0, n1 = OPS["pointwise"].word("a0"), OPS["pointwise"].word("n1")
    # the transposed matrix
    records[3, n1 : n1 + 3] = 1, 64, 500
    records[3, a0 : a0 + 4] = 0, 0, 1, 64
    with pytest.raises(ProgramError, match="reads 'a', which it makes, at other places"):
        verify(replace(program, records=records))


def test_results_over_shifted_operands():
    program = build(six, [LARGE] * 2, 64, "float32").program
    buffer, offset = decode(int(program.records[0, OPS["multiply"].word("b")]))
    assert buffer == Buffer.GRADIENTS
    # element by element, in the memory of an operand: the first record of the chain reads it before the last one writes
    verify(with_word(program, 6, "y", encode(buffer, offset)))
    with pytest.raises(ProgramError, match="writes 'y' over elements of 'b' at other places"):
        verify(with_word(program, 6, "y", encode(buffer, offset + 64)))


def test_too_many_local_values_are_refused():
    def make(graph, x):
        parts = [pointwise(graph, "multiply", [x, 1.0 + k], f"p{k}") for k in range(MOST_LOCAL + 2)]
        total = parts[0]
        for k, part in enumerate(parts[1:]):
            total = elementwise(graph, "add", [total, part], f"s{k}")
        return [total]

    program = build(make, [LARGE], 64, "float32").program
    with pytest.raises(ProgramError, match="more than 8 local values"):
        verify(replace(program, chains=(Chain(0, len(program) - 1),)))
    assert isinstance(program.values[0], Value) and prod((64, 500)) * 4 == program.values[0].nbytes


def test_accumulating_members():
    program = sound()
    with pytest.raises(ProgramError, match=r"contains .multiply.|before anything wrote it"):
        verify(with_flag(program, 1, Flag.ACCUMULATE))
