"""The bound of a node's copies."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsspill.local_copy import eviction
from fsspill.local_copy.directory import PART, USAGE, CopyDirectory
from fsspill.local_copy.eviction import Bound, BusyError
from fsspill.storage.local_files import OpenDirectory
from tests.other_users import small_disk

BOUND = 1000


def name(number: int) -> str:
    return f"{number:032x}-multi-1-1"


@pytest.fixture
def directory(tmp_path: Path) -> OpenDirectory:
    owner = CopyDirectory(str(tmp_path), "session", "node")
    _kept.append(owner)
    return owner.enter(make=True)


_kept: list[CopyDirectory] = []


@pytest.fixture(autouse=True)
def _leave() -> Iterator[None]:
    yield
    while _kept:
        _kept.pop().leave()


def add(directory: OpenDirectory, number: int, nbytes: int, max_bytes: int = BOUND) -> None:
    """Create a copy that is used after all others."""
    os.close(Bound(max_bytes).create(directory, name(number), nbytes))
    os.utime(name(number), (number, number), dir_fd=directory.fd)


def copies(directory: OpenDirectory) -> list[int]:
    """Return the numbers of the copies that are there."""
    return [int(each[:32], 16) for each in directory.names() if "-multi-" in each]


def total(directory: OpenDirectory) -> int:
    return sum(os.stat(each, dir_fd=directory.fd).st_size for each in directory.names())


def test_the_least_recently_used_go_first_in_batches(directory: OpenDirectory) -> None:
    """The eleventh tenth evicts one more than it needs, if a tenth of the bound is more."""
    for number in range(1, 21):
        add(directory, number, 50)
    os.utime(name(1), (100, 100), dir_fd=directory.fd)  # a restore
    add(directory, 21, 10)
    assert copies(directory) == [1, *range(4, 22)]
    add(directory, 22, 50)
    assert copies(directory) == [1, *range(4, 23)]


def test_a_copy_that_is_larger_than_the_bound_evicts_nothing(directory: OpenDirectory) -> None:
    """It is refused as one for which a disk has no room."""
    add(directory, 1, 900)
    with pytest.raises(OSError, match="larger than cache_max_bytes") as caught:
        add(directory, 2, BOUND + 1)
    assert caught.value.errno == errno.ENOSPC
    assert copies(directory) == [1]


def test_a_removed_copy_makes_room(directory: OpenDirectory) -> None:
    """Without an eviction."""
    add(directory, 1, 500)
    add(directory, 2, 500)
    Bound(BOUND).remove(directory, name(1))
    Bound(BOUND).remove(directory, name(1))
    add(directory, 3, 500)
    assert copies(directory) == [2, 3]


def test_a_count_of_another_process_meanwhile_leaves_the_number_right(
    directory: OpenDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is removed or shortened is not subtracted from a number that is without it already."""
    for number in range(1, 4):
        add(directory, number, 300)

    def count() -> None:
        with suppress(BusyError), eviction._locked(directory, 0) as lock:
            eviction._write(lock, sum(file.nbytes for file in eviction._look(directory)))

    def meanwhile(function: str) -> None:
        original = getattr(os, function)

        def call(*arguments: Any, **keywords: Any) -> None:
            original(*arguments, **keywords)
            count()

        monkeypatch.setattr(os, function, call)

    meanwhile("unlink")
    meanwhile("ftruncate")
    Bound(BOUND).remove(directory, name(1))
    fd = os.open(name(2), os.O_WRONLY, dir_fd=directory.fd)
    Bound(BOUND).truncate(directory, fd, 100)
    os.close(fd)
    assert copies(directory) == [2, 3]
    assert int.from_bytes(Path(directory.path, USAGE).read_bytes(), "little") == 100 + 300


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"1", b"\xff" * 20])
def test_a_wrong_number_is_corrected(directory: OpenDirectory, content: bytes) -> None:
    """One that was lost, torn or is too high: processes are killed between any two calls."""
    add(directory, 1, 300)
    Path(directory.path, USAGE).write_bytes(content)
    for number in range(2, 12):
        add(directory, number, 300)
        assert total(directory) <= BOUND + 20
    assert len(copies(directory)) == 3


def test_what_a_killed_process_was_writing_counts_and_is_evicted(directory: OpenDirectory) -> None:
    """It is as long as it was to become."""
    os.close(Bound(BOUND).create(directory, "0" * 32 + PART, 900))
    os.utime("0" * 32 + PART, (1, 1), dir_fd=directory.fd)
    add(directory, 2, 200)
    assert copies(directory) == [2]
    assert "0" * 32 + PART not in directory.names()


def test_another_process_that_keeps_the_lock_costs_the_copy(
    directory: OpenDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is stopped keeps it: nothing waits for that for long, and nothing is lost."""
    monkeypatch.setattr(eviction, "_LOCK_SECONDS", 0.01)
    with eviction._locked(directory, 1):
        with pytest.raises(BusyError):
            add(directory, 1, 10)
        Bound(BOUND).remove(directory, name(1))
    add(directory, 1, 10)
    assert copies(directory) == [1]


def test_a_tenth_of_the_disk_stays_free(tmp_path: Path) -> None:
    """Also where others fill it: then copies make room for them, and none is written."""
    root = tmp_path / "disk"
    root.mkdir()
    with small_disk(root, size="1000k", max_files=100):
        owner = CopyDirectory(str(root), "session", "node")
        directory = owner.enter(make=True)
        kib = 1024

        def write(number: int, nbytes: int) -> None:
            fd = Bound(2**30).create(directory, name(number), nbytes)
            os.utime(name(number), (number, number), dir_fd=directory.fd)
            os.write(fd, bytes(nbytes))
            os.close(fd)

        for number in range(1, 30):
            write(number, 40 * kib)
            disk = os.statvfs(root)
            assert disk.f_bavail >= disk.f_blocks // 10 - 1
        assert copies(directory)[-1] == 29
        assert len(copies(directory)) >= 10
        (root / "others").write_bytes(bytes(850 * kib - total(directory)))
        (root / "more").write_bytes(bytes(140 * kib))
        with pytest.raises(OSError, match="a tenth of the disk"):
            write(30, 900 * kib)
        assert copies(directory) == []
        owner.leave()


WRITE = """
import os, random, sys, uuid
from fsspill.local_copy.directory import CopyDirectory
from fsspill.local_copy.eviction import Bound, BusyError
root, seed, bound = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
made = random.Random(seed)
directory = CopyDirectory(root, "session", "node")
entered, limit, own = directory.enter(make=True), Bound(bound), []
for number in range(60):
    nbytes = made.randrange(1, bound // 5)
    name = uuid.UUID(int=made.getrandbits(128)).hex + f"-multi-1-{nbytes}"
    try:
        os.close(limit.create(entered, name, nbytes))
    except BusyError:
        continue
    own.append(name)
    total = 0
    for each in entered.names():
        try:
            total += os.stat(each, dir_fd=entered.fd).st_size
        except FileNotFoundError:
            pass
    assert total <= bound + 8, total
    if made.random() < 0.3:
        limit.remove(entered, own.pop(made.randrange(len(own))))
    if seed % 4 == 3 and number == 40:
        os.kill(os.getpid(), 9)
"""


def test_the_bound_holds_for_many_processes(tmp_path: Path) -> None:
    """At every moment, also when one of them is killed, whatever they write and remove."""

    @settings(max_examples=3, database=None)
    @given(st.integers(0, 2**32), st.integers(1000, 10**6))
    def check(seed: int, bound: int) -> None:
        root = tmp_path / uuid.uuid4().hex
        root.mkdir()
        numbers = [[str(4 * seed + number), str(bound)] for number in range(4)]
        children = [
            subprocess.Popen([sys.executable, "-c", WRITE, str(root), *each]) for each in numbers
        ]
        assert [child.wait() for child in children] == [0, 0, 0, -9]

    check()
