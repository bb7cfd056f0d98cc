"""The chains of the benchmark are chains, and compute what NumPy does."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import chains


@pytest.mark.parametrize("name", chains.CHAINS)
def test_a_chain_of_six_ops(name):
    inputs = chains.arrays(20_000, chains.CHAINS[name][1])
    program = chains.lowered(name, inputs).bound.program
    assert len(program) == 6
    assert [(chain.first, chain.last) for chain in program.chains] == [(0, 5)]
    assert len(chains.lowered(name, inputs, ends=True).bound.program) == 1
    assert not chains.lowered(name, inputs, chained=False).bound.program.chains
    calls = chains.contestants(name, 20_000, 1)  # compares the results
    assert {"chain", "records", "ends", "NumPy"} <= calls.keys()
    assert all(time > 0 for time in chains.medians(calls, 2).values())
