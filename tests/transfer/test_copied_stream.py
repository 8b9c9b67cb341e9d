"""Frames that are read from local copies: in place, verified, and from the storage where wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fsspill import ExternalStorage, InMemoryObjectStore, StorageFullError, StorageNotFoundError
from fsspill.placement import background
from fsspill.settings import MIB
from fsspill.storage.layout import FileRef
from fsspill.storage.range_reader import ObstoreReader
from fsspill.transfer import local_file
from fsspill.transfer.spill_file import FailedWrite
from tests.hung_mount import HungMount
from tests.local_copy.test_copies import location
from tests.recording import RequestRecorder
from tests.running import PATIENCE
from tests.samples import compressible_bytes, random_bytes
from tests.spilling import codecs, restore, spill

SIZES = {"small": 100 * 2**10, "one block": 5 * MIB, "three blocks": 20 * MIB}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "copies"
    root.mkdir()
    return root


def make(root: Path, **parameters: str) -> ExternalStorage:
    return ExternalStorage(
        "s3://bucket/prefix",
        cache_dir=str(root),
        cache_max_bytes=2**30,
        node_id="node",
        session_name="session",
        object_store=InMemoryObjectStore(),
        **parameters,  # type: ignore[arg-type]
    )


@pytest.fixture
def storage(s3_bucket: str, root: Path) -> Iterator[ExternalStorage]:
    yield (storage := make(root))
    storage.destroy_external_storage()


def copy_of(root: Path, url: str) -> Path:
    return root / "session" / "node" / url.partition("?")[0].rpartition("/")[2]


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_restore_reads_the_copy_alone(
    storage: ExternalStorage, recorder: RequestRecorder, size: int
) -> None:
    """Without a request, one object of a fused file as well as all."""
    objects = [random_bytes(size, seed) for seed in range(3)]
    urls = spill(storage, *objects)
    recorder.requests()
    for url, data in zip(urls, objects, strict=True):
        assert restore(storage, url) == data
    assert recorder.requests() == []


@codecs
@pytest.mark.parametrize("size", [5 * MIB, 20 * MIB, 40 * MIB])
def test_a_compressed_copy_is_read_alone(
    s3_bucket: str, root: Path, recorder: RequestRecorder, codec: str, size: int
) -> None:
    """It is what the bucket has, byte for byte, in one request or in parts."""
    pytest.importorskip({"lz4": "lz4", "zstd": "zstandard"}[codec])
    storage = make(root, compression=codec)
    data = compressible_bytes(size)
    [url] = spill(storage, data)
    assert copy_of(root, url).stat().st_size < size * 0.7
    recorder.requests()
    assert restore(storage, url) == data
    assert recorder.requests() == []
    copy_of(root, url).unlink()
    assert restore(storage, url) == data
    assert recorder.methods()["GET"]


def test_another_process_of_the_node_reads_the_copy(
    storage: ExternalStorage, root: Path, recorder: RequestRecorder
) -> None:
    """Ray restores with other processes than those that spill."""
    data = random_bytes(20 * MIB)
    [url] = spill(storage, data)
    recorder.requests()
    assert restore(make(root), url) == data
    assert recorder.requests() == []


def test_another_node_reads_the_bucket(
    storage: ExternalStorage, root: Path, recorder: RequestRecorder
) -> None:
    """Although its copies are in the same directory."""
    data = random_bytes(MIB)
    [url] = spill(storage, data)
    other = ExternalStorage(
        "s3://bucket/prefix", cache_dir=str(root), cache_max_bytes=2**30, node_id="other",
        session_name="session",
    )  # fmt: skip
    recorder.requests()
    assert restore(other, url) == data
    assert recorder.methods() == {"GET": 1}
    assert sorted(os.listdir(root / "session")) == ["node"]


@pytest.mark.parametrize("block", [0, 1, 2])
def test_blocks_from_the_wrong_one_on_come_from_the_bucket(
    storage: ExternalStorage, root: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """Those before it are not asked for again; the copy is removed."""
    data = random_bytes(20 * MIB)
    [url] = spill(storage, data)
    copy = copy_of(root, url)
    with copy.open("r+b") as file:
        file.seek(int((block + 0.5) * copy.stat().st_size / 3))
        file.write(b"wrong")
    read: list[tuple[int, int]] = []
    read_range = ObstoreReader.read

    async def record(reader: ObstoreReader, path: str, start: int, stop: int, *rest: Any) -> Any:
        read.append((start, stop))
        return await read_range(reader, path, start, stop, *rest)

    monkeypatch.setattr(ObstoreReader, "read", record)
    assert restore(storage, url) == data
    assert min(read)[0] == block * (len(data) + 24) // 3
    assert max(read)[1] == len(data) + 24
    assert not copy.exists()


def test_a_wrong_block_that_the_bucket_lacks_is_an_error(
    storage: ExternalStorage, root: Path
) -> None:
    """Of the bucket: no wrong byte is restored, and the object store discards the object."""
    [url] = spill(storage, random_bytes(20 * MIB))
    with copy_of(root, url).open("r+b") as file:
        file.seek(15 * MIB)
        file.write(b"wrong")
    remove_from_bucket(url)
    with pytest.raises(StorageNotFoundError):
        restore(storage, url)
    assert len(storage.object_store) == 0  # type: ignore[arg-type]


def remove_from_bucket(url: str) -> None:
    fs, path = fsspec.core.url_to_fs(url.partition("?")[0])
    fs.rm_file(path)


def test_bytes_that_the_system_has_in_memory_are_read_in_place(
    storage: ExternalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All blocks but the first, which is verified before there is an object to read it into."""
    if local_file._ONLY_CACHED is None:
        pytest.skip("reads that do not wait exist on Linux only")
    data = random_bytes(20 * MIB)
    [url] = spill(storage, data)
    read: list[int] = []
    pread = os.pread

    def record(fd: int, size: int, position: int) -> bytes:
        read.append(size)
        return pread(fd, size, position)

    monkeypatch.setattr(os, "pread", record)
    assert restore(storage, url) == data
    assert sum(read) <= 8 * MIB


def test_bytes_that_the_disk_must_be_waited_for_are_read_too(
    storage: ExternalStorage, recorder: RequestRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no read that does not wait succeeds, as on tmpfs and some overlays."""
    monkeypatch.setattr(local_file, "_ONLY_CACHED", None)
    data = random_bytes(20 * MIB)
    [url] = spill(storage, data)
    recorder.requests()
    assert restore(storage, url) == data
    assert recorder.requests() == []


@pytest.mark.parametrize("function", ["open", "pread", "close"])
def test_a_disk_that_hangs_while_a_copy_is_read_is_waited_for_once(
    storage: ExternalStorage, root: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """The bucket answers, for this object and for the next, and no thread of Ray waits."""
    data = random_bytes(20 * MIB)
    [url] = spill(storage, data)
    assert restore(storage, url) == data
    monkeypatch.setattr(background, "_FIRST_PAUSE", PATIENCE)  # a probe would hang too
    mount = HungMount(str(root), monkeypatch)
    with mount.hung(function):
        assert restore(storage, url) == data
        waiting = mount.waiting
        assert waiting == 1
        assert restore(storage, url) == data
        if function != "close":  # which is called when the object is there
            assert mount.waiting == waiting


def test_a_deleted_file_has_no_copy(storage: ExternalStorage, root: Path) -> None:
    """At once, also where the bucket is not asked because it is unhealthy."""
    first, second = spill(storage, b"a" * 9 * MIB, b"b" * 9 * MIB)
    storage.delete_spilled_objects([first])
    assert not copy_of(root, first).exists()
    placement = storage.files.placement
    placement.mark_unhealthy(storage.files.locations[0], StorageNotFoundError("gone"))
    storage.delete_spilled_objects([second])
    assert not copy_of(root, second).exists()


def test_a_file_that_no_url_names_has_no_copy(
    storage: ExternalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a batch of which only the first file is stored, the rest is removed with its copies."""
    store = storage.object_store
    assert isinstance(store, InMemoryObjectStore)
    write = storage.files.transfer.write

    def lose_the_first(files: Any, retriers: Any) -> Any:
        lost = FailedWrite(StorageFullError("full"), [files[0][1]])
        return [lost, *write(files, retriers)[1:]]

    monkeypatch.setattr(storage.files.transfer, "write", lose_the_first)
    refs = [b"1", b"2"]
    for ref in refs:
        store.put(ref, bytes(9 * MIB))
    with pytest.raises(StorageFullError):
        storage.spill_objects(refs)
    assert not list(root.rglob("*-multi-*"))


def test_files_of_this_node_are_known_by_their_path() -> None:
    """A copy of another directory of the same name is none."""
    file = location().new_file(1, 1)
    assert file.is_of_this_node
    assert not FileRef(file.location, f"/other{file.path}").is_of_this_node
