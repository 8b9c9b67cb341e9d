"""Objects that Ray leaves out of what it spills, on an object store of the test."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Sequence
from typing import Any

import _fsspill_wrappers
import pytest
from _fsspill_wrappers import FailedStorage

from fsspill.placement import background
from fsspill.ray.held_objects import HeldObjects
from tests.running import BegunThreads, poll


class Buffer:
    """The memory of an object."""


class Source:
    """An object store that knows which buffers are in use."""

    def __init__(self) -> None:
        self.given: list[weakref.ref[Buffer]] = []

    def get_if_local(self, object_refs: Sequence[Any], /) -> list[tuple[Any, ...]]:
        buffers = [Buffer() for _ in object_refs]
        self.given += map(weakref.ref, buffers)
        return [(buffer, b"metadata") for buffer in buffers]

    def in_use(self) -> int:
        gc.collect()
        return sum(ref() is not None for ref in self.given)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(background, "_LONGEST_PAUSE", 0.05)


@pytest.fixture
def threads() -> BegunThreads:
    return BegunThreads("fsspill-release")


def test_objects_are_held_until_their_time_has_passed(threads: BegunThreads) -> None:
    """Each by itself; there is no thread once nothing is held."""
    source = Source()
    held = HeldObjects(source)
    held.hold([b"long"], 3600)
    held.hold([b"short"], 0)
    poll(lambda: source.in_use() == 1, "the second object to be released")
    held.hold([b"long"], 0)
    poll(lambda: source.in_use() == 0, "the first object to be released")
    poll(lambda: not threads(), "the thread to end")


def test_releasing_all_ends_the_thread(threads: BegunThreads) -> None:
    """No object stays pinned by a storage that is destroyed."""
    source = Source()
    held = HeldObjects(source)
    held.hold([b"long"], 3600)
    held.release()
    assert source.in_use() == 0
    poll(lambda: not threads(), "the thread to end")


def test_a_storage_that_was_never_set_up_holds_objects() -> None:
    """Else Ray would ask for them all the time, and ``ray.put`` would wait for that."""
    source = Source()
    storage = FailedStorage(ValueError("broken."), lambda message: None, source.get_if_local)
    assert storage.spill_objects([b"a", b"b"]) == []
    assert source.in_use() == 2


def test_such_a_storage_releases_objects_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of later calls too, of which each comes while others are held."""
    monkeypatch.setattr(_fsspill_wrappers, "HOLD_SECONDS", 0.05)
    source = Source()
    storage = FailedStorage(ValueError("broken."), lambda message: None, source.get_if_local)
    for name in (b"a", b"b", b"c"):
        assert storage.spill_objects([name]) == []
        time.sleep(0.03)
    poll(lambda: source.in_use() == 0, "all objects to be released")
    assert len(source.given) == 3


def test_objects_that_cannot_be_held_are_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """An exception would end the IO worker."""

    def fail(object_refs: Sequence[Any]) -> object:
        raise RuntimeError("not connected")

    storage = FailedStorage(ValueError("broken."), lambda message: None, fail)
    assert [storage.spill_objects([b"a"]) for _ in range(100)] == [[]] * 100
    assert caplog.text.count("spilled again at once: not connected") == 1
