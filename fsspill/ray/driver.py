"""Messages to the drivers of the cluster."""

from __future__ import annotations

import re
import time
from math import inf

from fsspill.log import get_logger
from fsspill.placement.shared_state import SharedState
from fsspill.secrets import redact
from fsspill.storage.layout import OBJECT_PREFIX

__all__ = ["NOTIFY_INTERVAL", "DriverNotifier"]

logger = get_logger(__name__)

NOTIFY_INTERVAL = 60.0
"""Seconds in which a node notifies the drivers of a topic once."""

_KIND = "notified"

_LONGEST_ID = 12
"""Digits of a node's id in a message, as Ray's own tables show it."""

_FILE = rf"(/session_[^\s/\"']*)?/{OBJECT_PREFIX}_[^\s\"',;:.]*"
"""Pattern of the part of a spilled file's URL that comes after the configured URI."""


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

    def notify(self, topic: str, message: str, *, part_of: str | None = None) -> None:
        """Print a message on every driver and log it, once per topic and `NOTIFY_INTERVAL`.

        Parameters
        ----------
        topic : str
            What it is about.
        message : str
            The message. The log has it in full; the drivers see URIs in the place of files there.
        part_of : str, optional
            A topic whose messages say the same and more: none is printed soon after one of those.
        """
        now = time.time()
        if any(self._is_notified(each, now) for each in (topic, part_of) if each):
            return
        message = redact(message)
        if not _is_recent(self._logged.get(topic, -inf), now):
            logger.warning("%s", message)
            self._logged[topic] = now
        # Not recorded before this process is connected: the next call then notifies.
        if _push_error(self._node_id[:_LONGEST_ID], re.sub(_FILE, "", message)):
            self._pushed[topic] = now
            self._state.write(_KIND, topic, {"time": now})

    def _is_notified(self, topic: str, now: float) -> bool:
        notified = (self._state.read(_KIND, topic) or {}).get("time", -inf)
        return _is_recent(notified, now) or _is_recent(self._pushed.get(topic, -inf), now)


def _is_recent(then: float, now: float) -> bool:
    """Return True if less than the interval has passed, and the clock was not set back since."""
    return 0 <= now - then < NOTIFY_INTERVAL


def _push_error(node: str, message: str) -> bool:
    """Print a message about this node on every driver; return True if Ray took it."""
    try:
        import ray
        from ray._private.utils import push_error_to_driver

        worker = ray._private.worker.global_worker
        if not worker.connected:
            return False
        address = getattr(worker, "node_ip_address", "")
        where = f"{address} ({node})" if address else node
        push_error_to_driver(worker, "fsspill", f"fsspill on node {where}: {message}")
    except Exception as error:
        logger.debug("could not notify the drivers: %s", error)
        return False
    return True
