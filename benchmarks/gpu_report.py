"""Check and measure everything on a machine with a GPU, with one command and a time limit.

    python benchmarks/gpu_report.py --out FILE [--quick] [--minutes 8]
                                    [--section checks|digits|models|sanitizer|matmul|convolutions|recurrent
                                               |cells|warpgroups|bandwidth|calls|launches|training|all ...]

FILE.json and FILE.md are written again after every section, so that an interrupted run leaves its results.
Each section is a separate process with a share of the time; unused time goes to the others. A section that takes
longer is stopped, and the report says so. PyTorch, CuPy and compute-sanitizer are used if they are installed.
The exit status is 1 if a check fails or a section raises, and 2 without a GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path

BENCHMARKS = Path(__file__).parent
if str(BENCHMARKS) not in sys.path:
    sys.path.insert(0, str(BENCHMARKS))
if importlib.util.find_spec("fastnn") is None:
    sys.path.insert(0, str(BENCHMARKS.parent / "src"))

# Time at the end for writing files, and for killing a late process.
RESERVE = 8.0
PRINTED = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0 on success, 1 if something failed, 2 without a GPU."""
    import fastnn as fnn
    from fastnn.backend.cuda.codegen.numba_cuda import simulated
    from gpu.settings import SECTIONS, SHARES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="write FILE.json and FILE.md")
    parser.add_argument("--quick", action="store_true", help="fewer cases, shapes and rounds: about two minutes")
    parser.add_argument("--section", nargs="+", choices=(*SECTIONS, "all"), default=["all"], help="what to do")
    parser.add_argument("--minutes", type=float, default=8.0, help="time limit in minutes (default 8)")
    options = parser.parse_args(arguments)
    reason = fnn.cuda.why_not()
    if reason is not None:
        print(f"no GPU: {reason}", file=sys.stderr)
        return 2
    chosen = SECTIONS if "all" in options.section else tuple(options.section)
    names = tuple(name for name in SHARES if name not in SECTIONS or name in chosen)
    flags = [flag for flag, on in (("--quick", options.quick), ("--simulated", simulated())) if on]
    return report(options.out, names, 60.0 * options.minutes - RESERVE, flags)


def report(out: Path, names: tuple[str, ...], seconds: float, flags: Sequence[str]) -> int:
    """Run sections one by one, and write their results."""
    from gpu.events import Found
    from gpu.settings import SHARES
    from gpu.supervise import Plan, run
    from gpu.writing import write

    begin = time.monotonic()
    plan = Plan(secrets.randbits(31), names, tuple(flags))
    done: list[Found] = []

    def save(current: Found | None = None) -> None:
        write(out, [*done, *([current] if current is not None else [])], plan, time.monotonic() - begin, seconds)

    for index, name in enumerate(names):
        left = seconds - (time.monotonic() - begin)
        share = max(left, 1.0) * SHARES[name] / sum(SHARES[one] for one in names[index:])
        if left < 1.0:
            found = Found(name, "out of time: nothing of it was begun")
        else:
            print(f"{name} ({share:.0f} s)", end=" ", flush=True)
            found = run(name, share, plan, save)
            print(f"{found.ended}, {found.seconds:.0f} s", flush=True)
        done.append(found)
        save()
        for failure in found.failures[:PRINTED]:
            print(f"  FAILED {failure}", flush=True)
    return int(any(found.bad for found in done))


if __name__ == "__main__":
    sys.exit(main())
