"""Objects that the storage does not take, while it takes others."""

from __future__ import annotations

import pytest

from fsspill.errors import FsspillError, StorageRefusedError
from fsspill.placement import refusals
from fsspill.placement.refusals import Refusals


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(refusals, "time", clock)
    return clock


def test_the_pause_doubles_up_to_a_minute(clock: Clock) -> None:
    """An object is left alone for that long; others are not."""
    found, pauses = Refusals(lambda error: None), []
    for _ in range(6):
        found.record("a", StorageRefusedError("too large"))
        pauses.append(found.pause("a"))
        clock.now += pauses[-1] - 0.1
        assert str(found.error("a")) == "too large"
        clock.now += 0.1
        assert found.error("a") is None
    assert pauses == [5, 10, 20, 40, 60, 60]
    assert found.error("b") is None
    assert found.pause("b") == 0


def test_each_object_is_reported_once(clock: Clock) -> None:
    """Until it was stored: then a refusal is news again, and the pause is the first again."""
    reported: list[FsspillError] = []
    found = Refusals(reported.append)
    for _ in range(3):
        found.record("a", StorageRefusedError("too large"))
    found.record("b", StorageRefusedError("forbidden"))
    assert [str(error).partition(" Other")[0] for error in reported] == ["too large", "forbidden"]
    assert "Object a stays in memory, and is tried again after 5 s" in str(reported[0])
    found.clear(["a", "c"])
    found.record("a", StorageRefusedError("too large"))
    assert found.pause("a") == 5
    assert len(reported) == 3


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """The oldest objects are forgotten beyond the capacity."""
    monkeypatch.setattr(refusals, "_CAPACITY", 2)
    found = Refusals(lambda error: None)
    for name in "abc":
        found.record(name, StorageRefusedError("too large"))
    assert [bool(found.error(name)) for name in "abc"] == [False, True, True]
