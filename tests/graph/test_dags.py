"""Random networks of all layers against a naive forward pass, finite differences and the reference backend."""

import os
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastnn as fnn
from fastnn.backend.reference.executor import ReferenceBackend
from fastnn.backend.reference.instruction import Counters
from fastnn.data.feed import Feed
from fastnn.graph.rules import NoGradientError
from fastnn.program.layout import Buffer, Counter
from fastnn.program.verify import verify
from fastnn.runtime import feeds
from networks import GROWING, KINKED, SMOOTH, Case, cases, forward, loss

# The same examples every time; FASTNN_RANDOM_TESTS=1000 tests that many new ones.
SEARCH = int(os.environ.get("FASTNN_RANDOM_TESTS", "0"))


def examples(count: int) -> settings:
    return settings(
        max_examples=SEARCH or count,
        derandomize=SEARCH == 0,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# not Lion: it takes the sign of gradients, which is that of a rounding error where they cancel
OPTIMIZERS = [
    fnn.SGD(0.1), fnn.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01), fnn.Adam(0.02, global_clipnorm=0.5),
    fnn.Adam(0.02, amsgrad=True, clipnorm=0.1), fnn.RMSprop(0.01, clipvalue=0.05), fnn.AdamW(0.02), fnn.AdaGrad(0.05),
    fnn.Nadam(0.02), fnn.Adadelta(1.0),
]  # fmt: skip


def inputs_of(case: Case) -> list[np.ndarray] | np.ndarray:
    """Data as `Model` takes them: a list only for several inputs or outputs."""
    return case.x if len(case.x) > 1 else case.x[0]


def call(function, model, case, **more):
    """Call a method with the case's targets and weights: a list only for several outputs."""
    y, weight = case.y, case.sample_weight
    if len(y) == 1:
        y, weight = y[0], None if weight is None else weight[0]
    return function(inputs_of(case), y, sample_weight=weight, **more)


def feed_of(model: fnn.Model, case: Case) -> Feed:
    return call(partial(feeds.feed, model._runtime), model, case, class_weight=None)


@examples(60)
@given(cases())
def test_predictions_and_losses_are_those_of_a_naive_forward_pass(case):
    model = case.model("float64")
    expected = forward(model, model.get_weights(), case.x, training=False)
    found = model.predict(inputs_of(case))
    for y, value in zip(expected, found if len(expected) > 1 else [found], strict=True):
        np.testing.assert_allclose(value, y, rtol=1e-9, atol=1e-11)
    value = loss(case, model, model.get_weights(), case.x, training=False)
    assert call(model.evaluate, model, case)["loss"] == pytest.approx(value, rel=1e-9, abs=1e-11)
    for batch_size in (1, 4):
        again = call(model.evaluate, model, case, batch_size=batch_size)["loss"]
        assert again == pytest.approx(value, rel=1e-9, abs=1e-11)


def slope(function, values: list[np.ndarray], number: int, direction: np.ndarray) -> list[float]:
    """Differentiate along a direction by central differences of two widths: a kink rarely disturbs both."""
    slopes = []
    for width in (1e-5, 3e-7):
        moved = [[value + sign * width * direction if index == number else value for index, value in
                  enumerate(values)] for sign in (1, -1)]  # fmt: skip
        slopes.append((function(moved[0]) - function(moved[1])) / (2 * width))
    return slopes


def close(found: float, slopes: list[float]) -> bool:
    return any(abs(found - value) <= 2e-6 + 2e-5 * abs(value) for value in slopes)


@examples(60)
@given(cases(), st.booleans())
def test_gradients_are_those_of_finite_differences(case, training):
    model = case.model("float64")
    weights = [value.copy() for value in model.get_weights()]
    try:
        gradients = call(model.gradients, model, case, training=training)
    except NoGradientError:
        pytest.fail("no layer here lacks a gradient")
    trained = [index for index, is_trained in enumerate(model._runtime.table.trained()) if is_trained]
    layers = {call.layer for call in reachable(model, case)}
    used = {index for index, entry in enumerate(model._runtime.table) if entry.layer in layers}
    rng = np.random.default_rng(2)
    assert len(gradients) == len(trained)
    for index, gradient in zip(trained, gradients, strict=True):
        if index not in used:
            assert not gradient.any()
            continue
        direction = rng.normal(size=gradient.shape)
        slopes = slope(lambda w: loss(case, model, w, case.x, training=training), weights, index, direction)
        name = model._runtime.table.entries[index].name
        assert close(float((gradient * direction).sum()), slopes), (name, slopes, (gradient * direction).sum())
    for value, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(value, before, "gradients changed the model")


def reachable(model: fnn.Model, case: Case):
    """Return the calls that a loss depends on."""
    calls = model._architecture.calls
    stack = [call for call, loss in zip(model._architecture.outputs, case.losses, strict=True) if loss is not None]
    found = set()
    while stack:
        number = stack.pop()
        if number not in found:
            found.add(number)
            stack.extend(calls[number].inputs)
    return [calls[number] for number in found]


@examples(30)
@given(cases(), st.booleans())
def test_input_gradients_are_those_of_finite_differences(case, training):
    model = case.model("float64")
    used = {index for index, call in enumerate(model._architecture.calls) if call in reachable(model, case)}
    if not used.issuperset(model._architecture.inputs):
        with pytest.raises(NoGradientError, match="no loss depends on the input"):
            call(model.input_gradients, model, case, training=training)
        return
    found = call(model.input_gradients, model, case, training=training)
    rng = np.random.default_rng(3)
    for index, gradient in enumerate(found if len(case.x) > 1 else [found]):
        direction = rng.normal(size=gradient.shape)
        slopes = slope(lambda x: loss(case, model, model.get_weights(), x, training=training), case.x, index, direction)
        assert close(float((gradient * direction).sum()), slopes)


def run_on_reference(model: fnn.Model, case: Case, steps: int) -> tuple[ReferenceBackend, np.ndarray]:
    """Take training steps on the whole data with the reference backend, from the model's state."""
    feed, runtime = feed_of(model, case), model._runtime
    request = feed.request("train", feed.n, training=True, trained=model._runtime.table.trained())
    program = runtime.program(request).program
    verify(program)
    arrays = {slot: rows.array for slot, rows in enumerate(feed.inputs)}
    first = len(feed.inputs)
    for output, target in enumerate(feed.targets):
        if target is not None:
            arrays[first + output] = target.rows.array
        if feed.weights[output] is not None:
            arrays[first + feed.n_outputs + output] = feed.weights[output].array
    counters = Counters(seed=int(runtime.training[Counter.SEED]), step=model.step)
    backend = ReferenceBackend(program, data=arrays, counters=counters)
    backend.buffer(Buffer.PARAMETERS)[:] = runtime.parameters.view(model.dtype)
    if len(runtime.optimizer_state):
        backend.buffer(Buffer.OPTIMIZER)[:] = runtime.optimizer_state.view(model.dtype)
    losses = []
    for step in range(steps):
        hyper = model.optimizer.hyper_rows(model.step + step, 1)
        backend.buffer(Buffer.HYPER)[:] = hyper.reshape(-1)
        backend.counters.cursor = backend.counters.chunk_step = 0
        totals = backend.buffer(Buffer.ACCUMULATORS)
        totals[:] = model._runtime.objective.initial()
        assert backend.run() == 1
        losses.append(model._runtime.objective.loss(totals, feed.n))
    return backend, np.array(losses)


@examples(60)
@given(cases(), st.sampled_from(OPTIMIZERS))
def test_training_steps_are_those_of_the_reference_backend(case, optimizer):
    steps = 3
    model = case.model("float64", optimizer)
    backend, expected = run_on_reference(model, case, steps)
    losses = [call(model.train_on_batch, model, case)["loss"] for _ in range(steps)]
    np.testing.assert_allclose(losses, expected, rtol=1e-7, atol=1e-9)
    parameters = backend.buffer(Buffer.PARAMETERS)
    for entry, value in zip(model._runtime.table, model.get_weights(), strict=True):
        start = entry.offset // 8
        reference = parameters[start : start + entry.size].reshape(value.shape)
        np.testing.assert_allclose(value, reference, rtol=1e-6, atol=1e-8, err_msg=entry.name)


@examples(40)
@given(cases(), st.sampled_from(OPTIMIZERS[:3]))
def test_float32_follows_float64(case, optimizer):
    curves = []
    for dtype in ("float32", "float64"):
        model = case.model(dtype, optimizer)
        curves.append([call(model.train_on_batch, model, case)["loss"] for _ in range(4)])
    np.testing.assert_allclose(*curves, rtol=2e-3, atol=2e-4)


@examples(25)
@given(cases())
def test_parts_do_not_change_a_bit(case):
    found = []
    for parts in (1, 3):
        fnn.set_num_threads(parts)
        try:
            model = case.model("float32", "adam")
            call(model.fit, model, case, batch_size=5, epochs=2, verbose=0)  # no batch of one row
        finally:
            fnn.set_num_threads(1)
        found.append(model.get_weights())
    for one, three in zip(*found, strict=True):
        np.testing.assert_array_equal(one, three)


@examples(25)
@given(cases())
def test_frozen_layers_do_not_change_and_trained_ones_do(case):
    model = case.model("float64", fnn.SGD(0.05))
    before = model.get_weights()
    call(model.train_on_batch, model, case)
    layers = model._architecture.layers
    for entry, old, new in zip(model._runtime.table, before, model.get_weights(), strict=True):
        if not layers[entry.layer].trainable:
            np.testing.assert_array_equal(old, new, entry.name)


@pytest.mark.parametrize("name", [*SMOOTH, *KINKED, *GROWING])
def test_every_activation_is_tried(name):
    assert name in fnn.activations.__dict__ or fnn.activations.get(name)


def test_the_lists_of_activations_are_complete():
    from fastnn.registry import REGISTRY

    known = {fnn.activations.get(name).formula for name in (*SMOOTH, *KINKED, *GROWING)}
    missing = {cls().formula for cls in REGISTRY["activation"].values() if not hasattr(cls, "is_custom")} - known
    assert missing == {"step"}


# --- data as it comes ---------------------------------------------------------------------------------------------


def layouts(x: np.ndarray, folder) -> dict[str, np.ndarray]:
    """Return the same values in other memory layouts and dtypes."""
    every_other = np.zeros([2 * size for size in x.shape], x.dtype)[(slice(None, None, 2),) * x.ndim]
    every_other[...] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    mapped = np.memmap(folder / "x.bin", x.dtype, "w+", shape=x.shape)
    mapped[:] = x
    padded = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
    found = {
        "fortran": np.asfortranarray(x),
        "strided": every_other,
        "reversed": np.flip(np.flip(x).copy()),
        "read-only": read_only,
        "memory-mapped": mapped,
        "byte-swapped": x.astype(x.dtype.newbyteorder()),
        "unaligned": padded,
        "list": x.tolist(),
    }
    for dtype in ("float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        found[dtype] = x.astype(dtype)
    found["longdouble"] = x.astype(np.longdouble)
    return found


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (2, 1, 3, 2)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_layouts_and_dtypes_of_the_same_data_give_the_same_bits(shape, shuffle, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (21, *shape)).astype(np.float32)
    y = rng.integers(0, 2, (21, 3)).astype(np.float32)
    weight = rng.integers(1, 4, 21).astype(np.float32)

    def train(x, y, weight):
        model = fnn.Sequential([fnn.Flatten(), fnn.Dense(4, "tanh"), fnn.Dropout(0.2), fnn.Dense(3)], seed=1)
        model.compile("adam", "mse")
        model.fit(x, y, batch_size=8, epochs=2, sample_weight=weight, shuffle=shuffle, verbose=0)
        return [*model.get_weights(), model.predict(x)]

    expected = train(x, y, weight)
    folders = [tmp_path / name for name in "xyw"]
    for folder in folders:
        folder.mkdir()
    changed = [layouts(array, folder) for array, folder in zip((x, y, weight), folders, strict=True)]
    for name in changed[0]:
        for found, value in zip(train(*(part[name] for part in changed)), expected, strict=True):
            np.testing.assert_array_equal(found, value, name)
    flags = train(x, y.astype(bool), weight)
    flags_strided = train(x, np.asfortranarray(y.astype(bool))[::-1][::-1], weight)
    for found, other, value in zip(flags, flags_strided, expected, strict=True):
        np.testing.assert_array_equal(found, value)
        np.testing.assert_array_equal(other, value)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint16", "uint32", "uint64"])
def test_labels_of_all_integer_dtypes_and_layouts_give_the_same_bits(dtype):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(17, 4)), rng.integers(0, 3, 17)
    wide = np.zeros((17, 5), dtype)
    wide[:, 2] = labels

    def train(y):
        model = fnn.Sequential([fnn.Dense(3, "softmax")], seed=1)
        model.compile("sgd", "cross_entropy", metrics=["accuracy"])
        model.fit(x, y, batch_size=5, epochs=1, verbose=0)
        return [*model.get_weights(), model.evaluate(x, y)["accuracy"]]

    expected = train(labels)
    for y in (labels.astype(dtype), wide[:, 2], wide[:, 2:3], labels[::-1].astype(dtype)[::-1]):
        for found, value in zip(train(y), expected, strict=True):
            np.testing.assert_array_equal(found, value)


def test_a_broadcast_row_is_read_with_stride_zero():
    row = np.arange(4.0)
    model = fnn.Sequential([fnn.Input(4), fnn.Dense(2)], seed=0)
    found = model.predict(np.broadcast_to(row, (300, 4)))
    np.testing.assert_array_equal(found, model.predict(np.tile(row, (300, 1))))


def test_a_model_may_return_its_input_and_the_same_tensor_twice():
    x = fnn.Input(3)
    h = fnn.Dense(2)(x)
    model = fnn.Model(x, [x, h, h], seed=0)
    data = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    same, first, second = model.predict(data)
    np.testing.assert_array_equal(same, data)
    np.testing.assert_array_equal(first, second)
    model.compile("sgd", [None, "mse", "mse"])
    before = model.get_weights()
    model.fit(data, [data, first + 1, second - 1], epochs=1, shuffle=False, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_allclose(old, new, atol=1e-6)  # the two gradients cancel


def test_everything_frozen_trains_nothing():
    x = fnn.Input(3)
    model = fnn.Model(x, fnn.Dense(2, trainable=False, kernel_regularizer="l2")(x), seed=0)
    model.compile("adam", "mse")
    before = model.get_weights()
    history = model.fit(np.ones((5, 3)), np.zeros((5, 2)), epochs=2, verbose=0)
    assert history.history["loss"][0] == history.history["loss"][1] > 0
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
