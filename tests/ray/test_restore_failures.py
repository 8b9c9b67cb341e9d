"""Restores that failed on this node."""

from __future__ import annotations

import pytest

from fsspill.placement.shared_state import SharedState
from fsspill.ray.restore_failures import RestoreFailures

URL = "s3://b/f?offset=0&size=1"


def failures() -> RestoreFailures:
    return RestoreFailures(SharedState("session", "node"))


def test_the_time_of_failing_begins_with_the_first_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is the same for all processes of the node, and begins again after a success."""
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    assert failures().failing_for(URL) == 0
    now += 30
    assert failures().failing_for(URL) == 30
    assert failures().failing_for("another") == 0
    failures().clear(URL)
    assert failures().failing_for(URL) == 0


def test_a_lost_object_is_known_to_all_processes() -> None:
    """With the reason; a failure alone does not make it lost."""
    failures().failing_for(URL)
    assert failures().lost_reason(URL) is None
    failures().mark_lost(URL, "a later block was wrong")
    assert failures().lost_reason(URL) == "a later block was wrong"
    assert failures().lost_reason("another") is None
    failures().clear(URL)
    assert failures().lost_reason(URL) is None
