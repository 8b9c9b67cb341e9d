"""Limit of a node's requests to a storage that throttles them.

Storage takes so many requests per second, and answers 503 or 429 above, to whichever process it is.
So from the first of these answers on all processes of a node share one rate for each URI.

One for reads and writes, though S3 limits them apart (3,500 writes and 5,500 reads for a prefix).
Two rates below one limit of both, as of other storage, do not settle where processes write and read
by turns (simulated for 50 requests a second: 75 % were used, with one rate 94 %).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf

from fsspill.log import get_logger
from fsspill.storage.rate_limit import RateLimit
from fsspill.storage.shared_record import OpenFile, SharedRecord

__all__ = ["Throttle"]

logger = get_logger(__name__)

_LOOK_INTERVAL = 1.0
"""Seconds between two looks whether another process of the node was throttled."""


class Throttle:
    """Limit of the rate of the requests of all processes of a node to one URI.

    Parameters
    ----------
    uri : str
        The URI.
    open_file : callable, optional
        Opens the file that the processes share; without one the limit is this process's own.
    clock : callable, optional
        Returns seconds, the same in all processes.

    Notes
    -----
    Without a limit a request costs no system call, and all of them together the attempt to open a
    file each second. With one, each waits for the requests of its process that came before it, and
    then for its time, for which it is alone: so the processes have the rate by turns, however many
    requests each of them has. A process that is killed leaves one unused time. See `RateLimit` for
    the rate itself.

    Belongs to the event loop.
    """

    def __init__(
        self,
        uri: str = "",
        open_file: OpenFile | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._uri = uri
        self._record = SharedRecord(len(RateLimit().pack()), open_file)
        self._limit = RateLimit()
        self._queue = asyncio.Lock()
        self._queued = 0
        self._answers = 0
        self._since = self._next_look = clock()
        self._throttled: float | None = None

    @property
    def rate(self) -> float:
        """Requests per second of the node; `inf` without a limit."""
        return self._limit.rate if self._limit.is_active(self.clock()) else inf

    @property
    def is_limited(self) -> bool:
        """True if requests have to wait for their turn."""
        now = self.clock()
        if self._throttled is None and not self._limit.is_active(now) and now >= self._next_look:
            self._look(now)
        return self._throttled is not None or self._limit.is_active(now)

    def _look(self, now: float) -> None:
        self._limit = RateLimit.unpack(self._record.read(), now)
        if not self._limit.is_active(now):
            self._record.close()
        self._next_look = now + _LOOK_INTERVAL
        self._since, self._answers = now, 0

    def note(self, outcome: str, sent: float) -> None:
        """Note the outcome of a request that was sent at a time, as the label of metrics."""
        if outcome == "success":
            self._answers += 1
        elif outcome == "throttled":
            self._throttled = sent

    async def turn(self) -> None:
        """Wait for the time of one request, in turn with those of all processes of the node."""
        self._queued += 1
        try:
            async with self._queue:
                pause = await self._schedule() - self.clock()
                if pause > 0:
                    await asyncio.sleep(pause)
        finally:
            self._queued -= 1

    async def _schedule(self) -> float:
        """Tell the other processes what was answered, and return the time of a request."""
        due = 0.0

        def change(data: bytes) -> bytes:
            nonlocal due
            now = due = self.clock()
            self._limit = self._adjust(RateLimit.unpack(data, now), now)
            if not self._limit.is_active(now):
                return data
            self._limit, due = self._limit.schedule(now)
            return self._limit.pack()

        await self._record.change(change)
        return due

    def _adjust(self, limit: RateLimit, now: float) -> RateLimit:
        """Return the limit after what was answered to this process since the last time."""
        answers, throttled = self._answers, self._throttled
        self._answers, self._throttled = 0, None
        if limit.is_active(now):
            limit = limit.add_answers(now, answers, queued=self._queued > 1)
            return limit if throttled is None else limit.decrease(now, throttled)
        if throttled is None:
            return limit
        limit = RateLimit.begin(now, answers / max(now - self._since, _LOOK_INTERVAL))
        logger.warning(
            "%s throttles: all processes of this node send fewer requests from now on. If it lasts "
            "name more buckets or prefixes in uri, or make file_size and range_size larger.",
            self._uri,
        )
        return limit
