"""Restores that failed on this node."""

from __future__ import annotations

import time

from fsspill.placement.shared_state import SharedState

__all__ = ["RestoreFailures"]

_KIND = "restore_failure"


class RestoreFailures:
    """Objects that this node failed to restore, known to all of its processes.

    Parameters
    ----------
    state : SharedState
        The state that the processes of the node share.
    """

    def __init__(self, state: SharedState) -> None:
        self._state = state

    def lost_reason(self, url: str) -> str | None:
        """Return why an object is lost; None if it is not known to be lost."""
        reason: str | None = (self._state.read(_KIND, url) or {}).get("lost")
        return reason

    def mark_lost(self, url: str, reason: str) -> None:
        """Record that an object is lost, and why."""
        self._state.write(_KIND, url, {"since": time.time(), "lost": reason})

    def failing_for(self, url: str) -> float:
        """Return the seconds since the first failure to restore an object, 0 if this is it."""
        record = self._state.read(_KIND, url)
        if record is None:
            record = {"since": time.time()}
            self._state.write(_KIND, url, record)
        return float(time.time() - record["since"])

    def clear(self, url: str) -> None:
        """Remove the record of an object that was restored."""
        self._state.remove(_KIND, url)
