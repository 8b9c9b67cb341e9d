"""The evidence against a session, taken by two clocks just before a removal."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from fsspill.cleanup import clean
from fsspill.cleanup.sessions import DAY
from tests.at_rest import files
from tests.cleanup.layouts import (
    MINUTE,
    heartbeat_data,
    liveness_of,
    write,
    write_dead_session,
    write_head_heartbeat,
    write_spilled,
)


def jump(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Make all files but those of this call appear older, as if the storage's clock had jumped."""
    info = LocalFileSystem.info

    def jumped(self: Any, path: Any, **kwargs: Any) -> dict[str, Any]:
        found: dict[str, Any] = info(self, path, **kwargs)
        new = "fsspill-check" in found["name"]
        return {**found, "mtime": found["mtime"] + (seconds if new else 0)}

    monkeypatch.setattr(LocalFileSystem, "info", jumped)


@pytest.mark.parametrize("dry_run", [True, False])
def test_live_sessions_survive_a_jump_of_the_clock_of_the_storage(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    """All heartbeats look days old, but the times in them do not."""
    write_head_heartbeat(tmp_path, "s", MINUTE)
    write_spilled(tmp_path, "s", "n1", age=MINUTE, heartbeat=MINUTE)
    jump(monkeypatch, 2 * DAY)
    before = files(tmp_path)
    assert liveness_of(uri) == {"s": "dead"}
    for options in ({}, {"sessions": ["s"]}):
        summary = clean(uri, dry_run=dry_run, **options)  # type: ignore[arg-type]
        assert summary.kept["session s"].startswith("clocks disagree: its last heartbeat is ")
        assert summary.sessions == []
    assert files(tmp_path) == before


def test_live_nodes_survive_a_wrong_clock_of_the_storage(uri: str, tmp_path: Path) -> None:
    """The heartbeat of a node has a second time in it too."""
    write_head_heartbeat(tmp_path, "s", MINUTE)
    write_spilled(tmp_path, "s", "n1", age=9 * DAY, heartbeat=None)
    write(tmp_path / "s" / "fsspill_heartbeats" / "n1", 2 * DAY, heartbeat_data(MINUTE))
    summary = clean(uri, dead_nodes=True)
    assert summary.nodes == []
    assert "clocks disagree" in summary.kept["node n1 of session s"]
    assert len(files(tmp_path)) == 3


@pytest.mark.parametrize("offset", [-9 * DAY, 9 * DAY])
def test_live_sessions_survive_a_wrong_clock_of_this_machine(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: float
) -> None:
    """The other clock keeps them, and what is dead by one clock alone."""
    write_head_heartbeat(tmp_path, "live", MINUTE)
    write_dead_session(tmp_path, "dead")
    now = time.time()
    monkeypatch.setattr("fsspill.cleanup.evidence.time.time", lambda: now + offset)
    assert clean(uri).sessions == (["dead"] if offset > 0 else [])
    assert (tmp_path / "live" / "fsspill_heartbeats" / "head").exists()


@pytest.mark.parametrize("content", [b"", b"alive", b"-1"])
def test_a_heartbeat_without_a_time_is_no_evidence(
    uri: str, tmp_path: Path, content: bytes
) -> None:
    """Its session is kept, unless it is named."""
    write(tmp_path / "s" / "fsspill_heartbeats" / "head", 2 * DAY, content)
    assert clean(uri).kept == {"session s": "its last heartbeat does not say when it was written"}
    assert clean(uri, sessions=["s"]).sessions == ["s"]


def test_a_heartbeat_that_changed_to_an_older_time_is_new(uri: str, tmp_path: Path) -> None:
    """The clock of the storage may have jumped back since the listing."""
    for name in ("a", "b"):
        write_dead_session(tmp_path, name)

    def send_heartbeat(step: str, done: int, total: int) -> None:
        write_head_heartbeat(tmp_path, "b", 9 * DAY)

    summary = clean(uri, progress=send_heartbeat)
    assert summary.kept == {"session b": "new heartbeat seen"}


def test_a_new_heartbeat_ends_a_long_removal(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine may have been paused in the middle, and a head restarted meanwhile."""
    # The package has a function of the module's name.
    monkeypatch.setattr(sys.modules["fsspill.cleanup.clean"], "_FILES_PER_STEP", 2)
    write_head_heartbeat(tmp_path, "s", 2 * DAY)
    for day in range(3, 9):
        write_spilled(tmp_path, "s", "n1", age=day * DAY, heartbeat=None)

    def send_heartbeat(step: str, done: int, total: int) -> None:
        write_head_heartbeat(tmp_path, "s", 0)

    summary = clean(uri, progress=send_heartbeat)
    assert (summary.kept, summary.sessions) == ({"session s": "new heartbeat seen"}, [])
    assert len(files(tmp_path)) == 1 + 4


def test_a_session_with_a_new_heartbeat_is_kept(uri: str, tmp_path: Path) -> None:
    """Heartbeats are listed again just before their session is removed."""
    for name in ("a", "b"):
        write_dead_session(tmp_path, name)

    def send_heartbeat(step: str, done: int, total: int) -> None:
        write_head_heartbeat(tmp_path, "b", 0)

    summary = clean(uri, progress=send_heartbeat)
    assert summary.sessions == ["a"]
    assert summary.kept == {"session b": "new heartbeat seen"}
    assert len(files(tmp_path)) == 5


def test_a_node_with_a_new_heartbeat_is_kept(uri: str, tmp_path: Path) -> None:
    """Its heartbeat is listed again just before its files are removed."""
    write_head_heartbeat(tmp_path, "s", 0)
    for node in ("a", "b"):
        write_spilled(tmp_path, "s", node, age=9 * DAY, heartbeat=2 * DAY)

    def send_heartbeat(step: str, done: int, total: int) -> None:
        write(tmp_path / "s" / "fsspill_heartbeats" / "b", 0)

    summary = clean(uri, dead_nodes=True, progress=send_heartbeat)
    assert summary.nodes == ["a"]
    assert summary.kept["node b of session s"] == "new heartbeat seen"
    assert len(files(tmp_path)) == 3
