"""What errors of compiled calls say: the numbers of the call that failed, in the thread in which it failed."""

import math
import threading

import numpy as np
import pytest
from numba import njit, prange

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn.backend.cpu.frozen import failures
from fastnn.backend.cpu.layouts.call import Outcome
from fastnn.backend.cpu.layouts.failure import NOTED_DIMS, TABLE_HEAD, TABLE_SLOTS, Failed
from fastnn.nopython.described import _TEXTS, Failure, error_of
from fastnn.nopython.messages import CONSTANT, ERRORS
from frozen import chain


@njit(nogil=True)
def predict(net, x, out, work=None):
    fnp.predict(net, x, out, work)


@njit
def input_gradient(net, x, seed, dx):
    fnp.input_gradient(net, x, seed, dx)


@njit
def jacobian(net, x, matrix, work=None):
    fnp.jacobian(net, x, matrix, work)


@njit
def workspace(net, batch):
    return fnp.workspace(net, batch)


@njit
def member(nets, index):
    return fnp.member(nets, index)


@njit
def set_parameters(net, flat):
    fnp.set_parameters(net, flat)


@njit
def train_step(learner, x, y, work=None, sample_weight=None):
    return fnp.train_step(learner, x, y, work, sample_weight)


@njit
def loss_and_gradients(learner, x, y, gradients):
    return fnp.loss_and_gradients(learner, x, y, gradients)


@njit
def parameter_gradient(learner, x, seed, gradients):
    fnp.parameter_gradient(learner, x, seed, gradients)


@njit
def apply_gradients(learner, gradients):
    fnp.apply_gradients(learner, gradients)


@njit
def set_learning_rate(learner, rate):
    fnp.set_learning_rate(learner, rate)


def real(*shape):
    return np.zeros(shape, np.float32)


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def message_of(kind, call, *given):
    """Return what a call says; what compiled code says names the module, and is told apart from Python's by it."""
    with pytest.raises(kind) as caught:
        call(*given)
    assert type(caught.value) is kind
    prefix, _, text = str(caught.value).partition("fastnn.nopython: ")
    assert prefix == ""
    return text


def net():
    return chain(fnn.Dense(4, "relu"), fnn.Dense(3)).freeze(gradients=True)


def learner(loss="cross_entropy", last="softmax", optimizer="adam", **options):
    model = chain(fnn.Dense(4, "relu"), fnn.Dense(3, last))
    model.compile(optimizer, loss)
    return model.learner(gradients=True, **options)


LABELS = np.array([0, 1, 2, 1])
KEPT = "; the weights are as they were"
OUTPUTS = "that of the network's outputs for x of shape"


@pytest.mark.parametrize(
    ("x", "out", "text"),
    [
        (real(4, 5), real(4, 3), "x: expected shape (6,) or (n, 6), got (4, 5)"),
        (real(1, 4, 6), real(4, 3), "x: expected shape (6,) or (n, 6), got (1, 4, 6)"),
        (real(4, 6), real(3, 3), f"out: expected shape (4, 3), {OUTPUTS} (4, 6), got (3, 3)"),
        (real(6), real(1, 3), f"out: expected shape (3,), {OUTPUTS} (6,), got (1, 3)"),
        (real(1, 6), real(3), f"out: expected shape (1, 3), {OUTPUTS} (1, 6), got (3,)"),
        (real(*[1] * NOTED_DIMS, 2), real(3), f"got ({'1, ' * NOTED_DIMS}...)"),
    ],
)
def test_shapes_of_predictions(x, out, text):
    for work in (None, fnp.workspace(net(), 4)):
        assert message_of(ValueError, predict, net(), x, out, work).endswith(text)


def test_shapes_of_several_networks():
    several, given = fnp.stack([net(), net()]), (real(3, 4, 6), real(2, 4, 3))
    wanted = "x, out: expected one element of the first axis for each of 2 networks, got shapes"
    assert message_of(ValueError, predict, several, *given) == f"{wanted} (3, 4, 6) and (2, 4, 3)"
    assert message_of(ValueError, predict, several, given[0][:2], given[1][:, :3].copy()).startswith("out: expected")
    for index in (2, -1):
        text = f"index: expected from 0 to 1, got {index}"
        assert message_of(IndexError, member, several, index) == text
        with pytest.raises(IndexError) as caught:
            fnp.member(several, index)
        assert str(caught.value) == text
    assert message_of(IndexError, member, fnp.stack([learner()] * 3), 7) == "index: expected from 0 to 2, got 7"


def test_shapes_of_gradients():
    x, seed = real(4, 6), real(4, 3)
    text = f"seed: expected shape (4, 3), {OUTPUTS} (4, 6), got (2, 3)"
    assert message_of(ValueError, input_gradient, net(), x, real(2, 3), x) == text
    text = "dx: expected the shape of x, (4, 6), got (3, 6)"
    assert message_of(ValueError, input_gradient, net(), x, seed, real(3, 6)) == text
    assert message_of(ValueError, input_gradient, net(), real(0, 6), real(0, 3), real(6)).startswith("dx: expected")
    text = "matrix: expected shape (3, 6), got (3, 5)"
    assert message_of(ValueError, jacobian, net(), real(6), real(3, 5)) == text


@pytest.mark.parametrize("n", [4, 40])
def test_workspaces_that_are_too_small(n):
    given = net(), real(n, 6), real(n, 3)
    work = fnp.workspace(given[0]._replace(gradient=given[0].code[:0]), n)
    predict(*given, work)
    needed = message_of(ValueError, predict, *given, work[:2])
    with pytest.raises(ValueError) as caught:
        fnp.predict(*given, work[:2])
    assert needed == str(caught.value)
    assert f" bytes for {n} rows, got 16" in needed
    nbytes = int(needed.split()[7])
    assert nbytes <= work.nbytes
    predict(*given, work[: -(-nbytes // 8)])
    small = fnp.workspace(learner(), n)[:2]
    text = message_of(ValueError, train_step, learner(), real(n, 6), np.zeros(n, np.int64), small)
    assert text.startswith("work: expected a workspace of at least") and text.endswith(f"got {small.nbytes}")


def test_workspaces_of_the_jacobian_matrix():
    # 3 outputs are 16 bytes
    text = message_of(ValueError, jacobian, net(), real(6), real(3, 6), np.zeros(1, np.int64))
    assert text == "work: expected a workspace of at least 16 bytes for 1 rows, got 8"
    jacobian(net(), real(6), real(3, 6), np.zeros(2, np.int64))


def test_workspaces_for_no_rows():
    for one in (net(), learner()):
        assert message_of(ValueError, workspace, one, 0) == "batch: expected at least 1 and at most 4294967296, got 0"


def test_vectors_of_weights():
    wrong = real(7)
    count = fnp.parameter_count(net())
    assert message_of(ValueError, set_parameters, net(), wrong) == f"flat: expected shape ({count},), got (7,)"
    text = f"gradients: expected shape ({count},), got (7,)"
    assert message_of(ValueError, apply_gradients, learner(), wrong) == text
    assert message_of(ValueError, loss_and_gradients, learner(), real(4, 6), LABELS, wrong) == text


def test_parameters_that_were_exchanged():
    one = net()
    size, base = one.parameters.size, "the network's parameters were exchanged for an array of another length or dtype"
    short = one._replace(parameters=one.parameters[:-16].copy())
    text = f"{base}: expected {size} numbers of float32, got {size - 16}"
    assert message_of(RuntimeError, predict, short, real(6), real(3)) == text
    assert message_of(RuntimeError, set_parameters, short, real(fnp.parameter_count(one))) == text
    cast = one._replace(parameters=one.parameters.astype(np.float64))
    text = f"{base}: expected {size} numbers of float32, got another dtype"
    assert message_of(RuntimeError, predict, cast, np.zeros(6), np.zeros(3)) == text
    text = "the learner's state or progress was exchanged for an array of another length"
    short = learner()._replace(progress=learner().progress[:5].copy())
    assert message_of(RuntimeError, train_step, short, real(4, 6), LABELS) == text
    assert message_of(RuntimeError, set_learning_rate, short, 0.5) == text


X, W = real(4, 6), np.ones(4, np.float32)
STEPS = [
    ((X[:, :5].copy(), LABELS), "x: expected shape (6,) or (n, 6), got (4, 5)"),
    ((X[:0], LABELS[:0]), "x: there are no rows to learn from, its shape is (0, 6)"),
    ((X, LABELS[:3]), "y: expected shape (4,), got (3,)"),
    ((X[0], LABELS), "y: expected shape (), got (4,)"),
    ((X, W), "y: expected labels, an array of integers or an integer, got floating-point numbers"),
    ((X, LABELS, None, W[:3]), "sample_weight: expected shape (4,), one number for each row of x, got (3,)"),
    ((X[0], 1, None, W[:1]), "sample_weight: expected shape (), one number for each row of x, got (1,)"),
    ((changed(X, (3, 5), np.nan), LABELS), f"x: expected no NaN or infinity, got NaN at (3, 5){KEPT}"),
    ((changed(X[0], 2, -np.inf), 1), f"x: expected no NaN or infinity, got -inf at (2,){KEPT}"),
    ((X, LABELS, None, changed(W, 1, np.inf)), f"sample_weight: expected no NaN or infinity, got inf at (1,){KEPT}"),
    ((X, changed(LABELS, 2, 3)), f"y: expected labels from 0 to 2, got 3 at (2,){KEPT}"),
    ((X, changed(LABELS, [0, 3], [-(2**62), 9])), f"y: expected labels from 0 to 2, got {-(2**62)} at (0,){KEPT}"),
    ((X[0], 3), f"y: expected labels from 0 to 2, got 3{KEPT}"),
]


@pytest.mark.parametrize(("given", "text"), STEPS, ids=range(len(STEPS)))
def test_training_steps(given, text):
    for one in (learner(), learner(optimizer="sgd")):
        before = [array.copy() for array in one]
        assert message_of(ValueError, train_step, one, *given) == text
        with pytest.raises(ValueError) as caught:  # Python asks the same function
            fnp.train_step(one, *given)
        assert str(caught.value) == text
        for array, kept in zip(one, before, strict=True):
            np.testing.assert_array_equal(array, kept)


def test_steps_with_other_targets_than_labels():
    text = "y: expected shape (4, 3), got (4,)"
    assert message_of(ValueError, train_step, learner("mse"), X, LABELS) == text
    y = np.full((4, 3), 0.5, np.float32)
    text = "y: expected shape (4, 3), got (4, 2)"
    assert message_of(ValueError, train_step, learner("mse"), X, y[:, :2].copy()) == text


@pytest.mark.parametrize(
    ("loss", "last", "fine", "bad", "text"),
    [
        ("mse", "linear", 1.0, np.nan, "finite numbers, got NaN at (2, 1)"),
        ("binary_cross_entropy", "sigmoid", 0.0, 1.5, "numbers from 0 to 1, got 1.5 at (2, 1)"),
        ("binary_cross_entropy", "sigmoid", 0.0, np.inf, "numbers from 0 to 1, got inf at (2, 1)"),
        ("poisson", "softplus", 1.0, -0.25, "numbers >= 0, got -0.25 at (2, 1)"),
        ("hinge", "linear", 1.0, 0.5, "-1, 0 or 1, got 0.5 at (2, 1)"),
    ],
)
def test_targets_that_the_loss_does_not_take(loss, last, fine, bad, text):
    y = changed(np.full((4, 3), fine, np.float32), (2, 1), bad)
    assert message_of(ValueError, train_step, learner(loss, last), X, y) == f"y: expected {text}{KEPT}"


def test_rows_of_targets_whose_sum_is_not_1():
    y = changed(np.full((4, 3), 1 / 3, np.float32), (2, 0), 0.25)
    text = message_of(ValueError, train_step, learner(targets="dense"), X, y)
    assert text.startswith("y: expected rows whose sum is 1, got 0.91666") and text.endswith(f" at (2,){KEPT}")


def test_gradients_of_any_function():
    one = learner()
    gradients = real(fnp.parameter_count(one))
    assert message_of(ValueError, parameter_gradient, one, X, real(3, 3), gradients) == (
        "seed: expected shape (4, 3), that of the network's outputs for x of shape (4, 6), got (3, 3)"
    )
    seed = changed(real(4, 3), (1, 2), np.nan)
    text = f"seed: expected no NaN or infinity, got NaN at (1, 2){KEPT}"
    assert message_of(ValueError, parameter_gradient, one, X, seed, gradients) == text


@pytest.mark.parametrize("index", [0, 23, 24, 27, 42])
def test_gradients_that_are_not_finite(index):
    """The place is that in the caller's vector, not in the learner's own, where weights are aligned."""
    gradients = changed(real(fnp.parameter_count(learner())), index, np.inf)
    text = f"gradients: expected no NaN or infinity, got inf at ({index},){KEPT}"
    assert message_of(ValueError, apply_gradients, learner(), gradients) == text


def test_schedules_that_have_ended():
    one = learner(optimizer=fnn.SGD(fnn.schedules.CosineDecay(0.1, 5)), steps=2)
    for _ in range(2):
        train_step(one, X, LABELS)
    text = message_of(ValueError, train_step, one, X, LABELS)
    assert text.startswith("the learning rates have been worked out for fewer steps: 2, and 2 have been taken; make")


def test_learning_rates():
    for rate, text in (
        (-0.5, "rate: expected a finite number >= 0, got -0.5"),
        (-3, "rate: expected a finite number >= 0, got -3"),
        (math.nan, "rate: expected a finite number >= 0, got NaN"),
        (1e39, "rate: too large for float32: 1e+39"),
    ):
        assert message_of(ValueError, set_learning_rate, learner(), rate) == text


# --- where exceptions come out -------------------------------------------------------------------------------------


def test_memory_that_is_not_there():
    noted = failures.Noted(np.array([5, 6000, 0, 0]), [None] * 2, net().code, -1, 0, 1, np.zeros((2, 1), np.int64))
    assert _TEXTS[Outcome.MEMORY](noted) == "there is no memory for 5 rows, which take 6000 bytes"


def test_every_outcome_has_a_text():
    wanted = set(Outcome) - {Outcome.DONE, Outcome.BEHIND}  # a model catches up, and calls again
    assert wanted == ERRORS.keys() == _TEXTS.keys() | CONSTANT
    for outcome in wanted:
        made = Failure(int(outcome))
        assert type(made) is ERRORS[outcome][0]
        assert str(made).startswith("fastnn.nopython: ")


def test_an_exception_of_another_call_has_no_numbers():
    message_of(ValueError, predict, net(), real(4, 5), real(4, 3))
    for outcome in set(ERRORS) - CONSTANT - {Outcome.SHAPE}:
        assert str(error_of(outcome)) == ERRORS[outcome][1]
    assert "(4, 5)" in str(error_of(Outcome.SHAPE))


def test_each_thread_is_told_of_its_own_call():
    one, found, ready = net(), [], threading.Barrier(8)
    predict(one, real(6), real(3))

    def work(columns):
        ready.wait()
        for rows in range(1, 200):
            text = message_of(ValueError, predict, one, real(rows, columns), real(rows, 3))
            found.append(text.endswith(f"got ({rows}, {columns})"))

    threads = [threading.Thread(target=work, args=(columns,)) for columns in range(7, 15)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 * 199 and all(found)


def test_more_threads_than_are_noted():
    slots = failures._table[TABLE_HEAD:].reshape(TABLE_SLOTS, Failed.WORDS)
    before = slots[:, Failed.THREAD].copy()
    slots[:, Failed.THREAD] = 1  # nobody's
    try:
        text = message_of(ValueError, predict, net(), real(4, 5), real(4, 3))
        assert text == ERRORS[Outcome.SHAPE][1]
    finally:
        slots[:, Failed.THREAD] = before
    assert "(4, 5)" in message_of(ValueError, predict, net(), real(4, 5), real(4, 3))


@njit
def tried(net, x, out, times):
    """Fail, and go on."""
    failed = 0
    for _ in range(times):
        try:
            fnp.predict(net, x, out)
        except Exception:
            failed += 1
    fnp.predict(net, x, out)
    return failed


def test_compiled_code_may_catch():
    good, bad = real(4, 3), real(3, 3)
    assert tried(net(), X, good, 5) == 0
    assert message_of(ValueError, tried, net(), X, bad, 5).endswith("got (3, 3)")


@njit(parallel=True)
def in_parallel(net, x, out):
    for i in prange(len(x)):
        fnp.predict(net, x[i], out[i])


def test_parallel_loops_lose_exceptions():
    """Numba's, not ours: where one comes out, it is the cause of a SystemError; `check` is there for that."""
    one, good = net(), real(100, 6)
    in_parallel(one, good, real(100, 3))
    try:
        in_parallel(one, real(100, 5), real(100, 3))
    except SystemError as error:
        assert "got (5,)" in str(error.__cause__)
    with pytest.raises(ValueError, match=r"x: expected shape \(6,\) or \(n, 6\), got \(100, 5\)"):
        fnp.check(one, real(100, 5), real(100, 3))
    in_parallel(one, good, real(100, 3))


@njit
def through_a_pointer(function, net, x, out):
    function(net, x, out, None)


def test_functions_that_are_given_to_functions():
    assert message_of(ValueError, through_a_pointer, predict, net(), X, real(3, 3)).endswith("got (3, 3)")
