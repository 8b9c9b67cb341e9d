"""Work that is repeated in the background until it is done."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import islice

import pytest

from fsspill.placement import background
from fsspill.placement.background import BackgroundTask
from fsspill.storage.retry import backoff
from tests.running import PATIENCE, BegunThreads, poll

NAME = "fsspill-test"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(background, "_LONGEST_PAUSE", 0.05)


class Work:
    """Steps that are left; each returns True after the last one, or does what it is given."""

    def __init__(self, steps: int, during: Callable[[], None] = lambda: None) -> None:
        self.left = steps
        self.during = during
        self.task = BackgroundTask(self.step, NAME)

    def step(self) -> bool:
        self.left = max(0, self.left - 1)
        self.during()
        return not self.left


@pytest.fixture(autouse=True)
def _no_thread_is_left(threads: BegunThreads) -> Iterator[None]:
    yield
    poll(lambda: not threads(), "the threads to end")


@pytest.fixture
def threads() -> BegunThreads:
    return BegunThreads(NAME)


def test_there_is_a_thread_only_while_there_is_work(threads: BegunThreads) -> None:
    """None before `start` nor after the last step; `start` makes another one."""
    work = Work(3)
    assert not threads()
    for _ in range(2):
        work.left = 3
        work.task.start()
        work.task.start()
        assert len(threads()) <= 1
        poll(lambda: not work.left, "the steps")
        poll(lambda: not threads(), "the thread to end")


def test_a_start_during_the_last_step_is_not_lost() -> None:
    """The step may have looked for work before there was any: it is repeated."""
    steps: list[None] = []

    def during() -> None:
        steps.append(None)
        if len(steps) == 1:
            work.task.start()

    work = Work(0, during)
    work.task.start()
    poll(lambda: len(steps) == 2, "the second step")


def test_a_step_that_raises_is_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the error."""

    def during() -> None:
        if work.left:
            raise RuntimeError("broken")

    work = Work(3, during)
    work.task.start()
    poll(lambda: not work.left, "the steps")
    assert caplog.text.count("fsspill-test: broken") == 1


def test_the_thread_ends_with_its_object(threads: BegunThreads) -> None:
    """It holds no reference to it."""
    work = Work(10**9)
    work.task.start()
    poll(threads, "the thread")
    del work


def test_the_thread_ends_when_it_is_shut_down(threads: BegunThreads) -> None:
    """Nothing starts another one."""
    work = Work(10**9)
    work.task.start()
    work.task.shut_down()
    poll(lambda: not threads(), "the thread to end")
    work.task.start()
    assert not threads()


CHILD = """
import os, threading
from fsspill.placement.background import BackgroundTask

class Work:
    done = threading.Event()
    def __init__(self):
        self.task = BackgroundTask(self.step, "work")
    def step(self):
        return self.done.is_set()

work = Work()
work.task.start()
with work.task._lock:  # as when a thread of the parent is about to end
    pid = os.fork()
    if not pid:
        work.done.set()
        work.task.start()
        for thread in threading.enumerate():
            if thread.name == "work":
                thread.join()
                os._exit(7)
        os._exit(8)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_a_thread_of_its_own() -> None:
    """Whatever its parent was doing when it was forked."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.stdout == "7\n", ran.stderr


def test_where_no_thread_starts_a_later_start_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python starts none while it exits: then nothing is raised."""
    work = Work(1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        work.task.start()
    work.task.start()
    poll(lambda: not work.left, "the step")


def refuse(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_the_random_numbers_of_the_program_are_its_own() -> None:
    """A seeded program gets the same ones, whatever runs in the background."""
    random.seed(1)
    before = random.getstate()
    work = Work(3)
    work.task.start()
    poll(lambda: not work.left, "the steps")
    list(islice(backoff(), 3))
    assert random.getstate() == before
