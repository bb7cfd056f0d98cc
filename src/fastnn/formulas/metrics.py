"""What the kernels of metrics and their definition on arrays have in common."""

from __future__ import annotations

#: What a row of weight 0 adds to a confusion matrix: next to any other weight it is lost by rounding.
TRACE = 1e-300
#: Sums of traces stay below this, sums of weights above.
LEAST_WEIGHT = 1e-280
