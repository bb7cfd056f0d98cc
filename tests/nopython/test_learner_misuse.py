"""Misuse of learners: errors, unchanged weights, and no access out of bounds."""

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError
from test_learner import compiled, one_by_one, step, step_with, targets_for, weights_of

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn.backend.cpu.layouts.code import CodeWord, Progress
from frozen import MODELS, at_once, chain, rows, same_numbers  # noqa: F401


@njit
def gradients_of(learner, x, y, flat):
    return fnp.loss_and_gradients(learner, x, y, flat)


@njit
def apply(learner, flat):
    fnp.apply_gradients(learner, flat)


@njit
def workspace(learner, batch):
    return fnp.workspace(learner, batch)


def everything(learner):
    return [array.copy() for array in learner]


def refuse(learner, error, match, *given, types=False):
    """Check that compiled code and Python refuse the arguments, and do not change the learner."""
    before = everything(learner)
    with pytest.raises(TypingError if types else error, match=match):
        step_with(learner, *given)
    with pytest.raises((TypeError, ValueError) if types else error, match=match):
        fnp.train_step(learner, *given)
    for one, other in zip(before, learner, strict=True):
        assert one.tobytes() == other.tobytes()


def classifier(optimizer="adam"):
    model = chain(fnn.Dense(5, "relu"), fnn.Dense(3, "softmax"))
    model.compile(optimizer, "cross_entropy")
    return model


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def test_shapes_and_values():
    model = classifier()
    learner = model.learner()
    x, y, weights = rows(model, 4), np.array([0, 1, 2, 1]), np.ones(4, np.float32)
    work = fnp.workspace(learner, 4)
    for given, match in (
        ((x[:, :5].copy(), y), "x: expected shape"),
        ((x[None], y), "x: expected shape"),
        ((x, y[:3]), "shape"),
        ((x, y[:, None]), "shape"),
        ((x[0], y), "shape"),
        ((x, 1), "shape"),
        ((x[:0], y[:0]), "no rows"),
        ((x, y.astype(np.float32)), "labels"),
        ((x[0], 1.0), "labels"),
        ((x, changed(y, 2, 3)), "labels from 0 to 2"),
        ((x, changed(y, 2, -1)), "labels from 0 to 2"),
        ((x[0], 3), "labels from 0 to 2"),
        ((x[0], -(2**62)), "labels from 0 to 2"),
        ((changed(x, (3, 5), np.nan), y), "NaN"),
        ((changed(x, (0, 0), -np.inf), y), "NaN"),
    ):
        refuse(learner, ValueError, match, *given, work, None)
    for bad, match in ((weights[:3], "sample_weight"), (changed(weights, 1, np.nan), "NaN"), (0.5, "sample_weight")):
        refuse(learner, ValueError, match, x, y, work, bad)
    refuse(learner, ValueError, "workspace", x, y, work[:100], None)
    refuse(learner, TypeError, "work", x, y, work.astype(np.float64), None, types=True)
    refuse(learner, TypeError, "x: expected", x.astype(np.complex64), y, work, None, types=True)
    refuse(learner, TypeError, "x: expected", x.astype(np.float16), y, work, None, types=True)
    refuse(learner, TypeError, "y: expected", x, "abc", work, None, types=True)
    refuse(learner, TypeError, "sample_weight: expected", x, y, work, weights.astype(np.complex64), types=True)
    refuse(learner, ValueError, "one array for each input and output", (x, x), y, work, None)
    refuse(learner, ValueError, "one array for each input and output", x, (y, y), work, None)


@pytest.mark.parametrize(
    ("loss", "bad"),
    [
        ("mse", np.nan), ("mse", np.inf), ("binary_cross_entropy", 1.5), ("binary_cross_entropy", -0.1),
        ("hinge", 0.5), ("perceptron", 0.0), ("poisson", -1.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_targets_that_the_loss_does_not_take(loss, bad, dtype):
    model = chain(fnn.Dense(2, "sigmoid"), dtype=dtype)
    model.compile("sgd", loss)
    learner = model.learner()
    x, y = rows(model, 3, dtype), np.ones((3, 2), dtype)
    step(learner, x, y)
    refuse(learner, ValueError, "y: expected", x, changed(y, (2, 1), bad), None, None)
    with pytest.raises(ValueError):  # the same as in Python
        model.train_on_batch(x, changed(y, (2, 1), bad))


def test_gradients_of_another_length():
    model = classifier()
    learner = model.learner(gradients=True)
    x, y, count = rows(model, 4), np.array([0, 1, 2, 1]), fnp.parameter_count(learner)
    for flat in (np.zeros(count - 1, np.float32), np.zeros(count + 1, np.float32)):
        for call in (gradients_of, fnp.loss_and_gradients):
            with pytest.raises(ValueError, match="gradients"):
                call(learner, x, y, flat)
        for call in (apply, fnp.apply_gradients):
            with pytest.raises(ValueError, match="gradients"):
                call(learner, flat)
    for call in (gradients_of, fnp.loss_and_gradients, lambda *given: apply(given[0], given[3])):
        with pytest.raises((TypingError, TypeError), match="gradients"):
            call(learner, x, y, np.zeros(count))


def test_memory_that_is_shared():
    model = compiled("perceptron", "float32")
    learner, n = model.learner(), 3
    x, y = rows(model, n), targets_for(model, n)
    work = np.zeros(len(fnp.workspace(learner, n)) + 100, np.int64)
    inside = [learner.parameters, learner.state, learner.state[-30:], work.view(np.float32)]
    for memory in inside:
        refuse(learner, ValueError, "shares memory", memory[:18].reshape(3, 6), y, work, None)
        refuse(learner, ValueError, "shares memory", x, memory[:30].reshape(3, 10), work, None)
        refuse(learner, ValueError, "shares memory", x, y, work, memory[:3])


def test_arrays_that_must_not_be_written_to():
    model = classifier()
    learner = model.learner(gradients=True)
    x, y = rows(model, 4), np.array([0, 1, 2, 1])
    for field in ("parameters", "state", "progress"):
        fixed = getattr(learner, field).copy()
        fixed.flags.writeable = False
        with pytest.raises(TypeError, match="fastnn made"):
            fnp.train_step(learner._replace(**{field: fixed}), x, y)
    fixed = model.freeze()
    fixed.parameters.flags.writeable = False
    with pytest.raises(TypeError, match="read-only"):
        fnp.set_parameters(fixed, np.zeros(fnp.parameter_count(fixed), np.float32))


def test_gradients_that_are_not_finite():
    model = classifier()
    learner = model.learner()
    before = weights_of(learner)
    for bad in (np.nan, np.inf):
        gradients = changed(np.zeros(fnp.parameter_count(learner), np.float32), 7, bad)
        for call in (apply, fnp.apply_gradients):
            with pytest.raises(ValueError, match="NaN"):
                call(learner, gradients)
    assert weights_of(learner) == before


def test_progress_that_no_training_leaves():
    model = classifier()
    learner, before = model.learner(), weights_of(model)
    for word, value in ((0, -5), (1, -1), (1, 10), (0, 2**60)):
        with pytest.raises(ValueError, match="not what fastnn made"):
            model.update_from(learner._replace(progress=changed(learner.progress, word, value)))
    for field in ("state", "progress"):
        with pytest.raises(ValueError, match="not what fastnn made"):
            model.update_from(learner._replace(**{field: getattr(learner, field)[:-1] if field == "state" else
                                                  learner.progress[:3]}))  # fmt: skip
    assert weights_of(model) == before


def test_workspaces_of_any_size():
    learner = classifier().learner()
    for batch in (0, -1, 2**33, 2**62):
        for make in (workspace, fnp.workspace):
            with pytest.raises(ValueError, match="at least 1"):
                make(learner, batch)


def test_nothing_else_is_written():
    for name, optimizer in (("perceptron", "adam"), ("wide", "sgd"), ("residual", "nadam")):
        model = compiled(name, "float32", optimizer)
        learner = model.learner(gradients=True)
        for n in (1, 2, 17, 33):
            x, y = rows(model, n), targets_for(model, n)
            needed = len(fnp.workspace(learner, n))
            assert workspace(learner, n).size == needed
            memory = np.full(needed + 40, 7, np.int64)
            guarded = {}
            for field in ("parameters", "state", "progress"):
                array = getattr(learner, field)
                raw = np.full(array.size + 64, 9, array.dtype)
                raw[32:-32] = array
                guarded[field] = raw
            inside = learner._replace(**{field: raw[32:-32] for field, raw in guarded.items()})
            before = [x.copy(), y.copy(), *(array.copy() for array in (learner.code, learner.training))]
            step_with(inside, x, y, memory[20 : 20 + needed], None)
            step(learner, x, y)
            assert weights_of(inside) == weights_of(learner)
            assert (memory[:20] == 7).all() and (memory[20 + needed :] == 7).all()
            for raw in guarded.values():
                assert (raw[:32] == 9).all() and (raw[-32:] == 9).all()
            for one, other in zip(before, (x, y, learner.code, learner.training), strict=True):
                np.testing.assert_array_equal(one, other)


def test_arrays_that_were_exchanged():
    model = classifier()
    learner = model.learner()
    x, y = rows(model, 4), np.array([0, 1, 2, 1])
    for field in ("parameters", "state", "progress"):
        short = learner._replace(**{field: getattr(learner, field)[:-1].copy()})
        for call in (step, fnp.train_step):
            with pytest.raises(RuntimeError, match="exchanged"):
                call(short, x, y)
    for field in ("state", "training", "progress"):
        other = learner._replace(**{field: getattr(learner, field).astype(np.float64)})
        with pytest.raises(TypingError, match="fastnn made"):
            step(other, x, y)
        with pytest.raises(TypeError, match="fastnn made"):
            fnp.train_step(other, x, y)
    for word, value in ((CodeWord.TOKEN, 12345), (CodeWord.VERSION, 999)):
        stale = learner._replace(training=changed(learner.training, word, value))
        for call in (step, fnp.train_step):
            with pytest.raises(RuntimeError, match="another process"):
                call(stale, x, y)
        with pytest.raises(RuntimeError, match="another process"):
            workspace(stale, 4)
    for steps in (-1, 3, 2**62):
        mad = model_with_schedule().learner(steps=3)
        mad.progress[Progress.OPTIMIZER_STEP] = steps
        for call in (step, fnp.train_step):
            with pytest.raises(ValueError, match="fewer steps"):
                call(mad, x, y)
    for given in ((1, 2), learner.network, fnp.stack([learner, learner])):
        with pytest.raises(TypingError, match="Learner"):
            step(given, x, y)
        with pytest.raises(TypeError, match="Learner"):
            fnp.train_step(given, x, y)


def model_with_schedule():
    return classifier(fnn.SGD(fnn.schedules.CosineDecay(0.1, 5)))


def test_a_global_learner_cannot_learn():
    model = classifier()
    learner = model.learner()

    @njit
    def use(x, out):
        fnp.predict(learner, x, out)

    @njit
    def learn(x, y):
        fnp.train_step(learner, x, y)

    x, out = rows(model, 4), np.empty((4, 3), np.float32)
    use(x, out)
    assert out.tobytes() == model.predict(x).tobytes()
    with pytest.raises(TypingError, match="give it as an argument"):
        learn(x, np.array([0, 1, 2, 1]))


@pytest.mark.parametrize("bits", [33, 55, 58, 59])
def test_one_row_that_is_repeated_for_ever(bits):
    """The bytes of so many rows are no number of 64 bits."""
    learner = compiled("perceptron", "float32").learner()
    x, y = (np.broadcast_to(np.int8(1), (2**bits, size)) for size in (6, 10))
    for call in (step, fnp.train_step):
        with pytest.raises(MemoryError, match=f"no memory for {2**bits} rows"):
            call(learner, x, y)


def test_eight_learners_at_once():
    model = compiled("residual", "float32", "nadam")
    x, y = rows(model, 200), targets_for(model, 200)
    found = []

    def work():
        learner = model.learner()
        one_by_one(learner, x, y)
        found.append(weights_of(learner))

    at_once(work)
    model.fit(x, y, batch_size=1, shuffle=False, verbose=0)
    assert found == [weights_of(model)] * 8


def test_models_that_cannot_learn():
    model = chain(fnn.Dense(2))
    with pytest.raises(RuntimeError, match="compile"):
        model.learner()
    with pytest.raises(RuntimeError, match="built"):
        fnn.Sequential([fnn.Dense(3)]).learner()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="takes no labels"):
        model.learner(targets="labels")
    with pytest.raises(ValueError, match="expected one of"):
        model.learner(targets="one-hot")


def test_learners_of_other_models():
    model = compiled("perceptron", "float32")
    learner = model.learner()
    for other in (
        compiled("residual", "float32"), compiled("perceptron", "float64"), compiled("perceptron", "float32", "sgd"),
        compiled("perceptron", "float32", "adam", "mae"), compiled("no bias", "float32"), classifier(),
    ):  # fmt: skip
        before = weights_of(other)
        with pytest.raises(ValueError, match="another architecture"):
            other.update_from(learner)
        assert weights_of(other) == before
    with pytest.raises(TypeError, match=r"Model\.learner"):
        model.update_from(MODELS["perceptron"]("float32"))
    with pytest.raises(RuntimeError, match="compile"):
        MODELS["perceptron"]("float32").update_from(learner)
