"""Cleaning removes the files of dead sessions, and no others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fsspill import ConfigError, StoragePermissionError
from fsspill.cleanup import clean, scan
from fsspill.cleanup.sessions import DAY
from fsspill.storage.local_client import LocalClient
from tests.altered_answers import refuse_deletion
from tests.at_rest import files
from tests.cleanup.layouts import (
    HOUR,
    MINUTE,
    liveness_of,
    only_session,
    write,
    write_dead_session,
    write_head_heartbeat,
    write_spilled,
)


@pytest.fixture
def undeletable(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return a set of names: files of these names cannot be deleted."""
    return refuse_deletion(monkeypatch)


@pytest.mark.parametrize(
    ("head", "node", "file"),
    [
        (5 * MINUTE, None, None),
        (5 * MINUTE, 9 * DAY, 9 * DAY),
        (29 * MINUTE, None, 9 * DAY),
        (9 * DAY, 5 * MINUTE, 9 * DAY),
        (None, 5 * MINUTE, 9 * DAY),
        (0, 0, 0),
    ],
    ids=["never-spilled", "spilling-nodes-gone", "late", "head-silent", "no-head", "starting"],
)
def test_live_sessions_are_never_touched(
    uri: str, tmp_path: Path, head: float | None, node: float | None, file: float | None
) -> None:
    """Not even with a limit of 0 s, and even if nothing was spilled for days."""
    if head is not None:
        write_head_heartbeat(tmp_path, "s", head)
    if file is not None:
        write_spilled(tmp_path, "s", "n1", age=file, heartbeat=node)
    before = files(tmp_path)
    assert liveness_of(uri) == {"s": "alive"}
    summary = clean(uri, older_than=0)
    assert summary.kept["session s"] == "alive"
    assert summary.sessions == []
    assert files(tmp_path) == before


def test_dead_sessions_are_removed_with_their_directories(uri: str, tmp_path: Path) -> None:
    """Every file and directory is removed, and the summary counts them."""
    write_dead_session(tmp_path, "s")
    (tmp_path / "s" / "ray_spilled_objects_n3").mkdir()
    assert liveness_of(uri) == {"s": "dead"}
    summary = clean(uri)
    assert (summary.sessions, summary.files, summary.nbytes) == (["s"], 5, 2 * 3 + 3 * 10)
    assert (summary.kept, summary.failures) == ({}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_removes_nothing(uri: str, tmp_path: Path) -> None:
    """Its summary is that of the cleaning that follows."""
    write_dead_session(tmp_path, "s")
    write_head_heartbeat(tmp_path, "live", 0)
    write(tmp_path / f"fsspill-check-{'0' * 32}", 2 * DAY)
    before = files(tmp_path)
    dry = clean(uri, dry_run=True)
    assert files(tmp_path) == before
    assert dry == clean(uri)
    assert dry.sessions == ["s"]


@pytest.mark.parametrize("youngest", ["head", "node", "file"])
def test_recent_sessions_are_kept(uri: str, tmp_path: Path, youngest: str) -> None:
    """No heartbeat for half an hour, but one of its files is younger than the limit."""
    age = {"head": 2 * DAY, "node": 2 * DAY, "file": 2 * DAY, youngest: 2 * HOUR}
    write_head_heartbeat(tmp_path, "s", age["head"])
    write_spilled(tmp_path, "s", "n1", age=age["file"], heartbeat=age["node"])
    assert liveness_of(uri) == {"s": "recent"}
    before = files(tmp_path)
    assert clean(uri).kept == {"session s": "not old enough"}
    assert files(tmp_path) == before
    if youngest == "head":
        assert liveness_of(uri, older_than=HOUR) == {"s": "dead"}
        assert clean(uri, older_than=HOUR).sessions == ["s"]
        assert files(tmp_path) == []


@pytest.mark.parametrize("youngest", ["node", "file"])
@pytest.mark.parametrize("head", [9 * DAY, 2 * DAY + HOUR, None])
def test_sessions_that_outlived_the_heartbeat_of_their_head_are_kept(
    uri: str, tmp_path: Path, youngest: str, head: float | None
) -> None:
    """That heartbeat was lost while the session was alive: its age proves nothing.

    The summary says so. They are removed by name.
    """
    age = {"node": 9 * DAY, "file": 9 * DAY, youngest: 2 * DAY}
    write_spilled(tmp_path, "s", "n1", age=age["file"], heartbeat=age["node"])
    if head is not None:
        write_head_heartbeat(tmp_path, "s", head)
    before = files(tmp_path)
    assert liveness_of(uri) == {"s": "unknown"}
    [reason] = clean(uri, dead_nodes=True).kept.values()
    assert reason.endswith("of its head" if head else "its head has no heartbeat")
    assert files(tmp_path) == before
    assert clean(uri, sessions=["s"]).sessions == ["s"]


def test_sessions_end_a_few_minutes_after_their_head(uri: str, tmp_path: Path) -> None:
    """Nodes notice after a minute that their head is gone, and write another heartbeat."""
    write_head_heartbeat(tmp_path, "s", 2 * DAY)
    write_spilled(tmp_path, "s", "n1", age=2 * DAY, heartbeat=2 * DAY - 10 * MINUTE)
    assert clean(uri).sessions == ["s"]


def test_nodes_that_outlived_their_heartbeat_are_kept(uri: str, tmp_path: Path) -> None:
    """It was lost while the node was alive and spilled."""
    write_head_heartbeat(tmp_path, "s", MINUTE)
    write_spilled(tmp_path, "s", "n1", age=2 * DAY, heartbeat=3 * DAY)
    assert clean(uri, dead_nodes=True).nodes == []
    assert len(files(tmp_path)) == 3


def test_the_limit_is_never_below_six_missed_heartbeats(uri: str, tmp_path: Path) -> None:
    """With --older-than 0s, a file younger than 30 minutes still keeps its session."""
    write_head_heartbeat(tmp_path, "s", 40 * MINUTE)
    write_spilled(tmp_path, "s", "n1", age=20 * MINUTE, heartbeat=40 * MINUTE)
    assert clean(uri, older_than=0).kept == {"session s": "not old enough"}
    assert len(files(tmp_path)) == 3


def test_sessions_without_heartbeats_are_kept(uri: str, tmp_path: Path) -> None:
    """A library that spills writes none: its files may still be needed."""
    file = write_spilled(tmp_path, "library", "n1", age=99 * DAY, heartbeat=None)
    assert liveness_of(uri) == {"library": "unknown"}
    summary = clean(uri, dead_nodes=True)
    assert summary.kept == {"session library": "nothing says whether it is alive"}
    assert files(tmp_path) == [file]


@pytest.mark.parametrize("heartbeats", [None, 2 * HOUR, 9 * DAY], ids=["unknown", "recent", "dead"])
def test_named_sessions_are_removed_and_no_others(
    uri: str, tmp_path: Path, heartbeats: float | None
) -> None:
    """They may be of any age; neither dead ones nor leftovers are removed with them."""
    write_spilled(tmp_path, "named", "n1", age=9 * DAY, heartbeat=heartbeats)
    write_dead_session(tmp_path, "other")
    write(tmp_path / f"fsspill-check-{'0' * 32}", 2 * DAY)
    summary = clean(uri, sessions=["named", "named"])
    assert summary.sessions == ["named"]
    assert not (tmp_path / "named").exists()
    assert len(files(tmp_path)) == 6


def test_naming_a_live_session_is_refused(uri: str, tmp_path: Path) -> None:
    """The error says that it is alive, and other named sessions are kept too."""
    write_dead_session(tmp_path, "dead")
    write_head_heartbeat(tmp_path, "live", 0)
    before = files(tmp_path)
    with pytest.raises(ConfigError, match="session live: it is alive"):
        clean(uri, sessions=["dead", "live"])
    assert files(tmp_path) == before


def test_naming_a_missing_session_or_node_is_refused(uri: str, tmp_path: Path) -> None:
    """A misspelt name is an error that lists the right ones, not a success."""
    write_dead_session(tmp_path, "session_1")
    write(tmp_path / "ray_spilled_objects_local" / "f", 0)
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=r"session x: .*Found: session_1"):
        clean(uri, sessions=["session_1", "x"])
    with pytest.raises(ConfigError, match=r"node n1.*Found: local"):
        clean(uri, nodes=["n1"])
    with pytest.raises(ConfigError, match="found both"):
        clean(uri, sessions=["session_1"], dead_nodes=True)
    assert files(tmp_path) == before


def test_progress_counts_up_to_all_files(uri: str, tmp_path: Path) -> None:
    """It receives the number of files done, never decreasing, up to the total."""
    told = []
    for name in ("a", "b", "c"):
        write_dead_session(tmp_path, name)
    clean(uri, progress=lambda step, done, total: told.append((done, total)))
    assert told == [(5, 15), (10, 15), (15, 15)]


def test_a_failed_deletion_keeps_the_heartbeats(
    uri: str, tmp_path: Path, undeletable: set[str]
) -> None:
    """The rest stays dead, not unknown, and is removed the next time."""
    write_dead_session(tmp_path, "s")
    undeletable.add(f"f-{3 * DAY:.0f}")
    summary = clean(uri)
    [(path, error)] = summary.failures.items()
    assert path.endswith(f"f-{3 * DAY:.0f}")
    assert isinstance(error, StoragePermissionError)
    assert (summary.sessions, summary.files, summary.nbytes) == ([], 1, 3)
    assert liveness_of(uri) == {"s": "dead"}
    undeletable.clear()
    assert clean(uri).sessions == ["s"]
    assert files(tmp_path) == []


def test_a_session_that_cannot_be_listed_again_is_kept(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session of unknown liveness is not deleted; the others are."""
    for name in ("a", "b"):
        write_dead_session(tmp_path, name)
    listings: Counter[str] = Counter()
    listed = LocalClient.list_directory

    async def fail_second(self: LocalClient, directory: str) -> Any:
        listings[directory] += 1
        if directory == f"{tmp_path}/a/fsspill_heartbeats" and listings[directory] >= 2:
            raise OSError("gone for a moment")
        return await listed(self, directory)

    monkeypatch.setattr(LocalClient, "list_directory", fail_second)
    summary = clean(uri)
    assert summary.sessions == ["b"]
    assert list(summary.failures) == ["session a"]
    assert len(files(tmp_path)) == 5


@pytest.mark.parametrize(
    "name",
    [
        "data",
        "s/data",
        "s/data/f",
        "s/ray_spilled_objects/f",
        "s/ray_spilled_objects_/f",
        "s/xray_spilled_objects_n1/f",
        "s/ray_spilled_objects_n1/deeper/f",
        "s/ray_spilled_objects_n1/a b",
        "s/ray_spilled_objects_n 1/f",
        "s s/ray_spilled_objects_n1/f",
        "s/fsspill_heartbeats_x/head",
        "s/fsspill_heartbeats/deeper/head",
        "deeper/s/ray_spilled_objects_n1/f",
        "fsspill-check",
        "fsspill-check-0123",
        f"fsspill-check-{'g' * 32}",
        f"s/fsspill-check-{'0' * 32}",
    ],
)
def test_names_outside_the_layout_are_never_touched(uri: str, tmp_path: Path, name: str) -> None:
    """However old they are, and in the middle of a dead session too."""
    other = write(tmp_path / name, 99 * DAY)
    assert all(session.files == session.heartbeats == [] for session in scan(uri))
    write_dead_session(tmp_path, "s")
    summary = clean(uri, older_than=0)
    assert (summary.sessions, summary.files) == (["s"], 5)
    assert files(tmp_path) == [other]


def test_old_files_of_checks_are_removed(uri: str, tmp_path: Path) -> None:
    """They are of interrupted checks; a recent one may be of a check in progress."""
    young = write(tmp_path / f"fsspill-check-{'0' * 32}", HOUR)
    write(tmp_path / f"fsspill-check-{'a' * 32}", 25 * HOUR)
    assert clean(uri).files == 1
    assert files(tmp_path) == [young]


# Nodes


def test_dead_nodes_are_removed_only_on_request(uri: str, tmp_path: Path) -> None:
    """In a live session, the files of the dead node are removed, those of the others stay."""
    write_head_heartbeat(tmp_path, "s", MINUTE)
    write_spilled(tmp_path, "s", "live", age=9 * DAY, heartbeat=MINUTE)
    write_spilled(tmp_path, "s", "dead", age=9 * DAY, heartbeat=2 * DAY)
    write_spilled(tmp_path, "s", "recent", age=9 * DAY, heartbeat=2 * HOUR)
    write_spilled(tmp_path, "s", "inconsistent", age=MINUTE, heartbeat=2 * DAY)
    write_spilled(tmp_path, "s", "unknown", age=9 * DAY, heartbeat=None)
    before = files(tmp_path)
    assert clean(uri).kept["node dead of session s"] == "dead, but its session is alive"
    assert files(tmp_path) == before
    summary = clean(uri, dead_nodes=True)
    assert (summary.nodes, summary.sessions, summary.files) == (["dead"], [], 2)
    assert summary.kept == {"session s": "alive"}
    assert len(files(tmp_path)) == len(before) - 2
    assert not (tmp_path / "s" / "ray_spilled_objects_dead").exists()
    assert not (tmp_path / "s" / "fsspill_heartbeats" / "dead").exists()


def test_dead_nodes_are_kept_without_a_heartbeat_of_the_head(uri: str, tmp_path: Path) -> None:
    """A node without heartbeats may be cut off, not dead, if the head has none either."""
    write_head_heartbeat(tmp_path, "s", 2 * DAY)
    write_spilled(tmp_path, "s", "live", age=DAY, heartbeat=MINUTE)
    write_spilled(tmp_path, "s", "silent", age=9 * DAY, heartbeat=2 * DAY)
    assert clean(uri, dead_nodes=True).nodes == []
    assert len(files(tmp_path)) == 5


def test_node_local_directories_are_removed_only_by_name(uri: str, tmp_path: Path) -> None:
    """They have no session and no heartbeat: it is not known if their nodes are alive."""
    for node in ("n1", "n2"):
        write(tmp_path / f"ray_spilled_objects_{node}" / "f", 99 * DAY)
    session = only_session(uri)
    assert session.name is None
    assert [(n.node_id, len(n.files), n.liveness) for n in session.nodes.values()] == [
        ("n1", 1, "unknown"),
        ("n2", 1, "unknown"),
    ]
    assert list(clean(uri, dead_nodes=True).kept) == ["node n1", "node n2"]
    summary = clean(uri, nodes=["n2"])
    assert (summary.nodes, summary.sessions, summary.files) == (["n2"], [], 1)
    assert [path.name for path in tmp_path.iterdir()] == ["ray_spilled_objects_n1"]


# Links


@pytest.mark.parametrize("replaced", ["s2", "s2/ray_spilled_objects_n1", "s2/fsspill_heartbeats"])
def test_a_directory_that_becomes_a_link_leads_to_nothing(
    uri: str, tmp_path: Path, replaced: str
) -> None:
    """Another user replaces his own directory after it was listed, before its files are removed."""
    outside = tmp_path.with_name(tmp_path.name + "-outside")
    for name in ("s1", "s2"):
        write_dead_session(tmp_path, name)
    write_dead_session(outside, "s2")

    def replace(step: str, done: int, total: int) -> None:
        path = tmp_path / replaced
        if not path.is_symlink():
            path.rename(tmp_path / "moved")
            path.symlink_to(outside / replaced)

    summary = clean(uri, progress=replace)
    assert summary.sessions == ["s1"]
    assert len(files(outside)) == 5
    assert any("found a link" in str(error) for error in summary.failures.values())


def test_links_in_a_session_are_removed_with_it_or_left(uri: str, tmp_path: Path) -> None:
    """What they lead to stays: a directory, a file, a heartbeat, the file of a check."""
    outside = tmp_path.with_name(tmp_path.name + "-outside")
    write_dead_session(outside, "s")
    write_dead_session(tmp_path, "s")
    spilled = outside / "s/ray_spilled_objects_n1"
    [target] = spilled.iterdir()
    (tmp_path / f"fsspill-check-{'0' * 32}").symlink_to(target)
    (tmp_path / "s/ray_spilled_objects_n3").symlink_to(spilled)
    (tmp_path / "s/ray_spilled_objects_n1/link").symlink_to(target)
    (tmp_path / "s/fsspill_heartbeats/n3").symlink_to(outside / "s/fsspill_heartbeats/n1")
    assert clean(uri).files == 5
    assert len(files(outside)) == 5
