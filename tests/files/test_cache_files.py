"""Files and folders of the cache: their places, owners, digests, and Numba's settings."""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from fastnn import cache
from fastnn.backend import settings
from fastnn.backend.cpu.loading import library, store
from fastnn.backend.cpu.processor import target
from fastnn.backend.store import ObjectCode, read_file, write_file
from fastnn.program.record import KernelKey

posix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
CODE = ObjectCode("symbol", b"code of a symbol")
# gathering, an activation and the executor: a few kernels, compiled without a cache
PREDICT = "import numpy as np, fastnn as fnn; y = fnn.Sequential([fnn.Input(3), fnn.Activation('relu')]).predict"


def run(script: str, folder: Path, **environment: str | None) -> subprocess.CompletedProcess:
    variables = {**os.environ, **environment}
    variables = {name: value for name, value in variables.items() if value is not None}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=folder, env=variables, capture_output=True, text=True,
        timeout=300, check=True,
    )  # fmt: skip


@pytest.fixture
def place(tmp_path) -> Path:
    """Return a path for a kernel's file, in a subfolder of a folder that only the user may write to."""
    folder = tmp_path / "cache" / "version"
    folder.mkdir(parents=True, mode=0o700)
    (tmp_path / "cache").chmod(0o700)
    return folder / "kernel.fnk"


# --- where ----------------------------------------------------------------------------------------------------------


def chosen(monkeypatch, **environment: str) -> Path | None:
    for name in ("FASTNN_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cache, "_chosen", [])
    return cache._folder()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="where the XDG specification holds")
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"FASTNN_CACHE_DIR": "~/kernels"}, "home/kernels"),
        ({"FASTNN_CACHE_DIR": "~"}, "home"),
        ({"FASTNN_CACHE_DIR": "kernels"}, "here/kernels"),
        ({"FASTNN_CACHE_DIR": "../kernels"}, "kernels"),
        ({"FASTNN_CACHE_DIR": "link"}, "linked"),
        ({"XDG_CACHE_HOME": "there"}, "home/.cache/fastnn"),
        ({"XDG_CACHE_HOME": "~/there"}, "home/.cache/fastnn"),
        ({"XDG_CACHE_HOME": ""}, "home/.cache/fastnn"),
        ({}, "home/.cache/fastnn"),
    ],
)
def test_the_folder_is_absolute_wherever_it_is_chosen(variables, expected, tmp_path, monkeypatch):
    for name in ("home", "here", "linked"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "here" / "link").symlink_to(tmp_path / "linked")
    monkeypatch.chdir(tmp_path / "here")
    assert chosen(monkeypatch, HOME=str(tmp_path / "home"), **variables) == (tmp_path / expected).resolve()
    # neither another working directory nor a link that is turned moves it
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "link").unlink()
    assert cache._folder() == (tmp_path / expected).resolve()
    assert not (tmp_path / "here" / "~").exists() and not (tmp_path / "here" / "there").exists()


def test_the_home_of_nobody_is_no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.warns(RuntimeWarning, match="~no-such-user"):
        folder = chosen(monkeypatch, FASTNN_CACHE_DIR="~no-such-user/kernels")
    assert folder is not None and folder.parent == tmp_path.resolve()


def no_temporary_folder(*_: object, **__: object) -> str:
    raise FileNotFoundError("no usable temporary directory")


def test_without_any_folder_there_is_one_warning_and_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(cache.tempfile, "gettempdir", no_temporary_folder)
    (tmp_path / "file").write_text("")
    with pytest.warns(RuntimeWarning, match="nor one for temporary files") as caught:
        assert chosen(monkeypatch, FASTNN_CACHE_DIR=str(tmp_path / "file" / "x")) is None
        assert cache.location() is None and cache.entries() == [] and cache.size() == 0 and cache.clear() == 0
        assert "memory" in cache.described()
        store.write("kernel", CODE)
        assert store.read("kernel") is None and store.path_of("kernel") is None
    assert len(caught) == 1
    assert library.missing({KernelKey("never", "float32")}) == [KernelKey("never", "float32")]


@pytest.mark.parametrize("use", ["fnn.matmul(np.ones((3, 3)), np.ones((3, 3)))", "y(np.ones((2, 3)))"])
def test_kernels_are_compiled_in_memory_where_no_folder_can_be_written(use, tmp_path):
    (tmp_path / "file").write_text("")
    script = f"""
        import tempfile
        def none(*_, **__): raise FileNotFoundError("no usable temporary directory")
        tempfile.gettempdir = none
        {PREDICT}
        print(({use}).shape)
    """
    done = run(script, tmp_path, FASTNN_CACHE_DIR=str(tmp_path / "file" / "x"))
    assert done.stdout.startswith("(") and done.stderr.count("RuntimeWarning") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- whose ----------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_again(place):
    write_file(place, CODE)
    assert read_file(place) == ("symbol", CODE.code)
    assert [path.name for path in place.parent.iterdir()] == ["kernel.fnk"]
    if hasattr(os, "getuid"):
        assert stat.S_IMODE(place.stat().st_mode) == 0o600


@posix
@pytest.mark.parametrize("which", [0, 1, 2], ids=["file", "subfolder", "folder"])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_may_write_is_not_read(which, mode, place):
    write_file(place, CODE)
    loose = (place, *place.parents)[which]
    loose.chmod(stat.S_IMODE(loose.stat().st_mode) | mode)
    assert read_file(place) is None
    loose.chmod(stat.S_IMODE(loose.stat().st_mode) & ~mode)
    assert read_file(place) is not None


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("which", [0, 1, 2], ids=["file", "subfolder", "folder"])
def test_what_belongs_to_others_is_not_read(which, place):
    write_file(place, CODE)
    os.chown((place, *place.parents)[which], 12345, -1)
    assert read_file(place) is None


@posix
@pytest.mark.parametrize("which", [0, 1, 2], ids=["file", "subfolder", "folder"])
def test_a_link_that_is_turned_after_the_choice_loads_nothing(which, place, tmp_path):
    """Files of other users behind a link are not read, whenever the link was made; nor is a link to a file."""
    write_file(place, CODE)
    theirs = tmp_path / "theirs"
    shutil.copytree(place.parents[1], theirs)
    theirs.chmod(0o777)
    turned = (place, *place.parents)[which]
    other = theirs / turned.relative_to(place.parents[1])
    turned.rename(tmp_path / "away")
    turned.symlink_to(other)
    assert read_file(place) is None


@posix
def test_a_pipe_in_the_place_of_a_kernel_is_not_waited_for(place):
    os.mkfifo(place, 0o600)
    assert read_file(place) is None


def test_nothing_is_left_of_a_file_that_cannot_be_put_in_place(place):
    place.mkdir()
    write_file(place, CODE)
    assert [path.name for path in place.parent.iterdir()] == ["kernel.fnk"]


# --- of what --------------------------------------------------------------------------------------------------------


def test_a_copy_under_another_name_is_no_kernel(place):
    write_file(place, CODE)
    shutil.copy(place, place.with_name("other.fnk"))
    assert read_file(place.with_name("other.fnk")) is None
    version = place.parents[1] / "another version"
    shutil.copytree(place.parent, version)
    assert read_file(version / place.name) is None
    assert read_file(place) is not None


@pytest.mark.parametrize("symbol", ["", "absent"])
def test_a_file_without_its_function_is_no_kernel(symbol, place):
    write_file(place, ObjectCode(symbol, CODE.code))
    assert read_file(place) is None


def test_a_name_that_is_no_text_is_no_kernel(place):
    rest = b"\xff\0" + b"code \xff"
    digest = hashlib.sha256(f"{place.parent.name}/{place.name}\0".encode() + rest).digest()
    place.write_bytes(b"fastnn kernel 2\n" + digest + rest)
    assert read_file(place) is None


@pytest.mark.parametrize("stored", [("absent", None), ("text", b"a text that is no object file")])
def test_files_that_cannot_be_linked_are_compiled_again(stored, tmp_path, monkeypatch):
    """An object file with other names, or other contents instead of it."""
    from fastnn.backend.cpu.loading.build import build

    good = build(KernelKey("tick", "float32"))
    symbol, code = stored
    bad = ObjectCode(symbol, good.code + symbol.encode() if code is None else code)
    place = tmp_path / "version" / "kernel.fnk"
    place.parent.mkdir(mode=0o700)
    monkeypatch.setattr(store, "path_of", lambda name: place)
    store.write("kernel", bad)
    assert store.read("kernel") is not None
    monkeypatch.setattr(library, "_addresses", {})
    before = library.statistics()
    assert library.load("kernel", lambda: good) != 0
    assert library.statistics() == {**before, "compiled": before["compiled"] + 1}
    assert store.read("kernel") == (good.symbol, good.code)


# --- under what settings --------------------------------------------------------------------------------------------

SETTINGS = {
    "NUMBA_OPT": "0", "NUMBA_LOOP_VECTORIZE": "0", "NUMBA_SLP_VECTORIZE": "1", "NUMBA_ENABLE_AVX": "0",
    "NUMBA_DEBUGINFO": "1", "NUMBA_BOUNDSCHECK": "1", "NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": "",
    "NUMBA_EXTEND_VARIABLE_LIFETIMES": "1", "NUMBA_ENABLE_PROFILING": "1", "NUMBA_DEBUG_JIT": "1",
    "NUMBA_DEBUG_NRT": "1", "NUMBA_DISABLE_INTEL_SVML": "1", "NUMBA_LLVM_REFPRUNE_PASS": "0",
    "NUMBA_LLVM_REFPRUNE_FLAGS": "per_bb",
}  # fmt: skip


@pytest.fixture
def asked_anew(monkeypatch):
    """Clear the cached processor, and pretend that Numba is not imported."""
    for name in [name for name in os.environ if name.startswith("NUMBA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(settings, "_CONFIG", "numba is not there")
    monkeypatch.setattr(target, "cpu", target.cpu.__wrapped__)
    monkeypatch.setattr(store, "cpu", target.cpu)


@pytest.mark.parametrize("variable", SETTINGS)
def test_kernels_compiled_under_other_settings_are_other_files(variable, asked_anew, monkeypatch):
    before = store.path_of("kernel")
    monkeypatch.setenv(variable, SETTINGS[variable])
    assert store.path_of("kernel") != before
    monkeypatch.delenv(variable)
    assert store.path_of("kernel") == before


@pytest.mark.parametrize(
    ("variable", "value"),
    [("NUMBA_OPT", "3"), ("NUMBA_OPT", "high"), ("NUMBA_LOOP_VECTORIZE", "1"), ("NUMBA_LOOP_VECTORIZE", "yes"),
     ("NUMBA_NUM_THREADS", "1"), ("NUMBA_DISABLE_JIT", "1"), ("NUMBA_CACHE_DIR", "there")],
)  # fmt: skip
def test_settings_that_change_no_code_change_no_file(variable, value, asked_anew, monkeypatch):
    before = store.path_of("kernel")
    monkeypatch.setenv(variable, value)
    assert store.path_of("kernel") == before


def test_variables_are_read_as_numba_reads_them(tmp_path):
    """Before and after the import of Numba, and after a program has changed its settings."""
    script = """
        import os, warnings
        from fastnn.backend import settings
        def asked(): return settings.code_settings(), settings.processor(), settings.cuda_settings()
        before = asked()
        warnings.simplefilter("ignore")
        import numba
        assert asked() == before, (asked(), before)
        from numba.core.registry import cpu_target
        codegen = cpu_target.target_context.codegen()
        assert settings.processor() == (codegen._get_host_cpu_name(), codegen._tm_features)
        numba.config.OPT = 1
        print(asked()[0] != before[0])
    """
    others = {"NUMBA_OPT": "max", "NUMBA_CPU_NAME": "generic", "NUMBA_LOOP_VECTORIZE": "no", "NUMBA_ENABLE_AVX": "x"}
    some = {name: SETTINGS[name] for name in ("NUMBA_ENABLE_AVX", "NUMBA_CPU_NAME", "NUMBA_ENABLE_PROFILING")}
    for environment in ({}, some, SETTINGS, others):
        cleared = dict.fromkeys((name for name in os.environ if name.startswith("NUMBA_")), None)
        assert run(script, tmp_path, **{**cleared, **environment}).stdout == "True\n"


def test_the_name_of_a_processor_alone_leaves_the_features(asked_anew, monkeypatch):
    _, features = target.cpu()
    monkeypatch.setenv("NUMBA_CPU_NAME", "nehalem")
    assert target.cpu() == ("nehalem", features)
    monkeypatch.setenv("NUMBA_ENABLE_AVX", "0")
    assert not [one for one in target.cpu()[1].split(",") if one.startswith("+avx")]
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    assert target.cpu() == ("generic", "")
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "+sse4.2")
    assert target.cpu() == ("generic", "+sse4.2")


def test_code_for_another_processor_than_the_file_says_is_not_kept(place, monkeypatch):
    """Numba keeps the features found at its import."""
    from fastnn.backend.cpu.loading import compile

    assert compile.compile_native(lambda n: None, 1).lasting
    monkeypatch.setattr(compile, "cpu", lambda: ("another", ""))
    compiled = compile.compile_native(lambda n: None, 1)
    assert not compiled.lasting
    monkeypatch.setattr(store, "path_of", lambda name: place)
    store.write("kernel", compiled)
    assert not place.exists()


def test_settings_of_numba_cuda_are_part_of_its_files(monkeypatch):
    for name in [name for name in os.environ if name.startswith("NUMBA_")]:
        monkeypatch.delenv(name)
    before = settings.cuda_settings()
    monkeypatch.setenv("NUMBA_CUDA_LOG_LEVEL", "debug")
    assert settings.cuda_settings() == before
    monkeypatch.setenv("NUMBA_CUDA_DEBUGINFO", "1")
    assert settings.cuda_settings() == (*before, "NUMBA_CUDA_DEBUGINFO=1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monkeypatch.setattr(settings, "_CONFIG", "numba is not there")
        monkeypatch.setenv("NUMBA_OPT", "1")
        assert settings.cuda_settings() == ("OPT=1", "NUMBA_CUDA_DEBUGINFO=1")
