"""Compare the speed of fastnn with NumPy, scikit-learn, PyTorch, JAX and onnxruntime, where they are installed.

    python benchmarks/compare.py [--quick] [--section training|images|many|prediction|compiled|matmul|all]
                                 [--workload PART ...] [--library PART ...] [--threads N] [--rounds N]
                                 [--json PATH] [--chart PATH]

Every contestant does the same work on the same numbers. First a check: the results agree with those of a plain
float64 computation. Then runs are timed in turns (A B C A B C ...), so that a change of the clock rate meets
all; compilation is not counted. The process is bound to one core for each thread. The exit status is 1 if a
contestant's results disagree.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comparing.machine import describe, environment, limit_threads

if TYPE_CHECKING:
    from comparing.race import Comparison
    from comparing.settings import Settings

SECTIONS = ("training", "images", "many", "prediction", "compiled", "matmul")


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison, print Markdown tables, and return 0 if all agreed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short runs without the large work: below two minutes")
    parser.add_argument("--section", choices=(*SECTIONS, "all"), default="all", help="what to compare (default all)")
    parser.add_argument("--workload", nargs="+", default=[""], metavar="PART", help="parts of workloads' names")
    parser.add_argument("--library", nargs="+", default=[""], metavar="PART", help="parts of other libraries' names")
    parser.add_argument("--threads", type=int, default=1, help="threads of each contestant (default 1)")
    parser.add_argument("--rounds", type=int, help="timed runs of each, 2 or more (default 15, quick 5)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all times to this file")
    parser.add_argument("--chart", type=Path, metavar="PATH", help="draw the ratios into this PNG (needs matplotlib)")
    options = parser.parse_args(arguments)
    if options.threads < 1 or (options.rounds is not None and options.rounds < 2):
        parser.error("expected at least one thread and two rounds")
    if options.chart:
        from comparing.chart import need_matplotlib

        need_matplotlib()
    begin = time.perf_counter()
    facts = environment(options.threads)
    limit_threads(options.threads)

    from comparing.settings import Settings

    settings = Settings(
        threads=options.threads,
        rounds=options.rounds or (5 if options.quick else 15),
        seconds=0.005 if options.quick else 0.05,
        quick=options.quick,
        workloads=tuple(part.lower() for part in options.workload),
        libraries=tuple(part.lower() for part in options.library),
    )
    print(describe(facts))
    chosen = SECTIONS if options.section == "all" else (options.section,)
    comparisons = [comparison for section in chosen for comparison in measure(section, settings)]
    if not comparisons:
        parser.error(f"no workload has one of {options.workload} in its name")
    print(f"\n{time.perf_counter() - begin:.0f} s in all")
    report = {"environment": facts, "comparisons": [comparison.as_json() for comparison in comparisons]}
    write(report, options.json, options.chart)
    return 0 if all(comparison.agreed for comparison in comparisons) else 1


def measure(section: str, settings: "Settings") -> list["Comparison"]:
    """Measure a section, print its tables, and return all comparisons."""
    from comparing import compiled, images, many, matmul, prediction, small, tables, training

    if section != "matmul":
        modules: dict[str, Any] = {
            "training": training, "images": images, "many": many, "prediction": prediction, "compiled": compiled,
        }  # fmt: skip
        module, done = modules[section], []
        for comparison in module.compare(settings):
            print(tables.table(comparison, settings.threads), flush=True)
            done.append(comparison)
        if done:
            print(tables.summary(done), f"\n{module.EXPLANATION}", sep="\n", flush=True)
        return done
    large, little = list(matmul.compare(settings)), list(small.compare(settings))
    for found, explanation, threads in ((large, matmul.EXPLANATION, settings.threads), (little, small.EXPLANATION, 1)):
        if found:
            print(tables.products(found, found is little, threads), f"\n{explanation}", sep="\n", flush=True)
    return large + little


def write(report: dict[str, Any], numbers: Path | None, chart: Path | None) -> None:
    """Write all that was measured as JSON, and draw the chart, where a path is given."""
    if numbers:
        numbers.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if chart:
        from comparing.chart import draw

        draw(report, chart)


if __name__ == "__main__":
    sys.exit(main())
