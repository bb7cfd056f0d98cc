"""Callbacks, driven by a small fake training."""

import csv
import json
import math
import types

import numpy as np
import pytest

from fastnn.callbacks import (
    Callback,
    CallbackList,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from fastnn.callbacks.base import HOOKS
from fastnn.callbacks.monitor import Monitor

nan, inf = math.nan, math.inf


class FakeModel:
    """Weights that show the number of trained epochs, and the parts of a model that callbacks need."""

    def __init__(self, learning_rate=0.1):
        self.weights = [np.zeros((2, 3)), np.zeros(3)]
        self.optimizer = types.SimpleNamespace(learning_rate=learning_rate)
        self.stop_training = False
        self.saved = []

    def get_weights(self):
        return [weight.copy() for weight in self.weights]

    def set_weights(self, weights):
        self.weights = [weight.copy() for weight in weights]

    def save(self, path):
        with open(path, "w", encoding="utf-8") as file:
            file.write(str(self.weights[0][0, 0]))
        self.saved.append(path)


def train(model, callbacks, epochs, first=0, last=None, batches=6, chunk=3, state=None, tensors=None):
    """Run a training whose epoch e has the logs epochs[e]; return the list and the logs of the epochs."""
    members = CallbackList(callbacks, model, {"epochs": len(epochs), "steps": batches, "verbose": 0})
    model.stop_training = False
    record = []
    logs = {}
    try:
        members.on_train_begin()
        if state is not None:
            members.set_state(state)
            members.set_tensors(tensors)
        for epoch in range(first, len(epochs) if last is None else last):
            members.on_epoch_begin(epoch)
            size = 1 if members.every_batch else chunk
            for batch in range(0, batches, size):
                if members.every_batch:
                    members.on_train_batch_begin(batch)
                stop = min(batch + size, batches)
                members.on_train_batch_end(
                    stop - 1, {k: v for k, v in epochs[epoch].items() if not k.startswith("val_")}
                )
            for weight in model.weights:
                weight += 1
            logs = dict(epochs[epoch])
            members.on_epoch_end(epoch, logs)
            record.append(logs)
            if model.stop_training:
                break
        if last is None:
            members.on_train_end(logs)
    finally:
        members.close()
    return members, record


def series(name, values):
    return [{"loss": 1.0, name: value} for value in values]


class Recorder(Callback):
    def __init__(self, name, events):
        self.name = name
        self.events = events


def _recorder(hook):
    return lambda self, *arguments: self.events.append((self.name, hook, *arguments[:-1]))


class FullRecorder(Recorder):
    pass


for _hook in HOOKS:
    setattr(FullRecorder, _hook, _recorder(_hook))
FullRecorder.close = lambda self: self.events.append((self.name, "close"))


class ChunkRecorder(Recorder):
    on_train_batch_end = _recorder("on_train_batch_end")


def test_order_of_hooks_and_reverse_order_of_endings():
    events = []
    train(FakeModel(), [FullRecorder("a", events), FullRecorder("b", events)], [{"loss": 1.0}], batches=2)
    middle = [("on_epoch_begin", 0)]
    for batch in range(2):
        middle += [("on_train_batch_begin", batch), ("on_train_batch_end", batch)]
    middle += [("on_epoch_end", 0)]
    both = [(name, *event) for event in [("on_train_begin",), *middle] for name in "ab"]
    endings = [("b", "on_train_end"), ("a", "on_train_end"), ("b", "close"), ("a", "close")]
    assert events == both + endings


@pytest.mark.parametrize(("every_batch", "batches"), [(False, [3, 7, 9]), (True, list(range(10)))])
def test_batches_that_a_callback_sees(every_batch, batches):
    events = []
    recorder = ChunkRecorder("r", events)
    recorder.every_batch = every_batch
    members, _ = train(FakeModel(), recorder, [{"loss": 1.0}], batches=10, chunk=4)
    assert members.every_batch is every_batch
    assert [event[2] for event in events] == batches


def test_overriding_batch_begin_asks_for_every_batch():
    seen = []
    train(FakeModel(), LambdaCallback(on_train_batch_begin=lambda batch, logs: seen.append(batch)), [{}])
    assert seen == [0, 1, 2, 3, 4, 5]


def test_wants_tells_which_hooks_are_overridden():
    members = CallbackList([Callback(), LambdaCallback(on_epoch_end=print), EarlyStopping("loss")])
    assert {hook for hook in HOOKS if members.wants(hook)} == {
        "on_train_begin",
        "on_epoch_end",
        "on_train_end",
    }
    assert not any(CallbackList().wants(hook) for hook in HOOKS)


def test_members_get_model_and_params():
    model = FakeModel()
    callback = Callback()
    assert callback.model is None and callback.params == {}
    CallbackList([callback], model, {"epochs": 3, "steps": 2, "verbose": 0})
    assert callback.model is model
    assert callback.params == {"epochs": 3, "steps": 2, "verbose": 0}


def test_logs_are_shared_in_order():
    seen = {}
    callbacks = [
        LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(extra=7.0)),
        LambdaCallback(on_epoch_end=lambda epoch, logs: seen.update(logs)),
    ]
    _, record = train(FakeModel(), callbacks, [{"loss": 1.0}])
    assert seen == record[0] == {"loss": 1.0, "extra": 7.0}


def test_all_members_are_closed_after_an_error():
    events = []

    def fail(*arguments):
        raise RuntimeError("in the hook")

    class Failing(Callback):
        def close(self):
            raise OSError("in close")

    callbacks = [FullRecorder("a", events), Failing()]
    members = CallbackList(callbacks)
    with pytest.raises(OSError, match="in close"):
        members.close()
    assert events == [("a", "close")]
    events.clear()
    with pytest.raises(RuntimeError, match="in the hook"):
        train(FakeModel(), [FullRecorder("a", events), LambdaCallback(on_epoch_end=fail)], [{"loss": 1.0}])
    assert events[-1] == ("a", "close")
    assert ("a", "on_train_end") not in events


class Misspelt(Callback):
    def on_epoch_finish(self, epoch, logs=None):
        raise AssertionError


@pytest.mark.parametrize(
    ("callbacks", "error", "reason"),
    [
        (3, TypeError, "list of callbacks, got 3"),
        (["csv"], TypeError, r"callbacks\[0\].*got 'csv'"),
        ([Callback(), print], TypeError, r"callbacks\[1\]"),
        ([EarlyStopping], TypeError, r"class EarlyStopping; pass an object"),
        ([Misspelt()], TypeError, r"Misspelt.on_epoch_finish is never called; the hooks are on_train_begin"),
        ([_twice := Callback(), _twice], ValueError, "twice"),
    ],
)
def test_wrong_members_are_named(callbacks, error, reason):
    with pytest.raises(error, match=reason):
        CallbackList(callbacks)


@pytest.mark.parametrize(
    ("name", "larger"),
    [
        ("loss", False),
        ("val_loss", False),
        ("val_accuracy", True),
        ("top_k_categorical_accuracy", True),
        ("mean_squared_error", False),
        ("binary_cross_entropy", False),
        ("val_auc", True),
        ("auc_loss", False),
        ("r2_score", True),
        ("val_f1_score", True),
        ("log_cosh", False),
        ("perplexity", False),
        ("head_accuracy", True),
    ],
)
def test_direction_by_name(name, larger):
    assert Monitor("Test", name).larger is larger
    assert Monitor("Test", name, "min").larger is False
    assert Monitor("Test", name, "max").larger is True


def test_unknown_direction_asks_for_a_mode():
    with pytest.raises(ValueError, match=r"'widgets'.*pass mode='min' or 'max'"):
        EarlyStopping("widgets")
    EarlyStopping("widgets", mode="max")


@pytest.mark.parametrize("callback", [EarlyStopping(), ReduceLROnPlateau(), ModelCheckpoint("x", save_best_only=True)])
def test_missing_quantity_is_named_with_those_that_are_there(callback):
    with pytest.raises(ValueError, match=r"monitors 'val_loss'.*'loss', 'accuracy'; pass validation_data"):
        train(FakeModel(), callback, [{"loss": 1.0, "accuracy": 0.5}])


# patience, other arguments, values of the quantity; then: epochs trained, epoch whose weights remain
STOPPING = [
    (0, {}, [3, 2, 1, 1, 0], 4, 3),
    (1, {}, [3, 2, 2.5, 1, 2, 2, 2], 3, 2),
    (2, {}, [3, 2, 2.5, 2.4, 1], 4, 2),
    (2, {}, [3, 2, 1], 3, 3),
    (2, {"restore_best_weights": False}, [3, 2, 2.5, 2.4, 1], 4, 4),
    (1, {"min_delta": 0.5}, [3, 2.6, 2], 2, 1),
    (1, {"min_delta": -0.5}, [3, 2.6, 2], 2, 1),
    (2, {"start_from_epoch": 2}, [0, 0, 3, 2, 4, 4, 1], 6, 4),
    (2, {"baseline": 1.0}, [5, 4, 4, 0], 4, 4),
    (2, {"baseline": 1.0}, [5, 4, 4, 3, 4, 0], 5, 4),
    (2, {"baseline": 1.0}, [5, 4, 3, 2, 1.9, 1.95, 1.8], 7, 7),
    (2, {"baseline": 1.0}, [5, 6, 6, 0], 3, 1),
    (2, {"baseline": 1.0}, [5, 4, 3, 2, 0.5, 0.6, 0.4, 9, 9], 9, 7),
    (1, {"mode": "max"}, [1, 2, 2], 3, 2),
    (2, {}, [nan, nan, 1], 2, 2),
    (2, {}, [3, nan, 2, nan, nan], 5, 3),
    (1, {}, [inf, 5, inf], 3, 2),
]


@pytest.mark.parametrize(("patience", "options", "values", "epochs", "kept"), STOPPING)
def test_early_stopping(patience, options, values, epochs, kept):
    model = FakeModel()
    callback = EarlyStopping(patience=patience, **options)
    for _ in range(2):  # a second training starts again
        model.set_weights([np.zeros((2, 3)), np.zeros(3)])
        _, record = train(model, callback, series("val_loss", values))
        assert len(record) == epochs
        assert model.weights[0][0, 0] == kept
        assert callback.stopped_epoch == (epochs - 1 if model.stop_training else None)


def test_early_stopping_says_what_it_does(capsys):
    train(FakeModel(), EarlyStopping(verbose=1), series("val_loss", [1, 2]))
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 2: stopped, no better val_loss for 1 epochs",
        "Restored the weights of epoch 1, val_loss 1",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_resumed_training_ends_as_the_whole_one(seed, tmp_path):
    rng = np.random.default_rng(seed)
    logs = series("val_loss", rng.uniform(size=20).round(1).tolist())

    def callbacks(folder):
        return [
            EarlyStopping(patience=4),
            ReduceLROnPlateau(patience=1, cooldown=1),
            ModelCheckpoint(tmp_path / folder / "{epoch}", save_best_only=True),
            CSVLogger(tmp_path / folder / "log.csv"),
        ]

    whole = FakeModel()
    _, record = train(whole, callbacks("whole"), logs)

    parts = FakeModel()
    half = rng.integers(1, len(record) + 1)
    if half == len(record):
        half -= 1
    members, _ = train(parts, callbacks("parts"), logs, last=half)
    state, tensors = json.loads(json.dumps(members.get_state())), members.get_tensors()
    train(parts, callbacks("parts"), logs, first=half, state=state, tensors=tensors)

    np.testing.assert_equal(parts.weights, whole.weights)
    assert parts.optimizer.learning_rate == whole.optimizer.learning_rate
    files = [sorted((tmp_path / folder).iterdir()) for folder in ("whole", "parts")]
    assert [file.name for file in files[0]] == [file.name for file in files[1]]
    for first, second in zip(*files, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_state_of_other_callbacks_is_refused():
    state = CallbackList([EarlyStopping()]).get_state()
    with pytest.raises(ValueError, match=r"\['EarlyStopping'\].*\['TerminateOnNaN'\]"):
        CallbackList([TerminateOnNaN()]).set_state(state)
    with pytest.raises(ValueError, match="EarlyStopping lacks wait"):
        EarlyStopping().set_state({"best": 1.0, "best_epoch": 0, "stopped_epoch": None})


@pytest.mark.parametrize(
    ("options", "values", "rates"),
    [
        ({"patience": 2}, [1, 1, 1, 1, 1], [0.1, 0.1, 0.1, 0.01, 0.01]),
        ({"patience": 1, "factor": 0.5}, [1, 0.5, 0.5, 0.4, 0.5], [0.1, 0.1, 0.1, 0.05, 0.05]),
        ({"patience": 1, "min_delta": 0.2}, [1, 0.9, 0.7], [0.1, 0.1, 0.01]),
        ({"patience": 1, "cooldown": 2}, [1, 1, 1, 1, 1], [0.1, 0.1, 0.01, 0.01, 0.001]),
        ({"patience": 1, "min_lr": 0.02}, [1, 1, 1, 1], [0.1, 0.1, 0.02, 0.02]),
        ({"patience": 1, "mode": "max"}, [1, 2, 1], [0.1, 0.1, 0.1]),
        ({"patience": 1, "factor": 0.0}, [1, 1, 1], [0.1, 0.1, 0.0]),
    ],
)
def test_reduce_lr_on_plateau(options, values, rates):
    model = FakeModel()
    _, record = train(model, ReduceLROnPlateau(**options), series("val_loss", values))
    assert [logs["learning_rate"] for logs in record] == pytest.approx(rates)


def test_learning_rate_scheduler():
    model = FakeModel()
    _, record = train(model, LearningRateScheduler(lambda epoch, rate: rate / (epoch + 1)), [{}] * 3)
    assert [logs["learning_rate"] for logs in record] == pytest.approx([0.1, 0.05, 0.05 / 3])
    assert type(model.optimizer.learning_rate) is float


@pytest.mark.parametrize(
    ("answer", "error"), [(None, TypeError), ("x", TypeError), (nan, ValueError), (-1, ValueError)]
)
def test_scheduler_refuses_what_is_no_learning_rate(answer, error):
    with pytest.raises(error, match=r"result of schedule\(0, \.\.\.\): expected a"):
        train(FakeModel(), LearningRateScheduler(lambda epoch, rate: answer), [{}])


@pytest.mark.parametrize("callback", [ReduceLROnPlateau("loss"), LearningRateScheduler(lambda epoch, rate: rate)])
def test_learning_rate_callbacks_refuse_a_schedule(callback):
    with pytest.raises(ValueError, match="constant learning rate"):
        train(FakeModel(learning_rate=lambda step: 0.1), callback, [{"loss": 1.0}])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_checkpoint_of_every_epoch_with_fields(tmp_path):
    callback = ModelCheckpoint(tmp_path / "new" / "{epoch:02d}-{batch}-{val_loss:.2f}")
    train(FakeModel(), callback, series("val_loss", [1, 0.256]))
    assert names(tmp_path / "new") == ["01-6-1.00", "02-6-0.26"]
    assert (tmp_path / "new" / "02-6-0.26").read_text() == "2.0"
    assert callback.last_path == str(tmp_path / "new" / "02-6-0.26")


def test_checkpoint_of_the_best(tmp_path):
    model = FakeModel()
    callback = ModelCheckpoint(
        str(tmp_path / "{epoch}"), monitor="val_accuracy", save_best_only=True, initial_value_threshold=0.5
    )
    train(model, callback, series("val_accuracy", [0.4, 0.6, 0.6, nan, 0.7]))
    assert names(tmp_path) == ["2", "5"]
    train(model, callback, series("val_accuracy", [0.65, 0.8]))  # the best stays from training to training
    assert callback.best == 0.8
    assert [path[-2:] for path in model.saved] == ["/2", "/5", "/2"]


@pytest.mark.parametrize(
    ("frequency", "chunk", "expected"),
    [
        (1, 1, [(epoch, batch) for epoch in (1, 2) for batch in range(1, 7)]),
        (4, 1, [(1, 4), (2, 2), (2, 6)]),
        (4, 3, [(1, 6), (2, 3), (2, 6)]),
        (6, 6, [(1, 6), (2, 6)]),
        (100, 2, []),
    ],
)
def test_checkpoint_by_batches(tmp_path, frequency, chunk, expected):
    callback = ModelCheckpoint(tmp_path / "{epoch}-{batch}", save_freq=frequency)
    train(FakeModel(), callback, [{"loss": 1.0}] * 2, chunk=chunk)
    assert names(tmp_path) == sorted(f"{epoch}-{batch}" for epoch, batch in expected)


def test_checkpoint_names_missing_fields(tmp_path):
    with pytest.raises(ValueError, match="needs 'val_loss'; available are: loss, epoch, batch"):
        train(FakeModel(), ModelCheckpoint(tmp_path / "{val_loss}"), [{"loss": 1.0}])


def read_csv(path, delimiter=","):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter=delimiter))


def test_csv_logger(tmp_path):
    path = tmp_path / "new" / "log.csv"
    callback = CSVLogger(path, separator=";")
    for _ in range(2):  # the second training begins a new file
        train(FakeModel(), callback, [{"loss": 0.1, "accuracy": 1 / 3}, {"loss": nan, "accuracy": 1}])
    assert read_csv(path, ";") == [
        ["epoch", "loss", "accuracy"],
        ["0", "0.1", repr(1 / 3)],
        ["1", "nan", "1"],
    ]


def test_csv_logger_appends_and_adds_columns(tmp_path):
    path = tmp_path / "log.csv"
    train(FakeModel(), CSVLogger(path), [{"loss": 1.0}, {"loss": 2.0, "val_loss": 3.0}])
    train(FakeModel(), CSVLogger(path, append=True), [{"extra": 4.0, "loss": 5.0}])
    assert read_csv(path) == [
        ["epoch", "loss", "val_loss", "extra"],
        ["0", "1.0", "", ""],
        ["1", "2.0", "3.0", ""],
        ["0", "5.0", "", "4.0"],
    ]


def test_csv_rows_are_there_when_the_epoch_ends(tmp_path):
    path = tmp_path / "log.csv"
    lengths = []
    watcher = LambdaCallback(on_epoch_end=lambda epoch, logs: lengths.append(len(read_csv(path))))
    train(FakeModel(), [CSVLogger(path), watcher], [{"loss": 1.0}] * 3)
    assert lengths == [2, 3, 4]


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_terminate_on_nan(bad, capsys):
    seen = []
    callbacks = [TerminateOnNaN(), LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))]
    train(FakeModel(), callbacks, [{"loss": 1.0}, {"loss": bad}, {"loss": 1.0}])
    assert seen == [0, 1]
    assert capsys.readouterr().out == f"Batch 3: the loss is {bad}, training stops\n"


def test_lambda_callback_calls_its_functions():
    events = []
    hooks = {hook: lambda *arguments, hook=hook: events.append((hook, *arguments[:-1])) for hook in HOOKS}
    members = CallbackList(LambdaCallback(**hooks))
    for hook in HOOKS:
        counted = hook.startswith(("on_epoch", "on_train_batch"))
        getattr(members, hook)(*([5] if counted else []), {"loss": 1.0})
        assert events.pop() == ((hook, 5) if counted else (hook,))
    with pytest.raises(TypeError, match="on_train_end is a function, got 3"):
        LambdaCallback(on_train_end=3)


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda: EarlyStopping(3), TypeError, "monitor"),
        (lambda: EarlyStopping(mode="best"), ValueError, "mode is one of auto, min, max, got 'best'"),
        (lambda: EarlyStopping(patience=-1), ValueError, "patience: expected an integer >= 0, got -1"),
        (lambda: EarlyStopping(patience=1.5), TypeError, "patience: expected an integer, got 1.5"),
        (lambda: EarlyStopping(min_delta="a"), TypeError, "min_delta: expected a number, got 'a'"),
        (lambda: EarlyStopping(min_delta=nan), ValueError, "min_delta: expected a finite number"),
        (lambda: EarlyStopping(baseline=inf), ValueError, "baseline"),
        (lambda: ReduceLROnPlateau(factor=1.0), ValueError, "factor: expected a number >= 0 and < 1, got 1.0"),
        (lambda: ReduceLROnPlateau(factor=-0.1), ValueError, "factor: expected a number >= 0"),
        (lambda: ReduceLROnPlateau(cooldown=-1), ValueError, "cooldown"),
        (lambda: ReduceLROnPlateau(min_lr=-1), ValueError, "min_lr"),
        (lambda: LearningRateScheduler(0.1), TypeError, "schedule is a function"),
        (lambda: ModelCheckpoint(3), TypeError, "int"),
        (lambda: ModelCheckpoint("{epoch"), ValueError, "is not a format"),
        (lambda: ModelCheckpoint("{}"), ValueError, "need names"),
        (lambda: ModelCheckpoint("{0}"), ValueError, "need names"),
        (lambda: ModelCheckpoint("x", save_freq=0), ValueError, "expected an integer >= 1, got 0"),
        (lambda: ModelCheckpoint("x", save_freq="batch"), TypeError, "if not 'epoch': expected an integer"),
        (lambda: CSVLogger("x", separator=", "), ValueError, "one character"),
        (lambda: CSVLogger(3), TypeError, "int"),
    ],
)
def test_wrong_arguments_are_named(make, error, reason):
    with pytest.raises(error, match=reason):
        make()
