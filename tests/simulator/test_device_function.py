"""Networks inside users' CUDA kernels: `fastnn.nopython.predict`, one thread per sample, against `Model.predict`."""

import copy
import pickle

import numpy as np
import pytest
from numba import cuda
from numba.core.errors import TypingError

import fastnn as fnn
from device_networks import ROWS, SIZE, THREADS, chain, check, code_of, inputs, single, with_workspaces
from fastnn import nopython as fnp
from fastnn.backend.cuda.device_function import network as backend
from fastnn.backend.cuda.device_function.code import verify
from fastnn.backend.cuda.device_function.instructions import BY_NUMBER
from fastnn.backend.cuda.device_function.layout import ACTIVATIONS, HEAD, STRIDE, Head, InstructionWord, Place
from fastnn.backend.cuda.simulator import ptx
from fastnn.program.layout import Buffer
from fastnn.program.layout import encode as at
from fastnn.program.program import RecordDraft, make_program
from frozen import angles, attention, grouped
from networks import make_case

# on a GPU, where these tests run as well, numba-cuda finds the kernels small and the arrays far away
pytestmark = pytest.mark.filterwarnings("ignore:.*(Grid size|Host array)")

# in the simulator, and where kernels are compiled
WRONG = (TypeError, TypingError)


def residual(dtype):
    x = fnn.Input((6,))
    h = fnn.Add()([fnn.Dense(6, "gelu")(x), x])
    h = fnn.LayerNorm()(fnn.Concatenate()([h, fnn.Multiply()([h, x]), x]))
    return fnn.Model(x, fnn.Dense(3, "softmax")(h), seed=2, dtype=dtype)


def normalised(dtype, **options):
    model = chain(
        fnn.Dense(9), fnn.BatchNorm(**options), fnn.Activation("tanh"), fnn.Dropout(0.5), fnn.Dense(2), dtype=dtype
    )
    rng = np.random.default_rng(4)
    model.set_weights([rng.uniform(0.5, 1.5, w.shape).astype(dtype) for w in model.get_weights()])
    return model


def ends_joined(dtype):
    """The output is written by several instructions, which read the input."""
    x = fnn.Input((4,))
    return fnn.Model(x, fnn.Concatenate()([x, fnn.Dense(3)(x), x]), seed=2, dtype=dtype)


def scaled(dtype):
    """Rows are shifted and scaled by what is computed from their sum."""
    x = fnn.Input((5, 3))
    y = fnn.Dense(3, "tanh")(fnn.Flatten()(x))
    return fnn.Model(x, fnn.Add()([y, fnn.Multiply()([y, x])]), seed=2, dtype=dtype)


def of_symbols(dtype):
    """Functions of one to three values, of numbers, broadcast rows and columns; the last one fills the output."""
    x = fnn.Input((2, 3))
    y = fnn.ops.where(x > 0.3, fnn.ops.sin(x) + 2.0 * x, -1.5)
    y = fnn.ops.maximum(y, x[:, :, :1]) * x[:, :1]
    return fnn.Model(x, fnn.ops.where(y < 0.1, y, fnn.ops.power(fnn.ops.absolute(y) + 0.1, 1.7)), dtype=dtype)


def places(dtype):
    x = fnn.Input((4, 5))
    return fnn.Model(x, fnn.Dense(2)(fnn.Add()([x, fnn.SinePositionEncoding(100.0)(x)])), seed=3, dtype=dtype)


MODELS = {
    "functions of symbols": of_symbols,
    "perceptron": lambda dtype: chain(fnn.Dense(20, "relu"), fnn.Dense(10, "softmax"), dtype=dtype),
    "one layer": lambda dtype: chain(fnn.Dense(4), dtype=dtype),
    "one layer and activation": lambda dtype: chain(fnn.Dense(4, "tanh"), dtype=dtype),
    "one output": lambda dtype: chain(fnn.Dense(17, "tanh"), fnn.Dense(1, "sigmoid"), dtype=dtype),
    "log softmax": lambda dtype: chain(fnn.Dense(5, "log_softmax"), dtype=dtype),
    "no bias": lambda dtype: chain(fnn.Dense(8, "gelu"), fnn.Dense(4, use_bias=False), dtype=dtype),
    "wide": lambda dtype: chain(*(fnn.Dense(n) for n in (1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16)), dtype=dtype),
    "residual": residual,
    "ends joined": ends_joined,
    "normalised": normalised,
    "normalised and cut": lambda dtype: chain(
        fnn.Dense(9), fnn.BatchNorm(), fnn.Activation("relu"), fnn.Dense(7), fnn.BatchNorm(), fnn.Activation("relu6"),
        dtype=dtype,
    ),
    "normalised only": lambda dtype: normalised(dtype, scale=False, center=False),
    "rows normalised": lambda dtype: chain(fnn.LayerNorm(scale=False), fnn.LayerNorm(center=False), dtype=dtype),
    "turned": lambda dtype: chain(
        fnn.Permute((2, 1)), fnn.Dense(4), fnn.Permute((2, 1)), shape=(3, 5), dtype=dtype
    ),
    "cropped": lambda dtype: chain(fnn.Cropping1D((1, 0)), fnn.Dense(4), shape=(3, 5), dtype=dtype),
    "turned alone": lambda dtype: chain(fnn.Permute((3, 1, 2)), shape=(2, 3, 4), dtype=dtype),
    "scaled": lambda dtype: scaled(dtype),
    "attention": attention,
    "places": places,
    "angles": angles,
    "grouped": grouped,
    "rows divided": lambda dtype: chain(fnn.RMSNorm(scale=False), fnn.Dense(6), fnn.RMSNorm(), dtype=dtype),
    "images": lambda dtype: chain(
        fnn.Dense(4), fnn.Flatten(), fnn.Dense(5), fnn.Reshape((5, 1)), shape=(3, 2), dtype=dtype
    ),
    "sequence": lambda dtype: chain(
        fnn.Dense(7, "relu"), fnn.LayerNorm(), fnn.Activation("softmax"), shape=(5, 6), dtype=dtype
    ),
    "convolutions": lambda dtype: chain(
        fnn.Conv2D(9, 3, activation="relu", padding="same"), fnn.MaxPooling2D(2),
        fnn.Conv2D(4, (2, 1), activation="tanh"), fnn.AveragePooling2D(2, strides=1, padding="same"),
        fnn.Flatten(), fnn.Dense(3), shape=(5, 6, 2), dtype=dtype
    ),
    "convolutions of lines": lambda dtype: chain(
        fnn.Conv1D(6, 3, dilation_rate=2, padding="causal", groups=2), fnn.Conv1D(6, 2, strides=2, activation="gelu"),
        fnn.MaxPooling1D(3, 1, padding="same"), shape=(9, 4), dtype=dtype
    ),
    "convolution of volumes": lambda dtype: chain(
        fnn.Conv3D(5, (2, 3, 2), strides=(2, 1, 1), padding="same"), shape=(3, 4, 3, 1), dtype=dtype
    ),
    "softmax alone": lambda dtype: chain(fnn.Activation("softmax"), dtype=dtype),
    "reshaped alone": lambda dtype: chain(fnn.Reshape((3, 2)), dtype=dtype),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_architectures(name, dtype):
    check(MODELS[name](dtype))


def test_attention_and_transposed_convolutions_run_on_the_cpu_only():
    with pytest.raises(NotImplementedError, match="heads: attention has no code for GPUs"):
        chain(fnn.MultiHeadAttention(2, 3, name="heads"), shape=(3, 3)).freeze(device="cuda")
    with pytest.raises(NotImplementedError, match="conv_back has no code for GPUs"):
        chain(fnn.Conv2DTranspose(2, 2), shape=(3, 3, 1)).freeze(device="cuda")


def activation(name):
    more = {"leaky_relu": {"negative_slope": 0.3}, "elu": {"alpha": 0.7}, "step": {"threshold": 0.1}}
    if name == "gelu_tanh":
        return fnn.activations.GELU(approximate=True)
    chosen = fnn.activations.get(name)
    return type(chosen)(*more[name].values()) if name in more else chosen


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, dtype):
    check(chain(fnn.Activation(activation(name)), dtype=dtype), tolerance=4)
    check(chain(fnn.Dense(5, activation(name)), dtype=dtype), tolerance=4)


@pytest.mark.parametrize("seed", range(40))
def test_random_networks(seed):
    case = make_case(seed, 3 + seed % 7)
    if len(case.inputs) > 1:
        case = make_case(seed + 1000, 2 + seed % 4)
    dtype = ["float32", "float64"][seed % 2]
    model = fnn.Model(case.inputs, case.outputs[:1], seed=5, dtype=dtype)
    if len(case.inputs) > 1:
        with pytest.raises(ValueError, match="one input"):
            model.freeze(device="cuda")
        return
    rng, weights = np.random.default_rng(1), []
    for entry in model._runtime.table:
        positive = entry.spec.name in ("gamma", "moving_variance")
        values = rng.uniform(0.5, 1.5, entry.spec.shape) if positive else rng.normal(0, 0.5, entry.spec.shape)
        weights.append(values.astype(dtype))
    model.set_weights(weights)
    if any(isinstance(layer, (fnn.MultiHeadAttention, fnn.GroupedQueryAttention)) for layer in model.layers):
        with pytest.raises(NotImplementedError, match=r"(attention|rotate) has no code for GPUs"):
            model.freeze(device="cuda")
        return
    check(model, tolerance=50)


def of_one_record(op, operands, dims):
    """Make a network of a record that no layer makes, or no freezable layer."""
    sizes = {Buffer.PARAMETERS: 64, Buffer.DATA: 24, Buffer.DATA + 1: 24}
    made = make_program("network", 1, "float32", [RecordDraft(op, operands, dims, label="layer")], [], sizes)
    return backend.freeze(made, np.arange(16, dtype=np.float32), (6, 6), None, 16, 0)


def test_a_bias_alone():
    operands = {"y": at(Buffer.DATA + 1, 0), "x": at(Buffer.DATA, 0), "bias": at(Buffer.PARAMETERS, 16)}
    net = of_one_record("bias_add", operands, {"rows": 2, "cols": 3})
    x, out = np.linspace(-1, 1, 6, dtype=np.float32).reshape(1, 6), np.zeros((1, 6), np.float32)
    single[1, THREADS](net, x, out)
    np.testing.assert_array_equal(out, x + np.float32([4, 5, 6, 4, 5, 6]))


def test_records_that_have_no_code():
    operands = {"y": at(Buffer.DATA + 1, 0), "x": at(Buffer.DATA, 0)}
    with pytest.raises(NotImplementedError, match="layer: dropout has no code for GPUs"):
        of_one_record("dropout", operands, {"n": 6, "node": 0})
    with pytest.raises(NotImplementedError, match="is not a weight"):
        of_one_record("bias_add", {**operands, "bias": at(Buffer.DATA, 0)}, {"rows": 2, "cols": 3})


def test_one_kernel_serves_all_architectures():
    for name in ("perceptron", "residual", "normalised", "images"):
        model = MODELS[name]("float32")
        x = inputs(model)
        wanted = model.predict(x)
        out = np.empty_like(wanted)
        single[1, THREADS](model.freeze(device="cuda:0"), x, out)
        np.testing.assert_allclose(out, wanted, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", ["one layer", "softmax alone", "ends joined", "perceptron"])
def test_inputs_may_be_the_outputs(name):
    model = MODELS[name]("float32")
    x = inputs(model, 1)
    wanted = model.predict(x)
    for first, second in ((0, 0), (0, 2), (3, 0)):
        memory = cuda.to_device(np.full(40, 7, np.float32))
        given, out = (
            memory[start : start + array.size].reshape(1, array.size) for start, array in ((first, x), (second, wanted))
        )
        given.copy_to_device(x)
        single[1, THREADS](model.freeze(device="cuda"), given, out)
        np.testing.assert_allclose(out.copy_to_host(), wanted, rtol=2e-6, atol=2e-6)


def test_not_a_number_reaches_the_caller():
    model = MODELS["perceptron"]("float32")
    x, out = inputs(model), np.zeros((ROWS, 10), np.float32)
    x[1, 2] = np.nan
    x[2, 3] = np.inf
    single[1, THREADS](model.freeze(device="cuda"), x, out)
    assert np.isnan(out[1:]).all() and np.isfinite(out[0]).all()


# --- what does not fit ------------------------------------------------------------------------------------------


def fields(change):
    """Return a change of a network's fields, as host arrays."""

    def changed(net):
        code, parameters = (array.copy_to_host() for array in net)
        return fnp.FrozenDeviceNetwork(*(cuda.to_device(array) for array in change(code, parameters)))

    return changed


def word(index, value):
    def change(code, parameters):
        code[index] = value
        return code, parameters

    return fields(change)


@pytest.mark.parametrize(
    ("change", "inside", "outside", "size"),
    [
        (lambda net: net, 5, 10, SIZE),
        (lambda net: net, 7, 10, SIZE),
        (lambda net: net, 6, 9, SIZE),
        (lambda net: net, 6, 11, SIZE),
        (lambda net: net, 6, 10, 29),
        (word(Head.MAGIC, 1), 6, 10, SIZE),
        (word(Head.ITEM_BYTES, 8), 6, 10, SIZE),
        (word(Head.COUNT, 1), 6, 10, SIZE),
        (word(Head.COUNT, 4), 6, 10, SIZE),
        (fields(lambda code, parameters: (code[: HEAD - 1], parameters)), 6, 10, SIZE),
        (fields(lambda code, parameters: (code[:1], parameters)), 6, 10, SIZE),
        (fields(lambda code, parameters: (code[:-STRIDE], parameters)), 6, 10, SIZE),
        (fields(lambda code, parameters: (code, parameters[:-4])), 6, 10, SIZE),
        (fields(lambda code, parameters: (np.zeros_like(code), parameters)), 6, 10, SIZE),
    ],
)
def test_what_does_not_fit_gives_nan_and_touches_nothing_else(change, inside, outside, size):
    model = MODELS["perceptron"]("float32")
    net = change(model.freeze(device="cuda"))
    memory = np.full(8 + outside, 7.5, np.float32)
    held = cuda.to_device(memory)
    x, out = np.zeros((1, inside), np.float32), held[4:-4].reshape(1, outside)
    works = cuda.to_device(np.full((1, size), 7.5, np.float32))
    with_workspaces[1, THREADS](net, x, out, works)
    assert np.isnan(held.copy_to_host()[4:-4]).all()
    assert (held.copy_to_host()[:4] == 7.5).all() and (held.copy_to_host()[-4:] == 7.5).all()
    assert (works.copy_to_host() == 7.5).all() and not x.any()


def test_a_workspace_of_the_least_size():
    model = MODELS["perceptron"]("float32")
    net, x = model.freeze(device="cuda"), inputs(model)
    out, works = np.empty((ROWS, 10), np.float32), np.empty((ROWS, fnp.workspace_elements(net)), np.float32)
    assert fnp.workspace_elements(net) == 30
    with_workspaces[1, THREADS](net, x, out, works)
    np.testing.assert_allclose(out, model.predict(x), rtol=2e-6, atol=2e-6)


def test_memory_of_kernels_is_checked():
    memory = ptx.memory_of(np.zeros((2, 3), np.float32))
    assert memory.shape == (6,)
    for index in (-1, 6):
        with pytest.raises(IndexError):
            ptx.ANY_LOADS["float32"](memory, index)
        with pytest.raises(IndexError):
            ptx.ANY_STORES["float32"](memory, index, np.float32(0))


def strided(array):
    return cuda.to_device(np.repeat(array, 2, axis=-1))[:, ::2]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda x, out, work: (x.astype(np.float64), out, work), "x: expected an array of float32"),
        (lambda x, out, work: (x, out.astype(np.int32), work), "out: expected"),
        (lambda x, out, work: (x, out, work.astype(np.int64)), "work: expected"),
        (lambda x, out, work: (strided(x), out, work), "x: expected a.* C-contiguous"),
        (lambda x, out, work: (x, strided(out), work), "out: expected a.* C-contiguous"),
    ],
)
def test_wrong_types(change, match):
    net = MODELS["perceptron"]("float32").freeze(device="cuda")
    given = change(*(np.zeros((1, n), np.float32) for n in (6, 10, SIZE)))
    with pytest.raises(WRONG, match=match):
        with_workspaces[1, 1](net, *given)


def test_predict_is_for_kernels():
    net = MODELS["perceptron"]("float32").freeze(device="cuda")
    x, out = np.zeros(6, np.float32), np.zeros(10, np.float32)
    with pytest.raises(TypeError, match="kernels"):
        fnp.predict(net, x, out, np.zeros(SIZE, np.float32))

    @cuda.jit
    def without_workspace(net, x, out):
        fnp.predict(net, x, out)

    with pytest.raises(WRONG, match="workspace_elements"):
        without_workspace[1, 1](net, x, out)


@pytest.mark.parametrize(
    "call",
    [
        lambda net: fnp.workspace(net, 3),
        lambda net: fnp.input_gradient(net, *(np.zeros(6, np.float32),) * 3),
        lambda net: fnp.jacobian(net, np.zeros(6, np.float32), np.zeros((10, 6), np.float32)),
        fnp.parameter_count,
        lambda net: fnp.set_parameters(net, np.zeros(3, np.float32)),
        lambda net: fnp.get_parameters(net, np.zeros(3, np.float32)),
        fnp.c_function,
        fnp.count,
        lambda net: fnp.member(net, 0),
        lambda net: fnp.stack([net]),
        lambda net: fnp.train_step(net, np.zeros(6, np.float32), 3),
    ],
)
def test_other_functions_say_that_they_take_none(call):
    net = MODELS["perceptron"]("float32").freeze(device="cuda")
    with pytest.raises(TypeError, match="FrozenDeviceNetwork"):
        call(net)


def test_workspace_elements_of_other_networks():
    with pytest.raises(TypeError, match="cuda"):
        fnp.workspace_elements(MODELS["perceptron"]("float32").freeze())
    net = word(Head.MAGIC, 3)(MODELS["perceptron"]("float32").freeze(device="cuda"))
    with pytest.raises(RuntimeError, match="version"):
        fnp.workspace_elements(net)


# --- freezing ---------------------------------------------------------------------------------------------------


def test_a_frozen_network_is_a_copy_and_stays_in_its_process():
    model = MODELS["perceptron"]("float32")
    net, x = model.freeze(device="cuda"), inputs(model)
    wanted, out = model.predict(x), np.empty((ROWS, 10), np.float32)
    model.set_weights([w + 1 for w in model.get_weights()])
    single[1, THREADS](net, x, out)
    np.testing.assert_allclose(out, wanted, rtol=2e-6, atol=2e-6)
    assert "6 -> 10" in repr(net) and "350 weights" in repr(net) and "float32" in repr(net)
    for copying in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="freeze"):
            copying(net)
    with pytest.raises(AttributeError):
        net.code = None


def test_weights_of_a_model_on_the_gpu():
    model = MODELS["perceptron"]("float32").to("cuda")
    x = inputs(model)
    model.compile("sgd", "cross_entropy")
    model.fit(x, np.arange(ROWS), verbose=0)
    check(model)


def test_models_that_cannot_be_frozen():
    model = MODELS["perceptron"]("float32")
    with pytest.raises(ValueError, match="gradients"):
        model.freeze(device="cuda", gradients=True)
    for device in ("tpu", "cuda:99", "gpu", 0):
        with pytest.raises(ValueError, match="device"):
            model.freeze(device=device)
    a, b = fnn.Input((3,)), fnn.Input((3,))
    with pytest.raises(ValueError, match="one input and one output"):
        fnn.Model([a, b], fnn.Add()([a, b])).freeze(device="cuda")
    with pytest.raises(RuntimeError, match="built"):
        fnn.Sequential([fnn.Dense(3)]).freeze(device="cuda")

    def mine(x):
        return x * x

    def rows(x, y):
        y[:] = x

    for layer in (fnn.Dense(3, fnn.activations.Custom(mine)), fnn.Activation(fnn.activations.Custom(mine))):
        with pytest.raises(NotImplementedError, match="'mine' is user-defined"):
            chain(layer).freeze(device="cuda")


# --- the encoder's own check --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_codes_are_compact_and_checked(name):
    code = code_of(MODELS[name]("float32"))
    words = code[HEAD:].reshape(-1, STRIDE)
    assert len(words) == code[Head.COUNT]
    verify(code)
    for head in (Head.INPUTS, Head.OUTPUTS, Head.CONSTANTS, Head.WORKSPACE):
        if head is Head.CONSTANTS and not any(BY_NUMBER[each[InstructionWord.OP]].constants(each) for each in words):
            continue
        if code[head]:
            broken = code.copy()
            broken[head] -= 4 if head is Head.CONSTANTS else 1
            with pytest.raises(ValueError, match="instruction"):
                verify(broken)
    for index, each in enumerate(words.tolist()):
        reads = BY_NUMBER[each[InstructionWord.OP]].reads[InstructionWord.X](each)
        for field, value in (
            (InstructionWord.Y, -4),
            (InstructionWord.X, -4),
            (InstructionWord.Y, int(Place.INPUT)),
            (InstructionWord.X, 4 << 40),
        ):
            if field is InstructionWord.X and not len(reads):
                continue  # what fills a value reads none
            broken = code.copy()
            broken[HEAD + STRIDE * index + field] = value
            with pytest.raises(ValueError, match="instruction"):
                verify(broken)
    with pytest.raises(ValueError, match=r"instruction|not all written"):
        verify(np.delete(code, np.s_[HEAD : HEAD + STRIDE]))
