"""Bytes that a node has stored at each URI, which the parameter `max_bytes` limits."""

from __future__ import annotations

from collections.abc import Iterable

from fsspill.placement.shared_state import SharedState
from fsspill.storage.layout import FileRef, SpillLocation

__all__ = ["Usage"]

_KIND, _FILE = "usage", "counted"
"""Kinds of the sum of a location, and of a record for each file in it."""


class Usage:
    """Bytes of a node at each location, counted by all of its processes together.

    Parameters
    ----------
    state : SharedState
        State that the processes share.
    enabled : bool
        If false, nothing is counted.

    Notes
    -----
    A file counts from when it is added until it is removed, however often either is reported, and
    by whichever process. So each file has an empty file in the shared state (nothing of it is held
    in memory), and each change takes a lock and replaces a small file.
    """

    def __init__(self, state: SharedState, *, enabled: bool) -> None:
        self._state = state
        self._enabled = enabled

    def get(self, location: SpillLocation) -> int:
        """Return the bytes at a location."""
        record = self._state.read(_KIND, location.uri) or {"bytes": 0}
        return int(record["bytes"])

    def add(self, files: Iterable[FileRef]) -> None:
        """Count files that are stored, or may be."""
        for location, group in self._groups(files).items():
            with self._state.lock(_KIND, location.uri, wait=True):
                new = [file.nbytes for file in group if self._state.create(_FILE, file.url)]
                self._change(location, sum(new))

    def remove(self, files: Iterable[FileRef]) -> None:
        """Count files no more: they are deleted."""
        for location, group in self._groups(files).items():
            with self._state.lock(_KIND, location.uri, wait=True):
                counted = [file.nbytes for file in group if self._state.remove(_FILE, file.url)]
                self._change(location, -sum(counted))

    def _groups(self, files: Iterable[FileRef]) -> dict[SpillLocation, list[FileRef]]:
        groups: dict[SpillLocation, list[FileRef]] = {}
        for file in files if self._enabled else ():
            groups.setdefault(file.location, []).append(file)
        return groups

    def _change(self, location: SpillLocation, nbytes: int) -> None:
        if nbytes:
            used = max(0, self.get(location) + nbytes)
            self._state.write(_KIND, location.uri, {"bytes": used})
