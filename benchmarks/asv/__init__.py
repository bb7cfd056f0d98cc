"""Benchmarks for asv: ``asv check``, ``asv run``; on one thread, because that is what is compared, unless a name says.

``asv run -E existing`` keeps the environment of the shell, where ``OPENBLAS_CORETYPE`` should not be set. Where a
class has the parameter "library", "numpy" is the same work in NumPy, so that the ratio can be read off one page.
"""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
# The runner has imported NumPy before, so that it is too late for environment variables.
importlib.import_module("threadpoolctl").threadpool_limits(1)
importlib.import_module("fastnn").set_num_threads(1)
