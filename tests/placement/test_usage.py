"""Bytes that a node has stored at each URI."""

from __future__ import annotations

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


def test_processes_of_a_node_count_together() -> None:
    """All of them see a change by one of them; each location is counted separately."""
    first, second = (Usage(SharedState("s", "n"), enabled=True) for _ in range(2))
    first.add(location("a"), 100)
    second.add(location("a"), 20)
    second.add(location("b"), 3)
    first.add(location("a"), -50)
    assert (second.get(location("a")), first.get(location("b"))) == (70, 3)
    assert Usage(SharedState("s", "other"), enabled=True).get(location("a")) == 0


def test_usage_is_never_negative() -> None:
    """Deleting files that were not counted makes no room beyond the limit."""
    usage = Usage(SharedState("s", "n"), enabled=True)
    usage.add(location("a"), -50)
    assert usage.get(location("a")) == 0


def test_nothing_is_counted_without_a_limit(directory: Path) -> None:
    """Disabled, it writes no file."""
    usage = Usage(SharedState("s", "n"), enabled=False)
    usage.add(location("a"), 100)
    assert usage.get(location("a")) == 0
    assert list(directory.iterdir()) == []
