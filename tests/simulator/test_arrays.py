"""Arrays that are already on a GPU: fastnn's own, and those described by other libraries' protocols."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.backend.cuda.driver import available
from fastnn.backend.cuda.simulator import memory


def network(shape=(4,)):
    return fnn.Sequential([fnn.Input(shape), fnn.Flatten(), fnn.Dense(3, "tanh")], seed=1).to("cuda")


class Foreign:
    """An array of another library, as `__cuda_array_interface__` describes it."""

    def __init__(self, array, **more):
        self.whole = np.array(array.base if array.base is not None else array)
        self.array = np.ndarray(array.shape, array.dtype, self.whole, strides=array.strides)
        memory.register(self.whole.reshape(-1).view(np.uint8))
        self.more = more

    @property
    def __cuda_array_interface__(self):
        found = {
            "shape": self.array.shape,
            "typestr": self.array.dtype.str,
            "data": (self.array.ctypes.data, False),
            "strides": None if self.array.flags.c_contiguous else self.array.strides,
            "version": 3,
        }
        return {**found, **self.more}


class Packed:
    """An array of another library, as DLPack describes it."""

    def __init__(self, array):
        self.array = np.array(array)
        memory.register(self.array.reshape(-1).view(np.uint8))

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, *, stream=None):
        assert stream == -1
        return self.array.__dlpack__()


def rows(shape=(6, 4), dtype=np.float32):
    return (10 * np.random.default_rng(2).standard_normal(shape)).astype(dtype)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("kind", [Foreign, Packed])
def test_integers_of_others_are_checked(kind, dtype):
    model = fnn.Sequential([fnn.Input(4, dtype="int64"), fnn.OneHot(2), fnn.Flatten(), fnn.Dense(3)], seed=1).to("cuda")
    x = np.random.default_rng(2).integers(0, 2, (6, 4)).astype(dtype)
    np.testing.assert_array_equal(model.predict(kind(x)).copy_to_host(), model.predict(x))
    if dtype != "bool":
        x[4, 1] = 3
        with pytest.raises(ValueError, match="expected integers from 0 to 1, which layer 'one_hot' takes; row 4 has 3"):
            model.predict(kind(x))
    with pytest.raises(TypeError, match="takes integers, got float32"):
        model.predict(kind(x.astype(np.float32)))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("kind", [Foreign, Packed])
def test_arrays_of_others_are_read_in_place(kind, dtype):
    model, x = network(), rows().astype(dtype)
    expected = model.predict(x)
    got = model.predict(kind(x))
    assert isinstance(got, fnn.cuda.DeviceArray) and got.shape == (6, 3) and len(got) == 6 and got.ndim == 2
    np.testing.assert_array_equal(got.copy_to_host(), expected)


def test_strides():
    model, x = network((2, 3)), rows((3, 2, 5))[..., ::2].transpose(1, 0, 2)[:, :2].transpose(0, 1, 2)
    np.testing.assert_array_equal(model.predict(Foreign(x)).copy_to_host(), model.predict(np.ascontiguousarray(x)))


def test_what_another_library_sees_of_a_result():
    result = network().predict(Foreign(rows()))
    described = result.__cuda_array_interface__
    assert (described["shape"], described["typestr"], described["strides"]) == ((6, 3), "<f4", None)
    again = network().predict(rows())
    seen = np.empty((6, 3), np.float32)
    available.open_device(0).read(described["data"][0], seen)
    np.testing.assert_array_equal(seen, again)


def test_one_column_needs_no_second_axis():
    model, x = network((1,)), rows((5,))
    np.testing.assert_array_equal(model.predict(Foreign(x)).copy_to_host(), model.predict(x))


def test_targets_and_weights_on_the_gpu():
    x, y, weight = rows(), np.arange(6) % 3, np.linspace(0.5, 1.0, 6)
    models = [fnn.Sequential([fnn.Input((4,)), fnn.Dense(3, "softmax")], seed=1, device="cuda") for _ in range(2)]
    for model in models:
        model.compile("sgd", "cross_entropy")
    models[0].fit(Foreign(x), Foreign(y), sample_weight=Packed(weight), epochs=1, batch_size=3, verbose=0)
    models[1].fit(x, y, sample_weight=weight, epochs=1, batch_size=3, verbose=0)
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_refused():
    model = network()
    with pytest.raises(ValueError, match=r"expects shape \(n, 4\), got \(6, 5\)"):
        model.predict(Foreign(rows((6, 5))))
    with pytest.raises(TypeError, match="expected float32, float64 or integer numbers on the GPU, got complex64"):
        model.predict(Foreign(rows().astype(np.complex64)))
    with pytest.raises(TypeError, match="on the GPU, got float16"):
        model.predict(Foreign(rows().astype(np.float16)))
    with pytest.raises(ValueError, match="masked array on the GPU"):
        model.predict(Foreign(rows(), mask=Foreign(rows() > 0)))
    with pytest.raises(TypeError, match="on the GPU 'cuda:0', but the model is on the CPU"):
        model.to("cpu").predict(Packed(rows()))

    # one that raises when it is asked, as PyTorch does for a tensor with a history
    class Asking:
        @property
        def __cuda_array_interface__(self):
            raise RuntimeError("use detach()")

    with pytest.raises(TypeError, match=r"x: use detach\(\)"):
        model.predict(Asking())
