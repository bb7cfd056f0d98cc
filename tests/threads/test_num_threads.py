"""The number of threads: the setting, the variable, the container's quota, records that are worth sharing."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn import threads
from fastnn.backend.cpu.processor import cost
from fastnn.program.layout import Buffer, encode
from fastnn.program.opcodes import OPS
from fastnn.program.program import RecordDraft, make_program


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch):
    monkeypatch.setattr(threads, "_chosen", None)
    threads._default.cache_clear()
    yield
    threads._default.cache_clear()


def test_the_number_that_is_set_is_the_one_in_use():
    fnn.set_num_threads(np.int64(3))
    assert fnn.get_num_threads() == 3
    assert threads.reason() == "set_num_threads"
    for wrong, error in ((0, ValueError), (257, ValueError), (2.0, TypeError), (True, TypeError), ("2", TypeError)):
        with pytest.raises(error, match="n: expected"):
            fnn.set_num_threads(wrong)
    assert fnn.get_num_threads() == 3


def test_the_variable_decides_the_default(monkeypatch):
    monkeypatch.setenv("FASTNN_NUM_THREADS", " 7 ")
    assert fnn.get_num_threads() == 7
    assert threads.reason() == "FASTNN_NUM_THREADS"
    fnn.set_num_threads(2)
    assert fnn.get_num_threads() == 2


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "257", "1,2"])
def test_a_wrong_variable_is_named_with_its_value(text, monkeypatch):
    monkeypatch.setenv("FASTNN_NUM_THREADS", text)
    with pytest.raises(ValueError, match=f"FASTNN_NUM_THREADS: expected an integer from 1 to 256, got '{text}'"):
        fnn.get_num_threads()


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("FASTNN_NUM_THREADS", "")
    monkeypatch.setattr(threads, "_processors", lambda: 5)
    monkeypatch.setattr(threads, "_quota", lambda root: None)
    assert fnn.get_num_threads() == 5


@pytest.mark.parametrize(
    ("processors", "quota", "expected"),
    [(8, None, 8), (8, 2.0, 2), (8, 2.5, 3), (8, 0.2, 1), (2, 16.0, 2), (1000, None, 256), (384, 300.0, 256),
     (384, 256.5, 256), (384, 255.5, 256), (384, 255.0, 255)],
)  # fmt: skip
def test_a_quota_caps_the_processors(processors, quota, expected, monkeypatch):
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_processors", lambda: processors)
    monkeypatch.setattr(threads, "_quota", lambda root: quota)
    assert fnn.get_num_threads() == expected
    assert ("quota" in threads.reason()) == (quota is not None and expected < processors)


@pytest.mark.skipif(not hasattr(__import__("os"), "sched_setaffinity"), reason="the platform has no affinity masks")
def test_the_affinity_mask_counts():
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); import fastnn; "
        "print(fastnn.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.skipif(threads._processors() < 2, reason="one processor")
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the platform has no affinity masks")
def test_threads_follow_the_affinity_of_a_forked_child():
    code = """
import os, fastnn
before = fastnn.get_num_threads()
for wanted in (1, None):
    if os.fork() == 0:
        if wanted:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        os._exit(0 if fastnn.get_num_threads() == (wanted or before) else 1)
    assert os.wait()[1] == 0
    assert fastnn.get_num_threads() == before
fastnn.set_num_threads(5)
if os.fork() == 0:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os._exit(0 if fastnn.get_num_threads() == 5 else 1)
assert os.wait()[1] == 0
"""
    variables = {name: value for name, value in os.environ.items() if name != "FASTNN_NUM_THREADS"}
    subprocess.run([sys.executable, "-c", code], env=variables, check=True, timeout=60)


@pytest.mark.parametrize(
    ("cores", "affinity", "expected"),
    [("0-3\n", set(range(12)), 4), ("0-3,8\n", set(range(12)), 5), ("0-3", {2, 3, 7}, 2), ("0-3", {6, 7}, 2),
     ("", set(range(12)), 12), (None, set(range(12)), 12), ("0-11", set(range(12)), 12)],
)  # fmt: skip
def test_efficiency_cores_get_no_thread(cores, affinity, expected, tmp_path, monkeypatch):
    if cores is not None:
        write(tmp_path, {"sys/devices/cpu_core/cpus": cores})
    performance = threads._performance_cores
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(threads, "_affinity", lambda: affinity)
    monkeypatch.setattr(threads, "_processors", lambda: len(affinity))
    monkeypatch.setattr(threads, "_performance_cores", lambda root: performance(tmp_path))
    monkeypatch.setattr(threads, "_quota", lambda root: None)
    assert fnn.get_num_threads() == expected
    assert ("performance" in threads.reason()) == (expected < len(affinity))


@pytest.mark.parametrize(("told", "expected"), [(6, 6), (0, 10), (None, 10), (64, 10)])
def test_macos_tells_its_performance_cores(told, expected, monkeypatch):
    """A replacement for macOS' C library: 10 processors, some of them fast, or no answer to the question."""

    class Library:
        def sysctlbyname(self, name, value, size, *new):
            assert name == b"hw.perflevel0.logicalcpu" and new == (None, 0)
            if told is None:
                return -1
            value._obj.value = told
            return 0

    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(threads.ctypes, "CDLL", lambda name: Library())
    monkeypatch.setattr(threads, "_processors", lambda: 10)
    monkeypatch.setattr(threads, "_quota", lambda root: None)
    assert fnn.get_num_threads() == expected


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2, V1 = "0::/a/b\n", "4:memory:/x\n3:cpu,cpuacct:/docker/abc\n0::/\n"
GROUP = "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/self/cgroup": V2}, None),
        ({"proc/self/cgroup": V2, f"{GROUP}/a/b/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": V2, f"{GROUP}/a/b/cpu.max": "150000 100000\n"}, 1.5),
        # a group above may allow less
        ({"proc/self/cgroup": V2, f"{GROUP}/a/b/cpu.max": "max 100000", f"{GROUP}/a/cpu.max": "50000 100000"}, 0.5),
        ({"proc/self/cgroup": V2, f"{GROUP}/a/b/cpu.max": "4 1", f"{GROUP}/a/cpu.max": "8 1"}, 4.0),
        # the path is the host's, the mount is the container's own group
        ({"proc/self/cgroup": V2, f"{GROUP}/cpu.max": "200000"}, 2.0),
        ({"proc/self/cgroup": "0::/../../other\n", f"{GROUP}/cpu.max": "300000 100000"}, 3.0),
        ({"proc/self/cgroup": "0::/\n", f"{GROUP}/unified/cpu.max": "300000 100000"}, 3.0),
        ({"proc/self/cgroup": V2, f"{GROUP}/a/b/cpu.max": "many threads\n"}, None),
        ({"proc/self/cgroup": V2, f"{GROUP}/a/b/cpu.max": ""}, None),
        (
            {
                "proc/self/cgroup": V1,
                f"{GROUP}/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "250000\n",
                f"{GROUP}/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            {
                "proc/self/cgroup": V1,
                f"{GROUP}/cpu/cpu.cfs_quota_us": "100000\n",
                f"{GROUP}/cpu/cpu.cfs_period_us": "100000\n",
            },
            1.0,
        ),
        (
            {
                "proc/self/cgroup": V1,
                f"{GROUP}/cpu/docker/abc/cpu.cfs_quota_us": "-1\n",
                f"{GROUP}/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_quotas_are_read_from_control_groups(files, expected, tmp_path):
    assert threads._quota(write(tmp_path, files)) == expected


def test_info_tells_the_number_and_why(monkeypatch, capsys):
    from fastnn.__main__ import main

    def line() -> str:
        threads._default.cache_clear()
        assert main(["info"]) == 0
        return next(line for line in capsys.readouterr().out.splitlines() if line.startswith("threads"))

    monkeypatch.setenv("FASTNN_NUM_THREADS", "3")
    assert line().endswith("3, from FASTNN_NUM_THREADS")
    monkeypatch.setenv("FASTNN_NUM_THREADS", "none")
    assert "expected an integer from 1 to 256, got 'none'" in line()
    fnn.set_num_threads(2)
    assert line().endswith("2, from set_num_threads")


def record(op: str, **dims: int) -> np.ndarray:
    operands = {operand.name: encode(Buffer.DATA, 0) for operand in OPS[op].operands}
    return make_program("one", 1, "float32", [RecordDraft(op, operands, dims)], [], {}).records[0]


def test_every_op_has_an_estimate_or_works_in_one_part():
    for op in OPS.values():
        large = record(op.name, **{**dict.fromkeys(op.dims, 512), **({"n": 262_144} if "n" in op.dims else {})})
        assert bool(op.shared.over) == (cost.nanoseconds(large, "float32") > 0.0), op.name
        assert (cost.parts(large, "float32") == 1) == (not op.shared.over), op.name


def test_only_records_that_pay_are_cut_and_no_finer_than_they_can_be():
    assert cost.parts(record("matmul", m=16, n=16, k=16), "float32") == 1
    assert cost.parts(record("add", n=1000), "float32") == 1
    assert cost.parts(record("sum_rows", rows=100_000, cols=70), "float32") == 2  # columns go in units of 64
    assert cost.parts(record("softmax", rows=3, cols=1_000_000), "float32") == 3
    once, twice = (cost.parts(record("matmul", m=256, n=256, k=k), "float32") for k in (32, 64))
    assert 1 < once < twice <= 64
    assert cost.parts(record("matmul", m=256, n=256, k=256), "float64") >= once


def test_flags_keep_their_low_half():
    records = make_program(
        "two", 1, "float32", [RecordDraft("add", {}, {"n": n}, flags=fnn.program.layout.Flag.ACCUMULATE)
                              for n in (8, 10_000_000)], [], {}
    ).records.copy()  # fmt: skip
    assert cost.cut(records, "float32") == cost.nanoseconds(records[1], "float32")
    assert [int(r[2]) & 0xFFFFFFFF for r in records] == [1, 1]
    assert [int(r[2]) >> 32 for r in records] == [0, cost.parts(records[1], "float32")]
