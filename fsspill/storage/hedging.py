"""Second requests for those that take longer than usual, of which the faster one wins.

Of the requests to an object store a few take many times as long as the others, and some are never
answered. A call that makes many of them waits for the slowest. Another request for the same bytes
is answered within the usual time.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from math import inf
from typing import TypeVar

from fsspill.storage.congestion_window import CongestionWindow
from fsspill.storage.deadline import cancel
from fsspill.storage.meter import Meter, superseded

__all__ = ["Hedging"]

T = TypeVar("T")
Request = Callable[[], Awaitable[T]]

SHARE = 0.05
"""Hedges for each request, at most. 0 switches hedging off."""

_LONGEST_BURST = 8
"""Hedges that may follow one another immediately, earned by earlier requests."""

_RESERVE = 2
"""Hedges of these that are kept for requests which are later still: they may be lost."""

QUANTILE = 0.97
"""Share of the requests that are answered before they are late. Of 0.95 the late ones would use up
all of the budget and wait for it, and the 99th percentile of the slowest of 18 requests would be
the same (computed for a log-normal tail with one in twenty above 200 ms)."""

_MEDIANS, _NOISE = 3, 0.05
"""A request that takes no longer than this many medians and seconds is not late, on a link whose
times differ little: there the quantile is noise, as of a busy machine (with 10 ms one request in
twenty was late on the loopback interface)."""

_KEPT, _ENOUGH, _STEP = 256, 32, 16
"""Last requests of a size whose durations are kept, those before which nothing is known, and those
after which the delay is computed again."""

_PUNCTUAL = 0.01
"""Seconds by which a wait may end late. More tells that the process was busy."""


class Hedging:
    """Hedged requests of one operation to one filesystem.

    A request that takes longer than 97 % of those of its size did is made a second time. The first
    answer wins, and the other request is cancelled.

    Parameters
    ----------
    operation : str
        The operation, for the metrics.
    window : CongestionWindow
        Window of the same requests. While it is not open the link is slow, not a request of it.
    meter : Meter
        Counts the hedges, and has the limit of a storage that throttles.

    Attributes
    ----------
    is_unhealthy : callable
        Returns True while the circuit of the URI is open; called before each hedge.

    Notes
    -----
    At most 5 % of requests are hedged, and none while the node's requests are limited because the
    storage throttles them, or before 32 requests of a size were answered. The delay is that of the
    last 256 of the size, by powers of two, and at least three times their median and 50 ms.

    Belongs to the event loop. Outlives the calls that use it, as their window does.
    """

    def __init__(self, operation: str, window: CongestionWindow, meter: Meter) -> None:
        self.is_unhealthy: Callable[[], bool] = lambda: False
        self._operation = operation
        self._window = window
        self._meter = meter
        self._durations: defaultdict[int, _Durations] = defaultdict(_Durations)
        self._budget = 0.0
        self._held = 0

    async def race(
        self,
        request: Request[T],
        nbytes: int,
        again: Request[T] | None = None,
        room: float = inf,
    ) -> T:
        """Make a request, and hedge it if it takes longer than usual.

        Parameters
        ----------
        request : callable
            Makes it.
        nbytes : int
            Bytes that it moves.
        again : callable, optional
            Makes it a second time; `request` if not given.
        room : float
            Bytes that all hedges of this filesystem may hold together. One that would exceed them
            is not made.

        Raises
        ------
        Exception
            Whatever the request raises: the first one, if both do.
        """
        self._budget = min(_LONGEST_BURST, self._budget + SHARE)
        durations = self._durations[nbytes.bit_length()]
        clock = asyncio.get_running_loop().time
        began = clock()
        if self._window.is_open and durations.delay < inf and SHARE:
            result = await self._race(request, again or request, durations.delay, nbytes, room)
        else:
            result = await request()
        if self._window.is_open:
            # Of a request that lost, how long it took at least: longer than the delay, which is all
            # that a quantile has to know.
            durations.add(clock() - began)
        return result

    async def _race(
        self, request: Request[T], again: Request[T], delay: float, nbytes: int, room: float
    ) -> T:
        is_over = asyncio.Event()
        first = _start(request, is_over)
        try:
            is_late = await self._is_late(first, delay, nbytes, room)
        except asyncio.CancelledError:
            cancel(first)
            raise
        if not is_late:
            return first.result()
        self._budget -= 1
        self._held += nbytes
        return await self._decide([first, _start(again, is_over)], is_over, nbytes)

    async def _decide(
        self, tasks: Sequence[asyncio.Task[T]], is_over: asyncio.Event, nbytes: int
    ) -> T:
        """Return the first success of two requests, and cancel the other one."""
        first, second = tasks
        winner: asyncio.Task[T] | None = None
        try:
            winner = await _first_success(tasks)
            return (winner or first).result()
        finally:
            if winner:
                is_over.set()
            for task in tasks:
                cancel(task)
            names = {None: "none", first: "first", second: "second"}
            self._meter.count_hedge(self._operation, names[winner])
            loser = second if winner is first else first
            loser.add_done_callback(lambda _: self._release(nbytes))

    def _release(self, nbytes: int) -> None:
        self._held -= nbytes

    async def _is_late(self, task: asyncio.Task[T], delay: float, nbytes: int, room: float) -> bool:
        """Wait until a request is late and may be hedged, or has ended; return True if it may."""
        reserve = _RESERVE
        while not await _ends_within(task, delay):
            if self._budget >= 1 + reserve and self._held + nbytes <= room and self._is_calm():
                return True
            reserve = 0
        return False

    def _is_calm(self) -> bool:
        limited = self._meter.throttle.is_limited
        return self._window.is_open and not limited and not self.is_unhealthy()


def _start(request: Request[T], is_over: asyncio.Event) -> asyncio.Task[T]:
    """Begin a request, which is superseded if it is cancelled once the race is over."""

    async def run() -> T:
        superseded.set(is_over.is_set)
        return await request()

    return asyncio.get_running_loop().create_task(run())


async def _ends_within(task: asyncio.Task[T], seconds: float) -> bool:
    """Wait for a task; return False if it has not ended after so many seconds.

    If the wait ended late, as long again as it was late: Ray holds the GIL while its object store
    has no room, and what arrived meanwhile has not been seen yet.
    """
    clock = asyncio.get_running_loop().time
    due = clock() + seconds
    while not (await asyncio.wait({task}, timeout=max(0.0, due - clock())))[0]:
        late = clock() - due
        if late < _PUNCTUAL:
            return False
        due = clock() + late
    return True


async def _first_success(tasks: Sequence[asyncio.Task[T]]) -> asyncio.Task[T] | None:
    """Wait until one of the tasks has succeeded, and return it; None if none of them has."""
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            with suppress(asyncio.CancelledError):
                if task in done and task.exception() is None:
                    return task
    return None


class _Durations:
    """Durations of the last requests of one size.

    Attributes
    ----------
    delay : float
        Seconds after which another one is late; infinite until enough of them are known.
    """

    def __init__(self) -> None:
        self.delay = inf
        self._last: deque[float] = deque(maxlen=_KEPT)
        self._added = 0

    def add(self, seconds: float) -> None:
        """Add the duration of a request, in the place of the oldest."""
        self._last.append(seconds)
        self._added += 1
        if self._added >= _ENOUGH and not self._added % _STEP:
            ranked = sorted(self._last)
            usual = _MEDIANS * ranked[len(ranked) // 2] + _NOISE
            self.delay = max(usual, ranked[int(len(ranked) * QUANTILE)])
