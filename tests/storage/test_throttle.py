"""The processes of a node on a storage that throttles them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from statistics import mean

import pytest

from fsspill import ExternalStorage, InMemoryObjectStore
from fsspill.errors import StorageUnavailableError
from fsspill.storage.connection import connect
from fsspill.storage.meter import Meter
from fsspill.storage.retry import RequestSkippedError, Retrier
from fsspill.storage.shared_record import OpenFile
from fsspill.storage.throttle import Throttle
from tests import virtual_time
from tests.benchmarks.link_server import LinkServer
from tests.faults.fault_proxy import Fault, FaultProxy
from tests.forking import IGNORE_WARNING, run_in_fork
from tests.samples import MIB
from tests.spilling import restore, spill
from tests.timeouts import PATIENT

pytest.importorskip("s3fs")

STALL_TIMEOUT = 30.0
LATENCY = 0.03


class BusyError(OSError):
    """An answer of azure.storage's kind."""

    status_code = 503
    error_code = "ServerBusy"


class Server:
    """A server that takes so many requests a second, a tenth of them at once; see `LinkServer`."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.answered: list[float] = []
        self.refused: list[float] = []
        self._room = rate / 10
        self._at = 0.0

    async def answer(self) -> None:
        """Answer a request, or refuse it."""
        await asyncio.sleep(LATENCY / 2)
        now = asyncio.get_running_loop().time()
        self._room = min(self.rate / 10, self._room + (now - self._at) * self.rate)
        self._at = now
        admitted = self._room >= 1
        self._room -= admitted
        (self.answered if admitted else self.refused).append(now)
        await asyncio.sleep(LATENCY / 2)
        if not admitted:
            raise BusyError


class Process:
    """A process of the node, which keeps so many requests in flight."""

    def __init__(self, throttle: Throttle, server: Server, seconds: float = STALL_TIMEOUT) -> None:
        self.answered = 0
        self.retrier = Retrier(seconds)
        self._throttle = throttle
        self._server = server

    async def request(self) -> None:
        """Make a request, until it is answered."""
        await self.retrier.attempt(
            self._attempt, "cannot write", "s3://b/x", throttle=self._throttle
        )
        self.answered += 1

    async def _attempt(self) -> None:
        sent, outcome = self._throttle.clock(), "throttled"
        try:
            await self._server.answer()
            outcome = "success"
        finally:
            self._throttle.note(outcome, sent)

    async def run(self, concurrent: int, until: float) -> None:
        """Keep requests in flight until a time."""
        loop = asyncio.get_running_loop()

        async def repeat() -> None:
            while loop.time() < until:
                await self.request()

        await asyncio.gather(*(repeat() for _ in range(concurrent)))


@pytest.fixture
def open_file(tmp_path: Path) -> OpenFile:
    def open_file(*, create: bool) -> int:
        return os.open(tmp_path / "shared", os.O_RDWR | (os.O_CREAT if create else 0))

    return open_file


@pytest.fixture
def server() -> Iterator[LinkServer]:
    with LinkServer(latency=0, bandwidth=None) as running:
        running.create_bucket("b")
        yield running


def throttles(count: int, open_file: OpenFile | None = None) -> list[Throttle]:
    """Return the limits of so many processes, by the clock of the event loop."""
    clock: Callable[[], float] = asyncio.get_running_loop().time
    return [Throttle("s3://b/x", open_file, clock) for _ in range(count)]


@pytest.mark.parametrize(("rate", "concurrent"), [(50, [8] * 8), (200, [16] * 8), (1000, [16] * 8)])
def test_eight_processes_use_what_a_server_takes(
    open_file: OpenFile, rate: int, concurrent: list[int]
) -> None:
    """At least 85 % of its rate, with less than 5 % of the requests refused, by fair shares."""
    begin, end = 4.0, 20.0

    async def run() -> tuple[Server, list[Process]]:
        server = Server(rate)
        processes = [Process(each, server) for each in throttles(8, open_file)]
        runs = [each.run(n, end) for each, n in zip(processes, concurrent, strict=True)]
        await asyncio.gather(*runs)
        return server, processes

    (server, processes), _ = virtual_time.run(run())
    answered = sum(begin < at < end for at in server.answered)
    refused = sum(begin < at < end for at in server.refused)
    assert answered > 0.85 * rate * (end - begin)
    assert refused < 0.05 * (answered + refused)
    counts = [process.answered for process in processes]
    assert min(counts) > mean(counts) / 2


def test_a_process_with_few_requests_has_its_share(open_file: OpenFile) -> None:
    """One request at a time does not stand behind the many of others."""

    async def run() -> list[int]:
        server = Server(100)
        processes = [Process(each, server) for each in throttles(8, open_file)]
        concurrent = [16] * 7 + [1]
        await asyncio.gather(
            *(each.run(n, 15.0) for each, n in zip(processes, concurrent, strict=True))
        )
        return [process.answered for process in processes]

    counts, _ = virtual_time.run(run())
    assert counts[-1] > mean(counts) / 2


def test_a_server_that_takes_less_is_followed(open_file: OpenFile) -> None:
    """Within seconds, as other nodes begin to use it."""

    async def run() -> Server:
        server = Server(400)
        processes = [Process(each, server) for each in throttles(4, open_file)]
        running = [asyncio.ensure_future(each.run(8, 20.0)) for each in processes]
        await asyncio.sleep(8)
        server.rate = 100
        await asyncio.gather(*running)
        return server

    server, _ = virtual_time.run(run())
    answered = sum(12 < at < 20 for at in server.answered)
    refused = sum(12 < at < 20 for at in server.refused)
    assert answered > 0.8 * 100 * 8
    assert refused < 0.05 * (answered + refused)


def test_without_throttled_answers_nothing_waits_and_no_file_is_made(
    open_file: OpenFile, tmp_path: Path
) -> None:
    """A limit begins with the first answer that means too many."""

    async def run() -> Throttle:
        [throttle] = throttles(1, open_file)
        process = Process(throttle, Server(inf))
        await process.run(8, 10.0)
        assert process.answered == pytest.approx(8 * 10 / LATENCY, rel=0.01)
        return throttle

    throttle, _ = virtual_time.run(run())
    assert not throttle.is_limited
    assert throttle.rate == inf
    assert list(tmp_path.iterdir()) == []


def test_other_processes_see_a_limit_within_a_second(open_file: OpenFile) -> None:
    """Before they are throttled themselves."""

    async def run() -> None:
        first, other = throttles(2, open_file)
        assert not other.is_limited
        first.note("throttled", first.clock())
        assert first.is_limited
        await first.turn()
        await asyncio.sleep(1)
        assert other.is_limited
        assert other.rate == first.rate == 32

    virtual_time.run(run())


def test_a_limit_ends(open_file: OpenFile) -> None:
    """Two minutes after the last throttled answer nothing waits."""

    async def run() -> None:
        first, other = throttles(2, open_file)
        first.note("throttled", first.clock())
        await first.turn()
        await asyncio.sleep(121)
        assert not first.is_limited
        assert not other.is_limited
        assert first.rate == inf

    virtual_time.run(run())


def test_a_node_that_cannot_share_limits_each_process() -> None:
    """Where there is no directory, each finds out by itself: nothing fails."""

    def refuse(*, create: bool) -> int:
        raise PermissionError

    async def run() -> Server:
        server = Server(200)
        processes = [Process(each, server) for each in throttles(4, refuse)]
        await asyncio.gather(*(each.run(8, 15.0) for each in processes))
        return server

    server, _ = virtual_time.run(run())
    assert sum(5 < at < 15 for at in server.answered) > 0.8 * 200 * 10


def test_a_request_that_is_cancelled_leaves_the_turn_to_others(open_file: OpenFile) -> None:
    """In the queue, and while it waits for its time."""

    async def run() -> None:
        [throttle] = throttles(1, open_file)
        throttle.note("throttled", throttle.clock())
        turns = [asyncio.ensure_future(throttle.turn()) for _ in range(20)]
        await asyncio.sleep(0.2)
        for turn in turns[:15]:
            turn.cancel()
        await asyncio.wait(turns, timeout=2)
        assert all(turn.done() for turn in turns)

    virtual_time.run(run())


def test_a_call_ends_with_the_stall_timeout_where_all_is_refused(open_file: OpenFile) -> None:
    """Though its requests wait for their turn most of the time; the error is the refusal."""

    async def run() -> list[BaseException | None]:
        processes = [Process(each, Server(0)) for each in throttles(8, open_file)]
        requests = [each.request() for each in processes for _ in range(64)]
        return await asyncio.gather(*requests, return_exceptions=True)

    errors, seconds = virtual_time.run(run())
    assert STALL_TIMEOUT / 2 < seconds < 2 * STALL_TIMEOUT
    assert {type(error) for error in errors} == {StorageUnavailableError}
    assert all("ServerBusy" in str(error) for error in errors)


def test_a_call_does_not_end_while_it_gets_through(open_file: OpenFile) -> None:
    """Its last request waits for longer than the stall timeout, and is made."""

    async def run() -> list[None]:
        server = Server(20)
        processes = [Process(each, server, seconds=5.0) for each in throttles(8, open_file)]
        return await asyncio.gather(*(each.request() for each in processes for _ in range(32)))

    _, seconds = virtual_time.run(run())
    assert seconds > 10


def test_a_call_that_was_stopped_does_not_wait_for_turns(open_file: OpenFile) -> None:
    """Requests that were never made are skipped."""

    async def run() -> list[BaseException | None]:
        [throttle] = throttles(1, open_file)
        throttle.note("throttled", throttle.clock())
        process = Process(throttle, Server(inf))
        requests = [asyncio.ensure_future(process.request()) for _ in range(100)]
        await asyncio.sleep(0.5)
        process.retrier.stop()
        return await asyncio.gather(*requests, return_exceptions=True)

    outcomes, seconds = virtual_time.run(run())
    assert seconds < 1
    assert Counter(map(type, outcomes)).keys() == {type(None), RequestSkippedError}


@pytest.mark.filterwarnings(IGNORE_WARNING)
def test_a_forked_child_shares_the_limit(open_file: OpenFile) -> None:
    """By a throttle of its own, as each process has."""

    async def begin(throttle: Throttle) -> float:
        throttle.note("throttled", throttle.clock())
        await throttle.turn()
        return throttle.rate

    rate = asyncio.run(begin(Throttle("s3://b/x", open_file)))

    def look() -> float:
        throttle = Throttle("s3://b/x", open_file)
        assert throttle.is_limited
        return throttle.rate

    assert run_in_fork(look) == rate == 32


def test_the_log_says_what_to_do(open_file: OpenFile, caplog: pytest.LogCaptureFixture) -> None:
    """One line of one of the processes."""

    async def run() -> None:
        for throttle in throttles(2, open_file):
            throttle.note("throttled", throttle.clock())
            await throttle.turn()

    with caplog.at_level(logging.WARNING):
        virtual_time.run(run())
    [line] = caplog.messages
    assert line.startswith("s3://b/x throttles: all processes")


def test_nothing_fails_on_a_server_that_throttles(server: LinkServer) -> None:
    """Spilled, restored and deleted through many 503s, and the URI stays healthy."""
    server.set_link(0, None, requests_per_second=30)
    options = {"endpoint_url": server.endpoint_url, "key": "any", "secret": "any"}
    storage = ExternalStorage(
        "s3://b/p", storage_options=options, file_size=1000, stall_timeout=PATIENT
    )
    objects = [bytes([number]) * 2000 for number in range(40)]
    urls = spill(storage, *objects, b"x" * 20 * MIB)
    assert [restore(storage, url) for url in urls[:-1]] == objects
    assert restore(storage, urls[-1]) == b"x" * 20 * MIB
    stats = storage.stats()
    assert stats.total("fsspill_request_rate_limit", uri="s3://b/p") > 0
    assert stats.total("fsspill_failovers") == stats.total("fsspill_circuit_open") == 0
    storage.delete_spilled_objects(urls)
    storage.destroy_external_storage()
    refused = server.stats().requests["SlowDown"]
    assert refused > 0
    # All of them are seen: neither s3fs nor obstore repeats a request by itself.
    assert storage.stats().total("fsspill_requests", outcome="throttled") >= 0.9 * refused


def test_a_throttled_range_is_not_read_by_other_ways(proxy: FaultProxy) -> None:
    """Neither through the filesystem, nor is the file's length asked for: that would be more."""
    store = InMemoryObjectStore()
    storage = ExternalStorage("s3://bucket/p", object_store=store, stall_timeout=PATIENT)
    [url] = spill(storage, b"data")
    with proxy.inject(Fault.UNAVAILABLE, method="GET", count=1):
        restore(storage, url)
    stats = storage.stats()
    assert stats.total("fsspill_requests", operation="get", outcome="throttled") == 1
    assert stats.total("fsspill_requests", operation="get", outcome="success") == 1
    assert stats.total("fsspill_requests", operation="head") == 0
    storage.destroy_external_storage()


def of_s3() -> Exception:
    answer = {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
    error: Exception = pytest.importorskip("botocore.exceptions").ClientError(answer, "GetObject")
    return error


def of_google() -> Exception:
    error: Exception = pytest.importorskip("gcsfs.retry").HttpError({"code": 429, "message": "x"})
    return error


def of_azure() -> Exception:
    error: Exception = pytest.importorskip("azure.core.exceptions").HttpResponseError("busy")
    return error


@pytest.mark.parametrize("make", [of_s3, of_google, of_azure])
def test_each_storage_says_it_in_its_way(make: Callable[[], Exception]) -> None:
    """S3 by 503 SlowDown, Google's by 429, Azure's by 503 ServerBusy: each begins a limit."""
    error = make()
    if make is of_azure:
        error.status_code, error.error_code = 503, "ServerBusy"  # type: ignore[attr-defined]
    meter = Meter()
    with pytest.raises(type(error)), meter.request("get"):
        raise error
    assert meter.throttle.is_limited


def test_other_failures_begin_no_limit() -> None:
    """Such as a lost connection, or missing permissions."""
    meter = Meter()
    for error in (ConnectionResetError(), PermissionError(), TimeoutError()):
        with pytest.raises(type(error)), meter.request("get"):
            raise error
    assert not meter.throttle.is_limited


def test_s3fs_makes_one_attempt_of_each_request(s3_bucket: str) -> None:
    """Its own four would not be seen, and multiply what is too much."""
    assert connect(f"s3://{s3_bucket}/x", {}).fs.retries == 1
