"""`Classifier`, `Regressor` and `Transformer`: estimators around functions that build networks."""

import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification, make_multilabel_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn as fnn
import fastnn.sklearn as fsk

X, Y = make_classification(150, 6, n_informative=4, n_classes=3, random_state=0)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = X.astype("float32")
LABELS = np.array(["ash", "elm", "oak"])[Y]


def build(input_shape, n_outputs, units=8, seed=None):
    layers = [fnn.Input(input_shape), fnn.Dense(units, "relu"), fnn.Dense(n_outputs, "softmax")]
    return fnn.Sequential(layers, seed=seed)


def numbers(input_shape, n_outputs, seed):
    return fnn.Sequential([fnn.Input(input_shape), fnn.Dense(8, "tanh"), fnn.Dense(n_outputs)], seed=seed)


def sigmoid(input_shape, seed):
    return fnn.Sequential([fnn.Input(input_shape), fnn.Dense(1, "sigmoid")], seed=seed)


def logits(n_outputs, seed):
    model = fnn.Sequential([fnn.Dense(n_outputs)], seed=seed)
    model.compile(fnn.Adam(0.05), fnn.CrossEntropy(from_logits=True))
    return model


def images(input_shape, n_outputs, seed):
    layers = [
        fnn.Input(input_shape),
        fnn.Conv2D(4, 3, activation="relu"),
        fnn.GlobalAvgPool2D(),
        fnn.Dense(n_outputs, "softmax"),
    ]
    return fnn.Sequential(layers, seed=seed)


def test_a_classifier_of_labels():
    made = fsk.Classifier(build, epochs=40, optimizer=fnn.Adam(0.02), random_state=0).fit(X, LABELS)
    assert made.classes_.tolist() == ["ash", "elm", "oak"] and made.predict(X[:2]).dtype == LABELS.dtype
    assert made.score(X, LABELS) > 0.8 and len(made.history_["loss"]) == 40
    assert np.array_equal(made.predict_proba(X).argmax(axis=1), np.searchsorted(made.classes_, made.predict(X)))
    again = pickle.loads(pickle.dumps(made))
    assert np.array_equal(again.predict_proba(X), made.predict_proba(X))
    twin = clone(made).fit(X, LABELS)
    assert np.array_equal(twin.predict_proba(X), made.predict_proba(X))


@pytest.mark.parametrize("function", [sigmoid, logits])
def test_models_of_one_probability_and_of_logits(function):
    two = (X[:, 0] > 0).astype(bool)
    made = fsk.Classifier(function, epochs=60, optimizer=fnn.Adam(0.05), random_state=0).fit(X, two)
    proba = made.predict_proba(X)
    assert proba.shape == (150, 2) and np.allclose(proba.sum(axis=1), 1.0, atol=1e-6)
    assert made.predict(X).dtype == bool and made.score(X, two) > 0.9


def test_several_labels_images_and_frames():
    x, several = make_multilabel_classification(120, n_features=6, n_classes=4, random_state=0)

    def heads(input_shape, n_outputs):
        return fnn.Sequential([fnn.Input(input_shape), fnn.Dense(n_outputs, "sigmoid")], seed=0)

    made = fsk.Classifier(heads, epochs=2).fit(x, several)
    assert made.predict(x).shape == several.shape and set(np.unique(made.predict(x))) <= {0, 1}
    pixels, digit = load_digits(return_X_y=True)
    pictures = pixels[:200].reshape(-1, 8, 8, 1).astype("uint8")
    assert fsk.Classifier(images, epochs=1, random_state=0).fit(pictures, digit[:200]).predict(pictures).shape == (200,)
    frame = pytest.importorskip("pandas").DataFrame(X, columns=list("abcdef"))
    framed = fsk.Classifier(build, epochs=1, random_state=0).fit(frame, LABELS)
    assert framed.feature_names_in_.tolist() == list("abcdef")
    assert np.array_equal(framed.predict_proba(frame), framed.model_.predict(X))


def test_a_regressor():
    y = X[:, 0] - X[:, 1]
    made = fsk.Regressor(numbers, epochs=60, optimizer=fnn.Adam(0.02), random_state=0)
    assert made.fit(X, y).predict(X).shape == (150,) and made.score(X, y) > 0.9
    assert made.fit(X, np.stack([y, -y], axis=1)).predict(X).shape == (150, 2)
    assert cross_val_score(make_pipeline(StandardScaler(), made), X, y, cv=3).mean() > 0.7


def test_parameters_of_the_function():
    made = fsk.Classifier(build, model__units=5, epochs=2, random_state=0)
    assert made.get_params()["model__units"] == 5
    assert made.set_params(model__units=6, epochs=1).fit(X, Y).model_.layers[0].units == 6
    assert clone(made).get_params() == made.get_params()
    searched = fsk.GridSearchCV(made, {"model__units": [2, 16], "epochs": [1, 8]}, cv=2).fit(X, Y)
    assert searched.best_params_["model__units"] in (2, 16)
    with pytest.raises(ValueError, match=r"no parameters \['depth'\]; it has \['input_shape', 'n_outputs', 'units'"):
        fsk.Classifier(build, model__depth=2).fit(X, Y)
    with pytest.raises(TypeError, match="those of the model begin with model__"):
        fsk.Classifier(build, units=2)
    with pytest.raises(TypeError, match=r"returns a fastnn\.Model, got int"):
        fsk.Classifier(lambda: 1).fit(X, Y)
    with pytest.raises(ValueError, match="Unknown label type"):
        fsk.Classifier(build).fit(X, X[:, 0])


def test_trainings_go_on():
    made = fsk.Classifier(build, epochs=2, warm_start=True, random_state=0).fit(X, Y)
    first = made.model_
    assert made.fit(X, Y).model_ is first and len(made.history_["loss"]) == 4
    assert len(made.partial_fit(X, Y).history_["loss"]) == 5
    validated = fsk.Classifier(build, epochs=2).fit(X[:100], Y[:100], X_val=X[100:], y_val=Y[100:])
    assert len(validated.history_["val_loss"]) == 2
    with pytest.raises(ValueError, match="unseen labels"):
        made.partial_fit(X, Y + 1)


def test_hidden_activations_as_features():
    estimator = fsk.MLPClassifier((12, 5), max_iter=30, random_state=0)
    with sklearn.config_context(transform_output="pandas"):
        pytest.importorskip("pandas")
        frame = fsk.Transformer(estimator).set_output(transform="pandas").fit(X, Y).transform(X)
    assert frame.columns.tolist() == [f"hidden{n}" for n in range(5)]
    made = fsk.Transformer(estimator).fit(X, Y)
    w, b = made.estimator_.coefs_, made.estimator_.intercepts_
    hidden = np.maximum(np.maximum(X @ w[0] + b[0], 0.0) @ w[1] + b[1], 0.0)
    assert np.allclose(made.transform(X), hidden, atol=1e-5)
    assert fsk.Transformer(estimator, layer="dense").fit(X, Y).transform(X).shape == (150, 12)
    line = make_pipeline(fsk.Transformer(fsk.Classifier(build, epochs=5, random_state=0)), LogisticRegression())
    assert line.fit(X, Y).predict(X).shape == (150,)
    with pytest.raises(ValueError, match="no layer"):
        fsk.Transformer(estimator, layer="none").fit(X, Y)
