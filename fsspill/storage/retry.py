"""Retries of requests, until storage has made no progress for too long."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol, TypeVar

from fsspill.errors import (
    FsspillError,
    StorageRefusedError,
    format_seconds,
    is_timeout,
    is_transient,
    original_cause,
    translate,
)

__all__ = ["Progress", "RequestSkippedError", "Retrier", "backoff"]

T = TypeVar("T")

_TICK = 0.25
"""Seconds between two checks of a request in flight."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 4.0

_REFUSALS = 4
"""Attempts of a request that is refused as wrong: a body that was altered on its way is, too."""

_SILENCE = 1 / 2
"""Share of the stall timeout after which a silent request is cancelled: it leaves time for another
one."""

_STEADY, _SILENCE_WHEN_STEADY = 1 / 8, 3 / 4
"""The same where bytes still moved after 1/8 of the stall timeout, so that the link is known to be
slow and not dead. The end of a body is silent: the system takes 1 to 4 MB before they are sent."""


class Progress(Protocol):
    """`Retrier.progress`, for those who move the bytes."""

    def __call__(self, *, further: bool) -> None:
        """Record that bytes have moved."""


class RequestSkippedError(FsspillError):
    """A request that was not made, because another one of the same call had failed for good."""


class Retrier:
    """Retries of the requests of one call to one location.

    A failure that may pass is retried after a jittered pause that doubles, up to 4 seconds. A
    request during which no byte of the call moves for half of the stall timeout is cancelled and
    made again on a connection of its own. Without any progress for the whole stall timeout, the
    last error is raised.

    Parameters
    ----------
    seconds : float
        Stall timeout: the time without progress, in which no request of the call has succeeded and
        no body got further on its way than ever before. So a call may take as long as its bytes
        need, but not longer than this because the storage is down.
    is_abandoned : callable, optional
        Returns True once another process has found the location unhealthy.

    Notes
    -----
    Belongs to the event loop. Time in which the event loop stood still (Ray holds the GIL while it
    waits for room in its object store) does not count.
    """

    def __init__(self, seconds: float, is_abandoned: Callable[[], bool] = lambda: False) -> None:
        self.seconds = seconds
        self._is_abandoned = is_abandoned
        self._next_check = 0.0
        self._abandoned = False
        self._progress = self._moves = 0
        self._stopped = False

    def progress(self, *, further: bool = True) -> None:
        """Record that bytes have moved.

        Parameters
        ----------
        further : bool
            False if they are no more than an earlier attempt has moved. Such an attempt is not
            cancelled, but if it fails there may be no other one: a body that is cut off at the same
            byte each time must not be sent without end.
        """
        self._moves += 1
        self._progress += further

    def stop(self) -> None:
        """Skip all further requests; those in flight continue."""
        self._stopped = True

    def require(self) -> None:
        """Raise `RequestSkippedError` if `stop` was called."""
        if self._stopped:
            raise RequestSkippedError

    async def attempt(
        self,
        request: Callable[[], Awaitable[T]],
        action: str,
        location: object,
        timed_out: Callable[[], None] = lambda: None,
    ) -> T:
        """Make a request, and retry it if it fails for reasons that may pass.

        Parameters
        ----------
        request : callable
            Makes it; called once for each attempt.
        action : str
            For the message, as in `fsspill.errors.translate`.
        location : str, or object with a string
            The same; its string is taken when an attempt has failed.
        timed_out : callable, optional
            Called after each attempt that has timed out, before the next one.

        Raises
        ------
        FsspillError
            The error of the request: immediately if it cannot pass, after four attempts if the
            request is refused as wrong, else after the stall timeout.
        RequestSkippedError
            `stop` was called before the request.
        """
        self.require()
        clock = _StallClock(self)
        for attempts, pause in enumerate(backoff(), 1):
            try:
                result = await self._watch(request(), clock)
            except Exception as error:
                if is_timeout(error):
                    timed_out()
                failure = translate(error, action, str(location))
                if not _may_pass(failure, attempts):
                    raise failure from original_cause(failure, error)
                if self._check_abandoned() or not clock.allows(pause):
                    raise _final_error(failure, attempts) from error
            else:
                self.progress()
                return result
            await asyncio.sleep(pause)
            clock.spend(pause)
        raise AssertionError("backoff never ends")

    async def _watch(self, awaitable: Awaitable[T], clock: _StallClock) -> T:
        """Wait for one attempt, as long as it is not silent for too long."""
        task = asyncio.ensure_future(awaitable)
        silence = _SilenceClock(self)
        try:
            while not (await asyncio.wait({task}, timeout=_TICK))[0]:
                clock.spend(_TICK)
                silence.spend(_TICK)
                if self._check_abandoned() or silence.is_too_long:
                    raise TimeoutError(f"no answer for {format_seconds(silence.seconds)}")
            return task.result()
        finally:
            task.add_done_callback(_retrieve_exception)
            task.cancel()

    def _check_abandoned(self) -> bool:
        now = asyncio.get_running_loop().time()
        if not self._abandoned and now >= self._next_check:
            self._next_check = now + _TICK
            self._abandoned = self._is_abandoned()
        return self._abandoned


class _StallClock:
    """The seconds since the call last made progress."""

    def __init__(self, retrier: Retrier) -> None:
        self._retrier = retrier
        self._seen = self._count()
        self.seconds = 0.0

    def _count(self) -> int:
        return self._retrier._progress

    def spend(self, seconds: float) -> None:
        if self._seen != self._count():
            self._seen, self.seconds = self._count(), 0.0
        self.seconds += seconds

    def allows(self, pause: float) -> bool:
        self.spend(0)
        return self.seconds + pause < self._retrier.seconds


class _SilenceClock(_StallClock):
    """The seconds since a byte of the call last moved, for one attempt."""

    def __init__(self, retrier: Retrier) -> None:
        super().__init__(retrier)
        self._age = 0.0
        self._allowed = retrier.seconds * _SILENCE

    def _count(self) -> int:
        return self._retrier._moves

    def spend(self, seconds: float) -> None:
        self._age += seconds
        if self._seen != self._count() and self._age > self._retrier.seconds * _STEADY:
            self._allowed = self._retrier.seconds * _SILENCE_WHEN_STEADY
        super().spend(seconds)

    @property
    def is_too_long(self) -> bool:
        return self.seconds >= self._allowed


def _retrieve_exception(task: asyncio.Future[T]) -> None:
    """Retrieve the exception of an abandoned task: asyncio would log it otherwise."""
    if not task.cancelled():
        task.exception()


def backoff() -> Iterator[float]:
    """Yield the seconds to wait before each further attempt, without end."""
    longest = _FIRST_PAUSE
    while True:
        yield random.uniform(longest / 2, longest)
        longest = min(2 * longest, _LONGEST_PAUSE)


def _may_pass(failure: FsspillError, attempts: int) -> bool:
    """Return True if a request should be made again after so many attempts."""
    refused = isinstance(failure, StorageRefusedError) and attempts < _REFUSALS
    return refused or is_transient(failure)


def _final_error(failure: FsspillError, attempts: int) -> FsspillError:
    return type(failure)(f"{failure} Tried {attempts} times.")
