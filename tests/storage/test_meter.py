"""Counting of requests."""

from __future__ import annotations

import asyncio
import errno
import re
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

import fsspill
from fsspill import ExternalStorage, FsspillError, InMemoryObjectStore
from fsspill.metrics import Metrics
from fsspill.storage.meter import _S3_OPERATIONS, Meter, superseded
from fsspill.storage.range_reader import ENGINES
from tests.faults.fault_proxy import Fault, FaultProxy
from tests.recording import RequestRecorder
from tests.samples import MIB
from tests.spilling import restore, spill
from tests.timeouts import FORGIVING

pytest.importorskip("s3fs")

METHODS = {
    "put": "PUT",
    "put_part": "PUT",
    "create_multipart": "POST",
    "complete_multipart": "POST",
    "get": "GET",
    "list": "GET",
    "head": "HEAD",
    "delete": "DELETE",
    "delete_many": "POST",
}
"""Method of HTTP of each operation on S3."""


def refusal(status: int, code: str) -> ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "GetObject")


def outcome_of(error: BaseException | None) -> str:
    metrics = Metrics()
    expected = pytest.raises(type(error)) if error else nullcontext()
    with expected, Meter(metrics, "s3://b").request("get", 10):
        in_flight = metrics.stats()
        assert in_flight.total("fsspill_requests_in_flight", uri="s3://b") == 1
        assert in_flight.total("fsspill_bytes_in_flight", uri="s3://b") == 10
        if error:
            raise error
    stats = metrics.stats()
    assert stats.total("fsspill_requests_in_flight") == stats.total("fsspill_bytes_in_flight") == 0
    [outcome] = [each.labels["outcome"] for each in stats if each.name == "fsspill_requests"]
    return outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "success"),
        (refusal(503, "SlowDown"), "throttled"),
        (refusal(429, "TooManyRequests"), "throttled"),
        (refusal(400, "RequestTimeout"), "throttled"),
        (refusal(404, "NoSuchKey"), "missing"),
        (FileNotFoundError("x"), "missing"),
        (refusal(403, "AccessDenied"), "refused"),
        (refusal(400, "InvalidArgument"), "refused"),
        (refusal(500, "Weird"), "failed"),
        (ConnectionResetError("reset"), "failed"),
        (TimeoutError("slow"), "timeout"),
        (asyncio.CancelledError(), "cancelled"),
    ],
    ids=str,
)
def test_outcome_of_a_request(error: BaseException | None, outcome: str) -> None:
    """It tells what an operator has to look for, and what is in flight is so no more."""
    assert outcome_of(error) == outcome


def test_of_two_requests_for_the_same_bytes_the_other_is_superseded() -> None:
    """It is cancelled, and tells nothing of the storage; one that fails by itself does."""

    async def outcome(error: BaseException) -> str:
        superseded.set(lambda: True)
        return outcome_of(error)

    assert asyncio.run(outcome(asyncio.CancelledError())) == "superseded"
    assert asyncio.run(outcome(TimeoutError())) == "timeout"
    assert outcome_of(asyncio.CancelledError()) == "cancelled"


def counted(storage: ExternalStorage) -> Counter[str]:
    """Return the requests of a storage by method of HTTP."""
    found: Counter[str] = Counter()
    for sample in storage.stats():
        if sample.name == "fsspill_requests":
            found[METHODS[sample.labels["operation"]]] += int(sample.value)
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_requests_are_those_that_the_server_answers(
    engine: str, s3_bucket: str, recorder: RequestRecorder, store: InMemoryObjectStore
) -> None:
    """Of checks, single and multipart uploads, ranged reads, deletions and the end alike."""
    uri = f"s3://{s3_bucket}/{engine}"
    storage = ExternalStorage(uri, object_store=store, engine=engine)
    storage.check()
    urls = spill(storage, b"small", b"a" * 5 * MIB, b"b" * 40 * MIB)
    for url in urls:
        restore(storage, url)
    storage.delete_spilled_objects(urls[:1])
    storage.delete_spilled_objects(urls[1:])
    storage.files.write_heartbeat("node")
    storage.destroy_external_storage()
    answered = recorder.methods()
    found = counted(storage)
    # A listing of s3fs may take several requests, of GET and HEAD.
    assert found["GET"] <= answered["GET"] <= found["GET"] + 6
    for method in ("PUT", "POST", "DELETE"):
        assert found[method] == answered[method] > 0
    assert storage.stats().total("fsspill_requests", outcome="success") > 20


def test_bytes_and_ranges_are_those_of_the_server(
    storage: ExternalStorage, recorder: RequestRecorder
) -> None:
    """A spill and a restore, without anything else, count each request exactly."""
    [url] = spill(storage, b"b" * 40 * MIB)
    assert recorder.methods() == counted(storage)
    restore(storage, url)
    assert counted(storage)["GET"] == recorder.methods()["GET"] > 10


def test_retries_and_failures_are_counted(proxy: FaultProxy) -> None:
    """Each further attempt is a retry; each refusal has its outcome."""
    storage = ExternalStorage("s3://bucket/p", stall_timeout=FORGIVING)
    with proxy.inject(Fault.UNAVAILABLE, method="PUT", count=12):
        urls = spill(storage, b"data")
    stats = storage.stats()
    assert stats.total("fsspill_requests", operation="put", outcome="throttled") >= 1
    assert stats.total("fsspill_requests", operation="put", outcome="success") == 1
    assert stats.total("fsspill_retries", uri="s3://bucket/p") >= 1
    storage.delete_spilled_objects(urls)


def test_requests_of_other_filesystems_are_counted(memory_uri: str) -> None:
    """By the operations that every filesystem has."""
    storage = ExternalStorage(memory_uri)
    urls = spill(storage, b"data")
    restore(storage, urls[0])
    storage.delete_spilled_objects(urls)
    stats = storage.stats()
    for operation in ("put", "get", "delete"):
        assert stats.total("fsspill_requests", operation=operation, outcome="success") == 1


def test_an_outage_is_counted(memory_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its failover, the open circuit, and no request is left in flight."""

    async def fail(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "no space")

    storage = ExternalStorage(memory_uri)
    [location] = storage.files.locations
    client = storage.files._clients.client(location)
    monkeypatch.setattr(client.connection.fs, "_pipe_file", fail)
    with pytest.raises(FsspillError):
        spill(storage, b"data")
    stats = storage.stats()
    assert stats.total("fsspill_requests_in_flight") == 0
    assert stats.total("fsspill_requests", operation="put", outcome="success") == 0
    assert stats.total("fsspill_requests", operation="put", outcome="refused") >= 1
    assert stats.total("fsspill_failovers", uri=memory_uri) == 1
    assert stats.total("fsspill_circuit_open", uri=memory_uri) == 1


def test_every_request_of_s3_has_an_operation() -> None:
    """A new one in the code needs a row of the table."""
    source = "".join(
        path.read_text() for path in Path(fsspill.__file__).parent.glob("storage/s3*.py")
    )
    called = set(re.findall(r'(?:_call_s3|send)\(\s*"(\w+)"', source))
    assert called <= _S3_OPERATIONS.keys()
    assert len(called) > 8
