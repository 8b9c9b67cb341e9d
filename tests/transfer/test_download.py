"""Frames read in ranges, and verified block by block."""

from __future__ import annotations

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
from fsspill.testing.s3_server import S3Server
from tests.recording import RequestRecorder
from tests.spilling import fill
from tests.timeouts import limited_attempts

KIB, MIB = 2**10, 2**20


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
