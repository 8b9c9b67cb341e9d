"""Files that could not be deleted, kept for later attempts."""

from __future__ import annotations

import pytest

from fsspill.placement import pending_deletions
from fsspill.placement.pending_deletions import PendingDeletions
from fsspill.storage.layout import FileRef, SpillLocation

LOCATION, OTHER = (
    SpillLocation(uri, prefix="", session_name="session", node_id="node", shared=False)
    for uri in ("memory://pending", "memory://other")
)


def refs(*names: str, location: SpillLocation = LOCATION) -> list[FileRef]:
    return [FileRef(location, f"/{name}") for name in names]


def test_files_are_retried_in_the_order_of_their_failures() -> None:
    """A file that fails again is retried after all others."""
    pending = PendingDeletions()
    assert not pending
    pending.add(refs("a", "b", "c"))
    assert pending.oldest(LOCATION, 3) == refs("a", "b", "c")
    pending.discard(refs("a", "not there"))
    pending.add(refs("a", "b"))
    assert pending.oldest(LOCATION, 3) == refs("c", "a", "b")
    pending.discard(refs("a", "b", "c"))
    assert not pending


def test_files_of_each_location_are_retried_by_themselves() -> None:
    """As many as are asked for, and none of another location."""
    pending = PendingDeletions()
    pending.add([*refs("a", "b"), *refs("c", location=OTHER), *refs("d")])
    assert pending.oldest(LOCATION, 2) == refs("a", "b")
    assert pending.oldest(OTHER, 2) == refs("c", location=OTHER)
    assert len(pending) == 4


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest files are dropped beyond the capacity."""
    monkeypatch.setattr(pending_deletions, "_CAPACITY", 3)
    pending = PendingDeletions()
    pending.add(refs(*"ab"))
    pending.add(refs(*"cde"))
    assert pending.oldest(LOCATION, 5) == refs("c", "d", "e")
