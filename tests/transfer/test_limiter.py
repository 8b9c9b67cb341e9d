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


def test_bytes_that_are_held_are_given_to_a_request() -> None:
    """No byte is counted twice, and none is lost; so many hold bytes that one can always go on."""

    async def check() -> None:
        in_flight = InFlightLimiter(max_requests=2, max_bytes=40 * MIB)
        async with in_flight.hold() as held:
            await held.grow(30 * MIB)
            await held.grow(20 * MIB)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(in_flight.hold().__aenter__(), 0.05)
            async with in_flight.reserve(0) as reservation:
                held.move(reservation, 12 * MIB)
                await held.shrink(6 * MIB)
                assert (held.nbytes, reservation.nbytes) == (6 * MIB, 12 * MIB)
                await held.grow(28 * MIB)
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(held.grow(29 * MIB), 0.05)
            await held.grow(40 * MIB)
        async with in_flight.hold(), in_flight.reserve(40 * MIB), in_flight.reserve(0):
            pass

    asyncio.run(check())
