"""The account of a training step names every record of its program, and adds up."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import records


@pytest.mark.parametrize(("loss", "threads"), [("mse", ["1"]), ("cross_entropy", ["1", "2"])])
def test_the_account_of_a_step(loss, threads, monkeypatch, capsys):
    network = ["--network", "4-8-3", "--batch", "16", "--rounds", "3", "--loss", loss]
    monkeypatch.setattr(sys, "argv", ["records.py", *network, "--threads", *threads])
    records.main()
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    step = records.Step(records.dense([4, 8, 3], loss, "adam"), [4], 3, 16, labels=loss == "cross_entropy")
    count = len(step.program.program)
    found = [row for row in rows if re.fullmatch(r"\d+", row[0])]
    assert [row[0] for row in found] == [str(index) for index in range(count)]
    assert {"gather", "matmul", "optimizer", "tick"} < {row[1] for row in found}
    named = {row[1]: [int(cell) for cell in row[3:]] for row in rows if row[1] in ("sum", "a step")}
    for column in range(len(threads)):
        # figures are rounded; the machine may be busy, so nothing is said about their size
        total = sum(int(row[3 + column]) for row in found)
        assert named["sum"][column] == pytest.approx(total, abs=count)
        assert named["a step"][column] > 0
