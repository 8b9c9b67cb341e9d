"""A limit of the bytes of requests in flight, for links that are slower than the requests assume.

A filesystem that takes and returns whole bodies shows only that a request is done, not that its
bytes move. On a slow link many large requests, side by side, are all silent for longer than the
stall timeout allows. So what a request may be silent for has to bound how large it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf

from fsspill.storage.retry import Retrier

__all__ = ["MIN_REQUEST", "CongestionWindow"]

MIN_REQUEST = 128 * 2**10
"""Bytes of a request after a time-out: 1 s of the 125 KB/s that each of 8 processes has of a link
of 1 MB/s, and 7.5 s of such a link for 64 of them."""

MAX_WINDOW = 64 * 2**20
"""Bytes in flight that need no limit: more than that is not in flight on any link."""

_CONCURRENCY = 4
"""Requests in a window: one alone leaves the link idle for a round trip."""

_SHORT, _LONG = 1 / 8, 1 / 4
"""Shares of the stall timeout. Requests that take less let the window grow, those that take longer
let it shrink; at 1/2 they time out."""


class CongestionWindow:
    """Limits the bytes of requests in flight after a time-out, as TCP does after a loss.

    Parameters
    ----------
    concurrent : bool
        True for a filesystem that several requests may use concurrently. Its window is open until
        a request times out. Else the window begins with the size of a small range, and is never
        open: an operation that times out there goes on in its thread, and all others wait for it.

    Notes
    -----
    After a time-out one request of `MIN_REQUEST` bytes goes out at a time. A window grows by each
    request that was done in a short time, so it doubles in a round trip, and is open again at
    `MAX_WINDOW`. It stays where a request takes 1/8 to 1/4 of the stall timeout, at whatever speed
    the link has, and where less than half of it is used.

    Belongs to the event loop. Outlives the calls that use it: an object restored after another one
    need not find out again how slow the link is.
    """

    def __init__(self, *, concurrent: bool = True) -> None:
        self._concurrency = _CONCURRENCY if concurrent else 1
        self._limit = inf if concurrent else float(8 * MIN_REQUEST)
        self._in_flight = 0
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def is_open(self) -> bool:
        """True if nothing is limited."""
        return self._limit == inf

    @property
    def is_narrow(self) -> bool:
        """True if requests are made smaller than they would be."""
        return self._limit < MAX_WINDOW / 4

    def request_size(self, nbytes: int) -> int:
        """Return the bytes that the next request should have, of `nbytes` that are wanted."""
        if self.is_open:
            return nbytes
        return min(nbytes, max(MIN_REQUEST, int(self._limit) // self._concurrency))

    @asynccontextmanager
    async def request(
        self, nbytes: int, retrier: Retrier, *, divisible: bool = True
    ) -> AsyncIterator[int]:
        """Wait for room for a request, hold it, and yield the bytes that it may have.

        Parameters
        ----------
        nbytes : int
            Bytes that are wanted.
        retrier : Retrier
            Makes the request. While others have their turn it is not silent.
        divisible : bool
            False for a request that must have all of them: in a window of less it is alone.
        """
        if self.is_open:
            yield nbytes
            return
        loop = asyncio.get_running_loop()
        while not self._has_room(size := self.request_size(nbytes) if divisible else nbytes):
            await self._change(loop)
            retrier.wait_in_turn()
        self._in_flight += size
        begun = loop.time()
        try:
            yield size
            self._adapt(size, (loop.time() - begun) / retrier.seconds)
        finally:
            self._in_flight -= size
            self._wake_all()

    def _has_room(self, size: int) -> bool:
        return not self._in_flight or self._in_flight + size <= self._limit

    async def _change(self, loop: asyncio.AbstractEventLoop) -> None:
        change = loop.create_future()
        self._waiting.append(change)
        await change

    def _wake_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            if not change.done():
                change.set_result(None)

    def _adapt(self, size: int, share: float) -> None:
        """Grow or shrink after a request that took this share of the stall timeout."""
        step = size
        if share >= _SHORT:  # as if the request had been of the size that it should have had
            step = self.request_size(size)
            share *= step / size
        if share < _SHORT and 2 * self._in_flight > self._limit:
            self._limit += step
        elif share > _LONG:
            self._limit = max(MIN_REQUEST, self._limit - step)
        if self._limit >= MAX_WINDOW:
            self._limit = inf if self._concurrency > 1 else MAX_WINDOW

    def shrink(self) -> None:
        """Send one small request at a time from now on: one has timed out."""
        self._limit = float(MIN_REQUEST)
