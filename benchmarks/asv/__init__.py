"""Benchmarks for asv: ``asv check``, ``asv run``; on one thread, because that is what is compared.

``asv run -E existing`` keeps the environment of the shell, where ``OPENBLAS_CORETYPE`` should not be set.
"""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
# The runner has imported NumPy before, so that it is too late for environment variables.
importlib.import_module("threadpoolctl").threadpool_limits(1)
