"""Limits on the time of coroutines."""

from __future__ import annotations

import asyncio

import pytest

from fsspill.storage.deadline import cancel, within
from tests import virtual_time


async def drop_cancellations(count: int) -> str:
    """Go on after so many cancellations, as `asyncio.wait_for` does before Python 3.12."""
    for _ in range(count):
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            pass
    await asyncio.sleep(1e6)
    return "late"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_awaitable_that_drops_its_cancellation_ends(count: int) -> None:
    """It is cancelled again until it ends; nobody waits without end."""

    async def wait() -> None:
        with pytest.raises(TimeoutError):
            await within(5.0, drop_cancellations(count))

    assert virtual_time.run(wait())[1] == pytest.approx(5.0 + count, abs=0.01)


def test_limits_within_limits_end() -> None:
    """Each of them drops a cancellation of the other."""

    async def loop() -> None:
        while True:
            try:
                await within(1.0, drop_cancellations(2))
            except TimeoutError:
                continue

    async def wait() -> None:
        with pytest.raises(TimeoutError):
            await within(10.0, loop())

    assert virtual_time.run(wait())[1] < 20


def test_a_result_and_an_error_are_passed_on() -> None:
    """What ends in time has no limit."""

    async def fail() -> None:
        raise ValueError("own")

    assert virtual_time.run(within(5.0, asyncio.sleep(1.0, "result"))) == ("result", 1.0)
    with pytest.raises(ValueError, match="own"):
        virtual_time.run(within(5.0, fail()))


def test_the_cancellation_of_the_caller_is_passed_on() -> None:
    """The awaitable has ended when the caller has."""
    ended = []

    async def last() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            ended.append(True)

    async def wait() -> None:
        task = asyncio.ensure_future(within(1e6, last()))
        await asyncio.sleep(1.0)
        cancel(task)
        await asyncio.wait({task})
        assert task.cancelled()
        assert ended

    virtual_time.run(wait())
