"""Heartbeats for clean-up: small files that are rewritten as long as a node or session lives.

A node's heartbeat is written by its IO workers, from their first spill or restore on. That of the
session is written by a process on the head, which lives as long as Ray's own head process: a
session may live, and its objects be needed, when every node that ever spilled is gone.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
from functools import partial
from pathlib import Path

from fsspill.child_process import start_in_child
from fsspill.external_storage import ExternalStorage
from fsspill.settings import Settings
from fsspill.storage.layout import HEAD

__all__ = ["INTERVAL", "Heartbeat", "run_until_exit", "start_head_process"]

logger = logging.getLogger(__name__)

INTERVAL = 300.0
"""Seconds between two heartbeats."""

_POLL_INTERVAL = 1.0
"""Seconds between two checks that Ray's head process is alive."""

_STOP_TIMEOUT = 5.0
"""Seconds that stopping waits for a heartbeat that is being written."""


class Heartbeat:
    """Periodic writer of a heartbeat, on a thread of its own.

    Parameters
    ----------
    storage : ExternalStorage
        Writes it, with one request per URI.
    name : str
        The heartbeat's name: a node id, or `fsspill.storage.layout.HEAD`.
    """

    def __init__(self, storage: ExternalStorage, name: str) -> None:
        self._storage = storage
        self._name = name
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fsspill-heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread, unless it was started before."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread; wait up to 5 seconds for a heartbeat that is being written."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_STOP_TIMEOUT)

    def _run(self) -> None:
        self.write()
        while not self._stopping.wait(INTERVAL):
            self.write()

    def write(self) -> None:
        """Write a heartbeat. Never raises: the next one follows soon."""
        try:
            self._storage.write_heartbeat(self._name)
        except Exception as error:
            logger.warning("could not write heartbeat: %s", error)


def start_head_process(
    settings: Settings, session_name: str, pid: int, log: str
) -> subprocess.Popen[bytes]:
    """Start the process that writes the heartbeat of a session.

    Parameters
    ----------
    settings : Settings
        The parameters.
    session_name : str
        The session.
    pid : int
        Ray's head process, with which the new process ends.
    log : str
        Path of its log file.
    """
    function = partial(run_until_exit, settings, session_name, pid)
    with Path(log).open("ab") as output:
        return start_in_child(function, output=output)


def run_until_exit(settings: Settings, session_name: str, pid: int) -> None:
    """Write the heartbeat of a session until a process exits, then remove it if possible.

    It stays while files of the session are left: clean-up needs it to see that the session is dead.
    """
    storage = ExternalStorage(settings, session_name=session_name, node_id=HEAD)
    heartbeat = Heartbeat(storage, HEAD)
    heartbeat.start()
    while _is_alive(pid):
        time.sleep(_POLL_INTERVAL)
    heartbeat.stop()
    storage.destroy_external_storage()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Return True if a process has ended unreaped, as in a container without an init."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] == "Z"
