"""The bound on what is under way: so many requests, so many bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fsspill.errors import FsspillError
from fsspill.transfer import Limits

__all__ = ["InFlight", "Stopped"]


class InFlight:
    """What one call may have under way: so many requests, so many bytes.

    Belongs to the event loop; a new one is made for every call.
    """

    def __init__(self, limits: Limits, concurrent: bool) -> None:
        self._requests = limits.max_requests_in_flight if concurrent else 1
        self._bytes = self.max_bytes = limits.max_bytes_in_flight
        self._changed = asyncio.Condition()
        self._stopped = False

    def stop(self) -> None:
        """Let no further slot begin; those that have begun go on."""
        self._stopped = True

    @asynccontextmanager
    async def slot(self, nbytes: int) -> AsyncIterator[None]:
        """Wait for room for one more request of `nbytes`, and hold it.

        Raises
        ------
        Stopped
            Another one failed in the meantime.
        """
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._stopped or (self._requests and self._bytes >= nbytes)
            )
            if self._stopped:
                raise Stopped
            self._requests -= 1
            self._bytes -= nbytes
        try:
            yield
        finally:
            async with self._changed:
                self._requests += 1
                self._bytes += nbytes
                self._changed.notify_all()


class Stopped(FsspillError):
    """Not tried, because another file of the batch had failed."""
