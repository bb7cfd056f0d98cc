"""The distinction of tables of samples and batches, and the contents of data frames."""

import array
import collections

import numpy as np
import pytest

import fastnn as fnn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4))
Y = X.sum(axis=1, keepdims=True)


def make(n=4, units=1, activation=None, loss="mse"):
    model = fnn.Sequential([fnn.Input(n), fnn.Dense(units, activation)], seed=0)
    model.compile("sgd", loss)
    return model


def same(one, other):
    return all((a == b).all() for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


# --- sequences ----------------------------------------------------------------------------------------------


class Numbers:
    """A sequence of three numbers that is not a list."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index >= 3:
            raise IndexError(index)
        return float(index)


SEQUENCES = {
    "deque": lambda: collections.deque([0.0, 1.0, 2.0]),
    "array": lambda: array.array("f", [0, 1, 2]),
    "range": lambda: range(3),
    "memoryview": lambda: memoryview(np.arange(3.0)),
    "bytes of an array": lambda: memoryview(array.array("i", [0, 1, 2])),
    "deque of scalars": lambda: collections.deque(np.arange(3.0)),
    "deque of lists": lambda: collections.deque([[0.0], [1.0], [2.0]]),
    "deque of samples": lambda: collections.deque(np.arange(3.0)[:, None]),
    "user list": lambda: collections.UserList([0, 1, 2]),
    "own class": Numbers,
}


@pytest.mark.parametrize("kind", SEQUENCES)
def test_sequences_of_numbers_are_data(kind):
    model = make(1)
    np.testing.assert_array_equal(model.predict(SEQUENCES[kind]()), model.predict([0.0, 1.0, 2.0]))
    other = make(1)
    model.fit(SEQUENCES[kind](), SEQUENCES[kind](), epochs=2, verbose=0)
    other.fit(np.arange(3.0), np.arange(3.0), epochs=2, verbose=0)
    assert same(model, other)
    assert model.evaluate(SEQUENCES[kind](), SEQUENCES[kind]()) == other.evaluate([0.0, 1.0, 2.0], [0.0, 1.0, 2.0])


def test_an_empty_sequence_has_no_rows():
    with pytest.raises(ValueError, match="at least one row"):
        make(1).predict(collections.deque())


def test_a_deque_of_samples_is_data_and_one_of_batches_is_batches():
    model = make()
    np.testing.assert_array_equal(model.predict(collections.deque(X)), model.predict(X))
    np.testing.assert_array_equal(model.predict(collections.deque([X[:20], X[20:]])), model.predict(X))
    images = fnn.Sequential([fnn.Input((2, 2)), fnn.Flatten(), fnn.Dense(1)], seed=0)
    square = X.reshape(-1, 2, 2)
    np.testing.assert_array_equal(images.predict(collections.deque(square)), images.predict(square))


# --- loaders ------------------------------------------------------------------------------------------------


class Loader:
    """Three batches; a function returns its length."""

    def __init__(self, length):
        self.length = length

    def __iter__(self):
        return (batch for batch in ([X[i : i + 8], Y[i : i + 8]] for i in (0, 8, 16)))

    def __len__(self):
        return self.length()


def _fails(error):
    raise error


LENGTHS = {
    "right": lambda: 3,
    "negative": lambda: -2,
    "too short": lambda: 1,
    "too long": lambda: 10,
    "zero": lambda: 0,
    "none": lambda: None,
    "TypeError": lambda: _fails(TypeError("unknown")),
    "NotImplementedError": lambda: _fails(NotImplementedError),
    "RuntimeError": lambda: _fails(RuntimeError("infinite")),
}


class Tensor:
    """The common interface of other libraries' arrays: `__array__` and a shape."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __array__(self, dtype=None, copy=None):
        return self.values


class Indexed:
    """A loader with only an index, as `keras.utils.PyDataset`."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index >= 3:
            raise IndexError(index)
        return X[8 * index : 8 * index + 8], Y[8 * index : 8 * index + 8]


@pytest.mark.parametrize("verbose", [0, 1, 2])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_length_of_a_loader_decides_nothing(length, verbose, capsys):
    model, other = make(), make()
    assert model.fit(Loader(LENGTHS[length]), epochs=2, verbose=verbose).epoch == [0, 1]
    for _ in range(2):
        for x, y in Loader(LENGTHS[length]):
            other.train_on_batch(x, y)
    assert same(model, other)
    assert model.evaluate(Loader(LENGTHS[length]))["loss"] == pytest.approx(model.evaluate(X, Y)["loss"])


@pytest.mark.parametrize(
    "loader",
    [
        Indexed(),
        [(X[i : i + 8], Y[i : i + 8]) for i in (0, 8, 16)],
        [[Tensor(X[i : i + 8]), Tensor(Y[i : i + 8])] for i in (0, 8, 16)],
        collections.deque([(X[i : i + 8], Y[i : i + 8]) for i in (0, 8, 16)]),
    ],
    ids=["by index", "list", "tensors", "deque"],
)
def test_loaders_of_all_kinds(loader):
    model, other = make(), make()
    model.fit(loader, epochs=2, validation_data=loader, verbose=0)
    other.fit(Loader(LENGTHS["right"]), epochs=2, verbose=0)
    assert same(model, other)
    assert model.evaluate(loader)["loss"] == pytest.approx(model.evaluate(X, Y)["loss"])


def test_predict_takes_the_inputs_of_batches_with_targets():
    model = make()
    np.testing.assert_array_equal(model.predict(Loader(LENGTHS["right"])), model.predict(X))
    np.testing.assert_array_equal(model.predict((X[i : i + 8],) for i in (0, 8, 16)), model.predict(X))
    np.testing.assert_array_equal(model.predict(iter([X[:8], X[8:]])), model.predict(X))


@pytest.mark.parametrize(
    "batch, words",
    [
        ({"x": X, "y": Y}, r"got a dict with the keys \['x', 'y'\]"),
        (X, "got a ndarray"),
        ((X,), "got a tuple of 1 value"),
        ((X, Y, Y, Y), "got a tuple of 4 values"),
        (None, "got a NoneType"),
        ((X, Y[:3]), "y: expected 24 rows"),
        ((X[0], Y[0]), "one sample is"),
    ],
)
@pytest.mark.parametrize("built", [True, False])
def test_what_a_batch_has_to_be(batch, words, built):
    model = make() if built else fnn.Sequential([fnn.Dense(1)])
    model.compile("sgd", "mse")
    if not built and words == "one sample is":
        words = "rows|shape"
    with pytest.raises(ValueError, match=f"batch 0: .*({words})"):
        model.fit(iter([batch]), verbose=0)


# --- a Sequential without an Input ----------------------------------------------------------------------------


def test_whatever_comes_first_builds_a_sequential():
    def bare():
        model = fnn.Sequential([fnn.Dense(3), fnn.Dense(1)], seed=0)
        model.compile("sgd", "mse")
        return model

    built = bare()
    built.build(4)
    for model, call in (
        (bare(), lambda m: m.predict(X)), (bare(), lambda m: m(X)), (bare(), lambda m: m.predict(iter([X[:8], X[8:]]))),
        (bare(), lambda m: m.evaluate(X, Y)), (bare(), lambda m: m.evaluate(Loader(LENGTHS["negative"]))),
        (bare(), lambda m: m.test_on_batch(X, Y)), (bare(), lambda m: m.predict_on_batch(X)),
        (bare(), lambda m: m.predict(X, steps=1)),
    ):  # fmt: skip
        call(model)
        assert same(model, built)
    np.testing.assert_array_equal(bare().predict(X), built.predict(X))
    generator = bare()
    generator.fit(((X[i : i + 8], Y[i : i + 8]) for i in (0, 8, 16)), verbose=0)
    built.fit(Loader(LENGTHS["right"]), verbose=0)
    assert same(generator, built)


def test_a_summary_before_the_shape_is_known(capsys):
    model = fnn.Sequential([fnn.Dense(3, name="hidden"), fnn.Dense(1)])
    model.summary()
    text = capsys.readouterr().out
    assert "hidden" in text and "?" in text and "not built" in text and not model.built
    model.predict(X)
    model.summary()
    assert "(None, 3)" in capsys.readouterr().out


# --- data frames ----------------------------------------------------------------------------------------------


def test_columns_of_one_name_are_several_features():
    pd = pytest.importorskip("pandas")
    for second in ([True, False] * 3, np.arange(6)):
        frame = pd.DataFrame({"age": np.arange(6.0), "n": second, "m": [False, True] * 3})
        frame.columns = ["age", "n", "n"]
        values = np.column_stack([np.arange(6.0), second, [False, True] * 3]).astype(float)
        model = make(3)
        np.testing.assert_array_equal(model.predict(frame), model.predict(values))
        unbuilt = fnn.Sequential([fnn.Dense(1)], seed=0)
        unbuilt.compile("sgd", "mse")
        unbuilt.fit(frame, np.zeros(6), verbose=0)
        assert unbuilt.get_weights()[0].shape == (3, 1)


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("kind", ["bool", "int", "float"])
def test_missing_values_are_nan(library, kind):
    frames = pytest.importorskip(library)
    values = {"bool": [True, None, False], "int": [1, None, 0], "float": [1.0, None, 0.0]}[kind]
    columns = [values]
    if library == "pandas":
        nullable = {"bool": "boolean", "int": "Int64", "float": "Float64"}[kind]
        columns.append(frames.array(values, nullable))
    model = make(2)
    expected = model.predict(np.array([[1.0, 1.0], [2.0, np.nan], [3.0, 0.0]]))
    for column in columns:
        np.testing.assert_array_equal(model.predict(frames.DataFrame({"a": [1, 2, 3], "b": column})), expected)
    single = make(1)
    series = frames.Series(columns[-1]) if library == "pandas" else frames.Series("b", values)
    np.testing.assert_array_equal(single.predict(series), single.predict(np.array([1.0, np.nan, 0.0])))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_that_hold_no_numbers_are_named(library):
    frames = pytest.importorskip(library)
    with pytest.raises(TypeError, match=r"the columns \['city'\] hold something else"):
        make(2).predict(frames.DataFrame({"a": [1, 2], "city": ["Ulm", "Bonn"]}))


# --- labels ---------------------------------------------------------------------------------------------------

TEXT = np.array(["no", "yes"] * 12)


@pytest.mark.parametrize(
    "y, recipe, words",
    [
        (np.tile([1, 2], 12), lambda y: y - 1, "y - 1"),
        (np.tile([1.0, 2.0], 12), lambda y: y - 1, "y - 1"),
        (np.tile([-1, 1], 12), lambda y: (y + 1) / 2, r"\(y \+ 1\) / 2"),
        (np.tile([0, 255], 12), lambda y: y == 255, "y == 255"),
        (TEXT, lambda y: np.unique(y, return_inverse=True)[1], r"numpy\.unique\(y, return_inverse=True\)"),
        (TEXT.astype(object), lambda y: np.unique(y, return_inverse=True)[1], r"numpy\.unique\("),
    ],
)
def test_labels_of_a_sigmoid_come_with_the_recipe_that_works(y, recipe, words):
    model, other = make(activation="sigmoid", loss="bce"), make(activation="sigmoid", loss="bce")
    with pytest.raises((ValueError, TypeError), match=words):
        model.fit(X, y, verbose=0)
    model.fit(X, recipe(y), verbose=0)
    other.fit(X, np.tile([0, 1], 12), verbose=0)
    assert same(model, other)


@pytest.mark.parametrize(
    "y, recipe, words",
    [
        (np.tile([1, 2], 12), lambda y: y - 1, "y - 1"),
        (np.tile([-1, 1], 12), lambda y: (y + 1) // 2, r"\(y \+ 1\) // 2"),
        (np.tile([10, 20], 12), lambda y: np.unique(y, return_inverse=True)[1], r"numpy\.unique\("),
        (TEXT.tolist(), lambda y: np.unique(y, return_inverse=True)[1], r"numpy\.unique\("),
    ],
)
def test_labels_of_a_softmax_come_with_the_recipe_that_works(y, recipe, words):
    model, other = (make(units=2, activation="softmax", loss="cross_entropy") for _ in range(2))
    with pytest.raises((ValueError, TypeError), match=words):
        model.fit(X, y, verbose=0)
    model.fit(X, recipe(y), verbose=0)
    other.fit(X, np.tile([0, 1], 12), verbose=0)
    assert same(model, other)


@pytest.mark.parametrize(
    "y, recipe, words",
    [
        (np.tile([0, 1], 12), lambda y: 2.0 * y - 1, r"2\.0 \* y - 1"),
        (np.tile([1, 2], 12), lambda y: 2.0 * y - 3, r"2\.0 \* y - 3"),
        (np.tile([3, 8], 12), lambda y: 2.0 * (y == 8) - 1, r"2\.0 \* \(y == 8\) - 1"),
    ],
)
def test_labels_of_signed_scores_come_with_the_recipe_that_works(y, recipe, words):
    model, other = make(loss="perceptron"), make(loss="perceptron")
    with pytest.raises(ValueError, match=words):
        model.fit(X, y, verbose=0)
    model.fit(X, recipe(y), verbose=0)
    other.fit(X, np.tile([-1, 1], 12), verbose=0)
    assert same(model, other)


def test_more_labels_than_outputs_are_counted():
    with pytest.raises(ValueError, match="for 3 classes use cross_entropy"):
        make(activation="sigmoid", loss="bce").fit(X, np.arange(24) % 3, verbose=0)
    with pytest.raises(ValueError, match="y has 5 different labels"):
        make(units=2, activation="softmax", loss="cross_entropy").fit(X, np.arange(24) % 5, verbose=0)


def test_categories_come_with_the_recipe_that_works():
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    expected = make(units=2, activation="softmax", loss="cross_entropy")
    expected.fit(X, np.tile([0, 1], 12), verbose=0)
    for y, recipe, words in (
        (pd.Series(pd.Categorical(TEXT)), lambda y: y.cat.codes, r"\.cat\.codes"),
        (pd.Categorical(TEXT), lambda y: y.codes, r"by \.codes"),
        (pl.Series(TEXT.tolist(), dtype=pl.Enum(sorted(set(TEXT)))), lambda y: y.to_physical(), r"\.to_physical\(\)"),
        (
            pl.Series(TEXT.tolist(), dtype=pl.Categorical),
            lambda y: np.unique(y, return_inverse=True)[1],
            r"numpy\.unique\(",
        ),
        (pd.Series(TEXT), lambda y: np.unique(y, return_inverse=True)[1], r"numpy\.unique\("),
    ):
        model = make(units=2, activation="softmax", loss="cross_entropy")
        with pytest.raises(TypeError, match=words):
            model.fit(X, y, verbose=0)
        model.fit(X, recipe(y), verbose=0)
        assert same(model, expected)
