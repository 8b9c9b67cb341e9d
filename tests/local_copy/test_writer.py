"""The writer of the copies of one spill: nothing waits for it."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsspill.local_copy import copy_file as module
from fsspill.local_copy.directory import ALIVE, USAGE, CopyDirectory
from fsspill.local_copy.eviction import Bound
from fsspill.local_copy.writer import CopyWriter
from fsspill.storage.layout import FileRef, SpillLocation
from fsspill.storage.local_files import OpenDirectory
from fsspill.storage.mount import MAX_ABANDONED, Calls, Mount
from tests.hung_mount import HungMount, abandoned
from tests.running import poll
from tests.timeouts import PATIENT

LOCATION = SpillLocation(
    "s3://bucket", prefix="", session_name="session", node_id="node", shared=False
)


class Node:
    """A node's directory of copies, and what its writers have reported."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = CopyDirectory(str(root), "session", "node")
        self.errors: list[OSError] = []

    def writer(self) -> CopyWriter:
        mount = Mount(str(self.root), PATIENT)
        return CopyWriter(self.directory, Bound(10**9), mount, self.errors.append)

    def names(self) -> set[str]:
        path = self.root / "session" / "node"
        return set(os.listdir(path)) - {ALIVE, USAGE} if path.exists() else set()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.directory.leave()


def spill(writer: CopyWriter, *contents: bytes | bytearray) -> list[FileRef]:
    """Offer files as an upload does, and end."""
    files = []
    for content in contents:
        files.append(LOCATION.new_file(1, len(content)))
        copy = writer.begin(len(content))
        copy.offer(0, [memoryview(content)])
        copy.keep(files[-1], len(content))
    writer.finish()
    return files


def test_copies_are_there_when_the_spill_ends(node: Node) -> None:
    """On a disk that keeps up."""
    files = spill(node.writer(), b"first", b"second" * 10**6, b"")
    assert node.names() == {file.name for file in files}
    assert node.errors == []


def test_files_that_are_not_stored_at_the_end_have_no_copy(node: Node) -> None:
    """A spill that is interrupted."""
    writer = node.writer()
    writer.begin(3).offer(0, [b"abc"])
    writer.finish()
    assert node.names() == set()


def test_a_disk_that_does_not_keep_up_is_not_waited_for(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not written yet is dropped, and no object stays in memory for it."""
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    mount = HungMount(str(node.root), monkeypatch)
    held = bytearray(3 * 2**20)
    spill(node.writer(), b"before")
    with mount.hung("writev"):
        writer = node.writer()
        copies = [writer.begin(len(held)) for _ in range(3)]
        for copy in copies:
            copy.offer(
                0, [memoryview(held)[start : start + 2**20] for start in range(0, len(held), 2**20)]
            )
            copy.keep(LOCATION.new_file(1, len(held)), len(held))
        poll(lambda: mount.waiting, "the write to hang")
        writer.finish()
        assert abandoned(str(node.root)) == 1
        assert views_of(held) == 1  # of the call that hangs
    assert len(node.names()) == 1
    held.clear()  # raises BufferError while there is a view of it


def views_of(data: bytearray) -> int:
    gc.collect()
    views = [each for each in gc.get_objects() if isinstance(each, memoryview)]
    return sum(view.nbytes > 0 and view.obj is data for view in views if is_valid(view))


def is_valid(view: memoryview) -> bool:
    try:
        return bool(view.obj is not None)
    except ValueError:
        return False


def test_a_disk_that_hangs_has_no_more_than_a_few_threads(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After them there is no writer, which its owner takes for a disk out of use."""
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    mount = HungMount(str(node.root), monkeypatch)
    with mount.hung("open"):
        with pytest.raises(TimeoutError, match="has not answered 4 earlier calls"):
            # More often than four times where a thread has not come to the call in time.
            poll(lambda: not spill(node.writer(), b"abc"), "as many threads as there may be")
        assert mount.waiting <= MAX_ABANDONED
    poll(lambda: abandoned(str(node.root)) == 0, "the threads to remove what they make")
    assert node.names() == set()


def test_an_interrupted_end_drops_what_is_not_written(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No object stays in memory for it, and the thread is not given back while it is busy."""
    held = bytearray(3 * 2**20)
    views = [memoryview(held)[start : start + 2**20] for start in range(0, len(held), 2**20)]

    def interrupted(thread: object, seconds: float) -> bool:
        raise KeyboardInterrupt

    mount = HungMount(str(node.root), monkeypatch)
    spill(node.writer(), b"before")
    with mount.hung("writev"):
        writer = node.writer()
        writer.begin(len(held)).offer(0, views)
        del views
        poll(lambda: mount.waiting, "the write to hang")
        with monkeypatch.context() as patch:
            patch.setattr("fsspill.storage.mount._Thread.wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                writer.finish()
        assert abandoned(str(node.root)) == 1
        assert views_of(held) == 1  # of the call that hangs
    poll(lambda: abandoned(str(node.root)) == 0, "the thread to end")
    held.clear()


def test_one_thread_writes(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is not that of the spill."""
    mount = HungMount(str(node.root), monkeypatch)
    spill(node.writer(), b"first", b"second", b"third")
    [thread] = mount.callers["writev"]
    assert thread == "fsspill-mount" != threading.current_thread().name


def test_the_end_waits_no_longer_than_a_part_of_the_uploads(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three hundredths of their time, or ten milliseconds."""
    waited: list[float] = []
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    has_ended = Calls.has_ended

    def record(calls: Calls, within: float) -> bool:
        waited.append(within)
        return has_ended(calls, PATIENT)

    monkeypatch.setattr(Calls, "has_ended", record)
    for seconds in (0.0, 1000.0):
        writer = node.writer()
        writer._start = time.monotonic() - seconds
        writer.finish()
    assert 0.01 <= waited[0] < 30 <= waited[1]


@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_no_error_of_the_thread_reaches_the_spill(node: Node, error: type[Exception]) -> None:
    """Whatever a step raises: the copy is dropped, and others are made."""
    errors = [error]

    class FailingOnce(Bound):
        def create(self, directory: OpenDirectory, name: str, nbytes: int) -> int:
            if errors:
                raise errors.pop()
            return super().create(directory, name, nbytes)

    mount = Mount(str(node.root), PATIENT)
    held = bytearray(b"first")
    writer = CopyWriter(node.directory, FailingOnce(10**9), mount, node.errors.append)
    _, second = spill(writer, held, b"second")
    assert node.names() == {second.name}
    del writer
    assert views_of(held) == 0
