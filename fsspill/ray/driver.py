"""Messages to the drivers of the cluster."""

from __future__ import annotations

import re
import time

from fsspill.log import LIMITED, Incident, follow, get_logger
from fsspill.placement.shared_state import SharedState
from fsspill.secrets import redact
from fsspill.storage.layout import OBJECT_PREFIX

__all__ = ["DriverNotifier"]

logger = get_logger(__name__)

_KIND = "incident"

_SEEN_INTERVAL = 10.0
"""Seconds between two updates of the record that an incident lasts: Ray repeats what fails every
10 ms."""

_LONGEST_ID = 12
"""Digits of a node's id in a message, as Ray's own tables show it."""

_FILE = rf"(/session_[^\s/\"']*)?/{OBJECT_PREFIX}_[^\s\"',;:.]*"
"""Pattern of the part of a spilled file's URL that comes after the configured URI."""


class DriverNotifier:
    """Messages to all drivers of the cluster about failures on this node, few for each incident.

    Parameters
    ----------
    state : SharedState
        The state in which the processes of the node share the incidents that they reported.
    node_id : str
        The node that each message names as its origin.
    """

    def __init__(self, state: SharedState, node_id: str) -> None:
        self._state = state
        self._node_id = node_id
        self._logged: dict[str, Incident] = {}

    def notify(self, topic: str, message: str, *, part_of: str | None = None) -> None:
        """Print a message on every driver and log it, unless its incident was reported lately.

        Parameters
        ----------
        topic : str
            What it is about. All messages of a topic are of one incident; see `fsspill.log`.
        message : str
            The message. The log has it in full; the drivers see URIs in the place of files there.
        part_of : str, optional
            A topic whose messages say the same and more: none is printed while one of those is
            recent.
        """
        now = time.time()
        known = self._incident(part_of) if part_of else None
        if known and known.is_quiet(now):
            return
        last = self._incident(topic)
        incident, is_due = follow(last, now)
        if is_due:
            self._report(topic, incident, redact(message))
        elif last and now - last.seen >= _SEEN_INTERVAL:
            self._record(topic, incident)

    def _report(self, topic: str, incident: Incident, message: str) -> None:
        self._logged[topic], is_due = follow(self._logged.get(topic), incident.seen)
        if is_due:
            logger.warning("%s", message, extra=LIMITED)
        # Not recorded before this process is connected: the next call then notifies.
        if _push_error(self._node_id[:_LONGEST_ID], re.sub(_FILE, "", message)):
            self._record(topic, incident)

    def _incident(self, topic: str) -> Incident | None:
        record = self._state.read(_KIND, topic)
        return Incident(**record) if record else None

    def _record(self, topic: str, incident: Incident) -> None:
        self._state.write(_KIND, topic, incident._asdict())


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
