"""Circuit breaker of a URI, shared by all processes of a node."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from fsspill import errors
from fsspill.errors import FsspillError, StorageUnavailableError
from fsspill.log import LIMITED, get_logger
from fsspill.placement.background import BackgroundTask
from fsspill.placement.shared_state import SharedState

__all__ = ["CircuitBreaker", "is_circuit_open"]

logger = get_logger(__name__)

_KIND, _CHANGE = "circuit", "circuit-change"
"""Kinds of the record, and of the lock for changes of it: the record's own is held by the process
that probes, for as long as a probe takes."""


def is_circuit_open(state: SharedState, uri: str) -> bool:
    """Return True if a process of the node has opened the circuit of a URI. Starts no probes."""
    return state.read(_KIND, uri) is not None


class CircuitBreaker:
    """Circuit breaker that a failed write to a URI opens and a successful probe closes.

    While it is open, no process of the node spills to the URI: each would first wait for its own
    stall timeout, and Ray for all of them. The probes run on a thread of one of the processes
    that saw it open, never within a call.

    Parameters
    ----------
    state : SharedState
        State that the processes of the node share.
    uri : str
        The configured URI.
    probe : callable
        Raises if the URI cannot be written, read and deleted.
    resumed : str
        Consequence of its end, for the log.

    Notes
    -----
    Checking whether it is open costs one system call. Probes follow 0.5 to 5 seconds apart, three
    requests each, one process of the node at a time. A probe that succeeds closes it only if no
    failure was reported since the probe began.
    """

    def __init__(
        self,
        state: SharedState,
        uri: str,
        probe: Callable[[], None],
        resumed: str = "spilling resumed",
    ) -> None:
        self._state = state
        self._uri = uri
        self._probe = probe
        self._resumed = resumed
        self._probing = BackgroundTask(self.probe_once, "fsspill-probe")

    def failure(self) -> FsspillError | None:
        """Return the error that opened it, or None if it is closed."""
        record = self._state.read(_KIND, self._uri)
        if record is None:
            return None
        self._probing.start()
        kind = getattr(errors, record["error"], StorageUnavailableError)
        failure: FsspillError = kind(record["message"])
        return failure

    def is_open(self) -> bool:
        """Return True if it is open."""
        return self.failure() is not None

    def open(self, error: FsspillError) -> None:
        """Mark the URI unhealthy until a probe succeeds that begins after this."""
        record = {"error": type(error).__name__, "message": str(error), "id": uuid.uuid4().hex}
        with self._state.lock(_CHANGE, self._uri, wait=True):
            self._state.write(_KIND, self._uri, record)
        self._probing.start()

    def shut_down(self) -> None:
        """End the thread of this process that probes, at its next step."""
        self._probing.shut_down()

    def probe_once(self) -> bool:
        """Probe unless another process does; return True if it is closed now."""
        if self._state.read(_KIND, self._uri) is None:
            return True
        with self._state.lock(_KIND, self._uri, wait=False) as acquired:
            record = self._state.read(_KIND, self._uri)
            if record is None:
                return True
            if not acquired or not self._succeeds() or not self._close(record):
                return False
        # Each time: of a URI that opens and closes all the time the last line must be true.
        logger.warning("%s is healthy again; %s.", self._uri, self._resumed, extra=LIMITED)
        return True

    def _close(self, record: dict[str, Any]) -> bool:
        """Close it unless another failure was reported since `record` was read."""
        with self._state.lock(_CHANGE, self._uri, wait=True):
            unchanged = self._state.read(_KIND, self._uri) in (record, None)
            if unchanged:
                self._state.remove(_KIND, self._uri)
        return unchanged

    def _succeeds(self) -> bool:
        try:
            self._probe()
        except Exception:
            return False
        return True
