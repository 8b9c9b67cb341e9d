"""Objects that Ray leaves out of what it spills, on an object store of the test."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import pytest

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
