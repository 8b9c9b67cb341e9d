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
    is_throttled,
    is_timeout,
    is_transient,
    original_cause,
    translate,
)
from fsspill.storage.deadline import cancel
from fsspill.storage.throttle import Throttle

__all__ = ["Progress", "RequestSkippedError", "Retrier", "backoff"]

T = TypeVar("T")

_jitter = random.SystemRandom()
"""A program's own random numbers do not depend on retries, and forked children differ."""

_TICK = 0.25
"""Seconds between two checks of a request in flight."""

_LATE = 1.0
"""Seconds by which a wait may end late on a busy machine: Ray gives IO workers a low priority. What
is longer is no wait for the storage: Ray holds the GIL until its object store has room."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 4.0

_REFUSALS = 4
"""Attempts of a request that is refused as wrong: a body that was altered on its way is, too."""

_SILENCE = 1 / 2
"""Share of the stall timeout after which a silent request is cancelled: it leaves time for another
one."""

_STEADY, _SILENCE_WHEN_STEADY = 1 / 8, 3 / 4
"""The same where bytes still move after 1/8 of the stall timeout, so that the link is known to be
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
    last error is raised: all requests of the call share its clock, those that began late too. Only
    while bytes of others move, a failure is retried by the request's own age.

    Parameters
    ----------
    seconds : float
        Stall timeout: the time without progress, in which no request of the call has succeeded and
        no body got further on its way than ever before. So a call may take as long as its bytes
        need, but not longer than this because the storage is down: once a request was cancelled for
        the silence of all of them, bytes only stop the clock while they move. It is an answer that
        resets it, or bytes that go on moving: a server may take all bodies and answer none.
    is_abandoned : callable, optional
        Returns True once another process has found the location unhealthy.

    Notes
    -----
    Belongs to the event loop. Time in which the event loop stood still (Ray holds the GIL while it
    waits for room in its object store) does not count, but for the first second.
    """

    def __init__(self, seconds: float, is_abandoned: Callable[[], bool] = lambda: False) -> None:
        self.seconds = seconds
        self._is_abandoned = is_abandoned
        self._next_check = 0.0
        self._abandoned = False
        self._progress = self._moves = 0
        self._stopped = self._timed_out = False
        self._first_move: float | None = None
        self._stall, self._silence = _Clock(lambda: self._progress), _Clock(lambda: self._moves)

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
        if self._timed_out and self._is_steady():
            self._timed_out = False
        self._progress += further and not self._timed_out

    def wait_in_turn(self) -> None:
        """Record that a request waits for others of the call: it is not silent."""
        self._moves += 1

    def _is_steady(self) -> bool:
        """Return True if bytes have moved for some seconds since the last time-out."""
        now = self._silence.now
        self._first_move = now if self._first_move is None else self._first_move
        return now - self._first_move > self.seconds * _STEADY

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
        retrying: Callable[[], None] = lambda: None,
        throttle: Throttle | None = None,
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
        retrying : callable, optional
            Called before each further attempt.
        throttle : Throttle, optional
            Limit of the node's requests; each attempt waits for its turn.

        Raises
        ------
        FsspillError
            The error of the request: immediately if it cannot pass, after four attempts if the
            request is refused as wrong, else after the stall timeout.
        RequestSkippedError
            `stop` was called before the request.
        """
        self.require()
        self._advance(0.0)
        began = self._silence.total
        answered: FsspillError | None = None
        failure: FsspillError | None = None
        for attempts, pause in enumerate(backoff(), 1):
            if throttle and throttle.is_limited:
                final = failure and _final_error(answered or failure, attempts - 1)
                await self._take_turn(throttle, began, final)
            try:
                result = await self._watch(request())
            except Exception as error:
                if is_timeout(error):
                    timed_out()
                failure = translate(error, action, str(location))
                if not _may_pass(failure, attempts):
                    raise failure from original_cause(failure, error)
                self._advance(0.0)
                # A time-out at the end is that of this call, and says less than what was before it.
                answered = failure if not is_timeout(error) else answered
                if self._check_abandoned() or not self._allows(pause, since=began):
                    raise _final_error(answered or failure, attempts) from error
                if throttle and is_throttled(error):
                    pause = next(backoff())  # its turn is the pause that others need
            else:
                self._timed_out = False
                self.progress()
                return result
            await asyncio.sleep(pause)
            self._advance(pause)
            retrying()
        raise AssertionError("backoff never ends")

    async def _take_turn(
        self, throttle: Throttle, since: float, failure: FsspillError | None
    ) -> None:
        """Wait for the turn of an attempt, which is not silent meanwhile.

        The clocks go on: where nothing gets through turns are rare, and the call has to end. Then
        this raises `failure`, that of the attempts before; the first one is made in any case.
        """
        turn = asyncio.ensure_future(throttle.turn())
        try:
            while not (await asyncio.wait({turn}, timeout=_TICK))[0]:
                self.wait_in_turn()
                self._advance(_TICK)
                if failure is None:
                    self.require()
                elif self._check_abandoned() or not self._allows(0.0, since=since):
                    raise failure
            turn.result()
        finally:
            cancel(turn)

    def _advance(self, waited: float) -> None:
        """Advance the clocks of the call after a wait of so many seconds.

        All of its requests share them: one that begins late has no stall timeout for itself.
        """
        moved = self._silence.advance(waited)
        self._stall.advance(waited, stopped=moved and self._timed_out)

    def _allows(self, pause: float, *, since: float) -> bool:
        """Return True if there may be another attempt after a pause."""
        stalled = self._stall.seconds
        # Bytes that are read are no progress before their request is answered in full, and on a
        # slow link that takes longer than the stall timeout.
        if not self._timed_out and self._silence.seconds < self.seconds * _STEADY:
            stalled = min(stalled, self._silence.total - since)
        return stalled + pause < self.seconds

    async def _watch(self, awaitable: Awaitable[T]) -> T:
        """Wait for one attempt, as long as it is not silent for too long."""
        task = asyncio.ensure_future(awaitable)
        silence = _AttemptClock(self)
        try:
            while not (await asyncio.wait({task}, timeout=_TICK))[0]:
                self._advance(_TICK)
                silence.advance(_TICK)
                clock = silence if silence.is_too_long else self._end
                is_silent = silence.is_too_long or clock.seconds >= self.seconds
                if is_silent:
                    self._timed_out, self._first_move = True, None
                if self._check_abandoned() or is_silent:
                    raise TimeoutError(f"no answer for {format_seconds(clock.seconds)}")
            return task.result()
        finally:
            cancel(task)

    @property
    def _end(self) -> _Clock:
        """The clock that ends requests in flight: bytes that move again keep them until then."""
        return self._stall if self._timed_out else self._silence

    def _check_abandoned(self) -> bool:
        now = asyncio.get_running_loop().time()
        if not self._abandoned and now >= self._next_check:
            self._next_check = now + _TICK
            self._abandoned = self._is_abandoned()
        return self._abandoned


class _Clock:
    """The seconds since a count has changed, and since the clock was made (`total`)."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._seen = count()
        self._now: float | None = None
        self.seconds = self.total = 0.0

    @property
    def now(self) -> float:
        """The time to which it was advanced."""
        return self._now or 0.0

    def advance(self, waited: float, *, stopped: bool = False) -> bool:
        """Advance to now, after a wait; return True if the count has changed meanwhile.

        With `stopped` the wait does not count. A busy machine ends a wait late; beyond that the
        event loop stood still, which does not count.
        """
        now = asyncio.get_running_loop().time()
        passed = waited if self._now is None else min(now - self._now, waited + _LATE)
        self._now = now
        changed = self._seen != self._count()
        if changed:
            self._seen, self.seconds = self._count(), 0.0
        self.seconds += 0.0 if stopped else passed
        self.total += passed
        return changed


class _AttemptClock(_Clock):
    """The seconds of one attempt since a byte of the call last moved."""

    def __init__(self, retrier: Retrier) -> None:
        super().__init__(lambda: retrier._moves)
        self._age = 0.0
        self._limit = retrier.seconds
        self._allowed = retrier.seconds * _SILENCE

    def advance(self, waited: float, *, stopped: bool = False) -> bool:
        self._age += waited
        changed = super().advance(waited, stopped=stopped)
        if changed and self._age > self._limit * _STEADY:
            self._allowed = self._limit * _SILENCE_WHEN_STEADY
        return changed

    @property
    def is_too_long(self) -> bool:
        return self.seconds >= self._allowed


def backoff(first: float | None = None, longest: float | None = None) -> Iterator[float]:
    """Yield seconds to wait, doubled from `first` to `longest` and jittered, without end.

    By default those before each further attempt of a request.
    """
    pause, longest = first or _FIRST_PAUSE, longest or _LONGEST_PAUSE
    while True:
        yield _jitter.uniform(pause / 2, pause)
        pause = min(2 * pause, longest)


def _may_pass(failure: FsspillError, attempts: int) -> bool:
    """Return True if a request should be made again after so many attempts."""
    refused = isinstance(failure, StorageRefusedError) and attempts < _REFUSALS
    return refused or is_transient(failure)


def _final_error(failure: FsspillError, attempts: int) -> FsspillError:
    return type(failure)(f"{failure} Tried {attempts} times.")
