"""Imports on first use: the table of names, the time, what is imported, and imports in several threads at once."""

import ast
import importlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn as fnn
from fastnn import names

SOURCE = Path(fnn.__file__)


def run(code, *arguments, **environment):
    """Run code in a fresh process, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the table of names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({*names.MODULES, *names.LATER, *names.OWN} - {"ops"}))
def test_the_table_has_the_names_of_every_module(name):
    module = importlib.import_module(f"fastnn.{name}")
    shared, own = set(names.SHARED.get(name, ())), set(names.OWN.get(name, ()))
    there = set(module.__all__)
    assert not shared & own
    missing = there - shared - own
    assert not missing, f"put them into SHARED[{name!r}] of names.py if fastnn has them, too, else into OWN: {missing}"
    assert not own - there, f"names.OWN[{name!r}]: {own - there} are not in `__all__`"
    for one in shared:
        assert getattr(fnn, one) is getattr(module, one)


def test_type_checkers_see_the_same_names():
    """The branch of `__init__.py` that runs for type checkers alone gives the names and objects of the table."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    [branch] = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    seen: dict = {"__version__": fnn.__version__}
    exec(compile(ast.Module(branch.body, []), str(SOURCE), "exec"), seen)
    assert sorted(seen["__all__"]) == fnn.__all__
    for name in (*fnn.__all__, *names.LATER):
        assert seen[name] is getattr(fnn, name), name
    # mypy takes imported names as public only if the list itself has them, or an import of all names
    literal = next(node.value for node in branch.body if isinstance(node, ast.Assign))
    listed = set(ast.literal_eval(literal))
    layers = set(names.SHARED["layers"])
    assert listed | layers | {"__version__"} == set(fnn.__all__)


def test_all_modules_are_attributes():
    """Those that are not public, too, as in `fastnn.config.register`; those of `names.APART` by statements only."""
    rooms = {path.stem for path in SOURCE.parent.glob("*.py")} | {
        path.parent.name for path in SOURCE.parent.glob("*/__init__.py")
    }
    for room in rooms - {"__init__", "__main__", *names.APART, *names.LATER}:
        assert getattr(fnn, room).__name__ == f"fastnn.{room}"
    assert getattr(fnn, "no.such", None) is getattr(fnn, "", None) is None
    assert "None" in run("import fastnn; print(*(getattr(fastnn, name, None) for name in fastnn.names.APART))")


def test_packages_that_import_their_modules_run_on_first_use():
    """Others than these would have to be in `names.PACKAGES`, so that imports in threads do not wait for each other."""
    eager = set()
    for path in SOURCE.parent.glob("*/__init__.py"):
        package = f"fastnn.{path.parent.name}"
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{package}."):
                eager.add(path.parent.name)
    assert eager - {*names.LATER, *names.APART} == set(names.PACKAGES)


# --- time ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "then", "most"),
    [
        # fastnn takes 0.07 of NumPy's 0.05 to 0.15 s, and fastnn.sklearn 0.01 of scikit-learn's 0.9 s
        ("numpy", "fastnn", 0.25),
        ("sklearn.neural_network, sklearn.model_selection", "fastnn.sklearn", 0.05),
    ],
)
def test_import_is_quick_and_imports_nothing_optional(first, then, most, tmp_path, monkeypatch):
    if first != "numpy":
        pytest.importorskip("sklearn")
    # as for users, whose Python keeps the bytecode of what it has imported: the first run writes it
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    code = (
        f"import time, sys\nbegin = time.process_time()\nimport {first}\nmiddle = time.process_time()\n"
        f"before = set(sys.modules)\nimport {then}\nprint((time.process_time() - middle) / (middle - begin))\n"
        "optional = {'numba', 'llvmlite', 'matplotlib', 'pandas', 'polars', 'scipy', 'sklearn', 'IPython', "
        "'tokenizers', 'optuna'}\n"
        "print(*sorted(optional & set(sys.modules) - before))\n"
        "print(*sorted({'.'.join(one.split('.')[:3]) for one in sys.modules if one.startswith('fastnn.')}))"
    )
    ratios = []
    for _ in range(6):
        ratio, optional, inner = run(code, PYTHONPYCACHEPREFIX=str(tmp_path)).splitlines()
        assert optional == ""
        # packages are there, but none of their modules
        needed = {"fastnn.layers.core", "fastnn.losses.base", "fastnn.model.model", "fastnn.runtime", "fastnn.training"}
        assert not {*needed, "fastnn.sklearn.network", "fastnn.sklearn.minimize"} & set(inner.split())
        ratios.append(float(ratio))
    assert min(ratios[1:]) < most, ratios


def test_estimators_without_scikit_learn_say_what_to_install():
    code = """
import sys
sys.modules["sklearn"] = None  # as if it were not installed
try:
    from fastnn.sklearn import MLPClassifier
except ModuleNotFoundError as error:
    print(error)
"""
    assert run(code).strip() == 'fastnn.sklearn needs scikit-learn: python -m pip install "fastnn-numba[sklearn]"'


# --- what works as if everything had been imported ------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "import fastnn.layers; fastnn.layers.Dense(3)",
        "from fastnn import layers, Dense; assert layers.Dense is Dense",
        "from fastnn import *; Dense(3), losses.Huber(), load",
        "from fastnn.layers.core import Dense; import fastnn; assert fastnn.Dense is Dense",
        "import fastnn; assert fastnn.layers.__doc__.startswith('Layers') and fastnn.Model.__doc__",
        "import fastnn; assert 'Dense' in dir(fastnn.layers) and 'Dense' in fastnn.layers.__all__",
        "import fastnn; fastnn.config.register",
        # operators of symbols, and classes by name, where only one module has been imported
        "from fastnn.layers.core import Input; Input(3) + 1.0",
        "from fastnn.registry import REGISTRY; assert 'LSTM' in REGISTRY['layer'] and 'Adam' in REGISTRY['optimizer']",
        "from fastnn.registry import REGISTRY; assert 'Huber' in dict(REGISTRY.items())['loss']",
        "from fastnn.metrics import get; get('huber')",
        "import fastnn; fastnn.losses.get(lambda t, p: (t - p) ** 2)",
        "import fastnn as fnn\ndef loss(t, p): return fnn.ops.sum(t * p)\nfnn.losses.get(loss)",
    ],
)  # fmt: skip
def test_in_a_fresh_process(code):
    run(code)


def test_models_are_unpickled_and_loaded_in_fresh_processes(tmp_path):
    inputs = fnn.Input((4, 3))
    masked = fnn.LSTM(2, kernel_constraint=fnn.MaxNorm(2.0))(inputs)
    model = fnn.Model(inputs, fnn.Dense(1, kernel_regularizer="l2")(masked))
    model.compile(fnn.Adam(fnn.schedules.CosineDecay(0.1, 10)), fnn.Huber(), metrics=["mae"])
    path = tmp_path / "model"
    path.write_bytes(pickle.dumps(model))
    code = "import pickle, sys; made = pickle.load(open(sys.argv[1], 'rb')); print(made.count_params())"
    assert int(run(code, str(path))) == model.count_params()
    model.save(tmp_path / "model.fnn")
    code = "import fastnn, sys; made = fastnn.load(sys.argv[1]); print(made.count_params())"
    assert int(run(code, str(tmp_path / "model.fnn"))) == model.count_params()


# --- threads ----------------------------------------------------------------------------------------------

THREADS = """
import faulthandler, random, sys, threading, traceback
faulthandler.dump_traceback_later(120, exit=True)
import fastnn as fnn

statements = [
    "fnn.Dense(3)", "fnn.Sequential([fnn.Input(2), fnn.Dense(1)])", "fnn.losses.Huber()", "fnn.layers.LSTM(3)",
    "fnn.load", "fnn.EarlyStopping()", "fnn.train_many", "fnn.datasets.make_xor()", "fnn.activations.relu",
    "fnn.config.REGISTRY['layer']", "from fastnn import *", "from fastnn import losses; losses.get('mse')",
    "from fastnn.layers import Dense; Dense(3)", "from fastnn.layers.core import Dense, Input; Dense(3)(Input(2))",
    "import fastnn.layers; fastnn.layers.GRU(2)", "from fastnn.model import Sequential",
    "from fastnn.model.model import Model", "from fastnn.optimizers.adam import Adam",
    "from fastnn.layers.maps.preprocessing import Resizing", "from fastnn.metrics import get; get('mse')",
    "from fastnn.runtime.runtime import Runtime", "from fastnn.losses.base import Loss",
    "from fastnn.training.fit import fit",
]
random.Random(int(sys.argv[1])).shuffle(statements)
sys.setswitchinterval(1e-4)
begin, failed = threading.Barrier(len(statements)), []

def run(statement):
    begin.wait()
    try:
        exec(statement, {"fnn": fnn})
    except BaseException:
        failed.append(statement + traceback.format_exc())

threads = [threading.Thread(target=run, args=(one,)) for one in statements]
for one in threads: one.start()
for one in threads: one.join()
print(*failed)
"""


@pytest.mark.parametrize("seed", range(3))
def test_threads_import_at_the_same_time(seed):
    """With packages that import their modules at once, a third of these runs would fail: Python detects deadlocks."""
    assert run(THREADS, str(seed)).strip() == ""


FORK = """
import os, sys, threading, time
import fastnn as fnn

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "fastnn.layers.merge":
            begun.set(); time.sleep(0.5)

begun = threading.Event()
sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=lambda: fnn.Dense(3)); thread.start()
begun.wait()
child = os.fork()
if not child:
    fnn.Dense(3)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_fork_waits_for_imports_in_other_threads():
    assert run(FORK, PYTHONWARNINGS="ignore").strip() == "7"
