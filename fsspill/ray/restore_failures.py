"""Restores that failed on this node."""

from __future__ import annotations

import time
from typing import NamedTuple

from fsspill.placement.shared_state import SharedState

__all__ = ["Loss", "RestoreFailures"]

_KIND = "restore_failure"

_MAX_GAP = 120.0
"""Seconds between two failures that count at most: an object that was not asked for in between was
not unreachable all that time, as far as is known. Ray asks again within this time at first."""


class Loss(NamedTuple):
    """The loss of an object.

    Attributes
    ----------
    kind : str
        "missing", "corrupt" or "unreachable", for metrics.
    reason : str
        The reason, for the error that ``ray.get`` raises.
    """

    kind: str
    reason: str


class RestoreFailures:
    """Objects that this node failed to restore, known to all of its processes.

    Parameters
    ----------
    state : SharedState
        The state that the processes of the node share.

    Notes
    -----
    Times are those of the monotonic clock, which all processes of a machine share: it does not
    jump when the time is set, and stands still while the machine is suspended.
    """

    def __init__(self, state: SharedState) -> None:
        self._state = state

    def loss(self, url: str) -> Loss | None:
        """Return the loss of an object; None if it is not known to be lost."""
        record = self._state.read(_KIND, url) or {}
        return Loss(*record["lost"]) if "lost" in record else None

    def mark_lost(self, url: str, loss: Loss) -> None:
        """Record the loss of an object."""
        self._state.write(_KIND, url, {"lost": loss})

    def record_failure(self, url: str) -> float:
        """Record a failure to restore an object.

        Returns
        -------
        float
            Seconds for which the object has been found unreachable without a success in between:
            the sum of the times between its failures, each counted up to `_MAX_GAP`. 0 for the
            first one, and after a restart of the machine.
        """
        now = time.monotonic()
        record = self._state.read(_KIND, url) or {}
        gap = now - record.get("last", now)
        failing = record.get("failing", 0.0) + min(gap, _MAX_GAP) if gap >= 0 else 0.0
        self._state.write(_KIND, url, {"failing": failing, "last": now})
        return float(failing)

    def clear(self, url: str) -> None:
        """Remove the record of an object that was restored."""
        self._state.remove(_KIND, url)
