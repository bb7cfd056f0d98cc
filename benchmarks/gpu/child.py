"""The process of one section: `python -m gpu.child`, started by `supervise.py` with the needed paths."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from pathlib import Path

from gpu.events import RESTART, Job
from gpu.settings import SHARES, choose


class RestartNeeded(Exception):
    """The device no longer responds in this process."""


def main() -> int:
    """Run a section and return 0, 1 if it raised, or `RESTART`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("section", choices=SHARES)
    parser.add_argument("--events", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--salt", type=int, required=True)
    parser.add_argument("--resume", type=int, default=0)
    parser.add_argument("--sections", nargs="*", default=[])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--simulated", action="store_true")
    options = parser.parse_args()
    settings = choose(simulated=options.simulated, quick=options.quick)
    job = Job(options.events, settings, options.seconds, options.salt, options.resume, tuple(options.sections))
    if settings.simulated:
        # the tests' scheduler for the threads of a block, which takes a fraction of the time
        importlib.import_module("handing_over").install()
    try:
        importlib.import_module(f"gpu.{options.section}").run(job)
    except RestartNeeded:
        return RESTART
    except Exception:
        job.trace(traceback.format_exc())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
