"""The bound on what is under way: so many requests, so many bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from fsspill.transfer import Limits

__all__ = ["InFlight", "all_or_none"]

T = TypeVar("T")


class InFlight:
    """What one call may have under way: so many requests, so many bytes.

    Belongs to the event loop; a new one is made for every call.
    """

    def __init__(self, limits: Limits, concurrent: bool) -> None:
        self._requests = limits.max_requests_in_flight if concurrent else 1
        self._bytes = self.max_bytes = limits.max_bytes_in_flight
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def slot(self, nbytes: int) -> AsyncIterator[None]:
        """Wait for room for one more request of `nbytes`, and hold it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._requests and self._bytes >= nbytes)
            self._requests -= 1
            self._bytes -= nbytes
        try:
            yield
        finally:
            async with self._changed:
                self._requests += 1
                self._bytes += nbytes
                self._changed.notify_all()


async def all_or_none(awaitables: Sequence[Awaitable[T]]) -> list[T]:
    """Return all results, or cancel the rest, wait for its end and raise the first error."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
