"""The files of a node on several URIs, and deletions that failed."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fsspill import (
    ExternalStorage,
    FsspillError,
    InMemoryObjectStore,
    StorageNotFoundError,
    StorageUnavailableError,
)
from fsspill.placement import background
from fsspill.storage.layout import FileRef
from fsspill.testing.contract import split_url
from tests.at_rest import files, keys
from tests.faults.fault_proxy import Fault, FaultProxy
from tests.running import PATIENCE, BegunThreads, poll
from tests.spilling import fill

MIB = 2**20


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(background, "_LONGEST_PAUSE", 0.05)


@pytest.mark.parametrize("first", [True, False])
def test_a_failed_write_goes_to_the_next_healthy_uri(
    s3_bucket: str, store: InMemoryObjectStore, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All objects are spilled in the same call."""
    monkeypatch.setattr("fsspill.placement.placement.randrange", lambda n: 0)
    uris = [f"s3://{s3_bucket}/good", "s3://no-such-bucket/bad"]
    storage = ExternalStorage(uris[::-1] if first else uris, object_store=store)
    refs = fill(store, 6, 8 * MIB)
    urls = storage.spill_objects(refs)
    assert sorted(keys(s3_bucket)) == sorted(split_url(url)[0][len("s3://") :] for url in urls)
    for ref in refs:
        store.delete(ref)
    assert storage.restore_spilled_objects(refs, urls) == 6 * 8 * MIB
    storage.destroy_external_storage()


def test_a_failed_spill_releases_the_objects(s3_bucket: str, store: InMemoryObjectStore) -> None:
    """Nothing pins them after an error, not even its traceback."""
    storage = ExternalStorage("s3://no-such-bucket/x", object_store=store)
    data = [bytearray(MIB) for _ in range(3)]
    for number, buffer in enumerate(data):
        store.put(number, buffer)
    with pytest.raises(StorageNotFoundError) as caught:
        storage.spill_objects([0, 1, 2])
    for number, buffer in enumerate(data):
        store.delete(number)
        buffer.append(0)  # raises BufferError while anybody holds a view
    assert caught.value is not None
    storage.destroy_external_storage()  # or the probe of the URI goes on while other tests run


@pytest.fixture
def deleting() -> BegunThreads:
    return BegunThreads("fsspill-delete")


@pytest.fixture
def make_storage(
    store: InMemoryObjectStore, deleting: BegunThreads
) -> Iterator[Callable[..., ExternalStorage]]:
    """Give a test storages, each object in a file of its own, that leave no thread."""
    made = []

    def make(*uris: str) -> ExternalStorage:
        made.append(ExternalStorage(list(uris), object_store=store, file_size=1))
        return made[-1]

    yield make
    for storage in made:
        storage.destroy_external_storage()
    poll(lambda: not deleting(), "the threads to end")


def spill(storage: ExternalStorage, count: int) -> list[bytes]:
    store = storage.object_store
    assert isinstance(store, InMemoryObjectStore)
    for number in range(count):
        store.put(number, b"data")
    return storage.spill_objects(range(count))


def test_refused_deletions_are_retried_without_another_call(
    proxy: FaultProxy,
    s3_bucket: str,
    make_storage: Callable[..., ExternalStorage],
    deleting: BegunThreads,
) -> None:
    """All of them once they are allowed; then the thread ends."""
    storage = make_storage(f"s3://{s3_bucket}/x")
    urls = spill(storage, 5)
    with proxy.inject(Fault.DELETE_DENIED):
        storage.delete_spilled_objects(urls)
        poll(lambda: sum(proxy.injected.values()) > 3, "some retries")
        assert len(keys()) == 5
    poll(lambda: not keys(), "the files to be deleted")
    poll(lambda: not deleting(), "the thread to end")
    assert not storage.files.pending_deletions


def test_retries_ask_for_one_file_until_one_is_deleted(
    tmp_path: Path, make_storage: Callable[..., ExternalStorage]
) -> None:
    """A permission that is missing for good costs one request in a while."""
    storage = make_storage(f"file://{tmp_path}/a")
    urls = spill(storage, 5)
    for url in urls:
        block(Path(split_url(url)[0]))
    counts = count_deletions(storage)
    storage.delete_spilled_objects(urls)
    poll(lambda: len(counts) > 5, "some retries")
    assert counts[:6] == [5, 1, 1, 1, 1, 1]


def count_deletions(storage: ExternalStorage) -> list[int]:
    """Return a list that grows by the number of files of each deletion."""
    transfer, counts = storage.files.transfer, []
    delete = transfer.delete

    def counted(files: Sequence[FileRef], *, seconds: float) -> dict[FileRef, FsspillError]:
        counts.append(len(files))
        return delete(files, seconds=seconds)

    transfer.delete = counted  # type: ignore[method-assign]
    return counts


def test_one_file_that_stays_does_not_keep_the_others(
    tmp_path: Path, make_storage: Callable[..., ExternalStorage]
) -> None:
    """Nor the files under another URI."""
    storage = make_storage(f"file://{tmp_path}/a", f"file://{tmp_path}/b")
    urls = spill(storage, 8)
    [first, *others] = [Path(split_url(url)[0]) for url in urls]
    block(first)
    for path in others:
        block(path)
    storage.delete_spilled_objects(urls)
    assert len(storage.files.pending_deletions) == 8
    for path in others:
        unblock(path)
    poll(lambda: len(storage.files.pending_deletions) == 1, "the others to be deleted")
    unblock(first)
    poll(lambda: not storage.files.pending_deletions, "the first one to be deleted")


def block(path: Path) -> None:
    """Put a directory that is not empty in the place of a file: it cannot be deleted as one."""
    path.unlink()
    path.mkdir()


def unblock(path: Path) -> None:
    """Remove that directory: a file that is already gone counts as deleted."""
    path.rmdir()


def test_an_unhealthy_uri_gets_no_retries(
    proxy: FaultProxy, s3_bucket: str, make_storage: Callable[..., ExternalStorage]
) -> None:
    """Pending files are deleted once it is healthy."""
    storage = make_storage(f"s3://{s3_bucket}/x")
    urls = spill(storage, 2)
    counts = count_deletions(storage)
    with proxy.inject(Fault.FORBIDDEN):
        [location] = storage.files.locations
        storage.files.placement.mark_unhealthy(location, StorageUnavailableError("down"))
        storage.delete_spilled_objects(urls)
        seen = len(proxy.requests)
        poll(lambda: len(proxy.requests) > seen + 4, "some probes")
        assert counts == []
    poll(lambda: not keys(), "the files to be deleted")


def test_files_that_cannot_be_deleted_are_one_line(
    tmp_path: Path,
    make_storage: Callable[..., ExternalStorage],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With their number and the first reason: not one for each file, each call and each retry."""
    storage = make_storage(f"file://{tmp_path}/a")
    urls = spill(storage, 5)
    for url in urls:
        block(Path(split_url(url)[0]))
    counts = count_deletions(storage)
    with caplog.at_level(logging.WARNING):
        storage.delete_spilled_objects(urls[:3])
        storage.delete_spilled_objects(urls[3:4])
        storage.delete_spilled_objects(urls[4:])
        poll(lambda: len(counts) > 5, "some retries")
    first, *others = [text for text in caplog.messages if "cannot delete" in text]
    assert first.startswith(f"cannot delete files under file://{tmp_path}/a now (3)")
    assert not others


FORKED = """
import os, pathlib, sys
from fsspill import ExternalStorage, InMemoryObjectStore
from fsspill.placement import background
background._FIRST_PAUSE, background._LONGEST_PAUSE = 0.01, 0.05
store = InMemoryObjectStore()
for number in range(2):
    store.put(number, b"data")
storage = ExternalStorage("file://" + sys.argv[1], object_store=store, file_size=1)
urls = storage.spill_objects([0, 1])
paths = [pathlib.Path(url.decode().partition("?")[0]) for url in urls]
for path in paths:
    path.unlink()
    path.mkdir()
storage.delete_spilled_objects(urls[:1])
pid = os.fork()
if not pid:
    storage.delete_spilled_objects(urls[1:])
    for path in paths[1:]:
        path.rmdir()
        while storage.files.pending_deletions:
            pass
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_retries_its_own_deletions(tmp_path: Path) -> None:
    """Its parent's thread does not exist there."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.stdout == "7\n", ran.stderr
    assert files(tmp_path) == []


def test_a_dropped_store_is_collected_at_once(memory_uri: str) -> None:
    """Its threads end with it, and do not wait for the garbage collector."""
    gc.disable()
    try:
        storage = ExternalStorage(memory_uri)
        store = weakref.ref(storage.files)
        del storage
        assert store() is None
    finally:
        gc.enable()
