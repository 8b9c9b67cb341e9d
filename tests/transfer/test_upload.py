"""Files too large for one request: failures, abandoned attempts, and released memory."""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from threading import Event
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from fsspill import (
    ExternalStorage,
    InMemoryObjectStore,
    StorageRefusedError,
    StorageUnavailableError,
)
from fsspill.metrics import Stats
from fsspill.storage import hedging
from fsspill.testing.filesystems import CountingFileSystem, register
from fsspill.transfer import part_source
from tests.at_rest import files, keys, open_uploads
from tests.faults.dialects import Late
from tests.faults.fault_proxy import Answer, Call, Dialect, Fault, FaultProxy, is_part
from tests.running import PATIENCE, poll
from tests.timeouts import FORGIVING, PATIENT, SLOW, limited_attempts

MIB = 2**20
Spill = Callable[[], Stats]


class Directories(LocalFileSystem):  # type: ignore[misc]
    """A remote filesystem with directories: those of this machine, under another protocol."""

    protocol = "directories"
    auto_mkdir = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix(f"{cls.protocol}://")


class Full(Directories):
    """The same, on which no file can be longer than 20 MiB."""

    protocol = "full"

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        file = super().open(path, mode, **kwargs)
        return Limited(file) if "w" in mode else file


class Limited:
    """A file that refuses to grow beyond 20 MiB."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.close = file.close

    def write(self, data: bytes) -> None:
        if self._file.tell() + len(data) > 20 * MIB:
            raise OSError(28, "No space left on device")
        self._file.write(data)


@pytest.fixture(autouse=True)
def _protocols() -> Iterator[None]:
    for cls in (Directories, Full):
        fsspec.register_implementation(cls.protocol, cls, clobber=True)
    yield
    for protocol in ("directories", "full", "slow", "nosmallblocks"):
        _registry.pop(protocol, None)


def large() -> InMemoryObjectStore:
    store = InMemoryObjectStore()
    store.put(b"x", bytes(range(256)) * (40 * MIB // 256))
    return store


@pytest.mark.parametrize("protocol", ["memory", "directories"])
def test_a_large_file_is_written_block_by_block(protocol: str, tmp_path: Path) -> None:
    """It is restored, also where its directory had to be created first."""
    store = large()
    uri = f"{protocol}://{uuid.uuid4().hex}" if protocol == "memory" else f"{protocol}://{tmp_path}"
    storage = ExternalStorage(uri, object_store=store)
    urls = storage.spill_objects([b"x"])
    store.delete(b"x")
    assert storage.restore_spilled_objects([b"x"], urls) == 40 * MIB
    assert store.get(b"x") == bytes(range(256)) * (40 * MIB // 256)
    storage.destroy_external_storage()
    assert storage.list_spilled_files() == []


def test_a_failed_large_file_leaves_nothing(tmp_path: Path) -> None:
    """The blocks that were written are removed."""
    storage = ExternalStorage(f"full://{tmp_path}", object_store=large())
    with pytest.raises(StorageUnavailableError, match="No space left"):
        storage.spill_objects([b"x"])
    assert files(tmp_path) == []


def test_an_abandoned_attempt_overwrites_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that stalls in ``open`` cannot be ended; it goes on when the objects are released.

    It must not put an empty file in the place of the one that another attempt has written.
    """
    register()
    monkeypatch.setattr("fsspill.storage.client.StorageClient.single_put_size", 0)
    stalled, go_on, ended = Event(), Event(), Event()
    open_file = CountingFileSystem._open

    def stall_once(self: Any, path: str, *args: Any, **kwargs: Any) -> Any:
        if stalled.is_set():
            return open_file(self, path, *args, **kwargs)
        stalled.set()
        go_on.wait()
        file = open_file(self, path, *args, **kwargs)
        discard = file.discard

        def discard_and_tell() -> None:
            discard()
            ended.set()

        monkeypatch.setattr(file, "discard", discard_and_tell)
        return file

    monkeypatch.setattr(CountingFileSystem, "_open", stall_once)
    store = InMemoryObjectStore()
    store.put(b"x", bytes(range(256)) * 100)
    storage = ExternalStorage(
        f"counting://{uuid.uuid4().hex}",
        object_store=store,
        storage_options={"target_protocol": "memory"},
        stall_timeout=FORGIVING,
    )
    urls = storage.spill_objects([b"x"])
    assert stalled.is_set()
    go_on.set()
    assert ended.wait(PATIENCE)
    store.delete(b"x")
    assert storage.restore_spilled_objects([b"x"], urls) == 256 * 100
    assert store.get(b"x") == bytes(range(256)) * 100
    storage.destroy_external_storage()
    assert storage.list_spilled_files() == []
    CountingFileSystem.clear_instance_cache()


class Unreliable(MemoryFileSystem):  # type: ignore[misc]
    """A filesystem whose open files meet a fault."""

    protocol = "unreliable"
    cachable = False
    error: Exception | None = None
    writes = 0

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        file = super().open(path, mode, **kwargs)
        return UnreliableFile(file) if "w" in mode else file


class UnreliableFile:
    """A file whose second write fails; only once if the error is a missing directory."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.close = file.close

    def write(self, data: bytes) -> None:
        Unreliable.writes += 1
        if Unreliable.error is not None and Unreliable.writes > 1:
            error = Unreliable.error
            if isinstance(error, FileNotFoundError):
                Unreliable.error = None
            raise copy(error)
        self._file.write(data)


@pytest.fixture
def unreliable(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    fsspec.register_implementation("unreliable", Unreliable, clobber=True)
    monkeypatch.setattr(Unreliable, "writes", 0)
    yield f"unreliable://{uuid.uuid4().hex}"
    _registry.pop("unreliable", None)


@pytest.mark.parametrize("codec", [None, "zstd"])
def test_a_file_whose_directory_vanishes_is_rewritten_from_its_beginning(
    unreliable: str, monkeypatch: pytest.MonkeyPatch, codec: str | None
) -> None:
    """The file contains the parts that were sent before that, too."""
    monkeypatch.setattr(Unreliable, "error", FileNotFoundError(2, "the directory is gone"))
    store = large()
    storage = ExternalStorage(unreliable, object_store=store, compression=codec)
    urls = storage.spill_objects([b"x"])
    assert Unreliable.error is None
    store.delete(b"x")
    assert storage.restore_spilled_objects([b"x"], urls) == 40 * MIB
    assert store.get(b"x") == bytes(range(256)) * (40 * MIB // 256)
    storage.destroy_external_storage()


@pytest.mark.parametrize("codec", [None, "zstd"])
def test_a_failed_stream_releases_the_objects(
    unreliable: str, monkeypatch: pytest.MonkeyPatch, codec: str | None
) -> None:
    """It does so immediately, and not when the garbage collector next runs."""
    monkeypatch.setattr(Unreliable, "error", PermissionError("no"))
    data = bytearray(bytes(range(256)) * (40 * MIB // 256))
    store = InMemoryObjectStore()
    store.put(b"x", data)
    storage = ExternalStorage(unreliable, object_store=store, compression=codec)
    gc.disable()
    try:
        with pytest.raises(StorageRefusedError) as caught:
            storage.spill_objects([b"x"])
        store.delete(b"x")
        data.append(0)  # raises BufferError while a view is left
    finally:
        gc.enable()
    assert caught.value is not None
    storage.destroy_external_storage()


def test_a_failed_multipart_upload_is_aborted(
    store: InMemoryObjectStore, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the server refuses to complete it, no part stays, and the object is released."""
    # S3 refuses parts under 5 MiB, at the very end.
    monkeypatch.setattr(part_source, "PART_SIZE", MIB)
    storage = ExternalStorage(f"s3://{s3_bucket}/prefix", object_store=store)
    data = bytearray(33 * MIB)
    store.put(b"x", data)
    with limited_attempts(2), pytest.raises(StorageUnavailableError):
        storage.spill_objects([b"x"])
    store.delete(b"x")
    data.append(0)  # raises BufferError while anybody holds a view
    assert open_uploads(s3_bucket) == []
    # A probe of the unhealthy URI may be writing its own file.
    assert [key for key in keys(s3_bucket) if "fsspill-check" not in key] == []
    storage.destroy_external_storage()


def _is_released(data: bytearray) -> bool:
    try:
        data.append(0)
    except BufferError:  # somebody holds a view
        return False
    data.pop()
    return True


@pytest.fixture
def parts(
    proxy: FaultProxy, store: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Spill]:
    """Yield a function that spills an object in parts, of which it is known what they take.

    Each request may be hedged, so that none lacks a budget that a busy machine has used up.
    """
    monkeypatch.setattr(hedging, "SHARE", 1.0)
    monkeypatch.setattr(hedging, "_ENOUGH", 8)
    monkeypatch.setattr(hedging, "_STEP", 1)
    # Eight parts: S3 takes none under 5 MiB but the last.
    monkeypatch.setattr(part_source, "PART_SIZE", 5 * MIB)
    storage = ExternalStorage("s3://bucket/x", object_store=store, stall_timeout=PATIENT)
    data = bytearray(range(256)) * (40 * MIB // 256)

    def spill() -> Stats:
        store.put(b"x", data)
        urls = storage.spill_objects([b"x"])
        store.delete(b"x")
        poll(lambda: _is_released(data), "the request that lost to drop its body")
        storage.restore_spilled_objects([b"x"], urls)
        assert store.get(b"x") == data
        store.delete(b"x")
        storage.delete_spilled_objects(urls)
        return storage.stats()

    for _ in range(2):
        spill()
    yield spill
    storage.destroy_external_storage()


def test_a_lost_answer_to_a_part_is_asked_for_a_second_time(
    proxy: FaultProxy, parts: Spill
) -> None:
    """Long before the stall timeout: no retry, the same bytes, and nothing is left or held."""
    with proxy.inject(Fault.STALL, count=1, where=is_part):
        stats = parts()
    assert stats.total("fsspill_hedges", operation="put_part", winner="second") >= 1
    assert stats.total("fsspill_retries") == 0
    outcomes = {each.labels["outcome"] for each in stats if each.name == "fsspill_requests"}
    assert outcomes == {"success", "superseded"}
    assert stats.total("fsspill_requests_in_flight") == 0
    assert open_uploads("bucket") == []


class NoDigests(Dialect):
    """S3 with keys of KMS, where each request that stores a part gives it another ETag."""

    def __init__(self) -> None:
        self._digests: dict[bytes, bytes] = {}

    def answer(self, call: Call) -> Answer | None:
        """Complete an upload from the ETags that the server behind knows."""
        for tag, digest in self._digests.items():
            call.body = call.body.replace(tag, digest) if call.method == "POST" else call.body
        return None

    def alter(self, call: Call, answer: Answer) -> None:
        """Replace the ETag of a part."""
        if is_part(call.path) and answer.status == 200:
            tag = uuid.uuid4().hex
            self._digests[tag.encode()] = answer.headers["ETag"].strip('"').encode()
            answer.headers.replace_header("ETag", f'"{tag}"')


def test_parts_are_sent_once_where_their_etags_are_no_digests(
    proxy: FaultProxy, request: pytest.FixtureRequest
) -> None:
    """A file is completed from the ETags that its parts have then: those of the second requests."""
    with proxy.speak(NoDigests()):
        spill: Spill = request.getfixturevalue("parts")
        with proxy.speak(Late(lambda call: call.query.get("partNumber") == ["3"])):
            stats = spill()
    assert stats.total("fsspill_requests", operation="put_part", outcome="success") == 24
    assert stats.total("fsspill_requests", operation="put_part") == 24


class Slow(Directories):
    """The same, over a link of 2 MB/s."""

    protocol = "slow"

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        file = super().open(path, mode, **kwargs)
        return Trickling(file) if "w" in mode else file


class Trickling:
    """A file whose bytes take their time."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.close = file.close

    def __enter__(self) -> Trickling:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        time.sleep(len(data) / 2e6)
        self._file.write(data)


def test_a_body_on_a_slow_filesystem_is_written_in_blocks(tmp_path: Path) -> None:
    """Each block is progress: a file that fits in one request may take as long as it needs."""
    fsspec.register_implementation("slow", Slow, clobber=True)
    store = InMemoryObjectStore()
    store.put(b"x", bytes(10 * MIB))
    storage = ExternalStorage(f"slow://{tmp_path}/s", object_store=store, stall_timeout=SLOW)
    [url] = storage.spill_objects([b"x"])
    store.delete(b"x")
    storage.restore_spilled_objects([b"x"], [url])
    assert store.get(b"x") == bytes(10 * MIB)


class NoSmallBlocks(Directories):
    """The same, with files that refuse blocks of less than 5 MiB, as those of S3 do."""

    protocol = "nosmallblocks"

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if "w" in mode and kwargs["block_size"] < 5 * MIB:
            raise ValueError("Block size must be >= 5 MiB")
        return super().open(path, mode, **kwargs)


def test_a_filesystem_that_takes_no_small_blocks_gets_large_ones(tmp_path: Path) -> None:
    """Where blocks for a slow link are refused, the file is still written."""
    fsspec.register_implementation("nosmallblocks", NoSmallBlocks, clobber=True)
    storage = ExternalStorage(f"nosmallblocks://{tmp_path}/s", object_store=large())
    [url] = storage.spill_objects([b"x"])
    assert url
