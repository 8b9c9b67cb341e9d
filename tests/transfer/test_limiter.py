"""Limits of what is in flight."""

from __future__ import annotations

import asyncio

import pytest

from fsspill.transfer.limiter import InFlightLimiter

MIB = 2**20


def test_a_reservation_that_shrinks_admits_the_next() -> None:
    """No byte is returned twice."""

    async def check() -> None:
        in_flight = InFlightLimiter(max_requests=64, max_bytes=16 * MIB)
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
