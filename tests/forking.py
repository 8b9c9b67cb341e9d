"""Functions that run in a forked child."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import select
import signal
import traceback
from collections.abc import Callable
from typing import TypeVar

from tests.running import PATIENCE

T = TypeVar("T")

IGNORE_WARNING = "ignore:This process .*is multi-threaded:DeprecationWarning"
"""Mark for tests that fork on Python 3.12: that a fork leaves threads behind is their subject."""


def run_in_fork(function: Callable[[], T], how: str = "os.fork") -> T:
    """Call a function in a child of this process, which inherits its memory; return its result.

    Parameters
    ----------
    function : callable
        Returns what can be pickled. An error that it raises is raised here, as text.
    how : {"os.fork", "multiprocessing"}
        How the child is made.
    """
    reading, writing = os.pipe()
    pid = _START[how](lambda: _answer(function, writing))
    os.close(writing)
    try:
        with open(reading, "rb") as pipe:
            assert select.select([pipe], [], [], PATIENCE)[0], "the child hangs"
            answer = pipe.read()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    failure, result = pickle.loads(answer)
    assert failure is None, failure
    returned: T = result
    return returned


def _answer(function: Callable[[], object], writing: int) -> None:
    try:
        answer = pickle.dumps((None, function()))
    except BaseException:
        answer = pickle.dumps((traceback.format_exc(), None))
    with open(writing, "wb") as pipe:
        pipe.write(answer)
    # Ended by its parent, so that nothing of the parent's runs as it exits.
    signal.pause()


def _fork(function: Callable[[], None]) -> int:
    pid = os.fork()
    if not pid:
        try:
            function()
        finally:
            os._exit(1)
    return pid


def _fork_by_multiprocessing(function: Callable[[], None]) -> int:
    process = multiprocessing.get_context("fork").Process(target=function)
    process.start()
    assert process.pid is not None
    return process.pid


_START = {"os.fork": _fork, "multiprocessing": _fork_by_multiprocessing}
