"""Registered protocols, and filesystems that no other test has used."""

from __future__ import annotations

from collections.abc import Iterator

import fsspec
import pytest

from fsspill import InMemoryObjectStore
from fsspill.testing.filesystems import (
    CountingFileSystem,
    FaultyFileSystem,
    LatencyFileSystem,
    register,
)


@pytest.fixture(autouse=True)
def _fresh_filesystems() -> Iterator[None]:
    """Register the protocols, and discard the filesystems of each test with counts and faults."""
    register()
    yield
    for cls in (CountingFileSystem, LatencyFileSystem, FaultyFileSystem):
        cls.clear_instance_cache()
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


@pytest.fixture
def store() -> InMemoryObjectStore:
    return InMemoryObjectStore()
