"""Products with one matrix whose operands are slices: they are read in place, against NumPy; also their derivatives."""

import numpy as np
import pytest

from computed import Computed, check_derivatives, whole_at
from fastnn.backend.cpu.processor.cost import units
from fastnn.backend.cuda.launch.gaps import without_gaps
from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Graph
from fastnn.graph.ops.dense import bias_add
from fastnn.graph.ops.products import matmul
from fastnn.graph.ops.strided import getitem, swapaxes
from fastnn.program.verify import verify

RNG = np.random.default_rng(0)
B = BATCH


def tensor(graph, whole, name):
    """Make an input, if the batch is the first axis, or a parameter."""
    batched = bool(whole) and whole[0] is B
    return graph.input(whole[1:], name) if batched else graph.parameter(whole, name)


class Keys:
    """Makes keys of slices that can be the ids of tests."""

    def __getitem__(self, key):
        return key


AT = Keys()
#: shapes of a and b, what is taken of each, and which are then transposed
SLICED = {
    "columns of a": ((B, 16), (8, 5), AT[:, 3:11], None, ""),
    "columns of b": ((B, 4), (4, 16), None, AT[:, 2:9], ""),
    "columns of both": ((B, 12), (9, 10), AT[:, 3:12], AT[:, 1:8], ""),
    "rows of b": ((B, 4), (9, 3), None, AT[2:6], ""),
    "every second row of b": ((B, 4), (9, 3), None, AT[1:9:2], ""),
    "rows of a": ((9, 4), (4, 3), AT[2:7], None, ""),
    "columns of b transposed": ((B, 5), (6, 12), None, AT[:, 4:9], "b"),
    "columns of a, b transposed": ((B, 12), (6, 5), AT[:, 4:9], None, "b"),
    "columns of a transposed": ((B, 12), (B, 7), AT[:, 4:9], None, "a"),
    "both transposed": ((7, 12), (3, 9), AT[:, 4:9], AT[:, 1:8], "ab"),
    "one column of a": ((B, 12), (1, 7), AT[:, 3:4], None, ""),
    "axes in front": ((B, 3, 12), (5, 4), AT[..., 2:7], None, ""),
    "a vector": ((B, 12), (5,), AT[:, 2:7], None, ""),
    "a row": ((12,), (5, 9), AT[2:7], AT[:, 3:8], ""),
    "long sums": ((B, 1300), (1250, 40), AT[:, 7:1257], AT[:, 1:38], ""),
}


def product_of(case, library):
    """Return a function of two operands: a graph and tensors, or NumPy's arrays."""
    _, _, *keys, turned = SLICED[case]

    def made(graph, *given):
        taken = [x if key is None else getitem(graph, x, key, "s") for x, key in zip(given, keys, strict=True)]
        taken = [swapaxes(graph, x, -1, -2, "t") if name in turned else x for x, name in zip(taken, "ab", strict=True)]
        return matmul(graph, *taken, "p")

    def expected(*given):
        taken = [x if key is None else x[key] for x, key in zip(given, keys, strict=True)]
        a, b = (np.swapaxes(x, -1, -2) if name in turned else x for x, name in zip(taken, "ab", strict=True))
        return a @ b

    return made if library == "graph" else expected


def copies(program):
    """Return the lines of a program's copies, without those of results, which are the test's."""
    return [line for line in str(program).splitlines() if "strided-" in line and not line.endswith("; result")]


@pytest.mark.parametrize("batch", [1, 2, 5, 40])
@pytest.mark.parametrize("case", SLICED)
def test_slices_are_read_in_place(case, batch):
    graph = Graph()
    xs = [tensor(graph, whole, name) for whole, name in zip(SLICED[case][:2], "ab", strict=True)]
    y = product_of(case, "graph")(graph, *xs)
    computed = Computed(graph, [y], xs, batch)
    assert not copies(computed.program), str(computed.program)
    values = {x: RNG.normal(size=whole_at(x, batch)) for x in xs}
    wanted = product_of(case, "numpy")(*values.values())
    ((got,), (parts,), (reference,)) = computed.run(values), computed.run(values, parts=3), computed.reference(values)
    np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(reference, wanted, rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(parts, got)
    # a GPU copies what has gaps, and multiplies by `matmul`
    computed.program = without_gaps(computed.program)
    verify(computed.program)
    assert "batched_matmul" not in str(computed.program)
    np.testing.assert_allclose(computed.reference(values)[0], wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("case", [name for name in SLICED if name != "long sums"])
def test_derivatives(case):
    shapes = [(whole[0] is B, whole[1:] if whole[0] is B else whole) for whole in SLICED[case][:2]]
    check_derivatives(product_of(case, "graph"), shapes, batch=3)


def test_large_products_pack_blocks():
    """Their algorithm is that of products without gaps, so their bits are, too."""
    results = []
    for cut in (True, False):
        graph = Graph()
        x, w = graph.input((300 if cut else 256,), "x"), graph.parameter((256, 256), "w")
        y = matmul(graph, getitem(graph, x, AT[:, 5:261], "s") if cut else x, w, "p")
        computed = Computed(graph, [y], [x, w], 512)
        rng = np.random.default_rng(1)
        wide = rng.normal(size=(512, 300))
        values = {x: wide if cut else wide[:, 5:261], w: rng.normal(size=(256, 256))}
        results += [*computed.run(values), *computed.run(values, parts=3)]
        assert ("batched_matmul" in str(computed.program)) == cut
        assert computed._bound.scratches
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("rows", [1, 8, 30])
@pytest.mark.parametrize("turned", [False, True])
def test_threads_share_columns_of_few_rows(rows, turned):
    graph = Graph()
    x, w = graph.input((90,), "x"), graph.parameter((600, 90) if turned else (90, 600), "w")
    part = getitem(graph, w, AT[3:590, 1:71] if turned else AT[1:71, 3:590], "s")
    y = matmul(graph, getitem(graph, x, AT[:, 9:79], "s"), swapaxes(graph, part, 0, 1, "t") if turned else part, "p")
    computed = Computed(graph, [y], [x, w], rows)
    assert not copies(computed.program)
    values = {each: RNG.normal(size=whole_at(each, rows)) for each in (x, w)}
    matrix = values[w].T if turned else values[w]
    wanted = values[x][:, 9:79] @ matrix[1:71, 3:590]
    (whole,) = computed.run(values)
    np.testing.assert_allclose(whole, wanted, rtol=1e-11, atol=1e-12)
    assert units(computed.program.records[0], "float64") > rows // 4
    for parts in (2, 3, 7, 40):
        np.testing.assert_array_equal(computed.run(values, parts=parts)[0], whole)


def test_a_column_with_gaps_is_copied():
    """A vector has no gaps, also where it is one for a batch of one row alone."""
    for key, shape in ((AT[:, 3:4], (B, 5)), (AT[:, 3:5], (B, 5))):
        graph = Graph()
        w, x = graph.parameter((4, 7), "w"), tensor(graph, shape, "x")
        y = matmul(graph, getitem(graph, x, AT[:, :4], "s"), getitem(graph, w, key, "s"), "p")
        program = Computed(graph, [y], [w, x], 3).program
        assert len(copies(program)) == (key == AT[:, 3:4])


@pytest.mark.parametrize(("batch", "key"), [(6, AT[2:8]), (2, AT[2:]), (1, AT[2:])])
def test_a_batch_without_the_rows_of_a_slice_is_refused(batch, key):
    graph = Graph()
    x, w = graph.input((9,), "x"), graph.parameter((9, 5), "w")
    y = matmul(graph, getitem(graph, x, key, "s"), w, "p")
    with pytest.raises(ValueError, match=f"s: a slice takes .* in a batch of {batch}"):
        Computed(graph, [y], [x, w], batch)
    assert not copies(Computed(graph, [y], [x, w], 9).program)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_many_matrices_of_a_number_of_rows_that_depends_on_the_batch(batch):
    graph = Graph()
    x, w = graph.input((9,), "x"), graph.parameter((2, 4, 12), "w")
    y = matmul(graph, getitem(graph, x, AT[:, 3:7], "s"), getitem(graph, w, AT[..., 1:6], "s"), "p")
    computed = Computed(graph, [y], [x, w], batch)
    assert not copies(computed.program)
    values = {each: RNG.normal(size=whole_at(each, batch)) for each in (x, w)}
    wanted = values[x][:, 3:7] @ values[w][..., 1:6]
    for (got,) in (computed.run(values), computed.run(values, parts=3), computed.reference(values)):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-13)


def test_a_bias_is_worth_more_than_a_slice():
    graph = Graph()
    x, w, bias = graph.input((8,), "x"), graph.parameter((5, 3), "w"), graph.parameter((3,), "bias")
    y = bias_add(graph, matmul(graph, getitem(graph, x, AT[:, 1:6], "s"), w, "p"), bias, "p")
    program = Computed(graph, [y], [x, w, bias], 3).program
    assert len(copies(program)) == 1 and "bias_add-" not in str(program) and "batched" not in str(program)
