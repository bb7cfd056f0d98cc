"""Hyperparameters to and from JSON, and names to objects."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn import constraints, initializers, regularizers
from fastnn.checks import integer, number, size
from fastnn.config import REGISTRY, from_config, register, resolve, to_config
from fastnn.initializers import Constant, HeNormal, Initializer, RandomNormal, VarianceScaling
from fastnn.registry import snake_case
from fastnn.regularizers import L2, Regularizer


class Layer:
    """The base of the layers of these tests."""


@dataclasses.dataclass(frozen=True)
class Probe(Layer):
    units: int
    rate: float | None = None
    name: str | None = None
    use_bias: bool = True
    shape: tuple[int, ...] = (1,)
    pair: tuple[int, str] = (1, "a")
    padding: Literal["valid", "same"] = "valid"
    initializer: str | Initializer = "zeros"
    regularizer: Regularizer | None = None
    inner: tuple[Layer, ...] = ()
    anything: Any = None
    schedule: float | Callable[[int], float] = 0.1
    computed: int = dataclasses.field(init=False, default=7)

    def __post_init__(self) -> None:
        if self.units < 1:
            raise ValueError(f"units: expected at least 1, got {self.units}")


@pytest.fixture(scope="module")
def layers() -> Iterator[dict[str, type[Any]]]:
    """The registry of layers with `Probe` in it, restored afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for family, classes in list(REGISTRY.items()):
            patch.setitem(REGISTRY, family, dict(classes))
        register("layer")(Probe)
        yield REGISTRY["layer"]


FULL = Probe(
    3, 0.5, "a", False, (2, 3), (4, "b"), "same", HeNormal(), L2(0.1), (Probe(1), Probe(2, rate=-0.0)),
    (1, "x", None, True, 0.5, Constant(2.0), ("y", (False,))), 1e-3,
)  # fmt: skip


def test_objects_survive_json(layers: dict[str, type[Any]]) -> None:
    config = to_config(FULL)
    assert config["class"] == "Probe"
    assert config["initializer"] == {"class": "HeNormal"}
    assert "computed" not in config
    again = from_config(json.loads(json.dumps(config, allow_nan=False)), layers, "layers[0]")
    assert again == FULL
    assert isinstance(again.shape, tuple) and isinstance(again.anything[6], tuple)


def test_every_registered_class_survives_json() -> None:
    for classes in REGISTRY.values():
        for cls in classes.values():
            fields = [f for f in dataclasses.fields(cls) if f.init]
            missing = dataclasses.MISSING
            if all(f.default is not missing or f.default_factory is not missing for f in fields):
                # the only one that needs one of two arguments
                config = to_config(cls(num_bins=2) if cls.__name__ == "Discretization" else cls())
                again = from_config(json.loads(json.dumps(config)), classes, cls.__name__)
                # not the objects: layers compare by identity
                assert type(again) is cls and to_config(again) == config


def test_numpy_scalars_become_plain(layers: dict[str, type[Any]]) -> None:
    values = (
        np.int8(3),
        np.float32(0.5),
        np.bool_(True),
        np.str_("x"),
        np.longdouble(0.25),
        [np.uint64(2**63)],
    )
    config = to_config(Probe(np.int64(3), anything=values))  # type: ignore[arg-type]
    plain = [3, 0.5, True, "x", 0.25, [2**63]]
    assert config["anything"] == plain
    assert [type(v) for v in config["anything"]] == [int, float, bool, str, float, list]
    assert from_config(json.loads(json.dumps(config)), layers, "x").units == 3


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_numbers_beyond_json(layers: dict[str, type[Any]], value: float) -> None:
    text = json.dumps(to_config(Probe(1, rate=value)), allow_nan=False)
    np.testing.assert_equal(from_config(json.loads(text), layers, "x").rate, value)


def test_an_int_is_a_float_but_no_bool(layers: dict[str, type[Any]]) -> None:
    assert type(from_config({"class": "Probe", "units": 1, "rate": 2}, layers, "x").rate) is float
    with pytest.raises(ValueError, match=r"x\.units: expected int, got True"):
        from_config({"class": "Probe", "units": True}, layers, "x")


def test_a_function_is_asked_for_again(layers: dict[str, type[Any]]) -> None:
    def halve(step: int) -> float:
        return 0.5**step

    config = json.loads(json.dumps(to_config(Probe(1, schedule=halve))))
    assert config["schedule"]["class"] == "<callable>"
    assert "halve" in config["schedule"]["name"]
    with pytest.raises(ValueError, match=r"^top\.schedule: .*halve.* pass it again as the argument schedule"):
        from_config(config, layers, "top")
    with pytest.raises(ValueError, match="pass it again as the argument loss"):
        from_config(to_config(halve), REGISTRY["loss"], "loss")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "expected an object"),
        (3, "expected an object"),
        (["Probe"], "expected an object"),
        ({}, "expected an object"),
        ({"class": 3}, "expected an object"),
        ({"class": ["Probe"]}, "expected an object"),
        ({"class": "Prob", "units": 1}, "unknown layer 'Prob'; did you mean 'Probe'"),
        ({"class": "HeNormal"}, "expected a layer, got HeNormal, which is an initializer"),
        ({"class": "Probe"}, "missing field units"),
        ({"class": "Probe", "units": 1, "ratte": 2}, "unknown field of Probe 'ratte'; did you mean 'rate'"),
        ({"class": "Probe", "units": 1, "computed": 2}, "unknown field of Probe 'computed'"),
        ({"class": "Probe", "units": 0}, "at least 1, got 0"),
        ({"class": "Probe", "units": 1.5}, r"\.units: expected int, got 1.5"),
        ({"class": "Probe", "units": None}, r"\.units: expected int, got None"),
        ({"class": "Probe", "units": "1"}, r"\.units: expected int"),
        ({"class": "Probe", "units": {"class": "Zeros"}}, r"\.units: expected int"),
        ({"class": "Probe", "units": 1, "rate": 10**400}, r"\.rate: .* too large"),
        ({"class": "Probe", "units": 1, "rate": "1"}, r"\.rate: expected float or None"),
        ({"class": "Probe", "units": 1, "rate": {"class": "<float>", "value": "1"}}, r"\.rate: .*inf"),
        ({"class": "Probe", "units": 1, "rate": {"class": "<dict>", "items": []}}, r"\.rate: expected"),
        ({"class": "Probe", "units": 1, "shape": 3}, r"\.shape: expected tuple"),
        ({"class": "Probe", "units": 1, "shape": [1, "2"]}, r"\.shape\[1\]: expected int"),
        ({"class": "Probe", "units": 1, "pair": [1]}, r"\.pair: expected 2 items"),
        ({"class": "Probe", "units": 1, "padding": "full"}, r"\.padding: expected Literal"),
        ({"class": "Probe", "units": 1, "initializer": {"class": "L2"}}, "got L2, which is a regularizer"),
        ({"class": "Probe", "units": 1, "initializer": {"class": "HeNorml"}}, "did you mean 'HeNormal'"),
        ({"class": "Probe", "units": 1, "regularizer": {"class": "L2", "l2": -1.0}}, r"L2\.l2: .*>= 0"),
        ({"class": "Probe", "units": 1, "inner": [{"class": "Probe"}]}, r"\.inner\[0\]: Probe needs"),
    ],
)
def test_malformed_configurations(layers: dict[str, type[Any]], config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"^layers\[2\].*" + message):
        from_config(config, layers, "layers[2]")


def test_endless_nesting_is_refused(layers: dict[str, type[Any]]) -> None:
    config: dict[str, Any] = {"class": "Probe", "units": 1}
    sequence: list[Any] = []
    for _ in range(10_000):
        config = {"class": "Probe", "units": 1, "inner": [config]}
        sequence = [sequence]
    with pytest.raises(ValueError, match="nested more than"):
        from_config(config, layers, "x")
    with pytest.raises(ValueError, match="nested more than"):
        from_config({"class": "Probe", "units": 1, "anything": sequence}, layers, "x")
    with pytest.raises(ValueError, match="nested more than"):
        to_config(Probe(1, anything=sequence))


FIELDS = [f.name for f in dataclasses.fields(Probe)]
NAMES = st.sampled_from(["Probe", "HeNormal", "VarianceScaling", "L2", "MaxNorm", "<callable>", "<float>", "no"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | NAMES
KEYS = st.sampled_from([*FIELDS, "class", "l2", "value", "scale", "mode"])
JSON = st.recursive(
    SCALARS,
    lambda child: (
        st.lists(child, max_size=3)
        | st.dictionaries(KEYS, child, max_size=4)
        | st.tuples(NAMES, st.dictionaries(KEYS, child, max_size=3)).map(lambda t: {"units": 1, **t[1], "class": t[0]})
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(config=JSON)
def test_no_input_gives_another_error(layers: dict[str, type[Any]], config: Any) -> None:
    try:
        obj = from_config(config, layers, "here")
    except ValueError as error:
        assert str(error).startswith("here")
    else:
        again = from_config(json.loads(json.dumps(to_config(obj))), layers, "here")
        assert repr(again) == repr(obj)


def test_what_cannot_be_saved_is_named() -> None:
    @dataclasses.dataclass
    class Stranger:
        units: int = 1

    with pytest.raises(TypeError, match=r"Stranger is not registered"):
        to_config(Stranger())
    with pytest.raises(TypeError, match=r"Constant\.value: cannot be saved.*ndarray"):
        broken = Constant()
        object.__setattr__(broken, "value", np.zeros(2))
        to_config(broken)
    with pytest.raises(TypeError, match="cannot be saved"):
        to_config(HeNormal)


def test_registering(layers: dict[str, type[Any]]) -> None:
    with pytest.raises(ValueError, match="expected a family among layer"):
        register("layers")
    with pytest.raises(TypeError, match="above @dataclass"):
        register("layer")(type("Plain", (), {}))
    other = dataclasses.make_dataclass("Probe", [])
    other.__module__ = "elsewhere"
    with pytest.raises(ValueError, match="has the same name as"):
        register("layer")(other)
    other.__module__, other.__qualname__ = Probe.__module__, Probe.__qualname__
    register("layer")(other)
    assert layers["Probe"] is other
    register("layer")(Probe)


def test_names_and_objects() -> None:
    for name in ("he_normal", "HeNormal", "henormal"):
        assert initializers.get(name) == HeNormal()
    assert initializers.get("normal") == RandomNormal(0.0, 0.05)
    assert regularizers.get("l1_l2") == regularizers.get("l1l2") == regularizers.L1L2(0.0, 0.0)
    assert constraints.get("max_norm") == constraints.MaxNorm(2.0, 0)
    assert regularizers.get(None) is None and constraints.get(None) is None
    special = VarianceScaling(2.0)
    assert initializers.get(special) is special
    fans: dict[str, Callable[[], Initializer]] = {"fans": lambda: VarianceScaling(3.0)}
    assert resolve("initializer", "fans", fans, Initializer) == VarianceScaling(3.0)


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"unknown initializer 'he_norml'; did you mean 'he_normal'\? Known: con"):
        initializers.get("he_norml")
    with pytest.raises(TypeError, match=r"got the class HeNormal; pass an object: HeNormal\(\)"):
        initializers.get(HeNormal)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected an initializer, by name or as an object; got 3 of type int"):
        initializers.get(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a regularizer"):
        regularizers.get(HeNormal())  # type: ignore[arg-type]


def test_a_name_needs_defaults(layers: dict[str, type[Any]]) -> None:
    with pytest.raises(ValueError, match=r"the layer 'probe' needs units: pass an object, Probe\(\.\.\.\)"):
        resolve("layer", "probe", {}, Layer)


def test_snake_case() -> None:
    names = {"HeNormal": "he_normal", "L1L2": "l1l2", "GELU": "gelu", "RMSprop": "rm_sprop", "SGD": "sgd"}
    assert {name: snake_case(name) for name in names} == names


def test_regularizers_and_constraints() -> None:
    w = np.array([[3.0, -0.3], [-4.0, 0.4]], dtype=np.float32)
    for name, l1, l2 in [("L1", 0.01, 0.0), ("L2", 0.0, 0.01), ("L1L2", 0.0, 0.0)]:
        penalty = getattr(regularizers, name)()
        assert (penalty.l1, penalty.l2) == (l1, l2)
        assert penalty(w) == pytest.approx(l1 * 7.7 + l2 * 25.25, rel=1e-6)
    assert type(L2(1).l2) is float
    with pytest.raises(ValueError, match=r"L2\.l2: expected a number >= 0"):
        L2(-0.1)
    with pytest.raises(TypeError, match=r"L1\.l1: expected a number"):
        regularizers.L1("0.1")  # type: ignore[arg-type]
    np.testing.assert_allclose(constraints.MaxNorm()(w), [[1.2, -0.3], [-1.6, 0.4]], rtol=1e-6)
    np.testing.assert_allclose(constraints.MaxNorm(1.0, axis=1)(w)[0], w[0] / np.hypot(3.0, 0.3), rtol=1e-6)
    with pytest.raises(ValueError, match="axis 2"):
        constraints.MaxNorm(axis=2)(w)
    with pytest.raises(TypeError, match="axis: expected an int"):
        constraints.MaxNorm(axis=1.0)  # type: ignore[arg-type]


def test_numbers_are_checked() -> None:
    assert type(number("x", np.float32(0.5))) is float
    assert number("x", np.array(0.5)) == 0.5
    for bad in (True, np.bool_(False), "1", None, 1j, np.array([1.0]), np.array(True)):
        with pytest.raises(TypeError, match="x: expected a number"):
            number("x", bad)
    for worse in (math.nan, math.inf, 10**400):
        with pytest.raises(ValueError, match="x: expected a finite number"):
            number("x", worse)
    with pytest.raises(ValueError, match="x: expected a number >= 0 and <= 1, got 2"):
        number("x", 2, at_least=0.0, at_most=1.0)


def test_integers_are_checked() -> None:
    assert type(integer("x", np.uint8(5))) is int
    for bad in (True, np.bool_(True), 1.0, "1", None):
        with pytest.raises(TypeError, match="x: expected an integer, got"):
            integer("x", bad)
    for worse, bound in ((0, ">= 1"), (-(10**5000), ">= 1"), (2**63, "<= 9223372036854775807")):
        with pytest.raises(ValueError, match=f"x: expected an integer {bound}, got"):
            integer("x", worse)
    assert integer("x", 0, at_least=0) == 0
    assert size("x", 2**48) == 2**48
    with pytest.raises(ValueError, match=f"x: expected an integer <= {2**48}"):
        size("x", 2**48 + 1)
