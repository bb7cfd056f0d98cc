"""Resolution of `compile`'s arguments: kept names, thresholds and squashing for logits, unsuitable losses."""

import copy

import numpy as np
import pytest

import fastnn as fnn

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 3))
SCORE = X @ [1.0, -2.0, 0.5]
LABELS = (SCORE + RNG.standard_normal(200) > 0).astype(np.int64)


def exact_auc(y, score):
    """Count the pairs that are in order (ties half)."""
    positive, negative = score[y == 1], score[y == 0]
    return ((positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()).item()


def logits_model(loss, metrics):
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(1)], seed=0, dtype="float64")
    model.compile("sgd", loss, metrics=metrics)
    model.set_weights([np.array([[1.0], [-2.0], [0.5]]), np.array([0.1])])
    return model


def test_a_metric_is_reported_under_the_name_that_was_given():
    model = logits_model("mse", ["mae", "r2", fnn.metrics.R2Score()])
    assert list(model.evaluate(X, SCORE)) == ["loss", "mae", "r2", "r2_score"]
    history = model.fit(X, SCORE, epochs=1, validation_split=0.2, verbose=0).history
    assert {"mae", "val_mae", "r2"} <= set(history)


def test_names_survive_saving(tmp_path):
    model = logits_model("mse", ["mae"])
    model.save(tmp_path / "m")
    assert "mae" in fnn.load(tmp_path / "m").evaluate(X, SCORE)


@pytest.mark.parametrize("loss", [fnn.BinaryCrossEntropy(from_logits=True), "hinge"])
def test_metrics_of_signed_scores(loss):
    got = logits_model(loss, ["accuracy", "auc", "precision"]).evaluate(X, LABELS)
    score = SCORE + 0.1
    assert got["accuracy"] == pytest.approx(((score > 0) == LABELS).mean())
    assert got["precision"] == pytest.approx(LABELS[score > 0].mean())
    assert got["auc"] == pytest.approx(exact_auc(LABELS, score), abs=2e-3)


@pytest.mark.parametrize("loss", [fnn.BinaryCrossEntropy(from_logits=True), "hinge", "perceptron"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("accuracy", "Accuracy"), ("binary_accuracy", "BinaryAccuracy"), ("f1", "F1Score"), ("recall", "Recall"),
        ("precision", "Precision"),
    ],
)  # fmt: skip
def test_metric_objects_agree_with_their_names(loss, name, kind):
    metric = getattr(fnn.metrics, kind)
    model = logits_model(loss, [name, metric()])
    y = 2 * LABELS - 1 if loss == "perceptron" else LABELS
    by_name, as_object = list(model.evaluate(X, y).values())[1:]
    # its own arithmetic, at the threshold that scores of both signs mean
    assert by_name == as_object == pytest.approx(metric(threshold=0.0)(LABELS, SCORE + 0.1))
    model.compile("sgd", loss, metrics=[metric(threshold=1.0)])
    assert list(model.evaluate(X, y).values())[1] == pytest.approx(metric(threshold=1.0)(LABELS, SCORE + 0.1))


def test_margins_of_probabilities_are_cut_at_a_half():
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(1, "sigmoid")], dtype="float64")
    model.set_weights([np.array([[1.0], [-2.0], [0.5]]), np.array([0.1])])
    model.compile("sgd", "hinge", metrics=["accuracy", fnn.metrics.ConfusionMatrix(), "auc"])
    got = model.evaluate(X, LABELS)
    assert got["accuracy"] == pytest.approx(((SCORE + 0.1 > 0) == LABELS).mean())
    assert np.trace(got["confusion_matrix"]) == pytest.approx(200 * got["accuracy"])


def test_binary_accuracy_of_softmax_logits_is_that_of_the_softmax():
    weights, results = RNG.standard_normal((3, 4)), []
    y = np.eye(4)[(X @ weights).argmax(axis=1)]
    for activation in ("softmax", None):
        model = fnn.Sequential([fnn.Input(3), fnn.Dense(4, activation=activation)], dtype="float64")
        loss = fnn.CrossEntropy(from_logits=activation is None)
        model.compile("sgd", loss, metrics=["binary_accuracy", fnn.metrics.BinaryAccuracy()])
        model.set_weights([weights, np.zeros(4)])
        results.append(model.evaluate(X, y))
    assert results[0] == pytest.approx(results[1])


def test_thresholds_survive_saving(tmp_path):
    loss = fnn.BinaryCrossEntropy(from_logits=True)
    model = logits_model(loss, [fnn.metrics.Accuracy(), fnn.metrics.Precision(threshold=0.3)])
    model.save(tmp_path / "m")
    assert fnn.load(tmp_path / "m").evaluate(X, LABELS) == model.evaluate(X, LABELS)


def test_auc_of_many_logits_is_that_of_their_softmax():
    weights = RNG.standard_normal((3, 4))
    y = (X @ weights + RNG.standard_normal((200, 4))).argmax(axis=1)
    results = []
    for activation in ("softmax", None):
        model = fnn.Sequential([fnn.Input(3), fnn.Dense(4, activation=activation)], dtype="float64")
        model.compile("sgd", fnn.CrossEntropy(from_logits=activation is None), metrics=["auc"])
        model.set_weights([weights, np.zeros(4)])
        results.append(model.evaluate(X, y))
    assert results[0] == pytest.approx(results[1])


@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "tanh", "log_softmax"])
def test_cross_entropy_refuses_what_is_no_softmax(activation):
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(4, activation=activation), fnn.Reshape((2, 2))])
    with pytest.raises(ValueError, match=r"'reshape' ends in .*use activation='softmax' there, or CrossEntropy"):
        model.compile("sgd", "cross_entropy")


def test_logits_refuse_probabilities():
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(4, activation="softmax")])
    with pytest.raises(ValueError, match="takes logits, but the output 'dense' ends in softmax"):
        model.compile("sgd", fnn.CrossEntropy(from_logits=True))


def test_binary_cross_entropy_refuses_a_linear_output():
    model = fnn.Sequential([fnn.Dense(1)])
    model.compile("sgd", "bce")
    with pytest.raises(ValueError, match="BinaryCrossEntropy takes probabilities"):
        model.build((3,))


@pytest.mark.parametrize(
    "arguments", [("msee", None), ("mse", ["r22"]), (["mse", "msee"], None), ({"a": "msee"}, {"a": "mae"})]
)
def test_unknown_names_are_found_before_the_model_is_built(arguments):
    loss, metrics = arguments
    with pytest.raises(ValueError, match="did you mean"):
        fnn.Sequential([fnn.Dense(1)]).compile("sgd", loss, metrics=metrics)


def test_no_name_does_not_mean_all_layers():
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(2), fnn.Dense(1)])
    with pytest.raises(ValueError, match=r"names \['input', 'dense', 'dense_1'\]"):
        model.get_weights(None)
    assert [w.shape for w in model.get_weights(model.layers[1])] == [(2, 1), (1,)]
    assert [w.shape for w in model.get_weights(model.layers[1].name)] == [(2, 1), (1,)]


def test_a_model_takes_no_attribute_that_it_would_ignore():
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(2), fnn.Dense(1)])
    with pytest.raises(AttributeError, match="learning_rate"):
        model.learning_rate = 0.1
    model.trainable = False
    assert not any(layer.trainable for layer in model.layers)
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(X, SCORE, epochs=1, verbose=0)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_calls_as_in_keras():
    model = logits_model("mse", ["mae"])
    np.testing.assert_array_equal(model(X), model.predict(X, verbose=0))
    loss, mae = model.evaluate(X, SCORE, return_dict=False, verbose="auto")
    assert model.evaluate(X, SCORE) == {"loss": loss, "mae": mae}
    symbol = fnn.Input(X.shape[1])
    assert fnn.Model(symbol, model(symbol), dtype=model.dtype).count_params() == model.count_params()
    with pytest.raises(AttributeError, match=r"there is fastnn\.load"):
        _ = fnn.load_model
    assert model.evaluate(X, SCORE)["loss"] == loss


def test_a_training_step_gives_keras_list():
    model = logits_model("mse", ["mae"])
    model.compile(fnn.SGD(0.0), "mse", metrics=["mae"])
    assert model.train_on_batch(X, SCORE) == model.evaluate(X, SCORE)
    assert model.train_on_batch(X, SCORE, return_dict=False) == model.evaluate(X, SCORE, return_dict=False)
    model.compile(fnn.SGD(0.0), "mse")
    assert model.train_on_batch(X, SCORE, return_dict=False) == model.evaluate(X, SCORE)["loss"]


def test_copies_in_every_state_train_alike():
    x, y = np.ones((4, 3)), np.ones((4, 1))
    unbuilt = fnn.Sequential([fnn.Dense(1)], seed=3)
    compiled = fnn.Sequential([fnn.Input(3), fnn.Dense(1)], seed=3)
    compiled.compile(fnn.Adam(lambda step: 0.1 / (step + 1)), "mse")
    compiled.fit(x, y, epochs=2, verbose=0)
    for model in (unbuilt, compiled):
        twin = copy.deepcopy(model)
        if model is unbuilt:
            model.compile("sgd", "mse")
            twin.compile("sgd", "mse")
        for one in (model, twin):
            one.fit(x, y, verbose=0)
        np.testing.assert_array_equal(model.predict(x), twin.predict(x))


def test_an_iterator_is_refused_before_more_than_one_epoch():
    batches = [(X[:50], SCORE[:50]), (X[50:], SCORE[50:])]
    model = logits_model("mse", [])
    before = model.get_weights()
    with pytest.raises(ValueError, match="x: a generator gives its batches once, but there are 2 epochs"):
        model.fit((batch for batch in batches), epochs=2, verbose=0)
    with pytest.raises(ValueError, match="validation_data: a list_iterator gives its batches once"):
        model.fit(batches_of(batches), epochs=2, validation_data=iter(batches), verbose=0)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    model.fit((batch for batch in batches), validation_data=iter(batches), verbose=0)
    model.fit(batches_of(batches), epochs=2, validation_data=batches_of(batches), verbose=0)
    assert model.step == 6


def batches_of(batches):
    """Return batches as an iterable that can start again."""

    class Again:
        def __iter__(self):
            return iter(batches)

    return Again()


def test_loss_weights_may_be_numbers_of_numpy():
    x, y, losses = np.ones((4, 2)), np.zeros((4, 1)), []
    for weight in (1.0, np.float32(0.5), np.int64(3)):
        model = fnn.Sequential([fnn.Input(2), fnn.Dense(1)], seed=0)
        model.compile("sgd", "mse", loss_weights=weight)
        losses.append(model.evaluate(x, y)["loss"])
    assert losses == pytest.approx([losses[0], 0.5 * losses[0], 3.0 * losses[0]])
    for bad in (True, "1", np.nan):
        with pytest.raises((TypeError, ValueError), match="loss_weights"):
            model.compile("sgd", "mse", loss_weights=bad)
