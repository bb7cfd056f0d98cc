"""Models of tables: `applications.Tabular`, `Model.preparation`, raw frames to predict, and model files."""

import copy
import json
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastnn as fnn
from fastnn.config import REGISTRY, from_config, to_config
from fastnn.saving import container


def houses(rows=120, seed=0):
    rng = np.random.default_rng(seed)
    area = rng.uniform(30, 200, rows)
    where = rng.choice(["centre", "north", "south"], rows)
    price = area * np.where(where == "centre", 3.0, 2.0) + rng.normal(0, 5, rows)
    area[rng.random(rows) < 0.1] = np.nan
    return pd.DataFrame({
        "area": area, "where": where, "agent": [f"{number} x" for number in rng.integers(0, 40, rows)],
        "lift": rng.random(rows) < 0.5,
        "sold": pd.Timestamp("2023-05-01") + pd.to_timedelta(rng.integers(0, 300, rows), unit="D"),
        "price": price, "dear": np.where(price > 250, "dear", "cheap"),
    })  # fmt: skip


DF = houses()


def trained(target="dear", **options):
    table = fnn.data.frame(DF.drop(columns="price" if target == "dear" else "dear"), target, min_count=2, **options)
    model = fnn.applications.Tabular(table, (16,), seed=0)
    model.compile("adam", "cross_entropy" if target == "dear" else "mse")
    model.fit(table.x, table.y, epochs=3, verbose=0)
    return table, model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_network_of_a_table(dtype):
    table = fnn.data.frame(DF.drop(columns="price"), "dear", min_count=2)
    model = fnn.applications.Tabular(table, (16, 8), dropout=0.1, seed=0, dtype=dtype)
    model.compile(fnn.Adam(0.01), "cross_entropy", metrics=["accuracy"])
    assert model.fit(table.x, table.y, epochs=40, verbose=0).history["accuracy"][-1] > 0.9
    assert model.preparation is table.preparation
    again = fnn.applications.Tabular(table.preparation, (16, 8), dropout=0.1, seed=0, dtype=dtype)
    for one, other in zip(again.get_weights(), model.get_weights(), strict=True):
        assert one.shape == other.shape


def test_numbers_are_learnt_and_given_back():
    table, model = trained("price", scale_target=True)
    assert model.predict(table.x).shape == (len(DF), 1)
    prices = model.preparation.decode(model.predict(DF))
    np.testing.assert_allclose(prices, model.predict(table.x)[:, 0] * DF.price.std(ddof=0) + DF.price.mean(), rtol=1e-6)


def test_models_take_raw_frames():
    table, model = trained()
    expected = model.predict(table.x)
    for _ in range(3):  # small calls are prepared at the second one
        np.testing.assert_array_equal(model.predict(DF), expected)
        np.testing.assert_array_equal(model(DF), expected)
        np.testing.assert_array_equal(model.predict(table.x), expected)
        np.testing.assert_array_equal(model.predict(DF[:1]), expected[:1])
    np.testing.assert_array_equal(model.predict(pl.from_dict(DF.to_dict("list"), strict=False)), expected)
    kinds = {"area": float, "where": "U9", "agent": "U9", "lift": bool, "sold": "M8[us]"}
    rows = np.empty(len(DF), [*kinds.items()])
    for name, kind in kinds.items():
        rows[name] = DF[name].to_numpy(kind)
    np.testing.assert_array_equal(model.predict(rows), expected)
    assert model.evaluate(DF) == model.evaluate(table.x, table.y) == model.evaluate(DF, table.y)
    assert model.test_on_batch(DF) == model.evaluate(DF)
    names = model.preparation.decode(model.predict(DF[:5]))
    assert names.tolist() == [["cheap", "dear"][each] for each in expected[:5].argmax(1)]
    with pytest.raises(ValueError, match=r"x: lacks the columns \['where'\]"):
        model.predict(DF.drop(columns="where"))
    model.preparation = None
    with pytest.raises((TypeError, ValueError)):
        model.predict(DF)


def test_frames_of_numbers_are_prepared_too():
    """Small calls take arrays of numbers without looking further, and must not take frames so."""
    given = pd.DataFrame({"a": np.arange(50.0) * 3, "b": np.arange(50.0) ** 2})
    table = fnn.data.frame(given.assign(y=given.a), "y")
    model = fnn.applications.Tabular(table, (4,), seed=0)
    expected = model.predict(table.x)
    for _ in range(4):
        for frame in (given, pl.DataFrame(given.to_dict("list")), given.to_records(index=False)):
            np.testing.assert_array_equal(model.predict(frame), expected)
            np.testing.assert_array_equal(model.predict(frame[:3]), expected[:3])
        np.testing.assert_array_equal(model.predict(table.x[:3]), expected[:3])


def test_files_hold_the_preparation(tmp_path):
    table, model = trained()
    model.save(tmp_path / "m")
    loaded = fnn.load(tmp_path / "m")
    assert loaded.preparation == model.preparation and repr(loaded.preparation) == repr(model.preparation)
    np.testing.assert_array_equal(loaded.predict(DF), model.predict(DF))
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "m").read_bytes()
    new = houses(9, seed=4)
    new.loc[2, "where"] = "the moon"
    for one, other in zip(loaded.preparation.transform(new).x, table.transform(new).x, strict=True):
        np.testing.assert_array_equal(one, other)
    model.save(tmp_path / "weights", include_optimizer=False)
    assert fnn.load(tmp_path / "weights").preparation == model.preparation
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copied.predict(DF), model.predict(DF))
    model.preparation = None
    model.save(tmp_path / "none")
    assert fnn.load(tmp_path / "none").preparation is None
    assert "preparation" not in container.read(tmp_path / "none")[1]  # as files have always been


def test_adapters_keep_it():
    _, model = trained()
    adapted = fnn.lora.add(model, 2)
    np.testing.assert_array_equal(adapted.predict(DF), model.predict(DF))


def test_frozen_networks_take_prepared_rows():
    table, model = trained()
    net = model.freeze()
    from fastnn import nopython as fnp

    out = np.empty(2, np.float32)
    fnp.predict(net, tuple(each[3] if each.ndim > 1 else each[3:4].reshape(()) for each in table.x), out)
    np.testing.assert_array_equal(out, model.predict(table.x)[3])


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (3, TypeError, "preparation: expected that of a table"),
        (DF, TypeError, "preparation: expected that of a table"),
        (
            fnn.data.frame({"a": [1.0, 2.0]}),
            ValueError,
            r"makes inputs numbers \('n', 1\), but the model takes numbers",
        ),
    ],
)
def test_preparations_that_do_not_fit(given, error, match):
    _, model = trained()
    before = model.preparation
    with pytest.raises(error, match=match):
        model.preparation = given
    assert model.preparation is before


def test_sequential_models_have_one_too():
    table = fnn.data.frame({"a": [1.0, 2.0, 4.0], "b": [3.0, 1.0, 2.0], "y": [0.0, 1.0, 2.0]}, "y")
    model = fnn.Sequential([fnn.Dense(1)], seed=0)
    model.preparation = table
    model.compile("sgd", "mse")
    model.fit(table.x, table.y, epochs=1, verbose=0)
    assert model.predict(pd.DataFrame({"b": [3.0], "a": [1.0]})).shape == (1, 1)
    with pytest.raises(TypeError, match=r"table: expected one of fastnn\.data\.frame"):
        fnn.applications.Tabular(table.x)
    with pytest.raises(ValueError, match="outputs: expected a number"):
        fnn.applications.Tabular(fnn.data.frame({"a": [1.0, 2.0]}))
    assert fnn.applications.Tabular(fnn.data.frame({"a": [1.0, 2.0]}), (), outputs=3).predict([[1.0]]).shape == (1, 3)


# --- documents ---------------------------------------------------------------------------------------------


def document():
    table = fnn.data.frame(DF.assign(none=None), "dear", min_count=2)
    return json.loads(json.dumps(to_config(table.preparation)))


DOCUMENT = document()


def with_column(number, **changes):
    made = copy.deepcopy(DOCUMENT)
    made["columns"][number].update(changes)
    return made


@pytest.mark.parametrize("scale", ["standard", "robust", "quantile", "none"])
def test_settings_are_json(scale):
    found = fnn.data.frame(DF, "price", scale=scale, scale_target=True).preparation
    text = json.dumps(to_config(found))
    assert from_config(json.loads(text), REGISTRY["preparation"], "preparation") == found


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        (3, "expected an object"),
        ({}, '"class"'),
        (DOCUMENT | {"rows": -1}, "rows: expected an integer >= 1"),
        (DOCUMENT | {"rows": "9"}, "rows"),
        (DOCUMENT | {"columns": []}, "no column is left"),
        (DOCUMENT | {"columns": DOCUMENT["columns"] * 2}, "a name occurs twice"),
        (DOCUMENT | {"columns": [DOCUMENT["target"]]}, r"columns\[0\]"),
        (DOCUMENT | {"more": 1}, "more"),
        (DOCUMENT["target"], "preparation: got Classes"),
        (DOCUMENT["columns"][0], "preparation: got Number"),
        (with_column(0, scale=0.0), "scale: expected a number > 0"),
        (with_column(0, fill=None), "fill"),
        (with_column(0, fill={"class": "<float>", "value": "nan"}), "fill: expected a finite number"),
        (with_column(0, method="cube"), "method: unknown method 'cube'"),
        (with_column(0, quantiles=[2.0, 1.0]), "quantiles: expected ascending numbers"),
        (with_column(0, name=3), "name"),
        (with_column(0, notes=[3]), "notes"),
        (with_column(0, indicator=False, varies=False), "a column that does not vary has an indicator"),
        (with_column(1, levels=["a", "a"]), "levels: expected different texts"),
        (with_column(1, levels=[]), "levels: expected at least one"),
        (with_column(4, parts=["month"]), "parts: expected some of days"),
        (with_column(4, parts=[]), "parts: expected some"),
        (with_column(4, first=2**70), "first: expected an integer <="),
        (with_column(0, **{"class": "Dense"}), "Dense"),
        (DOCUMENT | {"target": DOCUMENT["target"] | {"names": ["a"]}}, "names: expected at least two"),
        (DOCUMENT | {"target": DOCUMENT["target"] | {"names": ["a", 3]}}, "names: expected at least two"),
        (with_column(1, levels=["centre"]), "makes inputs"),
    ],
)
def test_files_that_describe_no_preparation(tmp_path, changed, match):
    table = fnn.data.frame(DF.assign(none=None), "dear", min_count=2)
    fnn.applications.Tabular(table, (2,), seed=0).save(tmp_path / "m")
    tensors, written = container.read(tmp_path / "m")
    container.write(tmp_path / "m", tensors, written | {"preparation": changed})
    with pytest.raises(fnn.ModelFileError, match=match):
        fnn.load(tmp_path / "m")


def test_functions_have_no_preparation(tmp_path):
    x = fnn.Input(2)
    fnn.function(x, x * 2.0).save(tmp_path / "f")
    tensors, written = container.read(tmp_path / "f")
    container.write(tmp_path / "f", tensors, written | {"preparation": DOCUMENT})
    with pytest.raises(fnn.ModelFileError, match="a function has no preparation"):
        fnn.load(tmp_path / "f")


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)


def paths(value, path=()):
    """Yield the places in a document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from paths(each, (*path, key))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(list(paths(DOCUMENT))[1:]), json_values)
def test_any_change_of_a_document_is_refused_or_prepares_rows(path, value):
    changed = copy.deepcopy(DOCUMENT)
    inside = changed
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    try:
        found = from_config(changed, REGISTRY["preparation"], "preparation")
    except ValueError:
        return
    try:
        table = found.transform(DF)
    except ValueError as error:
        assert str(error).startswith(("df: ", "target "))
        return
    for each in table.x if isinstance(table.x, list) else [table.x]:
        assert np.isfinite(each).all()
    assert repr(found) and found._repr_html_()
