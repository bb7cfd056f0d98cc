"""Entry points for Python: builtins that call a compiled function with fixed arguments."""

import gc
import threading

import pytest

from fastnn.backend.cpu.loading import library
from fastnn.backend.cpu.loading.compile import compile_native
from fastnn.backend.cpu.loading.entry_point import EntryPoint


def difference(a, b, c):
    return 100 * a - 10 * b + c


@pytest.fixture(scope="module")
def address() -> int:
    return library.load("test-difference", lambda: compile_native(difference, 3, returns=True))


@pytest.fixture(autouse=True, scope="module")
def cache_folder(tmp_path_factory):
    """Keep this test's function out of the user's cache."""
    from fastnn.backend.cpu.loading import store

    folder, original = tmp_path_factory.mktemp("entry"), store.path_of
    store.path_of = lambda name: folder / f"{name}.fnk"
    yield
    store.path_of = original


def test_arguments_stay_until_they_are_assigned(address):
    entry = EntryPoint(address, 7, -2, 1)
    assert entry.start() == entry.start() == 721
    entry.arguments[1], entry.arguments[2] = 3, 2**62
    assert entry.start() == 670 + 2**62
    assert list(entry.arguments) == [7, 3, 2**62]


def test_the_builtin_keeps_its_block(address):
    starts = [EntryPoint(address, number, 0, 0).start for number in range(200)]
    gc.collect()
    assert [start() for start in starts] == [100 * number for number in range(200)]
    with pytest.raises(TypeError, match="takes no arguments"):
        starts[0](1)


def test_threads_have_entries_of_their_own(address):
    found = {}

    def work(number):
        entry = EntryPoint(address, number, number, 0)
        found[number] = {entry.start() for _ in range(2000)}

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == {number: {90 * number} for number in range(8)}
