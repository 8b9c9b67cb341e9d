"""Choice of the URI that gets a file."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fsspill import ExternalStorage, InMemoryObjectStore, StorageFullError, StorageRefusedError
from fsspill.placement import placement
from fsspill.testing.contract import split_url
from tests.at_rest import files

KIB = 2**10


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setattr("fsspill.placement.shared_state.gettempdir", lambda: str(state))


@pytest.fixture
def store() -> InMemoryObjectStore:
    found = InMemoryObjectStore()
    for number in range(12):
        found.put(number, bytes([number]) * 100 * KIB)
    return found


def make(tmp_path: Path, store: InMemoryObjectStore, **arguments: Any) -> ExternalStorage:
    uris = [f"file://{tmp_path}/{name}" for name in "abc"]
    defaults: dict[str, Any] = {"file_size": KIB, "node_id": "n", "session_name": "s"}
    return ExternalStorage(uris, object_store=store, **(defaults | arguments))


def places(urls: list[bytes], tmp_path: Path) -> dict[str, int]:
    """Return the number of files in each directory."""
    return Counter(Path(split_url(url)[0]).relative_to(tmp_path).parts[0] for url in urls)


def test_round_robin_distributes_files_evenly(tmp_path: Path, store: InMemoryObjectStore) -> None:
    """Each URI gets the same number of files, across batches too."""
    storage = make(tmp_path, store)
    urls = storage.spill_objects(range(6)) + storage.spill_objects(range(6, 12))
    assert places(urls, tmp_path) == {"a": 4, "b": 4, "c": 4}


def test_in_order_fills_the_first_healthy_uri(tmp_path: Path, store: InMemoryObjectStore) -> None:
    """The first URI gets all files while it is healthy and has room."""
    storage = make(tmp_path, store, policy="in_order")
    assert places(storage.spill_objects(range(12)), tmp_path) == {"a": 12}


def test_a_uri_gets_no_more_than_max_bytes(tmp_path: Path, store: InMemoryObjectStore) -> None:
    """Further files go to the next URI; deleting makes room again."""
    storage = make(tmp_path, store, policy="in_order", max_bytes=450 * KIB)
    urls = storage.spill_objects(range(6))
    assert places(urls, tmp_path) == {"a": 4, "b": 2}
    storage.delete_spilled_objects(urls[:1])
    assert places(storage.spill_objects([6, 7, 8]), tmp_path) == {"a": 1, "b": 2}


def test_processes_of_a_node_share_max_bytes(tmp_path: Path, store: InMemoryObjectStore) -> None:
    """Files of one IO worker count for the next."""
    first = make(tmp_path, store, policy="in_order", max_bytes=450 * KIB)
    second = make(tmp_path, store, policy="in_order", max_bytes=450 * KIB)
    first.spill_objects(range(3))
    assert places(second.spill_objects(range(3, 6)), tmp_path) == {"a": 1, "b": 2}


def test_a_url_that_is_deleted_twice_makes_room_once(
    tmp_path: Path, store: InMemoryObjectStore
) -> None:
    """By whichever process, and in one call or two."""
    storage = make(tmp_path, store, policy="in_order", max_bytes=450 * KIB)
    urls = storage.spill_objects(range(4))
    storage.delete_spilled_objects([urls[0], urls[0]])
    make(tmp_path, store, max_bytes=450 * KIB).delete_spilled_objects(urls[:1])
    assert places(storage.spill_objects([4, 5, 6]), tmp_path) == {"a": 1, "b": 2}


def test_a_batch_beyond_all_limits_keeps_the_leading_objects(
    tmp_path: Path, store: InMemoryObjectStore
) -> None:
    """They are spilled; the next error names the room at each URI."""
    storage = make(tmp_path, store, max_bytes=250 * KIB)
    urls = storage.spill_objects(range(12))
    assert places(urls, tmp_path) == {"a": 2, "b": 2, "c": 2}
    assert len(files(tmp_path / "a") + files(tmp_path / "b") + files(tmp_path / "c")) == 6
    with pytest.raises(StorageFullError, match=r"room for .* bytes within max_bytes"):
        storage.spill_objects(range(6, 12))
    storage.delete_spilled_objects(urls)
    assert len(storage.spill_objects(range(6))) == 6


def test_an_object_that_fits_nowhere_keeps_no_other_from_being_stored(
    tmp_path: Path, store: InMemoryObjectStore
) -> None:
    """One larger than max_bytes is refused by itself, and not tried again for a while."""
    storage = make(tmp_path, store, max_bytes=150 * KIB)
    store.put("large", bytes(200 * KIB))
    for number in range(3):
        with pytest.raises(StorageRefusedError, match="max_bytes is 153600"):
            storage.spill_objects(["large", number])
        assert len(storage.spill_objects([number, "large"])) == 1


def test_a_fused_file_that_fits_nowhere_is_split(
    tmp_path: Path, store: InMemoryObjectStore
) -> None:
    """Its objects fit one by one."""
    storage = make(tmp_path, store, max_bytes=250 * KIB, file_size=600 * KIB)
    assert places(storage.spill_objects(range(6)), tmp_path) == {"a": 2, "b": 2, "c": 2}


def test_min_free_bytes_are_left_on_a_disk(
    tmp_path: Path, store: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that would leave less goes to the next URI."""
    free = {"a": 350 * KIB, "b": 100 * KIB, "c": 10**9}
    monkeypatch.setattr(placement, "_free_bytes", lambda root: free[Path(root).name])
    storage = make(tmp_path, store, policy="in_order", min_free_bytes=100 * KIB)
    assert places(storage.spill_objects(range(4)), tmp_path) == {"a": 2, "c": 2}


def test_free_bytes_of_a_missing_directory_are_those_of_its_disk(tmp_path: Path) -> None:
    """The directory is created with the first file."""
    found = os.statvfs(tmp_path)
    free = found.f_bavail * found.f_frsize
    assert placement._free_bytes(f"{tmp_path}/not/there/yet") == pytest.approx(free, rel=0.5)


def test_files_for_a_full_disk_go_to_the_next(
    tmp_path: Path, store: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC in the middle of a file leaves nothing there, and the next URI gets the file."""
    real = os.writev

    def writev(fd: int, buffers: Any) -> int:
        if "/a/" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(28, "No space left on device")
        return real(fd, buffers)

    monkeypatch.setattr(os, "writev", writev)
    storage = make(tmp_path, store, policy="in_order")
    urls = storage.spill_objects(range(6))
    assert places(urls, tmp_path) == {"b": 6}
    assert files(tmp_path / "a") == []
    for number in range(6):
        store.delete(number)
    assert storage.restore_spilled_objects(range(6), urls) == 600 * KIB
    storage.destroy_external_storage()
