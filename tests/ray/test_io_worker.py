"""Storage of an IO worker, on an object store of the test (test_ray_faults.py has real ones)."""

from __future__ import annotations

import inspect
import logging
import pickle
import resource
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest

pytest.importorskip("ray")

import ray.exceptions
from ray._private import external_storage as rays

import fsspill
from fsspill import CorruptObjectError, FsspillError, InMemoryObjectStore, Settings, Storage
from fsspill.errors import StorageFullError
from fsspill.placement import background
from fsspill.placement.shared_state import SharedState
from fsspill.ray import SpilledObjectLostError
from fsspill.ray.core_worker import CoreWorkerStore
from fsspill.ray.io_worker import _CONFIRMATION_PAUSES, IOWorkerStorage
from fsspill.storage.local_files import OpenDirectory
from fsspill.testing.contract import split_url
from fsspill.testing.filesystems import register
from tests.at_rest import files
from tests.faults.fault_proxy import Fault, FaultProxy
from tests.ray.test_driver import notified
from tests.running import poll

MIB = 2**20


class ObjectStore(InMemoryObjectStore, CoreWorkerStore):
    """Objects in this process; errors are put as they are, and no process is ended."""

    def __init__(self, before_end: Callable[[BaseException], None]) -> None:
        InMemoryObjectStore.__init__(self)
        self.before_end = before_end
        self.errors: dict[Any, Exception] = {}

    def put_error(self, object_ref: Any, error: Exception) -> None:
        self.errors[object_ref] = error


class WorkerStorage(IOWorkerStorage):
    """An IO worker's storage on such a store."""

    def __init__(
        self, uri: str, lost_after: float = 3600, shared: bool = False, **settings: Any
    ) -> None:
        self.session_name = f"session_{uuid.uuid4().hex}"
        super().__init__(
            Settings(uri, shared=shared, lost_after=lost_after, **settings),
            node_id="node",
            session_name=self.session_name,
            make_object_store=ObjectStore,
        )

    @property
    def store(self) -> ObjectStore:
        assert isinstance(self._object_store, ObjectStore)
        return self._object_store


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spill"


@pytest.fixture
def storage(directory: Path) -> Iterator[WorkerStorage]:
    found = WorkerStorage(f"file://{directory}")
    found.store.put(b"ref", b"some data", metadata=b"RAW")
    yield found
    found.destroy_external_storage()


def break_directory(directory: Path) -> None:
    """Put a file where the directory of the node should be, so that nothing can be written."""
    directory.mkdir()
    (directory / "ray_spilled_objects_node").write_text("in the way")


def test_a_spill_that_fails_returns_nothing_and_is_notified_once(
    directory: Path, storage: WorkerStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """Ray calls again every 10 ms: a hundred calls raise nothing, and notify once."""
    break_directory(directory)
    with caplog.at_level(logging.WARNING):
        assert [storage.spill_objects([b"ref"], [b""]) for _ in range(100)] == [[]] * 100
    # The reason and the consequence in one line. There is no next URI.
    [line] = notified(caplog)
    assert "cannot write" in line
    assert "objects stay in memory" in line
    assert "next URI" not in line


def test_a_failover_is_notified_with_its_consequence(
    directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a second URI; with one, of which a part of a batch was taken, there is no other."""
    error = StorageFullError("cannot write file:///x: no space.")
    for uris, consequence in (
        ([f"file://{directory}", f"file://{tmp_path}/other"], "Writes go to the next URI"),
        ([f"file://{directory}"], "Until that is mended"),
    ):
        each = IOWorkerStorage(Settings(uris), node_id=uris[-1][-5:], session_name="s")
        each._failovers.append(error)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            each._notify_failovers()
        [line] = notified(caplog)
        assert line.startswith("cannot write file:///x: no space. ")
        assert consequence in line


def test_each_uri_that_fails_is_notified(
    directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also a moment after another, or after one whose URI is the beginning of its own; once."""
    uris = [f"file://{directory}", f"file://{directory}2", f"file://{tmp_path}/third"]
    each = IOWorkerStorage(Settings(uris), node_id="node", session_name=uuid.uuid4().hex)
    for uri in uris * 2:
        error = StorageFullError(f"cannot write {uri}/x: full.")
        error.uri = uri
        each._failovers.append(error)
    with caplog.at_level(logging.WARNING):
        each._notify_failovers()
    assert [line.split()[2] for line in notified(caplog)] == [f"{uri}/x:" for uri in uris]


def test_objects_that_no_uri_takes_are_held_for_some_seconds(
    directory: Path, storage: WorkerStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray has nothing to spill meanwhile: it falls back to disk only after seconds without a spill.

    Objects that are spilled are not held, and none are once the storage is destroyed.
    """
    monkeypatch.setattr(background, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(background, "_LONGEST_PAUSE", 0.05)
    break_directory(directory)
    refs = [b"ref", b"other"]
    storage.store.put(b"other", b"some data")
    assert storage.spill_objects(refs, [b""] * 2) == []
    assert set(storage._held._held) == {ref.hex() for ref in refs}
    monkeypatch.setattr("fsspill.ray.io_worker.HOLD_SECONDS", 0.0)
    assert storage.spill_objects(refs, [b""] * 2) == []
    poll(lambda: not storage._held._held, "the objects to be released")
    (directory / "ray_spilled_objects_node").unlink()
    poll(lambda: len(storage.spill_objects(refs, [b""] * 2)) == 2, "the directory to be used")
    poll(lambda: not storage._held._held, "the objects to be released")


def test_a_refused_object_is_held_and_the_others_are_spilled(
    storage: WorkerStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """Ray then leaves it out of its batches; the drivers are notified in one line."""
    storage.store.put(b"large", bytes(2 * MIB))
    storage.store.put(b"last", b"some data")
    with largest_file(MIB), caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert len(storage.spill_objects([b"ref", b"large", b"last"], [b""] * 3)) == 1
        assert storage.spill_objects([b"large"], [b""]) == []
        assert set(storage._held._held) == {b"large".hex()}
        assert len(storage.spill_objects([b"last"], [b""])) == 1
    [line] = [line for line in notified(caplog) if "stays in memory" in line]
    assert f"Object {b'large'.hex()} " in line
    assert not any("unhealthy" in line for line in caplog.messages)
    storage.destroy_external_storage()
    assert not storage._held._held


@contextmanager
def largest_file(nbytes: int) -> Iterator[None]:
    """Limit the files of this process: the system refuses larger ones with EFBIG."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_node_local_directory_gets_no_heartbeat(
    directory: Path, storage: WorkerStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the spilled file is written, there or anywhere else."""
    monkeypatch.chdir(tmp_path)
    [url] = storage.spill_objects([b"ref"], [b""])
    storage._heartbeat.write()
    assert [str(path) for path in files(tmp_path) if "records" not in str(path)] == [
        split_url(url)[0]
    ]


def test_a_shared_directory_gets_a_heartbeat(directory: Path, tmp_path: Path) -> None:
    """It is written after the first spill, and removed with the node."""
    storage = WorkerStorage(f"file://{directory}", shared=True)
    storage.store.put(b"ref", b"some data")
    storage.spill_objects([b"ref"], [b""])
    poll(lambda: list(directory.glob("session_*/fsspill_heartbeats/node")), "the heartbeat")
    storage.destroy_external_storage()
    assert list(tmp_path.rglob("*/fsspill_heartbeats/*")) == []


def test_no_heartbeat_before_anything_is_stored(directory: Path) -> None:
    """A node that has stored nothing writes no heartbeat, nor does a spill of no objects."""
    storage = WorkerStorage(f"file://{directory}", shared=True)
    assert storage.spill_objects([], []) == []
    assert storage._heartbeat._thread.ident is None
    storage.destroy_external_storage()
    assert not directory.exists()


def test_a_spill_of_a_missing_object_does_not_raise(storage: WorkerStorage) -> None:
    """No failure of a spill is raised."""
    assert storage.spill_objects([b"not there"], [b""]) == []


def test_an_object_whose_file_is_gone_is_lost(storage: WorkerStorage) -> None:
    """For Ray the restore is done; the error that is put names object, URL and reason."""
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


def test_many_lost_objects_are_one_line(
    directory: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has emptied the bucket: each error names its object, the log only the first."""
    monkeypatch.setattr("fsspill.ray.io_worker._CONFIRMATION_PAUSES", ())
    storage = WorkerStorage(f"file://{directory}", file_size=1)
    refs = [f"ref{number}".encode() for number in range(20)]
    for ref in refs:
        storage.store.put(ref, b"some data")
    urls = storage.spill_objects(refs, [b""] * len(refs))
    assert len(urls) == len(refs)
    for url in urls:
        Path(split_url(url)[0]).unlink()
    for ref, url in zip(refs, urls, strict=True):
        storage.restore_spilled_objects([ref], [url])
    assert len(storage.store.errors) == len(refs)
    assert caplog.text.count("cannot be restored") == 1
    storage.destroy_external_storage()


def test_objects_that_cannot_be_held_are_one_line(
    directory: Path,
    storage: WorkerStorage,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray calls again every 10 ms meanwhile."""
    break_directory(directory)

    def fail(*arguments: object) -> None:
        raise RuntimeError("not connected")

    monkeypatch.setattr(storage._held, "hold", fail)
    assert [storage.spill_objects([b"ref"], [b""]) for _ in range(100)] == [[]] * 100
    assert caplog.text.count("spilled again at once: not connected") == 1


def test_an_object_whose_file_was_truncated_is_lost(storage: WorkerStorage) -> None:
    """Corrupt is as lost as missing."""
    [url] = storage.spill_objects([b"ref"], [b""])
    Path(split_url(url)[0]).write_bytes(b"short")
    assert storage.restore_spilled_objects([b"ref"], [url]) == 0
    assert "truncated or replaced" in str(storage.store.errors[b"ref"])


@pytest.mark.parametrize("answer", ["missing", "truncated", "altered"])
def test_an_object_that_is_lost_for_a_moment_is_restored(
    directory: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """An ingress in failover answers 404, or with half a file: asked again, the storage has it."""
    storage = WorkerStorage(f"file://{directory}", shared=True)
    storage.store.put(b"ref", b"some data", metadata=b"RAW")
    [url] = storage.spill_objects([b"ref"], [b""])
    storage.store.delete(b"ref")
    path = Path(split_url(url)[0])
    data = path.read_bytes()
    if answer == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:10] if answer == "truncated" else data[:-1] + b"?")
    pauses: list[float] = []

    def recover(seconds: float) -> None:
        if seconds in _CONFIRMATION_PAUSES:  # others are those between two reads of a block
            pauses.append(seconds)
        if len(pauses) == 2:
            path.write_bytes(data)

    monkeypatch.setattr("time.sleep", recover)
    assert storage.restore_spilled_objects([b"ref"], [url]) == len(b"some data")
    assert storage.store.errors == {}
    assert tuple(pauses) == _CONFIRMATION_PAUSES[:2]
    storage.destroy_external_storage()


ATTEMPTS = len(_CONFIRMATION_PAUSES) + 1


@contextmanager
def missing_locally(count: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a directory have no file when it is opened to be read, so many times."""
    opened, left = OpenDirectory.open, iter(range(count))

    def open_file(self: OpenDirectory, name: str) -> int:
        if "-multi-" in name and next(left, None) is not None:
            raise FileNotFoundError(2, "No such file or directory", name)
        return opened(self, name)

    with monkeypatch.context() as patched:
        patched.setattr(OpenDirectory, "open", open_file)
        yield
    assert next(left, None) is None


@contextmanager
def missing_in_memory(count: int) -> Iterator[None]:
    """Let a filesystem have no file when it is read, so many times."""
    faulty = fsspec.filesystem("faulty", target_protocol="memory")
    faulty.fail("cat_ranges", FileNotFoundError("no such file"), times=count)
    yield
    faulty.clear()


@pytest.mark.parametrize("kind", ["node-local", "shared", "memory", "s3"])
@pytest.mark.parametrize("found", [True, False])
def test_a_file_is_lost_only_if_no_attempt_finds_it(
    kind: str,
    found: bool,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of four attempts that does is enough: a mount or a server may be wrong for a moment."""
    monkeypatch.setattr("fsspill.ray.io_worker._CONFIRMATION_PAUSES", [0.01] * (ATTEMPTS - 1))
    count = ATTEMPTS - found
    if kind == "s3":
        # On the first attempt obstore asks, and then the filesystem; and so on.
        proxy: FaultProxy = request.getfixturevalue("proxy")
        uri, answers = "s3://bucket/uri", proxy.inject(Fault.MISSING, count=2 * count)
    elif kind == "memory":
        register()
        uri, answers = f"faulty://{uuid.uuid4().hex}", missing_in_memory(count)
    else:
        uri, answers = f"file://{tmp_path}/uri", missing_locally(count, monkeypatch)
    options = {"target_protocol": "memory"} if kind == "memory" else {}
    storage = WorkerStorage(uri, shared=kind == "shared", storage_options=options)
    storage.store.put(b"ref", b"some data")
    [url] = storage.spill_objects([b"ref"], [b""])
    storage.store.delete(b"ref")
    with answers:
        assert storage.restore_spilled_objects([b"ref"], [url]) == (9 if found else 0)
    assert (storage.store.errors == {}) is found
    assert (b"ref" in storage.store) is found
    storage.destroy_external_storage()


def unreachable(storage: WorkerStorage, url: bytes) -> None:
    """Put something that cannot be read in the place of the file: a directory."""
    path = Path(split_url(url)[0])
    path.unlink()
    path.mkdir()


def test_the_restore_of_an_unreachable_object_is_retried(
    storage: WorkerStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """It raises each time, the drivers are notified once, and no error is put."""
    [url] = storage.spill_objects([b"ref"], [b""])
    unreachable(storage, url)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            with pytest.raises(FsspillError, match=split_url(url)[0]) as caught:
                storage.restore_spilled_objects([b"ref"], [url])
            assert caught.value.__cause__ is None  # its text may show what must not be shown
    assert storage.store.errors == {}
    assert len([line for line in notified(caplog) if "Ray tries again" in line]) == 1


def test_an_object_that_was_unreachable_for_long_is_lost(directory: Path) -> None:
    """It is lost after lost_after seconds."""
    storage = WorkerStorage(f"file://{directory}", lost_after=0)
    storage.store.put(b"ref", b"some data", metadata=b"RAW")
    [url] = storage.spill_objects([b"ref"], [b""])
    unreachable(storage, url)
    assert storage.restore_spilled_objects([b"ref"], [url]) == 0
    assert "lost_after" in str(storage.store.errors[b"ref"])
    storage.destroy_external_storage()


def test_a_lost_object_names_its_unreachable_time(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of a second is not rounded to nothing."""
    monkeypatch.setattr("fsspill.ray.io_worker.RestoreFailures.record_failure", lambda *_: 0.25)
    storage = WorkerStorage(f"file://{directory}", lost_after=0)
    storage.store.put(b"ref", b"some data", metadata=b"RAW")
    [url] = storage.spill_objects([b"ref"], [b""])
    unreachable(storage, url)
    assert storage.restore_spilled_objects([b"ref"], [url]) == 0
    assert "Unreachable for 0.25 s (lost_after)." in str(storage.store.errors[b"ref"])
    storage.destroy_external_storage()


def test_a_restore_that_succeeds_clears_its_failures(storage: WorkerStorage) -> None:
    """The time of unreachability starts at zero again."""
    [url] = storage.spill_objects([b"ref"], [b""])
    path = Path(split_url(url)[0])
    data = path.read_bytes()
    unreachable(storage, url)
    with pytest.raises(FsspillError):
        storage.restore_spilled_objects([b"ref"], [url])
    state = SharedState(storage.session_name, "node")
    assert state.read("restore_failure", url.decode()) is not None
    path.rmdir()
    path.write_bytes(data)
    storage.store.delete(b"ref")
    assert storage.restore_spilled_objects([b"ref"], [url]) == len(b"some data")
    assert state.read("restore_failure", url.decode()) is None


def test_the_next_worker_knows_that_an_object_is_lost(storage: WorkerStorage) -> None:
    """The worker that had to end leaves the reason; the next one answers without a read."""
    [url] = storage.spill_objects([b"ref"], [b""])
    storage.store.delete(b"ref")
    storage.restore_spilled_objects([b"ref"], [url])
    storage.store.before_end(CorruptObjectError("a later block was wrong"))
    assert storage.restore_spilled_objects([b"ref"], [url]) == 0
    assert "a later block was wrong" in str(storage.store.errors[b"ref"])


def test_a_deletion_never_raises(storage: WorkerStorage) -> None:
    """Not even for URLs that are refused."""
    storage.delete_spilled_objects(["/etc/passwd?offset=0&size=1", "nonsense", b"\xff"])


def test_a_deletion_that_failed_is_retried(directory: Path, storage: WorkerStorage) -> None:
    """Ray may never call this process again."""
    [url] = storage.spill_objects([b"ref"], [b""])
    path = Path(split_url(url)[0])
    data = path.read_bytes()
    unreachable(storage, url)
    storage.delete_spilled_objects([url])
    path.rmdir()
    path.write_bytes(data)
    poll(lambda: not files(directory), "the file to be deleted")


@pytest.mark.parametrize("ours", [Storage, fsspill.ExternalStorage, IOWorkerStorage])
def test_the_signatures_are_those_of_ray(ours: type[Storage]) -> None:
    """Ray passes positional arguments in its own order."""
    for name in ("spill_objects", "restore_spilled_objects", "delete_spilled_objects"):
        expected = getattr(rays.ExternalStorage, name).__code__
        found = inspect.unwrap(getattr(ours, name)).__code__
        count = expected.co_argcount
        assert found.co_varnames[:count] == expected.co_varnames[:count]


def test_a_restore_that_ray_refuses_is_notified(
    storage: WorkerStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that is not fsspill's, such as of a changed signature: Ray alone would only wait."""
    [url] = storage.spill_objects([b"ref"], [b""])

    def refuse(*arguments: object) -> None:
        raise TypeError("takes 4 positional arguments")

    monkeypatch.setattr(storage.store, "put_file_like_object", refuse)
    with pytest.raises(TypeError):
        storage.restore_spilled_objects([b"ref"], [url])
    [line] = [line for line in notified(caplog) if "takes 4 positional arguments" in line]
    assert "ray.get waits" in line
