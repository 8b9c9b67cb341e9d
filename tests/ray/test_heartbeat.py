"""Heartbeats of a node, and of a session."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fsspill import ExternalStorage, Settings, StorageUnavailableError
from fsspill.ray import heartbeat
from fsspill.ray.heartbeat import (
    Heartbeat,
    run_until_exit,
    start_head_process,
    start_node_process,
)
from fsspill.storage.layout import HEAD
from tests.running import PATIENCE, poll, processes


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
    return Heartbeat(SimpleNamespace(files=transfer), "node")  # type: ignore[arg-type]


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
    """It does not raise: the next one follows soon. Of an outage one line an hour is enough."""
    transfer = Transfer(StorageUnavailableError("no bucket"))
    beat = beating(transfer)
    for _ in range(3600 // int(heartbeat.INTERVAL)):
        beat.write()
    [line] = caplog.messages
    assert line.startswith("could not write heartbeat 'node'")
    assert line.endswith(": no bucket")
    transfer._error = None
    beat.write()
    assert beat._failures == 0


@pytest.fixture
def ray_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that stands for Ray's head process, and shares a directory with others."""
    monkeypatch.setattr("fsspill.placement.shared_state.gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
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


def test_the_heartbeat_of_a_session_needs_no_log(
    tmp_path: Path, ray_head: subprocess.Popen[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """It starts where the disk of the logs is full, or their directory is gone."""
    log = tmp_path / "missing" / "log"
    process = start_head_process(shared(tmp_path / "spill"), "s", ray_head.pid, str(log))
    try:
        poll((tmp_path / "spill/s/fsspill_heartbeats" / HEAD).exists, "the heartbeat")
        ray_head.kill()
        assert process.wait(timeout=PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
    assert len(caplog.messages) == 1
    assert "has no log" in caplog.messages[0]


# Two processes


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], set[int]]]:
    """Return a function that returns the processes of heartbeats that the test has started."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # by which they are found

    def find() -> set[int]:
        return {pid for pid in processes(str(tmp_path)) if is_heartbeat(pid)}

    yield find
    poll(lambda: not find(), "all of them to end")


def is_heartbeat(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"child_process.py" in command


def has_ended(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("killed", ["writer", "standby"])
def test_a_heartbeat_survives_the_end_of_one_of_its_two_processes(
    killed: str,
    tmp_path: Path,
    started: Callable[[], set[int]],
    ray_head: subprocess.Popen[bytes],
) -> None:
    """Again and again: the other one starts a third, and the file is written soon."""
    directory = tmp_path / "spill"
    beat = directory / "s" / "fsspill_heartbeats" / HEAD
    first = start_head_process(shared(directory), "s", ray_head.pid, str(tmp_path / "log"))
    writer = first.pid
    for _ in range(2):
        poll(lambda: len(started()) == 2, "the writer and its standby")
        poll(beat.exists, "the heartbeat")
        [standby] = started() - {writer}
        assert parent_of(standby) == writer
        if killed == "writer":
            beat.unlink()
            os.kill(writer, signal.SIGKILL)
            first.wait()
            writer = standby
        else:
            os.kill(standby, signal.SIGKILL)
            poll(partial(has_ended, standby), "the standby to end")
    poll(beat.exists, "the heartbeat")
    ray_head.kill()
    first.wait()
    poll(lambda: not started(), "both to end with Ray")
    assert not beat.exists()
    assert (tmp_path / "log").read_text() == ""


def test_a_second_process_for_the_same_head_ends(
    tmp_path: Path, started: Callable[[], set[int]], ray_head: subprocess.Popen[bytes]
) -> None:
    """One of a head that was started again has another process of Ray, and goes on."""
    arguments = (shared(tmp_path / "spill"), "s", ray_head.pid, str(tmp_path / "log"))
    first = start_head_process(*arguments)
    poll(lambda: len(started()) == 2, "the writer and its standby")
    assert start_head_process(*arguments).wait(timeout=PATIENCE) == 0
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as again:
        second = start_head_process(*arguments[:2], again.pid, arguments[3])
        poll(lambda: len(started()) == 4, "the writer of the new head")
        ray_head.kill()
        assert first.wait(timeout=PATIENCE) == 0
        poll(lambda: len(started()) == 2, "the old standby to end")
        assert second.poll() is None
        again.kill()
    assert second.wait(timeout=PATIENCE) == 0


def test_a_node_has_one_process_whatever_the_number_of_its_io_workers(
    tmp_path: Path,
    started: Callable[[], set[int]],
    ray_head: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It lives as long as the raylet, and none is started without one or without shared files."""
    directory = tmp_path / "spill"
    monkeypatch.delenv("RAY_RAYLET_PID", raising=False)
    assert start_node_process(shared(directory), "s", "n") is None
    monkeypatch.setenv("RAY_RAYLET_PID", str(ray_head.pid))
    assert start_node_process(Settings(f"file://{directory}"), "s", "n") is None
    process = start_node_process(shared(directory), "s", "n")
    assert process is not None
    poll(lambda: len(started()) == 2, "the writer and its standby")
    assert start_node_process(shared(directory), "s", "n") is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    poll(lambda: len(started()) == 2, "another standby")
    ray_head.kill()
    poll(lambda: not started(), "both to end with the raylet")


def test_the_heartbeat_of_a_node_goes_on_without_its_io_workers(
    tmp_path: Path, ray_head: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays when the node ends: clean-up needs it to see that the node is dead."""
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.1)
    monkeypatch.setattr(heartbeat, "start_in_child", lambda function: None)
    beat = tmp_path / "s" / "fsspill_heartbeats" / "n"
    arguments = (shared(tmp_path), "s", "n", ray_head.pid)
    thread = threading.Thread(target=run_until_exit, args=arguments)
    thread.start()
    for _ in range(2):
        poll(beat.exists, "the heartbeat")
        beat.unlink()
    poll(beat.exists, "the heartbeat")
    ray_head.kill()
    thread.join(PATIENCE)
    assert beat.exists()


def test_a_standby_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine may have no process left for the moment."""
    calls: list[object] = []

    def start(function: object) -> None:
        calls.append(function)
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(heartbeat, "start_in_child", start)
    monkeypatch.setattr(heartbeat, "_RESTART_INTERVAL", 0)
    standby = heartbeat._Standby(int)
    standby.keep_alive()
    standby.keep_alive()
    assert calls == [int, int]
    assert "no more processes" in caplog.text


def test_a_heartbeat_is_written_soon_after_a_suspended_machine_resumes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The monotonic clock stood still meanwhile, and `clean` may run first thing."""
    monkeypatch.setattr(heartbeat, "_CLOCK_INTERVAL", 0.01)
    transfer = Transfer()
    beat = beating(transfer)
    beat.start()
    poll(lambda: len(transfer.written) == 1, "the first heartbeat")
    now = time.time()
    monkeypatch.setattr("fsspill.ray.heartbeat.time.time", lambda: now + heartbeat.INTERVAL)
    poll(lambda: len(transfer.written) == 2, "another one")
    beat.stop()


def test_a_node_process_that_cannot_be_started_leaves_the_heartbeat_of_the_io_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged once."""

    def fail() -> None:
        raise OSError("no more processes")

    transfer = Transfer()
    holder = SimpleNamespace(files=transfer)
    beat = Heartbeat(holder, "node", before_first=fail)  # type: ignore[arg-type]
    beat.start()
    poll(lambda: transfer.written, "the heartbeat")
    beat.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "the heartbeat of this node ends with its IO workers, the process for it did not start: "
        "no more processes"
    ]


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
