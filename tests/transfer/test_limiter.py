"""The bound on what is under way, and threads that work on the objects' memory."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fsspill.settings import Settings
from fsspill.transfer.limiter import InFlightLimiter, run_in_thread

MIB = 2**20
LIMITS = Settings("memory://x", max_bytes_in_flight=16 * MIB)


def test_room_that_is_given_back_early_is_used() -> None:
    """A reservation that shrinks lets the next begin, and gives no byte back twice."""

    async def check() -> None:
        in_flight = InFlightLimiter(LIMITS, concurrent=True)
        async with in_flight.reserve(16 * MIB) as reservation:
            await reservation.shrink(6 * MIB)
            await reservation.shrink(7 * MIB)
            assert reservation.nbytes == 6 * MIB
            async with in_flight.reserve(10 * MIB):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(in_flight.reserve(1).__aenter__(), 0.05)
        async with in_flight.reserve(16 * MIB):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(in_flight.reserve(1).__aenter__(), 0.05)

    asyncio.run(check())


def test_a_cancelled_call_waits_for_its_thread() -> None:
    """Whoever cancelled it may count on the memory that it worked on."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait()
        ended.set()

    async def check() -> None:
        call = asyncio.ensure_future(run_in_thread(work))
        await asyncio.to_thread(begun.wait)
        call.cancel()
        await asyncio.sleep(0.05)
        assert not call.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert ended.is_set()

    asyncio.run(check())
