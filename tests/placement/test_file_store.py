"""The files of a node on several URIs."""

from __future__ import annotations

import pytest

from fsspill import (
    ExternalStorage,
    InMemoryObjectStore,
    StorageNotFoundError,
    StorageUnavailableError,
)
from fsspill.testing.contract import split_url
from tests.at_rest import keys
from tests.spilling import fill

KIB, MIB = 2**10, 2**20


@pytest.mark.parametrize("first", [True, False])
def test_a_failed_write_goes_to_the_next_healthy_uri(
    s3_bucket: str, store: InMemoryObjectStore, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All objects are spilled in the same call."""
    monkeypatch.setattr("fsspill.placement.placement.randrange", lambda n: 0)
    uris = [f"s3://{s3_bucket}/good", "s3://no-such-bucket/bad"]
    storage = ExternalStorage(uris[::-1] if first else uris, object_store=store)
    refs = fill(store, 6, 8 * MIB)
    urls = storage.spill_objects(refs)
    assert sorted(keys(s3_bucket)) == sorted(split_url(url)[0][len("s3://") :] for url in urls)
    for ref in refs:
        store.delete(ref)
    assert storage.restore_spilled_objects(refs, urls) == 6 * 8 * MIB
    storage.destroy_external_storage()


def test_a_failed_spill_releases_the_objects(s3_bucket: str, store: InMemoryObjectStore) -> None:
    """Nothing pins them after an error, not even its traceback."""
    storage = ExternalStorage("s3://no-such-bucket/x", object_store=store)
    data = [bytearray(MIB) for _ in range(3)]
    for number, buffer in enumerate(data):
        store.put(number, buffer)
    with pytest.raises(StorageNotFoundError) as caught:
        storage.spill_objects([0, 1, 2])
    for number, buffer in enumerate(data):
        store.delete(number)
        buffer.append(0)  # raises BufferError while anybody holds a view
    assert caught.value is not None
    storage.destroy_external_storage()  # or the probe of the URI goes on while other tests run


def test_failed_deletions_are_retried_by_later_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next deletion deletes them, whichever files it is for."""
    store = InMemoryObjectStore()
    store.put("x", b"data")
    storage = ExternalStorage("memory://pending-deletions", object_store=store)
    urls = storage.spill_objects(["x"])
    delete = storage.files.transfer.delete
    error = StorageUnavailableError("refused")
    with monkeypatch.context() as patch:
        patch.setattr(
            storage.files.transfer, "delete", lambda files, seconds: dict.fromkeys(files, error)
        )
        storage.delete_spilled_objects(urls)
    assert len(storage.list_spilled_files()) == 1
    assert storage.files.transfer.delete == delete
    storage.delete_spilled_objects([])
    assert storage.list_spilled_files() == []
    assert not storage.files.pending_deletions
    storage.destroy_external_storage()
