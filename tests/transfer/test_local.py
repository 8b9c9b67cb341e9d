"""Local directories: permissions, full disks, files of any size."""

from __future__ import annotations

import mmap
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsspill import (
    CorruptObjectError,
    ExternalStorage,
    InMemoryObjectStore,
    StorageNotFoundError,
    StoragePermissionError,
    StorageUnavailableError,
)
from fsspill.object_store import FileLike
from fsspill.testing.contract import split_url
from tests.at_rest import files
from tests.other_users import OTHER, needs_root, public_directory

MIB = 2**20


@pytest.fixture
def store() -> InMemoryObjectStore:
    return InMemoryObjectStore()


@pytest.fixture
def storage(tmp_path: Path, store: InMemoryObjectStore) -> ExternalStorage:
    return ExternalStorage(f"file://{tmp_path}/spill", object_store=store, node_id="n")


@pytest.fixture
def file_limit() -> Iterator[int]:
    """Limit the files of this process to 1 MiB, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    yield MIB
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_missing_mount_does_not_lose_objects(tmp_path: Path) -> None:
    """The files of a shared directory that this node does not see may still exist."""
    storage = ExternalStorage(f"file://{tmp_path}/mount", shared=True)
    store = storage.object_store
    assert isinstance(store, InMemoryObjectStore)
    store.put(b"x", b"data")
    urls = storage.spill_objects([b"x"])
    store.delete(b"x")
    (tmp_path / "mount").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageUnavailableError, match=r"check .* the mount"):
        storage.restore_spilled_objects([b"x"], urls)
    (tmp_path / "mount").mkdir()
    with pytest.raises(StorageNotFoundError):
        storage.restore_spilled_objects([b"x"], urls)


def test_a_full_disk_keeps_the_leading_objects(
    storage: ExternalStorage, store: InMemoryObjectStore, tmp_path: Path, file_limit: int
) -> None:
    """Files before the one that did not fit stay; that one and those after it leave nothing."""
    large = bytearray(9 * MIB)
    for ref, data in {b"a": b"x" * 1000, b"b": large, b"c": b"y"}.items():
        store.put(ref, data)
    urls = storage.spill_objects([b"a", b"b", b"c"])
    assert len(urls) == 1
    assert files(tmp_path) == [Path(split_url(urls[0])[0])]
    assert storage.restore_spilled_objects([b"a"], urls) == 1000
    store.delete(b"b")
    large.append(0)  # raises BufferError while anybody holds a view


def test_a_failure_of_the_first_file_raises(
    storage: ExternalStorage, store: InMemoryObjectStore, tmp_path: Path, file_limit: int
) -> None:
    """Nothing was spilled: the error names place and reason, and no file is left."""
    store.put(b"b", bytes(9 * MIB))
    with pytest.raises(StorageUnavailableError, match=str(tmp_path)):
        storage.spill_objects([b"b"])
    assert files(tmp_path) == []


def test_files_are_private_to_the_user(
    storage: ExternalStorage, store: InMemoryObjectStore, tmp_path: Path
) -> None:
    """Directories of nodes have mode 0700, files 0600."""
    store.put(b"a", b"x")
    [url] = storage.spill_objects([b"a"])
    path = Path(split_url(url)[0])
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_removed_directory_is_created_again(
    storage: ExternalStorage, store: InMemoryObjectStore, tmp_path: Path
) -> None:
    """The removal of a node's directory does not stop spilling."""
    store.put(b"a", b"x")
    storage.spill_objects([b"a"])
    storage.destroy_external_storage()
    assert not (tmp_path / "spill" / "ray_spilled_objects_n").exists()
    [url] = storage.spill_objects([b"a"])
    assert storage.restore_spilled_objects([b"a"], [url]) == 1


@pytest.mark.parametrize("shared", [True, False])
def test_a_link_in_place_of_the_directory_of_a_node_is_refused(
    tmp_path: Path, store: InMemoryObjectStore, shared: bool
) -> None:
    """It leads to where others can replace what is unpickled; destruction removes nothing there."""
    storage = ExternalStorage(
        f"file://{tmp_path}/spill",
        shared=shared,
        object_store=store,
        node_id="n",
        session_name="s",
    )
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_bytes(b"precious")
    node = tmp_path / "spill" / ("s" if shared else "") / "ray_spilled_objects_n"
    node.parent.mkdir(parents=True)
    node.symlink_to(tmp_path / "victim")
    store.put(b"a", b"x")
    with pytest.raises(StoragePermissionError, match=f"{node}, found a link"):
        storage.spill_objects([b"a"])
    storage.destroy_external_storage()
    assert files(tmp_path / "victim") == [tmp_path / "victim" / "file"]


@needs_root
def test_the_directory_of_a_node_that_another_user_made_is_refused(
    store: InMemoryObjectStore,
) -> None:
    """Its owner could replace the spilled files; the message names him and the directory."""
    with public_directory() as root:
        node = root / "ray_spilled_objects_n"
        node.mkdir()
        os.chown(node, OTHER, OTHER)
        storage = ExternalStorage(f"file://{root}", object_store=store, node_id="n")
        store.put(b"a", b"x")
        with pytest.raises(StoragePermissionError, match=f"{node}, found one of user {OTHER}"):
            storage.spill_objects([b"a"])
        assert list(node.iterdir()) == []


def test_check_names_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """A file where the directory should be is an error that names the URI."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=f"cannot spill to file://{tmp_path}/file/x"):
        ExternalStorage(f"file://{tmp_path}/file/x").check()


def test_a_directory_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    """/proc takes no directories, not even of root."""
    with pytest.raises((StorageNotFoundError, PermissionError), match="cannot spill to file:///"):
        ExternalStorage("file:///proc/fsspill").check()


def test_a_file_truncated_during_a_read_is_corrupt(
    storage: ExternalStorage, store: InMemoryObjectStore
) -> None:
    """The read at the end raises: it neither returns 0, which loops for ever in Ray, nor short."""
    store.put(b"a", bytes(MIB))
    [url] = storage.spill_objects([b"a"])
    path = Path(split_url(url)[0])

    class Shrinking(InMemoryObjectStore):
        def put_file_like_object(
            self, metadata: bytes, size: int, file_like: FileLike, ref: object, owner: bytes, /
        ) -> None:
            path.write_bytes(path.read_bytes()[:5000])
            super().put_file_like_object(metadata, size, file_like, ref, owner)

    storage.object_store = Shrinking()
    with pytest.raises(CorruptObjectError, match="found the end of the file"):
        storage.restore_spilled_objects([b"b"], [url])
    assert len(storage.object_store) == 0


def test_thousands_of_small_objects_fit_into_one_batch(
    storage: ExternalStorage, store: InMemoryObjectStore
) -> None:
    """More buffers than the system takes in one call are written in several."""
    refs = list(range(3000))
    for ref in refs:
        store.put(ref, b"%d" % ref, metadata=b"m")
    urls = storage.spill_objects(refs)
    for ref in refs:
        store.delete(ref)
    storage.restore_spilled_objects(refs, urls)
    assert all(store.get(ref) == b"%d" % ref for ref in refs)


@pytest.mark.nightly
def test_an_object_above_4_gib_is_restored(
    storage: ExternalStorage, store: InMemoryObjectStore, tmp_path: Path
) -> None:
    """Lengths beyond 32 bits, and beyond one system call, are handled."""
    size = 4 * 2**30 + 5
    with mmap.mmap(-1, size) as data:
        data[0], data[size // 2], data[-1] = 1, 2, 3
        store.put(b"a", data)
        [url] = storage.spill_objects([b"a"])
        store.delete(b"a")
        assert storage.restore_spilled_objects([b"a"], [url]) == size
        found = store.get(b"a")
        assert (len(found), found[0], found[size // 2], found[-1]) == (size, 1, 2, 3)
        store.delete(b"a")
