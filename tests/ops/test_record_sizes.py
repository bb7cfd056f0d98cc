"""The table of ops decides how long records are: an op with more of everything is added, and everything runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn
from fastnn.program import layout
from fastnn.program.op import Table
from fastnn.program.opcodes import OPS, TABLE

# Thirteen operands, as a recurrent gradient has, sixteen dimensions, as a convolution has, and eight parameters:
# y = scale x + the sum of d_i w_i.
WIDE = """
import sys
import types

import numpy as np

package = types.ModuleType("fastnn")
package.__path__ = [PATH]
sys.modules["fastnn"] = package
from fastnn.program import opcodes

before = max(len(op.operands) for op in opcodes.OPS.values())
opcodes.TABLE.define(
    "wide", outputs="y[rows,cols]", inputs="x[rows,cols] " + " ".join(f"w{i}[cols]" for i in range(11)),
    dims="rows cols " + " ".join(f"d{i}?" for i in range(14)), params="scale p1 p2 p3 p4 p5 p6 p7", rate=4.0,
    shared="rows",
)
assert before < 13
del sys.modules["fastnn"]

import fastnn as fnn
from fastnn.config import register
from fastnn.layers.base import Layer, ParameterSpec
from fastnn.program import layout

assert fnn is sys.modules["fastnn"]
assert (layout.DIMS_AT, layout.PARAMS_AT, layout.RECORD_WORDS) == (17, 33, 48)

from dataclasses import dataclass


@register("layer")
@dataclass(eq=False, repr=False)
class Wide(Layer):
    "A layer of the op."

    def output_shape(self, *shapes):
        return shapes[0]

    def parameters(self, *shapes):
        return tuple(ParameterSpec(f"w{i}", shapes[0][-1:], fnn.initializers.RandomNormal()) for i in range(11))

    def apply(self, graph, inputs, weights, scope):
        dims = {f"d{i}": i for i in range(14)}
        return graph.like("wide", (*inputs, *weights), scope.label, scale=0.5, p7=7.0, **dims)


def build():
    return fnn.Sequential([fnn.Input(5), fnn.Dense(4, "tanh"), Wide(), fnn.Dense(3)], seed=0)


def expected(model, x):
    kernel, bias, *w, last, last_bias = (model.get_weights()[i] for i in range(15))
    h = np.tanh(x @ kernel + bias)
    h = 0.5 * h + sum(i * each for i, each in enumerate(w))
    return h @ last + last_bias


x = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
"""

CPU = (
    WIDE
    + """
from fastnn import nopython as fnp
from fastnn.backend.cpu.codegen.intrinsics import float64_pointer, int64_pointer
from fastnn.backend.cpu.codegen.kernel import kernel, rows_part
from fastnn.backend.reference.executor import ReferenceBackend
from fastnn.backend.reference.instruction import executes


@kernel("wide")
def wide(kit, variant):
    Y, X, ROWS, COLS, D0, SCALE = kit.words("y x rows cols d0 scale")
    W = kit.words(" ".join(f"w{i}" for i in range(11)))
    at, real = kit.at, kit.real

    def wide(record, context, ith, nth):
        r = int64_pointer(record)
        scale, cols = real(float64_pointer(record)[SCALE]), r[COLS]
        first, last = rows_part(r[ROWS], ith, nth)
        y, x = at(record, context, Y), at(record, context, X)
        for i in range(first * cols, last * cols):
            y[i] = scale * x[i]
        for number in range(11):
            w = at(record, context, W[0] + number)
            for row in range(first, last):
                for j in range(cols):
                    y[row * cols + j] += real(r[D0 + number]) * w[j]

    return wide


@executes("wide")
def reference(i, counters):
    i.write("y", i.params["scale"] * i["x"] + sum(i.dims[f"d{n}"] * i[f"w{n}"] for n in range(11)))


model = build()


def close(got):
    np.testing.assert_allclose(got, expected(model, x), rtol=1e-4, atol=1e-5)


close(model.predict(x))
out = np.empty((40, 3), np.float32)
fnp.predict(model.freeze(), x, out)
close(out)
text = str(model.program)
assert "wide-float32" in text and "scale=0.5 p7=7" in text and "w10=param" in text, text
backend = ReferenceBackend(model.program, data={0: x, 1: out}, index=np.arange(40))
assert any(each.op == "wide" and len(each.operands) == 13 and len(each.dims) == 16 for each in backend.instructions())
print("done")
"""
)

CUDA = (
    WIDE
    + """
from fastnn.backend.cuda.codegen.kernel import ARGUMENTS, Stage, kernel, ptx
from fastnn.backend.cuda.launch.launches import keys_of, make, works_of
from numba import cuda


@kernel("wide")
def wide(kit):
    words = kit.words("y x cols rows scale " + " ".join(f"w{i}" for i in range(11)))

    def wide(record, context):
        pass

    return [Stage(wide, lambda dims: (dims["rows"], 1), 32)]


model = build()
program = model.program
keys = keys_of(program)
works = works_of(program, keys)
stages = make(keys)
base = {buffer: 4096 * (1 + buffer) for buffer in range(16)}
(launch,) = [each for work in works if work.key.op == "wide" for each in work.launches(stages[work.key], base, 8)]
assert len(launch.record) + 1 == ARGUMENTS == 49
op = opcodes.OPS["wide"]
assert all(launch.record[op.word(f"w{i}")] >= 4096 for i in range(11))
assert [launch.record[op.word(f"d{i}")] for i in range(14)] == list(range(14))
print("done")
"""
)


@pytest.mark.parametrize(("code", "simulated"), [(CPU, ""), (CUDA, "1")], ids=["cpu", "cuda"])
def test_a_wider_op_makes_all_records_longer(code, simulated, tmp_path):
    code = code.replace("PATH", repr(str(Path(fastnn.__file__).parent)))
    # kernels of other records must not be found in the usual cache
    environment = {**os.environ, "FASTNN_CACHE_DIR": str(tmp_path), "NUMBA_ENABLE_CUDASIM": simulated or "0"}
    # processes that help to compile would not know the op
    environment["FASTNN_NUM_THREADS"] = "1"
    script = tmp_path / "wide.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.stdout == "done\n", done.stderr


def test_sizes_are_those_of_the_table():
    assert layout.OPERANDS_AT == 4
    assert max(len(op.operands) for op in OPS.values()) == layout.DIMS_AT - layout.OPERANDS_AT
    assert max(len(op.dims) for op in OPS.values()) == layout.PARAMS_AT - layout.DIMS_AT
    assert max(len(op.params) for op in OPS.values()) <= layout.RECORD_WORDS - layout.PARAMS_AT
    assert layout.RECORD_WORDS % 8 == 0
    with pytest.raises(RuntimeError, match=f"'late' comes too late: records have {layout.RECORD_WORDS} words"):
        TABLE.define("late", dims="n")


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ({"outputs": "y[n]"}, "unknown dimension 'n'"),
        ({"outputs": "y[n]", "inputs": "y[n]", "dims": "n"}, "names something twice"),
        ({"dims": "n n"}, "names something twice"),
        ({"outputs": "y(n)", "dims": "n"}, "not of the form"),
        ({"outputs": "y[n]", "dims": "n", "rate": 1.0}, "estimate of its time"),
        ({"outputs": "y[n]", "dims": "n", "shared": "n/64"}, "estimate of its time"),
        ({"outputs": "y[n]", "dims": "n", "rate": 1.0, "shared": "rows"}, "unknown dimension 'rows'"),
    ],
)
def test_entries_that_contradict_themselves(entry, match):
    with pytest.raises(ValueError, match=match):
        Table().define("wrong", **entry)
