"""User-defined functions that call Python from compiled code: `print`, object mode, and their exceptions."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fastnn as fnn

X = np.ones((3, 1), np.float32)
START = """
import threading
import numpy as np, fastnn as fnn
from numba import njit, objmode, prange
from fastnn import nopython as fnp
X = np.ones((3, 1), np.float32)
def show(value):
    print("shown", value)
    return value
def row(x, y):
    print("shown", x[0])
    y[0] = x[0]
def error(target, prediction):
    print("shown", target)
    return (target - prediction) ** 2
def step(weight, gradient, learning_rate, step):
    print("shown", weight)
    return weight - learning_rate * gradient
def model(layer, optimizer="sgd", loss="mse"):
    made = fnn.Sequential([fnn.Input(1), layer], seed=0)
    made.compile(optimizer, loss)
    return made
plain, shown = fnn.Dense(1), fnn.Dense(1, activation=show)
"""
# what runs, and how many lines it shows at least
CALLS = {
    "activation": ("model(shown).predict(X); model(shown).predict(X)", 6),
    "activation in training": ("model(shown).fit(X, X, verbose=0, epochs=2)", 6),
    "layer": ("model(fnn.layers.Custom(row, 1)).predict(X)", 3),
    "layer in training": ("model(fnn.layers.Custom(row, 1)).evaluate(X, X)", 3),
    "loss": ("m = model(plain, loss=error); m.train_on_batch(X, X); m.train_on_batch(X, X)", 6),
    "optimizer": ("model(plain, fnn.optimizers.Custom(step, 0.1)).train_on_batch(X, X)", 2),
    "matmul": ("fnn.matmul(X, X[:1], activation=show)", 3),
    "threads": (
        """
        fnn.set_num_threads(2)
        m = fnn.Sequential([fnn.Input(400), fnn.Dense(400), fnn.Dense(1, activation=show)], seed=0)
        ts = [threading.Thread(target=m.predict, args=(np.ones((200, 400)),)) for _ in range(2)]
        [t.start() for t in ts]; [t.join() for t in ts]
        """,
        400,
    ),
    "compiled code": (
        """
        net, out = model(shown).freeze(), np.zeros((3, 1), np.float32)
        @njit
        def holding(net, x, out):
            fnp.predict(net, x, out)
        @njit(nogil=True)
        def releasing(net, x, out):
            fnp.predict(net, x, out)
        @njit(parallel=True)
        def parallel(net, x, out):
            for i in prange(len(x)):
                fnp.predict(net, x[i], out[i])
        for function in (holding, releasing, parallel, fnp.predict):
            function(net, X, out)
        ts = [threading.Thread(target=releasing, args=(net, X, out.copy())) for _ in range(2)]
        [t.start() for t in ts]; [t.join() for t in ts]
        """,
        18,
    ),
    "learner": ("learner = model(shown).learner(); fnp.train_step(learner, X, X)", 3),
}


def run(code: str) -> str:
    """Run code in a separate process, which may hang or abort without affecting the tests."""
    command = [sys.executable, "-c", START + textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120.0, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout


def test_numbers_may_be_printed_wherever_functions_run():
    out = run("\n".join(f"print('case', flush=True)\n{textwrap.dedent(code)}" for code, _ in CALLS.values()))
    found = out.split("case")[1:]
    # lines of several threads may be mixed
    for (name, (_, least)), shown in zip(CALLS.items(), found, strict=True):
        assert shown.count("shown") >= least, name


def test_what_is_printed_are_the_numbers():
    assert run("print(model(fnn.layers.Custom(row, 1)).predict(X * 7.5))").splitlines()[-6:-3] == ["shown 7.5"] * 3


def test_object_mode_works_and_its_exceptions_arrive():
    out = run(
        """
        def outside(value):
            with objmode(result="float64"):
                result = float(len(str(int(value)))) / int(value > -1e9)
            return result
        m = fnn.Sequential([fnn.Input(1), fnn.layers.Dense(1, activation=outside, kernel_initializer="ones")], seed=0)
        print(m.predict(X * 1234)[0, 0])
        for call in (lambda x: m.predict(x), lambda x: fnp.predict(m.freeze(), x, np.zeros_like(x))):
            try:
                call(X * np.float32(-1e10))
            except ZeroDivisionError as error:
                print("raised")
        print(m.predict(X * 12345)[0, 0])
        """
    )
    assert out.split() == ["4.0", "raised", "raised", "5.0"]


def test_a_handler_that_print_lets_run_may_predict():
    out = run(
        """
        import io, sys
        class Interrupting(io.StringIO):
            def write(self, text):
                got.append(m.predict(X2))
                try:
                    m.train_on_batch(X, X)
                except RuntimeError:
                    got.append(None)
                return len(text)
        def shout(value):
            if value > 2.0:
                print(value)
            return value
        m = model(fnn.Dense(1, activation=shout, kernel_initializer="ones"))
        X2, got = np.full((4, 1), 0.5, np.float32), []
        m.predict(X2)
        sys.stdout, usual = Interrupting(), sys.stdout
        results = [m.predict(X * 3), m.evaluate(X * 3, X * 3)]
        sys.stdout = usual
        assert len(got) >= 8 and sum(one is None for one in got) == len(got) // 2
        assert all((one == 0.5).all() for one in got if one is not None)
        assert (results[0] == 3).all() and results[1] == {"loss": 0.0}
        """
    )
    assert out == ""


TABLE = np.zeros(3)


def asserting(x):
    # as `assert` does where pytest does not rewrite it
    if x < 1e9:
        raise AssertionError("too small")
    return x


def raising(x):
    if x < 1e9:
        raise ValueError("too small")
    return x


def indexing(x):
    return TABLE[7 if x < 1e9 else 0]


@pytest.mark.parametrize(
    ("function", "exception"),
    [(asserting, AssertionError("too small")), (raising, ValueError("too small")), (indexing, IndexError)],
)
def test_what_a_function_raises_is_named_with_its_message(function, exception):
    layers = [fnn.Input(1), fnn.Dense(2, activation=lambda x: 2.0 * x), fnn.Dense(1, activation=function)]
    model = fnn.Sequential(layers, seed=0)
    model.compile("sgd", "mse")
    said = exception.__name__ if exception is IndexError else repr(exception)
    calls = [lambda: model.predict(X), lambda: model.predict(X[:1]), lambda: model.evaluate(X, X)]
    calls += [lambda: model.fit(X, X, verbose=0), lambda: model.train_on_batch(X, X), lambda: model.gradients(X, X)]
    for call in calls:
        with pytest.raises(RuntimeError) as caught:
            call()
        line = function.__code__.co_firstlineno
        name = f"the function '{function.__name__}' (test_calls_python.py, line {line})"
        assert f"{name} raised {said}" in str(caught.value)
        assert type(caught.value.__cause__).__name__ in said


def test_an_exception_with_values_names_the_function():
    def failing(x):
        if x > -1e9:
            raise ValueError("expected less", x)
        return x

    model = fnn.Sequential([fnn.Input(1), fnn.Dense(1, activation=failing)], seed=0)
    with pytest.raises(RuntimeError, match=r"the function 'failing' \(.*, line \d+\) raised an exception"):
        model.predict(X)
