"""Heartbeats of a node, and of a session."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fsspill import ExternalStorage, Settings, StorageUnavailableError
from fsspill.ray import heartbeat
from fsspill.ray.heartbeat import Heartbeat, start_head_process
from fsspill.storage.layout import HEAD
from tests.running import PATIENCE, poll


class Transfer:
    """Counts heartbeats, which may fail."""

    def __init__(self, error: Exception | None = None) -> None:
        self.written: list[str] = []
        self._error = error

    def write_heartbeat(self, name: str) -> None:
        self.written.append(name)
        if self._error:
            raise self._error


def beating(transfer: Any) -> Heartbeat:
    return Heartbeat(transfer, "node")


def test_heartbeats_are_written_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once per interval, however often it is started; stopping ends the thread."""
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.01)
    transfer = Transfer()
    beat = beating(transfer)
    assert transfer.written == []
    beat.start()
    beat.start()
    poll(lambda: len(transfer.written) > 2, "three heartbeats")
    beat.stop()
    assert not beat._thread.is_alive()
    assert set(transfer.written) == {"node"}


def test_a_heartbeat_that_was_never_started_stops() -> None:
    """An IO worker that spilled nothing has written none."""
    transfer = Transfer()
    beating(transfer).stop()
    assert transfer.written == []


def test_a_heartbeat_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """It does not raise: the next one follows soon."""
    beating(Transfer(StorageUnavailableError("no bucket"))).write()
    assert [record.getMessage() for record in caplog.records] == [
        "could not write heartbeat: no bucket"
    ]


@pytest.fixture
def ray_head() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that stands for Ray's head process."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def shared(directory: Path) -> Settings:
    return Settings(f"file://{directory}", shared=True)


@pytest.mark.parametrize("with_files", [False, True])
def test_the_heartbeat_of_a_session_ends_with_its_head(
    with_files: bool, tmp_path: Path, ray_head: subprocess.Popen[bytes]
) -> None:
    """It is removed unless files of the session are left, and then stays for clean-up."""
    directory = tmp_path / "spill"
    log = tmp_path / "log"
    process = start_head_process(shared(directory), "s", ray_head.pid, str(log))
    try:
        beat = directory / "s" / "fsspill_heartbeats" / HEAD
        poll(beat.exists, "the heartbeat")
        if with_files:
            storage = ExternalStorage(shared(directory), session_name="s", node_id="n")
            storage.object_store.put(b"ref", b"some data")  # type: ignore[attr-defined]
            storage.spill_objects([b"ref"])
        ray_head.kill()  # and not reaped yet, as in a container without an init
        assert process.wait(timeout=PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
    assert beat.exists() == with_files
    assert log.read_text() == ""


def test_arguments_are_not_on_the_command_line(
    tmp_path: Path, ray_head: subprocess.Popen[bytes]
) -> None:
    """A command line would show secrets of storage_options to every user of the machine."""
    directory = tmp_path / "spill"
    process = start_head_process(shared(directory), "s", ray_head.pid, str(tmp_path / "log"))
    try:
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert str(directory).encode() not in shown
    finally:
        process.kill()
        process.wait()
