"""These files run in Numba's simulator only; `test_cuda_simulator.py` starts them there."""

import os
import sys
from pathlib import Path

if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
    sys.path.insert(0, str(Path(__file__).parent))
    import handing_over

    handing_over.install()
else:
    collect_ignore_glob = ["test_*.py"]
