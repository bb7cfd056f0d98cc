"""How many threads an estimator may use, where several are at work."""

from __future__ import annotations

import os

from joblib.parallel import get_active_backend

from fastnn.threads import get_num_threads


def threads_of(chosen: int | None) -> int:
    """Return the number of threads of an estimator.

    Workers of joblib share the processors out: their processes by the variable OMP_NUM_THREADS, which joblib and Dask
    set; their threads have one each.
    """
    if chosen is not None:
        return int(chosen)
    share = os.environ.get("OMP_NUM_THREADS", "")
    most = int(share) if share.isdecimal() and int(share) > 0 else get_num_threads()
    return 1 if get_active_backend()[0].nesting_level else min(most, get_num_threads())
