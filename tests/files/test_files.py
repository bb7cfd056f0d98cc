"""Files are replaced atomically; nothing is left over, shown to other users, or lost on limited file systems."""

import errno
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fastnn as fnn
from fastnn import files
from fastnn.errors import ModelFileError

posix = pytest.mark.skipif(os.name != "posix", reason="permissions, links and locks are POSIX ideas")


@pytest.fixture
def model():
    return fnn.Sequential([fnn.Input(2), fnn.Dense(1)], seed=0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.safetensors"


def left_in(folder):
    return [name for name in os.listdir(folder) if name.endswith(files.SUFFIX)]


def start(script, path):
    """Start a program that saves a model to a path, and reports its progress by lines."""
    source = str(Path(fnn.__file__).parents[1])
    beginning = "import os, sys, fastnn as fnn\nmodel = fnn.Sequential([fnn.Input(2), fnn.Dense(1)], seed=0)\n"
    return subprocess.Popen(
        [sys.executable, "-c", beginning + textwrap.dedent(script), str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": source},
    )  # fmt: skip


KILLED = """
    os.fsync = lambda descriptor: os._exit(9)
    model.save(sys.argv[1])
"""

WAITING = """
    def wait(descriptor):
        os.fsync = sync
        print("saving", flush=True)
        sys.stdin.readline()
    sync, os.fsync = os.fsync, wait
    model.save(sys.argv[1])
    print("saved", flush=True)
"""


@posix
def test_what_killed_processes_leave_is_removed_by_the_next_save_of_that_name(model, path):
    for _ in range(3):
        with start(KILLED, path) as process:
            assert process.wait(60) == 9
    assert len(left_in(path.parent)) == 1
    model.save(path.parent / "another")
    assert len(left_in(path.parent)) == 1
    model.save(path)
    assert left_in(path.parent) == []


@posix
def test_what_a_process_is_writing_is_left_to_it(model, path):
    with start(WAITING, path) as process:
        try:
            assert process.stdout.readline() == "saving\n"
            being_written = left_in(path.parent)
            model.save(path)
            assert len(being_written) == 1 and left_in(path.parent) == being_written
            out, _ = process.communicate("\n", timeout=60)
        finally:
            process.kill()
    assert (out, process.returncode) == ("saved\n", 0)
    assert os.listdir(path.parent) == [path.name]


@posix
def test_links_and_pipes_with_the_name_of_a_temporary_file_are_left_alone(model, path, tmp_path):
    created = []
    original = os.open
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", lambda name, *rest: created.append(name) or original(name, *rest))
        model.save(path)
    name = next(one for one in created if str(one).endswith(files.SUFFIX))
    prefix = name[: -len(files.SUFFIX) - 4]
    (tmp_path / "precious").write_text("kept")
    os.symlink(tmp_path / "precious", f"{prefix}0000{files.SUFFIX}")
    os.mkfifo(f"{prefix}1111{files.SUFFIX}")
    model.save(path)
    assert (tmp_path / "precious").read_text() == "kept"
    fnn.load(path)


@posix
@pytest.mark.parametrize("mode", [None, 0o600, 0o640, 0o444, 0o604])
@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
def test_a_temporary_file_is_never_more_readable_than_what_it_replaces(model, path, monkeypatch, mode, umask):
    seen, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (seen.append(stat.S_IMODE(os.fstat(file).st_mode)), sync(file)))
    before = os.umask(umask)
    try:
        if mode is not None:
            path.write_bytes(b"old")
            path.chmod(mode)
        model.save(path)
    finally:
        os.umask(before)
    expected = 0o666 & ~umask if mode is None else mode
    # the owner may read it at all times
    assert seen and seen[0] & ~(expected | 0o600) == 0
    assert stat.S_IMODE(path.stat().st_mode) == expected


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_owner_stays_theirs_or_hides_from_the_new_group(model, path, monkeypatch):
    path.write_bytes(b"old")
    os.chown(path, 4321, 4322)
    path.chmod(0o660)
    model.save(path)
    assert (path.stat().st_uid, path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (4321, 4322, 0o660)

    def refuse(*arguments):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    model.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
@pytest.mark.parametrize("function", ["chmod", "chown", "fsync"])
def test_what_a_file_system_refuses_costs_only_that(model, path, monkeypatch, function, number):
    if not hasattr(os, function):
        pytest.skip(f"there is no os.{function}")
    calls = []

    def refuse(*arguments, **options):
        calls.append(arguments)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, function, refuse)
    for _ in range(2):
        model.save(path)
    assert calls or function == "chown"
    assert fnn.load(path).seed == 0
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_what_loses_the_contents_is_an_error_that_names_the_file(model, path, monkeypatch, number):
    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"m\.safetensors") as caught:
        model.save(path)
    assert caught.value.errno == number and caught.value.filename == str(path)
    assert os.listdir(path.parent) == []


def test_a_file_that_a_program_holds_is_replaced_when_it_lets_go(model, path, monkeypatch):
    model.save(path)
    refusals, replace = [], os.replace

    def refuse(*names):
        if len(refusals) < 4:
            refusals.append(names)
            raise PermissionError(errno.EACCES, "Access is denied")
        replace(*names)

    monkeypatch.setattr(os, "replace", refuse)
    before = path.stat().st_ino
    model.save(path)
    assert len(refusals) == 4 and path.stat().st_ino != before


def test_a_file_that_stays_held_is_an_error_that_names_it(model, path, monkeypatch):
    def refuse(*names):
        raise PermissionError(errno.EACCES, "Access is denied", *names)

    monkeypatch.setattr(files, "PATIENCE_SECONDS", 0.02)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError) as caught:
        model.save(path)
    assert caught.value.filename == str(path)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("folder/", ModelFileError, "is a directory"),
        ("new/", ModelFileError, "name of a directory: add the name of a file"),
        ("new/.", ModelFileError, "name of a directory"),
        ("", ModelFileError, "name of a directory"),
        ("folder", ModelFileError, "is a directory"),
        ("missing/m", FileNotFoundError, "there is no folder .*missing"),
        ("file/m", NotADirectoryError, "file/m"),
        ("a\0b", ModelFileError, "null character"),
        ("x" * 300, OSError, "x" * 300),
    ],
)
def test_names_under_which_nothing_can_be_saved_are_told(model, tmp_path, monkeypatch, name, error, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(error, match=reason):
        model.save(name)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize("length", [255, 200])
def test_names_as_long_as_names_can_be(model, tmp_path, length):
    model.save(tmp_path / ("x" * length))
    assert fnn.load(tmp_path / ("x" * length)).seed == 0
