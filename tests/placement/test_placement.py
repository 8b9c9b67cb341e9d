"""Which URI gets a file."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fsspill import ConfigError, ExternalStorage, InMemoryObjectStore, StorageFullError
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
    return ExternalStorage(
        uris, object_store=store, file_size=KIB, node_id="n", session_name="s", **arguments
    )


def places(urls: list[bytes], tmp_path: Path) -> dict[str, int]:
    """Return how many of the files lie in each directory."""
    return Counter(Path(split_url(url)[0]).relative_to(tmp_path).parts[0] for url in urls)


def test_round_robin(tmp_path: Path, store: InMemoryObjectStore) -> None:
    """Each URI gets the same number of files, over batches too."""
    storage = make(tmp_path, store)
    urls = storage.spill_objects(range(6)) + storage.spill_objects(range(6, 12))
    assert places(urls, tmp_path) == {"a": 4, "b": 4, "c": 4}


def test_in_order(tmp_path: Path, store: InMemoryObjectStore) -> None:
    """The first URI gets all, as long as it is healthy and has room."""
    storage = make(tmp_path, store, policy="in_order")
    assert places(storage.spill_objects(range(12)), tmp_path) == {"a": 12}


def test_max_bytes_fills_one_after_another(tmp_path: Path, store: InMemoryObjectStore) -> None:
    """A node has no more than that at a URI; what is deleted makes room again."""
    storage = make(tmp_path, store, policy="in_order", max_bytes=450 * KIB)
    urls = storage.spill_objects(range(6))
    assert places(urls, tmp_path) == {"a": 4, "b": 2}
    storage.delete_spilled_objects(urls[:1])
    assert places(storage.spill_objects([6, 7, 8]), tmp_path) == {"a": 1, "b": 2}


def test_all_processes_of_a_node_share_the_limit(
    tmp_path: Path, store: InMemoryObjectStore
) -> None:
    """What one IO worker has spilled counts for the next."""
    first = make(tmp_path, store, policy="in_order", max_bytes=450 * KIB)
    second = make(tmp_path, store, policy="in_order", max_bytes=450 * KIB)
    first.spill_objects(range(3))
    assert places(second.spill_objects(range(3, 6)), tmp_path) == {"a": 1, "b": 2}


def test_a_batch_beyond_all_limits_returns_what_fits(
    tmp_path: Path, store: InMemoryObjectStore
) -> None:
    """The leading objects are spilled; then the error says how much room there is where."""
    storage = make(tmp_path, store, max_bytes=250 * KIB)
    urls = storage.spill_objects(range(12))
    assert places(urls, tmp_path) == {"a": 2, "b": 2, "c": 2}
    assert len(files(tmp_path / "a") + files(tmp_path / "b") + files(tmp_path / "c")) == 6
    with pytest.raises(StorageFullError, match=r"room for .* bytes within max_bytes"):
        storage.spill_objects(range(6, 12))
    storage.delete_spilled_objects(urls)
    assert len(storage.spill_objects(range(6))) == 6


def test_min_free_bytes(
    tmp_path: Path, store: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk is left alone before it has less than that free."""
    free = {"a": 350 * KIB, "b": 100 * KIB, "c": 10**9}
    monkeypatch.setattr(placement, "_free_bytes", lambda root: free[Path(root).name])
    storage = make(tmp_path, store, policy="in_order", min_free_bytes=100 * KIB)
    assert places(storage.spill_objects(range(4)), tmp_path) == {"a": 2, "c": 2}


def test_free_bytes_are_those_of_the_disk(tmp_path: Path) -> None:
    """Also of a directory that is yet to be made."""
    found = os.statvfs(tmp_path)
    free = found.f_bavail * found.f_frsize
    assert placement._free_bytes(f"{tmp_path}/not/there/yet") == pytest.approx(free, rel=0.5)


def test_a_full_disk_is_a_reason_to_go_on(
    tmp_path: Path, store: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC in the middle of a file: nothing stays there, and the next URI gets it."""
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": "nonsense"}, "expected one of round_robin, in_order"),
        ({"policy": None}, "expected one of"),
        ({"max_bytes": 0}, "expected 1 or more"),
        ({"max_bytes": "1"}, "expected an integer"),
        ({"min_free_bytes": -1}, "expected 0 or more"),
        ({"min_free_bytes": 1.5}, "expected an integer"),
        ({"stall_timeout": 0}, "expected 1 or more"),
        ({"stall_timeout": "1"}, "expected a number"),
        ({"stall_timeout": float("nan")}, "expected 1 or more"),
        ({"digest": "md5"}, "expected one of xxh3_128, sha256"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    """Each parameter is checked when the storage is made."""
    [name] = arguments
    with pytest.raises(ConfigError, match=message) as caught:
        ExternalStorage(f"file://{tmp_path}", **arguments)
    assert f"{name}=" in str(caught.value)


def test_min_free_bytes_is_for_local_directories() -> None:
    """Other storage does not say how much is free."""
    with pytest.raises(ConfigError, match=r"min_free_bytes.*max_bytes"):
        ExternalStorage("memory://x", min_free_bytes=1)
