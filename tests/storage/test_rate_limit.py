"""The rate of a node that is throttled."""

from __future__ import annotations

from itertools import pairwise
from math import inf, nan

import pytest

from fsspill.storage.rate_limit import FLOOR, RateLimit


def answered(limit: RateLimit, start: float, seconds: float) -> RateLimit:
    """Return a limit after some seconds in which all requests that it allows were answered."""
    now, end = start, start + seconds
    while now < end:
        limit, due = limit.schedule(now)
        now = max(now, due)
        limit = limit.add_answers(now, 1, queued=True)
    return limit


def test_the_first_throttled_answer_halves_the_rate() -> None:
    """Of what was answered before it, but not to less than is needed to find the rate."""
    assert RateLimit.begin(100.0, 400.0).rate == 200
    assert RateLimit.begin(100.0, 0.0).rate == 32


def test_requests_have_times_one_after_another() -> None:
    """The distance is that of the rate, whoever asks."""
    limit = RateLimit.begin(100.0, 400.0)
    times = []
    for _ in range(5):
        limit, due = limit.schedule(100.0)
        times.append(due)
    assert times[0] == 100.0
    assert [b - a for a, b in pairwise(times)] == [pytest.approx(1 / 200)] * 4


def test_an_unused_time_is_lost() -> None:
    """After a pause the requests of 50 ms go out at once, and no more: event loops wake late."""
    limit, _ = RateLimit.begin(100.0, 400.0).schedule(100.0)
    limit, due = limit.schedule(110.0)
    assert due == pytest.approx(110 - 0.05)


def test_the_rate_doubles_until_it_is_throttled() -> None:
    """Each quarter of a second in which all is answered."""
    limit = RateLimit.begin(100.0, 400.0)
    assert answered(limit, 100.0, 0.25).rate == pytest.approx(400, rel=0.1)
    assert answered(limit, 100.0, 0.5).rate == pytest.approx(800, rel=0.1)


def test_a_throttled_answer_leaves_four_fifths_of_what_was_answered() -> None:
    """And in two seconds the rate is back, near which it stays before it goes beyond."""
    limit = answered(RateLimit.begin(100.0, 400.0), 100.0, 0.5)
    limit = limit.decrease(100.51, 100.5)
    assert 400 < limit.peak < 800  # the average of the last window
    assert limit.rate == pytest.approx(0.8 * limit.peak)
    assert answered(limit, 100.51, 2.0).rate == pytest.approx(limit.peak, rel=0.02)
    assert answered(limit, 100.51, 2.8).rate == pytest.approx(limit.peak, rel=0.05)
    assert answered(limit, 100.51, 4.8).rate > 1.3 * limit.peak


def test_throttled_answers_of_a_round_trip_count_once() -> None:
    """Nor do those of requests that were scheduled at the rate before."""
    limit = answered(RateLimit.begin(100.0, 400.0), 100.0, 0.5)
    once = limit.decrease(101.0, 100.9)
    assert once.decrease(101.01, 101.0) == once
    assert once.decrease(101.1, 101.05) == once
    assert once.decrease(101.5, 101.4).rate < once.rate


def test_a_rate_that_is_not_used_does_not_grow() -> None:
    """A burst after a pause would be throttled."""
    limit = answered(RateLimit.begin(100.0, 400.0), 100.0, 0.5).decrease(101.0, 100.9)
    rate = limit.rate
    for second in range(102, 150):
        limit, due = limit.schedule(second)
        limit = limit.add_answers(due + 0.03, 1, queued=False)
    assert limit.rate == rate


def test_a_storage_that_answers_nothing_gets_few_requests() -> None:
    """And many soon after it works again: nothing is known of its rate."""
    limit = RateLimit.begin(100.0, 3000.0).decrease(101.0, 100.9)
    assert limit.rate == limit.decrease(102.0, 101.9).rate == 32
    assert answered(limit, 102.0, 1.5).rate > 1000


def test_the_rate_has_a_floor() -> None:
    """However often it is throttled."""
    limit = answered(RateLimit.begin(100.0, 0.0), 100.0, 0.5)
    for second in range(101, 200):
        limit, _ = limit.schedule(second)
        limit = limit.add_answers(second + 0.5, 1, queued=True).decrease(second + 0.9, second + 0.8)
    assert limit.rate >= 0.8 * FLOOR


def test_a_limit_ends_two_minutes_after_the_last_throttled_answer() -> None:
    """Until then a burst is not throttled first."""
    assert not RateLimit().is_active(100.0)
    limit = RateLimit.begin(100.0, 400.0)
    assert limit.is_active(100.0)
    assert limit.is_active(219.0)
    assert not limit.is_active(221.0)


def test_it_is_shared_as_bytes() -> None:
    """All of it, in a fixed length."""
    limit = answered(RateLimit.begin(100.0, 400.0), 100.0, 0.5).decrease(101.0, 100.9)
    assert RateLimit.unpack(limit.pack(), 101.0) == limit
    assert len(limit.pack()) == len(RateLimit().pack())


@pytest.mark.parametrize("damage", [{"free": nan}, {"peak": inf}, {"decreased": 1e6}])
def test_bytes_that_make_no_sense_are_no_limit(damage: dict[str, float]) -> None:
    """Such as times of before a restart of the machine."""
    limit = RateLimit.begin(100.0, 400.0)._replace(**damage)
    assert RateLimit.unpack(limit.pack(), 100.0) == RateLimit()
    assert RateLimit.unpack(b"", 100.0) == RateLimit.unpack(b"x" * 7, 100.0) == RateLimit()


def test_no_request_is_scheduled_for_the_distant_future() -> None:
    """Whatever another process has written."""
    limit = RateLimit.begin(100.0, 400.0)._replace(free=1e9)
    assert limit.schedule(100.0)[1] == 110
