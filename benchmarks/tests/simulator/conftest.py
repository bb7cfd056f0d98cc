"""These files run in Numba's simulator, where `tests/cuda/test_cuda_simulator.py` starts them."""

import os

from warpgroups import always_warpgroups  # noqa: F401

if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
    import handing_over

    handing_over.install()
else:
    collect_ignore_glob = ["test_*.py"]
