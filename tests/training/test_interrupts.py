"""Interrupted training: Ctrl-C leaves a usable model, and resuming gives the bits of an uninterrupted training."""

import enum
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fastnn as fnn
from fastnn.program.layout import Flag

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def make(optimizer=None) -> fnn.Sequential:
    layers = [fnn.Dense(8, "relu"), fnn.BatchNorm(), fnn.Dropout(0.3), fnn.Dense(3, "softmax")]
    model = fnn.Sequential([fnn.Input(4), *layers], seed=1)
    model.compile(optimizer or fnn.Adam(0.01), "cross_entropy", metrics=["accuracy"])
    return model


class Interrupt(fnn.Callback):
    """Press Ctrl-C at one of the hooks, once."""

    every_batch = True

    def __init__(self, hook: str, at: tuple[int, int] | None) -> None:
        self.hook, self.at, self.epoch = hook, at, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self._press("epoch_begin", 0)

    def on_train_batch_begin(self, batch, logs=None):
        self._press("batch_begin", batch)

    def on_train_batch_end(self, batch, logs=None):
        self._press("batch_end", batch)

    def on_test_begin(self, logs=None):
        self._press("test_begin", 0)

    def on_test_end(self, logs=None):
        self._press("test_end", 0)

    def _press(self, hook, batch):
        if hook == self.hook and self.at == (self.epoch, batch):
            self.at = None
            raise KeyboardInterrupt


def callbacks_for_training() -> list[fnn.Callback]:
    return [
        fnn.LearningRateScheduler(lambda epoch, rate: 0.9 * rate),
        fnn.ReduceLROnPlateau("val_loss", patience=1, min_delta=0.5, cooldown=1),
        fnn.EarlyStopping("val_loss", patience=3, min_delta=0.2),
    ]


def fit(model, interrupt=None, **more):
    extra = callbacks_for_training() if more.pop("with_callbacks", False) else []
    callbacks = [*extra, interrupt] if interrupt is not None else extra
    return model.fit(X, Y, batch_size=8, epochs=6, validation_split=0.2, callbacks=callbacks, verbose=0, **more)


PLACES = [("batch_end", 0, 0), ("batch_end", 2, 3), ("batch_end", 2, 4), ("batch_begin", 1, 0), ("batch_begin", 3, 2),
          ("epoch_begin", 0, 0), ("epoch_begin", 2, 0), ("test_begin", 1, 0), ("test_end", 1, 0)]  # fmt: skip


@pytest.mark.parametrize("with_callbacks", [False, True])
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_resuming_in_the_same_process_gives_the_same_bits(place, with_callbacks):
    hook, epoch, batch = place
    straight = make()
    expected = fit(straight, Interrupt("", None), with_callbacks=with_callbacks)
    model = make()
    interrupt = Interrupt(hook, (epoch, batch))
    with pytest.raises(KeyboardInterrupt):
        fit(model, interrupt, with_callbacks=with_callbacks)
    history = model.history
    assert len(history.epoch) == epoch
    # something of an epoch is done
    assert (history.partial is not None) == (hook in ("batch_end", "test_begin", "test_end") or batch > 0)
    if history.partial is not None:
        assert np.isfinite(history.partial["loss"])
    assert np.isfinite(model.predict(X)).all()
    assert model.evaluate(X, Y)["loss"] > 0
    assert model.gradients(X, Y)
    found = fit(model, interrupt, with_callbacks=with_callbacks, resume=True)
    for one, other in zip(model.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.history == expected.history
    assert found.epoch == expected.epoch
    assert found.partial is None


def test_an_interrupted_training_can_be_left_for_another():
    model = make()
    with pytest.raises(KeyboardInterrupt):
        fit(model, Interrupt("batch_end", (1, 2)))
    history = fit(model)
    assert history.epoch == list(range(6))
    assert history.partial is None


def test_resuming_twice():
    straight, model = make(), make()
    fit(straight, Interrupt("", None))
    for at in ((0, 1), (0, 2), (3, 0)):
        with pytest.raises(KeyboardInterrupt):
            fit(model, Interrupt("batch_end", at), resume=at != (0, 1))
    fit(model, Interrupt("", None), resume=True)
    for one, other in zip(model.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


SCRIPT = """
    import os, signal, threading, time
    import numpy as np
    import fastnn as fnn

    # a shell's background jobs begin with the signal ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60_000, 16)).astype("float32"), rng.integers(0, 3, 60_000)

    def make():
        layers = [fnn.Dense(32, "relu"), fnn.Dropout(0.2), fnn.Dense(3, "softmax")]
        model = fnn.Sequential([fnn.Input(16), *layers], seed=1)
        model.compile(fnn.Adam(1e-3, amsgrad=True), "cross_entropy")
        return model

    make().fit(x[:100], y[:100], batch_size=2, verbose=0)  # compiles
    straight = make()
    straight.fit(x, y, batch_size=2, epochs=8, verbose=0)

    class Sender(fnn.Callback):
        def on_train_batch_end(self, batch, logs=None):
            # a signal during the next stretch of compiled code
            if batch > 10_000 and not sent:
                sent.append(0.0)
                threading.Timer(0.02, self.send).start()

        def send(self):
            sent[0] = time.perf_counter()
            os.kill(os.getpid(), signal.SIGINT)

    sent = []
    model = make()
    try:
        model.fit(x, y, batch_size=2, epochs=8, callbacks=[Sender()], verbose=0)
        raise SystemExit("not interrupted")
    except KeyboardInterrupt:
        waited = time.perf_counter() - sent[0]
    assert waited < 1.0, waited
    assert 10_000 < model.step < 240_000, model.step
    assert model.step % 30_000 == 0 or model.history.partial["loss"] > 0  # between two epochs there is nothing partial
    step = model.step
    model.predict(x[:10])
    assert model.step == step
    model.fit(x, y, batch_size=2, epochs=8, callbacks=[Sender()], resume=True, verbose=0)
    assert model.step == straight.step == 240_000
    for one, other in zip(model.get_weights(), straight.get_weights()):
        assert (one == other).all()
    print("same", waited)
"""


def test_ctrl_c_in_compiled_code():
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("same")


@pytest.mark.skipif(
    not hasattr(enum.EnumType, "__getattr__"), reason="this Python's enums have no code of their own here"
)
def test_numpy_never_looks_at_an_enum(monkeypatch):
    # NumPy asks operands for `__array_ufunc__` and the like, which runs Python code of an enum's, and drops a
    # KeyboardInterrupt that is raised there
    asked, original = [], enum.EnumType.__getattr__

    def recording(cls, name):
        if name.startswith("__array"):
            asked.append(cls)
        return original(cls, name)

    monkeypatch.setattr(enum.EnumType, "__getattr__", recording)
    np.int64(1) | Flag.RECTIFY
    assert asked
    asked.clear()
    model = make()
    model.fit(X, Y, validation_split=0.2, verbose=0)
    model.train_on_batch(X, Y)
    model.predict(X)
    model.gradients(X, Y)
    fnn.matmul(X, X, transpose_b=True)
    assert not asked


MEMORY = """
    import resource, sys
    import numpy as np
    import fastnn as fnn

    folder = sys.argv[1]
    n, width = 600_000, 256
    x = np.memmap(f"{folder}/x", "uint8", "w+", shape=(n, width))     # 150 MB, 600 MB as float32
    x[::1000] = 7
    y = np.memmap(f"{folder}/y", "float32", "w+", shape=(n, 8))
    weight = np.memmap(f"{folder}/w", "float32", "w+", shape=(n,))
    weight[:] = 1.0
    for array in (x, y, weight):
        array.flush()
    x = np.memmap(f"{folder}/x", "uint8", "r", shape=(n, width))
    model = fnn.Sequential([fnn.Input(width), fnn.Dense(8)], seed=0)
    model.compile("sgd", "mse", metrics=["mae"])
    model.fit(x[:512], y[:512], batch_size=512, sample_weight=weight[:512], verbose=0)
    model.evaluate(x[:512], y[:512], batch_size=512)
    model.predict(x[:512], batch_size=512)
    used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
    # mapped files do not count; index, outputs and chunks of checks have to be enough
    limit = used + 80 * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    model.fit(x, y, batch_size=512, sample_weight=weight, validation_split=0.1, verbose=0)
    model.evaluate(x, y, batch_size=512)
    assert model.predict(x, batch_size=512).shape == (n, 8)
    model.fit(x[::-1, ::-1], y[::-1], batch_size=512, shuffle=False, verbose=0)
    try:
        np.ones(2**25, np.float32)
    except MemoryError:
        print("bounded")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_DATA")
def test_a_mapped_file_is_never_copied_whole(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(MEMORY), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "bounded"
