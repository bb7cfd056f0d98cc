"""Kernels for other processors than this one: run if possible, else only compiled."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn as fnn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "AMD64"), reason="the names of targets are those of x86 processors"
    ),
]
CHECKOUT = Path(__file__).parents[2]
AVX2 = "+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+popcnt,+sse4.2"
AVX512 = f"{AVX2},+avx512f,+avx512vl,+avx512dq,+avx512bw,+avx512cd"


def run(name: str, features: str, folder: Path, *arguments: str) -> str:
    """Run Python for another target, with a separate cache; returns its output."""
    environment = {
        **os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "FASTNN_CACHE_DIR": str(folder),
        "PYTHONPATH": str(Path(fnn.__file__).parents[1]),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def has_avx2() -> bool:
    import llvmlite.binding as llvm

    found = llvm.get_host_cpu_features()
    return bool(found.get("avx2") and found.get("fma"))


@pytest.mark.parametrize("name, features, lanes", [("x86-64", "", 4), ("haswell", AVX2, 8)])
def test_matrix_products_of_other_vector_widths(name, features, lanes, tmp_path):
    if lanes == 8 and not has_avx2():
        pytest.skip("this processor has no AVX2")
    code = "from fastnn.backend.cpu.processor.blocking import Blocking; print(Blocking.of('float32').lanes)"
    assert run(name, features, tmp_path, "-c", code).strip() == str(lanes)
    assert " passed" in run(name, features, tmp_path, "-m", "pytest", "-q", "tests/ops/test_matmul.py")


def test_avx512_is_compiled_into_its_registers(tmp_path):
    code = """
from fastnn.backend.cpu.processor.blocking import Blocking
from fastnn.backend.cpu.loading.build import build
from fastnn.program.record import KernelKey

shape = Blocking.of("float32")
assert (shape.lanes, shape.heights[0]) == (16, 12), shape
for variant in ("wide", "fetching"):
    code = build(KernelKey("panel", "float32", variant)).code
    # an EVEX prefix, 0x62, stands before every instruction of 512 bits
    print(variant, code.count(bytes([0x62])) > 500)
"""
    printed = run("skylake-avx512", AVX512, tmp_path, "-c", code).splitlines()
    assert printed == ["wide True", "fetching True"]
