"""Compressed files on their way to a storage: parts, failover, and memory released."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fsspill import ExternalStorage, InMemoryObjectStore, StorageNotFoundError
from fsspill.format import encoding
from fsspill.format.compression import compress
from fsspill.testing.contract import split_url
from tests.at_rest import files, keys
from tests.samples import KIB, MIB, compressible_bytes, random_bytes
from tests.spilling import codecs, compression_numbers, restore, spill

pytest.importorskip("lz4.block")
pytest.importorskip("zstandard")


@pytest.fixture
def uri(memory_uri: str) -> str:
    return memory_uri


def test_file_name_carries_the_uncompressed_size(uri: str, store: InMemoryObjectStore) -> None:
    """max_bytes counts an upper bound, which is known before the file is compressed."""
    storage = ExternalStorage(uri, object_store=store, compression="zstd")
    [url] = spill(storage, compressible_bytes(MIB))
    base, _, size = split_url(url.encode())
    assert int(base.rpartition("-")[2]) == MIB + 24 > 1.5 * size


@codecs
def test_incompressible_data_is_stored_raw(
    tmp_path: Path, store: InMemoryObjectStore, codec: str
) -> None:
    """A large incompressible object is at rest, byte for byte, as it is without a codec."""
    data = random_bytes(20 * MIB)
    directories = tmp_path / "with", tmp_path / "without"
    with_codec, without = (
        ExternalStorage(f"file://{directory}", object_store=store, shared=True, compression=name)
        for directory, name in zip(directories, (codec, None), strict=True)
    )
    [url], [expected] = spill(with_codec, data), spill(without, data)
    assert url.partition("?")[2] == expected.partition("?")[2]
    [found], [raw] = (files(directory) for directory in directories)
    assert found.read_bytes() == raw.read_bytes()


@pytest.mark.parametrize("protocol", ["memory", "file", "s3"])
@codecs
def test_large_object_is_uploaded_in_parts(
    protocol: str, codec: str, s3_bucket: str, store: InMemoryObjectStore, tmp_path: Path
) -> None:
    """40 MiB are stored in half of the bytes, in blocks of up to 8.5 MiB, and restored."""
    place = {"memory": uuid.uuid4().hex, "file": str(tmp_path), "s3": s3_bucket}[protocol]
    uri, shared = f"{protocol}://{place}", protocol == "file"
    storage = ExternalStorage(uri, object_store=store, compression=codec, shared=shared)
    data = compressible_bytes(MIB) * 40
    [url] = spill(storage, data)
    length, *sizes = compression_numbers(url, codec)
    assert (length, len(sizes)) == (40 * MIB + 24, 5)
    base, offset, size = split_url(url.encode())
    assert (offset, size) == (0, sum(sizes))
    assert fsspec.core.url_to_fs(base)[0].size(base) == size < 0.7 * 40 * MIB
    assert restore(storage, url) == data
    storage.destroy_external_storage()


def test_parts_have_the_sizes_that_s3_requires(
    s3_bucket: str, store: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All parts but the last have 5 MiB or more, though blocks are smaller, and none over 15 MiB.

    Some blocks compress to nearly nothing, which ends one upload exactly with its last block.
    """
    storage = ExternalStorage(f"s3://{s3_bucket}", object_store=store, compression="lz4")
    sent: list[int] = []
    fs = fsspec.filesystem("s3")
    call = type(fs)._call_s3

    async def record(self: Any, operation: str, **arguments: Any) -> Any:
        if operation == "upload_part":
            sent.append(len(arguments["Body"]))
        return await call(self, operation, **arguments)

    monkeypatch.setattr(type(fs), "_call_s3", record)
    for data in (
        compressible_bytes(MIB) * 48,
        bytes(24 * MIB) + random_bytes(8 * MIB) + compressible_bytes(8 * MIB),
        compressible_bytes(12 * MIB) + random_bytes(MIB) * 16,
    ):
        sent.clear()
        [url] = spill(storage, data)
        assert compression_numbers(url, "lz4")
        assert sum(sent) == split_url(url.encode())[2]
        assert all(5 * MIB <= size <= 15 * MIB for size in sent[:-1])
        assert restore(storage, url) == data


def test_file_refused_by_one_uri_is_compressed_for_the_next(
    s3_bucket: str, store: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small files and multipart uploads are compressed for the URI that takes them."""
    monkeypatch.setattr("fsspill.placement.placement.randrange", lambda n: 0)
    uris = ["s3://no-such-bucket/bad", f"s3://{s3_bucket}/good"]
    storage = ExternalStorage(uris, object_store=store, compression="lz4")
    objects = [compressible_bytes(MIB) * 20, compressible_bytes(MIB)]
    urls = spill(storage, *objects)
    assert all(url.startswith(uris[1]) and compression_numbers(url, "lz4") for url in urls)
    assert [restore(storage, url) for url in urls] == objects
    storage.destroy_external_storage()


@pytest.mark.parametrize("size", [5 * MIB, 40 * MIB])
def test_failed_spill_releases_the_objects(
    s3_bucket: str, store: InMemoryObjectStore, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No view pins them, not even one of an unfinished pass or of a running thread."""
    storage = ExternalStorage(f"s3://{s3_bucket}", object_store=store, compression="zstd")
    fs = fsspec.filesystem("s3")
    call = type(fs)._call_s3

    async def refuse(self: Any, operation: str, **arguments: Any) -> Any:
        if operation in ("upload_part", "put_object"):
            raise PermissionError("refused")
        return await call(self, operation, **arguments)

    monkeypatch.setattr(type(fs), "_call_s3", refuse)
    data = bytearray(compressible_bytes(MIB) * (size // MIB))
    store.put(0, data)
    with pytest.raises(PermissionError) as caught:
        storage.spill_objects([0])
    store.delete(0)
    data.append(0)  # raises BufferError while there is a view of it
    assert caught.value is not None
    assert keys(s3_bucket) == []
    storage.destroy_external_storage()


def test_nothing_is_compressed_for_an_unhealthy_uri(
    s3_bucket: str, store: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first file is refused, only files that were begun are compressed."""
    calls = []

    def count(codec: str, block: Any) -> bytes:
        calls.append(codec)
        return compress(codec, block)

    monkeypatch.setattr(encoding, "compress", count)
    storage = ExternalStorage(
        "s3://no-such-bucket",
        object_store=store,
        compression="lz4",
        file_size=1,
        max_requests_in_flight=1,
    )
    with pytest.raises(StorageNotFoundError):
        spill(storage, *[compressible_bytes(10 * KIB)] * 40)
    storage.destroy_external_storage()
    assert 0 < len(calls) < 10
