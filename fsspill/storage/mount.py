"""Calls into file systems that may stop answering, each of which ends.

A system call into a network mount that hangs, or a disk that does, returns when that answers again,
and nothing ends it before: no signal, no time limit. So calls are made on threads, and the caller
stops waiting for one that is silent. That thread is abandoned. When its call returns after all, it
undoes what it has done, and ends.

A thread may be abandoned while it is in a system call. It keeps all that it was given until that
returns, so memory that it reads from is not freed meanwhile, and it is given none to write to.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from fsspill.errors import format_seconds
from fsspill.log import get_logger
from fsspill.process_local import ProcessLocal

__all__ = ["BLOCK_SIZE", "SLOWEST_FLUSH", "AbandonedError", "Calls", "Mount", "moved"]

logger = get_logger(__name__)

T = TypeVar("T")

BLOCK_SIZE = 2**20
"""Bytes of a read or a write, each of which is progress: 35 KB/s are enough for a stall timeout of
30 seconds."""

MAX_ABANDONED = 4
"""Threads that may wait for one mount without a caller. Once they do, calls fail immediately."""

SLOWEST_FLUSH = 8 * 2**20
"""Bytes a second at which a file system sends what it has taken, at least. A call that waits for
that, as the close of a file on NFS or FUSE does, is silent for longer than the stall timeout."""

_TICKS = 8
"""Looks at a call in flight within the stall timeout."""


class AbandonedError(Exception):
    """The caller no longer waits for the call of this thread."""


def moved(held: int = 0) -> None:
    """Record that the call which runs on this thread has made progress.

    Parameters
    ----------
    held : int
        Bytes that the file system may have taken and not sent yet, if what follows waits for that:
        the caller is so much more patient.

    Raises
    ------
    AbandonedError
        Its caller no longer waits.
    """
    thread = threading.current_thread()
    if isinstance(thread, _Thread):
        thread.moved(held / SLOWEST_FLUSH)


class Mount:
    """A local directory whose file system may stop answering.

    Parameters
    ----------
    root : str
        The directory.
    seconds : float
        Stall timeout: seconds that a caller waits for a call that makes no progress.

    Notes
    -----
    A call costs 10 to 20 us more than on the caller's own thread (measured). The threads stay, as
    many as the process ever needed concurrently.
    """

    def __init__(self, root: str, seconds: float) -> None:
        self._root = root
        self._seconds = seconds

    def within(self, seconds: float) -> Mount:
        """Return the same mount with a stall timeout of so many seconds, if that is less."""
        return Mount(self._root, min(seconds, self._seconds))

    def call(
        self,
        function: Callable[..., T],
        *arguments: Any,
        undo: Callable[[], object] | None = None,
    ) -> T:
        """Call a function on a thread, and wait for it.

        Parameters
        ----------
        function : callable
            The function. If its caller stops waiting it may still come to its end.
        *arguments
            Its arguments.
        undo : callable, optional
            Called on the thread after the end of a call that nobody waited for.

        Raises
        ------
        TimeoutError
            It was silent for the stall timeout, or as many calls before as may be are.
        OSError
            Of EAGAIN if the process can have no more threads.
        Exception
            Whatever it raises.
        """
        with self.calls(undo) as calls:
            return calls.call(function, *arguments)

    def calls(self, undo: Callable[[], object] | None = None) -> Calls:
        """Return a thread for several calls; see `Calls`. Raises OSError, as `call`."""
        threads = _mounts.get().setdefault(self._root, _Threads(self._root))
        return Calls(threads, self._seconds, undo)


class Calls:
    """Calls that are made one after another on one thread. A context manager.

    Parameters
    ----------
    threads : _Threads
        The threads of the mount.
    seconds : float
        Stall timeout of each call.
    undo : callable, optional
        Called on the thread after the end of a call that nobody waited for.
    """

    def __init__(
        self, threads: _Threads, seconds: float, undo: Callable[[], object] | None
    ) -> None:
        self._threads = threads
        self._seconds = seconds
        self._undo = undo
        self._thread: _Thread | None = threads.take()

    @property
    def is_usable(self) -> bool:
        """False once the thread was abandoned or given back."""
        return self._thread is not None

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Make a call and wait for it; see `Mount.call`. There is no other after a TimeoutError."""
        thread = self._thread
        assert thread
        thread.begin(function, arguments)
        try:
            self._wait(thread)
        except BaseException:
            # Interrupted: a call that has just ended leaves a thread that nobody uses any more.
            self._abandon(thread)
            self._thread = None
            raise
        result: T = thread.outcome()
        return result

    def begin(self, function: Callable[..., object], *arguments: Any) -> None:
        """Begin a call without waiting for it; `has_ended` or `abandon` must follow."""
        assert self._thread
        self._thread.begin(function, arguments)

    def has_ended(self, within: float) -> bool:
        """Wait so many seconds for the call that was begun; return True once it has ended.

        Raises whatever that call has raised. There is no other call after one that has not ended.
        """
        assert self._thread
        try:
            if not self._thread.wait(within):
                return False
        except BaseException:  # interrupted
            self.abandon()
            raise
        self._thread.outcome()
        return True

    def abandon(self) -> None:
        """Leave the thread to the call that was begun, unless that has just ended."""
        if self._thread and not self._abandon(self._thread):
            self._thread.wait(-1)
            # The next call of this thread could not be abandoned while it has an outcome.
            with suppress(Exception):
                self._thread.outcome()

    def _wait(self, thread: _Thread) -> None:
        tick = self._seconds / _TICKS
        ticks, seen = 0, thread.moves
        while not thread.wait(tick):
            # By ticks and not by a clock: time in which this process stood still does not count.
            ticks = 0 if seen != thread.moves else ticks + 1
            seen = thread.moves
            silence = ticks * tick
            if silence >= self._seconds + thread.patience and self._abandon(thread):
                raise TimeoutError(
                    f"no answer of the file system of {self._threads.root} for "
                    f"{format_seconds(silence)}"
                )

    def _abandon(self, thread: _Thread) -> bool:
        """Leave the thread to its call; return False if that has just ended."""
        if self._thread and self._threads.abandon(thread, self._undo):
            self._thread = None
        return self._thread is None

    def close(self) -> None:
        """Return the thread to those that are idle."""
        if self._thread:
            self._threads.give_back(self._thread)
            self._thread = None

    def __enter__(self) -> Calls:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Thread(threading.Thread):
    """A thread that makes one call at a time.

    Attributes
    ----------
    moves : int
        Counts the progress of its calls.
    patience : float
        Seconds by which its call may be silent for longer than the stall timeout.
    """

    def __init__(self) -> None:
        # Not to be waited for when Python exits.
        super().__init__(name="fsspill-mount", daemon=True)
        self.moves = 0
        self.patience = 0.0
        self._call: tuple[Callable[..., object], tuple[Any, ...]] | None = None
        self._outcome: tuple[object, BaseException | None] | None = None
        self._at_end: Callable[[], object] | None = None
        self._state = threading.Lock()
        # Semaphores: released for each call that begins, and for each that has ended.
        self._begun, self._ended = threading.Lock(), threading.Lock()
        self._begun.acquire()
        self._ended.acquire()

    def moved(self, patience: float) -> None:
        self.patience = patience
        self.moves += 1
        if self._at_end:
            raise AbandonedError

    def begin(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self._call = (function, arguments)
        self.patience = 0.0
        self._begun.release()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the call; return False if it has not ended within that time."""
        return self._ended.acquire(timeout=seconds)

    def outcome(self) -> Any:
        """Return or raise what the call did."""
        assert self._outcome
        (result, error), self._outcome = self._outcome, None
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # or its traceback, which has this frame, would keep itself alive

    def abandon(self, at_end: Callable[[], object]) -> bool:
        """End the thread with its call, and `at_end` after it; return False if that has ended."""
        with self._state:
            if self._outcome is None:
                self._at_end = at_end
            return self._at_end is not None

    def run(self) -> None:
        """Make calls until one was abandoned."""
        while self._make_call():
            self._ended.release()
        self._outcome = None  # the traceback of an error keeps this thread, and what it was given
        assert self._at_end
        self._at_end()

    def _make_call(self) -> bool:
        """Wait for a call and make it; return False if it was abandoned."""
        self._begun.acquire()
        outcome = self._invoke()
        with self._state:
            self._outcome = outcome
            is_abandoned = self._at_end is not None
        del outcome  # the traceback of an error keeps this frame alive
        return not is_abandoned

    def _invoke(self) -> tuple[object, BaseException | None]:
        assert self._call
        (function, arguments), self._call = self._call, None
        try:
            return function(*arguments), None
        except BaseException as error:
            return None, error


class _Threads:
    """The threads of a process, as one mount uses them."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._abandoned = 0

    def take(self) -> _Thread:
        """Return an idle thread, or a new one. Raises OSError of EAGAIN where there are no more."""
        if self._abandoned >= MAX_ABANDONED:
            raise TimeoutError(
                f"the file system of {self.root} has not answered {self._abandoned} earlier calls, "
                "which still wait for it"
            )
        try:
            return _idle.get().pop()
        except IndexError:
            return _start_thread()

    def give_back(self, thread: _Thread) -> None:
        _idle.get().append(thread)

    def abandon(self, thread: _Thread, undo: Callable[[], object] | None) -> bool:
        """Leave a thread to its call; return False if that has ended."""
        with self._lock:
            abandoned = thread.abandon(partial(self._at_end, undo))
            self._abandoned += abandoned
        return abandoned

    def _at_end(self, undo: Callable[[], object] | None) -> None:
        """Undo a call that was abandoned and has ended."""
        try:
            if undo:
                undo()
        except Exception as error:
            logger.warning(
                "could not undo a call that the file system of %s answered late: %s. Something may "
                "be left there.",
                self.root,
                error,
            )
        finally:
            with self._lock:
                self._abandoned -= 1


def _start_thread() -> _Thread:
    thread = _Thread()
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, f"no thread for calls into a file system: {error}") from error
    return thread


_idle: ProcessLocal[list[_Thread]] = ProcessLocal(list)
"""Threads without a call, of any mount."""

_mounts: ProcessLocal[dict[str, _Threads]] = ProcessLocal(dict)
"""By directory: all that a process does there shares the limit of abandoned threads."""
