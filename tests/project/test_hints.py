"""Names and arguments of other libraries, and typing errors: the hints in the error messages."""

import importlib
import inspect
import re
import subprocess
import sys

import pytest

import fastnn as fnn
from fastnn import elsewhere, hints

SUBMODULES = (
    "activations", "applications", "cache", "callbacks", "constraints", "cuda", "data", "datasets", "initializers",
    "inspect", "integrations", "integrations.optuna", "layers", "lora", "losses", "metrics", "nopython", "optimizers",
    "plot", "regularizers", "schedules", "testing", "text",
)  # fmt: skip
FAMILIES = ("activations", "initializers", "layers", "losses", "metrics", "optimizers", "regularizers", "schedules")


def module_of(name):
    return importlib.import_module(f"fastnn.{name}") if name else fnn


def said_of(module, name):
    with pytest.raises(AttributeError) as found:
        getattr(module, name)
    return str(found.value)


@pytest.mark.parametrize("name", ["", *SUBMODULES])
def test_dir_shows_public_names_alone(name):
    module = module_of(name)
    later = {
        "": ("applications", "inspect", "integrations", "lora", "nopython", "ops", "plot", "testing", "text"),
        "data": ("Preparation", "Table", "frame"),
    }
    assert dir(module) == sorted([*module.__all__, *later.get(name, ())])
    assert len(set(module.__all__)) == len(module.__all__)
    for one in dir(module):
        assert getattr(module, one) is not None and (one == "__version__" or not one.startswith("_"))


@pytest.mark.parametrize("name", ["", *SUBMODULES])
@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("MSELoss", "there is fastnn.MeanSquaredError"),
        ("BCEWithLogitsLoss", "there is fastnn.BinaryCrossEntropy(from_logits=True)"),
        ("MLPClassifier", "there is fastnn.Sequential"),
        ("StackedRNNCells", "there is fastnn.Cell"),
        ("TransformerEncoderLayer", "there is fastnn.TransformerEncoder"),
        ("scaled_dot_product_attention", "there is fastnn.MultiHeadAttention"),
        ("ConvTranspose2d", "there is fastnn.Conv2DTranspose"),
        ("CosineAnnealingLR", "there is fastnn.schedules.CosineDecay"),
        ("to_categorical", "no need to encode"),
        ("TextVectorization", "there is fastnn.text.Words"),
        ("pad_sequence", "there is fastnn.data.pad_sequences"),
        ("plot_model", "there is fastnn.plot.network"),
        ("WandbCallback", "there is fastnn.integrations.Log"),
        ("earlystopping", "EarlyStopping"),
        ("GlorotUnifrom", "did you mean 'GlorotUniform'?"),
        ("load_digit", "load"),
    ],
)
def test_other_libraries_and_typing_errors_in_every_module(name, wrong, hint):
    module = module_of(name)
    told = said_of(module, wrong)
    assert told.startswith(f"module {module.__name__!r} has no attribute {wrong!r}; ")
    assert hint in told


@pytest.mark.parametrize("name", ["", *SUBMODULES])
def test_names_of_other_modules_are_found(name):
    module = module_of(name)
    for other in FAMILIES:
        for one in module_of(other).__all__:
            if one != "get" and not hasattr(module, one):
                told = said_of(module, one)
                match = re.search(r"; there is (fastnn[\w.]*)|did you mean", told)
                assert match is not None, told
                if match[1]:
                    assert inspect.getattr_static(resolved(match[1]), "__doc__")


def resolved(path):
    value = fnn
    for part in path.split(".")[1:]:
        value = getattr(value, part)
    return value


def test_what_hints_name_exists():
    texts = [*elsewhere.NAMES.values(), *elsewhere.ARGUMENTS.values()]
    named = {path for text in texts for path in re.findall(r"fastnn(?:\.\w+)+", text)}
    assert len(named) > 40
    for path in named:
        resolved(path)
    strings = {text for hint in texts for text in re.findall(r'Activation\("(\w+)"\)', hint)}
    for text in strings:
        assert fnn.activations.get(text) is not None


def test_a_hint_hides_no_name(monkeypatch):
    """A name that is added later is found, whatever the table says about it."""
    thing = object()
    monkeypatch.setitem(vars(fnn.layers), "BatchNorm1d", thing)
    assert fnn.layers.BatchNorm1d is thing
    monkeypatch.delitem(vars(fnn.layers), "BatchNorm1d")
    assert "there is fastnn.BatchNorm" in said_of(fnn.layers, "BatchNorm1d")


@pytest.mark.parametrize(
    ("statement", "match"),
    [
        ("from fastnn.layers import Dense, LazyLinear", "'LazyLinear' from 'fastnn.layers'; there is fastnn.Dense"),
        ("from fastnn import RNNCell", "'RNNCell' from 'fastnn'; there is fastnn.Cell, for fastnn.RNN"),
        ("from fastnn.optimizers import Adams", "did you mean 'Adam'"),
    ],
)  # fmt: skip
def test_import_from(statement, match):
    with pytest.raises(ImportError, match=re.escape(match)):
        exec(statement, {})


def test_what_asks_politely_gets_a_plain_answer():
    for name in SUBMODULES:
        module = module_of(name)
        assert getattr(module, "NoSuchThing", 3) == 3 and not hasattr(module, "NoSuchThing")
        assert ";" not in said_of(module, "__wrapped__") and ";" not in said_of(module, "qqqqqqqqqqqq")
    names: dict = {}
    exec("from fastnn import *", names)
    assert "Dense" in names and "hints" not in names


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: fnn.Dense(3, input_shape=(4,)), r"Dense\(\) got .*'input_shape': the first layer is fastnn\.Input"),
        (lambda: fnn.Dense(3, input_dim=4), r"the first layer is fastnn\.Input"),
        (lambda: fnn.Dense(3, activaton="relu"), "did you mean 'activation'"),
        (lambda: fnn.Dense(3, bias=False), "it is called use_bias"),
        (lambda: fnn.Dropout(0.1, seed=3), "the model's seed"),
        (lambda: fnn.Dropout(p=0.1), "it is called rate"),
        (lambda: fnn.Dense(4, dtype="float32"), r"a model has one dtype"),
        (lambda: fnn.Input(shap=(4,)), "did you mean 'shape'"),
        (lambda: fnn.Adam(lr=0.1), "it is called learning_rate"),
        (lambda: fnn.SGD(nestrov=True), "did you mean 'nesterov'"),
        (lambda: fnn.CrossEntropy(reduction="sum"), "a loss is the mean over the rows"),
        (lambda: fnn.metrics.TopKAccuracy(topk=3), r"TopKAccuracy\(\) got"),
        (lambda: fnn.EarlyStopping(patiense=3), "did you mean 'patience'"),
        (lambda: fnn.schedules.CosineDecay(0.1, decay_step=3), "did you mean 'decay_steps'"),
        (lambda: fnn.initializers.HeNormal(seed=3), "the model's seed"),
        (lambda: fnn.Sequential([], optimizer="adam"), r"Sequential\(\) got .*its arguments: layers, seed"),
        (lambda: fnn.Model(inputs=[], output=[]), "did you mean 'outputs'"),
    ],
)
def test_arguments(make, match):
    with pytest.raises(TypeError, match=match):
        make()


@pytest.mark.parametrize(
    ("method", "arguments", "match"),
    [
        ("compile", {"run_eagerly": True}, "nothing runs eagerly"),
        ("compile", {"jit_compile": True}, "compiled by Numba"),
        ("compile", {"steps_per_execution": 8}, "fastnn chooses"),
        ("compile", {"optimiser": "adam"}, "did you mean 'optimizer'"),
        ("fit", {"workers": 4}, "the calling thread"),
        ("fit", {"use_multiprocessing": True}, "the calling thread"),
        ("fit", {"nb_epoch": 3}, "it is called epochs"),
        ("fit", {"epoch": 3}, "did you mean 'epochs'"),
        ("evaluate", {"workers": 4}, "the calling thread"),
    ],
)
def test_arguments_of_models(method, arguments, match):
    model = fnn.Sequential([fnn.Input(2), fnn.Dense(1)])
    with pytest.raises(TypeError, match=f"{method}.*{match}"):
        getattr(model, method)(**arguments)


@pytest.mark.parametrize(
    ("get", "name", "match"),
    [
        (fnn.losses.get, "BCEWithLogitsLoss", r"there is fastnn\.BinaryCrossEntropy\(from_logits=True\)"),
        (fnn.losses.get, "mean squared eror", "did you mean 'mean_squared_error'"),
        (fnn.optimizers.get, "adamax", r"there is fastnn\.optimizers\.Custom"),
        (fnn.optimizers.get, "SDG", "did you mean 'sgd'"),
        (fnn.activations.get, "RELLU", "did you mean 'relu'"),
        (fnn.initializers.get, "kaiming_normal_", r"there is fastnn\.initializers\.HeNormal"),
        (fnn.regularizers.get, "l1 l3", "did you mean 'l1_l2'"),
        (fnn.metrics.get, "roc_auc_score", r"there is fastnn\.metrics\.AUC"),
        (fnn.schedules.get, "cosine", "schedule"),
    ],
)
def test_registries(get, name, match):
    with pytest.raises((ValueError, TypeError), match=match):
        get(name)


def public_callables():
    for name in ("", *SUBMODULES):
        module = module_of(name)
        for one in module.__all__:
            value = getattr(module, one)
            if callable(value):
                yield f"{module.__name__}.{one}", value
                if inspect.isclass(value):
                    for method, function in inspect.getmembers(value, inspect.isfunction):
                        if not method.startswith("_"):
                            yield f"{module.__name__}.{one}.{method}", function


def test_signatures_are_readable():
    found = list(public_callables())
    assert len(found) > 200
    for name, value in found:
        try:
            shown = str(inspect.signature(value))
        except ValueError:  # exceptions have none
            continue
        assert "ForwardRef" not in shown and "FACTORY" not in shown.upper() and ": '" not in shown, (name, shown)
        assert "<object" not in shown and "-> '" not in shown, (name, shown)
        assert not re.search(r"\b(fastnn|collections|typing|numpy)\.", shown), (name, shown)
    expected = "(layers: Sequence[Layer | Model | Symbol] = (), *, seed: int | np.random.Generator | None = None, "
    assert str(inspect.signature(fnn.Sequential)).startswith(expected)


def test_import_stays_quick_and_without_difflib_work():
    """Hints are made on demand: a plain import looks nothing up."""
    code = (
        "import fastnn.hints as hints\nhints.like = hints.of_name = None\nimport fastnn\n"
        "fastnn.Sequential([fastnn.Dense(3, name='a')])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_wrapped_constructors_stay_themselves():
    assert hints.explained(len_of)(value=[1, 2]) == 2
    assert len_of.__doc__ == hints.explained(len_of).__doc__
    with pytest.raises(TypeError, match="missing"):
        fnn.Dense()


def len_of(value):
    """Return the length."""
    return len(value)
