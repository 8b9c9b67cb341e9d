"""The ways of other servers than moto's, for `tests.faults.fault_proxy.FaultProxy`."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.fault_proxy import Answer, Call, Dialect

__all__ = ["Fixed", "IgnoresRanges", "StaleListings", "answer_with_code", "is_listing"]


def answer_with_code(status: int, code: str, more: str = "", **headers: str) -> Answer:
    """Return an error as S3 answers it."""
    body = f"<Error><Code>{code}</Code><Message>Reason</Message>{more}</Error>"
    return Answer.of(status, body.encode(), Content_Type="application/xml", **headers)


def is_listing(call: Call) -> bool:
    """Return True if a request lists a bucket."""
    return call.method == "GET" and "list-type=" in call.path


class Fixed(Dialect):
    """A server that gives the same answer to all requests, or to some.

    Parameters
    ----------
    make : callable
        Returns the answer.
    where : callable, optional
        Returns True for the requests that get it.
    """

    def __init__(
        self, make: Callable[[], Answer], where: Callable[[Call], bool] = lambda call: True
    ) -> None:
        self._make = make
        self._where = where

    def answer(self, call: Call) -> Answer | None:
        """Return the answer."""
        return self._make() if self._where(call) else None


class IgnoresRanges(Dialect):
    """A proxy that answers with the whole object when a range is asked for."""

    def answer(self, call: Call) -> None:
        """Drop the header."""
        del call.headers["Range"]


class StaleListings(Dialect):
    """A storage whose listings are empty, `times` times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def answer(self, call: Call) -> Answer | None:
        """Return an empty listing."""
        if not is_listing(call) or self.times < 1:
            return None
        self.times -= 1
        return Answer.of(200, b"<ListBucketResult></ListBucketResult>")
