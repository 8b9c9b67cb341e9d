"""Work that is repeated in the background until it is done."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

from fsspill.log import get_logger
from fsspill.storage.retry import backoff

__all__ = ["BackgroundTask"]

logger = get_logger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
"""Seconds between two steps: doubled from the first to the longest, jittered."""


class BackgroundTask:
    """A step that a thread repeats, with pauses in between, until it is done.

    Parameters
    ----------
    step : callable
        A method that returns True if nothing is left to do. Only a weak reference to its object is
        kept: the thread ends with that.
    name : str
        Name of the thread.

    Notes
    -----
    There is no thread before `start` and after the last step. A forked child, where the thread of
    its parent does not exist, has one of its own once it calls `start`.
    """

    def __init__(self, step: Callable[[], bool], name: str) -> None:
        self._step = weakref.WeakMethod(step)
        self._name = name
        self._reset(os.getpid(), closed=False)

    def _reset(self, pid: int, *, closed: bool) -> None:
        self._pid = pid
        self._lock = threading.Lock()
        self._closing = threading.Event()
        if closed:
            self._closing.set()
        self._running = False
        self._wanted = False

    def start(self) -> None:
        """Begin to repeat the step, unless that is done already; the first pause comes first."""
        if self._pid != os.getpid():
            # A lock that a thread of the parent held when it was forked would never be free.
            self._reset(os.getpid(), closed=self._closing.is_set())
        with self._lock:
            self._wanted = True
            if not self._running and not self._closing.is_set():
                self._running = self._start_thread()

    def _start_thread(self) -> bool:
        try:
            threading.Thread(target=self._repeat, name=self._name, daemon=True).start()
        except RuntimeError as error:
            # While Python exits, and where the user may have no more threads. A later call retries.
            logger.debug("no thread %s: %s", self._name, error)
            return False
        return True

    def shut_down(self) -> None:
        """End the thread at its next pause, and start none any more."""
        self._closing.set()

    def _repeat(self) -> None:
        for pause in backoff(_FIRST_PAUSE, _LONGEST_PAUSE):
            if self._closing.wait(pause):
                return
            self._wanted = False
            if self._is_done() and self._stop():
                return

    def _is_done(self) -> bool:
        step = self._step()
        try:
            return step is None or step()
        except Exception as error:
            logger.warning("in the background, %s: %s. It is tried again.", self._name, error)
            return False

    def _stop(self) -> bool:
        """End the thread unless `start` was called since its last step began."""
        with self._lock:
            self._running = self._wanted
            return not self._running
