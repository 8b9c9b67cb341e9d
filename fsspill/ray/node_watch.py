"""The watch over the nodes of a cluster: those that cannot spill are named to the drivers.

Ray lets a node join whose processes do not know fsspill. Tasks on it wait once its memory is full,
and nothing names the reason. So nodes announce themselves (`fsspill.ray.announcement`), and a
process on the head compares.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import fsspill
from fsspill.child_process import start_in_child
from fsspill.log import get_logger
from fsspill.ray.announcement import NAMESPACE, key_of
from fsspill.ray.processes import is_alive, open_log
from fsspill.settings import Settings
from fsspill.storage.protocols import traits_of

__all__ = ["NodeWatch", "requirement_of", "start_node_watch", "watch_until_exit"]

logger = get_logger(__name__)

INTERVAL = 7.0
"""Seconds between two looks."""

_LOOKS = 3
"""Looks after which a node is believed to lack something. A node that starts slowly has 14 seconds
to announce itself, and the drivers are told in less than half a minute."""

_POLL_INTERVAL = 1.0
"""Seconds between two checks that Ray's head process is alive."""

_TIMEOUT = 10.0
"""Seconds for a request to Ray's head."""

_MOST_NAMED = 5
"""Nodes whose addresses are in one line."""

_ALIVE = 0
"""State of a node in Ray's protocol."""

_RESTART = (
    "in the Python of its Ray, and start it again. A runtime_env does not reach the processes "
    "that spill."
)


def start_node_watch(settings: Settings, gcs_address: str, pid: int, log: str) -> None:
    """Start the process that watches the nodes of a cluster.

    Parameters
    ----------
    settings : Settings
        The parameters.
    gcs_address : str
        Address of Ray's head process.
    pid : int
        That process, with which the new process ends.
    log : str
        Path of its log file.

    Notes
    -----
    It has 65 MB of memory, mostly Ray's code (measured), and makes one request every 7 seconds.
    """
    function = partial(watch_until_exit, requirement_of(settings.uris), gcs_address, pid)
    with open_log(log) as output:
        start_in_child(function, output=output)


def requirement_of(uris: Iterable[str]) -> str:
    """Return what pip has to install on a node that spills to some URIs."""
    extras = sorted({extra for uri in uris if (extra := traits_of(uri).extra)})
    listed = f"[{','.join(extras)}]" if extras else ""
    return f"fsspill{listed}=={fsspill.__version__}"


def _message(addresses: Sequence[str], reason: str) -> str:
    """Return one line for all nodes that lack the same."""
    if len(addresses) == 1:
        return f"fsspill: node {addresses[0]} {reason}"
    further = len(addresses) - _MOST_NAMED
    listed = ", ".join(sorted(addresses)[:_MOST_NAMED]) + f" and {further} more" * (further > 0)
    return f"fsspill: {len(addresses)} nodes ({listed}) {re.sub('^has ', 'have ', reason)}"


def watch_until_exit(requirement: str, gcs_address: str, pid: int) -> None:
    """Watch the nodes of a cluster until its head process exits.

    Parameters
    ----------
    requirement : str
        What pip has to install on a node.
    gcs_address : str
        Address of Ray's head process.
    pid : int
        That process.
    """
    threading.Thread(target=_watch, args=(requirement, gcs_address), daemon=True).start()
    while is_alive(pid):
        time.sleep(_POLL_INTERVAL)
    # A request that is not answered any more would keep the process for a while.
    os._exit(0)


def _watch(requirement: str, gcs_address: str) -> None:
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    watch = NodeWatch(GcsClient(address=gcs_address), requirement)
    while True:
        watch.look()
        time.sleep(INTERVAL)


class NodeWatch:
    """Comparison of the live nodes of a cluster with what they have announced.

    Parameters
    ----------
    gcs : ray._raylet.GcsClient
        A client of Ray's head process.
    requirement : str
        What pip has to install on a node.
    tell : callable, optional
        Prints a message on the driver of a job.

    Notes
    -----
    Each driver is told once of each node, in one line of all that lack the same, and once more if
    the node announces itself after all. A node is believed when it is seen for the third time: it
    announces itself after it has joined. So is a driver when it is seen for the second time: it
    listens after it has connected.
    """

    def __init__(
        self, gcs: Any, requirement: str, tell: Callable[[Any, str], object] | None = None
    ) -> None:
        self._gcs = gcs
        self._requirement = requirement
        self._tell = tell or self._publish
        self._sound: set[str] = set()
        self._looks: dict[str, int] = {}
        self._jobs: set[Any] = set()
        self._told: set[tuple[Any, str]] = set()

    def look(self) -> None:
        """Compare, and tell the drivers. Never raises: the next look follows soon."""
        try:
            self._look()
        except Exception as error:
            logger.warning(
                "could not compare the nodes of the cluster, to tell of those without fsspill: %s",
                error,
            )

    def _look(self) -> None:
        nodes = self._nodes()
        self._forget_others(nodes)
        reasons = {}
        for node_id in nodes.keys() - self._sound:
            reason = self._reason(node_id)
            if reason is None:
                self._sound.add(node_id)
                self._correct(node_id, nodes[node_id])
            else:
                reasons[node_id] = reason
        self._looks = {node_id: self._looks.get(node_id, 0) + 1 for node_id in reasons}
        lasting = {each: reasons[each] for each, looks in self._looks.items() if looks >= _LOOKS}
        self._notify(lasting, nodes)

    def _correct(self, node_id: str, address: str) -> None:
        """Tell the drivers that were told of a node that it lacks nothing any more."""
        for job in [job for job, told in self._told if told == node_id]:
            self._tell(job, f"fsspill: node {address} has announced fsspill since: it can spill.")

    def _nodes(self) -> dict[str, str]:
        """Return the addresses of the live nodes by their ids."""
        found = self._gcs.get_all_node_info(timeout=_TIMEOUT).values()
        return {
            info.node_id.hex(): info.node_manager_address for info in found if info.state == _ALIVE
        }

    def _forget_others(self, nodes: Iterable[str]) -> None:
        """Remove the announcements of nodes that have ended."""
        for node_id in self._sound - set(nodes):
            self._gcs.internal_kv_del(key_of(node_id), False, NAMESPACE, timeout=_TIMEOUT)
            self._sound.discard(node_id)

    def _reason(self, node_id: str) -> str | None:
        """Return why a node cannot spill, and what to do; None if it can."""
        announced = self._gcs.internal_kv_get(key_of(node_id), NAMESPACE, timeout=_TIMEOUT)
        if announced is None:
            return (
                "cannot spill or restore objects: fsspill is not installed there, or off "
                "(FSSPILL_HOOK=0), and tasks wait when its memory is full. Run pip install "
                f"'{self._requirement}' {_RESTART}"
            )
        version = announced.decode()
        if version == fsspill.__version__:
            return None
        return (
            f"has fsspill {version}, and the head {fsspill.__version__}: expected one version on "
            f"all nodes. Run pip install '{self._requirement}' {_RESTART}"
        )

    def _notify(self, reasons: Mapping[str, str], nodes: Mapping[str, str]) -> None:
        """Tell every driver that is not new what it has not been told; one line for each reason."""
        # Only while a node lacks something: no request is made for nothing.
        jobs = self._live_jobs() if self._looks else set()
        self._told = {
            (job, node_id) for job, node_id in self._told if job in jobs and node_id in self._looks
        }
        for job in jobs & self._jobs:
            untold = [node_id for node_id in reasons if (job, node_id) not in self._told]
            for reason in dict.fromkeys(reasons[node_id] for node_id in untold):
                named = [nodes[node_id] for node_id in untold if reasons[node_id] == reason]
                self._tell(job, _message(named, reason))
            self._told |= {(job, node_id) for node_id in untold}
        self._jobs = jobs

    def _live_jobs(self) -> set[Any]:
        found = self._gcs.get_all_job_info(
            skip_submission_job_info_field=True,
            skip_is_running_tasks_field=True,
            timeout=_TIMEOUT,
        )
        return {job for job, data in found.items() if not data.is_dead}

    def _publish(self, job: Any, message: str) -> None:
        from ray._private.utils import publish_error_to_driver

        logger.warning("%s", message)
        publish_error_to_driver("fsspill", message, self._gcs, job)
