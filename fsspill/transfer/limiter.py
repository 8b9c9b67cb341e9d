"""Limits of what is in flight: so many requests, so many bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

__all__ = ["InFlightLimiter", "Reservation", "gather_or_cancel"]

T = TypeVar("T")

_ENCODER_BYTES = 32 * 2**20
"""Bytes in flight for each encoder: a rest of less than a part (6 MiB), and one block of up to 8.5
MiB before and after it is compressed, are 23 MiB for the one that goes on."""


class InFlightLimiter:
    """Limit of the concurrent requests and buffered bytes of one call.

    Parameters
    ----------
    max_requests, max_bytes : int
        The limits.

    Attributes
    ----------
    encoders : asyncio.Semaphore
        Admits those that hold bytes while they wait for room: so few that there always is room
        for one of them to go on.

    Notes
    -----
    Belongs to the event loop; a new one is made for every call.
    """

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.encoders = asyncio.Semaphore(max(1, max_bytes // _ENCODER_BYTES))
        self._requests = max_requests
        self._bytes = max_bytes
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def reserve(self, nbytes: int) -> AsyncIterator[Reservation]:
        """Wait for room for one more request of `nbytes`, and hold it."""
        reservation = Reservation(self, nbytes)
        await self._take(nbytes, requests=1)
        try:
            yield reservation
        finally:
            await self._release(reservation.nbytes, requests=1)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[Reservation]:
        """Hold a reservation that is no request, of no bytes until it grows; see `encoders`."""
        async with self.encoders:
            reservation = Reservation(self, 0)
            try:
                yield reservation
            finally:
                await self._release(reservation.nbytes)

    async def _take(self, nbytes: int, requests: int = 0) -> None:
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._requests >= requests and self._bytes >= nbytes
            )
            self._requests -= requests
            self._bytes -= nbytes

    async def _release(self, nbytes: int, requests: int = 0) -> None:
        async with self._changed:
            self._requests += requests
            self._bytes += nbytes
            self._changed.notify_all()


class Reservation:
    """Room for one request.

    Attributes
    ----------
    nbytes : int
        Bytes that it holds.
    """

    def __init__(self, limiter: InFlightLimiter, nbytes: int) -> None:
        self.nbytes = nbytes
        self._limiter = limiter

    async def grow(self, nbytes: int) -> None:
        """Wait for room until this holds `nbytes`."""
        wanted = max(0, nbytes - self.nbytes)
        await self._limiter._take(wanted)
        self.nbytes += wanted

    def move(self, other: Reservation, nbytes: int) -> None:
        """Move `nbytes` of what this holds to another reservation."""
        moved = min(nbytes, self.nbytes)
        self.nbytes -= moved
        other.nbytes += moved

    async def shrink(self, nbytes: int) -> None:
        """Hold no more than `nbytes` from now on."""
        freed = max(0, self.nbytes - nbytes)
        self.nbytes -= freed
        await self._limiter._release(freed)


async def gather_or_cancel(awaitables: Sequence[Awaitable[T]]) -> list[T]:
    """Return all results, or cancel the rest, wait for its end and raise the first error."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
