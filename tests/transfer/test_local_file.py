"""Files in local directories: how they are written and read."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

from fsspill import CorruptObjectError
from fsspill.storage import gathered_write, mount
from fsspill.storage.layout import FileRef, SpillLocation
from fsspill.storage.mount import BLOCK_SIZE, Mount
from fsspill.transfer import local_file
from fsspill.transfer.base import FrameRef
from fsspill.transfer.local_file import LocalFileReader, write_file
from tests.at_rest import files
from tests.running import PATIENCE, poll
from tests.samples import MIB
from tests.timeouts import PATIENT


@pytest.fixture
def ref(tmp_path: Path) -> FileRef:
    location = SpillLocation(
        f"file://{tmp_path}", prefix="", session_name="s", node_id="n", shared=False
    )
    return location.new_file(1, 1)


def write(ref: FileRef, *parts: Sequence[bytes]) -> None:
    write_file(Mount(ref.location.root, PATIENT), ref, parts)


def test_system_calls_move_a_block_each(ref: FileRef, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the sizes of the buffers: each is progress, and none is larger than a block."""
    calls: list[int] = []
    writev = os.writev

    def record(fd: int, buffers: Sequence[memoryview]) -> int:
        assert len(buffers) <= gathered_write._BUFFERS_PER_CALL
        calls.append(sum(map(len, buffers)))
        return writev(fd, buffers)

    monkeypatch.setattr(os, "writev", record)
    large, small = os.urandom(2 * BLOCK_SIZE + 5), [b"%d" % (n % 10) for n in range(3000)]
    write(ref, [large, b"", *small])
    assert Path(ref.url).read_bytes() == large + b"".join(small)
    assert max(calls) == BLOCK_SIZE
    assert sum(calls) == len(large) + 3000


def test_a_write_in_part_is_continued(ref: FileRef, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may take fewer bytes than it is given."""
    writev = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, buffers: writev(fd, [memoryview(buffers[0])[:7]]))
    write(ref, [b"a" * 10, b"b" * 10], [b"c" * 10])
    assert Path(ref.url).read_bytes() == b"a" * 10 + b"b" * 10 + b"c" * 10


@pytest.mark.parametrize(("nbytes", "is_taken"), [(32 * MIB, True), (MIB, False)])
def test_the_end_of_a_file_may_take_as_long_as_its_bytes_need(
    ref: FileRef, monkeypatch: pytest.MonkeyPatch, nbytes: int, is_taken: bool
) -> None:
    """NFS and FUSE take bytes fast, and send them when the file is closed: here for 3 seconds."""
    closing, answer = threading.Event(), threading.Event()
    ticks: list[float] = []
    close = os.close

    def slow_close(fd: int) -> None:
        if ref.url in os.readlink(f"/proc/self/fd/{fd}"):
            closing.set()
            assert answer.wait(PATIENCE)
        close(fd)

    def wait(thread: mount._Thread, seconds: float) -> bool:
        if not closing.wait(PATIENCE) or sum(ticks) >= 3:
            answer.set()
        if answer.is_set():
            return thread._ended.acquire(timeout=PATIENCE)
        ticks.append(seconds)
        return False

    monkeypatch.setattr(os, "close", slow_close)
    monkeypatch.setattr(mount._Thread, "wait", wait)
    try:
        with nullcontext() if is_taken else pytest.raises(TimeoutError, match=r"for 1\.1 s"):
            write_file(Mount(ref.location.root, 1), ref, [[bytes(nbytes)]])
    finally:
        answer.set()
    assert is_taken == (sum(ticks) >= 3)
    if is_taken:
        assert os.path.getsize(ref.url) == nbytes
    else:
        poll(lambda: not os.path.exists(ref.url), "the file to be removed")


def test_a_source_that_fails_leaves_no_file(ref: FileRef, tmp_path: Path) -> None:
    """Its error is raised as it is."""

    def fail() -> bytes:
        raise MemoryError

    with pytest.raises(MemoryError):
        write_file(
            Mount(ref.location.root, PATIENT), ref, ([b"x" if n else fail()] for n in (1, 0))
        )
    assert files(tmp_path) == []


def read_all(reader: LocalFileReader, frame: FrameRef, step: int) -> bytes:
    pieces: list[bytes] = []
    for start in range(frame.start, frame.stop, step):
        pieces += reader.read(start, min(start + step, frame.stop))
    return b"".join(pieces)


@pytest.mark.parametrize("step", [1000, BLOCK_SIZE, 8 * BLOCK_SIZE])
def test_a_frame_is_read_in_pieces_and_its_file_closed(ref: FileRef, step: int) -> None:
    """By the call that reads its end; another one opens it again."""
    data = os.urandom(2 * BLOCK_SIZE + 5)
    write(ref, [data])
    frame = FrameRef(ref, 3, len(data) - 1, None)
    reader = LocalFileReader(frame)
    for _ in range(2):
        assert read_all(reader, frame, step) == data[3:-1]
        assert not reader.is_open


def test_a_file_that_is_too_short_is_closed(ref: FileRef) -> None:
    """Its frame cannot be there."""
    write(ref, [b"0123456789"])
    reader = LocalFileReader(FrameRef(ref, 0, 11, None))
    with pytest.raises(CorruptObjectError, match="at least 11 bytes, found 10"):
        reader.read(0, 5)
    assert not reader.is_open


def test_bytes_in_memory_are_read_without_waiting(ref: FileRef) -> None:
    """Into the buffer itself; nothing is where the system must wait, or there is no file yet."""
    data = os.urandom(1000)
    write(ref, [data])
    reader = LocalFileReader(FrameRef(ref, 0, 1000, None))
    buffer = memoryview(bytearray(500))
    assert reader.read_cached(buffer, 100) == 0
    reader.read(0, 100)
    found = reader.read_cached(buffer, 100)
    assert found in (0, 500)  # tmpfs and NFS always have to be asked in the other way
    assert buffer[:found] == data[100 : 100 + found]
    reader.close()


@pytest.mark.parametrize("error", [BlockingIOError, OSError])
def test_a_read_that_would_wait_is_left_to_the_thread(
    ref: FileRef, error: type[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again later, unless the file system does not support it at all."""
    write(ref, [bytes(1000)])
    reader = LocalFileReader(FrameRef(ref, 0, 1000, None))
    reader.read(0, 100)
    attempts: list[int] = []

    def fail(*arguments: object) -> int:
        attempts.append(1)
        raise error

    monkeypatch.setattr(os, "preadv", fail)
    for _ in range(3):
        assert reader.read_cached(memoryview(bytearray(10)), 100) == 0
    if local_file._ONLY_CACHED is not None:
        assert len(attempts) == (3 if error is BlockingIOError else 1)
    assert reader.read(100, 1000) == [bytes(900)]
