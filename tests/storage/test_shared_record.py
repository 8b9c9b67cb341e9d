"""A few bytes that the processes of a node change in place."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from fsspill.storage.shared_record import SharedRecord
from tests import virtual_time
from tests.forking import IGNORE_WARNING, run_in_fork


def opening(path: Path) -> Callable[..., int]:
    """Return a function that opens a file as `SharedState.open_file` does."""

    def open_file(*, create: bool) -> int:
        return os.open(path, os.O_RDWR | (os.O_CREAT if create else 0))

    return open_file


def count(record: SharedRecord) -> bytes:
    """Increase a record by one, in virtual time."""
    add = record.change(lambda data: bytes([data[0] + 1]) if data else b"\1")
    virtual_time.run(add)
    return record.read()


def test_processes_share_it(tmp_path: Path) -> None:
    """Each sees what the other has made of it."""
    records = [SharedRecord(1, opening(tmp_path / "x")) for _ in range(2)]
    assert [record.read() for record in records] == [b"", b""]
    assert not (tmp_path / "x").exists()
    assert [count(records[number]) for number in (0, 1, 1, 0)] == [b"\1", b"\2", b"\3", b"\4"]


def test_each_has_its_own_where_nothing_can_be_shared(tmp_path: Path) -> None:
    """Without a file, or where it cannot be opened."""
    for record in (SharedRecord(1), SharedRecord(1, opening(tmp_path / "missing" / "x"))):
        assert record.read() == b""
        assert [count(record), count(record)] == [b"\1", b"\2"]


def test_each_has_its_own_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk has room for the name of the file, and none for its bytes."""

    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    record, other = (SharedRecord(1, opening(tmp_path / "x")) for _ in range(2))
    assert [count(record), count(record), count(other)] == [b"\1", b"\2", b"\1"]


def test_changes_exclude_each_other(tmp_path: Path) -> None:
    """No change is lost, though they are made concurrently."""
    records = [SharedRecord(1, opening(tmp_path / "x")) for _ in range(8)]

    async def change_all() -> None:
        def add(data: bytes) -> bytes:
            return bytes([data[0] + 1]) if data else b"\1"

        await asyncio.gather(*(record.change(add) for record in records * 20))

    virtual_time.run(change_all())
    assert records[0].read() == bytes([160])


def test_the_lock_of_a_process_that_was_stopped_is_ignored(tmp_path: Path) -> None:
    """After 20 ms: nobody waits for it for ever."""
    record = SharedRecord(1, opening(tmp_path / "x"))
    count(record)
    held = opening(tmp_path / "x")(create=False)
    fcntl.flock(held, fcntl.LOCK_EX)
    _, seconds = virtual_time.run(record.change(lambda data: b"\7"))
    assert 0.01 < seconds < 0.1
    assert record.read() == b"\7"
    os.close(held)


@pytest.mark.filterwarnings(IGNORE_WARNING)
def test_a_process_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    """Its lock ends with it; `run_in_fork` kills the child that has it."""

    def lock() -> None:
        fcntl.flock(opening(tmp_path / "x")(create=True), fcntl.LOCK_EX)

    run_in_fork(lock)
    record = SharedRecord(1, opening(tmp_path / "x"))
    _, seconds = virtual_time.run(record.change(lambda data: b"\7"))
    assert seconds == 0


@pytest.mark.filterwarnings(IGNORE_WARNING)
def test_a_child_shares_it_with_its_parent(tmp_path: Path) -> None:
    """Also by a file that it has inherited open."""
    record = SharedRecord(1, opening(tmp_path / "x"))
    count(record)
    assert run_in_fork(partial(count, record)) == b"\2"
    assert count(record) == b"\3"


def test_its_file_is_closed_with_it(tmp_path: Path) -> None:
    """And opened again by its next use."""
    record = SharedRecord(1, opening(tmp_path / "x"))
    count(record)
    before = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []
    record.close()
    if before:
        assert len(os.listdir("/proc/self/fd")) == len(before) - 1
    assert count(record) == b"\2"
