"""The copies of a node, and the health of their disk."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from fsspill import Settings
from fsspill.errors import CorruptObjectError, FsspillError
from fsspill.local_copy.copies import LocalCopies
from fsspill.local_copy.directory import ALIVE, USAGE
from fsspill.storage.layout import FileRef, SpillLocation

CONTENT = b"some content"


def location(node_id: str = "node") -> SpillLocation:
    return SpillLocation(
        "s3://bucket", prefix="", session_name="session", node_id=node_id, shared=False
    )


class Breaker:
    """A circuit breaker that nothing closes."""

    def __init__(self) -> None:
        self.looks = 0
        self.error: FsspillError | None = None

    def is_open(self) -> bool:
        self.looks += 1
        return self.error is not None

    def open(self, error: FsspillError) -> None:
        self.error = error

    def shut_down(self) -> None:
        pass


class Node:
    """A node, the circuit breaker that it shares with others, and what it has reported."""

    def __init__(self, root: Path, breaker: Breaker | None = None) -> None:
        self.path = root / "session" / "node"
        self.breaker = breaker or Breaker()
        self.reports: list[FsspillError] = []
        settings = Settings("s3://bucket", cache_dir=str(root), cache_max_bytes=2**30)
        self.copies = LocalCopies(settings, "session", "node", self.breaker, self.reports.append)

    def spill(self, content: bytes = CONTENT) -> FileRef:
        file = location().new_file(1, len(content))
        writer = self.copies.writer()
        assert writer
        copy = writer.begin(len(content))
        copy.offer(0, [content])
        copy.keep(file, len(content))
        writer.finish()
        return file

    def read(self, file: FileRef) -> bytes | None:
        """Return a copy, or None if the storage is to be asked."""
        calls = self.copies.calls(file, lambda: None)
        if calls is None:
            return None
        with calls:
            fd = calls.call(self.copies.open_file, file)
        with open(fd, "rb") as copy:
            return copy.read()

    def names(self) -> set[str]:
        return set(os.listdir(self.path)) - {ALIVE, USAGE} if self.path.exists() else set()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_copy_is_read_noted_as_used_and_removed(node: Node) -> None:
    """Its removal is counted."""
    file = node.spill()
    os.utime(node.path / file.name, (0, 0))
    assert node.read(file) == CONTENT
    assert (node.path / file.name).stat().st_mtime > 0
    node.copies.remove([file, location().new_file(1, 1)])
    assert node.names() == set()
    assert (node.path / USAGE).read_bytes() == bytes(8)


def test_files_of_other_nodes_are_not_looked_for(node: Node, tmp_path: Path) -> None:
    """Without a call into the disk, whatever their names."""
    file = node.spill()
    other = FileRef(file.location, file.path.replace("objects_node", "objects_other"))
    assert node.copies.calls(other, lambda: None) is None
    node.copies.remove([other])
    assert node.read(file) == CONTENT


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENODEV, "No such device"),
        OSError(errno.EROFS, "Read-only file system"),
        PermissionError(errno.EACCES, "Permission denied"),
        TimeoutError("no answer"),
    ],
)
def test_a_disk_that_fails_is_out_of_use_and_reported_once(
    node: Node, tmp_path: Path, error: OSError
) -> None:
    """Another process of the node finds it out of use, and reports nothing."""
    file, second = node.spill(), Node(tmp_path, node.breaker)
    node.copies.reject(file, error)
    node.copies.reject(file, error)
    second.copies.reject(file, error)
    assert node.copies.writer() is None
    assert node.copies.calls(file, lambda: None) is None
    assert second.copies.writer() is None
    [report] = node.reports
    assert f"cannot keep local copies in {tmp_path}: {type(error).__name__}" in str(report)
    assert second.reports == []
    node.breaker.error = None
    assert node.read(file) == CONTENT


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(errno.ENOENT, "No such file"), OSError(errno.EMFILE, "Too many open files")],
)
def test_what_says_nothing_of_the_disk_leaves_it_in_use(node: Node, error: OSError) -> None:
    """A copy that was evicted, and a process that has reached its own limits."""
    file = node.spill()
    node.copies.reject(file, error)
    assert node.breaker.error is None
    assert node.read(file) == CONTENT


def test_a_full_disk_stays_in_use_for_reads(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A quota is such a disk. The log has one line."""
    file = node.spill()

    def fail(fd: int, buffers: object) -> int:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", fail)
        node.spill()
        node.spill()
    assert node.names() == {file.name}
    assert node.read(file) == CONTENT
    assert caplog.text.count("Disk quota exceeded") == 1
    node.spill()
    assert len(node.names()) == 2


def test_a_wrong_copy_is_removed(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """The log says why."""
    file = node.spill()
    node.copies.reject(file, CorruptObjectError("block 3 does not match"))
    assert node.names() == set()
    assert node.breaker.error is None
    assert f"the copy of {file.url}" in caplog.text
    assert "block 3 does not match" in caplog.text


def test_a_disk_that_fails_again_is_left_alone_longer_each_time(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to ten minutes, although a probe succeeds each time; after as long without, not at all."""
    file = node.spill()
    now = 10.0**6
    monkeypatch.setattr("time.monotonic", lambda: now)

    def pause() -> float:
        """Let the disk fail and a probe succeed, and return the seconds until it is in use."""
        nonlocal now
        node.copies.reject(file, TimeoutError("no answer"))
        node.breaker.error = None
        start = now
        while node.copies._is_healthy() is False:
            now += 1
        return now - start

    assert [pause() for _ in range(10)] == [0, 4, 8, 16, 32, 64, 128, 256, 512, 600]
    assert node.read(file) == CONTENT
    now += 601
    assert pause() == 0
    assert len(node.reports) == 11


def test_a_copy_that_cannot_be_read_is_removed(node: Node) -> None:
    """A bad place of the disk takes it out of use once, not at each restore of that file."""
    file, other = node.spill(), node.spill()
    node.copies.reject(file, OSError(errno.EIO, "Input/output error"))
    assert node.names() == {other.name}
    assert node.breaker.error is not None


def test_the_health_of_the_disk_is_not_looked_up_for_each_object(node: Node) -> None:
    """It is in files: looking takes longer than reading a small object."""
    file = node.spill()
    before = node.breaker.looks
    for _ in range(20):
        node.copies._healthy_until += 10
        assert node.read(file) == CONTENT
    assert node.breaker.looks == before


def test_destruction_removes_all_copies_of_the_node(node: Node, tmp_path: Path) -> None:
    """And a removal after that makes no directory."""
    file = node.spill()
    node.copies.destroy()
    assert os.listdir(tmp_path) == []
    node.copies.remove([file])
    with pytest.raises(FileNotFoundError):
        node.read(file)
    assert os.listdir(tmp_path) == []


def test_a_directory_that_is_gone_puts_the_disk_out_of_use(node: Node, tmp_path: Path) -> None:
    """That of the configuration: a disk that was unmounted."""
    node.spill()
    shutil.rmtree(tmp_path)
    node.spill()
    assert "GoneError: expected the directory" in str(node.breaker.error)
    tmp_path.mkdir()


def test_each_removal_is_progress(node: Node) -> None:
    """A disk that removes a file in less than 2 seconds is in use after hundreds of them."""
    files = [node.spill() for _ in range(3)]
    with node.copies._mount.calls() as calls:
        assert calls._thread
        before = calls._thread.moves
        calls.call(node.copies._remove, [file.name for file in files])
        assert calls._thread.moves - before >= len(files)
    assert node.names() == set()
