"""How long a call waits for storage that does not answer, and how often it asks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from fsspill.errors import FsspillError, format_seconds, is_transient, original_cause, translate

__all__ = ["RequestSkippedError", "Retrier", "backoff"]

T = TypeVar("T")

_TICK = 0.25
"""Seconds between two looks at a request that is under way."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 4.0


class RequestSkippedError(FsspillError):
    """Not tried, because another request of the same call had failed for good."""


class Retrier:
    """The patience of one call with one place.

    A failure that may pass is tried again after a jittered pause that doubles, up to 4 seconds. A
    request that is under way while nothing makes progress for half of the time is given up and
    made again on a connection of its own. Without any progress for the whole time, the last error
    is raised.

    Parameters
    ----------
    seconds : float
        Without progress: no request of the call has succeeded, and no body got further on its
        way. So a call may take as long as its bytes need, but not longer than this because the
        storage is down.
    is_abandoned : callable, optional
        Whether somebody else has found out that it is no use.

    Notes
    -----
    Belongs to the event loop. Time in which the event loop stood still (Ray holds the GIL while it
    waits for room in its object store) counts for nothing.
    """

    def __init__(self, seconds: float, is_abandoned: Callable[[], bool] = lambda: False) -> None:
        self.seconds = seconds
        self._is_abandoned = is_abandoned
        self._next_look = 0.0
        self._given_up = False
        self._progress = 0
        self._stopped = False

    def progress(self) -> None:
        """Say that bytes have moved."""
        self._progress += 1

    def stop(self) -> None:
        """Let no further request begin; those that have begun go on."""
        self._stopped = True

    def require(self) -> None:
        """Raise `RequestSkippedError` if `stop` was called."""
        if self._stopped:
            raise RequestSkippedError

    async def attempt(self, request: Callable[[], Awaitable[T]], action: str, location: str) -> T:
        """Make a request, again and again if it fails for reasons that may pass.

        Parameters
        ----------
        request : callable
            Makes it; called once for each attempt.
        action, location : str
            For the message, as in `fsspill.errors.translate`.

        Raises
        ------
        FsspillError
            What the request failed with, at once if it cannot pass, else at the retrier.
        RequestSkippedError
            `stop` was called before it began.
        """
        self.require()
        patience = _StallClock(self)
        for attempts, pause in enumerate(backoff(), 1):
            try:
                result = await self._watched(request(), patience)
            except Exception as error:
                failure = translate(error, action, location)
                if not is_transient(failure):
                    raise failure from original_cause(failure, error)
                if self._abandoned() or not patience.allows(pause):
                    raise _gave_up(failure, attempts) from error
            else:
                self.progress()
                return result
            await asyncio.sleep(pause)
            patience.spend(pause)
        raise AssertionError("backoff never end")

    async def _watched(self, awaitable: Awaitable[T], patience: _StallClock) -> T:
        """Wait for one attempt, but no longer than half of the time without progress."""
        task = asyncio.ensure_future(awaitable)
        silence = _StallClock(self)
        try:
            while not (await asyncio.wait({task}, timeout=_TICK))[0]:
                patience.spend(_TICK)
                silence.spend(_TICK)
                if self._abandoned() or silence.seconds >= self.seconds / 2:
                    raise TimeoutError(f"no answer for {format_seconds(silence.seconds)}")
            return task.result()
        finally:
            task.add_done_callback(_forget)
            task.cancel()

    def _abandoned(self) -> bool:
        now = asyncio.get_running_loop().time()
        if not self._given_up and now >= self._next_look:
            self._next_look = now + _TICK
            self._given_up = self._is_abandoned()
        return self._given_up


class _StallClock:
    """The seconds that were spent since the call last made progress."""

    def __init__(self, retrier: Retrier) -> None:
        self._retrier = retrier
        self._seen = retrier._progress
        self.seconds = 0.0

    def spend(self, seconds: float) -> None:
        if self._seen != self._retrier._progress:
            self._seen, self.seconds = self._retrier._progress, 0.0
        self.seconds += seconds

    def allows(self, pause: float) -> bool:
        self.spend(0)
        return self.seconds + pause < self._retrier.seconds


def _forget(task: asyncio.Future[T]) -> None:
    """Look at how a task ended that nobody waits for: asyncio would log it otherwise."""
    if not task.cancelled():
        task.exception()


def backoff() -> Iterator[float]:
    """Yield the seconds to wait before each further attempt, without end."""
    longest = _FIRST_PAUSE
    while True:
        yield random.uniform(longest / 2, longest)
        longest = min(2 * longest, _LONGEST_PAUSE)


def _gave_up(failure: FsspillError, attempts: int) -> FsspillError:
    return type(failure)(f"{failure} Tried {attempts} times.")
