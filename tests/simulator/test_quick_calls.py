"""Repeated calls with rows of one shape, on a GPU: their results, and their calls of the driver."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest

import fastnn as fnn
from fastnn.backend.cuda.codegen import numba_cuda
from fastnn.backend.cuda.driver import device
from fastnn.errors import InputNotFiniteError
from fastnn.runtime.device import captured

RNG = np.random.default_rng(7)


def pair(optimizer="adam"):
    """Return a model on the GPU and the same one on the CPU."""
    models = []
    for where in ("cuda", "cpu"):
        layers = [fnn.Input(4), fnn.Dense(6, "tanh"), fnn.Dropout(0.3), fnn.Dense(3, "softmax")]
        model = fnn.Sequential(layers, seed=1, device=where)
        model.compile(optimizer, "cross_entropy", metrics=["accuracy"])
        models.append(model)
    return models


def rows(n=6):
    return RNG.standard_normal((n, 4)).astype(np.float32)


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def test_predictions(fake):
    there, here = pair()
    kept = []
    for turn in range(8):
        x = rows() if turn != 5 else rows(12)[::2]
        result = there.predict(x)
        close(result, here.predict(x))
        kept.append((result, result.copy()))
        if turn == 3:
            for model in (there, here):
                model.set_weights([1.5 * one for one in model.get_weights()])
        if turn == 4:
            for model in (there, here):
                model.train_on_batch(x, np.arange(6) % 3)
        if turn == 6:
            # memory that is kept between runs grows, and graphs are captured again
            before, big = there._runtime.placement.generation, rows(200)
            close(there.predict(big), here.predict(big))
            assert there._runtime.placement.generation > before
    for result, copy in kept:
        np.testing.assert_array_equal(result, copy)
    x = rows()
    x[2, 1] = np.nan
    np.testing.assert_array_equal(np.isnan(there.predict(x)).any(axis=1), np.arange(6) == 2)
    with pytest.raises(ValueError, match="shape"):
        there.predict(np.zeros((6, 5), np.float32))


def test_a_prediction_is_one_launch_of_a_graph(fake):
    there, _ = pair()
    x = rows()
    for _ in range(3):
        there.predict(x)
    before = list(fake.calls)
    there.predict(x)
    made = [name for name in fake.calls[len(before) :] if not name.startswith("cuCtx")]
    assert made == ["cuGraphLaunch", "cuStreamSynchronize"]


def test_several_inputs_and_outputs(fake):
    def build(where):
        a, b = fnn.Input(3), fnn.Input(3)
        added = fnn.Add()([fnn.Dense(3)(a), b])
        return fnn.Model([a, b], [added, fnn.Dense(2, "relu")(added)], seed=0, device=where)

    there, here = build("cuda"), build("cpu")
    for _ in range(4):
        x = [RNG.standard_normal((5, 3)).astype(np.float32) for _ in range(2)]
        for one, other in zip(there.predict(x), here.predict(x), strict=True):
            close(one, other)


def test_training_steps(fake):
    there, here = pair(fnn.Adam(fnn.schedules.CosineDecay(0.01, 20), clipnorm=1.0))
    for turn in range(8):
        x, y = rows(), RNG.integers(0, 3, 6)
        if turn == 5:
            before = there._runtime.placement.generation
            there.predict(rows(2000))
            assert there._runtime.placement.generation > before
        got, expected = there.train_on_batch(x, y), here.train_on_batch(x, y)
        assert got["accuracy"] == expected["accuracy"]
        assert got["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert there.step == here.step == 8
    for one, other in zip(there.get_weights(), here.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    x, y = rows(24), RNG.integers(0, 3, 24)
    for model in (there, here):
        model.fit(x, y, batch_size=6, epochs=1, verbose=0)
    for one, other in zip(there.get_weights(), here.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_training_step_is_one_launch_of_a_graph(fake):
    there, _ = pair()
    x, y = rows(), np.arange(6) % 3
    for _ in range(3):
        there.train_on_batch(x, y)
    before = list(fake.calls)
    there.train_on_batch(x, y)
    made = [name for name in fake.calls[len(before) :] if not name.startswith("cuCtx")]
    assert made == ["cuGraphLaunch", "cuStreamSynchronize"]


def test_bad_batches(fake):
    there, _ = pair()
    x, y = rows(), np.arange(6) % 3
    for _ in range(3):
        there.train_on_batch(x, y)
    weights, step = there.get_weights(), there.step
    bad = x.copy()
    bad[4, 0] = np.inf
    with pytest.raises(InputNotFiniteError, match="row 4"):
        there.train_on_batch(bad, y)
    with pytest.raises(ValueError, match="y"):
        there.train_on_batch(x, y + 1)
    assert there.step == step
    for one, other in zip(there.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)
    there.train_on_batch(x, y)
    assert there.step == step + 1


def test_a_frozen_layer_another_optimizer_and_the_way_back(fake):
    there, here = pair()
    for turn in range(12):
        x, y = rows(), RNG.integers(0, 3, 6)
        if turn == 4:
            there.layers[0].trainable = here.layers[0].trainable = False
        if turn == 8:
            for model in (there, here):
                model.compile("sgd", "cross_entropy", metrics=["accuracy"])
        got, expected = there.train_on_batch(x, y), here.train_on_batch(x, y)
        assert got["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    there.to("cpu")
    close(there.predict(x), here.predict(x))


def test_models_go_with_their_last_reference(fake):
    gc.collect()
    gc.disable()
    try:
        for where in ("cuda", "cpu"):
            model = pair()[where == "cpu"]
            for _ in range(3):
                model.predict(rows())
                model.train_on_batch(rows(), np.arange(6) % 3)
            gone = weakref.ref(model)
            del model
            assert gone() is None, where
    finally:
        gc.enable()


def test_threads_share_a_gpu(fake):
    """Graphs are captured in a separate stream, while other threads launch."""
    x, y = rows(24), RNG.integers(0, 3, 24)
    there, here = zip(*(pair() for _ in range(4)), strict=True)
    for models in (there, here):
        fnn.train_many(models, x, y, epochs=3, batch_size=6, n_threads=4, verbose=0)
    for one, other in zip(there, here, strict=True):
        for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    wrong = []

    def work(gpu, cpu):
        for n in (5, 6, 7) * 4:
            mine = np.random.default_rng(n).standard_normal((n, 4)).astype(np.float32)
            if not np.allclose(gpu.predict(mine), cpu.predict(mine), rtol=1e-4, atol=1e-5):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=both) for both in zip(there, here, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert fake.calls.count("cuStreamBeginCapture") == fake.calls.count("cuStreamEndCapture") > 4


def test_a_call_that_has_succeeded_does_not_fail_for_the_next_ones_sake(fake, monkeypatch):
    """If there is no memory to prepare the next calls, they take the general path."""
    if not numba_cuda.simulated():
        pytest.skip("a real driver has room")
    there, here = pair()

    def no_room(nbytes, flags):
        return 2, None

    monkeypatch.setattr(fake, "cuMemHostAlloc", no_room, raising=False)
    for _ in range(4):
        x, y = rows(), RNG.integers(0, 3, 6)
        close(there.predict(x), here.predict(x))
        got, expected = there.train_on_batch(x, y), here.train_on_batch(x, y)
        assert got["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert fake.calls.count("cuMemHostAlloc") == 2 and there.step == 4


def test_what_is_never_ready_is_not_tried_again(fake):
    there, here = pair()
    x = rows().astype(np.float16)
    for _ in range(4):
        np.testing.assert_allclose(there.predict(x), here.predict(x), rtol=1e-4, atol=1e-5)
    assert fake.calls.count("cuMemHostAlloc") == 1


def test_a_model_that_moves_while_a_call_is_made_ready(fake, monkeypatch):
    """Another thread moves the model at the worst of times: what was made for one place is not used in the other."""
    there, here = pair()
    x, usual, movers = rows(), captured._captured, []

    def make(model, *arguments):
        found = usual(model, *arguments)
        movers.append(threading.Thread(target=there.to, args=("cpu",)))
        movers[-1].start()
        time.sleep(0.05)
        return found

    there.predict(x)
    with monkeypatch.context() as patched:
        patched.setattr(captured, "_captured", make)
        there.predict(x)
    (mover,) = movers
    mover.join()
    assert there.device == "cpu"
    for model in (there, here):
        model.set_weights([2.0 * one for one in model.get_weights()])
    for _ in range(3):
        close(there.predict(x), here.predict(x))


def test_ctrl_c_in_a_prediction(fake, monkeypatch):
    there, here = pair()
    x = rows()
    for _ in range(3):
        there.predict(x)
    launch, waited = device.Graph.launch, fake.calls.count("cuStreamSynchronize")

    def interrupted(graph, times):
        launch(graph, times)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(device.Graph, "launch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            there.predict(x)
    # the GPU is not left at work on memory that the next call writes
    assert fake.calls.count("cuStreamSynchronize") == waited + 1
    close(there.predict(x), here.predict(x))
