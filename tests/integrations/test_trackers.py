"""Trackers of trainings: what each of their methods is called with, and what real ones keep."""

import copy
import logging
import struct
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn

integrations = fnn.integrations


def problem():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    return x, x @ rng.normal(size=(3, 1))


def network():
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(4, "tanh", name="hidden"), fnn.Dense(1, name="last")], seed=1)
    model.compile(fnn.SGD(0.05), "mse")
    return model


def trained(*callbacks, epochs=3, **options):
    x, y = problem()
    return network().fit(x, y, epochs=epochs, validation_split=0.2, verbose=0, callbacks=list(callbacks), **options)


# --- Log --------------------------------------------------------------------------------------------------


class Calls(list):
    """Keeps the arguments of calls."""

    def __call__(self, *arguments, **options):
        self.append((*arguments, *sorted(options.items())))


def run_with(name, method=None):
    run = types.SimpleNamespace(calls=Calls())
    setattr(run, name, method or run.calls)
    return run


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("log", lambda loss, validation, epoch: [({"loss": loss, "val_loss": validation}, ("step", epoch))]),
        ("log_metrics", lambda loss, validation, epoch: [({"loss": loss, "val_loss": validation}, ("step", epoch))]),
        ("add_scalar", lambda loss, validation, epoch: [("loss", loss, epoch), ("val_loss", validation, epoch)]),
        ("log_metric", lambda loss, validation, epoch: [
            ("loss", loss, ("step", epoch)), ("val_loss", validation, ("step", epoch))
        ]),
        ("track", lambda loss, validation, epoch: [
            (loss, ("name", "loss"), ("step", epoch)), (validation, ("name", "val_loss"), ("step", epoch))
        ]),
    ],
)  # fmt: skip
def test_every_kind_of_method_gets_all_quantities(name, expected):
    run = run_with(name)
    history = trained(integrations.Log(run)).history
    series = zip(history["loss"], history["val_loss"], range(3), strict=True)
    assert run.calls == [call for each in series for call in expected(*each)]


def test_functions_are_called_and_objects_that_count_go_on():
    calls = Calls()
    history = trained(integrations.Log(calls, prefix="run/")).history
    assert [step for _, step in calls] == [0, 1, 2]
    assert [values["run/loss"] for values, _ in calls] == history["loss"]

    class Live:
        def __init__(self):
            self.values, self.steps = [], 0

        def log_metric(self, name, val):
            self.values.append((name, val, self.steps))

        def next_step(self):
            self.steps += 1

    live = Live()
    trained(integrations.Log(live))
    assert live.steps == 3 and [step for name, _, step in live.values if name == "loss"] == [0, 1, 2]


def test_methods_without_a_step_get_the_epoch():
    seen = []
    trained(integrations.Log(run_with("log", lambda values: seen.append(values))))
    assert [values["epoch"] for values in seen] == [0, 1, 2]


def test_every_few_epochs_and_the_last_one():
    for epochs, expected in ((5, [0, 2, 4]), (6, [0, 2, 4, 5])):
        calls = Calls()
        trained(integrations.Log(calls, every=2), epochs=epochs)
        assert [step for _, step in calls] == expected


def test_clients_of_several_runs_get_the_run():
    run = run_with("log_metric")
    trained(integrations.Log(run, run_id="seven"), epochs=1)
    assert {call[0] for call in run.calls} == {"seven"} and run.calls[0][1] == "loss"


@pytest.mark.parametrize("place", ["config.update", "log_params", "log_parameters", "log_hyperparams"])
def test_hyperparameters_are_written_once(place):
    calls, run = Calls(), run_with("log")
    if place == "config.update":
        run.config = types.SimpleNamespace(update=calls)
    else:
        setattr(run, place, calls)
    trained(integrations.Log(run, hyperparameters={"width": np.int64(4), "kind": fnn.SGD, "rate": np.float32(0.5)}))
    ((found,),) = calls
    assert found["width"] == 4 and type(found["width"]) is int and type(found["rate"]) is float
    assert found["optimizer"] == "SGD" and found["learning_rate"] == 0.05 and found["parameters"] == 21
    assert found["epochs"] == 3 and found["seed"] == 1 and isinstance(found["kind"], str)


def test_entries_that_are_no_numbers_are_left_out():
    class Notes(fnn.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs |= {"note": "text", "table": np.ones(3), "count": np.int64(2)}

    calls = Calls()
    trained(Notes(), integrations.Log(calls), epochs=1)
    assert set(calls[0][0]) == {"loss", "val_loss", "count"}


def test_many_models_may_have_a_run_each():
    x, y = problem()
    runs = [Calls() for _ in range(4)]
    models = [network() for _ in runs]
    histories = fnn.train_many(
        models, x, y, epochs=2, verbose=0, n_threads=2, callbacks=lambda index: integrations.Log(runs[index])
    )
    for run, history in zip(runs, histories, strict=True):
        assert [values["loss"] for values, _ in run] == history.history["loss"]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: integrations.Log(3), "expected an object with one of the methods log_metrics, add_scalar"),
        (lambda: integrations.Log(dict), "expected an object with one of the methods"),
        (lambda: integrations.Log(logging.getLogger("a")), "a logging.Logger takes texts"),
        (lambda: integrations.Log(print, prefix=1), "prefix: expected a text"),
        (lambda: integrations.Log(print, every=0), "Log: every"),
        (lambda: integrations.Log(print, hyperparameters=[1]), "hyperparameters: expected a dict by name"),
        (lambda: integrations.Log(print, freq=1), "unexpected keyword argument 'freq'"),
        (lambda: integrations.Logs, "did you mean 'Log'"),
    ],
)
def test_wrong_arguments(call, match):
    with pytest.raises((TypeError, ValueError, AttributeError), match=match):
        call()


@pytest.mark.parametrize(("name", "module"), [("MLflow", "mlflow"), ("TensorBoard", "tensorboardX")])
def test_what_is_missing_is_named(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    extra = module.removesuffix("X")
    with pytest.raises(ImportError, match=rf'{name} needs {module}: .* "fastnn-numba\[{extra}\]"'):
        getattr(integrations, name)()


# --- TensorBoard ------------------------------------------------------------------------------------------


def events(folder):
    """Return the summaries in a folder's files, by tag: lists of (step, value)."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted(Path(folder).glob("events*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += length + 16
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value))
    return found


@pytest.fixture
def board():
    return pytest.importorskip("tensorboardX", reason="the test extra has tensorboardX")


def test_tensorboard_has_curves_histograms_and_hyperparameters(board, tmp_path):
    model, (x, y) = network(), problem()
    writing = integrations.TensorBoard(tmp_path, histogram_freq=2, hyperparameters={"width": 4})
    history = model.fit(x, y, epochs=3, validation_split=0.2, verbose=0, callbacks=writing).history
    for folder, name in (("train", "loss"), ("validation", "val_loss")):
        scalars = events(tmp_path / folder)["epoch_loss"]
        assert [step for step, _ in scalars] == [0, 1, 2]
        np.testing.assert_allclose([value.simple_value for _, value in scalars], history[name], rtol=1e-6)
    train = events(tmp_path / "train")
    assert {"hidden/kernel", "hidden/bias", "last/kernel", "last/bias"} <= set(train)
    assert [step for step, _ in train["hidden/kernel"]] == [0, 2]
    assert train["hidden/kernel"][1][1].histo.num == 12.0
    assert train["hidden/kernel"][1][1].histo.max == pytest.approx(model.get_weights("hidden")[0].max(), rel=1e-6)
    final = events(tmp_path / "hyperparameters")
    assert final["final/val_loss"][0][1].simple_value == pytest.approx(history["val_loss"][-1], rel=1e-6)
    assert "_hparams_/experiment" in final


def test_tensorboard_of_nan_of_copies_and_of_a_second_training(board, tmp_path):
    writing = copy.deepcopy(integrations.TensorBoard(tmp_path / "a", histogram_freq=1))
    model, (x, y) = network(), problem()
    model.set_weights([np.full_like(one, np.nan) for one in model.get_weights()])
    with pytest.warns(RuntimeWarning, match="NaN"):
        model.fit(x, y, epochs=1, verbose=0, callbacks=writing)
    found = events(tmp_path / "a" / "train")
    assert np.isnan(found["epoch_loss"][0][1].simple_value) and "hidden/kernel" not in found
    trained(writing, epochs=2)
    assert not (tmp_path / "a" / "hyperparameters").exists()


def test_a_resumed_training_replaces_later_steps(board, tmp_path):
    x, y = problem()
    model = network()
    stopping = fnn.LambdaCallback(on_epoch_end=lambda epoch, logs: 1 / (2 - epoch))
    first = integrations.TensorBoard(tmp_path)
    with pytest.raises(ZeroDivisionError):
        model.fit(x, y, epochs=5, verbose=0, callbacks=[first, stopping])
    again = [integrations.TensorBoard(tmp_path), fnn.LambdaCallback(on_epoch_end=lambda epoch, logs: None)]
    history = model.fit(x, y, epochs=5, verbose=0, callbacks=again, resume=True).history["loss"]
    last = {step: value.simple_value for step, value in events(tmp_path / "train")["epoch_loss"]}
    np.testing.assert_allclose([last[step] for step in range(5)], history, rtol=1e-6)


# --- MLflow -----------------------------------------------------------------------------------------------


class Server:
    """Runs by id, as the client of MLflow keeps them."""

    def __init__(self):
        self.runs, self.experiments, self.active = {}, {"Default": "0"}, None

    def module(self):
        entities = types.ModuleType("mlflow.entities")
        entities.Param = entities.Metric = lambda *fields: fields
        library = types.ModuleType("mlflow")
        library.MlflowClient = lambda uri=None: self
        library.active_run = lambda: self.active
        return {"mlflow": library, "mlflow.entities": entities}

    def get_experiment_by_name(self, name):
        if name in self.experiments:
            return types.SimpleNamespace(experiment_id=self.experiments[name])
        return None

    def create_experiment(self, name):
        self.experiments[name] = str(len(self.experiments))
        return self.experiments[name]

    def create_run(self, experiment, run_name=None):
        name = f"run{len(self.runs)}"
        self.runs[name] = {"experiment": experiment, "name": run_name, "params": {}, "metrics": [], "files": []}
        return self.get_run(name)

    def get_run(self, name):
        data = types.SimpleNamespace(params=self.runs[name]["params"])
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=name), data=data)

    def log_batch(self, name, metrics=(), params=()):
        self.runs[name]["metrics"] += metrics
        self.runs[name]["params"] |= dict(params)

    def log_artifact(self, name, path):
        self.runs[name]["files"].append((Path(path).name, fnn.load(path).get_weights()))

    def set_terminated(self, name, status):
        self.runs[name]["status"] = status


@pytest.fixture
def server(monkeypatch):
    found = Server()
    for name, module in found.module().items():
        monkeypatch.setitem(sys.modules, name, module)
    return found


def test_mlflow_has_a_run_for_each_training(server):
    tracker = integrations.MLflow("digits", run_name="first", hyperparameters={"width": 4}, save_model=True)
    model, (x, y) = network(), problem()
    history = model.fit(x, y, epochs=2, verbose=0, callbacks=tracker).history
    run = server.runs[tracker.run_id]
    assert (run["experiment"], run["name"], run["status"]) == ("1", "first", "FINISHED")
    assert run["params"]["width"] == "4" and run["params"]["optimizer"] == "SGD"
    assert [(name, value, step) for name, value, _, step in run["metrics"]] == [
        ("loss", value, step) for step, value in enumerate(history["loss"])
    ]
    ((name, weights),) = run["files"]
    assert name == "model.safetensors"
    for one, other in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    model.fit(x, y, epochs=1, verbose=0, callbacks=tracker)
    assert tracker.run_id == "run1" and server.experiments == {"Default": "0", "digits": "1"}


def test_mlflow_makes_an_experiment_once(server, monkeypatch):
    make, look, waiting = server.create_experiment, server.get_experiment_by_name, threading.Event()

    def slowly(name):
        found = look(name)
        waiting.wait(0.05)  # others look, too
        return found

    monkeypatch.setattr(server, "get_experiment_by_name", slowly)
    made = []
    monkeypatch.setattr(server, "create_experiment", lambda name: made.append(name) or make(name))
    threads = [threading.Thread(target=lambda: trained(integrations.MLflow("digits"), epochs=1)) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert made == ["digits"] and [run["experiment"] for run in server.runs.values()] == ["1"] * 3

    # another process may make it between the two calls
    def late(name):
        make(name)
        raise RuntimeError("exists")

    monkeypatch.setattr(server, "create_experiment", late)
    trained(integrations.MLflow("letters"), epochs=1)
    assert server.runs["run3"]["experiment"] == "2"

    def never(name):
        raise RuntimeError("no room")

    monkeypatch.setattr(server, "create_experiment", never)
    with pytest.raises(RuntimeError, match="no room"):
        trained(integrations.MLflow("words"), epochs=1)


def test_mlflow_marks_runs_that_failed(server):
    tracker = integrations.MLflow()

    def fail(epoch, logs):
        raise KeyError(epoch)

    with pytest.raises(KeyError):
        trained(tracker, fnn.LambdaCallback(on_epoch_end=fail))
    assert server.runs["run0"]["status"] == "FAILED" and server.runs["run0"]["experiment"] == "0"


def test_mlflow_writes_to_the_active_run_and_leaves_it_open(server):
    server.active = server.create_run("0")
    server.log_batch("run0", params=[("epochs", "kept")])
    trained(integrations.MLflow(), epochs=1)
    assert list(server.runs) == ["run0"] and "status" not in server.runs["run0"]
    assert server.runs["run0"]["params"]["epochs"] == "kept" and len(server.runs["run0"]["metrics"]) == 2


@pytest.mark.parametrize("options", [{"experiment": 3}, {"run_name": 3}, {"tracking_uri": Path("a")}])
def test_mlflow_takes_texts(server, options):
    with pytest.raises(TypeError, match=f"MLflow: {next(iter(options))}: expected a text or None"):
        integrations.MLflow(**options)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_real_mlflow_keeps_runs_in_a_file(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is large, so the test extra lacks it")
    pytest.importorskip("sqlalchemy", reason="MLflow's store needs it")
    uri = f"sqlite:///{tmp_path}/runs.db"
    tracker = integrations.MLflow("digits", tracking_uri=uri, hyperparameters={"width": 4})
    history = trained(tracker).history
    client = mlflow.MlflowClient(uri)
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED" and run.data.params["width"] == "4"
    assert [each.value for each in client.get_metric_history(tracker.run_id, "val_loss")] == history["val_loss"]
    trained(integrations.Log(client, run_id=tracker.run_id, prefix="more/"))
    assert "more/loss" in client.get_run(tracker.run_id).data.metrics
