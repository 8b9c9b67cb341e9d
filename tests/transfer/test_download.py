"""Frames read in ranges, and verified block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pytest

from fsspill import (
    ExternalStorage,
    InMemoryObjectStore,
    StorageNotFoundError,
    StorageUnavailableError,
)
from fsspill.errors import CorruptObjectError
from fsspill.metrics import Stats
from fsspill.storage import hedging
from fsspill.testing.s3_server import S3Server
from tests.faults.dialects import Late
from tests.faults.fault_proxy import Fault, FaultProxy
from tests.recording import RequestRecorder
from tests.spilling import fill
from tests.timeouts import PATIENT, limited_attempts

KIB, MIB = 2**10, 2**20
Restore = Callable[[], Stats]


def test_a_large_object_is_read_in_ranges_of_exactly_its_bytes(
    recorder: RequestRecorder, storage: ExternalStorage, store: InMemoryObjectStore, s3_bucket: str
) -> None:
    """One GET per range, no HEAD, and not a byte more than the frame."""
    [ref] = fill(store, 1, 10 * MIB)
    urls = storage.spill_objects([ref])
    store.delete(ref)
    recorder.requests()
    storage.restore_spilled_objects([ref], urls)
    requests = recorder.requests()
    assert [(request.method, request.status) for request in requests] == [("GET", 206)] * 10
    assert store.get(ref) == bytes(10 * MIB)


def test_an_invisible_bucket_does_not_lose_objects(
    s3_server: S3Server, s3_bucket: str, store: InMemoryObjectStore
) -> None:
    """A node with the wrong endpoint or account must not take the files of others for removed."""
    storage = ExternalStorage(f"s3://{s3_bucket}/x", object_store=store)
    [ref] = fill(store, 1, KIB)
    urls = storage.spill_objects([ref])
    store.delete(ref)
    s3_server.reset()
    invisible = pytest.raises(StorageUnavailableError, match="bucket itself is not visible")
    with limited_attempts(2), invisible:
        storage.restore_spilled_objects([ref], urls)
    s3_server.create_bucket(s3_bucket)
    with pytest.raises(StorageNotFoundError):
        storage.restore_spilled_objects([ref], urls)


class UntouchedStore(InMemoryObjectStore):
    """An object store that nothing may be put into."""

    def put_file_like_object(self, *arguments: Any) -> None:
        raise AssertionError("an object was made")


@pytest.mark.parametrize("limit", [16 * MIB, 40 * MIB, 128 * MIB])
def test_a_frame_of_half_the_limit_is_verified_before_the_object_is_created(limit: int) -> None:
    """If its last byte is wrong, the object store gets no request."""
    store = InMemoryObjectStore()
    store.put(b"ref", bytes(limit // 2 - 200))
    arguments: dict[str, Any] = {"node_id": "n", "session_name": "s", "max_bytes_in_flight": limit}
    spilling = ExternalStorage("memory://whole", object_store=store, **arguments)
    urls = spilling.spill_objects([b"ref"])
    files = fsspec.filesystem("memory")
    [path] = files.find("/whole")
    files.pipe_file(path, files.cat_file(path)[:-1] + b"x")
    storage = ExternalStorage("memory://whole", object_store=UntouchedStore(), **arguments)
    with pytest.raises(CorruptObjectError):
        storage.restore_spilled_objects([b"ref"], urls)
    storage.destroy_external_storage()


@pytest.fixture
def known(
    proxy: FaultProxy, store: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Restore]:
    """Yield a function that restores an object of 10 ranges, of which it is known what they take.

    Each request may be hedged, so that none lacks a budget that a busy machine has used up.
    """
    monkeypatch.setattr(hedging, "SHARE", 1.0)
    storage = ExternalStorage("s3://bucket/x", object_store=store, stall_timeout=PATIENT)
    [ref] = fill(store, 1, 10 * MIB)
    urls = storage.spill_objects([ref])

    def restore() -> Stats:
        store.delete(ref)
        storage.restore_spilled_objects([ref], urls)
        assert store.get(ref) == bytes(10 * MIB)
        return storage.stats()

    for _ in range(4):
        restore()
    yield restore
    storage.destroy_external_storage()


def test_a_lost_answer_is_asked_for_a_second_time(proxy: FaultProxy, known: Restore) -> None:
    """Long before the stall timeout cancels it: no retry, and no failure is counted."""
    with proxy.inject(Fault.STALL, count=1, method="GET"):
        stats = known()
    assert proxy.injected[Fault.STALL, "GET"] == 1
    assert stats.total("fsspill_hedges", operation="get", winner="second") >= 1
    assert stats.total("fsspill_retries") == 0
    superseded = stats.total("fsspill_requests", operation="get", outcome="superseded")
    assert superseded == stats.total("fsspill_hedges")
    assert stats.total("fsspill_requests", operation="get", outcome="success") == 50
    assert stats.total("fsspill_requests", operation="get") == 50 + superseded
    assert stats.total("fsspill_requests_in_flight") == 0


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.THROTTLED])
def test_nothing_is_hedged_while_the_storage_throttles(
    fault: Fault, proxy: FaultProxy, known: Restore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that is late then is one of too many."""
    pytest.importorskip("obstore")  # s3fs repeats what is refused by itself, and does not tell
    with proxy.inject(fault, count=1, method="GET"):
        before = known().total("fsspill_hedges")
    with proxy.speak(Late(lambda call: call.headers.get("Range", "").startswith("bytes=0-"))):
        stats = known()
    assert stats.total("fsspill_requests", operation="get", outcome="throttled") == 1
    assert stats.total("fsspill_hedges") == before


def test_nothing_is_hedged_while_the_circuit_is_open(store: InMemoryObjectStore) -> None:
    """Of the same node, whichever of its processes has opened it."""
    names: dict[str, Any] = {"node_id": "n", "session_name": "s", "object_store": store}
    storage, other = (ExternalStorage("memory://x", **names) for _ in range(2))
    [location] = storage.files.locations
    reader = storage.files._clients.reader(location)
    assert not reader.hedging.is_unhealthy()
    [elsewhere] = other.files.locations
    other.files.placement.mark_unhealthy(elsewhere, StorageUnavailableError("down"))
    assert reader.hedging.is_unhealthy()
    storage.destroy_external_storage()
