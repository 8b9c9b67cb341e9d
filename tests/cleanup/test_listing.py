"""Listings of a URI: names, permissions, and ages by the clock of the storage."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from fsspill import (
    ConfigError,
    StorageNotFoundError,
    StoragePermissionError,
    StorageUnavailableError,
)
from fsspill.cleanup import clean, scan
from fsspill.cleanup.sessions import DAY
from fsspill.storage.layout import SpillLocation
from fsspill.storage.local_client import LocalClient
from tests.at_rest import files
from tests.cleanup.layouts import (
    HOUR,
    MINUTE,
    about,
    liveness_of,
    only_session,
    write_dead_session,
    write_head_heartbeat,
    write_spilled,
)

plain = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True).filter(
    lambda name: name not in (".", "..")
)


def test_scan_reports_files_and_liveness_by_node(uri: str, tmp_path: Path) -> None:
    """A scan reports files, bytes, the age of the youngest file and liveness of each node."""
    write_head_heartbeat(tmp_path, "s", 60)
    write_spilled(tmp_path, "s", "n1", age=5 * HOUR, heartbeat=90)
    write_spilled(tmp_path, "s", "n1", age=3 * HOUR, heartbeat=90)
    write_spilled(tmp_path, "s", "n2", age=3 * DAY, heartbeat=2 * DAY)
    session = only_session(uri)
    nodes = session.nodes.values()
    found = [(node.node_id, len(node.files), node.nbytes, node.liveness) for node in nodes]
    assert found == [("n1", 2, 6, "alive"), ("n2", 1, 3, "dead")]
    assert [node.age for node in nodes] == [about(3 * HOUR), about(3 * DAY)]
    assert session.age == about(60)
    assert session.name == "s"
    assert session.liveness == "alive"
    assert session.uploads == []


def test_a_new_heartbeat_of_the_head_makes_its_session_alive(uri: str, tmp_path: Path) -> None:
    """A dead session is alive as soon as it has a fresh heartbeat."""
    write_dead_session(tmp_path, "s")
    assert liveness_of(uri) == {"s": "dead"}
    write_head_heartbeat(tmp_path, "s", 0)
    assert liveness_of(uri) == {"s": "alive"}


@given(plain, plain, st.integers(1, 2000))
def test_names_of_the_layout_are_parsed(session: str, node: str, count: int) -> None:
    """Every name that a spill makes is parsed into the session and the node it was made of."""
    location = SpillLocation(
        "memory://layout", prefix="", session_name=session, node_id=node, shared=False
    )
    fs = fsspec.filesystem("memory")
    fs.pipe_file(location.new_file(count, 7).url, b"1234567")
    try:
        found = only_session("memory://layout")
    finally:
        fs.rm("/layout", recursive=True)
    [spilled] = found.nodes.values()
    assert (found.name, spilled.node_id, len(spilled.files), spilled.nbytes) == (
        session,
        node,
        1,
        7,
    )


def test_links_are_not_followed(uri: str, tmp_path: Path) -> None:
    """Links to a session elsewhere, or in place of a file, are neither shown nor removed."""
    elsewhere = tmp_path / "elsewhere" / "deep" / "tree"
    write_dead_session(elsewhere, "s")
    (tmp_path / "link").symlink_to(elsewhere / "s")
    assert scan(uri) == []
    write_dead_session(tmp_path, "s")
    (tmp_path / "s" / "ray_spilled_objects_n1" / "link").symlink_to(elsewhere)
    assert clean(uri).files == 5
    assert len(files(elsewhere)) == 5


@pytest.fixture
def unlistable(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return a set of names: directories of these names cannot be listed."""
    names: set[str] = set()
    listed = LocalClient.list_directory

    async def refuse(self: LocalClient, directory: str) -> Any:
        if os.path.basename(directory) in names:
            raise PermissionError(directory)
        return await listed(self, directory)

    monkeypatch.setattr(LocalClient, "list_directory", refuse)
    return names


def test_unreadable_sessions_are_skipped(uri: str, tmp_path: Path, unlistable: set[str]) -> None:
    """A shared directory may have sessions of other users."""
    write_dead_session(tmp_path, "mine")
    write_dead_session(tmp_path, "theirs")
    unlistable.add("theirs")
    assert clean(uri).sessions == ["mine"]
    assert len(files(tmp_path)) == 5


@pytest.mark.parametrize("name", ["fsspill_heartbeats", "ray_spilled_objects_n1"])
def test_partly_readable_sessions_are_an_error(
    uri: str, tmp_path: Path, unlistable: set[str], name: str
) -> None:
    """An unreadable file may keep its session alive: nothing is removed, named or not."""
    write_dead_session(tmp_path, "s")
    unlistable.add(name)
    for sessions in ([], ["s"]):
        with pytest.raises(StoragePermissionError):
            clean(uri, sessions=sessions)
    assert len(files(tmp_path)) == 5


def test_the_directory_of_a_session_is_refused_as_uri(uri: str, tmp_path: Path) -> None:
    """Its nodes would look like node-local ones, whose liveness is unknown."""
    write_dead_session(tmp_path, "s")
    with pytest.raises(ConfigError, match="directory of a session"):
        clean(f"{uri}/s", nodes=["n1"])
    assert len(files(tmp_path)) == 5


# Clocks


@pytest.mark.parametrize("offset", [-HOUR, HOUR, -99 * DAY, 99 * DAY])
def test_ages_do_not_depend_on_the_clock_of_this_machine(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: float
) -> None:
    """Ages and liveness are the same, however wrong that clock is."""
    write_head_heartbeat(tmp_path, "s", 10 * MINUTE)
    real_time = time.time
    monkeypatch.setattr(time, "time", lambda: real_time() + offset)
    session = only_session(uri)
    assert session.liveness == "alive"
    assert session.age == about(10 * MINUTE)
    assert clean(uri, older_than=0).sessions == []


@pytest.mark.parametrize("offset", [-5 * HOUR, 5 * HOUR])
def test_ages_do_not_depend_on_the_offset_of_the_storage_clock(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: float
) -> None:
    """The clock of the storage is compared only with itself."""
    write_head_heartbeat(tmp_path, "live", 10 * MINUTE)
    write_head_heartbeat(tmp_path, "recent", 23 * HOUR)
    write_head_heartbeat(tmp_path, "dead", 25 * HOUR)
    change_infos(monkeypatch, lambda info: {**info, "mtime": info["mtime"] + offset})
    assert liveness_of(uri) == {"live": "alive", "recent": "recent", "dead": "dead"}
    assert clean(uri).sessions == ["dead"]


def change_infos(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> None:
    """Change the info of every local file."""
    info = LocalFileSystem.info
    monkeypatch.setattr(
        LocalFileSystem, "info", lambda self, path, **kwargs: change(info(self, path, **kwargs))
    )


def naive(mtime: float) -> datetime:
    """Return a time of UTC without its zone."""
    return datetime.fromtimestamp(mtime, timezone.utc).replace(tzinfo=None)


def in_another_zone(mtime: float) -> datetime:
    """Return a time of a zone 5 hours ahead of UTC."""
    return datetime.fromtimestamp(mtime, timezone(timedelta(hours=5)))


@pytest.mark.parametrize("name", ["LastModified", "last_modified", "mtime", "updated", "modified"])
@pytest.mark.parametrize("kind", [float, naive, in_another_zone])
def test_times_are_found_under_all_known_names(
    uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    kind: Callable[[float], object],
) -> None:
    """Filesystems name the time of the last write differently, as numbers or datetimes."""
    write_head_heartbeat(tmp_path, "s", 2 * HOUR)
    change_infos(monkeypatch, lambda info: {**without_times(info), name: kind(info["mtime"])})
    session = only_session(uri)
    assert session.liveness == "recent"
    assert session.age == about(2 * HOUR)


def test_times_without_a_zone_are_utc(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time_zone_with_summer_time: None
) -> None:
    """Two hours are two hours in the night in which summer time begins."""
    written = write_head_heartbeat(tmp_path, "s", 2 * HOUR).stat().st_mtime + 2 * HOUR
    shift = datetime(2026, 3, 29, 3, 30, tzinfo=timezone.utc).timestamp() - written
    change_infos(monkeypatch, lambda info: {**info, "mtime": naive(info["mtime"] + shift)})
    assert only_session(uri).age == about(2 * HOUR)


@pytest.fixture
def time_zone_with_summer_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the local time zone to that of Central Europe."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


def without_times(info: dict[str, Any]) -> dict[str, Any]:
    """Return the info of a file without its times."""
    return {name: value for name, value in info.items() if name not in ("mtime", "created")}


@pytest.mark.parametrize("left", ["created", "nothing"])
def test_sessions_without_times_are_unknown(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    """Creation times do not count: a rewritten heartbeat may keep its own."""
    write_dead_session(tmp_path, "s")
    old = {"created": 0.0} if left == "created" else {"mtime": None}
    change_infos(monkeypatch, lambda info: {**without_times(info), **old})
    session = only_session(uri)
    assert (session.liveness, session.age, session.nodes["n1"].age) == ("unknown", None, None)
    assert clean(uri, older_than=0).sessions == []
    assert clean(uri, sessions=["s"]).sessions == ["s"]
    assert files(tmp_path) == []


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    """Return the memory filesystem, and remove the test's files afterwards."""
    fs = fsspec.filesystem("memory")
    yield fs
    if fs.exists("/sessions"):
        fs.rm("/sessions", recursive=True)


def test_sessions_in_memory_are_unknown(memory: MemoryFileSystem) -> None:
    """The memory filesystem reports no times; its sessions are removed only by name."""
    memory.pipe_file("/sessions/s/fsspill_heartbeats/head", b"")
    memory.pipe_file("/sessions/s/ray_spilled_objects_n1/f", b"abc")
    assert liveness_of("memory://sessions") == {"s": "unknown"}
    assert clean("memory://sessions", sessions=["s"]).files == 2
    assert memory.find("/sessions") == []


def test_a_scan_leaves_and_creates_nothing(uri: str, tmp_path: Path) -> None:
    """The file that shows the time is deleted, and a missing directory is an error."""
    assert scan(uri) == []
    assert clean(uri).kept == {}
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageNotFoundError, match="nowhere"):
        scan(f"{uri}/nowhere")
    assert list(tmp_path.iterdir()) == []


def test_an_inconsistent_listing_is_an_error(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing without a file that was just written may omit a heartbeat too."""
    write_dead_session(tmp_path, "s")
    listed = LocalClient.list_directory

    async def omit_new_files(self: LocalClient, directory: str) -> Any:
        infos = await listed(self, directory)
        return {path: infos[path] for path in infos if "fsspill-check" not in path}

    monkeypatch.setattr(LocalClient, "list_directory", omit_new_files)
    with pytest.raises(StorageUnavailableError, match="missing in the listing"):
        clean(uri)
    assert len(files(tmp_path)) == 5
