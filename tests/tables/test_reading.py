"""Columns of pandas, polars, dicts and structured arrays: the same values are read of all of them."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.tables.reading import columns_of, is_table
from fastnn.tables.values import converted

NAN = np.nan
DAY = dt.datetime(2024, 2, 29, 6)


def read(frame, **kinds):
    return columns_of(frame, "df", kinds, others=True)


def one(column, **kinds):
    """Return the values of the only column of a table."""
    return read({"c": column}, **kinds)["c"]


def same(values, kind, data, levels=()):
    assert values.kind == kind and values.levels == tuple(levels)
    np.testing.assert_array_equal(values.data, np.array(data, "datetime64[us]") if kind == "date" else data)


NUMBERS = {
    "list": [1, None, 2.5],
    "float": np.array([1.0, NAN, 2.5]),
    "float32": np.array([1.0, NAN, 2.5], np.float32),
    "masked": np.ma.array([1.0, 7.0, 2.5], mask=[False, True, False]),
    "object": np.array([1, None, 2.5], object),
    "Decimal": [Decimal(1), None, Decimal("2.5")],
    "text": ["1", " ", "2.5"],
    "bytes in scientific notation": ["+1e0", "NA", "25.0E-1"],
    "pandas": pd.Series([1.0, None, 2.5]),
    "Float64": pd.array([1.0, None, 2.5], dtype="Float64"),
    "pandas objects": pd.Series([1, pd.NA, 2.5], dtype=object),
    "pandas text": pd.Series(["1", None, "2.5"], dtype="string"),
    "polars": pl.Series([1.0, None, 2.5]),
    "polars NaN": pl.Series([1.0, NAN, 2.5]),
    "polars Decimal": pl.Series(["1.0", None, "2.5"]).cast(pl.Decimal(10, 2)),
    "polars text": pl.Series(["1", None, "2.5"]),
    "days": pd.Series(pd.to_timedelta([24, None, 60], unit="h")),
    "polars days": pl.Series([dt.timedelta(days=1), None, dt.timedelta(days=2.5)]),
    "infinite": [1.0, np.inf, 2.5],
    "too large": [1, 10**400, 2.5],
}
BOOLS = {
    "object": [True, None, False],
    "masked": np.ma.array([True, True, False], mask=[False, True, False]),
    "boolean": pd.array([True, None, False], dtype="boolean"),
    "polars": pl.Series([True, None, False]),
}
LEVELS = {
    "list": ["b", None, "a"],
    "array": np.array(["b", "", "a"]),
    "bytes": np.array([b"b", b"", b"a"]),
    "spaces": [" b", "?", "a\t"],
    "pandas": pd.Series(["b", None, "a"]),
    "pandas objects": pd.Series(["b", NAN, "a"], dtype=object),
    "string": pd.array(["b", pd.NA, "a"], dtype="string"),
    "categorical": pd.Series(pd.Categorical(["b", None, "a"], categories=["b", "a"])),
    "polars": pl.Series(["b", None, "a"]),
    "polars categorical": pl.Series(["b", None, "a"], dtype=pl.Categorical),
    "polars enum": pl.Series(["b", None, "a"], dtype=pl.Enum(["b", "a"])),
}
DATES = {
    "array": np.array([DAY, "NaT", "2024-03-01"], "datetime64[s]"),
    "objects": [DAY, None, dt.date(2024, 3, 1)],
    "text": ["2024-02-29T06:00", "NaT", "2024-03-01"],
    "pandas": pd.Series([DAY, None, dt.datetime(2024, 3, 1)]),
    "time zone": pd.Series([pd.Timestamp(DAY), pd.NaT, pd.Timestamp("2024-03-01")]).dt.tz_localize("Asia/Tokyo"),
    "stamps": [pd.Timestamp(DAY), pd.NaT, pd.Timestamp("2024-03-01")],
    "polars": pl.Series([DAY, None, dt.datetime(2024, 3, 1)]),
    "polars time zone": pl.Series([DAY, None, dt.datetime(2024, 3, 1)]).dt.replace_time_zone("Asia/Tokyo"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name):
    same(one(NUMBERS[name]), "number", [1.0, NAN, 2.5])


@pytest.mark.parametrize("name", BOOLS)
def test_bools(name):
    same(one(BOOLS[name]), "bool", [1.0, NAN, 0.0])


@pytest.mark.parametrize("name", LEVELS)
def test_levels(name):
    same(one(LEVELS[name]), "category", [1, -1, 0], "ab")


@pytest.mark.parametrize("name", DATES)
def test_dates(name):
    values = one(DATES[name])
    same(values, "date", [DAY, "NaT", "2024-03-01"])
    assert values.zone == ("Asia/Tokyo" if "zone" in name else "")


@pytest.mark.parametrize("dtype", ["int64[pyarrow]", "double[pyarrow]", "string[pyarrow]"])
def test_columns_of_arrow(dtype):
    pytest.importorskip("pyarrow")
    column = pd.Series([1, None, 3] if "string" not in dtype else ["1", None, "3"], dtype=dtype)
    same(one(column), "number", [1.0, NAN, 3.0])


def test_other_columns_of_arrow():
    pytest.importorskip("pyarrow")
    same(one(pd.Series([True, None, False], dtype="bool[pyarrow]")), "bool", [1.0, NAN, 0.0])
    same(one(pd.Series([DAY, None], dtype="timestamp[us][pyarrow]")), "date", [DAY, "NaT"])
    same(one(pd.Series([DAY.date(), None], dtype="date32[pyarrow]")), "date", [DAY.date(), "NaT"])
    same(one(pd.Series([dt.timedelta(days=1.5), None], dtype="duration[us][pyarrow]")), "number", [1.5, NAN])
    zoned = one(pd.Series([DAY, None], dtype="timestamp[us, tz=Asia/Tokyo][pyarrow]"))
    assert zoned.zone == "Asia/Tokyo"


def test_odd_columns():
    same(one(pd.Series(pd.period_range("2024-01", periods=2, freq="M"))), "date", ["2024-01-01", "2024-02-01"])
    same(one(pd.Series(pd.arrays.SparseArray([0.0, 1.5]))), "number", [0.0, 1.5])
    same(one(pd.Series(pd.interval_range(0, 2))), "category", [0, 1], ["(0, 1]", "(1, 2]"])
    same(one(["01234", "1"]), "category", [0, 1], ["01234", "1"])
    same(one(["1_000", "2"]), "category", [0, 1], ["1_000", "2"])
    same(one(["2024-02-30", "2024-02-29"]), "category", [1, 0], ["2024-02-29", "2024-02-30"])
    same(one([dt.time(3), dt.time(4)]), "category", [0, 1], ["03:00:00", "04:00:00"])
    mixed = one([3, "3", 3.0, 2.5, True, None])
    same(mixed, "category", [1, 1, 1, 0, 2, -1], ["2.5", "3", "True"])
    assert mixed.notes == ("mixed: bool, numbers, str",) or mixed.notes == ("mixed: numbers, str",)
    assert one([[1], [2]]).kind == "other"
    assert one([{}, 3]).notes == ("holds values of type dict",)
    same(one([None, NAN]), "number", [NAN, NAN])


def test_text_of_known_categories_is_not_read_as_numbers():
    same(one(["1.0", "2"], c="category"), "category", [0, 1], ["1.0", "2"])
    same(one(["2024-01-01"], c="category"), "category", [0], ["2024-01-01"])


def test_names_are_told_apart():
    frame = pd.DataFrame([[1, 2, 3, 4]], columns=["a", "a", 1, "1"])
    assert {name: values.data[0] for name, values in read(frame).items()} == {"a": 1, "a (2)": 2, "1": 3, "1 (2)": 4}
    assert list(read(pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])))) == [
        "('a', 1)", "('a', 2)",
    ]  # fmt: skip
    rows = np.array([(1, "x")], dtype=[("n", int), ("t", "U3")])
    assert [values.kind for values in read(rows).values()] == ["number", "category"]
    assert is_table(rows) and is_table(pd.DataFrame()) and is_table(pl.DataFrame())
    assert not any(map(is_table, ({"a": [1]}, np.ones(3), [1], pd.Series([1]), pl.Series([1]))))


@pytest.mark.parametrize(
    ("frame", "error", "match"),
    [
        ([[1, 2]], TypeError, "expected a data frame of pandas or polars, a dict of columns by name"),
        (np.ones((2, 2)), TypeError, "got ndarray"),
        (pl.LazyFrame({"a": [1]}), TypeError, r"use .collect\(\)"),
        ({"a": 3}, TypeError, "column 'a': expected a list or an array, got 3"),
        ({"a": np.ones((2, 2))}, TypeError, r"column 'a': expected a value for each row, got .* \(2, 2\)"),
        ({"a": np.ones(2, complex)}, TypeError, "expected real numbers"),
        ({"a": [1], "b": [1, 2]}, ValueError, "column 'b' has 2 rows, the columns before it have 1"),
        (pd.DataFrame(), ValueError, "at least one row and one column"),
        (pd.DataFrame({"a": []}), ValueError, "at least one row and one column"),
        (pl.DataFrame({"a": []}), ValueError, "at least one row and one column"),
    ],
)
def test_what_is_no_table(frame, error, match):
    with pytest.raises(error, match=match):
        read(frame)


def test_conversions():
    same(converted(one([1.0, 0.0, NAN]), "bool", "x"), "bool", [1.0, 0.0, NAN])
    same(converted(one([True, False]), "number", "x"), "number", [1.0, 0.0])
    same(converted(one([3.0, NAN, 2.5, 3]), "category", "x"), "category", [1, -1, 0, 1], ["2.5", "3"])
    same(converted(one([True, False, None]), "category", "x"), "category", [1, 0, -1], ["False", "True"])
    same(converted(one(["yes", "No", None, "TRUE"]), "bool", "x"), "bool", [1.0, 0.0, NAN, 1.0])
    same(converted(one(["5", "x"]).take(np.array([0])), "number", "x"), "number", [5.0])
    same(converted(one([DAY]), "category", "x"), "category", [0], ["2024-02-29 06:00:00"])
    for kind, blank in (("number", NAN), ("bool", NAN), ("category", -1), ("date", "NaT")):
        same(converted(one([None, None]), kind, "x"), kind, [blank, blank])


@pytest.mark.parametrize(
    ("column", "kind", "match"),
    [
        ([1.0, 2.0], "bool", "x: expected bools, row 1 has 2.0"),
        (["1", "b"], "number", "x: expected numbers, row 1 has 'b'"),
        (["a", None], "date", "x: expected dates, row 0 has 'a'"),
        ([1.0], "date", "x: expected dates, row 0 has 1.0"),
        ([DAY], "number", "x: expected numbers, row 0 has datetime"),
        ([[1]], "category", "x: expected categories, but it holds values of type list"),
    ],
)
def test_values_of_another_kind(column, kind, match):
    with pytest.raises(ValueError, match=match):
        converted(one(column), kind, "x")


anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.dates(), st.datetimes(),
    st.decimals(), st.binary(max_size=2), st.lists(st.integers(), max_size=1),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(anything, min_size=1, max_size=8))
def test_any_objects_are_read(values):
    found = one(values)
    assert len(found) == len(values)
    if found.kind == "other":
        return
    for value, gone in zip(values, found.gone, strict=True):
        assert gone or value is not None
    if found.kind == "category":
        assert found.data.max() < len(found.levels) and list(found.levels) == sorted(set(found.levels))
    elif found.kind == "number":
        assert not np.isinf(found.data).any()
    again = read(pl.DataFrame({"c": pl.Series(values, dtype=pl.Object)}))["c"]
    assert again.same(found)
