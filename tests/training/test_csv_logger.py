"""CSVLogger: files of other programs, resumed trainings, and entries that are not numbers."""

import csv
import errno
import os

import numpy as np
import pytest

import fastnn as fnn
from fastnn import files

X, Y = np.ones((8, 4)), np.ones((8, 1))


def make():
    model = fnn.Sequential([fnn.Input(4), fnn.Dense(1)], seed=0)
    model.compile("sgd", "mse")
    return model


def fit(logger, model=None, **options):
    model = model or make()
    return model.fit(X, Y, verbose=0, callbacks=logger, **options)


def read(path, delimiter=",", encoding="utf-8"):
    with open(path, newline="", encoding=encoding) as file:
        return list(csv.reader(file, delimiter=delimiter))


def epochs(path):
    return [row[0] for row in read(path)[1:]]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "mark"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=repr)
@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("header", [b"epoch,loss", b"epoch,val_loss,loss", b"epoch,other", b'"epoch","loss"'])
def test_files_of_others_are_gone_on_with(tmp_path, mark, end, final, header):
    path = tmp_path / "log.csv"
    columns = header.replace(b'"', b"").decode().split(",")
    old = [str(number) for number in range(7, 7 + len(columns))]
    path.write_bytes(mark + end.join([header, ",".join(old).encode()]) + end * final)
    fit(fnn.CSVLogger(path, append=True), epochs=2)
    contents = path.read_bytes()
    assert contents.startswith(mark) and contents.count(mark or b"?") == bool(mark)
    assert contents.count(end) == 4 and contents.replace(end, b"").count(b"\n") == 0
    rows = read(path, encoding="utf-8-sig")
    assert rows[0] == columns + ["loss"] * ("loss" not in columns)
    assert rows[1] == old + [""] * ("loss" not in columns)
    assert [row[0] for row in rows[2:]] == ["0", "1"]
    assert all(float(row[rows[0].index("loss")]) > 0.0 for row in rows[2:])
    assert all(len(row) == len(rows[0]) for row in rows)


def test_bytes_that_are_no_text_and_fields_without_a_column_stay(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b'epoch,gr\xf6\xdfe\n0,1,"two\nlines",3\n')
    fit(fnn.CSVLogger(path, append=True))
    assert path.read_bytes().startswith(b'epoch,gr\xf6\xdfe,,,loss\n0,1,"two\nlines",3,\n0,,,,')


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"epoch;loss\n0;1\n", "separator"),
        (b"loss\tepoch\n0\t1\n", "separator"),
        ("epoch,loss\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_files_that_cannot_be_gone_on_with_are_refused_before_training(tmp_path, contents, reason):
    path = tmp_path / "log.csv"
    path.write_bytes(contents)
    model = make()
    with pytest.raises(ValueError, match=reason):
        fit(fnn.CSVLogger(path, append=True), model)
    assert model.step == 0 and path.read_bytes() == contents


def test_a_file_that_cannot_be_written_is_refused_before_training(tmp_path):
    model = make()
    with pytest.raises(OSError, match="folder"):
        (tmp_path / "folder").mkdir()
        fit(fnn.CSVLogger(tmp_path / "folder"), model)
    assert model.step == 0


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_each_epoch_is_there_once_after_resuming_from_an_older_file(tmp_path, append, stop):
    log, saved = tmp_path / "log.csv", tmp_path / "m"
    if append:
        fit(fnn.CSVLogger(log), epochs=6)
    model = make()
    keep = fnn.LambdaCallback(on_epoch_begin=lambda epoch, logs: model.save(saved) if epoch == stop else None)
    fit([keep, fnn.CSVLogger(log, append=append)], model, epochs=4)
    model = fnn.load(saved)
    fit([fnn.LambdaCallback(), fnn.CSVLogger(log, append=append)], model, epochs=5, resume=True)
    assert epochs(log) == [str(e) for e in [*range(6 * append), *range(5)]]
    assert [float(row[1]) for row in read(log)[-5:]] == model.history.history["loss"]


def test_an_interrupted_training_goes_on_in_its_file(tmp_path):
    log, model = tmp_path / "log.csv", make()

    def stop(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit([fnn.CSVLogger(log), fnn.LambdaCallback(on_epoch_begin=stop)], model, epochs=4)
    assert epochs(log) == ["0", "1"]
    fit([fnn.CSVLogger(log), fnn.LambdaCallback()], model, epochs=4, resume=True)
    assert epochs(log) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("warm-up", "warm-up"),
        ('a "b", c\nd', 'a "b", c\nd'),
        (None, ""),
        (np.ones(3), "[1.0, 1.0, 1.0]"),
        (np.float32(0.5), "0.5"),
        (True, "True"),
    ],
)
def test_entries_that_are_no_numbers_are_written(tmp_path, value, field):
    note = fnn.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update({"note": value, 3: 1.0, "epoch": 77}))
    history = fit([note, fnn.CSVLogger(tmp_path / "log.csv")], epochs=2)
    rows = read(tmp_path / "log.csv")
    assert rows[0] == ["epoch", "loss", "note", "3"]
    assert [(row[0], row[2], row[3]) for row in rows[1:]] == [("0", field, "1.0"), ("1", field, "1.0")]
    assert history.epoch == [0, 1]
    assert ("note" in history.history) == isinstance(value, (np.float32, bool))


def test_a_full_disk_warns_once_and_costs_rows_only(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"

    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    logger = fnn.CSVLogger(path)
    full = fnn.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: (
            monkeypatch.setattr("fastnn.callbacks.loggers.write_whole", fail)
            if epoch < 2
            else monkeypatch.setattr("fastnn.callbacks.loggers.write_whole", files.write_whole)
        )
    )
    with pytest.warns(RuntimeWarning, match="lacks rows") as caught:
        history = fit([full, logger], epochs=4)
    assert len(caught) == 1 and history.epoch == [0, 1, 2, 3]
    assert epochs(path) == ["2", "3"]


@pytest.mark.skipif(os.name != "posix", reason="a device")
def test_what_cannot_be_read_again_gets_rows(tmp_path):
    fit(fnn.CSVLogger("/dev/null"), epochs=2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fit(fnn.CSVLogger(pipe), epochs=2)
        assert os.read(reading, 1000).startswith(b"epoch,loss\r\n0,")
    finally:
        os.close(reading)


def test_the_file_keeps_its_rows_where_a_new_column_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    fit(fnn.CSVLogger(path), epochs=3)
    before = path.read_bytes()

    def fail(*arguments):
        raise OSError(errno.EIO, "broken", str(path))

    monkeypatch.setattr(os, "fsync", fail)
    note = fnn.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(note=1.0))
    with pytest.warns(RuntimeWarning, match="lacks rows"):
        fit([note, fnn.CSVLogger(path, append=True)], epochs=2)
    assert path.read_bytes() == before
