"""Bytes that a node has stored at each URI, for the limit `max_bytes`."""

from __future__ import annotations

from fsspill.placement.shared_state import SharedState
from fsspill.storage.layout import SpillLocation

__all__ = ["Usage"]

_KIND = "usage"


class Usage:
    """Bytes of a node at each location, counted by all of its processes together.

    Parameters
    ----------
    state : SharedState
        State that the processes share.
    enabled : bool
        If false, nothing is counted: counting costs a lock and two small files.
    """

    def __init__(self, state: SharedState, *, enabled: bool) -> None:
        self._state = state
        self._enabled = enabled

    def get(self, location: SpillLocation) -> int:
        """Return the bytes at a location."""
        record = self._state.read(_KIND, location.uri) or {"bytes": 0}
        return int(record["bytes"])

    def add(self, location: SpillLocation, nbytes: int) -> None:
        """Add bytes that were stored, or subtract those that were deleted if negative."""
        if self._enabled:
            with self._state.lock(_KIND, location.uri, wait=True):
                used = max(0, self.get(location) + nbytes)
                self._state.write(_KIND, location.uri, {"bytes": used})
