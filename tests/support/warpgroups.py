"""A fixture for tests of products by warpgroups."""

import pytest


@pytest.fixture
def always_warpgroups(monkeypatch):
    """Make warpgroups compute all products that they can, if a device has them."""
    from fastnn.backend.cuda.kernels.matmul import plan

    usual = plan._quickest

    def quickest(m, n, k, precision, warpgroups, sizes):
        return (precision, "huge") if warpgroups and precision != "float32" else usual(m, n, k, precision, False, sizes)

    monkeypatch.setattr(plan, "_quickest", quickest)
