"""Bodies to buckets that demand checksums."""

from __future__ import annotations

from typing import Any

import pytest

from fsspill import ExternalStorage, InMemoryObjectStore, StorageRefusedError
from fsspill.storage.connection import connect
from tests.faults.dialects import DemandsChecksums, Fixed, answer_with_code
from tests.faults.fault_proxy import FaultProxy
from tests.samples import MIB, compressible_bytes, random_bytes
from tests.spilling import restore, spill

pytest.importorskip("s3fs")


@pytest.mark.parametrize(
    "dialect",
    [
        DemandsChecksums(),
        DemandsChecksums("MissingContentMD5", "Missing required header for this request"),
        DemandsChecksums("InvalidRequest", "Missing required header: Content-MD5"),
    ],
)
def test_a_bucket_that_demands_checksums_gets_them(
    proxy: FaultProxy, store: InMemoryObjectStore, dialect: DemandsChecksums
) -> None:
    """Checks, heartbeats, files in one request and in parts; it demands once."""
    storage = ExternalStorage("s3://bucket/x", object_store=store, node_id="node")
    with proxy.speak(dialect):
        storage.check()
        storage.files.write_heartbeat("node")
        objects = [random_bytes(MIB), random_bytes(20 * MIB)]
        urls = spill(storage, *objects)
        assert [restore(storage, url) for url in urls] == objects
        storage.destroy_external_storage()
    puts = [request for request in proxy.requests if request.method == "PUT"]
    assert len(puts) == 1 + 1 + 1 + 1 + 3  # refused, check, heartbeat, one, in parts


def test_compressed_parts_have_checksums_too(proxy: FaultProxy, store: InMemoryObjectStore) -> None:
    """The demand may come with the first part of an upload."""
    pytest.importorskip("lz4.block")
    storage = ExternalStorage("s3://bucket/x", object_store=store, compression="lz4")
    with proxy.speak(DemandsChecksums()):
        [url] = spill(storage, data := compressible_bytes(MIB) * 30)
        assert restore(storage, url) == data


def test_bodies_have_no_checksum_elsewhere(proxy: FaultProxy, store: InMemoryObjectStore) -> None:
    """It costs more than all else; another refusal with status 400 does not bring it about."""
    storage = ExternalStorage("s3://bucket/x", object_store=store)
    refuse = Fixed(
        lambda: answer_with_code(400, "InvalidRequest"), lambda call: call.method == "PUT"
    )
    with proxy.speak(refuse), pytest.raises(StorageRefusedError):
        storage.check()
    seen = len(proxy.requests)
    with proxy.speak(DemandsChecksums()):
        storage.check()
    assert [request.method for request in proxy.requests[seen:]][:2] == ["PUT", "PUT"]


@pytest.mark.parametrize("nbytes", [1000, 20 * 2**20])
def test_no_release_of_botocore_computes_a_checksum_by_itself(
    s3_bucket: str, nbytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of a file in one request nor of parts: botocore before 1.36 would of both."""
    from botocore import utils

    def compute(params: object, **context: object) -> None:
        raise AssertionError("an MD5 that nobody asked for")

    if not hasattr(utils, "conditionally_calculate_md5"):
        pytest.skip("this botocore has no such handler")
    store = InMemoryObjectStore()
    store.put(b"ref", bytes(nbytes))
    ExternalStorage(f"s3://{s3_bucket}/x").check()
    fs: Any = connect(f"s3://{s3_bucket}/x", {}).fs
    for operation in ("PutObject", "UploadPart"):
        # As the older releases do.
        fs.s3.meta.events.register(f"before-call.s3.{operation}", utils.conditionally_calculate_md5)
    monkeypatch.setattr(utils, "calculate_md5", compute)
    storage = ExternalStorage(f"s3://{s3_bucket}/x", object_store=store)
    storage.spill_objects([b"ref"])
