"""The display of a training: its output, and its cost."""

import contextlib
import io
import os
import re
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from fastnn import console
from fastnn.training import progress
from fastnn.training.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock of the display, so that tests are quick and exact."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    result = Clock()
    monkeypatch.setattr(progress, "time", result)
    return result


@pytest.fixture
def terminal():
    return Terminal()


def run(display, clock, seconds, steps=10, initial_epoch=0, returns=10):
    """Train epochs of given durations, with `returns` returns to Python in each."""
    epochs = initial_epoch + len(seconds)
    display.begin(epochs, steps, initial_epoch)
    for epoch, duration in enumerate(seconds, start=initial_epoch):
        display.epoch_begin(epoch)
        for index in range(returns):
            clock.now += duration / returns
            display.update((index + 1) * 10 // returns, {"loss": 0.5})
        display.epoch_end(epoch, {"loss": 0.25, "val_loss": 0.75})
    display.close()


def drawings(stream):
    return [part.strip() for part in re.split(r"[\r\n]", stream.getvalue()) if part.strip()]


def lines(stream):
    return [line.rpartition("\r")[2].strip() for line in stream.getvalue().split("\n") if line.strip()]


def test_slow_epochs_have_a_bar_each(clock, terminal):
    with contextlib.redirect_stderr(terminal):
        run(Progress(1), clock, [1.0, 2.0])
    assert lines(terminal) == [
        "Epoch 1/2: 1 s loss=0.25 val_loss=0.75",
        "Epoch 2/2: 2 s loss=0.25 val_loss=0.75",
    ]
    bars = [text for text in drawings(terminal) if "|" in text]
    assert len(bars) == 20
    assert bars[4].startswith("Epoch 1/2 |") and "5/10 [" in bars[4] and bars[4].endswith("loss=0.5")


def test_short_epochs_share_a_bar(clock, terminal):
    with contextlib.redirect_stderr(terminal):
        run(Progress(1), clock, [0.002] * 1000, returns=1)
    assert lines(terminal) == ["Epochs 1-1000/1000: 2 s loss=0.25 val_loss=0.75"]
    bars = [text for text in drawings(terminal) if "|" in text]
    assert 30 <= len(bars) <= 40
    assert all("val_loss=0.75" in text for text in bars)


def test_epochs_after_a_slow_first_one_share_a_bar(clock, terminal):
    with contextlib.redirect_stderr(terminal):
        run(Progress(1), clock, [3.0] + [0.001] * 9, initial_epoch=5)
    assert lines(terminal) == [
        "Epoch 6/15: 3 s loss=0.25 val_loss=0.75",
        "Epochs 7-15/15: 0.009 s loss=0.25 val_loss=0.75",
    ]


def test_slow_epoch_within_a_shared_bar(clock, terminal):
    with contextlib.redirect_stderr(terminal):
        run(Progress(1), clock, [0.06, 0.06, 1.0, 0.06])
    assert lines(terminal) == ["Epochs 1-4/4: 1.18 s loss=0.25 val_loss=0.75"]
    assert any(text.startswith("Epoch 3/4 |") for text in drawings(terminal))


def test_interrupted_epoch_stays_visible(clock, terminal):
    display = Progress(1)
    with contextlib.redirect_stderr(terminal):
        display.begin(3, 100)
        display.epoch_begin(0)
        clock.now += 200.0
        display.update(40, {"loss": 0.5})
        display.close()
        display.close()
    assert lines(terminal) == ["Epoch 1/3 (step 40/100): 200 s loss=0.5"]


def test_unknown_number_of_steps(clock, terminal):
    with contextlib.redirect_stderr(terminal):
        run(Progress(1), clock, [1.0], steps=None)
    with contextlib.redirect_stderr(terminal):
        run(Progress(1), clock, [0.001] * 3, steps=None)
    assert lines(terminal) == [
        "Epoch 1/1: 1 s loss=0.25 val_loss=0.75",
        "Epochs 1-3/3: 0.003 s loss=0.25 val_loss=0.75",
    ]


def test_braces_in_a_name_are_text(clock, terminal):
    display = Progress(1)
    with contextlib.redirect_stderr(terminal):
        display.begin(1, 1)
        display.epoch_begin(0)
        clock.now += 1.0
        display.update(1, {"{x}": 1.0})
        display.epoch_end(0, {"{x}": 1.0})
        display.close()
    assert lines(terminal) == ["Epoch 1/1: 1 s {x}=1"]


def test_log_file_gets_lines_and_few_bars(clock):
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream):
        run(Progress(1), clock, [5.0, 100.0], returns=1000)
    assert len([text for text in drawings(stream) if "|" in text]) == 3
    assert len(lines(stream)) == 2


def test_a_line_per_epoch(clock, capsys):
    run(Progress(2), clock, [0.5, 250.0])
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "Epoch 1/2 - 0.5 s - loss: 0.25 - val_loss: 0.75",
        "Epoch 2/2 - 250 s - loss: 0.25 - val_loss: 0.75",
    ]
    assert captured.err == ""


def test_quiet(clock, capsys):
    run(Progress(0), clock, [1.0, 1.0])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("verbose", [1, 2])
def test_programs_without_a_console(clock, monkeypatch, verbose):
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    run(Progress(verbose), clock, [1.0, 0.001])


def test_closing_a_display_that_never_began():
    for verbose in (0, 1, 2):
        Progress(verbose).close()


@pytest.mark.parametrize("verbose", [-1, 3, "auto", None])
def test_other_values_of_verbose_are_refused(verbose):
    with pytest.raises(ValueError, match=f"got {verbose!r}"):
        Progress(verbose)


def test_short_epochs_cost_microseconds(terminal):
    n_epochs = 20_000
    display = Progress(1)
    logs = {"loss": 0.5, "accuracy": 0.5}
    with contextlib.redirect_stderr(terminal):
        display.begin(n_epochs, 10)
        start = time.perf_counter()
        for epoch in range(n_epochs):
            display.epoch_begin(epoch)
            display.update(10, logs)
            display.epoch_end(epoch, logs)
        seconds = time.perf_counter() - start
        display.close()
    # Measured: 0.8 µs; the bound leaves room for busy machines, and is far from what a drawing costs.
    assert seconds / n_epochs < 20e-6


NOTEBOOK = """
import sys, types
sys.modules["ipykernel.zmqshell"] = sys.modules["ipykernel"] = types.ModuleType("ipykernel")
sys.modules["IPython"] = types.ModuleType("IPython")
sys.modules["IPython"].get_ipython = lambda: object()
import threading
from fastnn.training.progress import Progress
assert "tqdm" not in sys.modules and "numba" not in sys.modules
display = Progress(1)
display.begin(1, 1)
display.epoch_begin(0)
display.update(1, {"loss": 0.5})
display.epoch_end(0, {"loss": 0.5})
display.close()
assert threading.active_count() == 1
"""


def test_a_notebook_has_one_output_for_each_bar(monkeypatch):
    """What a cell's output holds after a training: a file of the notebook would keep every line on standard error."""
    outputs = []

    class Handle:
        def __init__(self, data):
            self.place = len(outputs)
            outputs.append([data])

        def update(self, data, *, raw):
            assert raw
            outputs[self.place].append(data)

    def display(data, *, raw, display_id):
        assert raw and display_id is True
        return Handle(data)

    notebook = types.ModuleType("IPython.display")
    notebook.display = display
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    bar = console.make_bar(console.bar_class(), total=10)
    for position in (2, 5, 9):
        console.draw_bar(bar, position, "Epoch 1/1 ", "{n_fmt}/{total_fmt} ", ["[{elapsed}]"], ["loss=0.5"])
    console.end_bar(bar, 10, "Epoch 1/1: 2 s loss=0.25")
    gone = console.make_bar(console.bar_class(), total=3, leave=False, desc="compiling", delay=0)
    gone.update(2)
    gone.close()
    first, second = outputs
    assert first[0]["text/plain"].startswith("Epoch 1/1 |") and any("9/10" in data["text/plain"] for data in first)
    assert first[-1] == {"text/plain": "Epoch 1/1: 2 s loss=0.25"}
    assert "compiling" in second[0]["text/plain"] and second[-1] == {"text/plain": "", "text/html": ""}


def test_a_notebook_gives_no_warning_and_no_thread():
    source = str(Path(progress.__file__).parents[2])
    command = [sys.executable, "-W", "error", "-c", NOTEBOOK]
    environment = {**os.environ, "PYTHONPATH": source}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    assert "Warning" not in result.stderr
    assert "Epoch 1/1:" in result.stderr
