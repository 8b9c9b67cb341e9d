"""How often something is tried, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Any

import pytest

from fsspill.errors import StoragePermissionError, StorageUnavailableError
from fsspill.storage.retry import RequestSkippedError, Retrier, backoff
from tests import virtual_time


class Request:
    """A request that fails with these errors, one after another, and then succeeds."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.attempts = 0

    async def __call__(self) -> str:
        self.attempts += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


def attempt(retrier: Retrier, request: Callable[[], Coroutine[Any, Any, str]]) -> str:
    """Make a request, on a clock that does not depend on the speed of this machine."""
    return virtual_time.run(retrier.attempt(request, "cannot write", "s3://bucket/x"))[0]


def test_what_may_pass_is_tried_again() -> None:
    """Resets, time-outs and refusals to serve are repeated until the request succeeds."""
    request = Request(ConnectionResetError(), TimeoutError(), OSError(16, "busy"))
    assert attempt(Retrier(60), request) == "done"
    assert request.attempts == 4


@pytest.mark.parametrize("error", [PermissionError("no"), FileNotFoundError("gone"), TypeError()])
def test_what_cannot_pass_is_raised_at_once(error: Exception) -> None:
    """Refused credentials, missing buckets and wrong options are not asked twice."""
    request = Request(error)
    with pytest.raises(Exception, match="s3://bucket/x"):
        attempt(Retrier(60), request)
    assert request.attempts == 1


def test_a_full_disk_is_not_waited_for() -> None:
    """No space is a reason to go elsewhere, at once."""
    request = Request(OSError(28, "No space left on device"))
    with pytest.raises(StorageUnavailableError, match="make room"):
        attempt(Retrier(60), request)
    assert request.attempts == 1


def test_the_last_error_is_raised_at_the_deadline() -> None:
    """With how often it was tried, from the error of the filesystem."""
    request = Request(*(OSError(16, f"busy {number}") for number in range(10_000)))
    with pytest.raises(StorageUnavailableError, match=r"busy.*Tried \d+ times") as caught:
        attempt(Retrier(60), request)
    assert isinstance(caught.value.__cause__, OSError)
    assert 60 / 4 < request.attempts < 60  # pauses of up to 4 s, shorter ones at first


def test_a_request_that_is_never_answered_is_made_again() -> None:
    """Silence for half of the time ends an attempt, and another one is made."""
    attempts = []

    async def request() -> str:
        attempts.append(asyncio.current_task())
        if len(attempts) == 1:
            await asyncio.Event().wait()
        return "done"

    coroutine = Retrier(60).attempt(request, "cannot write", "s3://bucket/x")
    result, seconds = virtual_time.run(coroutine)
    assert result == "done"
    assert 30 <= seconds < 31
    assert len(attempts) == 2
    assert attempts[0] is not None
    assert attempts[0].cancelled()


@pytest.mark.parametrize(("stall_timeout", "silence"), [(60, "30"), (1, "0.5")])
def test_silence_for_ever_ends_at_the_deadline(stall_timeout: float, silence: str) -> None:
    """A server that accepts and never answers is an error that says so, and for how long."""

    async def request() -> str:
        await asyncio.Event().wait()
        return "never"

    with pytest.raises(StorageUnavailableError, match=rf"no answer for {silence} s\. .*Tried 2"):
        attempt(Retrier(stall_timeout), request)


def test_progress_prolongs_the_wait() -> None:
    """As long as bytes move a request may take many times the stall timeout."""
    retrier = Retrier(10)

    async def request() -> str:
        for _ in range(100):
            await asyncio.sleep(4)
            retrier.progress()
        return "done"

    coroutine = retrier.attempt(request, "cannot write", "s3://bucket/x")
    result, seconds = virtual_time.run(coroutine)
    assert result == "done"
    assert 400 <= seconds < 401


def test_a_stopped_call_begins_nothing() -> None:
    """Once another file has failed, no further request is made."""
    retrier, request = Retrier(60), Request()
    retrier.stop()
    with pytest.raises(RequestSkippedError):
        attempt(retrier, request)
    assert request.attempts == 0


def test_what_others_found_out_ends_the_wait() -> None:
    """When another process gives the place up, a request under way is given up too."""

    async def request() -> str:
        await asyncio.Event().wait()
        return "never"

    with pytest.raises(StorageUnavailableError):
        attempt(Retrier(600, is_abandoned=lambda: True), request)


def test_pauses_grow_and_differ() -> None:
    """They double up to 4 seconds, and no two processes keep step."""
    first, second = list(islice(backoff(), 20)), list(islice(backoff(), 20))
    assert first != second
    assert all(2 <= pause <= 4 for pause in first[-3:])
    assert first[0] <= 0.1


def test_an_error_of_ours_passes_unchanged() -> None:
    """What a request itself explains is not explained again."""
    failure = StoragePermissionError("as it was")
    with pytest.raises(StoragePermissionError, match=r"^as it was$"):
        attempt(Retrier(60), Request(failure))
