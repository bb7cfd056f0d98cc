"""Expectations of Keras users: names of classes and metrics, logs, arguments by position, optimizer state."""

import inspect

import numpy as np
import pytest

import fastnn as fnn

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 3))
SCORE = X @ [1.0, -2.0, 0.5]
LABELS = (SCORE + RNG.standard_normal(200) > 0).astype(np.int64)


def logits_model(loss, metrics):
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(1)], seed=0, dtype="float64")
    model.compile("sgd", loss, metrics=metrics)
    return model


KERAS_NAMES = {
    "BatchNormalization": "BatchNorm", "LayerNormalization": "LayerNorm", "RMSNormalization": "RMSNorm",
    "Adagrad": "AdaGrad",
    "BinaryCrossentropy": "BinaryCrossEntropy", "CategoricalCrossentropy": "CrossEntropy",
    "SparseCategoricalCrossentropy": "CrossEntropy",
}  # fmt: skip


@pytest.mark.parametrize("name", KERAS_NAMES)
def test_classes_by_keras_names(name):
    assert getattr(fnn, name) is getattr(fnn, KERAS_NAMES[name])
    where = [part for part in (fnn.layers, fnn.losses, fnn.optimizers) if hasattr(part, KERAS_NAMES[name])]
    assert [getattr(part, name) for part in where] == [getattr(fnn, name)]


@pytest.mark.parametrize("name", ["categorical_accuracy", "sparse_categorical_accuracy", "acc"])
def test_metrics_by_keras_names(name):
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(3, "softmax")], seed=0)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[name, fnn.metrics.Accuracy()])
    got = model.evaluate(X, LABELS)
    assert got[name] == got["accuracy"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: fnn.BatchNorm(1), lambda: fnn.LayerNorm(1), lambda: fnn.LambdaCallback(print),
        lambda: fnn.CrossEntropy(True, 1), lambda: fnn.metrics.BinaryAccuracy("name"),
        lambda: fnn.metrics.Accuracy(0.5),
        lambda: fnn.Dense(1, None, True, "zeros", "zeros", None, None, fnn.MaxNorm(1.0)),
    ],
)  # fmt: skip
def test_what_stands_elsewhere_in_keras_is_given_by_name(make):
    with pytest.raises(TypeError, match="positional argument"):
        make()


LOSSES_AS_METRICS = ["binary_crossentropy", "bce", "poisson", "log_cosh", "huber", "hinge", fnn.Huber(0.3), "kld"]


@pytest.mark.parametrize("metric", LOSSES_AS_METRICS, ids=str)
def test_losses_are_metrics(metric):
    loss = fnn.losses.get(metric)
    softmax = metric == "kld"
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(2, "softmax" if softmax else "sigmoid")], seed=0, dtype="float64")
    y = np.eye(2)[LABELS]
    weights = RNG.uniform(0.0, 2.0, 200)
    model.compile("sgd", "mse", metrics=[metric], weighted_metrics=[metric])
    got = model.evaluate(X, y, sample_weight=weights, batch_size=30)
    name = metric if isinstance(metric, str) else "huber"
    p = model.predict(X)
    assert got[name] == pytest.approx(loss(y, p))
    assert got[f"weighted_{name}"] == pytest.approx(loss(y, p, weights) * 200 / weights.sum())
    as_object = fnn.metrics.get(metric)
    assert as_object(y, p) == pytest.approx(loss(y, p))
    assert as_object(y, p, weights) == pytest.approx(got[f"weighted_{name}"])
    history = model.fit(X, y, validation_split=0.5, verbose=0).history
    assert {name, f"val_{name}"} <= set(history)


def test_losses_as_metrics_of_rows_within_samples():
    model = fnn.Sequential([fnn.Input((5, 3)), fnn.Dense(1)], seed=0, dtype="float64")
    x, y, weights = RNG.normal(size=(20, 5, 3)), RNG.normal(size=(20, 5, 1)), RNG.uniform(size=20)
    model.compile("sgd", "mse", weighted_metrics=["huber"])
    expected = fnn.Huber()(y, model.predict(x), weights) * 20 / weights.sum()
    assert model.evaluate(x, y, sample_weight=weights)["huber"] == pytest.approx(expected)
    assert fnn.metrics.get("huber")(y, model.predict(x), weights) == pytest.approx(expected)


def test_losses_as_metrics_take_logits_and_are_refused_as_losses_are(tmp_path):
    model = logits_model(fnn.BinaryCrossEntropy(from_logits=True), ["bce"])
    got = model.evaluate(X, LABELS)
    assert got["bce"] == pytest.approx(got["loss"])
    model.save(tmp_path / "m")
    assert fnn.load(tmp_path / "m").evaluate(X, LABELS) == got
    for name, kind in (("bce", "BinaryCrossEntropy"), ("poisson", "Poisson")):
        with pytest.raises(ValueError, match=f"{kind} takes"):
            logits_model("mse", [name])


def test_weighted_metrics_have_their_plain_names():
    model = logits_model("mse", [])
    weights = RNG.uniform(size=200)
    model.compile("sgd", "mse", metrics=["r2"], weighted_metrics=["mae", "r2"])
    got = model.evaluate(X, SCORE, sample_weight=weights)
    assert list(got) == ["loss", "r2", "mae", "weighted_r2"]
    assert got["weighted_mae"] == got["mae"] and got["weighted_r2"] != got["r2"]
    with pytest.raises(KeyError, match="weighted_mse"):
        _ = got["weighted_mse"]
    assert got["mae"] == pytest.approx(fnn.metrics.MeanAbsoluteError()(SCORE, model.predict(X), weights))


def two_outputs(first, second):
    a = fnn.Input(3)
    return fnn.Model(a, [fnn.Dense(1, name=first)(a), fnn.Dense(1, name=second)(a)], seed=0)


class Other(fnn.metrics.MeanSquaredError):
    """A metric of another name."""


def named(name):
    return type("Other", (Other,), {"name": name})()


@pytest.mark.parametrize(
    ("outputs", "options", "clash"),
    [
        (("pi", "val"), {}, "val_loss"), (("a", "loss"), {}, "loss"), (("a", "val_a"), {}, "val_a_loss"),
        (("a", "a_b"), {"metrics": {"a": [named("b_c")], "a_b": [named("c")]}}, "a_b_c"),
        (("a", "b"), {"metrics": {"a": [named("loss")]}}, "a_loss"),
        (("learning", "b"), {"metrics": {"learning": [named("rate")]}}, "learning_rate"),
    ],
)  # fmt: skip
def test_colliding_names_in_logs_are_refused(outputs, options, clash):
    model = two_outputs(*outputs)
    with pytest.raises(ValueError, match=f"'{clash}'"):
        model.compile("sgd", "mse", **options)
    two_outputs("a", "b").compile("sgd", "mse", metrics=["mae", "mae", fnn.metrics.R2Score()])


@pytest.mark.parametrize("name", ["loss", "epoch", "learning_rate", "val_loss"])
def test_metrics_of_names_that_logs_have_are_refused(name):
    with pytest.raises(ValueError, match=f"logs: '{name}' would be the name of"):
        logits_model("mse", [named(name)])


@pytest.mark.parametrize(
    "callback", [fnn.EarlyStopping(), fnn.ReduceLROnPlateau(), fnn.EarlyStopping("val_mae", mode="min")]
)
def test_what_is_not_measured_is_said_before_the_first_epoch(callback):
    model = logits_model("mse", ["mae"])
    before = model.get_weights()
    with pytest.raises(ValueError, match="pass validation_data or validation_split to fit"):
        model.fit(X, SCORE, verbose=0, callbacks=callback)
    assert model.step == 0
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    model.fit(X, SCORE, verbose=0, callbacks=callback, validation_split=0.1)
    # another callback may add it
    add = fnn.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update({callback.monitor: 1.0}))
    model.fit(X, SCORE, verbose=0, callbacks=[add, callback])


def test_a_schedule_may_take_the_epoch_alone():
    model = logits_model("mse", [])
    for schedule in (lambda epoch: 0.1 * 0.5**epoch, lambda epoch, *, floor=0.0: max(floor, 0.1 * 0.5**epoch)):
        callback = fnn.LearningRateScheduler(schedule)
        history = model.fit(X, SCORE, epochs=3, verbose=0, callbacks=callback)
        assert history.history["learning_rate"] == pytest.approx([0.1, 0.05, 0.025])
    halves = fnn.LearningRateScheduler(lambda epoch, rate=1.0: rate / 2)
    assert model.fit(X, SCORE, epochs=2, verbose=0, callbacks=halves).history["learning_rate"] == [0.0125, 0.00625]
    with pytest.raises(TypeError, match="of epoch and rate, or of the epoch"):
        fnn.LearningRateScheduler(lambda: 0.1)


@pytest.mark.parametrize("device", ["plain", "saved"])
def test_compiling_with_the_same_optimizer_keeps_its_state(device, tmp_path):
    """Three steps in a row give the same bits as with compile in between; with a new optimizer they do not."""

    def trained(again):
        model = logits_model("mse", [])
        schedule = fnn.schedules.ExponentialDecay(0.1, 2, 0.5)
        model.compile(fnn.Adam(schedule), "mse")
        for _ in range(3):
            model.train_on_batch(X, SCORE)
            if again == "save":
                model.save(tmp_path / "m")
                model = fnn.load(tmp_path / "m")
            if again:
                model.compile(fnn.Adam(schedule) if again == "new" else model.optimizer, "mse", metrics=["mae"])
        return model.get_weights()[0]

    whole = trained("")
    np.testing.assert_array_equal(trained("save" if device == "saved" else "same"), whole)
    assert (trained("new") != whole).any()


def test_unfreezing_keeps_moments_and_begins_those_of_the_others():
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(2, name="a"), fnn.Dense(1, name="b")], seed=0, dtype="float64")
    model.get_layer("a").trainable = False
    model.compile(fnn.Adam(0.1), "mse")
    model.train_on_batch(X, SCORE)
    state = model._runtime.optimizer_state.view("float64").copy()
    model.get_layer("a").trainable = True
    model.compile(model.optimizer, "mse")
    np.testing.assert_array_equal(model._runtime.optimizer_state.view("float64"), state)
    before = model.get_weights("a")[0]
    model.train_on_batch(X, SCORE)
    # Adam's second step with new moments: m / sqrt(v) is sign(g) (1 - beta_1) / sqrt(1 - beta_2)
    correction = np.sqrt(1 - 0.999**2) / (1 - 0.9**2)
    change = np.abs(model.get_weights("a")[0] - before)
    np.testing.assert_allclose(change, 0.1 * correction * 0.1 / np.sqrt(0.001), rtol=0.05)


def test_checkpoints_of_weights_only(tmp_path):
    model = logits_model("mse", [])
    model.compile("adam", "mse")
    each = [fnn.ModelCheckpoint(tmp_path / str(only), save_weights_only=only) for only in (False, True)]
    model.fit(X, SCORE, verbose=0, callbacks=each)
    whole, weights = fnn.load(tmp_path / "False"), fnn.load(tmp_path / "True")
    for loaded in (whole, weights):
        np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert whole.step == model.step and weights.step == 0
    with pytest.raises(RuntimeError, match="not compiled"):
        weights.evaluate(X, SCORE)
    with pytest.raises(TypeError, match="include_optimizer"):
        model.save(tmp_path / "m", include_optimizer="no")


def test_arguments_by_position_are_keras():
    """Every positional argument has the same position as in Keras."""
    order = {
        fnn.SGD: "learning_rate momentum nesterov",
        fnn.Adam: "learning_rate beta_1 beta_2 epsilon amsgrad",
        fnn.AdamW: "learning_rate weight_decay beta_1 beta_2 epsilon amsgrad",
        fnn.Nadam: "learning_rate beta_1 beta_2 epsilon",
        fnn.RMSprop: "learning_rate rho momentum epsilon centered",
        fnn.AdaGrad: "learning_rate initial_accumulator_value epsilon",
        fnn.Adadelta: "learning_rate rho epsilon",
        fnn.Lion: "learning_rate beta_1 beta_2",
        fnn.Dense: "units activation use_bias kernel_initializer bias_initializer kernel_regularizer bias_regularizer",
        fnn.RMSNorm: "", fnn.Permute: "dims", fnn.OneHot: "depth",
        fnn.Embedding: "input_dim output_dim embeddings_initializer embeddings_regularizer embeddings_constraint "
                       "mask_zero",
        fnn.SimpleRNN: "units activation use_bias kernel_initializer recurrent_initializer bias_initializer",
        fnn.GRU: "units activation recurrent_activation use_bias kernel_initializer recurrent_initializer "
                 "bias_initializer",
        fnn.LSTM: "units activation recurrent_activation use_bias kernel_initializer recurrent_initializer "
                  "bias_initializer",
        fnn.Normalization: "axis mean variance invert", fnn.CategoryEncoding: "num_tokens output_mode",
        fnn.Discretization: "bin_boundaries num_bins",
        fnn.IntegerLookup: "max_tokens num_oov_indices mask_token oov_token vocabulary",
        fnn.StringLookup: "max_tokens num_oov_indices mask_token oov_token vocabulary",
        fnn.Bidirectional: "layer merge_mode", fnn.TimeDistributed: "layer", fnn.Masking: "mask_value",
        fnn.PositionEmbedding: "sequence_length initializer", fnn.LoRA: "layer rank alpha targets", fnn.RNN: "cell",
        fnn.SinePositionEncoding: "max_wavelength", fnn.RotaryEmbedding: "max_wavelength scaling_factor",
        fnn.TransformerEncoder: "intermediate_dim num_heads dropout activation layer_norm_epsilon kernel_initializer "
                                "bias_initializer",
        fnn.TransformerDecoder: "intermediate_dim num_heads dropout activation layer_norm_epsilon kernel_initializer "
                                "bias_initializer",
        fnn.Dot: "axes normalize", fnn.Cropping1D: "cropping",
        fnn.Dropout: "rate", fnn.GaussianNoise: "stddev", fnn.Reshape: "target_shape", fnn.Activation: "activation",
        fnn.BatchNorm: "", fnn.LayerNorm: "", fnn.Flatten: "", fnn.Concatenate: "", fnn.Add: "", fnn.Multiply: "",
        fnn.CrossEntropy: "from_logits", fnn.BinaryCrossEntropy: "from_logits label_smoothing", fnn.Huber: "delta",
        fnn.KLDivergence: "", fnn.Poisson: "", fnn.Hinge: "", fnn.LogCosh: "", fnn.MeanSquaredError: "",
        fnn.metrics.Accuracy: "", fnn.metrics.BinaryAccuracy: "", fnn.metrics.TopKAccuracy: "k",
        fnn.metrics.AUC: "num_thresholds", fnn.L1: "l1", fnn.L2: "l2", fnn.L1L2: "l1 l2",
        fnn.MaxNorm: "max_value axis", fnn.activations.LeakyReLU: "negative_slope", fnn.activations.ELU: "alpha",
        fnn.EarlyStopping: "monitor", fnn.ModelCheckpoint: "filepath", fnn.LambdaCallback: "",
        fnn.LearningRateScheduler: "schedule verbose", fnn.CSVLogger: "filename separator append",
        fnn.ReduceLROnPlateau: "monitor factor patience verbose mode min_delta cooldown min_lr",
        fnn.schedules.ExponentialDecay: "initial_learning_rate decay_steps decay_rate staircase",
    }  # fmt: skip
    for cls, names in order.items():
        parameters = inspect.signature(cls).parameters.values()
        given = [one.name for one in parameters if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        assert given == names.split(), cls.__name__
