"""The program for compute-sanitizer: a small training, and the largest of the tests' cases of every kernel, once."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn.backend.cuda.codegen.kernel import Key
from fastnn.backend.cuda.driver import available
from gpu import digits, oracle
from gpu.settings import FULL, PRECISIONS, SIMULATED

STRIDE = 7


def chosen() -> list[tuple[Any, str]]:
    """Return (case, precision): the largest case of each kernel."""
    found: dict[Key, tuple[int, Any, str]] = {}
    for case in oracle.cases(FULL):
        size = int(np.prod([max(one, 1) for one in case.dims.values()]))
        for precision in PRECISIONS if case.op == "matmul" else PRECISIONS[:1]:
            key = oracle.keys(case, "float32", precision)[0]
            if key not in found or size > found[key][0]:
                found[key] = (size, case, precision)
    return [(case, precision) for _, case, precision in found.values()]


def main() -> int:
    """Run the cases until time runs out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--salt", type=int, default=0)
    options = parser.parse_args()
    end, device, todo, ran = time.monotonic() + options.seconds, available.open_device(0), chosen(), 0
    fitted = digits.network(SIMULATED, "cuda")
    x, y = fnn.datasets.load_digits("test")
    fitted.fit(x[:70], y[:70], epochs=1, verbose=0)
    fitted.predict(x[:5])
    # far apart in the table first, so that even a short time reaches kernels of every kind
    for case, precision in (one for start in range(STRIDE) for one in todo[start::STRIDE]):
        if time.monotonic() > end:
            break
        oracle.run_cuda(case, "float32", device, case.values(options.salt), precision)
        ran += 1
    print(f"ran {ran} of {len(todo)} kernels", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
