"""Local directories on a mount that hangs: every operation ends, and nothing is lost or left.

The functions of `os` wait, as those of a network mount do, until the mount answers again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fsspill import (
    CorruptObjectError,
    ExternalStorage,
    FsspillError,
    InMemoryObjectStore,
    StorageUnavailableError,
)
from fsspill.cleanup import clean, scan
from fsspill.placement import background
from fsspill.storage.mount import MAX_ABANDONED
from fsspill.testing.contract import split_url
from tests.at_rest import files
from tests.hung_mount import HungMount, abandoned
from tests.running import poll
from tests.timeouts import IMPATIENT

SMALL, LARGE = b"small" * 1000, b"large" * 10**6

SILENT = "no answer of the file system of .* for 1 s"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(background, "_LONGEST_PAUSE", 0.2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "mount"
    root.mkdir()
    return root


@pytest.fixture
def mount(root: Path, monkeypatch: pytest.MonkeyPatch) -> HungMount:
    return HungMount(str(root), monkeypatch)


@pytest.fixture(params=["shared", "node-local"])
def node(request: pytest.FixtureRequest, root: Path) -> Iterator[Node]:
    node = Node(root, shared=request.param == "shared")
    yield node
    node.storage.destroy_external_storage()
    assert files(root) == []


class Node:
    """A node that spills to a directory, and its objects."""

    def __init__(self, root: Path, *, shared: bool, **settings: Any) -> None:
        self.root = root
        self.shared = shared
        self.store = InMemoryObjectStore()
        self.storage = ExternalStorage(
            f"file://{root}",
            shared=shared,
            stall_timeout=IMPATIENT,
            node_id="node",
            session_name="session",
            object_store=self.store,
            **settings,
        )
        self.urls: list[bytes] = []

    def spill(self) -> None:
        """Spill two objects, and delete them from the object store."""
        data = {b"small": bytearray(SMALL), b"large": bytearray(LARGE)}
        for ref, buffer in data.items():
            self.store.put(ref, buffer)
        self.urls = self.storage.spill_objects(list(data))
        assert len(self.urls) == 2
        for ref in data:
            self.store.delete(ref)

    def restore(self) -> None:
        """Restore both objects, and delete them again."""
        self.storage.restore_spilled_objects([b"small", b"large"], self.urls)
        assert self.store.get(b"small") == SMALL
        assert self.store.get(b"large") == LARGE
        for ref in list(self.store):
            self.store.delete(ref)

    def delete(self) -> None:
        self.storage.delete_spilled_objects(self.urls)

    def beat(self) -> None:
        self.storage.files.write_heartbeat("node")

    def spills_again(self) -> bool:
        try:
            self.spill()
        except StorageUnavailableError:
            return False
        return True

    def files(self) -> set[str]:
        """Return the paths of its files without those of heartbeats."""
        return {str(path) for path in files(self.root) if path.parent.name != "fsspill_heartbeats"}

    def referenced(self) -> set[str]:
        return {split_url(url)[0] for url in self.urls}


@pytest.mark.parametrize("function", ["open", "stat", "writev", "close"])
def test_a_spill_ends(node: Node, mount: HungMount, function: str) -> None:
    """Nothing is stored, the thread removes what it has made, and the mount is used again."""
    node.spill()
    node.delete()
    with mount.hung(function):
        with pytest.raises(StorageUnavailableError, match=f"cannot write .*{SILENT}"):
            node.spill()
        assert mount.waiting
        node.urls = []
    poll(lambda: node.files() == set(), "the files to be removed")
    poll(node.spills_again, "the mount to be used again")
    assert node.files() == node.referenced()
    node.restore()


def test_a_spill_goes_to_the_next_directory(tmp_path: Path, mount: HungMount) -> None:
    """All objects are stored in the same call."""
    storage = ExternalStorage(
        [mount.root_uri, f"file://{tmp_path}/healthy"],
        stall_timeout=IMPATIENT * 2,
        policy="in_order",
    )
    assert isinstance(storage.object_store, InMemoryObjectStore)
    storage.object_store.put(b"a", SMALL)
    with mount.hung("writev"):
        [url] = storage.spill_objects([b"a"])
    assert split_url(url)[0].startswith(f"{tmp_path}/healthy/")
    poll(lambda: files(Path(mount.root)) == [], "the file to be removed")
    storage.destroy_external_storage()


def test_memory_is_not_reused_while_it_may_be_read(root: Path, mount: HungMount) -> None:
    """The object that is being written stays pinned, and no other; none once the call returns."""
    node = Node(root, shared=False, file_size=1)
    data = [bytearray(SMALL) for _ in range(3)]
    for ref, buffer in enumerate(data):
        node.store.put(ref, buffer)
    with mount.hung("writev"):
        with pytest.raises(StorageUnavailableError):
            node.storage.spill_objects(range(3))
        for ref in range(3):
            node.store.delete(ref)
        with pytest.raises(BufferError):
            data[0].append(0)
        for buffer in data[1:]:
            buffer.append(0)
    poll(lambda: is_free(data[0]), "the object to be released")
    node.storage.destroy_external_storage()


def is_free(buffer: bytearray) -> bool:
    try:
        buffer.append(0)
    except BufferError:
        return False
    return True


@pytest.mark.parametrize("function", ["open", "fstat", "pread"])
def test_a_restore_ends(node: Node, mount: HungMount, function: str) -> None:
    """No object is restored in part, and all are later."""
    node.spill()
    with mount.hung(function):
        with pytest.raises(StorageUnavailableError, match=f"cannot restore .*{SILENT}"):
            node.restore()
        assert len(node.store) == 0
    node.restore()


def test_a_mount_that_hangs_within_an_object_fills_nothing_later(
    root: Path, mount: HungMount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that was abandoned writes to no memory but its own."""
    monkeypatch.setattr("fsspill.transfer.local_file._ONLY_CACHED", None)
    node = Node(root, shared=False)
    node.spill()
    buffer = bytearray(len(LARGE))
    hanging = ExitStack()

    class Hanging(InMemoryObjectStore):
        def put_file_like_object(self, *arguments: Any) -> None:
            source, view, filled = arguments[2], memoryview(buffer), 0
            while filled < len(view):
                filled += source.readinto(view[filled:])
                hanging.enter_context(mount.hung("pread"))

    node.storage.object_store = Hanging()
    with hanging:
        with pytest.raises(StorageUnavailableError, match=SILENT):
            node.storage.restore_spilled_objects([b"large"], node.urls[1:])
        so_far = bytes(buffer)
        assert so_far.count(0) > 0
    assert buffer == so_far
    node.storage.destroy_external_storage()


def test_a_file_that_cannot_be_closed_after_a_restore_is_no_error(
    root: Path, mount: HungMount
) -> None:
    """All bytes have been read: the thread is left to it."""
    node = Node(root, shared=False)
    node.spill()
    frame = node.storage.files.find_frame(node.urls[1])
    stream = node.storage.files.transfer.open(frame)
    with mount.hung("close"):
        stream.close()
        assert mount.waiting == abandoned(str(root)) == 1
    node.storage.destroy_external_storage()


def test_a_deletion_ends_and_is_made_later(node: Node, mount: HungMount) -> None:
    """It never raises; one thread waits, however many files there are."""
    node.spill()
    with mount.hung("unlink"):
        node.delete()
        assert len(node.storage.files.pending_deletions) == len(node.referenced())
    poll(lambda: node.files() == set(), "the files to be deleted")


def test_a_destruction_ends(node: Node, mount: HungMount, caplog: pytest.LogCaptureFixture) -> None:
    """It never raises, and says what is left."""
    node.spill()
    with mount.hung("listdir"):
        node.storage.destroy_external_storage()
    assert "cannot remove" in caplog.text
    assert "no answer of the file system" in caplog.text


OPERATIONS: dict[str, tuple[str, Callable[[Node], object]]] = {
    "check": ("utime", lambda node: node.storage.check()),
    "check of a missing directory": ("mkdir", lambda node: node.storage.check()),
    "heartbeat": ("open", Node.beat),
    "list": ("listdir", lambda node: node.storage.list_spilled_files()),
    "scan": ("scandir", lambda node: scan(f"file://{node.root}")),
    "probe file of a scan": ("open", lambda node: scan(f"file://{node.root}")),
    "clean": ("unlink", lambda node: clean(f"file://{node.root}")),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_on_small_files_and_directories_end(
    root: Path, mount: HungMount, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They raise an error that says what, where and for how long, and leave no file."""
    monkeypatch.setattr("fsspill.storage.local_client.STALL_TIMEOUT", IMPATIENT)
    function, operation = OPERATIONS[name]
    node = Node(root, shared=True)
    if name == "check of a missing directory":
        root.rmdir()
    elif function == "listdir":
        node.spill()
    with mount.hung(function), pytest.raises(StorageUnavailableError, match=SILENT) as raised:
        operation(node)
    assert str(root) in str(raised.value)
    node.storage.destroy_external_storage()
    assert files(root) == []


def test_free_bytes_of_a_hung_mount_are_not_waited_for(root: Path, mount: HungMount) -> None:
    """The directory is unhealthy then, until it answers."""
    node = Node(root, shared=False, min_free_bytes=1)
    with (
        mount.hung("statvfs"),
        pytest.raises(StorageUnavailableError, match=f"cannot spill to file://{root}: .*{SILENT}"),
    ):
        node.spill()
    poll(node.spills_again, "the mount to be used again")
    node.storage.destroy_external_storage()


def test_many_operations_leave_few_threads(root: Path, mount: HungMount) -> None:
    """Those after the first ones fail immediately, and all succeed once the mount answers."""
    node = Node(root, shared=True)
    node.spill()
    with mount.hung("open"):
        for _ in range(3 * MAX_ABANDONED):
            with pytest.raises(StorageUnavailableError, match="answer"):
                node.restore()
        assert abandoned(str(root)) == mount.waiting == MAX_ABANDONED
    node.restore()
    node.storage.destroy_external_storage()


def test_no_call_into_the_directory_is_made_by_a_caller(node: Node, mount: HungMount) -> None:
    """Every one is made by a thread that can be abandoned: here, by any function of `os`."""
    node.storage.check()
    node.spill()
    node.restore()
    node.beat()
    node.storage.list_spilled_files()
    scan(f"file://{node.root}")
    clean(f"file://{node.root}")
    node.delete()
    with pytest.raises(FsspillError):
        node.restore()
    limited = Node(node.root, shared=node.shared, min_free_bytes=1)
    limited.spill()
    limited.delete()
    node.storage.destroy_external_storage()
    assert len(mount.callers) > 10
    assert set().union(*mount.callers.values()) == {"fsspill-mount"}


def test_a_pipe_in_the_place_of_a_file_blocks_nobody(node: Node) -> None:
    """Opening it would wait for somebody who writes: it is refused as what it is, at once."""
    node.spill()
    path = split_url(node.urls[0])[0]
    os.rename(path, f"{path}.moved")
    os.mkfifo(path)
    descriptors = len(os.listdir("/dev/fd"))
    with pytest.raises(CorruptObjectError, match="truncated or replaced"):
        node.restore()
    assert abandoned(str(node.root)) == 0
    assert len(os.listdir("/dev/fd")) == descriptors
    os.remove(path)
    os.rename(f"{path}.moved", path)
    node.restore()
