"""The CUDA backend in Numba's simulator, which has to be chosen before Numba is imported, so in new processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
FOLDERS = ("tests/simulator", "benchmarks/tests/simulator")
FILES = sorted(f"{folder}/{path.name}" for folder in FOLDERS for path in (CHECKOUT / folder).glob("test_*.py"))


# A simulated thread takes a millisecond. What these files run is made of what the others run, or changes rarely.
LONG = {
    "test_custom_functions.py", "test_device_integers.py", "test_fused.py", "test_gpu_report.py",
    "test_nested_models.py", "test_products.py", "test_quick_calls.py", "test_warpgroups.py",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (Path(name).name in LONG)) for name in FILES]
)
def test_in_the_simulator(name):
    simulate(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tests/simulator/test_kernels.py", "tests/simulator/test_products.py"])
def test_every_case_in_the_simulator(name):
    simulate(name, FASTNN_EVERY_CASE="1")


def simulate(name: str, **more: str) -> None:
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTEST_ADDOPTS": "", **more}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=CHECKOUT)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_every_kernel_of_the_cpu_has_one_for_cuda():
    """All ops of programs, except those that run user-defined functions of arrays."""
    code = (
        "from fastnn.backend.cuda.kernels import KERNELS\nfrom fastnn.program.opcodes import OPS\n"
        "print(*sorted(set(OPS) - set(KERNELS)))"
    )
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["row_function", "row_function_grad"]
