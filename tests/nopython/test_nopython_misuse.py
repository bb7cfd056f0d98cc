"""Misuse of frozen networks, and functions that Numba keeps on disk: errors, and no access out of bounds."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn.backend.cpu.frozen.sealed import opened
from fastnn.backend.cpu.layouts.code import CodeWord
from frozen import MODELS, expected, predict, predict_with, round_trip, rows


def test_nothing_is_written_but_the_outputs_and_the_workspace():
    for name in ("perceptron", "wide", "sequence"):
        model = MODELS[name]("float32")
        net = model.freeze()
        for n in (1, 2, 17, 33):
            x = rows(model, n)
            wanted = expected(model, x)
            size, needed = wanted.size, len(fnp.workspace(net, n))
            memory = np.full(needed + 40, 7, np.int64)
            outs = np.full(size + 40, 7.5, np.float32)
            before = net.code.copy(), net.parameters.copy()
            predict_with(net, x, outs[20 : 20 + size].reshape(wanted.shape), memory[20 : 20 + needed])
            assert (memory[:20] == 7).all() and (memory[20 + needed :] == 7).all()
            assert (outs[:20] == 7.5).all() and (outs[20 + size :] == 7.5).all()
            assert outs[20 : 20 + size].tobytes() == wanted.tobytes()
            assert (net.code == before[0]).all() and (net.parameters == before[1]).all()


def arrays(n=4, dtype=np.float32):
    return np.zeros((n, 6), dtype), np.zeros((n, 10), dtype)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda x, out: (x[:, :5].copy(), out), "x"),
        (lambda x, out: (x[0, :5].copy(), out[0]), "x"),
        (lambda x, out: (x[None], out), "x"),
        (lambda x, out: (x, out[:3]), "out"),
        (lambda x, out: (x, out[:, :9].copy()), "out"),
        (lambda x, out: (x[0], out), "out"),
        (lambda x, out: (x[:1], out[0]), "out"),
        (lambda x, out: (x, out[None]), "out"),
    ],
)
def test_wrong_shapes(change, match):
    net = MODELS["perceptron"]("float32").freeze()
    given = change(*arrays())
    for call in (predict, fnp.predict, lambda *more: predict_with(*more, fnp.workspace(net, 4))):
        with pytest.raises(ValueError, match=match):
            call(net, *given)


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda x, out: (x.astype(np.complex64), out), "x: expected"),
        (lambda x, out: (x.astype(np.float16), out), "x: expected"),
        (lambda x, out: (x, out.astype(np.float64)), "out: expected"),
        (lambda x, out: (x, np.zeros((4, 20), np.float32)[:, ::2]), "contiguous"),
        (lambda x, out: (x, read_only(out)), "written"),
        (lambda x, out: ("abc", out), "x: expected"),
    ],
)
def test_wrong_types(change, match):
    net = MODELS["perceptron"]("float32").freeze()
    given = change(*arrays())
    with pytest.raises(TypingError, match=match):
        predict(net, *given)
    with pytest.raises((TypeError, ValueError), match=match):
        fnp.predict(net, *given)


def test_something_else_than_a_network():
    model = MODELS["perceptron"]("float32")
    with pytest.raises(TypingError, match="FrozenNetwork"):
        predict((1, 2), *arrays())
    for call in (fnp.predict, lambda net, *_: fnp.workspace(net, 3), lambda net, *_: fnp.parameter_count(net)):
        with pytest.raises(TypeError, match=r"Model\.freeze"):
            call(model, *arrays())


def test_workspaces_that_are_too_small():
    net = MODELS["wide"]("float32").freeze()
    x, out = np.zeros((40, 6), np.float32), np.zeros((40, 70), np.float32)
    small = fnp.workspace(net, 30)
    for call in (predict_with, fnp.predict):
        call(net, x[:30], out[:30], small)
        with pytest.raises(ValueError, match="workspace"):
            call(net, x, out, small)
        with pytest.raises((TypingError, TypeError), match="work"):
            call(net, x, out, small.astype(np.float64))
    assert fnp.workspace(net, 256).size == fnp.workspace(net, 100_000).size
    with pytest.raises(ValueError, match="at least 1"):
        fnp.workspace(net, 0)


@njit
def workspace_in_compiled_code(net, batch):
    return fnp.workspace(net, batch)


def test_workspaces_from_compiled_code():
    net = MODELS["wide"]("float32").freeze()
    for batch in (1, 2, 100, np.uint64(7), np.int32(7)):
        assert workspace_in_compiled_code(net, batch).size == fnp.workspace(net, batch).size
    with pytest.raises(ValueError, match="at least 1"):
        workspace_in_compiled_code(net, 0)


def test_addresses_of_another_process_are_never_called():
    net = MODELS["perceptron"]("float32").freeze()
    for word, value in ((CodeWord.TOKEN, 12345), (CodeWord.VERSION, 999)):
        stale = net._replace(code=net.code.copy())
        stale.code[word] = value
        for call in (predict, fnp.predict, lambda *given: predict_with(*given, np.zeros(9, np.int64))):
            with pytest.raises(RuntimeError, match="another process"):
                call(stale, *arrays())
        with pytest.raises(RuntimeError, match="another process"):
            workspace_in_compiled_code(stale, 3)
    assert pickle.loads(pickle.dumps(net)).code[CodeWord.TOKEN] == net.code[CodeWord.TOKEN]
    relocated = opened(*net.__reduce__()[1])[1]
    assert relocated[CodeWord.TOKEN] == relocated[CodeWord.CALL] == 0
    for code in (net.code[:3].copy(), net.code[:0].copy()):
        for call in (predict, fnp.predict):
            with pytest.raises(RuntimeError, match="another process"):
                call(net._replace(code=code), *arrays())


def test_parameters_of_another_dtype_or_layout():
    for dtype, other in (("float64", "float32"), ("float32", "float64")):
        net = MODELS["perceptron"](dtype).freeze()
        cast = net._replace(parameters=net.parameters.astype(other))
        for call in (predict, fnp.predict):
            with pytest.raises(RuntimeError, match="dtype"):
                call(cast, *arrays(dtype=other))
    net = MODELS["perceptron"]("float32").freeze()
    strided = np.zeros((net.parameters.size, 2), np.float32)[:, 0]
    for parameters in (strided, net.parameters[None]):
        with pytest.raises(TypingError, match="parameters"):
            predict(net._replace(parameters=parameters), *arrays())
        with pytest.raises(RuntimeError, match="layout"):
            fnp.predict(net._replace(parameters=parameters), *arrays())


def test_codes_of_another_dtype():
    net = MODELS["perceptron"]("float32").freeze()
    for changed in ({"code": net.code.astype(np.float64)}, {"gradient": np.zeros(3)}):
        with pytest.raises(TypingError, match="fastnn made"):
            predict(net._replace(**changed), *arrays())
        with pytest.raises(TypeError, match="fastnn made"):
            fnp.predict(net._replace(**changed), *arrays())


def test_global_networks_are_constants():
    net = MODELS["perceptron"]("float32").freeze()
    nets = fnp.stack([net, net])

    @njit
    def use(x, out):
        fnp.predict(net, x, out)
        fnp.predict(fnp.member(nets, 1), x, out)

    @njit
    def change(flat):
        fnp.set_parameters(net, flat)

    @njit
    def change_member(flat):
        fnp.set_parameters(fnp.member(nets, 1), flat)

    model = MODELS["perceptron"]("float32")
    x, out = rows(model, 4), arrays()[1]
    use(x, out)
    assert out.tobytes() == expected(model, x).tobytes()
    for function in (change, change_member):
        with pytest.raises(TypingError, match="give it as an argument"):
            function(np.zeros(fnp.parameter_count(net), np.float32))


TOKENS = """
import threading
import numpy as np
import fastnn as fnn

models = [fnn.Sequential([fnn.Input(3), fnn.Dense(1)], seed=0) for _ in range(8)]
nets = [None] * 8
barrier = threading.Barrier(8)

def freeze(i):
    barrier.wait()
    nets[i] = models[i].freeze()

threads = [threading.Thread(target=freeze, args=(i,)) for i in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
from fastnn import nopython as fnp
for net in nets:
    fnp.predict(net, np.ones(3, np.float32), np.zeros(1, np.float32))
"""


def test_networks_frozen_at_the_same_time():
    variables = os.environ | {"PYTHONPATH": str(Path(fnn.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", TOKENS], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_parameters_of_another_length():
    net = MODELS["perceptron"]("float32").freeze()
    short = net._replace(parameters=net.parameters[:-16].copy())
    for call in (predict, fnp.predict):
        with pytest.raises(RuntimeError, match="length"):
            call(short, *arrays())
    flat = np.zeros(fnp.parameter_count(net) - 1, np.float32)
    for call in (lambda *given: round_trip(*given, flat), fnp.set_parameters, fnp.get_parameters):
        with pytest.raises(ValueError, match="flat"):
            call(net, flat)
    with pytest.raises(RuntimeError, match="length"):
        round_trip(short, *[np.zeros(fnp.parameter_count(net), np.float32)] * 2)


def test_models_that_cannot_be_frozen():
    with pytest.raises(RuntimeError, match="built"):
        fnn.Sequential([fnn.Dense(3)]).freeze()
    net = MODELS["perceptron"]("float32").freeze()
    x, out = arrays()
    for given in (((x, x), out), (x, (out, out)), ((), out)):
        for call in (predict, fnp.predict):
            with pytest.raises((TypingError, ValueError)):
                call(net, *given)


def test_freezing_for_gpus():
    model = MODELS["perceptron"]("float32")
    assert isinstance(model.freeze(device="cpu"), fnp.FrozenNetwork)
    for device in ("gpu", "cuda:x", None):
        with pytest.raises(ValueError, match="device"):
            model.freeze(device=device)
    with pytest.raises(ValueError, match="gradients"):
        model.freeze(device="cuda", gradients=True)
    if not fnn.cuda.is_available():
        with pytest.raises(fnn.DeviceError, match="cuda"):
            model.freeze(device="cuda")


def test_functions_for_the_cpu_bring_no_compiler_for_gpus():
    code = "import sys, fastnn.nopython\nprint(*[name for name in sys.modules if name.startswith('numba.cuda')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# --- functions that Numba keeps on disk ---------------------------------------------------------------------------


def test_check_says_from_python_what_is_wrong_in_numbers():
    net = MODELS["perceptron"]("float32").freeze()
    x, out = arrays()
    fnp.check(net, x, out)
    fnp.check(net, x[0], out[0])
    fnp.check(net, x, out, fnp.workspace(net, 4))
    several = fnp.stack([net, net])
    fnp.check(several, np.stack([x, x]), np.stack([out, out]))
    for arguments, message in [
        ((net, x, out[:3]), r"out: expected shape \(4, 10\), .* got \(3, 10\)"),
        ((net, x[:, :5].copy(), out), r"x: expected shape \(6,\) or \(n, 6\), got \(4, 5\)"),
        ((net, x, out, fnp.workspace(net, 1)[:1]), "work: expected a workspace of at least .* got 8"),
        ((net, x), "expected out, for predict, or y, for train_step"),
        ((several, x[:1], np.stack([out, out])), "2 networks"),
    ]:
        with pytest.raises(ValueError, match=message):
            fnp.check(*arguments)
    fnp.check(net, x.astype(np.float64), out)
    with pytest.raises(TypeError, match="x: expected a NumPy array of numbers"):
        fnp.check(net, x.astype(np.complex128), out)
    assert (out == 0).all()


def test_check_of_a_training_step_changes_nothing():
    model = MODELS["perceptron"]("float32")
    model.compile("adam", "cross_entropy")
    learner, (x, _), labels = model.learner(), arrays(), np.arange(4)
    before = [np.array(each) for each in (learner.parameters, learner.state, learner.progress)]
    fnp.check(learner, x, y=labels)
    fnp.check(learner, x[0], y=3)
    for given, message in [
        ({"y": labels[:3]}, r"y: expected shape \(4,\), got \(3,\)"),
        ({"y": labels + 7}, r"y: expected labels from 0 to 9, got 10 at \(3,\)"),
        ({"y": labels, "sample_weight": np.ones(3, np.float32)}, r"sample_weight: expected shape \(4,\)"),
        ({"y": labels, "sample_weight": np.full(4, np.nan, np.float32)}, "NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            fnp.check(learner, x, **given)
    for each, kept in zip((learner.parameters, learner.state, learner.progress), before, strict=True):
        assert (each == kept).all()


def test_a_model_in_compiled_code_is_told_to_be_frozen():
    model = MODELS["perceptron"]("float32")

    @njit
    def given(net, x):
        return x

    @njit
    def enclosed(x):
        return fnp.predict(model, x, x)

    for call in (lambda: given(model, 1.0), lambda: given((model,), 1.0), lambda: enclosed(np.zeros(6, np.float32))):
        with pytest.raises(TypeError, match=r"pass its freeze\(\)"):
            call()


GARBAGE = [3, None, "x", [1.0], np.zeros(200, np.int64), np.zeros(3), np.zeros((2, 2), np.float32)]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda each: type(each).__name__)
def test_networks_that_nobody_froze_are_refused(garbage):
    net = MODELS["perceptron"]("float32").freeze()
    x, out = arrays()
    made = [fnp.FrozenNetwork(*[garbage] * 5), fnp.FrozenNetworks(*[garbage] * 5)]
    made += [fnp.Learner(*[garbage] * len(fnp.Learner._fields)), net._replace(code=garbage), garbage]
    if type(garbage) is not np.ndarray or garbage.dtype != np.float32:
        made.append(net._replace(parameters=garbage))
    for one in made:
        calls = [
            lambda one=one: fnp.predict(one, x, out),
            lambda one=one: fnp.CFunction(one, "int (const T *, T *)"),
            lambda one=one: fnp.workspace(one, 2),
            lambda one=one: fnp.check(one, x, out),
        ]
        for call in calls:
            with pytest.raises((TypeError, RuntimeError, ValueError)):
                call()
    with pytest.raises(TypeError, match="signature: expected one of"):
        fnp.CFunction(net, 3)
    assert repr(fnp.CFunction.__new__(fnp.CFunction)) == "<fastnn.nopython.CFunction>"


@pytest.mark.parametrize("module", ["frozen", "learner"])
def test_pickles_of_earlier_versions_are_refused(module):
    """They name functions of files that have become rooms since."""
    old = b"cfastnn.backend.cpu.%s\n_restore\n(C\x01xC\x01ytR." % module.encode()
    with pytest.raises(ValueError, match="another version of fastnn"):
        pickle.loads(old)
