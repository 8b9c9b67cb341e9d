"""Limits of what is in flight: so many requests, so many bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

__all__ = ["InFlightLimiter", "Reservation", "gather_or_cancel"]

T = TypeVar("T")


class InFlightLimiter:
    """Limit of the concurrent requests and buffered bytes of one call.

    Parameters
    ----------
    max_requests, max_bytes : int
        The limits.

    Notes
    -----
    Belongs to the event loop; a new one is made for every call.
    """

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._requests = max_requests
        self._bytes = max_bytes
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def reserve(self, nbytes: int) -> AsyncIterator[Reservation]:
        """Wait for room for one more request of `nbytes`, and hold it."""
        reservation = Reservation(self._release, nbytes)
        async with self._changed:
            await self._changed.wait_for(lambda: self._requests and self._bytes >= nbytes)
            self._requests -= 1
            self._bytes -= nbytes
        try:
            yield reservation
        finally:
            await self._release(reservation.nbytes, requests=1)

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

    def __init__(self, release: Callable[[int], Awaitable[None]], nbytes: int) -> None:
        self.nbytes = nbytes
        self._release = release

    async def shrink(self, nbytes: int) -> None:
        """Hold no more than `nbytes` from now on."""
        freed = max(0, self.nbytes - nbytes)
        self.nbytes -= freed
        await self._release(freed)


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
