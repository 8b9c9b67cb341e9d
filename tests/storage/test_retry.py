"""Retries of requests, and their end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from itertools import islice
from typing import Any

import pytest

from fsspill.errors import StoragePermissionError, StorageRefusedError, StorageUnavailableError
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


def test_transient_failures_are_retried() -> None:
    """Resets, time-outs and refusals to serve are retried until the request succeeds."""
    request = Request(ConnectionResetError(), TimeoutError(), OSError(16, "busy"))
    assert attempt(Retrier(60), request) == "done"
    assert request.attempts == 4


@pytest.mark.parametrize("error", [PermissionError("no"), FileNotFoundError("gone"), TypeError()])
def test_permanent_failures_are_raised_immediately(error: Exception) -> None:
    """Refused credentials, missing buckets and wrong options are not retried."""
    request = Request(error)
    with pytest.raises(Exception, match="s3://bucket/x"):
        attempt(Retrier(60), request)
    assert request.attempts == 1


def test_a_full_disk_is_not_retried() -> None:
    """No space is a reason to use another URI immediately."""
    request = Request(OSError(28, "No space left on device"))
    with pytest.raises(StorageUnavailableError, match="make room"):
        attempt(Retrier(60), request)
    assert request.attempts == 1


def test_a_refusal_is_believed_after_four_attempts() -> None:
    """A body that was altered on its way is refused as wrong too, and is right the next time."""
    request = Request(*[OSError(27, "too large")] * 3)
    assert attempt(Retrier(60), request) == "done"
    request = Request(*[OSError(27, "too large")] * 4)
    with pytest.raises(StorageRefusedError, match="too large"):
        attempt(Retrier(60), request)
    assert request.attempts == 4


def test_the_last_error_is_raised_after_the_stall_timeout() -> None:
    """It has the number of attempts, and the filesystem's error as its cause."""
    request = Request(*(OSError(16, f"busy {number}") for number in range(10_000)))
    with pytest.raises(StorageUnavailableError, match=r"busy.*Tried \d+ times") as caught:
        attempt(Retrier(60), request)
    assert isinstance(caught.value.__cause__, OSError)
    assert 60 / 4 < request.attempts < 60  # pauses of up to 4 s, shorter ones at first


def test_a_silent_attempt_at_the_end_does_not_hide_the_reason() -> None:
    """The last attempt is cut off by the stall timeout, and says less than those before it."""
    failures = [OSError(16, "busy"), OSError(16, "no such certificate")]

    async def request() -> str:
        if failures:
            raise failures.pop(0)
        await asyncio.Event().wait()
        return "never"

    with pytest.raises(StorageUnavailableError, match=r"no such certificate.*Tried \d times"):
        attempt(Retrier(60), request)


def test_an_unanswered_request_is_repeated() -> None:
    """Silence for half of the stall timeout ends an attempt, and another one is made."""
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


@pytest.mark.parametrize("stall_timeout", [60, 1])
def test_permanent_silence_ends_after_the_stall_timeout(stall_timeout: float) -> None:
    """The error states how long a server that accepts connections has not answered."""

    async def request() -> str:
        await asyncio.Event().wait()
        return "never"

    expected = r"no answer for ([\d.]+) s\. .*Tried 2"
    with pytest.raises(StorageUnavailableError, match=expected) as caught:
        attempt(Retrier(stall_timeout), request)
    [seconds] = re.findall(expected, str(caught.value))
    assert stall_timeout / 2 <= float(seconds) <= stall_timeout * 1.25


def test_progress_restarts_the_stall_timeout() -> None:
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


def test_a_stopped_retrier_makes_no_request() -> None:
    """Once another file has failed, further requests are skipped."""
    retrier, request = Retrier(60), Request()
    retrier.stop()
    with pytest.raises(RequestSkippedError):
        attempt(retrier, request)
    assert request.attempts == 0


def test_a_circuit_opened_by_another_process_ends_the_attempt() -> None:
    """A request in flight is cancelled too."""

    async def request() -> str:
        await asyncio.Event().wait()
        return "never"

    with pytest.raises(StorageUnavailableError):
        attempt(Retrier(600, is_abandoned=lambda: True), request)


def test_pauses_grow_and_are_random() -> None:
    """They double up to 4 seconds, and differ between processes."""
    first, second = list(islice(backoff(), 20)), list(islice(backoff(), 20))
    assert first != second
    assert all(2 <= pause <= 4 for pause in first[-3:])
    assert first[0] <= 0.1


def test_an_fsspill_error_is_raised_unchanged() -> None:
    """Its message already explains the failure."""
    failure = StoragePermissionError("as it was")
    with pytest.raises(StoragePermissionError, match=r"^as it was$"):
        attempt(Retrier(60), Request(failure))


def moving(retrier: Retrier, *seconds: float, further: bool = False) -> Request:
    """Return a request whose bytes move after each of these pauses, and that then is done."""

    async def request() -> str:
        for pause in seconds:
            await asyncio.sleep(pause)
            retrier.progress(further=further)
        return "done"

    return request  # type: ignore[return-value]


def test_bytes_that_move_again_are_no_silence() -> None:
    """An attempt that sends what an earlier one has sent is not cancelled for it."""
    retrier = Retrier(10)
    assert attempt(retrier, moving(retrier, *[4.0] * 100)) == "done"


def test_a_body_that_is_cut_off_each_time_is_an_error() -> None:
    """Bytes that move are progress only once: the same ones may not be sent without end."""
    retrier, attempts = Retrier(10), []

    async def request() -> str:
        attempts.append(1)
        await moving(retrier, 4.0)()
        raise ConnectionResetError

    with pytest.raises(StorageUnavailableError, match="ConnectionReset"):
        attempt(retrier, request)
    assert len(attempts) < 5


@pytest.mark.parametrize(("refusals", "is_answered"), [(3, True), (1000, False)])
def test_a_refusal_while_bytes_of_others_move_is_retried(refusals: int, is_answered: bool) -> None:
    """A range of a slow link takes longer than the stall timeout; a refusal is no such silence."""
    retrier = Retrier(8)
    attempts = 0

    async def slow() -> None:
        for _ in range(100):
            await asyncio.sleep(0.2)
            retrier.progress(further=False)

    async def refused() -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= refusals:
            raise OSError("503")

    async def call() -> None:
        other = asyncio.ensure_future(retrier.attempt(slow, "cannot", "s3://a"))
        await asyncio.sleep(10)
        try:
            with nullcontext() if is_answered else pytest.raises(StorageUnavailableError):
                await retrier.attempt(refused, "cannot", "s3://b")
        finally:
            await other

    virtual_time.run(call())
    assert attempts == 4 if is_answered else attempts > 4


def test_the_end_of_a_slow_body_may_be_silent_longer() -> None:
    """The system has taken bytes that it has not sent, of a link that is known to move."""
    retrier = Retrier(10)
    assert attempt(retrier, moving(retrier, 2.0, 7.0)) == "done"


@pytest.mark.parametrize("pause", [0.0, 2.0])
def test_silence_is_found_within_the_stall_timeout(pause: float) -> None:
    """Also of a request that has moved bytes before."""
    retrier, attempts = Retrier(10), []

    async def request() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            await moving(retrier, pause)()
            await asyncio.Event().wait()
        return "done"

    coroutine = retrier.attempt(request, "cannot write", "s3://bucket/x")
    result, seconds = virtual_time.run(coroutine)
    assert result == "done"
    assert seconds - pause < 10


@pytest.mark.parametrize(
    ("error", "times"), [(TimeoutError(), 1), (asyncio.TimeoutError(), 1), (OSError(16, "busy"), 0)]
)
def test_time_outs_are_reported(error: Exception, times: int) -> None:
    """Those of the filesystem too: the next requests are to be smaller. Refusals are none."""
    calls: list[int] = []
    coroutine = Retrier(60).attempt(Request(error), "a", "b", lambda: calls.append(1))
    virtual_time.run(coroutine)
    assert len(calls) == times


@pytest.mark.parametrize("moved", [0.0, 5.0, 14.0])
@pytest.mark.parametrize("began", [0.0, 5.0, 20.0, 29.0])
def test_a_call_ends_with_the_stall_timeout_whenever_its_requests_began(
    moved: float, began: float
) -> None:
    """The time runs from the last byte that moved, for all of them together."""
    retrier, attempts = Retrier(30), []

    async def silent() -> str:
        attempts.append(1)
        if moved and len(attempts) == 1:
            await moving(retrier, moved, further=True)()
        await asyncio.Event().wait()
        return "never"

    async def call() -> list[str | BaseException]:
        async def later() -> str:
            await asyncio.sleep(began)
            return await retrier.attempt(silent, "cannot write", "b")

        first = retrier.attempt(silent, "cannot write", "a")
        return list(await asyncio.gather(first, later(), return_exceptions=True))

    outcomes, seconds = virtual_time.run(call())
    assert [type(outcome) for outcome in outcomes] == [StorageUnavailableError] * 2
    assert moved + 29 <= seconds <= moved + 31


@pytest.mark.parametrize("slots", [1, 4, 16])
def test_a_server_that_takes_bodies_and_never_answers_is_down(slots: int) -> None:
    """The bytes of one body after another are no progress once a request has timed out."""
    retrier, slot, bodies = Retrier(30), asyncio.Semaphore(slots), set()

    async def send(number: int) -> str:
        async def request() -> str:
            async with slot:
                retrier.progress(further=number not in bodies)
                bodies.add(number)
                await asyncio.Event().wait()
                return "never"

        return await retrier.attempt(request, "cannot write", "s3://bucket/x")

    async def call() -> list[str | BaseException]:
        sent = (send(number) for number in range(16))
        return list(await asyncio.gather(*sent, return_exceptions=True))

    outcomes, seconds = virtual_time.run(call())
    assert {type(outcome) for outcome in outcomes} == {StorageUnavailableError}
    assert seconds < 36  # after the first time-out a byte a tick may stop the clock for that tick


def test_a_slow_link_is_no_outage_after_a_time_out() -> None:
    """Bytes that move stop the clock, and an answer resets it: the rest may take its time."""
    retrier, attempts = Retrier(30), []

    async def lost() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            await asyncio.Event().wait()
        return "done"

    async def slow() -> str:
        await retrier.attempt(lost, "cannot write", "a")
        for _ in range(100):
            await retrier.attempt(moving(retrier, *[10.0] * 3, further=True), "cannot write", "b")
        return "done"

    result, seconds = virtual_time.run(slow())
    assert result == "done"
    assert seconds > 2000


def test_a_wait_that_ends_late_counts_in_full() -> None:
    """A process of low priority is woken late on a busy machine: its clock must not run slow."""
    retrier = Retrier(30)

    async def request() -> str:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, virtual_time.VirtualTimeLoop)
        while True:
            await asyncio.sleep(0.1)
            loop.advance(0.75)

    async def call() -> BaseException | str:
        attempt = retrier.attempt(request, "cannot write", "s3://bucket/x")
        return (await asyncio.gather(attempt, return_exceptions=True))[0]

    outcome, seconds = virtual_time.run(call())
    assert isinstance(outcome, StorageUnavailableError)
    assert 30 <= seconds < 35


def test_time_in_which_the_event_loop_stood_still_does_not_count() -> None:
    """Ray holds the GIL while it waits for room in its object store."""
    retrier, attempts = Retrier(30), []

    async def request() -> str:
        attempts.append(1)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, virtual_time.VirtualTimeLoop)
        loop.call_later(1, loop.advance, 100.0)
        await asyncio.sleep(105)
        return "done"

    coroutine = retrier.attempt(request, "cannot write", "s3://bucket/x")
    assert virtual_time.run(coroutine)[0] == "done"
    assert len(attempts) == 1
