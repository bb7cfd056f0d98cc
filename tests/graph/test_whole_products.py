"""Products, dot, outer, tensordot and einsum on whole shapes, against NumPy; also their derivatives."""

import numpy as np
import pytest

from computed import Computed, check_derivatives, whole_at
from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Graph
from fastnn.graph.ops import strided
from fastnn.graph.ops.contractions import dot, einsum, outer, tensordot
from fastnn.graph.ops.products import matmul

RNG = np.random.default_rng(0)
B = BATCH


def tensor(graph, whole, name):
    """Make an input, if the batch is the first axis, or a parameter."""
    batched = bool(whole) and whole[0] is B
    return graph.input(whole[1:], name) if batched else graph.parameter(whole, name)


def compare(make, expected, *wholes, batch=4):
    """Compare a function of tensors with one of arrays; returns the text of the program."""
    graph = Graph()
    xs = [tensor(graph, whole, f"x{number}") for number, whole in enumerate(wholes)]
    y = make(graph, *xs)
    computed = Computed(graph, [y], xs, batch)
    values = {x: RNG.normal(size=whole_at(x, batch)) for x in xs}
    wanted = expected(*values.values())
    assert whole_at(y, batch) == wanted.shape
    for (got,) in (computed.run(values), computed.run(values, parts=3), computed.reference(values)):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-13)
    # the copies of results are those of the test
    return "\n".join(line for line in str(computed.program).splitlines() if not line.endswith("; result"))


MATMULS = [
    ((B, 3), (3, 5)), ((B, 2, 3), (3, 5)), ((2, 3), (3, 5)), ((3,), (3,)), ((B, 3), (3,)), ((3,), (3, B)), ((B,), (B,)),
    ((B,), (B, 3)), ((3, B), (B,)), ((3, B), (B, 2)), ((B, 2, 3), (B, 3, 5)), ((B, 2, 3), (2, 1, 3, 5)),
    ((2, 1, 3, 4), (B, 4, 5)), ((B, 3), (2, 3, 5)), ((3,), (2, 3, 5)), ((3,), (B, 3, 5)), ((B, 2, 3), (3,)),
    ((B, 2, 4, 3), (B, 1, 3, 5)), ((B, 1, 4, 3), (B, 2, 3, 5)), ((B, 2, 1, 4, 3), (B, 1, 3, 3, 5)),
    ((2, 1, 5, 4, 3), (1, 3, 1, 3, 2)), ((2, 3, 1, 2, 3), (2, 1, 4, 3, 1)), ((5, B, 2, 3), (5, 1, 3, 2)),
    ((B, 2, 1, 2, 2, 3), (2, 1, 1, 3, 2)), ((1, 1, 3), (B, 1, 3, 2)), ((B, 2, 3), (1, 3, 2)), ((2, B, 3), (2, 3, 2)),
]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("shapes", MATMULS, ids=str)
def test_matmul(shapes, batch):
    compare(lambda graph, a, b: matmul(graph, a, b, "p"), np.matmul, *shapes, batch=batch)


def swapped(graph, x):
    return strided.swapaxes(graph, x, -1, -2, "t")


@pytest.mark.parametrize(
    ("shapes", "turned"),
    [
        (((B, 3), (B, 3)), "b"), (((B, 3), (B, 4)), "a"), (((3, B), (2, 3)), "ab"), (((3, 2), (B, 3)), "ab"),
        (((B, 2, 3), (4, 3)), "b"), (((B, 2, 3), (B, 4, 3)), "b"), (((B, 3, 2), (B, 3, 4)), "a"),
        (((B, 3, 2), (B, 4, 3)), "ab"), (((B, 3, 2), (2, 1, 4, 3)), "ab"), (((2, B, 3), (2, B, 3)), "b"),
    ],
    ids=str,
)  # fmt: skip
def test_transposed_operands_are_read_in_place(shapes, turned):
    def product(graph, a, b):
        a, b = (swapped(graph, x) if name in turned else x for name, x in (("a", a), ("b", b)))
        return matmul(graph, a, b, "p")

    def expected(a, b):
        a, b = (np.swapaxes(x, -1, -2) if name in turned else x for name, x in (("a", a), ("b", b)))
        return a @ b

    text = compare(product, expected, *shapes)
    assert "strided" not in text, text
    check_derivatives(product, [(s[0] is B, s[1:] if s[0] is B else s) for s in shapes], batch=4)


@pytest.mark.parametrize("shapes", [MATMULS[i] for i in (1, 3, 4, 6, 10, 11, 12, 13, 17, 18, 19, 20)], ids=str)
def test_derivatives_of_matmul(shapes):
    given = [(shape[0] is B, shape[1:] if shape[0] is B else shape) for shape in shapes]
    check_derivatives(lambda graph, a, b: matmul(graph, a, b, "p"), given, batch=3)


def test_distances_between_all_rows():
    """A loss that mixes rows: the product of a batch with its transpose."""
    text = compare(lambda graph, x: matmul(graph, x, swapped(graph, x), "p"), lambda x: x @ x.T, (B, 3))
    assert "strided" not in text
    graph = check_derivatives(lambda graph, x: matmul(graph, x, swapped(graph, x), "p"), [(True, (3,))], batch=5)
    assert "transpose" not in {node.op for node in graph.nodes if "first" in node.label}


@pytest.mark.parametrize(
    ("a", "b"),
    [((), (B, 3)), ((B, 3), (3,)), ((3,), (3,)), ((B, 3), (3, 2)), ((B, 2, 3), (4, 3, 2)), ((B, 3), (2, 4, 3, 2))],
)
def test_dot(a, b):
    compare(lambda graph, x, y: dot(graph, x, y, "p"), np.dot, a, b)


@pytest.mark.parametrize(("a", "b"), [((B,), (3,)), ((B, 2), (B, 3)), ((2, 2), (3,)), ((), (2,))])
def test_outer(a, b):
    compare(lambda graph, x, y: outer(graph, x, y, "p"), np.outer, a, b)


@pytest.mark.parametrize(
    ("a", "b", "axes"),
    [
        ((B, 3, 4), (3, 4, 2), 2), ((B, 3), (B, 3), ([0], [0])), ((B, 3, 4), (4, B, 2), ([2, 0], [0, 1])),
        ((2, 3), (4,), 0), ((B, 2), (B, 2), 2), ((2, 3, 4), (4, 3, 5), ([-1, 1], [0, -2])),
    ],
)  # fmt: skip
def test_tensordot(a, b, axes):
    compare(lambda graph, x, y: tensordot(graph, x, y, axes, "p"), lambda x, y: np.tensordot(x, y, axes), a, b)


EINSUMS = [
    ("ij,jk->ik", (B, 3), (3, 2)), ("ij,jk", (B, 3), (3, 2)), ("ji,jk->ik", (B, 3), (B, 2)),
    ("ij,kj->ki", (B, 3), (B, 3)), ("ij,kj->ik", (4, 3), (B, 3)), ("i,i->", (B,), (B,)), ("i,i", (5,), (5,)),
    ("i,j->ij", (B,), (3,)), ("i,j->ji", (B,), (3,)), ("bqd,bkd->bqk", (B, 3, 4), (B, 2, 4)),
    ("bqhd,bkhd->bhqk", (B, 3, 2, 4), (B, 5, 2, 4)), ("bhqk,bkhd->bqhd", (B, 2, 3, 5), (B, 5, 2, 4)),
    ("bij,bjk->ik", (B, 2, 3), (B, 3, 4)), ("bi,bi->b", (B, 3), (B, 3)), ("bi,bi->bi", (B, 3), (B, 3)),
    ("bi,b->i", (B, 3), (B,)), ("...i,ij->...j", (B, 2, 3), (3, 4)), ("...ij,...jk", (B, 1, 2, 3), (4, 3, 2)),
    ("ijk,jil->kl", (2, 3, 4), (3, 2, 5)), ("bijk,lkji->bl", (B, 2, 3, 4), (5, 4, 3, 2)), ("bi,bj->", (B, 3), (B, 2)),
    ("bij,k->bk", (B, 3, 2), (4,)), ("ij,ij->ij", (B, 1), (B, 3)), ("ab,cb->ac", (B, 1), (3, 4)),
    ("bij->bji", (B, 2, 3)), ("bij->j", (B, 2, 3)), ("ij", (B, 3)), ("ji", (B, 3)), ("...i->...", (B, 2, 3)),
    ("b i j -> i b", (B, 2, 3)), ("ij->", (B, 3)), ("abc,acd->abd", (2, B, 3), (2, 3, 4)),
    ("nc,cd->nd", (B, 3), (3, 4)), ("x,x->x", (B,), (B,)),
]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("case", EINSUMS, ids=str)
def test_einsum(case, batch):
    equation, *shapes = case
    compare(
        lambda graph, *xs: einsum(graph, equation, xs, "p"), lambda *xs: np.einsum(equation, *xs), *shapes, batch=batch
    )


@pytest.mark.parametrize("case", [EINSUMS[i] for i in (3, 5, 8, 10, 12, 13, 15, 17, 19, 21, 23)], ids=str)
def test_derivatives_of_einsum(case):
    equation, *shapes = case
    given = [(shape[0] is B, shape[1:] if shape[0] is B else shape) for shape in shapes]
    check_derivatives(lambda graph, *xs: einsum(graph, equation, xs, "p"), given, batch=3)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", ((B, 3), (3, 2))), ("ji,jk->ik", ((B, 3), (B, 2))), ("ij,kj->ki", ((B, 3), (B, 3))),
        ("bqd,bkd->bqk", ((B, 3, 4), (B, 2, 4))), ("ij,jkl->ikl", ((B, 3), (3, 2, 2))), ("i,i->", ((5,), (5,))),
        ("bqhd,bkhd->bhqk", ((B, 3, 2, 4), (B, 5, 2, 4))), ("bhqk,bkhd->bqhd", ((B, 2, 3, 5), (B, 5, 2, 4))),
        ("ijk,jkl->il", ((B, 2, 3), (2, 3, 4))), ("bik,bjk->bji", ((B, 2, 3), (B, 4, 3))),
        ("qbd,kbd->bqk", ((3, B, 4), (2, B, 4))), ("qbhd,kbhd->bhqk", ((3, B, 2, 4), (5, B, 2, 4))),
        ("hqk,hkd->qhd", ((3, 2, 5), (3, 5, 4))),
        ("bhqk,kbhd->bhqd", ((B, 2, 3, 5), (5, B, 2, 4))),
    ],
)  # fmt: skip
def test_einsum_copies_nothing_where_a_product_fits(equation, shapes):
    both = (lambda graph, *xs: einsum(graph, equation, xs, "p")), lambda *xs: np.einsum(equation, *xs)
    compare(*both, *shapes, batch=1)
    text = compare(*both, *shapes)
    assert "strided" not in text and text.count("matmul-float64") == 1, text


ERRORS = [
    (
        lambda g, a, b: matmul(g, a, b, ""), ((B, 3), (4, 2)),
        r"matmul: a has shape \(B, 3\) and b \(4, 2\): the inner sizes 3 and 4 differ",
    ),
    (lambda g, a, b: matmul(g, a, b, ""), ((), (4, 2)), "matmul: a is a number"),
    (lambda g, a, b: matmul(g, a, b, ""), ((B, 2, 3), (4, 3, 2)), r"\(B, 2, 3\) and \(4, 3, 2\) do not fit"),
    (lambda g, a, b: einsum(g, "ij,jk->ik", [a], ""), ((B, 3), (3, 2)), "'ij,jk->ik' is for 2 operands, got 1"),
    (lambda g, a, b: einsum(g, "ij,jk->ik", [a, b], ""), ((B, 3), (4, 2)), r"'j' has the sizes 3 and 4 .*\(B, 3\) "),
    (lambda g, a, b: einsum(g, "ii,jk->ik", [a, b], ""), ((3, 3), (4, 2)), "'ii' names an axis twice; diagonals"),
    (lambda g, a, b: einsum(g, "ij,jk->ii", [a, b], ""), ((4, 3), (3, 2)), "'ii' names an axis twice"),
    (lambda g, a, b: einsum(g, "ij,jk->il", [a, b], ""), ((4, 3), (3, 2)), "no operand has the axis 'l'"),
    (lambda g, a, b: einsum(g, "ijk,jk->i", [a, b], ""), ((4, 3), (3, 2)), "'ijk' has 3 axes, but the operand's"),
    (lambda g, a, b: einsum(g, "i1,jk->i", [a, b], ""), ((4, 3), (3, 2)), "expected letters"),
    (lambda g, a, b: einsum(g, "ij,jk,kl->il", [a, b, b], ""), ((4, 3), (3, 2)), "one or two"),
    (lambda g, a, b: tensordot(g, a, b, 3, ""), ((4, 3), (3, 2)), "axes: expected 0 to 2, got 3"),
    (lambda g, a, b: tensordot(g, a, b, ([0], [0]), ""), ((4, 3), (3, 2)), "axis 0 of a, .* axis 0 of b"),
    (lambda g, a, b: tensordot(g, a, b, ([5], [0]), ""), ((4, 3), (3, 2)), "expected axes from -2 to 1, got 5"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shapes", "match"), ERRORS)
def test_what_does_not_fit_is_refused(make, shapes, match):
    graph = Graph()
    with pytest.raises(ValueError, match=match):
        make(graph, *(tensor(graph, shape, "x") for shape in shapes))
    assert all(node.op == "reshape" for node in graph.nodes)


def test_integers_are_refused():
    graph = Graph()
    index, x = graph.input((3,), "index", "int64"), graph.input((3,), "x")
    with pytest.raises(ValueError, match="matmul: 'index' has integers; cast it"):
        matmul(graph, index, x, "")
