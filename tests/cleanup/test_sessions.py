"""Which sessions live, and that cleaning removes what the dead ones left and nothing else."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import sync
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from fsspill import (
    ConfigError,
    FsspillError,
    StorageNotFoundError,
    StoragePermissionError,
    StorageUnavailableError,
)
from fsspill.cleanup.clean import clean
from fsspill.cleanup.sessions import DAY, STALE_AFTER, Session, classify, scan
from fsspill.storage.connection import connect
from fsspill.storage.layout import SpillLocation
from fsspill.testing.s3_server import S3Server
from fsspill.transfer import deletion
from fsspill.transfer.deletion import delete_once
from tests.at_rest import files, keys, open_uploads

MINUTE, HOUR = 60.0, 3600.0

some_age = st.none() | st.floats(0, 1e7)
ages = st.lists(some_age)
seconds = st.floats(0, 1e7)


# The rules, as a function of ages


@given(st.floats(0, STALE_AFTER, exclude_max=True), ages, ages, seconds)
def test_a_fresh_alive_file_means_alive(
    fresh: float, heartbeats: list[float | None], others: list[float | None], older_than: float
) -> None:
    """Whatever else there is, and however short the limit."""
    assert classify([*heartbeats, fresh], others, older_than) == "alive"


@given(ages, ages, seconds)
def test_dead_means_that_everything_is_old(
    heartbeats: list[float | None], others: list[float | None], older_than: float
) -> None:
    """There is a heartbeat file, every age is known, and none is less than either limit."""
    if classify(heartbeats, others, older_than) == "dead":
        assert heartbeats
        for age in (*heartbeats, *others):
            assert age is not None
            assert age >= older_than
            assert age >= STALE_AFTER


@given(st.lists(seconds, min_size=1), st.lists(seconds), seconds)
def test_old_enough_means_dead(
    heartbeats: list[float], others: list[float], older_than: float
) -> None:
    """What has a heartbeat file does not stay for ever."""
    limit = max(older_than, STALE_AFTER)
    old = [[age + limit for age in some] for some in (heartbeats, others)]
    assert classify(old[0], old[1], older_than) == "dead"


@given(ages, seconds)
def test_no_alive_file_means_unknown(others: list[float | None], older_than: float) -> None:
    """However old the files are."""
    assert classify([], others, older_than) == "unknown"


# What lies in a directory


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"file://{tmp_path}"


def write(path: Path, age: float) -> Path:
    """Write a file of 3 bytes that is `age` seconds old by the clock that its filesystem uses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"abc")
    written = path.stat().st_mtime - age
    os.utime(path, (written, written))
    return path


def spill(root: Path, session: str, node: str, age: float, heartbeat: float | None) -> Path:
    """Write a spilled file of a node, and its heartbeat file."""
    if heartbeat is not None:
        write(root / session / "fsspill_heartbeats" / node, heartbeat)
    return write(root / session / f"ray_spilled_objects_{node}" / f"f-{age:.0f}", age)


def heartbeat(root: Path, session: str, age: float) -> Path:
    """Write the heartbeat file of the head."""
    return write(root / session / "fsspill_heartbeats" / "head", age)


def about(age: float) -> Any:
    """Compare with an age that a busy machine may have let grow."""
    return pytest.approx(age, abs=5 * MINUTE)


def states(
    uri: str, older_than: float = DAY, stale_after: float = STALE_AFTER
) -> dict[str | None, str]:
    found = scan(uri, older_than=older_than, stale_after=stale_after)
    return {session.name: session.state for session in found}


def only_session(uri: str) -> Session:
    [session] = scan(uri)
    return session


def dead_session(root: Path, name: str) -> None:
    heartbeat(root, name, 2 * DAY)
    spill(root, name, "n1", age=3 * DAY, heartbeat=2 * DAY)
    spill(root, name, "n2", age=4 * DAY, heartbeat=4 * DAY)


def test_scan_says_what_each_node_has(uri: str, tmp_path: Path) -> None:
    """Files, bytes, the age of the youngest file, and whether it lives."""
    heartbeat(tmp_path, "s", 60)
    spill(tmp_path, "s", "n1", age=5 * HOUR, heartbeat=90)
    spill(tmp_path, "s", "n1", age=3 * HOUR, heartbeat=90)
    spill(tmp_path, "s", "n2", age=3 * DAY, heartbeat=2 * DAY)
    session = only_session(uri)
    nodes = session.nodes.values()
    found = [(node.node_id, node.files, node.nbytes, node.state) for node in nodes]
    assert found == [("n1", 2, 6, "alive"), ("n2", 1, 3, "dead")]
    assert [node.age for node in nodes] == [about(3 * HOUR), about(3 * DAY)]
    assert session.age == about(60)
    assert session.name == "s"
    assert session.state == "alive"
    assert session.uploads == []


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
def test_a_session_that_beats_is_never_touched(
    uri: str, tmp_path: Path, head: float | None, node: float | None, file: float | None
) -> None:
    """Not even with no limit at all, and even if nothing was spilled for days."""
    if head is not None:
        heartbeat(tmp_path, "s", head)
    if file is not None:
        spill(tmp_path, "s", "n1", age=file, heartbeat=node)
    before = files(tmp_path)
    assert states(uri) == {"s": "alive"}
    summary = clean(uri, older_than=0)
    assert summary.kept["session s"] == "alive"
    assert summary.sessions == []
    assert files(tmp_path) == before


def test_a_head_that_restarts_makes_its_session_alive_again(uri: str, tmp_path: Path) -> None:
    """A session is what its newest heartbeat file says, not what it was."""
    dead_session(tmp_path, "s")
    assert states(uri) == {"s": "dead"}
    heartbeat(tmp_path, "s", 0)
    assert states(uri) == {"s": "alive"}


def test_a_dead_session_is_removed_with_its_directories(uri: str, tmp_path: Path) -> None:
    """Every file and directory of it goes, and the summary counts them."""
    dead_session(tmp_path, "s")
    (tmp_path / "s" / "ray_spilled_objects_n3").mkdir()
    assert states(uri) == {"s": "dead"}
    summary = clean(uri)
    assert (summary.sessions, summary.files, summary.nbytes) == (["s"], 5, 15)
    assert (summary.kept, summary.failures) == ({}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_the_same_and_removes_nothing(uri: str, tmp_path: Path) -> None:
    """Its summary is that of the cleaning that follows."""
    dead_session(tmp_path, "s")
    heartbeat(tmp_path, "living", 0)
    write(tmp_path / f"fsspill-check-{'0' * 32}", 2 * DAY)
    before = files(tmp_path)
    dry = clean(uri, dry_run=True)
    assert files(tmp_path) == before
    assert dry == clean(uri)
    assert dry.sessions == ["s"]


@pytest.mark.parametrize("youngest", ["head", "node", "file"])
def test_a_recent_session_is_kept(uri: str, tmp_path: Path, youngest: str) -> None:
    """Silent for half an hour, but something in it is younger than the limit."""
    age = {"head": 2 * DAY, "node": 2 * DAY, "file": 2 * DAY, youngest: 2 * HOUR}
    heartbeat(tmp_path, "s", age["head"])
    spill(tmp_path, "s", "n1", age=age["file"], heartbeat=age["node"])
    assert states(uri) == {"s": "recent"}
    assert states(uri, older_than=HOUR) == {"s": "dead"}
    before = files(tmp_path)
    assert clean(uri).kept == {"session s": "not old enough"}
    assert files(tmp_path) == before
    assert clean(uri, older_than=HOUR).sessions == ["s"]
    assert files(tmp_path) == []


def test_the_limit_is_never_less_than_six_missed_beats(uri: str, tmp_path: Path) -> None:
    """With --older-than 0s, a file younger than 30 minutes still keeps its session."""
    heartbeat(tmp_path, "s", 40 * MINUTE)
    spill(tmp_path, "s", "n1", age=20 * MINUTE, heartbeat=40 * MINUTE)
    assert clean(uri, older_than=0).kept == {"session s": "not old enough"}
    assert len(files(tmp_path)) == 3


def test_a_session_without_alive_files_is_kept(uri: str, tmp_path: Path) -> None:
    """A library that spills writes none: nothing says whether anybody still wants the files."""
    file = spill(tmp_path, "library", "n1", age=99 * DAY, heartbeat=None)
    assert states(uri) == {"library": "unknown"}
    summary = clean(uri, dead_nodes=True)
    assert summary.kept == {"session library": "nothing says whether it is alive"}
    assert files(tmp_path) == [file]


@pytest.mark.parametrize("heartbeats", [None, 2 * HOUR, 9 * DAY], ids=["unknown", "recent", "dead"])
def test_a_session_that_is_named_is_removed_and_no_other(
    uri: str, tmp_path: Path, heartbeats: float | None
) -> None:
    """Whatever its age, unless it is alive; and neither dead ones nor leftovers go with it."""
    spill(tmp_path, "named", "n1", age=9 * DAY, heartbeat=heartbeats)
    dead_session(tmp_path, "other")
    write(tmp_path / f"fsspill-check-{'0' * 32}", 2 * DAY)
    summary = clean(uri, sessions=["named", "named"])
    assert summary.sessions == ["named"]
    assert not (tmp_path / "named").exists()
    assert len(files(tmp_path)) == 6


def test_naming_a_session_that_is_alive_is_refused(uri: str, tmp_path: Path) -> None:
    """The error says so, and what else was named stays too."""
    dead_session(tmp_path, "dead")
    heartbeat(tmp_path, "living", 0)
    before = files(tmp_path)
    with pytest.raises(ConfigError, match="session living: it is alive"):
        clean(uri, sessions=["dead", "living"])
    assert files(tmp_path) == before


def test_naming_what_is_not_there_is_refused(uri: str, tmp_path: Path) -> None:
    """A misspelt name is an error that lists the right ones, not a success."""
    dead_session(tmp_path, "session_1")
    write(tmp_path / "ray_spilled_objects_local" / "f", 0)
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=r"session x: .*Found: session_1"):
        clean(uri, sessions=["session_1", "x"])
    with pytest.raises(ConfigError, match=r"node n1.*Found: local"):
        clean(uri, nodes=["n1"])
    with pytest.raises(ConfigError, match="at once"):
        clean(uri, sessions=["session_1"], dead_nodes=True)
    assert files(tmp_path) == before


def test_a_session_that_comes_back_while_others_are_removed_is_kept(
    uri: str, tmp_path: Path
) -> None:
    """Its heartbeat files are looked at again just before it is its turn."""
    for name in ("a", "b"):
        dead_session(tmp_path, name)

    def come_back(step: str, done: int, total: int) -> None:
        heartbeat(tmp_path, "b", 0)

    summary = clean(uri, progress=come_back)
    assert summary.sessions == ["a"]
    assert summary.kept == {"session b": "came back to life"}
    assert len(files(tmp_path)) == 5


def test_progress_ends_with_all_files(uri: str, tmp_path: Path) -> None:
    """It is told how many files are done, never backwards, up to the total."""
    told = []
    for name in ("a", "b", "c"):
        dead_session(tmp_path, name)
    clean(uri, progress=lambda step, done, total: told.append((done, total)))
    assert told == [(5, 15), (10, 15), (15, 15)]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return a set of names: files of these names cannot be deleted."""
    names: set[str] = set()
    remove = LocalFileSystem.rm_file

    def rm_file(self: Any, path: str) -> None:
        if os.path.basename(path) in names:
            raise PermissionError(path)
        remove(self, path)

    monkeypatch.setattr(LocalFileSystem, "rm_file", rm_file)
    return names


def test_a_failure_keeps_the_alive_files(uri: str, tmp_path: Path, refused: set[str]) -> None:
    """So that the rest is dead, not unknown, and goes the next time."""
    dead_session(tmp_path, "s")
    refused.add(f"f-{3 * DAY:.0f}")
    summary = clean(uri)
    [(path, error)] = summary.failures.items()
    assert path.endswith(f"f-{3 * DAY:.0f}")
    assert isinstance(error, StoragePermissionError)
    assert (summary.sessions, summary.files, summary.nbytes) == ([], 1, 3)
    assert states(uri) == {"s": "dead"}
    refused.clear()
    assert clean(uri).sessions == ["s"]
    assert files(tmp_path) == []


def test_a_session_that_cannot_be_looked_at_again_is_kept(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not knowing is no reason to delete; the others are cleaned."""
    for name in ("a", "b"):
        dead_session(tmp_path, name)
    looks: Counter[str] = Counter()
    ls = LocalFileSystem.ls

    def fail_second(self: Any, path: str, *args: Any, **kwargs: Any) -> Any:
        looks[path] += 1
        if path == f"{tmp_path}/a/fsspill_heartbeats" and looks[path] == 2:
            raise OSError("gone for a moment")
        return ls(self, path, *args, **kwargs)

    monkeypatch.setattr(LocalFileSystem, "ls", fail_second)
    summary = clean(uri)
    assert summary.sessions == ["b"]
    assert list(summary.failures) == ["session a"]
    assert len(files(tmp_path)) == 5


# Names


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
def test_what_is_not_named_as_ours_is_never_touched(uri: str, tmp_path: Path, name: str) -> None:
    """Old as it may be, and in the middle of a dead session too."""
    other = write(tmp_path / name, 99 * DAY)
    assert all(session.stored == session.heartbeats == [] for session in scan(uri))
    dead_session(tmp_path, "s")
    summary = clean(uri, older_than=0)
    assert (summary.sessions, summary.files) == (["s"], 5)
    assert files(tmp_path) == [other]


plain = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True).filter(
    lambda name: name not in (".", "..")
)


@given(plain, plain, st.integers(1, 2000))
def test_what_is_named_as_ours_is_found(session: str, node: str, count: int) -> None:
    """Every name that a spill makes is taken apart into the session and the node it was made of."""
    location = SpillLocation(
        "memory://layout", prefix="", session_name=session, node_id=node, shared=False
    )
    fs = fsspec.filesystem("memory")
    fs.pipe_file(location.new_file(count, 7), b"1234567")
    try:
        found = only_session("memory://layout")
    finally:
        fs.rm("/layout", recursive=True)
    [spilled] = found.nodes.values()
    assert (found.name, spilled.node_id, spilled.files, spilled.nbytes) == (session, node, 1, 7)


def test_links_are_not_followed(uri: str, tmp_path: Path) -> None:
    """A link to a session elsewhere, or in the place of a file, is not ours."""
    elsewhere = tmp_path / "elsewhere" / "deep" / "tree"
    dead_session(elsewhere, "s")
    (tmp_path / "link").symlink_to(elsewhere / "s")
    assert scan(uri) == []
    dead_session(tmp_path, "s")
    (tmp_path / "s" / "ray_spilled_objects_n1" / "link").symlink_to(elsewhere)
    assert clean(uri).files == 5
    assert len(files(elsewhere)) == 5


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return a set of names: directories of these names cannot be listed."""
    names: set[str] = set()
    ls = LocalFileSystem.ls

    def refuse(self: Any, path: str, *args: Any, **kwargs: Any) -> Any:
        if os.path.basename(path) in names:
            raise PermissionError(path)
        return ls(self, path, *args, **kwargs)

    monkeypatch.setattr(LocalFileSystem, "ls", refuse)
    return names


def test_sessions_that_cannot_be_read_are_passed_over(
    uri: str, tmp_path: Path, unreadable: set[str]
) -> None:
    """A shared directory may have some of other users."""
    dead_session(tmp_path, "mine")
    dead_session(tmp_path, "theirs")
    unreadable.add("theirs")
    assert clean(uri).sessions == ["mine"]
    assert len(files(tmp_path)) == 5


@pytest.mark.parametrize("name", ["fsspill_heartbeats", "ray_spilled_objects_n1"])
def test_a_session_that_can_be_read_in_part_is_an_error(
    uri: str, tmp_path: Path, unreadable: set[str], name: str
) -> None:
    """What cannot be seen may be what keeps it alive: nothing is removed, named or not."""
    dead_session(tmp_path, "s")
    unreadable.add(name)
    for sessions in ([], ["s"]):
        with pytest.raises(StoragePermissionError):
            clean(uri, sessions=sessions)
    assert len(files(tmp_path)) == 5


def test_the_directory_of_a_session_is_not_a_uri(uri: str, tmp_path: Path) -> None:
    """Its nodes would look like node-local ones, of which nothing says that they live."""
    dead_session(tmp_path, "s")
    with pytest.raises(ConfigError, match="directory of a session"):
        clean(f"{uri}/s", nodes=["n1"])
    assert len(files(tmp_path)) == 5


# Nodes


def test_dead_nodes_are_removed_only_when_asked_for(uri: str, tmp_path: Path) -> None:
    """Of a session that lives: what the dead node left goes, what the others have stays."""
    heartbeat(tmp_path, "s", MINUTE)
    spill(tmp_path, "s", "living", age=9 * DAY, heartbeat=MINUTE)
    spill(tmp_path, "s", "dead", age=9 * DAY, heartbeat=2 * DAY)
    spill(tmp_path, "s", "recent", age=9 * DAY, heartbeat=2 * HOUR)
    spill(tmp_path, "s", "inconsistent", age=MINUTE, heartbeat=2 * DAY)
    spill(tmp_path, "s", "unknown", age=9 * DAY, heartbeat=None)
    before = files(tmp_path)
    assert clean(uri).kept["node dead of session s"] == "dead, but its session is alive"
    assert files(tmp_path) == before
    summary = clean(uri, dead_nodes=True)
    assert (summary.nodes, summary.sessions, summary.files) == (["dead"], [], 2)
    assert summary.kept == {"session s": "alive"}
    assert len(files(tmp_path)) == len(before) - 2
    assert not (tmp_path / "s" / "ray_spilled_objects_dead").exists()
    assert not (tmp_path / "s" / "fsspill_heartbeats" / "dead").exists()


def test_dead_nodes_stay_where_the_head_is_silent(uri: str, tmp_path: Path) -> None:
    """Without its heartbeat nobody can say that a silent node is dead, and not only cut off."""
    heartbeat(tmp_path, "s", 2 * DAY)
    spill(tmp_path, "s", "living", age=DAY, heartbeat=MINUTE)
    spill(tmp_path, "s", "silent", age=9 * DAY, heartbeat=2 * DAY)
    assert clean(uri, dead_nodes=True).nodes == []
    assert len(files(tmp_path)) == 5


def test_a_node_that_comes_back_is_kept(uri: str, tmp_path: Path) -> None:
    """Its heartbeat file is looked at again just before it is its turn."""
    heartbeat(tmp_path, "s", 0)
    for node in ("a", "b"):
        spill(tmp_path, "s", node, age=9 * DAY, heartbeat=2 * DAY)

    def come_back(step: str, done: int, total: int) -> None:
        write(tmp_path / "s" / "fsspill_heartbeats" / "b", 0)

    summary = clean(uri, dead_nodes=True, progress=come_back)
    assert summary.nodes == ["a"]
    assert summary.kept["node b of session s"] == "came back to life"
    assert len(files(tmp_path)) == 3


def test_node_local_directories_go_only_by_name(uri: str, tmp_path: Path) -> None:
    """They have no session and no heartbeat file: nothing says whether their nodes live."""
    for node in ("n1", "n2"):
        write(tmp_path / f"ray_spilled_objects_{node}" / "f", 99 * DAY)
    session = only_session(uri)
    assert session.name is None
    assert [(n.node_id, n.files, n.state) for n in session.nodes.values()] == [
        ("n1", 1, "unknown"),
        ("n2", 1, "unknown"),
    ]
    assert list(clean(uri, dead_nodes=True).kept) == ["node n1", "node n2"]
    summary = clean(uri, nodes=["n2"])
    assert (summary.nodes, summary.sessions, summary.files) == (["n2"], [], 1)
    assert [path.name for path in tmp_path.iterdir()] == ["ray_spilled_objects_n1"]


# Clocks


@pytest.mark.parametrize("wrong_by", [-HOUR, HOUR, -99 * DAY, 99 * DAY])
def test_the_clock_of_this_machine_does_not_count(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong_by: float
) -> None:
    """However wrong it is, ages and states are the same."""
    heartbeat(tmp_path, "s", 10 * MINUTE)
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + wrong_by)
    session = only_session(uri)
    assert session.state == "alive"
    assert session.age == about(10 * MINUTE)
    assert clean(uri, older_than=0).sessions == []


@pytest.mark.parametrize("wrong_by", [-5 * HOUR, 5 * HOUR])
def test_the_clock_of_the_storage_may_be_wrong(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong_by: float
) -> None:
    """It is compared with itself alone."""
    heartbeat(tmp_path, "living", 10 * MINUTE)
    heartbeat(tmp_path, "recent", 23 * HOUR)
    heartbeat(tmp_path, "dead", 25 * HOUR)
    change_info(monkeypatch, lambda info: {**info, "mtime": info["mtime"] + wrong_by})
    assert states(uri) == {"living": "alive", "recent": "recent", "dead": "dead"}
    assert clean(uri).sessions == ["dead"]


def change_info(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> None:
    info = LocalFileSystem.info
    monkeypatch.setattr(
        LocalFileSystem, "info", lambda self, path, **kwargs: change(info(self, path, **kwargs))
    )


def naive(mtime: float) -> datetime:
    return datetime.fromtimestamp(mtime, timezone.utc).replace(tzinfo=None)


def elsewhere(mtime: float) -> datetime:
    return datetime.fromtimestamp(mtime, timezone(timedelta(hours=5)))


@pytest.mark.parametrize("name", ["LastModified", "last_modified", "mtime", "updated", "modified"])
@pytest.mark.parametrize("kind", [float, naive, elsewhere])
def test_times_have_many_names(
    uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    kind: Callable[[float], object],
) -> None:
    """Filesystems call the time of the last write differently, and give numbers or datetimes."""
    heartbeat(tmp_path, "s", 2 * HOUR)
    change_info(monkeypatch, lambda info: {**without_times(info), name: kind(info["mtime"])})
    session = only_session(uri)
    assert session.state == "recent"
    assert session.age == about(2 * HOUR)


def test_times_without_a_zone_are_those_of_utc(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, berlin: None
) -> None:
    """In the night in which summer time begins, two hours are two hours."""
    written = heartbeat(tmp_path, "s", 2 * HOUR).stat().st_mtime + 2 * HOUR
    shift = datetime(2026, 3, 29, 3, 30, tzinfo=timezone.utc).timestamp() - written
    change_info(monkeypatch, lambda info: {**info, "mtime": naive(info["mtime"] + shift)})
    assert only_session(uri).age == about(2 * HOUR)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


def without_times(info: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in info.items() if name not in ("mtime", "created")}


@pytest.mark.parametrize("left", ["created", "nothing"])
def test_storage_without_times_makes_everything_unknown(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    """The time of creation is none: a heartbeat that is written anew may keep it."""
    dead_session(tmp_path, "s")
    old = {"created": 0.0} if left == "created" else {"mtime": None}
    change_info(monkeypatch, lambda info: {**without_times(info), **old})
    session = only_session(uri)
    assert (session.state, session.age, session.nodes["n1"].age) == ("unknown", None, None)
    assert clean(uri, older_than=0).sessions == []
    assert clean(uri, sessions=["s"]).sessions == ["s"]
    assert files(tmp_path) == []


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    fs = fsspec.filesystem("memory")
    yield fs
    if fs.exists("/sessions"):
        fs.rm("/sessions", recursive=True)


def test_memory_says_no_times(memory: MemoryFileSystem) -> None:
    """So its sessions are unknown, and go by name."""
    memory.pipe_file("/sessions/s/fsspill_heartbeats/head", b"")
    memory.pipe_file("/sessions/s/ray_spilled_objects_n1/f", b"abc")
    assert states("memory://sessions") == {"s": "unknown"}
    assert clean("memory://sessions", sessions=["s"]).files == 2
    assert memory.find("/sessions") == []


def test_looking_leaves_nothing_and_makes_nothing(uri: str, tmp_path: Path) -> None:
    """The file that tells the time is gone, and a directory that is not there is an error."""
    assert scan(uri) == []
    assert clean(uri).kept == {}
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageNotFoundError, match="nowhere"):
        scan(f"{uri}/nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_listing_that_lags_behind_is_not_believed(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that misses what was just written may miss a heartbeat too."""
    dead_session(tmp_path, "s")
    ls = LocalFileSystem.ls

    def lag(self: Any, path: str, *args: Any, **kwargs: Any) -> Any:
        infos = ls(self, path, *args, **kwargs)
        return [info for info in infos if "fsspill-check" not in info["name"]]

    monkeypatch.setattr(LocalFileSystem, "ls", lag)
    with pytest.raises(StorageUnavailableError, match="missing in the listing"):
        clean(uri)
    assert len(files(tmp_path)) == 5


def test_old_files_of_checks_are_removed(uri: str, tmp_path: Path) -> None:
    """Those of a check that was interrupted; one that may be running is left alone."""
    young = write(tmp_path / f"fsspill-check-{'0' * 32}", HOUR)
    write(tmp_path / f"fsspill-check-{'a' * 32}", 25 * HOUR)
    assert clean(uri).files == 1
    assert files(tmp_path) == [young]


# S3


def put_s3(*names: str, prefix: str = "bucket/p") -> None:
    fs = fsspec.filesystem("s3")
    for name in names:
        fs.pipe_file(f"{prefix}/{name}", b"abc")


clean_now = partial(clean, older_than=0.0, stale_after=0.0)
"""Clean as if everything were old: the server's clock cannot be set."""

DEAD = ("s/fsspill_heartbeats/head", "s/fsspill_heartbeats/n1", "s/ray_spilled_objects_n1/f")


def test_a_session_on_s3_lives_and_dies(s3_bucket: str) -> None:
    """Its times are those of the server; other keys of the bucket stay."""
    put_s3(*DEAD, "others/f", "ray_spilled_objects_n1/f")
    put_s3(*DEAD, prefix="bucket")
    session = only_session("s3://bucket/p")
    assert session.state == "alive"
    assert [(node.files, node.nbytes) for node in session.nodes.values()] == [(1, 3)]
    assert clean("s3://bucket/p", older_than=0).kept == {"session s": "alive"}
    summary = clean_now("s3://bucket/p")
    assert (summary.sessions, summary.files, summary.failures) == (["s"], 3, {})
    others = ["bucket/p/others/f", "bucket/p/ray_spilled_objects_n1/f"]
    assert keys() == sorted([*others, *(f"bucket/{name}" for name in DEAD)])


def test_a_whole_bucket_may_be_the_uri(s3_bucket: str) -> None:
    """Keys then have no prefix."""
    put_s3(*DEAD, prefix="bucket")
    assert clean_now("s3://bucket").sessions == ["s"]
    assert keys() == []


def test_requests_of_a_scan_and_of_a_cleaning(s3_server: S3Server, s3_bucket: str) -> None:
    """A scan is four requests; a dead session is one more listing and two bulk deletions."""
    put_s3(*DEAD)
    before = len(s3_server.requests())
    scan("s3://bucket/p")
    counts = Counter(request.method for request in s3_server.requests()[before:])
    assert counts == {"PUT": 1, "GET": 2, "DELETE": 1}
    clean_now("s3://bucket/p")
    counts = Counter(request.method for request in s3_server.requests()[before + 4 :])
    assert counts == {"PUT": 1, "GET": 3, "DELETE": 1, "POST": 2}


def begin_uploads(*names: str) -> None:
    fs = fsspec.filesystem("s3")
    for name in names:
        fs.call_s3("create_multipart_upload", Bucket="bucket", Key=name)


OURS = "p/s/ray_spilled_objects_n1/f"
NOT_OURS = (
    "other/s/ray_spilled_objects_n1/f",
    "p/data/f",
    "p/ray_spilled_objects_n1/f",
    "p/s/ray_spilled_objects_n1/deeper/f",
)


def test_stale_uploads_are_aborted_whatever_the_session(s3_bucket: str) -> None:
    """Of a session that lives too; uploads of others are left alone."""
    put_s3(*DEAD)
    begin_uploads(OURS, OURS, *NOT_OURS)  # the server says that they began in 2010
    session = only_session("s3://bucket/p")
    assert len(session.uploads) == 2
    assert session.state == "alive"
    assert clean("s3://bucket/p", dry_run=True).uploads == 2
    summary = clean("s3://bucket/p")
    assert (summary.uploads, summary.sessions, summary.files) == (2, [], 0)
    assert open_uploads() == sorted(NOT_OURS)
    assert len(keys()) == 3


@pytest.fixture
def answers(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what answers S3's calls by name, where the server shall not.

    Either an exception, or a function of the server's answer and of the arguments.
    """
    s3fs = pytest.importorskip("s3fs")
    changed: dict[str, Any] = {}
    call = s3fs.S3FileSystem._call_s3

    async def _call_s3(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        change = changed.get(method)
        if isinstance(change, Exception):
            raise change
        answer = await call(self, method, *args, **kwargs)
        return change(answer, **kwargs) if change else answer

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", _call_s3)
    return changed


def begun_now(answer: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    now = datetime.now(timezone.utc)
    uploads = [{**upload, "Initiated": now} for upload in answer.get("Uploads", [])]
    return {**answer, "Uploads": uploads}


def test_young_uploads_go_only_with_their_session(answers: dict[str, Any]) -> None:
    """One may be under way; but not when its session is named or dead."""
    answers["list_multipart_uploads"] = begun_now
    begin_uploads(OURS)
    assert clean("s3://bucket/p", older_than=HOUR).uploads == 0
    assert open_uploads() == [OURS]
    summary = clean("s3://bucket/p", sessions=["s"])
    assert (summary.uploads, summary.sessions) == (1, ["s"])
    assert open_uploads() == []


@pytest.fixture
def two_days_old(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all files of sessions be old in a listing of the whole URI."""
    s3fs = pytest.importorskip("s3fs")
    find = s3fs.S3FileSystem._find

    async def _find(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = await find(self, *args, **kwargs)
        for name, info in found.items():
            if "fsspill-check" not in name:
                info["LastModified"] -= timedelta(days=2)
        return found

    monkeypatch.setattr(s3fs.S3FileSystem, "_find", _find)


def test_uploads_of_a_dead_session_go_with_it(two_days_old: None) -> None:
    """They are counted once."""
    put_s3(*DEAD)
    begin_uploads(OURS)
    assert states("s3://bucket/p") == {"s": "dead"}
    summary = clean("s3://bucket/p", stale_after=0.0)
    assert (summary.sessions, summary.files, summary.uploads) == (["s"], 3, 1)
    assert open_uploads() == keys() == []


def test_a_young_upload_makes_its_session_recent(
    answers: dict[str, Any], two_days_old: None
) -> None:
    """Somebody began it."""
    put_s3(*DEAD)
    begin_uploads(OURS)
    answers["list_multipart_uploads"] = begun_now
    assert states("s3://bucket/p") == {"s": "recent"}
    assert clean("s3://bucket/p").kept == {"session s": "not old enough"}
    assert len(keys()) == 3


def test_a_session_that_came_back_on_s3_is_kept(two_days_old: None) -> None:
    """The second look is a listing of its heartbeat files alone."""
    put_s3(*DEAD)
    assert clean("s3://bucket/p").kept == {"session s": "came back to life"}
    assert len(keys()) == 3


def test_uploads_are_listed_page_by_page(answers: dict[str, Any]) -> None:
    """S3 answers with up to 1000, and says where the next page begins."""

    def page(answer: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        number = int(kwargs.get("KeyMarker", 0))
        assert kwargs.get("UploadIdMarker", "after 0") == f"after {number}"
        uploads = [upload for upload in answer["Uploads"] if upload["Key"].endswith(str(number))]
        more = {"NextKeyMarker": str(number + 1), "NextUploadIdMarker": f"after {number + 1}"}
        return {**answer, "Uploads": uploads, "IsTruncated": number < 2, **more}

    names = [f"{OURS}-{number}" for number in range(3)]
    begin_uploads(*names)
    answers["list_multipart_uploads"] = page
    [session] = scan("s3://bucket/p")
    assert [upload.request["Key"] for upload in session.uploads] == names


def test_uploads_that_cannot_be_listed_are_a_failure(
    answers: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Policies often forget that right: sessions are shown and cleaned all the same."""
    put_s3(*DEAD)
    answers["list_multipart_uploads"] = PermissionError("Access Denied")
    assert states("s3://bucket/p") == {"s": "alive"}
    assert "multipart uploads of s3://bucket/p" in caplog.text
    summary = clean_now("s3://bucket/p")
    assert summary.sessions == ["s"]
    assert [type(error) for error in summary.failures.values()] == [StoragePermissionError]
    assert keys() == []


def test_an_upload_that_cannot_be_aborted_is_a_failure(answers: dict[str, Any]) -> None:
    """It names the key; one that has ended meanwhile is fine."""
    begin_uploads(OURS)
    answers["abort_multipart_upload"] = PermissionError("Access Denied")
    summary = clean("s3://bucket/p")
    assert list(summary.failures) == [f"bucket/{OURS}"]
    assert summary.uploads == 0
    answers["abort_multipart_upload"] = FileNotFoundError("NoSuchUpload")
    assert clean("s3://bucket/p").failures == {}


# Deletion of many files


def delete(uri: str, paths: Sequence[str]) -> dict[str, FsspillError]:
    endpoint = connect(uri, {})
    failures: dict[str, FsspillError] = sync(endpoint.fs.loop, delete_once, endpoint, paths, 8)
    return failures


def test_files_are_deleted_in_batches_of_one_bucket(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several buckets, missing ones among them, with one request for as many as S3 takes."""
    monkeypatch.setattr(deletion, "_BULK", 4)
    s3_server.create_bucket("second")
    names = [f"f{number}" for number in range(10)]
    for bucket in ("bucket", "second"):
        put_s3(*names, prefix=bucket)
    before = len(s3_server.requests())
    paths = [f"{bucket}/{name}" for name in [*names, "missing"] for bucket in ("bucket", "second")]
    assert delete("s3://bucket", paths) == {}
    assert [request.method for request in s3_server.requests()[before:]] == ["POST"] * 6
    assert keys("bucket") == keys("second") == []


def test_refusals_of_single_files_are_reported(answers: dict[str, Any]) -> None:
    """S3 answers a bulk deletion with success and a list of what it refused."""
    put_s3("a", "b", "c", "d")

    def refuse(answer: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        codes = {"p/a": "AccessDenied", "p/b": "SlowDown", "p/c": "NoSuchKey", "p/d": "NewCode"}
        errors = [{"Key": key, "Code": code, "Message": "m"} for key, code in codes.items()]
        return {**answer, "Errors": errors}

    answers["delete_objects"] = refuse
    failures = delete("s3://bucket/p", [f"bucket/p/{name}" for name in "abcd"])
    assert {path: type(error) for path, error in failures.items()} == {
        "bucket/p/a": StoragePermissionError,
        "bucket/p/b": StorageUnavailableError,
        "bucket/p/d": StorageUnavailableError,
    }


def test_a_server_without_bulk_deletion(answers: dict[str, Any]) -> None:
    """Files are deleted one by one where the bulk request fails."""
    put_s3("a", "b")
    answers["delete_objects"] = OSError("NotImplemented")
    assert delete("s3://bucket/p", ["bucket/p/a", "bucket/p/b", "bucket/p/missing"]) == {}
    assert keys() == []


def test_a_bucket_that_is_gone_has_no_files(s3_bucket: str) -> None:
    """What is gone is fine."""
    assert delete("s3://no-such-bucket", ["no-such-bucket/a"]) == {}


def test_names_are_never_patterns(uri: str, tmp_path: Path, refused: set[str]) -> None:
    """Deleting ``[ab]*`` deletes the file of that name alone; failures name theirs."""
    names = ["[ab]*", "a", "b", "c"]
    for name in names:
        write(tmp_path / name, 0)
    refused.add("c")
    failures = delete(uri, [f"{tmp_path}/{name}" for name in ("[ab]*", "c", "missing")])
    assert {path: type(error) for path, error in failures.items()} == {
        f"{tmp_path}/c": StoragePermissionError
    }
    assert sorted(path.name for path in files(tmp_path)) == ["a", "b", "c"]
