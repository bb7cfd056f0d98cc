"""Networks inside users' CUDA kernels that take integers: read in any dtype, and checked for range first."""

import numpy as np
import pytest

import fastnn as fnn
from device_networks import ROWS, SIZE, THREADS, chain, check, code_of, single, with_workspaces
from fastnn.backend.cuda.device_function.code import verify
from fastnn.backend.cuda.device_function.layout import HEAD, InstructionWord, Place

# on a GPU, where these tests run as well, numba-cuda finds the kernels small and the arrays far away
pytestmark = pytest.mark.filterwarnings("ignore:.*(Grid size|Host array)")


def of_integers(dtype="float32", depth=5):
    x = fnn.Input((2, 3), dtype="int64")
    hot = fnn.OneHot(depth)(fnn.Flatten()(x))
    return fnn.Model(x, fnn.Dense(4, "softmax")(fnn.Flatten()(fnn.Dense(3, "tanh")(hot))), seed=1, dtype=dtype)


@pytest.mark.parametrize("given", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inputs_of_integers(dtype, given):
    check(of_integers(dtype), np.random.default_rng(0).integers(0, 5, (ROWS, 2, 3)).astype(given))


def test_rows_of_one_hot_integers_alone():
    x = fnn.Input(1, dtype="int64")
    check(fnn.Model(x, fnn.OneHot(3)(x)), np.array([[2], [0], [1]]))


def test_rows_of_a_table():
    x = fnn.Input((2, 3), dtype="int64")
    y = fnn.Dense(4, "softmax")(fnn.Flatten()(fnn.Embedding(5, 3)(x)))
    check(fnn.Model(x, y, seed=1), np.random.default_rng(0).integers(0, 5, (ROWS, 2, 3)))


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("int64", -1), ("int64", 5), ("int8", -128), ("uint8", 255), ("uint64", 2**64 - 1), ("int64", 2**32)],
)
def test_an_integer_out_of_range_gives_nan_and_reads_nothing(dtype, value):
    model = of_integers()
    x, out = np.ones((ROWS, 2, 3), dtype), np.zeros((ROWS, 4), np.float32)
    x[1, 1, 2] = value
    works = np.full((ROWS, SIZE), 7.5, np.float32)
    with_workspaces[1, THREADS](model.freeze(device="cuda"), x, out, works)
    assert np.isnan(out[1]).all() and (works[1] == 7.5).all()
    np.testing.assert_allclose(out[::2], model.predict(np.ones((2, 2, 3), int)), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("network", "given"), [("int64", "float32"), ("float32", "int64")])
def test_numbers_and_integers_do_not_take_each_others_place(network, given):
    model = of_integers() if network == "int64" else chain(fnn.Dense(4))
    x, out = np.ones((ROWS, 6), given), np.zeros((ROWS, 4), np.float32)
    single[1, THREADS](model.freeze(device="cuda"), x, out)
    assert np.isnan(out).all()


def test_integers_are_not_read_as_numbers():
    code = code_of(of_integers(), (0, 4))
    verify(code)
    for model, integers in ((of_integers(), None), (chain(fnn.Dense(4)), (0, 4))):
        with pytest.raises(ValueError, match="instruction 0 reads integers as numbers, or numbers as integers"):
            code_of(model, integers)
    code[HEAD + InstructionWord.X] = int(Place.WORKSPACE)
    with pytest.raises(ValueError, match="instruction 0 reads integers as numbers, or numbers as integers"):
        verify(code)
