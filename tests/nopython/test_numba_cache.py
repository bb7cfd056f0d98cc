"""Users' functions that Numba keeps on disk: for other networks, in other processes, by other versions of fastnn."""

import itertools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn.backend.cpu.frozen import network

USERS_MODULE = """
import numpy as np
from numba import njit, prange

import fastnn as fnn
from fastnn import nopython as fnp


def model(units, seed):
    return fnn.Sequential([fnn.Input(6), *(fnn.Dense(n, "tanh") for n in units)], seed=seed)


@njit(cache=True)
def last(net, x, out):
    for i in range(len(x)):
        fnp.predict(net, x[i], out[i])
    return out[-1].sum()


NET = model((4, 2), 0).freeze()


@njit(cache=True)
def of_a_global(x, out):
    fnp.predict(NET, x, out)


@njit(cache=True)
def learn(learner, x, y):
    total = 0.0
    for i in range(len(x)):
        total += fnp.train_step(learner, x[i], y[i])
    return total
"""
USERS_SCRIPT = """
import json, sys
import numpy as np
import users
seed, *units = map(int, sys.argv[1:])
model = users.model(units, seed)
x = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
out = np.empty((5, units[-1]), np.float32)
users.last(model.freeze(), x, out)
wanted = np.stack([model.predict(row[None])[0] for row in x])
model.compile("adam", "mse")
learner = model.learner()
users.learn(learner, x, wanted * 2)
model.fit(x, wanted * 2, batch_size=1, shuffle=False, verbose=0)
learned = learner.parameters.tobytes() == model._runtime.parameters.tobytes()
two = np.empty((5, 2), np.float32)
try:
    users.of_a_global(x, two)
    refused = ""
except RuntimeError as error:
    refused = str(error)
try:
    users.last(model.freeze(), x[:, :5].copy(), out)
    said = ""
except ValueError as error:
    said = str(error)
hits = [sum(f.stats.cache_hits.values()) for f in (users.last, users.of_a_global, users.learn)]
same = learned and out.tobytes() == wanted.tobytes()
print(json.dumps({"same": same, "hits": hits, "refused": refused, "said": said}))
"""


def test_users_functions_from_disk(tmp_path):
    """One compilation serves other weights and architectures in other processes; stale addresses are refused."""
    (tmp_path / "users.py").write_text(USERS_MODULE)
    package = str(Path(fnn.__file__).parents[1])
    variables = os.environ | {"PYTHONPATH": f"{package}{os.pathsep}{tmp_path}", "NUMBA_CACHE_DIR": str(tmp_path / "c")}
    found = []
    for arguments in (["1", "8", "3"], ["2", "8", "3"], ["3", "5", "5", "7"]):
        command = [sys.executable, "-c", USERS_SCRIPT, *arguments]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert all(result["same"] for result in found)
    assert [result["hits"][0] for result in found] == [result["hits"][2] for result in found] == [0, 1, 1]
    # what raises is kept with the function, and the numbers are those of this process' call
    assert all(result["said"].endswith("x: expected shape (6,) or (n, 6), got (5,)") for result in found)
    assert found[0]["refused"] == ""
    for result in found[1:]:
        assert result["hits"][1] == 0 or "another process" in result["refused"]
    # Numba keeps functions with constants of arrays: this is what the token is there for
    assert [result["hits"][1] for result in found] == [0, 1, 1]


OTHER_LAYOUT = """
import sys
import numpy as np
import fastnn as fnn
from fastnn import nopython as fnp
from fastnn.backend.cpu.frozen import network
if sys.argv[1] == "other":
    # as if this were the class of another version
    network.FrozenNetwork.__qualname__ = "FrozenNetwork_1f"
    network.FrozenNetwork_1f = network.FrozenNetwork
import users
net = users.model((4, 2), 0).freeze()
x, out = np.ones((5, 6), np.float32), np.empty((5, 2), np.float32)
users.last(net, x, out)
users.first((net, net), x, out)
print(*(sum(f.stats.cache_hits.values()) for f in (users.last, users.first)))
"""
USERS_TUPLE = """

@njit(cache=True)
def first(nets, x, out):
    fnp.predict(nets[0], x, out)
"""


def test_users_functions_of_another_layout_are_compiled_again(tmp_path):
    (tmp_path / "users.py").write_text(USERS_MODULE + USERS_TUPLE)
    package = str(Path(fnn.__file__).parents[1])
    variables = os.environ | {"PYTHONPATH": f"{package}{os.pathsep}{tmp_path}", "NUMBA_CACHE_DIR": str(tmp_path / "c")}
    hits = []
    for layout in ("other", "other", "this", "this"):
        command = [sys.executable, "-c", OTHER_LAYOUT, layout]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        hits.append(done.stdout.split())
    assert hits == [["0", "0"], ["1", "1"], ["0", "0"], ["1", "1"]]


def test_classes_of_other_layouts_stand_for_nothing():
    """Numba reads the whole index of a function that earlier versions have compiled, and needs all classes in it."""
    for name in ("network.FrozenNetwork_1f", "network.FrozenNetworks_0", "learner.Learner_a", "learner.Learners_ff"):
        module, kind = name.split(".")
        found = pickle.loads(f"cfastnn.backend.cpu.frozen.{module}\n{kind}\n.".encode())
        assert found not in (fnp.FrozenNetwork, fnp.FrozenNetworks, fnp.Learner, fnp.Learners)
    for module, kind in itertools.product(("frozen", "learner"), ("FrozenNetwork", "FrozenNetworks")):
        kind = kind if module == "frozen" else kind.replace("FrozenNetwork", "Learner")
        assert pickle.loads(f"cfastnn.backend.cpu.{module}\n{kind}\n.".encode()) is not getattr(fnp, kind)
    for kind in (fnp.FrozenNetwork, fnp.FrozenNetworks, fnp.Learner, fnp.Learners):
        assert pickle.loads(pickle.dumps(kind)) is kind
        assert kind.__qualname__ not in (kind.__name__, f"{kind.__name__}_")
    with pytest.raises(AttributeError, match="FrozenNet_1f"):
        network.FrozenNet_1f  # noqa: B018
