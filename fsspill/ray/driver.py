"""Messages to the drivers of the cluster."""

from __future__ import annotations

import time
from math import inf

from fsspill.log import get_logger
from fsspill.placement.shared_state import SharedState
from fsspill.secrets import redact

__all__ = ["NOTIFY_INTERVAL", "DriverNotifier"]

logger = get_logger(__name__)

NOTIFY_INTERVAL = 60.0
"""Seconds in which a node notifies the drivers of a topic once."""

_KIND = "notified"


class DriverNotifier:
    """Rate-limited messages to all drivers of the cluster about failures on this node.

    Parameters
    ----------
    state : SharedState
        The state in which the processes of the node share the time of each message.
    node_id : str
        The node that each message names as its origin.
    """

    def __init__(self, state: SharedState, node_id: str) -> None:
        self._state = state
        self._node_id = node_id
        self._logged: dict[str, float] = {}
        self._pushed: dict[str, float] = {}

    def notify(self, topic: str, message: str) -> None:
        """Print a message on every driver and log it, once per topic and `NOTIFY_INTERVAL`."""
        now = time.time()
        notified = (self._state.read(_KIND, topic) or {}).get("time", -inf)
        if _is_recent(notified, now) or _is_recent(self._pushed.get(topic, -inf), now):
            return
        message = redact(message)
        if not _is_recent(self._logged.get(topic, -inf), now):
            logger.warning("%s", message)
            self._logged[topic] = now
        # Not recorded before this process is connected: the next call then notifies.
        if _push_error(f"fsspill on node {self._node_id}: {message}"):
            self._pushed[topic] = now
            self._state.write(_KIND, topic, {"time": now})


def _is_recent(then: float, now: float) -> bool:
    """Return True if less than the interval has passed, and the clock was not set back since."""
    return 0 <= now - then < NOTIFY_INTERVAL


def _push_error(message: str) -> bool:
    """Print a message on every driver; return True if Ray took it."""
    try:
        import ray
        from ray._private.utils import push_error_to_driver

        worker = ray._private.worker.global_worker
        if not worker.connected:
            return False
        push_error_to_driver(worker, "fsspill", message)
    except Exception as error:
        logger.debug("could not notify the drivers: %s", error)
        return False
    return True
