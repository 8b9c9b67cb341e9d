"""Files that could not be deleted, kept for later attempts."""

from __future__ import annotations

import logging

import pytest

from fsspill import StorageUnavailableError
from fsspill.errors import FsspillError
from fsspill.placement import pending_deletions
from fsspill.placement.pending_deletions import PendingDeletions
from fsspill.storage.layout import FileRef, SpillLocation

LOCATION = SpillLocation(
    "memory://pending", prefix="", session_name="session", node_id="node", shared=False
)


def refs(*names: str) -> list[FileRef]:
    return [FileRef(LOCATION, f"/{name}") for name in names]


def failures(*names: str, reason: str = "refused") -> dict[FileRef, FsspillError]:
    error = StorageUnavailableError(reason)
    return dict.fromkeys(refs(*names), error)


def test_files_are_retried_in_the_order_of_their_failures() -> None:
    """A file that fails again is retried after all others."""
    pending = PendingDeletions()
    assert not pending
    pending.add(failures("a", "b", "c"))
    assert pending.next_batch() == refs("a", "b", "c")
    pending.discard(refs("a", "not there"))
    pending.add(failures("a"))
    assert pending.next_batch() == refs("b", "c", "a")
    pending.discard(refs("a", "b", "c"))
    assert not pending


def test_a_batch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call does not retry more files than that."""
    monkeypatch.setattr(pending_deletions, "_PER_CALL", 2)
    pending = PendingDeletions()
    pending.add(failures(*"abc"))
    assert pending.next_batch() == refs("a", "b")
    assert len(pending) == 3


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest files are dropped beyond the capacity."""
    monkeypatch.setattr(pending_deletions, "_CAPACITY", 3)
    pending = PendingDeletions()
    pending.add(failures(*"ab"))
    pending.add(failures(*"cde"))
    assert pending.next_batch() == refs("c", "d", "e")


def test_each_reason_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A list of files that fail for one reason gives one line."""
    with caplog.at_level(logging.WARNING):
        PendingDeletions().add(failures(*"abc") | failures("d", reason="other"))
    assert [record.getMessage() for record in caplog.records] == ["refused", "other"]
