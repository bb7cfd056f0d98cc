"""Models survive a file, a copy and another process, and training continues from a checkpoint."""

import copy
import pickle
import random
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import fastnn as fnn
from fastnn.errors import ModelFileError
from fastnn.registry import REGISTRY
from networks import cases
from saved import X, Y, assert_same, make

# --- round trips --------------------------------------------------------------------------------------------------


@settings(max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_networks_of_all_layers_and_losses(tmp_path_factory, case):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    model = case.model("float32", fnn.Adam(0.01, amsgrad=True))
    x, y, weight = case.x, case.y, case.sample_weight
    if len(y) == 1:
        y, weight = y[0], None if weight is None else weight[0]
    x = x if len(x) > 1 else x[0]
    model.fit(x, y, batch_size=5, sample_weight=weight, verbose=0)
    model.save(path)
    loaded = fnn.load(path)
    assert_same(model, loaded)
    outputs = [each.predict(x) if len(case.y) > 1 else [each.predict(x)] for each in (model, loaded)]
    for one, other in zip(*outputs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [layer.trainable for layer in model.layers] == [layer.trainable for layer in loaded.layers]
    for each in (model, loaded):
        each.fit(x, y, batch_size=5, sample_weight=weight, verbose=0)
    assert_same(model, loaded)


OPTIMIZERS = [
    fnn.SGD(0.05), fnn.SGD(0.05, momentum=0.9), fnn.SGD(0.05, momentum=0.9, nesterov=True, clipvalue=0.1), fnn.Adam(),
    fnn.Adam(amsgrad=True, clipnorm=1.0), fnn.AdamW(0.01, weight_decay=0.1), fnn.Nadam(), fnn.Lion(), fnn.AdaGrad(0.1),
    fnn.RMSprop(0.01, momentum=0.5, centered=True), fnn.RMSprop(), fnn.Adadelta(1.0, global_clipnorm=0.5),
    fnn.Nadam(gradient_accumulation_steps=4), fnn.Adam(0.01, use_ema=True, ema_overwrite_frequency=5),
]  # fmt: skip
SCHEDULES = [
    fnn.schedules.ConstantSchedule(0.01), fnn.schedules.ExponentialDecay(0.1, 3, 0.5, staircase=True),
    fnn.schedules.StepDecay(0.1, 4, 0.5), fnn.schedules.PiecewiseConstantDecay([2, 5], [0.1, 0.01, 0.001]),
    fnn.schedules.PolynomialDecay(0.1, 5, cycle=True), fnn.schedules.CosineDecay(0.1, 9, warmup_target=0.2,
    warmup_steps=2), fnn.schedules.WarmUp(fnn.schedules.StepDecay(0.1, 4, 0.5), 3), fnn.schedules.OneCycle(0.1, 20),
]  # fmt: skip


def test_the_lists_are_complete():
    # users' functions are saved by name: test_custom.py
    assert {type(one).__name__ for one in OPTIMIZERS} | {"Custom"} == set(REGISTRY["optimizer"])
    assert {type(one).__name__ for one in SCHEDULES} | {"UserSchedule"} == set(REGISTRY["schedule"])


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, *(fnn.SGD(one) for one in SCHEDULES)], ids=repr)
def test_training_goes_on_with_every_optimizer_and_schedule(optimizer, tmp_path):
    model = make(copy.deepcopy(optimizer))
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    model.save(tmp_path / "m")
    loaded = fnn.load(tmp_path / "m")
    assert loaded.optimizer == optimizer
    assert_same(model, loaded)
    for each in (model, loaded):
        each.fit(X, Y, batch_size=8, epochs=4, resume=True, verbose=0)
    assert loaded.history.epoch == [0, 1, 2, 3]
    assert_same(model, loaded)


def test_every_metric_is_restored(tmp_path):
    names = ["accuracy", fnn.metrics.TopKAccuracy(2), fnn.metrics.Precision("macro"), fnn.metrics.Recall("macro"),
             fnn.metrics.F1Score("macro"), "confusion_matrix", "perplexity", fnn.metrics.AUC(50), "binary_accuracy",
             "mse", "rmse", "mae", "r2", "pearson", fnn.Huber(0.5)]  # fmt: skip
    assert {type(fnn.metrics.get(name)).__name__ for name in names} == set(REGISTRY["metric"]) - {"Function"}
    x = fnn.Input(4)
    model = fnn.Model(x, [fnn.Dense(3, "softmax")(x), fnn.Dense(1, "sigmoid")(x), fnn.Dense(2)(x)], seed=0)
    metrics = [[*names[:7]], [names[0], *names[7:9]], [*names[9:]]]
    model.compile("adam", ["cross_entropy", "bce", None], metrics=metrics, weighted_metrics=metrics,
                  loss_weights=[1.0, 0.5, 0.0])  # fmt: skip
    y = [Y, (Y > 0).astype(int), X[:, :2]]
    model.fit(X, y, verbose=0)
    model.save(tmp_path / "m")
    loaded = fnn.load(tmp_path / "m")
    found, expected = loaded.evaluate(X, y), model.evaluate(X, y)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_a_model_without_training_and_one_loaded_without_it(tmp_path):
    model = fnn.Sequential([fnn.Input(4), fnn.Dense(2)], seed=3, dtype="float64", name="my model")
    model.save(tmp_path / "m")
    loaded = fnn.load(tmp_path / "m")
    assert (loaded.name, loaded.seed, loaded.dtype, type(loaded)) == ("my model", 3, "float64", fnn.Sequential)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    with pytest.raises(RuntimeError, match="compile"):
        loaded.evaluate(X, X[:, :2])
    trained = make()
    trained.fit(X, Y, verbose=0)
    trained.save(tmp_path / "n")
    bare = fnn.load(tmp_path / "n", compile=False)
    np.testing.assert_array_equal(bare.predict(X), trained.predict(X))
    with pytest.raises(RuntimeError, match="compile"):
        bare.optimizer  # noqa: B018
    with pytest.raises(RuntimeError, match="not built"):
        fnn.Sequential([fnn.Dense(2)]).save(tmp_path / "o")


def test_layers_without_names_get_the_first_free_numbers(tmp_path):
    names = [None, "dense_2", None, None, "dense", None]
    model = fnn.Sequential([fnn.Input(4), *(fnn.Dense(4, name=name) for name in names)], seed=0)
    labels = ["dense_1", "dense_2", "dense_3", "dense_4", "dense", "dense_5"]
    for name, layer in zip(labels, model.layers, strict=True):
        assert model.get_layer(name) is layer
    model.save(tmp_path / "m")
    assert [layer.name for layer in fnn.load(tmp_path / "m").layers] == labels


def test_a_loaded_sequential_can_grow(tmp_path):
    model = fnn.Sequential([fnn.Dense(4, "relu")], seed=3)
    model.build(4)
    model.save(tmp_path / "m")
    loaded = fnn.load(tmp_path / "m")
    loaded.add(fnn.Dense(2))
    assert loaded.predict(X).shape == (50, 2)


def test_a_learning_rate_function_is_passed_again(tmp_path):
    model = make(fnn.SGD(lambda step: 0.1 / (1 + step), momentum=0.5))
    model.fit(X, Y, epochs=1, verbose=0)
    model.save(tmp_path / "m")
    with pytest.raises(ModelFileError, match=r"load\(path, optimizer="):
        fnn.load(tmp_path / "m")
    loaded = fnn.load(tmp_path / "m", optimizer=fnn.SGD(lambda step: 0.1 / (1 + step), momentum=0.5))
    for each in (model, loaded):
        each.fit(X, Y, epochs=3, resume=True, verbose=0)
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ModelFileError, match="optimizer/v/"):
        fnn.load(tmp_path / "m", optimizer=fnn.Adam())
    with pytest.raises(TypeError, match="expected an optimizer"):
        fnn.load(tmp_path / "m", optimizer="adam")


def test_copies_and_pickles_are_models_of_their_own():
    model = make()
    model.fit(X, Y, verbose=0)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_same(model, twin)
        before = model.get_weights()
        twin.fit(X, Y, verbose=0)
        for one, other in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


# --- checkpoints --------------------------------------------------------------------------------------------------


def with_callbacks(path, **options) -> list[fnn.Callback]:
    """Return callbacks with state; the checkpoint comes first, and still has to save the others' state."""
    return [
        fnn.ModelCheckpoint(path, **options),
        fnn.ReduceLROnPlateau("val_loss", patience=1, min_delta=0.3, factor=0.5),
        fnn.LearningRateScheduler(lambda epoch, rate: 0.95 * rate),
        fnn.EarlyStopping("val_loss", patience=2, min_delta=0.05),
        fnn.LambdaCallback(every_batch=True),
    ]


def fit(model, callbacks, **more):
    return model.fit(X, Y, batch_size=8, epochs=7, validation_split=0.2, callbacks=callbacks, verbose=0, **more)


@pytest.mark.parametrize("save_freq", ["epoch", 3])
@pytest.mark.parametrize(
    "optimizer", [fnn.Adam(0.05, amsgrad=True), fnn.SGD(0.1, momentum=0.9, nesterov=True)], ids=["adam", "sgd"]
)
def test_resuming_from_any_checkpoint_gives_the_bits_of_an_uninterrupted_training(optimizer, save_freq, tmp_path):
    straight = make(copy.deepcopy(optimizer))
    path = str(tmp_path / "{epoch}-{batch}")
    expected = fit(straight, with_callbacks(path, save_freq=save_freq))
    checkpoints = sorted(tmp_path.iterdir())
    assert len(checkpoints) >= 4
    for checkpoint in checkpoints:
        contents = checkpoint.read_bytes()
        model = fnn.load(checkpoint)
        history = fit(model, with_callbacks(path, save_freq=save_freq), resume=True)
        for one, other in zip(straight.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other, checkpoint.name)
        assert history.epoch == expected.epoch
        assert history.history == expected.history
        assert checkpoint.read_bytes() == contents
    # the state of early stopping has to be part of that
    assert (len(expected.epoch) < 7) == isinstance(optimizer, fnn.Adam)


def test_a_schedule_and_dropout_go_on_in_the_middle_of_an_epoch(tmp_path):
    schedule = fnn.schedules.CosineDecay(0.1, 25, warmup_target=0.2, warmup_steps=3)
    straight = make(fnn.AdamW(schedule))
    checkpoint = fnn.ModelCheckpoint(tmp_path / "{epoch}-{batch}", save_freq=1)
    fit(straight, [fnn.LambdaCallback(every_batch=True), checkpoint])
    checkpoints = sorted(tmp_path.iterdir())
    assert len(checkpoints) == 35
    for path in checkpoints[::3]:
        model = fnn.load(path)
        callbacks = [fnn.LambdaCallback(every_batch=True), fnn.ModelCheckpoint(tmp_path / "again", save_freq=1)]
        fit(model, callbacks, resume=True)
        for one, other in zip(straight.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_saved_model_predicts_alike_in_another_process(tmp_path):
    model = make()
    model.fit(X, Y, epochs=2, verbose=0)
    model.save(tmp_path / "m")
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "p.npy", model.predict(X))
    script = """
        import sys, numpy as np, fastnn as fnn
        folder = sys.argv[1]
        found = fnn.load(folder + "/m").predict(np.load(folder + "/x.npy"))
        assert (found == np.load(folder + "/p.npy")).all()
        assert "numba" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], check=True, timeout=60)


SAVER = """
    import sys, numpy as np, fastnn as fnn
    path = sys.argv[1]
    models = [fnn.Sequential([fnn.Input(500), fnn.Dense(1500)], seed=seed) for seed in (1, 2)]
    models[0].save(path)
    print("ready", flush=True)
    while True:
        for model in models:
            model.save(path)
"""


def test_killing_a_process_that_saves_leaves_a_whole_file(tmp_path):
    path = tmp_path / "m.safetensors"
    expected = [fnn.Sequential([fnn.Input(500), fnn.Dense(1500)], seed=seed).get_weights()[0] for seed in (1, 2)]
    times = random.Random(0)
    for _ in range(5):
        command = [sys.executable, "-c", textwrap.dedent(SAVER), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None and process.stdout.readline().strip() == b"ready"
                time.sleep(times.uniform(0.0, 0.05))
            finally:
                process.kill()
        kernel = fnn.load(path).get_weights()[0]
        assert any(np.array_equal(kernel, one) for one in expected)
    fnn.load(path).save(path)
    if sys.platform != "win32":  # there the age of a file decides that it is no longer written
        assert [one.name for one in tmp_path.iterdir()] == [path.name]
