"""Kernels of user-defined functions exist as long as they are used."""

import gc
import subprocess
import sys

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn.backend.cpu.loading import library
from fastnn.formulas import custom

X = np.ones((3, 1), np.float32)


def scaled(factor):
    return lambda x: x * factor


def model_of(factor):
    return fnn.Sequential([fnn.Input(1), fnn.Dense(1, scaled(factor), kernel_initializer="ones")], seed=0)


def kernels():
    gc.collect()
    return len(library._users)


def test_kernels_and_functions_of_models_that_are_gone_are_freed(monkeypatch):
    monkeypatch.setattr(library, "_latest", type(library._latest)(maxlen=2))
    kept = model_of(1.5)
    kept.predict(X)
    before, functions = kernels(), len(custom._known)
    for number in range(6):
        assert model_of(2.5 + number).predict(X)[0, 0] == 2.5 + number
    # the two latest, instead of at most two earlier ones
    assert kernels() <= before + 2 and len(custom._known) <= functions + 2
    # what a living model uses is there, also for programs that it makes later
    assert (kept.predict(X * 2) == 3).all() and (kept.predict(np.ones((7, 1))) == 1.5).all()


def test_a_frozen_network_keeps_what_it_calls(monkeypatch):
    monkeypatch.setattr(library, "_latest", type(library._latest)(maxlen=1))
    net = model_of(3.25).freeze()
    model_of(4.25).predict(X)
    gc.collect()
    out = np.zeros((3, 1), np.float32)
    fnp.predict(net, X, out)
    assert (out == 3.25).all()


@pytest.mark.slow
def test_memory_stays_bounded():
    code = """
import gc, numpy as np, fastnn as fnn
def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
def make(factor):
    model = fnn.Sequential([fnn.Input(1), fnn.Dense(1, lambda x: x * factor)], seed=0)
    model.predict(np.ones((3, 1), np.float32))
for number in range(20):
    make(number + 0.5)
before = resident()
for number in range(50):
    make(number + 100.5)
print((resident() - before) / 50)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True)
    # Numba's compilation leaves some 0.8 MB, which cannot be freed
    assert float(done.stdout) < 1.5
