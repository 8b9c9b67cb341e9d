"""Requests over a link of any speed: fewer and smaller ones after a time-out, more as it allows."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from math import inf
from typing import Any, TypeVar

import pytest

from fsspill.errors import StorageUnavailableError
from fsspill.storage.congestion_window import MAX_WINDOW, MIN_REQUEST, CongestionWindow
from fsspill.storage.retry import Retrier
from fsspill.transfer.limiter import gather_or_cancel
from tests import virtual_time

T = TypeVar("T")
MIB = 2**20
STALL_TIMEOUT = 30.0


class Link:
    """A link that all requests share fairly, of which only the end of a request is seen.

    Attributes
    ----------
    sizes : list of int
        Bytes of the requests that were done.
    most : int
        Requests that were in flight together.
    nbytes : float
        Bytes that went over the link.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.sizes: list[int] = []
        self.most = 0
        self.nbytes = 0.0
        self._in_flight = 0

    async def move(self, nbytes: int) -> int:
        """Move the bytes of one request."""
        self._in_flight += 1
        self.most = max(self.most, self._in_flight)
        left = float(nbytes)
        try:
            while left > 0:
                moved = min(left, self.rate * 0.05 / self._in_flight)
                await asyncio.sleep(0.03 if self.rate == inf else 0.05)
                left -= moved
                self.nbytes += moved
        finally:
            self._in_flight -= 1
        self.sizes.append(nbytes)
        return nbytes


async def fetch(link: Link, window: CongestionWindow, retrier: Retrier, nbytes: int) -> None:
    """Fetch a range, in as many requests as the window makes of it."""

    async def request() -> int:
        async with window.request(nbytes, retrier) as size:
            return await link.move(size)

    while nbytes:
        nbytes -= await retrier.attempt(request, "cannot restore", "s3://bucket/x", window.shrink)


async def fetch_all(link: Link, window: CongestionWindow, sizes: list[int]) -> None:
    """Fetch ranges concurrently, as one call."""
    retrier = Retrier(STALL_TIMEOUT)
    await gather_or_cancel([fetch(link, window, retrier, size) for size in sizes])


def run(coroutine: Coroutine[Any, Any, T]) -> float:
    return virtual_time.run(coroutine)[1]


@pytest.mark.parametrize(
    ("rate", "count"),
    [
        (50e3, 16),
        (125e3, 32),
        (625e3, 64),
        (2.5e6, 64),
        pytest.param(50e3, 64, marks=pytest.mark.nightly),
    ],
)
def test_ranges_arrive_over_a_link_of_any_speed(rate: float, count: int) -> None:
    """Ranges that all time out together arrive in smaller requests, in little more time."""
    link = Link(rate)
    seconds = run(fetch_all(link, CongestionWindow(), [MIB] * count))
    assert sum(link.sizes) == count * MIB
    assert seconds < 1.2 * count * MIB / rate + STALL_TIMEOUT
    assert min(link.sizes) < MIB


def test_without_the_window_nothing_would_arrive() -> None:
    """The link is slow enough for the tests above to mean something."""

    class Open(CongestionWindow):
        def shrink(self) -> None:
            pass

    with pytest.raises(StorageUnavailableError):
        run(fetch_all(Link(2.5e6), Open(), [MIB] * 64))


def test_nothing_is_limited_before_a_time_out() -> None:
    """On a fast link each range is one request, and all are in flight together."""
    link = Link(inf)
    window = CongestionWindow()
    run(fetch_all(link, window, [4 * MIB] * 16))
    assert link.sizes == [4 * MIB] * 16
    assert link.most == 16
    assert window.is_open


def test_a_time_out_is_remembered_by_later_calls() -> None:
    """The next object does not have to find out again: none of its requests time out."""
    link, window = Link(125e3), CongestionWindow()
    run(fetch_all(link, window, [MIB] * 16))
    link.nbytes, link.most, link.sizes = 0, 0, []
    run(fetch_all(link, window, [MIB] * 16))
    assert link.nbytes == pytest.approx(16 * MIB)
    assert link.most < 16


def test_the_window_opens_again_on_a_fast_link() -> None:
    """After an outage the limit is gone within a few requests."""
    link, window = Link(inf), CongestionWindow()
    window.shrink()
    assert window.request_size(4 * MIB) == MIN_REQUEST
    seconds = run(fetch_all(link, window, [4 * MIB] * 64))
    assert window.is_open
    assert seconds < 2
    assert max(link.sizes) == 4 * MIB


def test_small_objects_do_not_open_the_window() -> None:
    """What one small request after another shows of a link says nothing of many large ones."""
    link, window = Link(inf), CongestionWindow()
    window.shrink()
    for _ in range(200):
        run(fetch_all(link, window, [100_000]))
    assert not window.is_open
    assert window.request_size(4 * MIB) < MIB


def test_a_request_that_cannot_be_divided_is_alone() -> None:
    """A body of more bytes than the window has goes out with no other one."""
    window, link = CongestionWindow(), Link(125e3)
    window.shrink()

    async def send(retrier: Retrier) -> None:
        async with window.request(2 * MIB, retrier, divisible=False) as nbytes:
            await link.move(nbytes)

    async def send_all() -> None:
        retrier = Retrier(STALL_TIMEOUT)
        await asyncio.gather(*(send(retrier) for _ in range(4)))

    run(send_all())
    assert link.sizes == [2 * MIB] * 4
    assert link.most == 1


def test_a_filesystem_that_takes_one_operation_is_always_limited() -> None:
    """Its first requests are small, since none can be ended, and blocks grow with the speed."""
    window, link = CongestionWindow(concurrent=False), Link(inf)
    assert window.request_size(32 * MIB) == MIB
    for _ in range(20):
        run(fetch_all(link, window, [32 * MIB]))
    assert not window.is_open
    assert window.request_size(2 * MAX_WINDOW) == MAX_WINDOW


def test_dead_storage_is_an_error_at_the_stall_timeout() -> None:
    """Waiting for room in the window is no reason to wait longer."""
    window = CongestionWindow()
    with pytest.raises(StorageUnavailableError, match=r"no answer for \d+ s"):
        run(fetch_all(Link(0), window, [MIB] * 64))


def test_a_request_waits_while_those_of_other_calls_have_their_turn() -> None:
    """What another call sends meanwhile is not silence."""
    window, link = CongestionWindow(), Link(20e3)
    window.shrink()

    async def two_calls() -> None:
        await asyncio.gather(*(fetch_all(link, window, [MIN_REQUEST] * 8) for _ in range(2)))

    run(two_calls())
    assert link.most == 1
    assert len(link.sizes) == 16
