"""`fastnn.data.frame`: what becomes of columns, of gaps, of new rows, and what is said about it."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fnn
from fastnn.data import frame

NAN = np.nan
RNG = np.random.default_rng(5)
N = 60


def customers(rows=N, seed=1):
    """Return a table with everything in it."""
    rng = np.random.default_rng(seed)
    age = rng.normal(45.0, 12.0, rows)
    age[rng.random(rows) < 0.1] = NAN
    city = rng.choice(["Oslo", "Rome", "Bergen", "Turin"], rows, p=[0.5, 0.3, 0.15, 0.05]).astype(object)
    city[rng.random(rows) < 0.1] = None
    return pd.DataFrame({
        "age": age,
        "city": city,
        "member": rng.random(rows) < 0.3,
        "shop": [f"{number} street" for number in rng.integers(0, 30, rows)],
        "since": pd.Timestamp("2022-12-24") + pd.to_timedelta(rng.integers(0, 500, rows), unit="D"),
        "id": [f"customer {row}" for row in range(rows)],
        "one": 1,
        "years": age,
        "bought": np.where(np.nan_to_num(age) > 40, "yes", "no"),
    })  # fmt: skip


def only(column, **options):
    """Return the numbers of a table of one column, and their names."""
    table = frame({"c": column}, **options)
    return table.x, table.features


def column_of(table, name):
    return next(column for column in table.preparation.columns if column.name == name)


def test_numbers_are_standardised_and_gaps_filled():
    x, names = only([1.0, 2.0, 6.0, None])
    assert names == ("c", "c is missing") and x.dtype == np.float32
    mean, deviation = 3.0, np.std([1.0, 2.0, 6.0])
    np.testing.assert_allclose(x[:, 0], (np.array([1.0, 2.0, 6.0, 2.0]) - mean) / deviation, rtol=1e-6)
    np.testing.assert_array_equal(x[:, 1], [0, 0, 0, 1])
    x, _ = only([1.0, 2.0, 6.0, None], missing="mean")
    assert x[3, 0] == 0.0
    x, names = only([1.0, 2.0, 6.0], scale="none")
    np.testing.assert_array_equal(x, [[1.0], [2.0], [6.0]])
    assert names == ("c",)


def test_other_scales():
    values = RNG.lognormal(0.0, 2.0, 500)
    x, _ = only(values, scale="robust")
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(x[:, 0], (values - middle) / (high - low) * 1.3489795, rtol=1e-6)
    x, _ = only(values, scale="quantile")
    assert np.abs(x).max() <= np.float32(np.sqrt(3.0))
    np.testing.assert_array_equal(np.argsort(x[:, 0], kind="stable"), np.argsort(values, kind="stable"))
    np.testing.assert_allclose([x.mean(), x.std()], [0.0, 1.0], atol=0.02)
    # most values are one: quartiles do not tell them apart
    x, _ = only([0.0] * 10 + [1.0, 5.0], scale="robust")
    assert np.isfinite(x).all() and np.ptp(x) > 1


@pytest.mark.parametrize("scale", ["standard", "robust", "quantile"])
@pytest.mark.parametrize("values", [[1e308, -1e308, 1e308, 0.0], [5e-324, 0.0, 1e-320], [1e16, 1e16 + 2.0, 1e16]])
def test_numbers_of_any_size(scale, values):
    table = frame({"c": values}, scale=scale)
    assert np.isfinite(table.x).all() and np.ptp(table.x) > 0
    far = table.transform({"c": [1.7e308, -1.7e308]}).x
    assert np.isfinite(far).all()


def test_infinite_numbers_count_as_missing():
    table = frame({"c": [1.0, np.inf, -np.inf, 3.0]})
    np.testing.assert_array_equal(table.x[:, 1], [0, 1, 1, 0])
    assert "2 infinite, taken as missing" in repr(table)


def test_bools_become_0_and_1():
    x, names = only([True, False, None, True])
    np.testing.assert_array_equal(x, [[1, 0], [0, 0], [1, 1], [1, 0]])
    assert names == ("c", "c is missing")


def test_few_levels_become_columns():
    x, names = only(["b", "a", None, "b", "a", "x"], min_count=2)
    assert names == ("c = other", "c = a", "c = b", "c = missing")
    np.testing.assert_array_equal(x, np.eye(4)[[2, 1, 3, 2, 1, 0]])
    x, names = only(["b", "a", "b", "a"], min_count=1)
    assert names == ("c = a", "c = b")
    np.testing.assert_array_equal(x, np.eye(2)[[1, 0, 1, 0]])


def test_many_levels_become_integers():
    column = [*"aabbccdde", None]
    table = frame({"c": column, "n": np.arange(10.0)}, min_count=2, embed_over=4)
    numbers, index = table.x
    assert numbers.shape == (10, 1) and index.dtype == np.int64
    # 0 is for other levels
    np.testing.assert_array_equal(index, [1, 1, 2, 2, 3, 3, 4, 4, 0, 5])
    assert column_of(table, "c").rows == 6
    np.testing.assert_array_equal(table.transform({"c": ["d", "zzz", None], "n": [1, 2, 3]}).x[1], [4, 0, 5])
    assert frame({"c": column}, min_count=2, embed_over=4).x.dtype == np.int64


def test_dates_become_days_and_circles():
    times = [dt.datetime(2023, 1, 1, 6), dt.datetime(2024, 2, 29, 18), dt.datetime(2024, 12, 31, 0), None]
    x, names = only(times)
    assert names == (
        "c: days", "c: time of year, sine", "c: time of year, cosine", "c: day of week, sine", "c: day of week, cosine",
        "c: time of day, sine", "c: time of day, cosine", "c is missing",
    )  # fmt: skip
    for row, time in enumerate([*times[:3], times[1]]):
        days = (time - times[0]).total_seconds() / 86400
        length = 366 if time.year == 2024 else 365
        turns = [(time.timetuple().tm_yday - 1) / length, time.weekday() / 7, time.hour / 24]
        expected = [f(2 * np.pi * turn) for turn in turns for f in (np.sin, np.cos)]
        np.testing.assert_allclose(x[row, 1:7], expected, atol=1e-6)
        all_days = np.array([(each - times[0]).total_seconds() / 86400 for each in times[:3]])
        np.testing.assert_allclose(x[row, 0], (days - all_days.mean()) / all_days.std(), atol=1e-6)
    np.testing.assert_array_equal(x[:, 7], [0, 0, 0, 1])
    # what does not vary is left out
    _, names = only([dt.date(2024, 5, 6), dt.date(2024, 5, 13)])
    assert names == ("c: days",)


def test_columns_that_say_nothing_are_dropped():
    table = frame({
        "number": [1.0, 2.0, 4.0], "same": [1.0, 2.0, 4.0], "empty": [None] * 3, "constant": ["x"] * 3, "one": [7] * 3,
        "name": ["anna", "bert", "carl"], "list": [[1], [2], [3]], "rare": ["p", "p", "q"], "asked": [3.0, 2.0, 2.0],
        "text": ["1", "2", "4"],
    }, kinds={"asked": "drop"})  # fmt: skip
    reasons = {column.name: column.reason for column in table.preparation.columns if hasattr(column, "reason")}
    assert reasons == {
        "same": "the same as 'number'", "empty": "no values", "constant": "constant", "one": "constant",
        "name": "every value is different", "list": "holds values of type list", "rare": "no level occurs 5 times",
        "asked": "as asked for", "text": "the same as 'number'",
    }  # fmt: skip
    assert table.features == ("number",)


def test_a_constant_with_gaps_says_where_they_are():
    for column in ([3.0, None, 3.0], [True, None, True], [dt.date(2024, 1, 1), None, dt.date(2024, 1, 1)]):
        x, names = only(column)
        assert names == ("c is missing",)
        np.testing.assert_array_equal(x, [[0], [1], [0]])
    x, names = only(["a", None, "a"], min_count=1)
    assert names == ("c = a", "c = missing")


def test_kinds_can_be_said():
    table = frame({"code": [3, 3, 10, 10], "day": ["2024-01-01", "2024-01-05"] * 2, 5: [0, 1, 1, 0]}, min_count=1,
                  kinds={"code": "category", "day": "category", 5: "bool"})  # fmt: skip
    assert table.features == ("code = 10", "code = 3", "day = 2024-01-01", "day = 2024-01-05", "5")
    np.testing.assert_array_equal(table.transform({"code": ["10"], "day": [dt.date(2024, 1, 1)], "5": [True]}).x,
                                  [[1, 0, 0, 0, 1]])  # fmt: skip


@pytest.mark.parametrize(
    ("column", "names", "labels"),
    [
        (["b", "a", "b"], ("a", "b"), [1, 0, 1]),
        ([True, False, True], (False, True), [1, 0, 1]),
        (pd.Series(pd.Categorical(["u", "v", "u"])), ("u", "v"), [0, 1, 0]),
    ],
)
def test_classes(column, names, labels):
    table = frame({"x": [1.0, 2.0, 3.0], "y": column}, "y")
    assert table.names == names and table.y.dtype == np.int64
    np.testing.assert_array_equal(table.y, labels)
    assert table.preparation.decode(np.eye(2)[labels]).tolist() == [names[label] for label in labels]
    assert table.preparation.decode(table.y).tolist() == [names[label] for label in labels]
    assert table.preparation.decode(np.array([[0.2], [0.9]])).tolist() == list(names)


def test_numbers_as_classes():
    table = frame({"x": [1.0, 2.0, 3.0], "y": [30, 10, 30]}, "y", classes=True)
    assert table.names == (10, 30) and type(table.names[0]) is int
    np.testing.assert_array_equal(table.y, [1, 0, 1])
    np.testing.assert_array_equal(table.transform({"x": [0], "y": ["10"]}).y, [0])
    with pytest.raises(ValueError, match=r"target 'y': row 1 has the class 11\.0, not one of \(10, 30\)"):
        table.transform({"x": [0, 0], "y": [10, 11]})


def test_numbers_to_learn():
    given = {"x": [1.0, 2.0, 3.0], "y": [10.0, 20.0, 60.0]}
    plain, scaled = frame(given, "y"), frame(given, "y", scale_target=True)
    assert plain.y.dtype == np.float32 and plain.names == ()
    np.testing.assert_array_equal(plain.y, given["y"])
    np.testing.assert_allclose([scaled.y.mean(), scaled.y.std()], [0.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(scaled.preparation.decode(scaled.y[:, None]), given["y"], rtol=1e-6)
    assert frame({"x": [1.0, 2.0], "y": ["3", "4"]}, "y").y.tolist() == [3.0, 4.0]


def test_rows_without_a_target_are_left_out():
    table = frame({"x": [1.0, 9.0, 3.0], "y": ["a", None, "b"]}, "y")
    assert len(table) == 2 and table.x.shape == (2, 1) and table.index.tolist() == [0, 2]
    assert table.notes == ["1 rows without 'y' are left out"] and "note: 1 rows" in repr(table)
    assert abs(table.x.mean()) < 1e-6  # 9.0 has no influence
    other = table.transform({"x": [1.0, 2.0], "y": [None, "a"]})
    assert len(other) == 1 and other.index.tolist() == [1]
    assert table.transform({"x": [1.0]}).y is None
    assert table.transform({"x": [1.0], "y": [None]}).y is None


def test_new_rows_are_prepared_in_the_same_way():
    df = customers()
    table = frame(df, "bought", embed_over=10, min_count=2)
    again = table.transform(df[df.columns[::-1]])
    for one, other in zip(table.x, again.x, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(table.y, again.y)
    assert [note.partition(":")[0] for note in again.notes] == ["shop"]  # of rare levels
    for row in range(0, N, 7):  # of whatever rows there are besides
        for whole, part in zip(table.x, table.transform(df.iloc[row : row + 1]).x, strict=True):
            np.testing.assert_array_equal(part[0], whole[row])


def test_polars_and_dicts_are_prepared_as_pandas_are():
    df = customers()
    columns = df.astype(object).where(df.notna(), None).to_dict("list")
    tables = [frame(each, "bought") for each in (df, pl.from_dict(columns), columns)]
    for other in tables[1:]:
        assert other.preparation == tables[0].preparation
        for one, two in zip(tables[0].x, other.x, strict=True):
            np.testing.assert_array_equal(one, two)


def test_what_is_new_is_said():
    df = customers(200)
    table = frame(df, "bought", min_count=20)
    new = df.iloc[:6].assign(city=["Paris", "Rome", "Paris", "Kyiv", None, "Oslo"], member=[True, None] * 3)
    made = table.transform(new.drop(columns=["bought", "id", "one", "years"]).assign(more=3))
    assert (
        made.notes
        == [
            "city: 3 values of levels that were not learnt ('Kyiv', 'Paris') count as other",
            "member: 3 missing, of which there were none where it was learnt",
            f"shop: {len(new)} values of levels that were not learnt "
            f"({', '.join(map(repr, sorted(set(new.shop))[:5]))}, ...) count as other",
        ]
        or len(made.notes) == 2
    )
    assert made.y is None
    few = frame({"c": ["a", "b"] * 5})
    unknown = few.transform({"c": ["z"]})
    assert unknown.notes == ["c: 1 values of levels that were not learnt ('z') are zeros"]
    np.testing.assert_array_equal(unknown.x, [[0, 0]])


def test_split_learns_from_the_first_part_alone():
    df = customers(100)
    table = frame(df, "bought")
    train, test = table.split(0.25, seed=3)
    assert (len(train), len(test)) == (75, 25)
    assert sorted([*train.index, *test.index]) == list(range(100))
    assert train.preparation is test.preparation and train.preparation.rows == 75
    alone = frame(df.iloc[train.index], "bought")
    assert alone.preparation == train.preparation
    for one, other in zip(alone.transform(df.iloc[test.index]).x, test.x, strict=True):
        np.testing.assert_array_equal(one, other)
    again, _ = table.split(0.25, seed=3)
    np.testing.assert_array_equal(again.index, train.index)
    assert (table.split(0.25, seed=4)[0].index != train.index).any()
    with pytest.raises(RuntimeError, match="split the first table"):
        train.split()
    # a class of which the first part may have no row
    rare = frame({"x": np.arange(8.0), "y": [*"aaaaaaa", "b"]}, "y")
    for seed in range(8):
        first, second = rare.split(0.5, seed=seed)
        assert first.names == ("a", "b") and sorted([*first.y, *second.y]) == [0] * 7 + [1]


def test_what_was_done_is_shown():
    df = customers(300).rename(columns={"age": "<b>age</b>", "city": "ci\nty"})
    table = frame(df, "bought")
    text, page = repr(table), table._repr_html_()
    lines = text.splitlines()
    assert len(lines) == 3 + len(df.columns)  # a header, two lines of heads, one for each column
    assert lines[0] == "300 rows; preparation learnt from 300 rows: 5 of 8 columns used, 13 numbers, 1 embeddings"
    assert "<b>age</b>" in text and "ci?ty" in text
    days = f"days since {df.since.min():%Y-%m-%d}, time of year, day of week"
    for expected in ("in gaps; minus", "0 or 1", days, "an embedding of 31",
                     "every value is different", "constant", "the same as '<b>age</b>'", "labels of 2 classes: no, yes",
                     "missing is one"):  # fmt: skip
        assert expected in text and expected.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#x27;") in page
    assert "<b>" not in page and "&lt;b&gt;age" in page and page.count("<tr>") == 1 + len(df.columns)
    gaps = int(df["<b>age</b>"].isna().sum())
    assert f"number    {gaps} " in text


def test_inputs_of_a_network():
    table = frame(customers(300), "bought")
    inputs = table.preparation.inputs()
    assert [(symbol.shape, symbol.kind) for symbol in inputs] == [((13,), "real"), ((), "int64")]
    assert [symbol.layer.name for symbol in inputs] == ["numbers", "shop"]
    encoded = table.preparation.encoded(inputs)
    assert encoded.shape == (13 + round(1.6 * 31**0.56),)
    model = fnn.Model(inputs, fnn.Dense(2, "softmax")(encoded), seed=0)
    model.compile("adam", "cross_entropy", metrics=["accuracy"])
    model.fit(table.x, table.y, epochs=1, verbose=0)
    assert model.predict(table.x).shape == (300, 2)


def test_names_of_inputs_are_told_apart():
    shops = [f"s{number % 30}" for number in range(90)]
    columns = {"numbers": shops, "a/b": shops[::-1], "a_b": shops[5:] + shops[:5], "": shops[9:] + shops[:9]}
    inputs = frame({**columns, "x": np.arange(90.0)}, min_count=1).preparation.inputs()
    assert [symbol.layer.name for symbol in inputs] == ["numbers", "numbers (2)", "a_b", "a_b (2)", "column"]


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: frame({"a": [1, 1]}), ValueError, "no column is left: a: dropped: constant"),
        (lambda: frame({"a": [1, 2]}, "b"), ValueError, "target: there is no column 'b'; there are"),
        (lambda: frame({"a": [1, 2], "b": [None, None]}, "b"), ValueError, "target 'b': has no values"),
        (lambda: frame({"a": [1, 2], "b": ["x", "x"]}, "b"), ValueError, "at least two classes"),
        (lambda: frame({"a": [1, 2, 3], "b": ["x", "y", "z"]}, "b"), ValueError, "every row has a class of its own"),
        (lambda: frame({"a": [1, 2], "b": [dt.date(2024, 1, 1)] * 2}, "b"), ValueError, "got dates"),
        (lambda: frame({"a": [1, 2], "b": ["x", "y"]}, "b", classes=False), ValueError, "expected numbers, row 0 has"),
        (lambda: frame({"a": [1, 2]}, scale="unit"), ValueError, "scale: expected one of 'standard', 'robust'"),
        (lambda: frame({"a": [1, 2]}, missing="zero"), ValueError, "missing: expected one of 'median', 'mean'"),
        (lambda: frame({"a": [1, 2]}, kinds={"b": "number"}), ValueError, "kinds: there is no column 'b'"),
        (lambda: frame({"a": [1, 2]}, kinds={"a": "int"}), ValueError, r"kinds\['a'\]: expected one of 'number'"),
        (lambda: frame({"a": [1, 2]}, kinds="a"), TypeError, "kinds: expected a dict"),
        (lambda: frame({"a": [1, 2]}, embed_over=-1), ValueError, "embed_over"),
        (lambda: frame({"a": [1, 2]}, min_count=0), ValueError, "min_count"),
        (lambda: frame({"a": [1, 2]}, classes="yes"), TypeError, "classes"),
        (lambda: frame({"a": ["x", "y"]}, kinds={"a": "number"}), ValueError, "column 'a': expected numbers"),
        (lambda: frame({"a": [1, 2]}).split(0.1), ValueError, "leaves a part without rows"),
        (lambda: frame({"a": [1, 2]}).split(1.5), ValueError, "fraction"),
        (lambda: frame({"a": [1, 2]}).transform({"b": [1]}), ValueError, r"lacks the columns \['a'\]; it has \['b'\]"),
        (lambda: frame({"a": [1, 2]}).transform({"a": ["x"]}), ValueError, "'a': expected numbers, row 0 has 'x'"),
        (lambda: frame({"a": [1, 2]}).transform([[1]]), TypeError, "expected a data frame"),
        (lambda: frame({"a": [1, 2]}).preparation.decode([1]), RuntimeError, "has no target"),
        (lambda: frame({"a": [1, 2], "b": [True, False]}, "b").preparation.decode(np.ones((2, 3))), ValueError,
         r"probabilities \(n, 2\), got float64 of shape \(2, 3\)"),
        (lambda: frame({"a": [1, 2], "b": [True, False]}, "b").preparation.decode([0, 2]), ValueError, "from 0 to 1"),
        (lambda: frame(sklearn=True), TypeError, "unexpected keyword argument 'sklearn'"),
    ],
)  # fmt: skip
def test_clear_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_dates_of_another_time_zone():
    stamps = pd.Series(pd.to_datetime(["2024-01-01 09:00", "2024-03-05 12:00"]))
    table = frame({"t": stamps.dt.tz_localize("Europe/Oslo")})
    assert "(Europe/Oslo)" in repr(table)
    with pytest.raises(ValueError, match="of the time zone Europe/Oslo, got none: convert them"):
        table.transform({"t": stamps})
    same = table.transform(
        {"t": stamps.dt.tz_localize("Europe/Oslo").dt.tz_convert("UTC").dt.tz_convert("Europe/Oslo")}
    )
    np.testing.assert_array_equal(same.x, table.x)


cells = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.sampled_from(["a", "b", "1", "", "2024-01-01"]),
    st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_table_is_prepared(data):
    rows = data.draw(st.integers(1, 12))
    kinds = data.draw(st.lists(st.sampled_from([cells, st.floats(), st.booleans(), st.none(), st.text(max_size=2)]),
                               max_size=4))  # fmt: skip
    columns = {f"c{number}": data.draw(st.lists(kind, min_size=rows, max_size=rows))
               for number, kind in enumerate(kinds)}  # fmt: skip
    columns["x"] = list(range(rows + 1))[1:]
    options = {
        "scale": data.draw(st.sampled_from(["standard", "robust", "quantile"])),
        "min_count": data.draw(st.integers(1, 3)), "embed_over": data.draw(st.sampled_from([1, 20])),
    }  # fmt: skip
    if rows == 1:
        with pytest.raises(ValueError, match="no column is left"):
            frame(columns, **options)
        return
    table = frame(columns, **options)
    again = table.transform(columns)
    for one, other in zip(*(each.x if isinstance(each.x, list) else [each.x] for each in (table, again)), strict=True):
        assert len(one) == rows and np.isfinite(one).all()
        np.testing.assert_array_equal(one, other)
    assert repr(table).count("\n") == 2 + len(columns)
