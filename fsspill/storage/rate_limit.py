"""The arithmetic of a limit of requests per second: less by throttled answers, growing like TCP's.

Numbers of one moment, and how they change. `fsspill.storage.throttle` shares them between processes
and waits.
"""

from __future__ import annotations

from math import isfinite
from struct import Struct
from typing import NamedTuple

__all__ = ["RateLimit"]

FLOOR = 2.0
"""Requests per second of a node that are sent in any case: one of 8 processes each 4 s."""

_START = 32.0
"""Requests per second from which the rate doubles, at least: one of each of 8 processes within the
time of a doubling, so that it does not double unseen."""

_CEILING = 1e5
"""Requests per second that need no limit: no node asks for more."""

_SHARE = 0.8
"""Part of the rate that is left by a decrease. CUBIC (RFC 9438) has 0.7, with which a third more of
the requests are throttled (simulated): the rate is lower, and so grows faster beyond the peak."""

_RETURN = 2.0
"""Seconds in which the rate is back at that of the last throttled answer. Simulated for 8 processes
and 50 to 3,000 requests a second: 98 to 100 % of those are used, and 0.2 to 2 % are throttled."""

_STEEPNESS = (1 - _SHARE) / _RETURN**3

_DOUBLING = 0.25
"""Seconds in which the rate doubles until it is throttled: in 0.8 s from a tenth to the whole."""

_WINDOW, _SAMPLE = 0.25, 10
"""Seconds in which answers are counted, and the answers that it takes to tell a rate."""

_SETTLE = 0.25
"""Seconds after a decrease in which the storage may still throttle what is sent: a round trip, and
the time until it has room again."""

_SLACK = 0.05
"""Seconds by which a request may be late without loss: event loops of a busy machine wake late."""

_KEPT = 120.0
"""Seconds after the last throttled answer for which a limit is kept: without one the first requests
of a burst are throttled."""

_LONGEST_WAIT = 10.0
"""Seconds beyond which no request is scheduled: 40 processes at the lowest rate."""


class RateLimit(NamedTuple):
    """A limit of the requests per second of a node, as of one moment. Times are in seconds.

    Each request gets the next free time, 1 / `rate` after that of the one before. So less than one
    request per process can be in flight, and nobody holds what another one waits for.

    Attributes
    ----------
    free : float
        The next free time.
    base : float
        Rate after a decrease from which it doubles, as TCP's slow start; 0 while `peak` is known.
    peak : float
        Rate that was answered before the last decrease. The rate returns to it in 2 seconds, stays
        near it, then goes beyond it, along the curve of CUBIC. 0 while it is not known.
    decreased : float
        Time of the last decrease.
    settled : float
        Time from which requests are sent at the rate after it, and may decrease it again.
    grown : float
        Seconds since the decrease in which the rate was used and answered: else it does not grow.
    since, answers : float
        Begin of a window, and the requests answered in it.
    answered : float
        Requests per second that were answered in the window before.
    """

    free: float = 0.0
    base: float = 0.0
    peak: float = 0.0
    decreased: float = 0.0
    settled: float = 0.0
    grown: float = 0.0
    since: float = 0.0
    answers: float = 0.0
    answered: float = 0.0

    @classmethod
    def begin(cls, now: float, answered: float) -> RateLimit:
        """Return the limit after the first throttled answer: half of the rate before it."""
        base = max(_START, answered / 2)
        return cls(now, base, decreased=now, settled=now + _SETTLE, since=now)

    @classmethod
    def unpack(cls, data: bytes, now: float) -> RateLimit:
        """Return the limit that `pack` has made bytes of; none of bytes that make no sense."""
        if len(data) != _FORMAT.size:
            return cls()
        limit = cls(*_FORMAT.unpack(data))
        # Times after now are of another clock, or of before a restart of the machine.
        is_sound = all(map(isfinite, limit)) and limit.decreased <= now + 1
        return limit if is_sound else cls()

    def pack(self) -> bytes:
        """Return it as bytes of a fixed length."""
        return _FORMAT.pack(*self)

    @property
    def rate(self) -> float:
        """Requests per second."""
        if self.base:
            return min(_CEILING, self.base * 2 ** min(self.grown / _DOUBLING, 30))
        beyond = self.grown - _RETURN
        return min(_CEILING, max(FLOOR, self.peak * (1 + _STEEPNESS * beyond**3)))

    def is_active(self, now: float) -> bool:
        """Return True from the first throttled answer until there was none for two minutes."""
        return bool(self.base or self.peak) and now - self.decreased < _KEPT

    def schedule(self, now: float) -> tuple[RateLimit, float]:
        """Return the limit after one more request, and the time at which that may be sent."""
        due = min(max(self.free, now - _SLACK), now + _LONGEST_WAIT)
        return self._replace(free=due + 1 / self.rate), due

    def add_answers(self, now: float, answers: int, *, queued: bool) -> RateLimit:
        """Return the limit after some more answers.

        `queued` is true if other requests of the process wait, so that the rate is used.
        """
        if not queued and self.free <= now:
            return self._replace(since=now, answers=0.0)
        grown = self.grown + answers / self.rate
        counted, seconds = self.answers + answers, now - self.since
        if seconds < _WINDOW or counted < _SAMPLE:
            return self._replace(grown=grown, answers=counted)
        return self._replace(grown=grown, since=now, answers=0.0, answered=counted / seconds)

    def decrease(self, now: float, sent: float) -> RateLimit:
        """Return the limit after a request that was sent at a time was throttled.

        The same if the last decrease had not come into effect then.
        """
        if sent < self.settled:
            return self
        seconds = now - self.since
        counted = self.answers / seconds if seconds >= _WINDOW else 0.0
        answered = min(self.rate, max(counted, self.answered) or self.rate)
        # Where nothing was answered nothing is known but that the storage does not work.
        base, peak = (0.0, max(FLOOR, answered)) if self.grown else (_START, 0.0)
        settled = max(now + _SETTLE, self.free)
        return RateLimit(self.free, base, peak, now, settled, since=now)


_FORMAT = Struct(f"={len(RateLimit._fields)}d")
