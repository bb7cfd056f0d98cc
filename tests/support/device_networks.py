"""Users' CUDA kernels with a network in them, which one thread runs for each sample."""

import numba
import numpy as np
from numba import cuda

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn.backend.cuda.device_function.code import encode
from fastnn.runtime.programs.codes import network

ROWS, THREADS = 3, 4
SIZE = 400


@cuda.jit
def single(net, x, out):
    i = cuda.grid(1)
    work = cuda.local.array(SIZE, numba.float32)
    if i < len(x):
        fnp.predict(net, x[i], out[i], work)


@cuda.jit
def double(net, x, out):
    i = cuda.grid(1)
    work = cuda.local.array(SIZE, numba.float64)
    if i < len(x):
        fnp.predict(net, x[i], out[i], work)


@cuda.jit
def with_workspaces(net, x, out, works):
    i = cuda.grid(1)
    if i < len(x):
        fnp.predict(net, x[i], out[i], works[i])


KERNELS = {"float32": single, "float64": double}
TOLERANCE = {"float32": 2e-6, "float64": 1e-14}


def chain(*layers, shape=(6,), dtype="float32"):
    return fnn.Sequential([fnn.Input(shape), *layers], dtype=dtype, seed=1)


def inputs(model, n=ROWS):
    shape = model._architecture.input_shapes[0]
    return np.random.default_rng(3).normal(size=(n, *shape)).astype(model._runtime.table.dtype)


def check(model, x=None, tolerance=1.0):
    """Compare a kernel's results with those of the model; only the outputs may have changed."""
    dtype = model._runtime.table.dtype
    x = inputs(model) if x is None else x
    net = model.freeze(device="cuda")
    assert fnp.workspace_elements(net) <= SIZE
    wanted = model.predict(x)
    held = np.full(wanted.size + 16, 7, dtype)
    given, out = x.copy(), held[8:-8].reshape(wanted.shape)
    before = [array.copy_to_host() for array in net]
    KERNELS[dtype][1, THREADS](net, given, out)
    np.testing.assert_allclose(out, wanted, rtol=tolerance * TOLERANCE[dtype], atol=tolerance * TOLERANCE[dtype])
    assert (held[:8] == 7).all() and (held[-8:] == 7).all()
    np.testing.assert_array_equal(given, x)
    for array, same in zip(net, before, strict=True):
        np.testing.assert_array_equal(array.copy_to_host(), same)


def code_of(model, integers=None):
    (inside,), (outside,) = model._architecture.input_shapes, model._architecture.output_shapes
    parameters = model._runtime.parameters.view(np.float32)
    made = network(model._runtime.table).make(1)
    return encode(made, parameters, (int(np.prod(inside)), int(np.prod(outside))), integers)[0]
