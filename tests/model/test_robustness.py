"""Misuse raises errors that say what is wrong: no crash, no hang, no result from memory outside the data."""

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import fastnn as fnn
from fastnn.metrics import AUC, ConfusionMatrix, TopKAccuracy
from fastnn.training import fit as fit_module

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
HOOKS = [
    "on_train_begin",
    "on_epoch_begin",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_end",
    "on_epoch_end",
]


def make(optimizer=None, metrics=("accuracy",)) -> fnn.Sequential:
    model = fnn.Sequential([fnn.Input(4), fnn.Dense(8, "relu"), fnn.Dense(3, "softmax")], seed=1)
    model.compile(optimizer or fnn.Adam(0.01), "cross_entropy", metrics=list(metrics))
    return model


def run_apart(code: str, seconds: float = 60.0) -> str:
    """Run code in a separate process, which may crash or hang without affecting the tests."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout


def calling(hook, act):
    """Make a callback that acts on the model at one hook."""
    functions = {hook: lambda self, *args, **kwargs: act(self.model), "every_batch": True}
    return type("Calling", (fnn.Callback,), functions)()


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(
    "act",
    [
        lambda model: model.train_on_batch(X, Y),
        lambda model: model.compile("sgd", "mse", metrics=[AUC()]),
        lambda model: model.fit(X, Y, verbose=0),
    ],
    ids=["train_on_batch", "compile", "fit"],
)
def test_training_within_a_training_is_refused_and_leaves_it_resumable(hook, act):
    whole, model = make(), make()
    options = {"epochs": 3, "batch_size": 10, "validation_split": 0.2, "verbose": 0}
    whole.fit(X, Y, **options)
    with pytest.raises(RuntimeError, match="being trained"):
        model.fit(X, Y, callbacks=calling(hook, act), **options)
    model.fit(X, Y, resume=True, callbacks=calling(hook, lambda model: None), **options)
    for got, expected in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("label", [10**9, -(10**9)])
def test_labels_that_change_during_training_stay_within_the_buffers(label):
    run_apart(
        f"""
        import numpy as np, fastnn as fnn
        from fastnn.metrics import ConfusionMatrix, TopKAccuracy
        X, y = np.ones((40, 4), np.float32), np.zeros(40, int)
        class Spoil(fnn.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                y[:] = {label}
        model = fnn.Sequential([fnn.Input(4), fnn.Dense(3, "softmax")])
        model.compile("sgd", "cross_entropy", metrics=["accuracy", ConfusionMatrix(), TopKAccuracy(2)])
        model.fit(X, y, epochs=2, verbose=0, callbacks=Spoil())
        """
    )


@pytest.mark.parametrize(
    "bad", [{"metrics": ["nope"]}, {"metrics": 5}, {"loss_weights": "a"}, {"loss": ["mse", "mse"]}]
)
def test_a_failed_compile_changes_nothing(bad):
    model, twin = make(fnn.SGD(0.1)), make(fnn.SGD(0.1))
    model.fit(X, Y, verbose=0)
    before = model.optimizer
    with pytest.raises((TypeError, ValueError)):
        model.compile("adam", **{"loss": "mse", **bad})
    assert model.optimizer is before
    model.fit(X, Y, batch_size=7, verbose=0)
    twin.fit(X, Y, verbose=0)
    twin.fit(X, Y, batch_size=7, verbose=0)
    np.testing.assert_array_equal(model.predict(X), twin.predict(X))


def test_compile_from_the_data_is_refused():
    def batches(model):
        yield X, Y
        model.compile("adam", "cross_entropy", metrics=[ConfusionMatrix(), AUC(2000)])
        yield X, Y

    model = make()
    with pytest.raises(RuntimeError, match="compile: the model is in use"):
        model.evaluate(batches(model))
    with pytest.raises(RuntimeError, match="being trained"):
        model.fit(batches(model), verbose=0)
    assert model.evaluate(X, Y)["loss"] > 0


def test_compile_in_another_thread_never_moves_buffers_under_a_kernel():
    run_apart(
        """
        import threading, time
        import numpy as np, fastnn as fnn
        X, y = np.ones((40, 4), np.float32), np.zeros(40, int)
        model = fnn.Sequential([fnn.Input(4), fnn.Dense(64, "relu"), fnn.Dense(3, "softmax")])
        def compile(): model.compile("adam", "cross_entropy", metrics=[fnn.metrics.AUC(2000)])
        def compile_small(): model.compile("sgd", "cross_entropy")
        compile()
        end, unexpected = time.time() + 1.5, []
        def loop(act):
            while time.time() < end:
                try:
                    act()
                except RuntimeError as error:
                    if "compiled again" not in str(error):
                        unexpected.append(error)
        acts = [compile, compile_small, lambda: model.train_on_batch(X, y), lambda: model.evaluate(X, y),
                lambda: model.gradients(X, y), lambda: model.predict(X)]
        threads = [threading.Thread(target=loop, args=(act,)) for act in acts]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert not unexpected, unexpected
        """
    )


def test_an_interrupt_while_a_training_begins_leaves_the_model_free(monkeypatch):
    class Interrupted:
        def __enter__(self):
            pass

        def __exit__(self, *error):
            raise KeyboardInterrupt

    model = make()
    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "_guard", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y, verbose=0)
    assert len(model.fit(X, Y, verbose=0).epoch) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_process_does_not_wait_for_a_lock_of_its_parent():
    model = make()
    model.predict(X)
    held, release = threading.Event(), threading.Event()

    def hold():
        with model._runtime.lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        free = model._runtime.lock.acquire(timeout=5.0)
        os._exit(0 if free else 1)
    release.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    "x", ["abc", b"abcd", iter(["abc"]), iter([iter([X])])], ids=["str", "bytes", "strs", "nested"]
)
def test_what_is_no_data_is_no_iterable_of_batches(x):
    with pytest.raises(TypeError, match="x: expected numbers"):
        make().predict(x)


def test_a_bad_batch_of_a_prediction_is_numbered():
    with pytest.raises(ValueError, match=r"batch 1: x: input layer 'input' expects shape \(n, 4\), got \(40, 3\)"):
        make().predict(iter([X, X[:, :3]]))


def test_masked_elements_are_not_used():
    masked = np.ma.masked_less(X, 0.0)
    for call in (
        lambda: make().predict(masked),
        lambda: make().fit(masked, Y, verbose=0),
        lambda: make().fit(X, np.ma.masked_equal(Y, 0), verbose=0),
    ):
        with pytest.raises(ValueError, match="masked"):
            call()
    np.testing.assert_array_equal(make().predict(np.ma.masked_less(X, -1e9)), make().predict(X))


@pytest.mark.parametrize(
    ("weights", "error", "words"),
    [
        ({0: 1.0, 3: 2.0}, ValueError, "labels from 0 to 2, got 3"),
        ({10**12: 1.0}, ValueError, "labels from 0 to 2"),
        ({0: "a"}, TypeError, "weight of class 0: expected a number"),
        ({0: 10**400}, ValueError, "weight of class 0: expected a finite number"),
        ({1: -2.0}, ValueError, "weight of class 1: expected .* -2"),
        ({1: [1.0]}, TypeError, "weight of class 1: expected a number"),
    ],
)
def test_bad_class_weights_are_named(weights, error, words):
    with pytest.raises(error, match=words):
        make().fit(X, Y, class_weight=weights, verbose=0)


@pytest.mark.parametrize("argument", ["sample_weight", "loss"])
def test_unknown_outputs_of_unlike_types_are_named(argument):
    with pytest.raises(ValueError, match="there is no output 1"):
        if argument == "loss":
            make().compile("sgd", {1: "mse", "b": "mse"})
        else:
            make().fit(X, Y, sample_weight={1: None, "b": None}, verbose=0)


def test_a_layer_that_does_not_fit_is_not_added():
    model = fnn.Sequential([fnn.Input(4), fnn.Dense(3)])
    with pytest.raises(ValueError, match="Reshape"):
        model.add(fnn.Reshape((5,)))
    model.add(fnn.Dense(2))
    assert model.predict(X).shape == (40, 2)


def test_outputs_without_columns_have_no_loss():
    x = fnn.Input(1)
    model = fnn.Model(x, fnn.Reshape(())(x))
    with pytest.raises(ValueError, match="output 'reshape' has the shape"):
        model.compile("sgd", "mse", metrics=["mae", TopKAccuracy(1)])


def test_arguments_of_a_wrong_type_are_named():
    with pytest.raises(TypeError, match="weights: expected a list"):
        make().set_weights(None)
    with pytest.raises(ValueError, match="dtype: expected"):
        fnn.Sequential([fnn.Dense(3)], dtype=None)
    with pytest.raises(ValueError, match="elements"):
        fnn.Input((2**21,) * 3)


@pytest.mark.parametrize("bias", [[None] * 5, np.ones(5) * 1j, ["1"] * 5], ids=["None", "complex", "str"])
def test_matmul_takes_a_bias_of_numbers(bias):
    with pytest.raises(TypeError, match="bias: expected numbers"):
        fnn.matmul(np.ones((3, 4), np.float32), np.ones((4, 5), np.float32), bias=bias)


def test_matmul_does_not_read_the_bias_from_its_output():
    out = np.ones((3, 5), np.float32)
    with pytest.raises(ValueError, match="share memory with bias"):
        fnn.matmul(np.ones((3, 4), np.float32), np.ones((4, 5), np.float32), out=out, bias=out[0])
