"""Bytes that a node has stored at each URI."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fsspill.placement.shared_state import SharedState
from fsspill.placement.usage import Usage
from fsspill.storage.layout import SpillLocation


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("fsspill.placement.shared_state.gettempdir", lambda: str(tmp_path))
    return tmp_path


def location(name: str) -> SpillLocation:
    return SpillLocation(f"memory://{name}", prefix="", session_name="s", node_id="n", shared=False)


A, B = location("a"), location("b")


def usage(node_id: str = "n") -> Usage:
    """Return the usage as another process of a node sees it."""
    return Usage(SharedState("s", node_id), enabled=True)


def test_processes_of_a_node_count_together() -> None:
    """All see what one of them adds or removes; each location is counted by itself."""
    large, small, other = A.new_file(1, 100), A.new_file(1, 20), B.new_file(1, 3)
    usage().add([large, other])
    usage().add([small])
    usage().remove([large])
    assert (usage().get(A), usage().get(B)) == (20, 3)
    assert usage("other").get(A) == 0


def test_a_file_counts_once() -> None:
    """However often it is added or removed, by whichever process."""
    file, other = A.new_file(1, 100), A.new_file(1, 20)
    usage().add([file, other])
    usage().add([file])
    assert usage().get(A) == 120
    usage().remove([file, file])
    usage().remove([file])
    assert usage().get(A) == 20


def test_a_file_that_was_not_added_is_not_subtracted() -> None:
    """Such as one of another node, or one that could not be written."""
    usage().add([A.new_file(1, 100)])
    usage().remove([A.new_file(1, 100)])
    assert usage().get(A) == 100


def test_concurrent_changes_are_all_counted() -> None:
    """None is lost, and of removals of one file in several threads one counts."""
    files = [A.new_file(1, size) for size in range(1, 41)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda file: usage().add([file]), files))
        assert usage().get(A) == sum(range(1, 41))
        list(threads.map(lambda file: usage().remove([file]), files[:20] * 3))
    assert usage().get(A) == sum(range(21, 41))


def test_files_are_counted_where_nothing_can_be_shared(directory: Path) -> None:
    """Each process counts its own."""
    (directory / f"fsspill-{os.getuid()}").write_text("in the way")
    alone, file = usage(), A.new_file(1, 100)
    alone.add([file, file, A.new_file(1, 20)])
    alone.remove([file, file])
    assert alone.get(A) == 20


def test_nothing_is_counted_without_a_limit(directory: Path) -> None:
    """Disabled, it writes no file."""
    disabled, file = Usage(SharedState("s", "n"), enabled=False), A.new_file(1, 100)
    disabled.add([file])
    disabled.remove([file])
    assert disabled.get(A) == 0
    assert list(directory.iterdir()) == []
