"""Benchmarks for asv: ``asv check``, ``asv run``; on one thread, unless a name says otherwise.

``asv run -E existing`` keeps the environment of the shell, where ``OPENBLAS_CORETYPE`` should not be set. Where a
class has the parameter "library", "numpy" does the same work in NumPy, so that one page shows the ratio.
"""

import importlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
# Nothing is compiled while something is measured.
os.environ["FASTNN_BACKGROUND"] = "0"
# The runner has already imported NumPy, so it is too late for its environment variables.
importlib.import_module("threadpoolctl").threadpool_limits(1)
importlib.import_module("fastnn").set_num_threads(1)
