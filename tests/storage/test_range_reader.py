"""Ranged reads through obstore or the filesystem."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from fsspill import (
    ConfigError,
    ExternalStorage,
    InMemoryObjectStore,
    MissingPackageError,
    StorageNotFoundError,
)
from fsspill.storage import range_reader as reader
from fsspill.storage.connection import connect
from fsspill.storage.obstore import open_bucket
from fsspill.storage.range_reader import FilesystemReader, ObstoreReader, S3Reader, make_reader
from fsspill.testing.s3_server import S3Server
from tests.faults.dialects import OtherRegion
from tests.faults.fault_proxy import FaultProxy
from tests.instances import forgotten
from tests.samples import MIB, random_bytes
from tests.spilling import restore, spill
from tests.timeouts import FORGIVING

pytest.importorskip("obstore")
pytest.importorskip("s3fs")

DEAD = "http://127.0.0.1:9"


@pytest.fixture
def obstore_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every read of a range by the filesystem fail."""

    async def refuse(self: object, path: str, start: int, stop: int, moved: object) -> bytes:
        raise AssertionError(f"the filesystem read {path} from {start} to {stop}")

    for filesystem_reader in (FilesystemReader, S3Reader):
        monkeypatch.setattr(filesystem_reader, "read", refuse)


@pytest.fixture
def fresh() -> Iterator[None]:
    """Forget filesystems that were made with another environment, and leave none to others."""
    with forgotten("s3"):
        yield


def round_trip(uri: str, nbytes: int = 100, **arguments: Any) -> bytes:
    """Spill an object, and return what is restored of it."""
    store = InMemoryObjectStore()
    store.put(b"ref", bytes(range(256)) * (nbytes // 256 + 1))
    storage = ExternalStorage(uri, object_store=store, **arguments)
    urls = storage.spill_objects([b"ref"])
    before = bytes(store.get(b"ref"))
    store.delete(b"ref")
    storage.restore_spilled_objects([b"ref"], urls)
    storage.destroy_external_storage()
    assert bytes(store.get(b"ref")) == before
    return before


@pytest.mark.parametrize("engine", ["auto", "obstore"])
def test_obstore_reads_from_s3_by_default_and_by_name(
    s3_bucket: str, obstore_alone: None, engine: str
) -> None:
    """`engine="auto"` selects it where it is installed."""
    round_trip(f"s3://{s3_bucket}/prefix", 10 * MIB, engine=engine)


def test_the_filesystem_reads_by_name_or_without_obstore(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``engine="fsspec"``, or if obstore is not installed, obstore gets no request."""
    monkeypatch.setattr(ObstoreReader, "read", None)
    round_trip(f"s3://{s3_bucket}/prefix", 10 * MIB, engine="fsspec")
    monkeypatch.setattr(reader, "_is_installed", lambda: False)
    round_trip(f"s3://{s3_bucket}/prefix", 10 * MIB)


def test_ranges_of_obstore_are_not_copied(s3_bucket: str) -> None:
    """The reader returns a view of the memory that obstore filled."""
    connection = connect(f"s3://{s3_bucket}/x", {})
    connection.run(connection.fs._pipe_file, f"{s3_bucket}/x", b"0123456789")
    data = connection.run(make_reader(connection, "auto").read, f"{s3_bucket}/x", 2, 5)
    assert isinstance(data, memoryview)
    assert data.tobytes() == b"234"


def test_an_endpoint_in_the_options_overrides_the_environment(
    s3_server: S3Server,
    s3_bucket: str,
    obstore_alone: None,
    fresh: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The endpoint of the filesystem is passed to obstore, whatever the environment holds."""
    options = {"endpoint_url": s3_server.endpoint_url}
    for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, DEAD)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    round_trip(f"s3://{s3_bucket}/prefix", storage_options=options)


def test_an_unsupported_setting_is_logged_once_and_the_filesystem_reads(
    s3_bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Objects are restored although obstore does not support the setting."""
    options = {"s3_additional_kwargs": {"ExpectedBucketOwner": "123456789012"}}
    with caplog.at_level(logging.WARNING):
        round_trip(f"s3://{s3_bucket}/prefix", 10 * MIB, storage_options=options)
    [line] = [record.getMessage() for record in caplog.records]
    expected = "not obstore: s3_additional_kwargs ExpectedBucketOwner"
    assert line == f"reading through S3FileSystem, {expected}"


def opens_at(endpoint_url: str) -> Callable[..., Any]:
    async def open_elsewhere(fs: Any, protocol: str, bucket: str, **options: Any) -> Any:
        from obstore.store import S3Store

        return S3Store(
            bucket,
            endpoint=endpoint_url,
            aws_endpoint_url_s3=endpoint_url,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )

    return open_elsewhere


def test_obstore_is_replaced_after_three_initial_failures(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the filesystem succeeds where it fails, its configuration is wrong for this storage."""
    monkeypatch.setattr(reader, "open_bucket", opens_at(DEAD))
    with caplog.at_level(logging.WARNING):
        round_trip(f"s3://{s3_bucket}/prefix", 10 * MIB)
    [line] = [record.getMessage() for record in caplog.records]
    assert "reading through S3FileSystem, not obstore: " in line


def test_obstore_is_kept_after_a_first_success(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Later failures are the storage's: the filesystem reads only those ranges."""
    connection = connect(f"s3://{s3_bucket}/x", {})
    connection.run(connection.fs._pipe_file, f"{s3_bucket}/x", b"0123456789")
    engine = ObstoreReader(connection.fs, "s3")
    assert connection.run(engine.read, f"{s3_bucket}/x", 0, 4) == b"0123"
    fetch = engine._read

    async def fail(path: str, start: int, stop: int, moved: object) -> memoryview:
        raise ConnectionResetError

    monkeypatch.setattr(engine, "_read", fail)
    for _ in range(5):
        assert connection.run(engine.read, f"{s3_bucket}/x", 2, 5) == b"234"
    monkeypatch.setattr(engine, "_read", fetch)
    assert isinstance(connection.run(engine.read, f"{s3_bucket}/x", 2, 5), memoryview)
    assert not caplog.records


def test_a_missing_file_is_the_same_error_for_every_engine(s3_bucket: str) -> None:
    """Errors are those of the filesystem."""
    storage = ExternalStorage(f"s3://{s3_bucket}/x", session_name="s", node_id="n")
    file = f"s3://{s3_bucket}/x/s/ray_spilled_objects_n/file-multi-1-10"
    url = f"{file}?offset=0&size=100&xxh3_128=AAAAAAAAAAAAAAAAAAAAAA"
    with pytest.raises(StorageNotFoundError) as found:
        storage.restore_spilled_objects([b"ref"], [url])
    assert isinstance(found.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize("engine", ["rust", "", None, 1])
def test_an_unknown_engine_is_refused(engine: Any) -> None:
    """The message names the engines that exist."""
    with pytest.raises(ConfigError, match="expected one of auto, fsspec, obstore"):
        ExternalStorage("memory://x", engine=engine)


def test_obstore_is_refused_for_other_protocols() -> None:
    """The message lists the protocols that it supports."""
    with pytest.raises(ConfigError, match="expected one of s3://"):
        ExternalStorage("memory://x", engine="obstore")


def test_a_missing_obstore_is_reported(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message tells how to install it."""
    monkeypatch.setattr(reader, "_is_installed", lambda: False)
    with pytest.raises(MissingPackageError, match="pip install obstore"):
        ExternalStorage(f"s3://{s3_bucket}", engine="obstore")


@pytest.fixture
def silent_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Route only obstore through a proxy that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        proxy = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr("fsspill.storage.obstore.proxy_of_botocore", lambda *arguments: proxy)
        yield


def test_an_unanswered_request_of_obstore_is_repeated_by_the_filesystem(
    s3_bucket: str, silent_proxy: None, fresh: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Silence counts as a failure of obstore, and is logged once."""
    with caplog.at_level(logging.WARNING):
        round_trip(f"s3://{s3_bucket}/prefix", 10 * MIB, stall_timeout=FORGIVING)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["reading through S3FileSystem, not obstore: it does not answer"]


def test_silence_disables_obstore_temporarily(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again later, and one answer enables it."""
    monkeypatch.setattr(reader, "_SILENCE", 0.01)
    connection = connect(f"s3://{s3_bucket}/x", {})
    connection.run(connection.fs._pipe_file, f"{s3_bucket}/x", b"0123456789")
    obstore = make_reader(connection, "auto")
    assert isinstance(obstore, ObstoreReader)
    obstore.window.shrink()
    requests = []

    async def hang(*arguments: Any, **options: Any) -> None:
        requests.append(arguments)
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr("obstore.get_async", hang)
        for _ in range(3):
            assert connection.run(obstore.read, f"{s3_bucket}/x", 2, 5) == b"234"
    assert len(requests) == 1
    monkeypatch.setattr(reader, "_SILENCE", FORGIVING)
    monkeypatch.setattr(obstore, "_disabled_until", 0.0)
    monkeypatch.setattr(FilesystemReader, "read", None)
    monkeypatch.setattr(S3Reader, "read", None)
    assert connection.run(obstore.read, f"{s3_bucket}/x", 2, 5) == b"234"


def test_a_slow_body_is_no_silence(s3_bucket: str) -> None:
    """The bytes of a body that obstore or s3fs reads are seen as they arrive."""
    connection = connect(f"s3://{s3_bucket}/x", {})
    connection.run(connection.fs._pipe_file, f"{s3_bucket}/x", bytes(MIB))
    for engine in ("obstore", "fsspec"):
        read_by, moves = make_reader(connection, engine), Counter[str]()
        read_by.window.shrink()
        moved = partial(moves.update, [engine])
        data = connection.run(read_by.read, f"{s3_bucket}/x", 0, MIB, moved)
        assert data == bytes(MIB)
        assert moves[engine] > 1


def test_a_failed_opening_of_a_bucket_is_retried(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One failure, of an instance's metadata service for example, is not permanent."""
    connection = connect(f"s3://{s3_bucket}/x", {})
    connection.run(connection.fs._pipe_file, f"{s3_bucket}/x", b"0123456789")
    obstore = make_reader(connection, "auto")
    opening = [OSError("no metadata"), None]

    async def open_once(*arguments: Any, **options: Any) -> Any:
        error = opening.pop(0)
        if error:
            raise error
        return await open_bucket(*arguments, **options)

    monkeypatch.setattr(reader, "open_bucket", open_once)
    assert connection.run(obstore.read, f"{s3_bucket}/x", 2, 5) == b"234"
    assert isinstance(connection.run(obstore.read, f"{s3_bucket}/x", 2, 5), memoryview)
    assert opening == []


@pytest.mark.parametrize("status", [301, 400])
def test_a_bucket_in_another_region_is_read_through_obstore(
    proxy: FaultProxy,
    store: InMemoryObjectStore,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    """The settings of obstore are those that the filesystem has learned; nothing is disabled."""
    pytest.importorskip("obstore")
    storage = ExternalStorage("s3://bucket/x", object_store=store)
    with proxy.speak(dialect := OtherRegion("eu-west-1", status)):
        objects = [random_bytes(10 * MIB) for _ in range(3)]
        urls = spill(storage, *objects)
        restore(storage, urls[0])
        restore(storage, urls[1])
        dialect.refused.clear()
        proxy.requests.clear()
        assert [restore(storage, url) for url in urls] == objects
    assert dialect.refused == []
    assert not any(request.method == "HEAD" for request in proxy.requests)
    assert caplog.records == []
