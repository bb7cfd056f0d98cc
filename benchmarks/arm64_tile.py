"""Cycles that the matmul's tile takes for a step of k on ARM64 processors, estimated by `llvm-mca` without running it.

Run: python benchmarks/arm64_tile.py [--mca llvm-mca-22] [--assembly]

The tile is compiled for each processor by the LLVM that kernels are compiled by. `broadcast` reads each element of a
into all lanes, as x86 does; `columns` and `pairs` multiply by lanes (`backend/cpu/codegen/left.py`). A tile has 24
multiply-adds of whole vectors for a step of k; "bound" is their number over those that LLVM's model of the processor
does in a cycle. LLVM's model of the Neoverse N1 dispatches three operations a cycle; Arm's optimization guide says
eight, so both are shown. LLVM describes Apple's processors by the model of an older one.
"""

from __future__ import annotations

import argparse
import re
import subprocess

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from fastnn.backend.cpu.codegen.tile import emit_tile
from fastnn.backend.cpu.codegen.vectors import Lanes

X86, ARM64 = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
#: Arguments of the function of a tile, all int64.
ARGUMENTS = 17
ROWS, VECTORS, WIDTH = 12, 2, 16
# processor, operations dispatched in a cycle (0: as the model says), multiply-adds of vectors in a cycle by dtype
PROCESSORS = [
    ("neoverse-n1", 0, {"float32": 2, "float64": 2}),
    ("neoverse-n1", 8, {"float32": 2, "float64": 2}),
    ("neoverse-v1", 0, {"float32": 4, "float64": 4}),
    ("neoverse-v2", 0, {"float32": 4, "float64": 4}),
    ("apple-m1", 0, {"float32": 3, "float64": 2}),
]
TURNS = 200


def tile_module(made_for: str, dtype: str, width: int, rows: int, vectors: int, copies: bool = False) -> ir.Module:
    """Make a module of one tile, the function `tile`, as it is made for a target; vectors have `width` bytes."""
    module = ir.Module()
    module.triple = made_for
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * ARGUMENTS), "tile")
    builder = ir.IRBuilder(function.append_basic_block())
    emit_tile(Lanes(builder, dtype, width // np.dtype(dtype).itemsize), function.args, rows, vectors, copies=copies)
    builder.ret_void()
    return module


def loops(module: ir.Module, target: str, processor: str) -> list[str]:
    """Return the assembly of the loops that multiply, for a processor that need not be this one.

    Raises
    ------
    RuntimeError
        Where LLVM has been built without the target.
    """
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(target).create_target_machine(cpu=processor, opt=3)
    module.triple = target
    compiled = llvm.parse_assembly(str(module))
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(compiled, passes)
    # from a label to the jump back to it, without another label between
    loop = r"^(\.LBB\w+):((?:(?!\.LBB).*\n)*?\t\S+\t\1)$"
    found = re.findall(loop, machine.emit_assembly(compiled), re.MULTILINE)
    return [f"{label}:{body}\n" for label, body in found if re.search("fmla|vfmadd", body)]


def cycles(loop: str, processor: str, dispatch: int, mca: str) -> float:
    """Return the cycles of a turn of a loop."""
    command = [mca, f"-mtriple={ARM64}", f"-mcpu={processor}", f"-iterations={TURNS}"]
    done = subprocess.run(
        [*command, f"-dispatch={dispatch}"], input=loop, capture_output=True, text=True, check=True, timeout=60
    )
    total = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    if total is None:
        raise RuntimeError(f"{mca} printed no cycles: {done.stdout[:200]!r}")
    return int(total.group(1)) / TURNS


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mca", default="llvm-mca", help="the program, of LLVM 17 or newer")
    parser.add_argument("--assembly", action="store_true", help="print the loops, too")
    chosen = parser.parse_args()
    print("| processor | dtype | bound | broadcast | columns | pairs |\n|---|---|---:|---:|---:|---:|")
    for processor, dispatch, rates in PROCESSORS:
        for dtype, rate in rates.items():
            size = (dtype, WIDTH, ROWS, VECTORS)
            (broadcast,) = loops(tile_module(X86, *size), ARM64, processor)
            columns, pairs, _ = loops(tile_module(ARM64, *size), ARM64, processor)
            found = [
                cycles(loop, processor, dispatch, chosen.mca) / (loop.count("fmla") / (ROWS * VECTORS))
                for loop in (broadcast, columns, pairs)
            ]
            name = processor + (f", {dispatch} operations a cycle" if dispatch else "")
            print(
                f"| {name} | {dtype} | {ROWS * VECTORS / rate:.1f} |",
                " | ".join(f"{value:.1f}" for value in found),
                "|",
            )
            if chosen.assembly:
                for title, loop in zip(("broadcast", "columns", "pairs"), (broadcast, columns, pairs), strict=True):
                    print(f"\n{title}\n{loop}")


if __name__ == "__main__":
    main()
