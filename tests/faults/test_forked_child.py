"""Storages that a forked child inherits, and those that are pickled for another process."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fsspec import asyn

from fsspill import ExternalStorage, InMemoryObjectStore
from fsspill.child_process import is_interpreter_exiting, run_in_child
from fsspill.placement.shared_state import SharedState
from fsspill.ray.heartbeat import Heartbeat
from fsspill.storage import connection
from fsspill.storage.range_reader import ObstoreReader
from tests.faults.storages import object_store_of
from tests.forking import IGNORE_WARNING, run_in_fork
from tests.running import PATIENCE
from tests.timeouts import PATIENT

pytestmark = pytest.mark.filterwarnings(IGNORE_WARNING)

STORAGES = ["s3-auto", "s3-obstore", "s3-fsspec", "shared", "node-local", "memory"]
WAYS = ["os.fork", "multiprocessing"]
OBJECTS = {b"%d" % number: bytes([number]) * 300_000 for number in range(4)}


@pytest.fixture
def make_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., ExternalStorage]:
    def make(kind: str, compression: str | None = None) -> ExternalStorage:
        settings: dict[str, Any] = {"compression": compression, "shared": kind == "shared"}
        uri = f"file://{tmp_path}/uri"
        if kind.startswith("s3-"):
            uri = f"s3://{request.getfixturevalue('s3_bucket')}/x"
            settings["engine"] = kind.removeprefix("s3-")
            if kind == "s3-obstore":
                pytest.importorskip("obstore")
        elif kind == "memory":
            uri = f"memory://{tmp_path.name}"
        return ExternalStorage(
            uri,
            object_store=InMemoryObjectStore(),
            node_id="n",
            session_name="s",
            stall_timeout=PATIENT,
            **settings,
        )

    return make


def spill(storage: ExternalStorage) -> dict[bytes, bytes]:
    """Spill all objects, and return their URLs."""
    store = object_store_of(storage)
    for ref, data in OBJECTS.items():
        store.put(ref, data)
    urls = storage.spill_objects(list(OBJECTS))
    for ref in OBJECTS:
        store.delete(ref)
    return dict(zip(OBJECTS, urls, strict=True))


def restore(storage: ExternalStorage, urls: dict[bytes, bytes]) -> None:
    """Restore all objects, and check their bytes."""
    store = object_store_of(storage)
    storage.restore_spilled_objects(list(urls), list(urls.values()))
    assert {ref: bytes(store.get(ref)) for ref in store} == OBJECTS
    for ref in OBJECTS:
        store.delete(ref)


def use(storage: ExternalStorage, urls: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Restore what another process has spilled, spill and delete, and spill again."""
    restore(storage, urls)
    storage.delete_spilled_objects(list(spill(storage).values()))
    return spill(storage)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize("kind", STORAGES)
def test_forked_child_uses_a_storage_that_its_parent_has_used(
    kind: str, compression: str | None, how: str, make_storage: Callable[..., ExternalStorage]
) -> None:
    """It reads, writes and deletes, and its parent goes on, with what the child has spilled too."""
    if compression:
        if kind == "node-local":
            pytest.skip("the raylet reads these files: they are never compressed")
        pytest.importorskip("zstandard")
    storage = make_storage(kind, compression)
    urls = spill(storage)
    restore(storage, urls)
    theirs = run_in_fork(lambda: use(storage, urls), how)
    if kind != "memory":  # the child has its own
        restore(storage, theirs)
    restore(storage, urls)
    storage.destroy_external_storage()
    assert storage.list_spilled_files() == []


@pytest.mark.parametrize("kind", STORAGES)
def test_forked_child_of_a_forked_child_works_too(
    kind: str, make_storage: Callable[..., ExternalStorage]
) -> None:
    """And so does a storage that was made and not used before the fork."""
    storage = make_storage(kind)

    def child() -> None:
        urls = spill(storage)
        run_in_fork(lambda: use(storage, urls))
        restore(storage, urls)

    run_in_fork(child)
    storage.destroy_external_storage()


def test_forked_child_reads_without_obstore_and_says_so_once(
    make_storage: Callable[..., ExternalStorage], caplog: pytest.LogCaptureFixture
) -> None:
    """The threads of obstore are not there: a read would wait for them forever."""
    storage = make_storage("s3-obstore")
    urls = spill(storage)
    restore(storage, urls)

    def child() -> list[str]:
        caplog.clear()
        for _ in range(2):
            restore(storage, urls)
        restore(make_storage("s3-auto"), urls)
        return [record.getMessage() for record in caplog.records]

    [line] = run_in_fork(child)
    assert "reading through the filesystem, not obstore" in line
    assert "forkserver" in line
    location = storage.files.locations[0]
    assert isinstance(storage.files._clients.reader(location), ObstoreReader)
    restore(storage, urls)
    storage.destroy_external_storage()


@pytest.fixture
def held_locks(make_storage: Callable[..., ExternalStorage]) -> Iterator[ExternalStorage]:
    """Yield a storage, while another thread holds every lock that a fork may find held."""
    storage = make_storage("memory")
    urls = spill(storage)
    restore(storage, urls)
    breakers = storage.files.placement._circuit_breakers.values()
    handlers = [each.lock for each in logging.getLogger().handlers if each.lock]
    own = [*connection._locks.get().values(), *(breaker._probing._lock for breaker in breakers)]
    assert handlers
    assert own
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as locks:
            for lock in (*handlers, *own, asyn.get_lock()):
                locks.enter_context(lock)
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(PATIENCE)
    yield storage
    done.set()
    thread.join()


def test_locks_that_another_thread_held_do_not_stop_the_child(held_locks: ExternalStorage) -> None:
    """Nobody releases them in the child."""

    def child() -> None:
        logging.getLogger("fsspill.test").warning("logged in the child")
        restore(held_locks, spill(held_locks))
        assert not any(held_locks.files.placement.failure(at) for at in held_locks.files.locations)

    run_in_fork(child)


def test_event_loop_of_the_parent_is_not_used(make_storage: Callable[..., ExternalStorage]) -> None:
    """Versions of fsspec that keep it after a fork would wait for a thread that is not there."""
    storage = make_storage("memory")
    restore(storage, spill(storage))
    inherited = asyn.loop[0], asyn.iothread[0]

    def child() -> None:
        asyn.loop[0], asyn.iothread[0] = inherited
        restore(storage, spill(storage))

    run_in_fork(child)


def test_child_that_was_forked_under_a_shared_lock_does_not_keep_it() -> None:
    """It has the open file too: the lock ends when its parent's block does, not with the child."""
    state = SharedState(f"session-{uuid.uuid4().hex}", "node")
    with state.lock("kind", "key", wait=True):
        child = os.fork()
        if not child:
            signal.pause()
    try:
        with state.lock("kind", "key", wait=False) as acquired:
            assert acquired
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        state.discard()


def test_forked_child_starts_processes_and_stops_heartbeats(
    make_storage: Callable[..., ExternalStorage], tmp_path: Path
) -> None:
    """A function runs in a process of its own; the thread of an inherited heartbeat is no more."""
    storage, path = make_storage("shared"), tmp_path / "file"
    heartbeat = Heartbeat(storage, "n")
    heartbeat.start()

    def child() -> None:
        assert not is_interpreter_exiting()
        run_in_child(partial(Path.touch, path), timeout=PATIENCE)
        heartbeat.write()
        heartbeat.stop()

    run_in_fork(child)
    assert path.exists()
    heartbeat.stop()
    storage.destroy_external_storage()


def test_child_that_drops_what_it_inherited_does_not_disturb_its_parent(
    make_storage: Callable[..., ExternalStorage],
) -> None:
    """Closing inherited connections would close those of the parent."""
    storage = make_storage("s3-fsspec")
    urls = spill(storage)

    def child() -> None:
        restore(storage, urls)
        gc.collect()

    run_in_fork(child)
    before = storage.files
    restore(storage, urls)
    assert storage.files is before
    storage.destroy_external_storage()


def test_only_the_process_that_made_a_storage_destroys_it(
    make_storage: Callable[..., ExternalStorage], caplog: pytest.LogCaptureFixture
) -> None:
    """A child runs the exit handlers of its parent, which may still need the files."""
    storage = make_storage("shared")
    urls = spill(storage)

    def child() -> list[str]:
        storage.destroy_external_storage()
        return [record.getMessage() for record in caplog.records]

    owner = os.getpid()
    assert run_in_fork(child) == [
        f"not destroyed: the storage belongs to process {owner}, which made it"
    ]
    restore(storage, urls)
    storage.destroy_external_storage()
    assert storage.list_spilled_files() == []


@pytest.mark.parametrize("kind", ["s3-auto", "shared"])
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_pickled_storage_works_in_a_process_that_inherits_nothing(
    kind: str, method: str, make_storage: Callable[..., ExternalStorage]
) -> None:
    """With the objects of the embedded object store."""
    storage = make_storage(kind)
    urls = spill(storage)
    with multiprocessing.get_context(method).Pool(1) as pool:
        theirs = pool.apply_async(use, (storage, urls)).get(PATIENCE)
    restore(storage, theirs)
    storage.destroy_external_storage()


def test_pickled_object_store_keeps_its_objects() -> None:
    """Data, metadata and owner addresses."""
    store = InMemoryObjectStore()
    store.put(b"data", b"x", metadata=b"m", owner_address=b"o")
    store.put(b"metadata", None, metadata=b"m")
    copy = pickle.loads(pickle.dumps(store))
    assert bytes(copy.get(b"data")) == b"x"
    assert copy.owner_address(b"data") == b"o"
    assert copy.get_if_local([b"metadata"]) == [(None, b"m")]
