"""Model files that are damaged, wrong or malicious are refused."""

import copy
import random
import time
import tracemalloc

import numpy as np
import pytest

import fastnn as fnn
from fastnn.errors import ModelFileError
from fastnn.saving import container
from saved import X, Y

# --- malformed files ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[dict, dict]:
    """Return tensors and document of a file with everything: the state of two trainings, in the middle of an epoch."""
    folder = tmp_path_factory.mktemp("saved")
    callbacks = same_callbacks(folder)
    x = fnn.Input(4)
    h = fnn.Dense(6, "tanh", kernel_regularizer="l2", kernel_constraint=fnn.MaxNorm(3.0))(x)
    h = fnn.Add()([fnn.BatchNorm()(h), fnn.Dropout(0.2)(h)])
    h = fnn.Concatenate()([fnn.LayerNorm()(h), fnn.GaussianNoise(0.1)(x)])
    h = fnn.Flatten()(fnn.Reshape((2, -1))(h))
    model = fnn.Model(x, [fnn.Dense(3, "softmax")(h), fnn.Dense(2)(h)], seed=1)
    schedule = fnn.schedules.WarmUp(fnn.schedules.StepDecay(0.01, 4, 0.5), 3)
    model.compile(fnn.Adam(schedule, clipnorm=1.0), [fnn.CrossEntropy(label_smoothing=0.1), "huber"],
                  metrics=[["accuracy", "confusion_matrix"], ["r2"]], weighted_metrics=[["accuracy"], []])  # fmt: skip
    model.fit(X, [Y, X[:, :2]], batch_size=8, epochs=2, validation_split=0.2, callbacks=callbacks, verbose=0)
    return container.read(folder / "m")


def same_callbacks(folder) -> list[fnn.Callback]:
    return [fnn.EarlyStopping("val_loss", patience=5), fnn.LambdaCallback(every_batch=True),
            fnn.ModelCheckpoint(folder / "m", save_freq=3)]  # fmt: skip


def resume(model: fnn.Model, folder) -> None:
    model.fit(X, [Y, X[:, :2]], batch_size=8, epochs=3, validation_split=0.2, resume=True, verbose=0,
              callbacks=same_callbacks(folder))  # fmt: skip


def outcome(path) -> str:
    """Load a file; if it loads it has to work, otherwise the error has to say what is wrong."""
    try:
        model = fnn.load(path)
    except ModelFileError as error:
        assert repr(str(path)) in str(error)
        return "refused"
    try:
        shapes = model._architecture.input_shapes
        inputs = [np.zeros((3, *shape), np.float32) for shape in shapes] if np.prod(shapes[0]) < 1000 else X
        model.predict(inputs)
        model.evaluate(X, [Y, X[:, :2]])
        resume(model, path.parent)
    except (ValueError, TypeError, RuntimeError, RuntimeWarning):
        return "loaded, not fit for this"
    return "loaded"


JUNK = [None, True, False, -1, 0, 1, 3, 10**6, 10**12, -(10**12), 10**30, 2**63, 2**53, 1.5, -0.5, float("nan"),
        float("inf"), 1e308, "", "x", "nan", "Dense", "relu", "3", "é\0", [], {}, [[]], [None], {"class": "Dense"},
        {"class": "<callable>", "name": "f"}, {"class": "<float>", "value": "inf"}, [0, [0]], [1] * 40,
        {"a": 1}]  # fmt: skip


def places(value, found=()):
    """Return the paths of all values in a document."""
    yield found
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*found, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from places(value[index], (*found, index))


def mutate(document: dict, chance: random.Random) -> dict:
    """Replace one to three values of a document by junk, drop, repeat or swap them."""
    document = copy.deepcopy(document)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        paths = [path for path in places(document) if path]
        path = chance.choice(paths)
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        action = chance.random()
        if action < 0.6:
            parent[path[-1]] = copy.deepcopy(chance.choice(JUNK))
        elif action < 0.75:
            del parent[path[-1]]
        elif action < 0.85 and isinstance(parent, dict):
            parent[chance.choice(["class", "name", "extra", "units", "start"])] = copy.deepcopy(chance.choice(JUNK))
        elif isinstance(parent, list):
            parent.insert(chance.randrange(len(parent) + 1), copy.deepcopy(parent[path[-1]]))
        else:
            other = chance.choice(list(parent))
            parent[other], parent[path[-1]] = parent[path[-1]], parent[other]
    return document


def check_mutations(saved, tmp_path, count: int, seed: int) -> dict[str, int]:
    tensors, document = saved
    chance = random.Random(seed)
    path = tmp_path / "mutated"
    seen: dict[str, int] = {}
    for number in range(count):
        container.write(path, tensors, mutate(document, chance))
        begin = time.perf_counter()
        try:
            result = outcome(path)
        except BaseException as error:
            raise AssertionError(f"mutation {number} of seed {seed}: {error!r}") from error
        assert time.perf_counter() - begin < 5.0, f"mutation {number} took too long"
        seen[result] = seen.get(result, 0) + 1
    return seen


def test_mutated_documents_are_refused_or_harmless(saved, tmp_path):
    seen = check_mutations(saved, tmp_path, 400, seed=0)
    assert seen["refused"] > 200


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_many_mutated_documents(saved, tmp_path, seed):
    check_mutations(saved, tmp_path, 3000, seed)


def edit(document: dict, path: str, value) -> dict:
    document = copy.deepcopy(document)
    *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    target = document
    for key in parents:
        target = target[key]
    target[last] = value
    return document


HUGE = [
    ("architecture/layers/1/units", 10**12),
    ("architecture/layers/1/units", 2**62),
    ("architecture/layers/1/units", 10**30),
    ("architecture/layers/0/shape", [10**12]),
    ("architecture/layers/0/shape", [10**9, 10**9]),
    ("architecture/layers/0/shape", [10**4000] * 20),
    ("architecture/layers/0/shape", [1] * 10**5),
    ("architecture/layers/6/target_shape", [10**12, -1]),
    ("architecture/layers/6/target_shape", [1] * 10**5),
    ("architecture/calls", [[0, []]] + [[4, [0, 0]]] * 10**4),
    ("architecture/inputs", [0] * 10**5),
    ("architecture/outputs", [1] * 10**5),
    ("training/metrics/0/0", {"class": "AUC", "num_thresholds": 10**11}),
    ("training/metrics/1/0", {"class": "TopKAccuracy", "k": 10**18}),
    ("training/losses", [None] * 10**5),
    ("training/loss_weights", [1.0] * 10**5),
    ("training/position/step", 2**60),
    ("training/position/cursor", 10**9),
    ("training/position/epoch", 10**18),
    ("seed", "9" * 4000),
    ("training/history/epoch", list(range(10**5))),
]


@pytest.mark.parametrize(("path", "value"), HUGE, ids=[f"{path}-{index}" for index, (path, _) in enumerate(HUGE)])
def test_huge_claims_are_refused_without_being_allocated(saved, tmp_path, path, value):
    tensors, document = saved
    container.write(tmp_path / "m", tensors, edit(document, path, value))
    tracemalloc.start()
    begin = time.perf_counter()
    try:
        with pytest.raises(ModelFileError):
            fnn.load(tmp_path / "m")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6
    assert time.perf_counter() - begin < 5.0


WRONG = [
    ("model", "Perceptron"),
    ("model", ["Model"]),
    ("model", "Sequential"),
    ("name", 3),
    ("dtype", "float16"),
    ("dtype", None),
    ("dtype", {"a": 1}),
    ("seed", -1),
    ("seed", "-1"),
    ("seed", "1.5"),
    ("architecture", None),
    ("architecture/layers", {}),
    ("architecture/layers/1/class", "Convolution"),
    ("architecture/layers/1/class", "Adam"),
    ("architecture/layers/1/units", 0),
    ("architecture/layers/1/units", True),
    ("architecture/layers/1/units", "6"),
    ("architecture/layers/1/activation", {"class": "Step", "threshold": {"class": "<float>", "value": "nan"}}),
    ("architecture/layers/1/kernel_constraint/axis", 5),
    ("architecture/layers/2/name", "dense"),
    ("architecture/calls/1", [1, [2]]),
    ("architecture/calls/1", [1, [1]]),
    ("architecture/calls/1", [1, [-1]]),
    ("architecture/calls/1", [1, []]),
    ("architecture/calls/1", [-1, [0]]),
    ("architecture/calls/1", [100, [0]]),
    ("architecture/calls/1", [1, [0, 0]]),
    ("architecture/calls/1", [True, [0]]),
    ("architecture/calls/1", {"layer": 1}),
    ("architecture/calls/0", [0, [0]]),
    ("architecture/inputs", []),
    ("architecture/inputs", [1]),
    ("architecture/inputs", [0, 0]),
    ("architecture/inputs", ["0"]),
    ("architecture/outputs", []),
    ("architecture/outputs", [99]),
    ("training", 3),
    ("training", {}),
    ("training/optimizer", None),
    ("training/optimizer/class", "Dense"),
    ("training/optimizer/beta_1", 2.0),
    ("training/optimizer/clipvalue", 1.0),
    ("training/optimizer/learning_rate", "fast"),
    ("training/losses", []),
    ("training/losses", [None, None]),
    ("training/losses/0", {"class": "Accuracy"}),
    ("training/metrics", [[], [], []]),
    ("training/metrics", 3),
    ("training/metrics/0/0", "accuracy"),
    ("training/loss_weights", [1.0]),
    ("training/loss_weights", ["a", "b"]),
    ("training/position", {}),
    ("training/position", None),
    ("training/position/step", -1),
    ("training/position/first_step", 10**6),
    ("training/position/first_step", -1),
    ("training/position/step", 1.0),
    ("training/position/epoch", True),
    ("training/position/cursor", -8),
    ("training/run", None),
    ("training/run", [["start", 0], ["data", None]]),
    ("training/run", {"start": 0}),
    ("training/run/start", "0"),
    ("training/run/start", 5),
    ("training/run/data/rows", 0),
    ("training/run/data/rows", 3),
    ("training/run/data/batch_size", -1),
    ("training/run/data/shuffle", 1),
    ("training/run/data/lengths", True),
    ("training/run/trained", {"epoch": 0}),
    ("training/history", []),
    ("training/history", {"history": {"loss": [1.0]}, "epoch": [], "partial": None}),
    ("training/history", {"history": {"loss": ["x"]}, "epoch": [0], "partial": None}),
    ("training/history/partial", [1]),
    ("training/history/epoch", "0"),
    ("training/callbacks", {}),
    ("training/callbacks/0", None),
    ("training/callbacks/0/callback", 1),
    ("training/callbacks/0/state", []),
]


@pytest.mark.parametrize(("path", "value"), WRONG, ids=[f"{path}-{index}" for index, (path, _) in enumerate(WRONG)])
def test_wrong_documents_are_refused(saved, tmp_path, path, value):
    tensors, document = saved
    container.write(tmp_path / "m", tensors, edit(document, path, value))
    with pytest.raises(ModelFileError):
        fnn.load(tmp_path / "m")


def test_what_the_wrong_documents_start_from_is_right(saved, tmp_path):
    tensors, document = saved
    container.write(tmp_path / "m", tensors, document)
    assert outcome(tmp_path / "m") == "loaded"
    model = fnn.load(tmp_path / "m")
    resume(model, tmp_path)
    assert model.history.epoch == [0, 1, 2]


def wrong_tensors(tensors: dict[str, np.ndarray]):
    for name, value in tensors.items():
        if name.startswith("callbacks/"):
            continue
        yield name, {key: other for key, other in tensors.items() if key != name}
        yield name, {**tensors, name: value.reshape(*value.shape, 1)}
        yield name, {**tensors, name: value.reshape(-1)[:-1]}
        yield name, {**tensors, name: value.astype("float16")}
        yield name, {**tensors, name: value.astype("int32")}
        yield name, {**{key: other for key, other in tensors.items() if key != name}, name + "x": value}


def test_wrong_tensors_are_refused(saved, tmp_path):
    tensors, document = saved
    count = 0
    for name, others in wrong_tensors(tensors):
        container.write(tmp_path / "m", others, document)
        with pytest.raises(ModelFileError, match=name.replace("/", ".")):
            fnn.load(tmp_path / "m")
        count += 1
    assert count > 100


def test_damaged_bytes_are_refused(saved, tmp_path):
    tensors, document = saved
    container.write(tmp_path / "m", tensors, document)
    good = (tmp_path / "m").read_bytes()
    chance = random.Random(0)
    path = tmp_path / "damaged"
    for _ in range(150):
        damaged = bytearray(good)
        for _ in range(chance.choice([1, 1, 5])):
            damaged[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            fnn.load(path)
    for _ in range(50):
        path.write_bytes(good[: chance.randrange(len(good))])
        with pytest.raises(ModelFileError):
            fnn.load(path)
    for rubbish in (b"", b"\0" * 100, b"\xff" * 100, good + b"\0", good[1:], b"PK\x03\x04" + good):
        path.write_bytes(rubbish)
        with pytest.raises(ModelFileError):
            fnn.load(path)


def test_loading_takes_the_memory_of_the_model_alone(tmp_path):
    model = fnn.Sequential([fnn.Input(500), fnn.Dense(1000), fnn.Dense(1000)], seed=0)
    model.compile("adam", "mse")
    model.save(tmp_path / "m")
    size = (tmp_path / "m").stat().st_size
    tracemalloc.start()
    try:
        fnn.load(tmp_path / "m")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < peak < 1.2 * size


@pytest.mark.slow
def test_loading_takes_time_in_proportion_to_the_layers(tmp_path):
    seconds = []
    for count in (500, 4000):
        begin = time.process_time()
        model = fnn.Sequential([fnn.Input(2), *(fnn.Dense(2) for _ in range(count))], seed=0)
        model.compile("adam", "mse")
        model.save(tmp_path / "m")
        fnn.load(tmp_path / "m")
        seconds.append(time.process_time() - begin)
    # measured: 8 to 10; 64 if each layer were compared with all others
    assert seconds[1] < 20 * seconds[0]
