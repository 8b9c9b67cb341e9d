"""The bound on what is under way: so many requests, so many bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from fsspill.settings import Settings

__all__ = ["InFlightLimiter", "Reservation", "gather_or_cancel", "run_in_thread"]

T = TypeVar("T")

_threads = ThreadPoolExecutor(2, thread_name_prefix="fsspill-compress")
"""Few: they compress 0.8 to 1.3 GiB/s, Ray runs up to 4 IO workers that spill, and the C library
keeps freed memory for each thread that there ever was."""


class InFlightLimiter:
    """What one call may have under way: so many requests, so many bytes.

    Belongs to the event loop; a new one is made for every call.
    """

    def __init__(self, limits: Settings, concurrent: bool) -> None:
        self._requests = limits.max_requests_in_flight if concurrent else 1
        self._bytes = self.max_bytes = limits.max_bytes_in_flight
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def reserve(self, nbytes: int) -> AsyncIterator[Reservation]:
        """Wait for room for one more request of `nbytes`, and hold it."""
        reservation = Reservation(self._give_back, nbytes)
        async with self._changed:
            await self._changed.wait_for(lambda: self._requests and self._bytes >= nbytes)
            self._requests -= 1
            self._bytes -= nbytes
        try:
            yield reservation
        finally:
            await self._give_back(reservation.nbytes, requests=1)

    async def _give_back(self, nbytes: int, requests: int = 0) -> None:
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

    def __init__(self, give_back: Callable[[int], Awaitable[None]], nbytes: int) -> None:
        self.nbytes = nbytes
        self._give_back = give_back

    async def shrink(self, nbytes: int) -> None:
        """Hold no more than `nbytes` from now on."""
        freed = max(0, self.nbytes - nbytes)
        self.nbytes -= freed
        await self._give_back(freed)


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


async def run_in_thread(function: Callable[[], T]) -> T:
    """Call a function in one of 2 threads, and wait for its end also when cancelled.

    For what works on the objects' own memory, which nobody may hold after the call.
    """
    call = asyncio.get_running_loop().run_in_executor(_threads, function)
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise
    finally:
        del call  # a traceback holds this frame, and this its result
