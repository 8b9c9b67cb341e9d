"""What Ray calls in an IO worker, on an object store of ours (test_ray_faults.py has real ones)."""

from __future__ import annotations

import logging
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import ray.exceptions

from fsspill import FsspillError, InMemoryObjectStore
from fsspill.ray.core_worker import CoreWorkerStore
from fsspill.ray.errors import SpilledObjectLostError
from fsspill.ray.io_worker import FailedStorage, IOWorkerStorage
from fsspill.testing.contract import split_url
from tests.at_rest import files
from tests.running import poll


class OurStore(InMemoryObjectStore, CoreWorkerStore):
    """Objects in this process; errors are put as they are."""

    def __init__(self) -> None:
        InMemoryObjectStore.__init__(self)
        self.errors: dict[Any, Exception] = {}

    def put_error(self, object_ref: Any, error: Exception) -> None:
        self.errors[object_ref] = error


class Storage(IOWorkerStorage):
    """An IO worker's storage on such a store."""

    def __init__(self, uri: str, lost_after: float = 3600, shared: bool = False) -> None:
        names = {"node_id": "node", "session_name": f"session_{uuid.uuid4().hex}"}
        super().__init__(uri=uri, shared=shared, lost_after=lost_after, **names)
        self.store = self.object_store = self._core_worker = OurStore()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spill"


@pytest.fixture
def storage(directory: Path) -> Iterator[Storage]:
    found = Storage(f"file://{directory}")
    found.store.put(b"ref", b"some data", metadata=b"RAW")
    yield found
    found.destroy_external_storage()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.endswith("core_worker")]


def break_directory(directory: Path) -> None:
    """Put a file where the directory of the node should be, so that nothing can be written."""
    directory.mkdir()
    (directory / "ray_spilled_objects_node").write_text("in the way")


def test_a_spill_that_fails_returns_nothing_and_is_told_once(
    directory: Path, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    """Ray calls again every 10 ms: a hundred calls raise nothing, and say it once."""
    break_directory(directory)
    with caplog.at_level(logging.WARNING):
        assert [storage.spill_objects([b"ref"], [b""]) for _ in range(100)] == [[]] * 100
    assert len([line for line in told(caplog) if "cannot write" in line]) == 2  # why, and so what
    assert any("given up until a probe succeeds" in line for line in told(caplog))
    assert any("Objects stay in memory" in line for line in told(caplog))


def test_a_node_s_own_disk_gets_no_sign_of_life(
    directory: Path, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the spilled file is written, there or anywhere else."""
    monkeypatch.chdir(tmp_path)
    [url] = storage.spill_objects([b"ref"], [b""])
    storage._heartbeat.write()
    assert [str(path) for path in files(tmp_path) if "records" not in str(path)] == [
        split_url(url)[0]
    ]


def test_a_shared_directory_gets_one(directory: Path, tmp_path: Path) -> None:
    """The sign is there after the first spill, and goes with the node."""
    storage = Storage(f"file://{directory}", shared=True)
    storage.store.put(b"ref", b"some data")
    storage.spill_objects([b"ref"], [b""])
    poll(lambda: list(directory.glob("session_*/fsspill_heartbeats/node")), "the heartbeat")
    storage.destroy_external_storage()
    assert list(tmp_path.rglob("*/fsspill_heartbeats/*")) == []


def test_a_missing_object_is_no_reason_to_raise(storage: Storage) -> None:
    """Nothing that a spill meets is raised."""
    assert storage.spill_objects([b"not there"], [b""]) == []


def test_an_object_that_is_gone_becomes_an_error(storage: Storage) -> None:
    """The restore counts as done for Ray, and what is put says object, URL and reason."""
    [url] = storage.spill_objects([b"ref"], [b""])
    storage.delete_spilled_objects([url])
    assert storage.restore_spilled_objects([b"ref"], [url]) == 0
    error = storage.store.errors[b"ref"]
    assert isinstance(error, SpilledObjectLostError)
    assert isinstance(error, ray.exceptions.ObjectLostError)
    for part in (b"ref".hex(), split_url(url)[0], "No such file"):
        assert part in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is SpilledObjectLostError
    assert str(again) == str(error)


def test_an_object_that_was_truncated_becomes_an_error(storage: Storage) -> None:
    """Wrong for good is as lost as gone."""
    [url] = storage.spill_objects([b"ref"], [b""])
    Path(split_url(url)[0]).write_bytes(b"short")
    assert storage.restore_spilled_objects([b"ref"], [url]) == 0
    assert "truncated or replaced" in str(storage.store.errors[b"ref"])


def unreachable(storage: Storage, url: bytes) -> None:
    """Let the file be something that cannot be read: a directory."""
    path = Path(split_url(url)[0])
    path.unlink()
    path.mkdir()


def test_an_object_that_cannot_be_reached_stays_retryable(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    """The restore raises each time, the drivers are told once, and no error is put."""
    [url] = storage.spill_objects([b"ref"], [b""])
    unreachable(storage, url)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            with pytest.raises(FsspillError, match=split_url(url)[0]) as caught:
                storage.restore_spilled_objects([b"ref"], [url])
            assert caught.value.__cause__ is None  # its text may show what must not be shown
    assert storage.store.errors == {}
    assert len([line for line in told(caplog) if "Ray tries again" in line]) == 1


def test_an_object_that_was_out_of_reach_for_long_is_lost(directory: Path) -> None:
    """After lost_after seconds, and not before it comes back in between."""
    storage = Storage(f"file://{directory}", lost_after=0)
    storage.store.put(b"ref", b"some data", metadata=b"RAW")
    [url] = storage.spill_objects([b"ref"], [b""])
    unreachable(storage, url)
    assert storage.restore_spilled_objects([b"ref"], [url]) == 0
    assert "lost_after" in str(storage.store.errors[b"ref"])
    storage.destroy_external_storage()


def test_a_lost_object_is_told_with_its_time_out_of_reach(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of a second is not rounded to nothing."""
    monkeypatch.setattr("fsspill.ray.io_worker.RestoreFailures.failing_for", lambda *_: 0.25)
    storage = Storage(f"file://{directory}", lost_after=0)
    storage.store.put(b"ref", b"some data", metadata=b"RAW")
    [url] = storage.spill_objects([b"ref"], [b""])
    unreachable(storage, url)
    assert storage.restore_spilled_objects([b"ref"], [url]) == 0
    assert "for 0.25 s (lost_after)" in str(storage.store.errors[b"ref"])
    storage.destroy_external_storage()


def test_a_restore_that_succeeds_forgets_that_it_failed(storage: Storage) -> None:
    """The time out of reach begins anew."""
    [url] = storage.spill_objects([b"ref"], [b""])
    path = Path(split_url(url)[0])
    data = path.read_bytes()
    unreachable(storage, url)
    with pytest.raises(FsspillError):
        storage.restore_spilled_objects([b"ref"], [url])
    assert storage._state.read("unrestored", url.decode()) is not None
    path.rmdir()
    path.write_bytes(data)
    storage.store.delete(b"ref")
    assert storage.restore_spilled_objects([b"ref"], [url]) == len(b"some data")
    assert storage._state.read("unrestored", url.decode()) is None


def test_a_stream_that_went_wrong_for_good_is_known_to_the_next_worker(storage: Storage) -> None:
    """The worker that had to be ended leaves the reason; the next answers without looking."""
    [url] = storage.spill_objects([b"ref"], [b""])
    storage._restoring = url.decode()
    from fsspill import CorruptObjectError

    storage._remember_failure(CorruptObjectError("a later block was wrong"))
    assert storage.restore_spilled_objects([b"ref"], [url]) == 0
    assert "a later block was wrong" in str(storage.store.errors[b"ref"])


def test_a_deletion_never_raises(storage: Storage) -> None:
    """Not even of what is refused."""
    storage.delete_spilled_objects(["/etc/passwd?offset=0&size=1", "nonsense", b"\xff"])


def test_what_was_not_deleted_is_tried_again_without_another_deletion(
    directory: Path, storage: Storage
) -> None:
    """Ray may give the next deletion to another process, so a spill is the occasion too."""
    [url] = storage.spill_objects([b"ref"], [b""])
    path = Path(split_url(url)[0])
    data = path.read_bytes()
    unreachable(storage, url)
    storage.delete_spilled_objects([url])
    path.rmdir()
    path.write_bytes(data)
    storage.store.put(b"another", b"object")
    [other] = storage.spill_objects([b"another"], [b""])
    assert [str(file) for file in files(directory)] == [split_url(other)[0]]


def test_storage_that_was_never_set_up_says_why(caplog: pytest.LogCaptureFixture) -> None:
    """Spills return nothing; restores raise, since other nodes may restore the object."""
    storage = FailedStorage(ValueError("the package is missing"), "node", "session")
    with caplog.at_level(logging.WARNING):
        assert [storage.spill_objects([b"x"]) for _ in range(9)] == [[]] * 9
        with pytest.raises(ValueError, match="the package is missing"):
            storage.restore_spilled_objects([b"x"], [b"u"])
        storage.delete_spilled_objects([b"u"])
        storage.destroy_external_storage()
    assert len([line for line in told(caplog) if "the package is missing" in line]) == 1
