"""Values that every process makes for itself."""

from __future__ import annotations

import os
import pickle
import threading

import pytest

from fsspill.process_local import ProcessLocal
from tests.forking import IGNORE_WARNING, run_in_fork

pytestmark = pytest.mark.filterwarnings(IGNORE_WARNING)


def test_value_is_made_once_in_a_process() -> None:
    """With its first use, and every process has its own."""
    value: ProcessLocal[list[int]] = ProcessLocal(lambda: [os.getpid()])
    assert value.get() is value.get()
    assert value.get() == [os.getpid()]
    assert run_in_fork(lambda: (value.get(), os.getpid()))[0] != [os.getpid()]


def test_threads_get_the_same_value() -> None:
    """Also those that ask for it concurrently, before there is one."""
    together = threading.Barrier(2)

    def make() -> object:
        together.wait()
        return object()

    value, found = ProcessLocal(make), []
    threads = [threading.Thread(target=lambda: found.append(value.get())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is found[1]


def test_pickling_leaves_the_value_behind() -> None:
    """It may be a connection or a lock."""
    value = ProcessLocal(threading.Lock)
    copy = pickle.loads(pickle.dumps(value))
    assert copy.get() is not value.get()
