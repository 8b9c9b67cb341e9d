"""The copy of one file, step by step, as the thread that writes it makes them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsspill.local_copy.copy_file import FileCopy
from fsspill.local_copy.directory import ALIVE, USAGE, CopyDirectory
from fsspill.local_copy.eviction import Bound
from fsspill.storage.layout import FileRef, SpillLocation

LOCATION = SpillLocation(
    "s3://bucket", prefix="", session_name="session", node_id="node", shared=False
)


class Steps:
    """The copies of a test, and the steps that their thread has not made yet."""

    def __init__(self, root: Path) -> None:
        self.directory = CopyDirectory(str(root), "session", "node")
        self.path = root / "session" / "node"
        self.errors: list[OSError] = []
        self._steps: list[Callable[[], None]] = []

    def begin(self, max_nbytes: int, bound: int = 10**6) -> FileCopy:
        return FileCopy(self.directory, Bound(bound), max_nbytes, self, self.errors.append)

    def next(self, step: Callable[[], None]) -> None:
        self._steps.insert(0, step)

    def later(self, step: Callable[[], None]) -> None:
        self._steps.append(step)

    def run(self) -> None:
        while self._steps:
            self._steps.pop(0)()

    def files(self) -> dict[str, bytes]:
        """Return the files that are not fsspill's records, by name."""
        if not self.path.exists():
            return {}
        names = set(os.listdir(self.path)) - {ALIVE, USAGE}
        return {name: (self.path / name).read_bytes() for name in names}

    def usage(self) -> int:
        return int.from_bytes((self.path / USAGE).read_bytes(), "little")


@pytest.fixture
def steps(tmp_path: Path) -> Iterator[Steps]:
    steps = Steps(tmp_path)
    yield steps
    steps.directory.leave()


def new_file() -> FileRef:
    return LOCATION.new_file(1, 6)


def test_a_copy_has_the_bytes_and_the_name_of_its_file(steps: Steps) -> None:
    """Pieces in any order; it is counted with its own length, not with the bound of it."""
    copy, file = steps.begin(100), new_file()
    copy.offer(0, [b"ab", b"", memoryview(b"c")])
    copy.offer(3, [b"def"])
    steps.run()
    [name] = steps.files()
    assert name.endswith(".part")
    copy.keep(file, 6)
    steps.run()
    assert steps.files() == {file.name: b"abcdef"}
    assert steps.usage() == 6
    copy.discard()  # what was kept stays
    assert steps.files() == {file.name: b"abcdef"}


@pytest.mark.parametrize("nbytes", [5, 7])
def test_a_copy_of_another_length_is_dropped(steps: Steps, nbytes: int) -> None:
    """Bytes are missing, or there are more than the file has."""
    copy = steps.begin(100)
    copy.offer(0, [b"abcdef"])
    copy.keep(new_file(), nbytes)
    steps.run()
    assert steps.files() == {}
    assert steps.usage() == 0


def test_a_file_that_is_not_stored_has_no_copy(steps: Steps) -> None:
    """Its upload failed."""
    copy = steps.begin(6)
    copy.offer(0, [b"abcdef"])
    steps.run()
    copy.drop()
    steps.run()
    assert steps.files() == {}
    assert steps.usage() == 0


def test_bytes_that_are_sent_before_they_are_written_are_given_up(steps: Steps) -> None:
    """The disk is slower than the upload: the copy holds nothing that the upload does not."""
    copy = steps.begin(6)
    buffer = bytearray(b"abc")
    first = copy.offer(0, [memoryview(buffer)])
    copy.withdraw(first)
    buffer.extend(b"more")  # raises BufferError while there is a view of it
    copy.withdraw(copy.offer(3, [b"def"]))
    copy.keep(new_file(), 6)
    steps.run()
    assert steps.files() == {}


def test_bytes_that_were_written_may_be_withdrawn(steps: Steps) -> None:
    """The upload goes on to the next part."""
    copy, file = steps.begin(6), new_file()
    for offset, part in ((0, b"abc"), (3, b"def")):
        piece = copy.offer(offset, [part])
        steps.run()
        copy.withdraw(piece)
    copy.keep(file, 6)
    steps.run()
    assert steps.files() == {file.name: b"abcdef"}


def test_an_upload_that_begins_again_has_no_copy(steps: Steps) -> None:
    """The second pass over a stream could differ from the first one."""
    copy = steps.begin(6)
    for _ in range(2):
        copy.offer(0, [b"abc"])
        copy.offer(3, [b"def"])
    copy.keep(new_file(), 6)
    steps.run()
    assert steps.files() == {}


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("function", ["ftruncate", "writev", "replace", "lseek"])
def test_a_failure_drops_the_copy_and_is_reported_once(
    steps: Steps, monkeypatch: pytest.MonkeyPatch, function: str, code: int
) -> None:
    """In whichever step the disk fails."""
    copy = steps.begin(100)

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        copy.offer(0, [b"abc"])
        copy.offer(3, [b"def"])
        copy.keep(new_file(), 6)
        steps.run()
    assert [error.errno for error in steps.errors] == [code]
    assert steps.files() == {}


def test_a_copy_that_was_evicted_while_it_was_written_is_gone(steps: Steps) -> None:
    """The bound is smaller than what is written at a time."""
    first, second = steps.begin(6, bound=10), steps.begin(6, bound=10)
    first.offer(0, [b"abcdef"])
    second.offer(0, [b"ghijkl"])
    steps.run()
    file = new_file()
    first.keep(new_file(), 6)
    second.keep(file, 6)
    steps.run()
    assert steps.files() == {file.name: b"ghijkl"}
    assert steps.usage() == 6


def test_a_copy_that_is_named_after_the_end_of_the_spill_is_removed(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call was silent: its file may have been deleted since, and its copy would stay."""
    copy = steps.begin(6)
    copy.offer(0, [b"abcdef"])
    copy.keep(new_file(), 6)
    replace = os.replace

    def replace_late(*args: Any, **kwargs: Any) -> None:
        copy.drop()
        replace(*args, **kwargs)

    monkeypatch.setattr(os, "replace", replace_late)
    steps.run()
    assert steps.files() == {}
    assert steps.usage() == 0
