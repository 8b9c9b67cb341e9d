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
from fsspill.transfer.compressed_parts import Rest
from tests.at_rest import files, keys
from tests.faults.dialects import EqualParts
from tests.faults.fault_proxy import FaultProxy
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
    """All parts but the last have one length of 5 MiB or more, though blocks are smaller.

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
        assert len(set(sent[:-1])) <= 1
        assert all(size >= 5 * MIB for size in sent[:-1])
        assert sent[-1] <= sent[0]
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


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
@pytest.mark.parametrize("size", [16 * MIB - 24, 16 * MIB, 41 * MIB + 1])
def test_a_store_that_wants_parts_of_one_length_takes_all(
    proxy: FaultProxy, store: InMemoryObjectStore, codec: str | None, size: int
) -> None:
    """With and without a codec, for objects that shrink, that do not, and that do in part."""
    storage = ExternalStorage("s3://bucket", object_store=store, compression=codec)
    half = random_bytes(size // 2)
    objects = [
        (compressible_bytes(MIB) * 42)[:size],
        half + bytes(size - len(half)),
        compressible_bytes(size - len(half)) + half,
    ]
    with proxy.speak(dialect := EqualParts()):
        urls = spill(storage, *objects)
        assert [restore(storage, url) for url in urls] == objects
    assert bool(dialect.sizes) == (size > 16 * MIB - 24)
    storage.destroy_external_storage()


def test_the_rest_of_an_encoder_is_cut_into_parts() -> None:
    """Parts have one length; views are not copied, and of a block that is cut only the rest is."""
    rest = Rest(4)
    view = memoryview(b"012345")
    rest.add([b"abcdef"])
    rest.add([view])
    assert (rest.nbytes, rest.memory) == (12, 6)
    parts = []
    while rest.nbytes:
        part, memory = rest.cut()
        parts.append((b"".join(part), memory))
    assert parts == [(b"abcd", 6), (b"ef01", 2), (b"2345", 0)]
    assert rest.memory == 0


def test_encoders_that_hold_a_rest_leave_room_for_one(
    s3_bucket: str, store: InMemoryObjectStore
) -> None:
    """The least memory is enough for many large files, whose parts wait for each other."""
    storage = ExternalStorage(
        f"s3://{s3_bucket}", object_store=store, compression="lz4", max_bytes_in_flight=16 * MIB
    )
    objects = [(compressible_bytes(MIB) * 20) + random_bytes(MIB) for _ in range(4)]
    urls = spill(storage, *objects)
    assert [restore(storage, url) for url in urls] == objects
