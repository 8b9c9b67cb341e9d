"""Restores that failed on this node."""

from __future__ import annotations

import pytest

from fsspill.placement.shared_state import SharedState
from fsspill.ray.restore_failures import _MAX_GAP, Loss, RestoreFailures

URL = "s3://b/f?offset=0&size=1"


class Clock:
    """A monotonic clock that a test sets."""

    now = 1000.0


def failures() -> RestoreFailures:
    return RestoreFailures(SharedState("session", "node"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    return clock


def test_failing_time_adds_up_over_consecutive_restores(clock: Clock) -> None:
    """All processes of the node share it, and a success resets it."""
    assert failures().record_failure(URL) == 0
    clock.now += 30
    assert failures().record_failure(URL) == 30
    assert failures().record_failure("another") == 0
    clock.now += 100
    assert failures().record_failure(URL) == 130
    failures().clear(URL)
    assert failures().record_failure(URL) == 0


def test_time_without_restores_does_not_count(clock: Clock) -> None:
    """Two failures half an hour apart are two failures, not half an hour of failing."""
    failures().record_failure(URL)
    clock.now += 1800
    assert failures().record_failure(URL) == _MAX_GAP
    clock.now += 1800
    assert failures().record_failure(URL) == 2 * _MAX_GAP


def test_changes_of_the_wall_clock_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may jump by a day: only monotonic time counts."""
    failures().record_failure(URL)
    monkeypatch.setattr("time.time", lambda: 10**10)
    assert failures().record_failure(URL) < _MAX_GAP


def test_a_restart_of_the_machine_resets_the_time(clock: Clock) -> None:
    """Its monotonic clock then begins at 0, before the time of the record."""
    failures().record_failure(URL)
    clock.now += 100
    assert failures().record_failure(URL) == 100
    clock.now = 5.0
    assert failures().record_failure(URL) == 0
    clock.now += 1
    assert failures().record_failure(URL) == 1


def test_a_lost_object_is_known_to_all_processes() -> None:
    """With the reason; a failure alone does not make it lost."""
    failures().record_failure(URL)
    loss = Loss("corrupt", "a later block was wrong")
    assert failures().loss(URL) is None
    failures().mark_lost(URL, loss)
    assert failures().loss(URL) == loss
    assert failures().loss("another") is None
    failures().clear(URL)
    assert failures().loss(URL) is None
