"""Output to the console never ends a run, even if the console accepts none of it."""

import contextlib
import io
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn import console
from fastnn.__main__ import main

X, Y = np.ones((8, 4)), np.ones((8, 1))


def make(name=None):
    model = fnn.Sequential([fnn.Input(4), fnn.Dense(1, name=name)], seed=0)
    model.compile("sgd", "mse")
    return model


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


class Failing(io.StringIO):
    """A stream that is full, or whose reader has left."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def isatty(self):
        return True

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error


class Bare:
    """An object that can only be written to, with which some programs replace a stream."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


STREAMS = {
    "none": lambda: None,
    "closed": closed,
    "full": lambda: Failing(OSError(28, "No space left on device")),
    "pipe": lambda: Failing(BrokenPipeError(32, "Broken pipe")),
    "deleted": lambda: Failing(RuntimeError("the window has been deleted")),
    "bare": Bare,
    "object": object,
}


def everything(model):
    """Do everything that shows something."""
    model.summary()
    model.evaluate(X, Y, verbose=1)
    talkative = [
        fnn.EarlyStopping("loss", verbose=1),
        fnn.LearningRateScheduler(lambda epoch, rate: rate, verbose=1),
        fnn.TerminateOnNaN(),
    ]
    # slow enough to be drawn in the middle of an epoch
    slow = fnn.LambdaCallback(on_train_batch_end=lambda batch, logs: console.time.sleep(0.06), every_batch=True)
    for verbose in (1, 2):
        history = model.fit(X, Y, batch_size=2, epochs=2, verbose=verbose, callbacks=[*talkative, slow])
        assert history.epoch == [0, 1]
    fnn.train_many([model], X, Y, epochs=2)
    assert list(console.compiling([1, 2, 3], "kernels")) == [1, 2, 3]


@pytest.mark.parametrize("which", ["stdout", "stderr", "both"])
@pytest.mark.parametrize("kind", STREAMS)
def test_a_console_that_takes_nothing_ends_no_work(monkeypatch, kind, which):
    for name in ("stdout", "stderr"):
        if which in (name, "both"):
            monkeypatch.setattr(sys, name, STREAMS[kind]())
    everything(make())


def test_a_stream_without_flush_gets_the_lines(monkeypatch):
    stream = Bare()
    monkeypatch.setattr(sys, "stdout", stream)
    make().fit(X, Y, verbose=2)
    assert stream.text.startswith("Epoch 1/1 - ")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_letters_that_a_console_cannot_write_are_replaced(monkeypatch, encoding):
    outputs = {}
    for name in ("stdout", "stderr"):
        outputs[name] = io.BytesIO()
        monkeypatch.setattr(sys, name, io.TextIOWrapper(outputs[name], encoding=encoding))
    first = fnn.Input(4)
    outs = [fnn.Dense(1, name=name)(first) for name in ("größe", "高さ")]
    model = fnn.Model(first, outs, seed=0)
    model.compile("sgd", "mse")
    model.summary()
    for verbose in (1, 2):
        model.fit(X, [Y, Y], verbose=verbose)
    model.evaluate(X, [Y, Y], verbose=1)
    shown = {"ascii": "gr??e", "cp1252": "größe", "utf-8": "größe"}[encoding]
    for name, stream in outputs.items():
        getattr(sys, name).flush()
        text = stream.getvalue().decode(encoding)
        assert f"{shown}_loss" in text and ("高さ" in text) == (encoding == "utf-8")


def run(code, **options):
    source = str(Path(fnn.__file__).parents[1])
    beginning = "import sys, numpy as np, fastnn as fnn\nm = fnn.Sequential([fnn.Input(4), fnn.Dense(1)], seed=0)\n"
    return subprocess.run(
        [sys.executable, "-c", beginning + "m.compile('sgd', 'mse')\n" + textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": source}, check=False, timeout=120, **options,
    )  # fmt: skip


TRAIN = """
    x, y = np.ones((8, 4)), np.ones((8, 1))
    for verbose in (1, 2):
        m.fit(x, y, epochs=300, verbose=verbose)
    m.summary()
    open("trained", "w").close()
"""


@pytest.mark.skipif(os.name != "posix", reason="pipes are other there")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_pipe_whose_reader_has_left_fails_neither_the_training_nor_the_exit(tmp_path, stream):
    reading, writing = os.pipe()
    os.close(reading)
    other = "stderr" if stream == "stdout" else "stdout"
    try:
        done = run(TRAIN, cwd=tmp_path, **{stream: writing, other: subprocess.PIPE})
    finally:
        os.close(writing)
    assert done.returncode == 0 and (tmp_path / "trained").exists()
    assert stream == "stderr" or done.stderr.count(b"Error") == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_fails_neither_the_training_nor_the_exit(tmp_path):
    with open("/dev/full", "w") as full:
        done = run(TRAIN, cwd=tmp_path, stdout=full, stderr=full)
        assert done.returncode == 0 and (tmp_path / "trained").exists()
        # but a command whose result was not delivered has failed
        command = [sys.executable, "-m", "fastnn", "info"]
        failed = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=120)
    assert failed.returncode == 1 and failed.stderr.startswith("fastnn: ") and "Traceback" not in failed.stderr


@pytest.mark.skipif(os.name != "posix", reason="a shell closes the streams")
def test_closed_streams_of_a_command_are_no_error(tmp_path):
    command = f"{sys.executable} -m fastnn info >&- 2>&-"
    assert subprocess.run(command, shell=True, check=False, timeout=120).returncode == 0


def test_commands_on_a_console_without_umlauts(monkeypatch):
    stream = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(stream, encoding="ascii"))
    monkeypatch.setattr("fastnn.demo.info.processor", lambda: "Prozessor für Größeres")
    assert main(["info"]) == 0
    assert b"Prozessor f?r Gr??eres" in stream.getvalue()


def test_lines_do_not_tear_a_bar_apart(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    both = Terminal()
    monkeypatch.setattr(sys, "stdout", both)
    monkeypatch.setattr(sys, "stderr", both)
    bar = console.make_bar(console.bar_class(), total=10, unit="step")
    console.draw_bar(bar, 3, "head ", "", ["[{elapsed}]"], ["loss=1"])
    console.say("a line")
    console.end_bar(bar, 10, "end")
    lines = [line.rpartition("\r")[2].strip() for line in both.getvalue().splitlines()]
    assert "a line" in lines and lines[-1] == "end"


@pytest.mark.parametrize(
    "value",
    ["warm-up", None, np.ones(3), [1, 2], 1 + 2j, object(), {"a": 1}, b"x"],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_what_is_no_number_is_shown_short_and_ends_no_display(value, verbose):
    texts = console.quantities({"note": value, 3: 1.0, "many": "x" * 1000, "lines": "a\nb"})
    assert texts[1:] == ["3=1", "many=" + 37 * "x" + "...", "lines='a\\nb'"]
    assert texts[0].startswith("note=") and len(texts[0]) <= 45
    note = fnn.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(note=value))
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        history = make().fit(X, Y, epochs=2, verbose=verbose, callbacks=note)
    assert history.epoch == [0, 1] and set(history.history) == {"loss"}
    assert "loss" in repr(history)


def test_waiting_for_kernels_is_told_where_there_is_no_terminal(capsys):
    assert list(console.compiling([1, 2, 3], "kernels")) == [1, 2, 3]
    before, after = capsys.readouterr().err.splitlines()
    assert before.startswith("fastnn: compiling 3 kernels") and after.startswith("fastnn: compiled 3 kernels in ")
    assert list(console.compiling([1, 2], "kernels")) == [1, 2]
    with console.unannounced():
        assert list(console.compiling([1, 2, 3], "kernels")) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_waiting_for_kernels_is_no_part_of_an_epochs_time(monkeypatch, capsys):
    model = make()
    runtime = type(model._runtime)
    original = runtime.shared

    def slow(*arguments, **more):
        console.time.sleep(0.5)
        return original(*arguments, **more)

    monkeypatch.setattr(runtime, "shared", slow)
    model.fit(X, Y, verbose=2)
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=1)
    fnn.train_many([make(), make()], X, Y)
    captured = capsys.readouterr()
    seconds = [float(text.split(" - ")[1].split()[0]) for text in captured.out.splitlines()]
    seconds += [float(line.rpartition("\r")[2].split(": ")[1].split()[0]) for line in captured.err.split("\n") if line]
    assert len(seconds) == 3 and max(seconds) < 0.4


@pytest.mark.parametrize("width", [20, 40, 70, 80, 200])
def test_values_are_not_cut_off_while_there_is_room_for_them(monkeypatch, width):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

        def fileno(self):
            return 0

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(os, "get_terminal_size", lambda number: os.terminal_size((width, 24)))
    bar = console.make_bar(console.bar_class(), total=1000, unit="step")
    times = ["[{elapsed}<{remaining}, {rate_fmt}]", "[{elapsed}<{remaining}]"]
    values = ["loss=0.1234", "accuracy=0.5678"]
    console.draw_bar(bar, 500, "Epoch 1/10 ", "{n_fmt}/{total_fmt} ", times, values)
    drawn = stream.getvalue().rpartition("\r")[2].rstrip()
    assert len(drawn) <= width
    assert drawn.endswith("loss=0.1234 accuracy=0.5678") == (width >= 40)
    assert ("500/1000" in drawn, "|" in drawn, "step/s" in drawn) == (width >= 70, width >= 70, width >= 85)
    console.end_bar(bar, 1000, "Epoch 1/10: 1 s " + " ".join(values))
    assert stream.getvalue().rstrip().endswith("Epoch 1/10: 1 s loss=0.1234 accuracy=0.5678")
