"""Compile the CUDA kernels for every architecture, without a GPU, and print the assembler's report.

    python benchmarks/cuda_kernels.py                    # some of all kinds: minutes
    python benchmarks/cuda_kernels.py --all              # every algorithm with every variant: hours
    python benchmarks/cuda_kernels.py matmul --arch 90a  # kernels whose name contains a word

The table has registers per thread, and `s`, `x` if a kernel keeps bytes on the stack or spills registers there, `d`
if a float32 kernel computes in float64. Fails if a kernel does not compile, uses the stack, computes in float64
although it should not, has warpgroups wait where the code does not, or should use tensor
cores and does not (if nvdisasm is found: the `cuda-check` extra). Needs the `cuda` extra.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from fastnn.backend.cuda.codegen.compile import compile_stage
from fastnn.backend.cuda.codegen.kernel import Key
from fastnn.backend.cuda.codegen.sizes import ARCHITECTURES
from fastnn.backend.cuda.kernels import all_keys, stages

#: ops whose float32 kernels add up in float64
ADD_IN_DOUBLE = {
    "sum_loss",
    "sum_loss_by_weight",
    "normalize_weights",
    "angles",
    "mask_weights",
    "penalty",
    "sum_squares",
    "clip_by_norm",
    "count_correct",
    "top_k",
    "confusion",
}
ADD_IN_DOUBLE |= {"label_confusion", "auc_histogram", "regression_sums"}
ADD_IN_DOUBLE |= {"batch_norm", "layer_norm", "layer_norm_param_grad", "max_norm", "rms_norm", "reduce", "recurrence"}
ADD_IN_DOUBLE |= {"column_moments", "batch_statistics", "add_products"}
ADD_IN_DOUBLE |= {"conv_weights"}
#: float32 functions that reduce angles, or powers, in float64
IN_DOUBLE = {"sin", "cos", "tan", "power"}
#: float64 instructions that any kernel may use to prepare its parameters
FEW_DOUBLES = 6


class Line(NamedTuple):
    """A stage of a kernel: a cell for each architecture, and the errors."""

    name: str
    cells: list[str]
    wrong: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="compile kernels whose name contains one of these")
    parser.add_argument("--arch", nargs="*", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    parser.add_argument("--all", action="store_true", help="every algorithm with every variant")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per processor)")
    options = parser.parse_args(arguments)
    keys = [key for key in all_keys() if not options.words or any(word in str(key) for word in options.words)]
    if not options.all:
        keys = list(covering(keys))
    begin, wrong, disassembler = time.perf_counter(), list[str](), find_disassembler()
    print(f"{len(keys)} kernels, registers per thread; tensor cores " + ("checked" if disassembler else "not checked"))
    print(f"{'kernel':<60}" + "".join(f"{'sm_' + one:>9}" for one in options.arch))
    work = [(key, tuple(options.arch), disassembler) for key in keys]
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for lines in pool.imap(_compile, work):
            for line in lines:
                print(f"{line.name:<60}" + "".join(f"{cell:>9}" for cell in line.cells), flush=True)
                wrong += line.wrong
    print(f"{len(keys)} kernels for {len(options.arch)} architectures in {time.perf_counter() - begin:.0f} s")
    for text in wrong:
        print(f"wrong: {text}", file=sys.stderr)
    return min(len(wrong), 1)


def covering(keys: Iterable[Key]) -> Iterator[Key]:
    """Choose kernels that include all variants, and all pairs of words of an algorithm, for each op and dtype.

    The algorithm "tf32-nt-gradient-large-split" has five words: each part of a kernel depends on one or two of them.
    """
    seen: set[tuple[str, ...]] = set()
    for key in keys:
        words = (*key.algorithm.split("-"), "")
        parts: set[tuple[str, ...]] = {(key.op, key.dtype, "algorithm", *pair) for pair in combinations(words, 2)}
        parts.add((key.op, key.dtype, "variant", key.variant))
        if not parts <= seen:
            seen |= parts
            yield key


def find_disassembler() -> str | None:
    """Return the path of nvdisasm, from the PATH or from NVIDIA's package."""
    found = shutil.which("nvdisasm")
    if found is None:
        for folder in sys.path:
            inside = Path(folder) / "nvidia" / "cu13" / "bin" / "nvdisasm"
            if inside.is_file():
                return str(inside)
    return found


def _compile(work: tuple[Key, tuple[str, ...], str | None]) -> list[Line]:
    key, architectures, disassembler = work
    lines = []
    for number, stage in enumerate(stages(key)):
        name = f"{key}" + (f" #{number}" if number else "")
        cells, wrong = [], []
        for one in architectures:
            if not stage.runs_on(one):
                cells.append("-")
                continue
            try:
                found = compile_stage(stage, one)
            except Exception as error:
                cells.append("failed")
                wrong.append(f"{name} for sm_{one} does not compile: {error}")
                continue
            notes = [f"s{found.stack}"] * (found.stack > 0) + [f"x{found.spilled}"] * (found.spilled > 0)
            if found.stack or found.spilled:
                wrong.append(f"{name} for sm_{one} keeps {found.stack} bytes on the stack, spills {found.spilled}")
            if key.dtype == "float32" and found.doubles > FEW_DOUBLES:
                notes.append(f"d{found.doubles}")
                if key.op not in ADD_IN_DOUBLE and not (key.op == "pointwise" and key.variant in IN_DOUBLE):
                    wrong.append(f"{name} for sm_{one} has {found.doubles} instructions of float64")
            if found.waits:
                wrong.append(f"{name} for sm_{one} waits for products that could go on")
            if disassembler and stage.tensor_cores and not uses_tensor_cores(found.code, disassembler):
                wrong.append(f"{name} for sm_{one} does not use tensor cores")
            cells.append(f"{found.registers}{''.join(notes)}")
        lines.append(Line(name, cells, wrong))
    return lines


def uses_tensor_cores(code: bytes, disassembler: str) -> bool:
    """Return whether machine code has instructions of tensor cores."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(code)
        text = subprocess.run([disassembler, str(path)], capture_output=True, text=True, check=True).stdout
    return "HMMA" in text or "HGMMA" in text


if __name__ == "__main__":
    sys.exit(main())
