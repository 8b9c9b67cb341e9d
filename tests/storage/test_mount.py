"""Calls into file systems that stop answering."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

import pytest

from fsspill.storage import mount
from fsspill.storage.mount import MAX_ABANDONED, AbandonedError, Mount, moved
from tests.forking import IGNORE_WARNING, run_in_fork
from tests.hung_mount import abandoned
from tests.running import PATIENCE, poll

ROOT = "/some/mount"


@pytest.fixture
def answer() -> Iterator[threading.Event]:
    """Return an event for which hung calls wait, and wait for their ends."""
    answer = threading.Event()
    yield answer
    answer.set()
    poll(lambda: abandoned(ROOT) == 0, "the calls to end")


@pytest.fixture(autouse=True)
def _fast_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a stall timeout of 1 second pass in a few milliseconds, where a call waits."""
    wait = mount._Thread.wait
    monkeypatch.setattr(
        mount._Thread,
        "wait",
        lambda thread, seconds: wait(thread, seconds if seconds > 1 else 0.002),
    )


def patient() -> Mount:
    return Mount(ROOT, PATIENCE)


def impatient() -> Mount:
    return Mount(ROOT, 1)


def hang(answer: threading.Event) -> None:
    assert answer.wait(PATIENCE)


def test_a_call_returns_and_raises_what_its_function_does() -> None:
    """On another thread, the same one each time that it is idle."""
    main = threading.current_thread()
    first, second = (patient().call(threading.current_thread) for _ in range(2))
    assert first is second
    assert first is not main
    with pytest.raises(ValueError, match="invalid literal"):
        patient().call(int, "x")
    with pytest.raises(StopIteration):
        patient().call(next, iter(()))


def test_a_silent_call_ends_with_an_error_that_says_where_and_how_long(
    answer: threading.Event,
) -> None:
    """The thread goes on waiting, and ends with its call."""
    with pytest.raises(TimeoutError, match=f"file system of {ROOT} for 1 s"):
        impatient().call(hang, answer)
    assert abandoned(ROOT) == 1
    assert patient().call(int) == 0


def test_progress_restarts_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call may take as long as it needs: here 40 times the interval of the clock."""
    steps, done = threading.Semaphore(0), threading.Semaphore(0)

    def slow() -> str:
        for _ in range(5 * mount._TICKS):
            assert steps.acquire(timeout=PATIENCE)
            moved()
            done.release()
        return "done"

    def wait(thread: mount._Thread, seconds: float) -> bool:
        if thread._ended.acquire(blocking=False):
            return True
        if thread.moves < last:
            steps.release()
            assert done.acquire(timeout=PATIENCE)
            return False
        return thread._ended.acquire(timeout=PATIENCE)

    with patient().calls() as calls:
        assert calls._thread
        last = calls._thread.moves + 5 * mount._TICKS
        monkeypatch.setattr(mount._Thread, "wait", wait)
        assert calls.call(slow) == "done"


def test_a_call_that_nobody_waited_for_is_undone(answer: threading.Event) -> None:
    """After it has ended, whether it returned or raised; other calls are not undone."""
    done: list[str] = []

    def late(name: str, fails: bool) -> None:
        hang(answer)
        done.append(name)
        if fails:
            raise OSError(name)

    for name, fails in (("returned", False), ("raised", True)):
        with pytest.raises(TimeoutError):
            impatient().call(late, name, fails, undo=partial(done.append, f"un{name}"))
    impatient().call(int, undo=lambda: done.append("wrong"))
    assert done == []
    answer.set()
    poll(lambda: len(done) == 4, "both to be undone")
    assert done.index("returned") < done.index("unreturned")
    assert done.index("raised") < done.index("unraised")


def test_an_abandoned_call_ends_at_its_next_step(answer: threading.Event) -> None:
    """It does not go on for nobody."""
    outcomes: list[str] = []

    def several_steps() -> None:
        hang(answer)
        try:
            moved()
        except AbandonedError:
            outcomes.append("ended")
            raise
        outcomes.append("went on")

    with pytest.raises(TimeoutError):
        impatient().call(several_steps)
    answer.set()
    poll(lambda: outcomes, "the call to end")
    assert outcomes == ["ended"]


def test_abandoned_threads_are_few(answer: threading.Event) -> None:
    """Further calls fail without a thread, those to other mounts do not, and all do again later."""
    calls: list[str] = []
    for _ in range(MAX_ABANDONED):
        with pytest.raises(TimeoutError, match="for 1 s"):
            impatient().call(hang, answer)
    threads = threading.active_count()
    for _ in range(3):
        with pytest.raises(TimeoutError, match=f"{ROOT} has not answered 4 earlier calls"):
            patient().call(calls.append, "called")
    assert calls == []
    assert threading.active_count() == threads
    assert Mount("/other", PATIENCE).call(int) == 0
    answer.set()
    poll(lambda: abandoned(ROOT) == 0, "the calls to end")
    assert patient().call(int) == 0


def test_several_calls_share_a_thread_also_while_others_fail(answer: threading.Event) -> None:
    """What was opened can be closed."""
    with patient().calls() as calls:
        thread = calls.call(threading.current_thread)
        for _ in range(MAX_ABANDONED):
            with pytest.raises(TimeoutError):
                impatient().call(hang, answer)
        assert calls.call(threading.current_thread) is thread


class Buffer:
    """Stands for the memory of an object."""


def test_a_buffer_is_kept_as_long_as_a_thread_may_read_it(answer: threading.Event) -> None:
    """Its memory is not used for something else meanwhile, and free afterwards."""
    buffer = Buffer()
    kept = weakref.ref(buffer)
    with pytest.raises(TimeoutError):
        impatient().call(lambda buffer: hang(answer), buffer)
    del buffer
    gc.collect()
    assert kept() is not None
    answer.set()
    poll(lambda: kept() is None, "the buffer to be released")


@pytest.mark.parametrize("fails", [True, False])
def test_an_idle_thread_keeps_nothing(fails: bool) -> None:
    """Neither arguments nor results nor errors."""

    def work(buffer: Buffer) -> Buffer:
        if fails:
            raise OSError("failed")
        return buffer

    buffer = Buffer()
    kept = weakref.ref(buffer)
    with pytest.raises(OSError, match="failed") if fails else nullcontext():
        patient().call(work, buffer)
    del buffer
    poll(lambda: kept() is None, "the buffer to be released")


@pytest.mark.filterwarnings(IGNORE_WARNING)
def test_a_forked_child_has_threads_of_its_own(answer: threading.Event) -> None:
    """Those of its parent do not exist there, and neither do calls that its parent waits for."""
    patient().call(int)
    for _ in range(MAX_ABANDONED):
        with pytest.raises(TimeoutError):
            impatient().call(hang, answer)
    assert run_in_fork(lambda: patient().call(int, "7")) == 7


def test_a_call_that_was_begun_is_not_waited_for(answer: threading.Event) -> None:
    """Its caller goes on; it ends with its own error, or is abandoned and undone."""
    undone: list[str] = []
    with patient().calls(lambda: undone.append("undone")) as calls:
        calls.begin(threading.current_thread)
        assert calls.has_ended(PATIENCE)
        calls.begin(int, "no number")
        with pytest.raises(ValueError, match="no number"):
            calls.has_ended(PATIENCE)
        calls.begin(hang, answer)
        assert not calls.has_ended(0)
        calls.abandon()
        assert not calls.is_usable
    assert undone == []
    answer.set()
    poll(lambda: undone, "the call to be undone")


def test_a_call_that_has_just_ended_is_not_abandoned() -> None:
    """Its thread is given back, and nothing is undone."""
    undone: list[str] = []
    ended = threading.Event()
    with patient().calls(lambda: undone.append("undone")) as calls:
        calls.begin(ended.set)
        assert ended.wait(PATIENCE)
        poll(lambda: calls._thread and calls._thread._outcome, "the end of the call")
        calls.abandon()
        assert calls.is_usable
        assert calls.call(int) == 0
    assert undone == []


def test_a_thread_whose_call_was_left_just_after_its_end_can_be_abandoned_later(
    answer: threading.Event,
) -> None:
    """What that call returned or raised is forgotten: the next one may hang."""
    for arguments in ((), ("no number",)):
        with patient().calls() as calls:
            calls.begin(int, *arguments)
            thread = calls._thread
            poll(partial(getattr, thread, "_outcome"), "the end of the call")
            calls.abandon()
        with impatient().calls() as again:
            assert again._thread is thread
            with pytest.raises(TimeoutError):
                again.call(hang, answer)


def test_an_abandoned_thread_keeps_nothing_once_its_call_has_raised(
    answer: threading.Event,
) -> None:
    """An object of which it had a view is free without a run of the garbage collector."""

    def write(buffer: Buffer) -> None:
        hang(answer)
        moved()

    buffer = Buffer()
    kept = weakref.ref(buffer)
    gc.disable()
    try:
        with pytest.raises(TimeoutError):
            impatient().call(write, buffer)
        del buffer
        answer.set()
        poll(lambda: kept() is None, "the buffer to be released")
    finally:
        gc.enable()


def test_an_interrupted_wait_leaves_the_thread_to_its_call(
    answer: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not given back while it is busy, where the next caller would get its outcome."""

    def interrupted(thread: mount._Thread, seconds: float) -> bool:
        raise KeyboardInterrupt

    with patient().calls() as calls:
        busy = calls._thread
        calls.begin(hang, answer)
        with monkeypatch.context() as patch:
            patch.setattr(mount._Thread, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                calls.has_ended(PATIENCE)
    assert patient().call(threading.current_thread) is not busy
