"""The writer of the copies of one spill, on one thread that the spill does not wait for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from fsspill.local_copy import copy_file
from fsspill.local_copy.copy_file import FileCopy
from fsspill.local_copy.directory import CopyDirectory
from fsspill.local_copy.eviction import Bound
from fsspill.log import get_logger
from fsspill.storage.mount import AbandonedError, Mount, moved

__all__ = ["CopyWriter"]

logger = get_logger(__name__)

_PATIENCE_SHARE = 0.03
"""The part of the uploads' time for which the end of a spill waits for its last copies,
if that is more than `fsspill.local_copy.copy_file.PATIENCE`."""


class CopyWriter:
    """The writer of the copies of one spill.

    Parameters
    ----------
    directory : CopyDirectory
        The node's directory.
    bound : Bound
        Limit of all copies.
    mount : Mount
        The file system of the directory.
    on_error : callable
        Called, on the thread that writes, with what the file system raised.

    Raises
    ------
    TimeoutError
        The file system has not answered earlier calls.
    OSError
        Of EAGAIN if there are no more threads.

    Notes
    -----
    One thread writes all copies in the order in which their bytes are offered: a disk gains nothing
    from more. What it has not written at the end of the spill is dropped. If it is in a system call
    then, it is abandoned: it keeps the bytes of that call, up to 1 MiB, until the call returns, and
    removes what it has not finished.
    """

    def __init__(
        self,
        directory: CopyDirectory,
        bound: Bound,
        mount: Mount,
        on_error: Callable[[OSError], None],
    ) -> None:
        self._directory = directory
        self._bound = bound
        self._on_error = on_error
        self._steps = _Steps()
        self._copies: list[FileCopy] = []
        self._start = time.monotonic()
        self._calls = mount.calls(self._discard)
        self._calls.begin(self._run)

    def begin(self, max_nbytes: int) -> FileCopy:
        """Return a new copy of a file of up to so many bytes. Never waits."""
        copy = FileCopy(self._directory, self._bound, max_nbytes, self._steps, self._on_error)
        self._copies.append(copy)
        return copy

    def _run(self) -> None:
        try:
            self._steps.run()
        finally:
            self._discard()

    def _discard(self) -> None:
        for copy in self._copies:
            copy.discard()

    def finish(self) -> None:
        """Wait a moment for what is being written, and drop the rest. Never raises."""
        seconds = max(copy_file.PATIENCE, _PATIENCE_SHARE * (time.monotonic() - self._start))
        self._steps.end()
        has_ended = False
        with self._calls as calls:
            try:
                has_ended = calls.has_ended(seconds)
            finally:
                if not has_ended:
                    for copy in self._copies:
                        copy.drop()
                    calls.abandon()


class _Steps:
    """The steps of the thread that writes."""

    def __init__(self) -> None:
        self._next: deque[Callable[[], None]] = deque()
        self._later: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def next(self, step: Callable[[], None]) -> None:
        self._next.append(step)
        self._later.put(lambda: None)

    def later(self, step: Callable[[], None]) -> None:
        self._later.put(step)

    def end(self) -> None:
        """End `run` once all steps are made."""
        self._later.put(None)

    def run(self) -> None:
        """Make steps as they come."""
        while step := self._later.get():
            while self._next:
                moved()
                _make(self._next.popleft())
            moved()
            _make(step)


def _make(step: Callable[[], None]) -> None:
    """Make a step. One that fails in a way that nobody expects fails neither others nor a spill."""
    try:
        step()
    except AbandonedError:
        raise
    except Exception as error:
        logger.warning("a local copy was dropped: %r. The bucket has the file.", error)
