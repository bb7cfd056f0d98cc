"""Training steps without the general path: its bits and errors, whatever happens to the model in between."""

import pickle

import numpy as np
import pytest

import fastnn as fnn
from networks import make_case

RNG = np.random.default_rng(6)


def network(seed=1, **options):
    return fnn.Sequential(
        [fnn.Input(6), fnn.Dense(9, activation="tanh"), fnn.BatchNorm(), fnn.Dense(4, activation="softmax")],
        seed=seed,
        **options,
    )


def steps(make, batches, quick):
    """Train on batches by `train_on_batch`; lists take the general path. Returns all logs and weights."""
    model = make()
    logs = [model.train_on_batch(x if quick else [x], y) for x, y in batches]
    return logs, [weight.tobytes() for weight in model.get_weights()], model


def classifier(**compiled):
    model = network()
    model.compile("adam", **{"loss": "cross_entropy", "metrics": ["accuracy"], **compiled})
    return model


def regressor(**compiled):
    model = fnn.Sequential([fnn.Input(6), fnn.Dropout(0.3), fnn.Dense(2, activation="tanh")], seed=1)
    model.compile(fnn.SGD(0.1, momentum=0.9), **{"loss": "mse", "metrics": ["mae", "r2"], **compiled})
    return model


def one_hot(labels):
    return np.eye(4)[labels]


@pytest.mark.parametrize("given", ["float32", "float64", "uint8", "bool"])
@pytest.mark.parametrize(
    "make, targets",
    [
        (classifier, lambda n: RNG.integers(0, 4, n)),
        (classifier, lambda n: RNG.integers(0, 4, (n, 1)).astype(np.uint8)),
        (classifier, lambda n: RNG.integers(0, 4, n).astype(np.int32)[::-1]),
        (classifier, lambda n: one_hot(RNG.integers(0, 4, n))),
        (lambda: classifier(loss="mse", metrics=["mae"]), lambda n: one_hot(RNG.integers(0, 4, n))),
        (regressor, lambda n: RNG.normal(size=(n, 2))),
        (regressor, lambda n: np.asfortranarray(RNG.normal(size=(n, 2)).astype(np.float32))),
        (lambda: regressor(metrics=None), lambda n: RNG.integers(-3, 3, (n, 2))),
        (lambda: regressor(loss="hinge", metrics=None), lambda n: 2 * RNG.integers(0, 2, (n, 2)) - 1),
        # finite, though their squares are not
        (lambda: regressor(metrics=None), lambda n: np.full((n, 2), 1e19, np.float32)),
    ],
)
def test_steps_are_those_of_the_general_path(make, targets, given):
    batches = [((5 * RNG.normal(size=(n, 6))).astype(given), targets(n)) for n in (8, 8, 3, 8, 3, 8)]
    quick, general_ = (steps(make, batches, quick=flag) for flag in (True, False))
    assert quick[:2] == general_[:2]
    assert quick[2].step == 6


def test_the_common_steps_are_quick():
    x = RNG.normal(size=(8, 6))
    for make, y in ((classifier, RNG.integers(0, 4, 8)), (regressor, RNG.normal(size=(8, 2)))):
        model = make()
        model.train_on_batch(x, y)
        model.train_on_batch(x, y)
        assert model._runtime.quick_step is not None and model._runtime.general_steps == 2
        model.train_on_batch(x[:3], y[:3])
        assert model._runtime.general_steps == 2


@pytest.mark.parametrize(
    "make, good, bad",
    [
        (classifier, np.array([0, 1, 2]), np.array([0, 4, 2])),
        (classifier, np.array([0, 1, 2]), np.array([0, 1, -1])),
        (regressor, np.zeros((3, 2)), np.array([[0, 0], [0, np.nan], [0, 0]])),
        (regressor, np.zeros((3, 2)), np.array([[0, 0], [0, -np.inf], [0, 0]])),
    ],
)
def test_bad_targets_are_refused_in_every_batch(make, good, bad):
    model, x = make(), RNG.normal(size=(3, 6))
    for _ in range(2):
        model.train_on_batch(x, good)
    before = [weight.tobytes() for weight in model.get_weights()]
    with pytest.raises(ValueError) as expected:
        model.train_on_batch([x], bad)
    with pytest.raises(ValueError) as got:
        model.train_on_batch(x, bad)
    assert str(got.value) == str(expected.value)
    assert before == [weight.tobytes() for weight in model.get_weights()] and model.step == 2


def test_bad_inputs_are_refused_in_every_batch():
    model, x, y = classifier(), RNG.normal(size=(3, 6)), np.array([0, 1, 2])
    for _ in range(2):
        model.train_on_batch(x, y)
    before = [weight.tobytes() for weight in model.get_weights()]
    bad = x.copy()
    bad[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"row 2 of the data holds NaN.*step 3\)"):
        model.train_on_batch(bad, y)
    assert before == [weight.tobytes() for weight in model.get_weights()] and model.step == 2
    assert np.isfinite(model.train_on_batch(x, y)["loss"])


def test_steps_follow_every_change_of_the_model():
    batches = [(RNG.normal(size=(8, 6)), RNG.integers(0, 4, 8)) for _ in range(3)]

    def train(quick):
        model, logs = classifier(), []

        def step():
            logs.extend(model.train_on_batch(x if quick else [x], y) for x, y in batches)

        step()
        model.layers[0].trainable = False
        step()
        model.layers[0].trainable = True
        model.optimizer.learning_rate = 0.5
        step()
        model.fit(*batches[0], epochs=2, batch_size=4, verbose=0)
        step()
        model.gradients(*batches[0])
        model.evaluate(*batches[1])
        model.predict(np.zeros((3000, 6)))
        step()
        model.set_weights([weight * 0.5 for weight in model.get_weights()])
        step()
        fnn.set_num_threads(2)
        step()
        fnn.set_num_threads(1)
        model.compile("sgd", "cross_entropy", metrics=["accuracy"])
        step()
        restored = pickle.loads(pickle.dumps(model))
        logs.append(restored.train_on_batch(*batches[0]))
        step()
        return logs, [weight.tobytes() for weight in model.get_weights()]

    assert train(quick=True) == train(quick=False)


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.filterwarnings("ignore:.*a training batch of one row:RuntimeWarning")
def test_random_networks(seed):
    case = make_case(seed, 2 + seed % 7)
    quick, other = case.model("float32", "adam"), case.model("float32", "adam")
    names = quick._architecture.input_names
    for n in (9, 9, 5, 1, 9, 7):
        x = [array[:n].astype(np.float32) for array in case.x]
        y = [array[:n].astype(np.float32) if array.dtype.kind == "f" else array[:n] for array in case.y]
        y = y if len(y) > 1 else y[0]
        got = quick.train_on_batch(x if len(x) > 1 else x[0], y)
        assert repr(got) == repr(other.train_on_batch(dict(zip(names, x, strict=True)), y))
        for one, two in zip(quick.get_weights(), other.get_weights(), strict=True):
            assert one.tobytes() == two.tobytes()
