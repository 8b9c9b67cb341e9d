"""Heartbeats, for whoever cleans up later: small files that are written anew while they hold.

A node's is written by its IO workers, from their first spill or restore on. That of the session is
written by a process on the head, which lives as long as Ray's own head process: a session may live,
and its objects be wanted, when every node that ever spilled is gone.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fsspill.external_storage import ExternalStorage
from fsspill.storage.layout import HEAD

__all__ = ["INTERVAL", "Heartbeat", "start_head_process"]

logger = logging.getLogger(__name__)

INTERVAL = 300.0
"""Seconds between two heartbeats."""

_LOOK_INTERVAL = 1.0
"""Seconds between two looks whether Ray's head process still lives."""

_CHILD = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from fsspill.ray.heartbeat import run_until_exit
run_until_exit(*pickle.load(sys.stdin.buffer))
"""


class Heartbeat:
    """Writes a heartbeat every 5 minutes, from a thread of its own.

    Parameters
    ----------
    storage : ExternalStorage
        Writes it, one request per URI.
    name : str
        Whose: a node id, or `fsspill.storage.layout.HEAD`.
    """

    def __init__(self, storage: ExternalStorage, name: str) -> None:
        self._storage = storage
        self._name = name
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fsspill-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin, unless that was done before."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Write no more; waits for a sign that is being written, for a few seconds."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        self.write()
        while not self._stopping.wait(INTERVAL):
            self.write()

    def write(self) -> None:
        """Write a heartbeat. Never raises: the next one is soon."""
        try:
            self._storage.write_heartbeat(self._name)
        except Exception as error:
            logger.warning("could not write a heartbeat: %s", error)


def start_head_process(
    arguments: Mapping[str, Any], session_name: str, pid: int, log: str
) -> subprocess.Popen[bytes]:
    """Start the process that writes the heartbeat of a session.

    Parameters
    ----------
    arguments : mapping
        Those of `ExternalStorage`. They go through a pipe: a command line would show them.
    session_name : str
        The session.
    pid : int
        Ray's head process, with which it ends.
    log : str
        The file that gets what it has to say.
    """
    with Path(log).open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(pickle.dumps(sys.path))
        pipe.write(pickle.dumps((dict(arguments), session_name, pid)))
    return process


def run_until_exit(arguments: Mapping[str, Any], session_name: str, pid: int) -> None:
    """Write the heartbeat of a session as long as a process lives, and remove it if it may go.

    It stays where files of the session stay: clean-up needs it to know that the session is dead.
    """
    storage = ExternalStorage(**arguments, session_name=session_name, node_id=HEAD)
    heartbeat = Heartbeat(storage, HEAD)
    heartbeat.start()
    while _is_alive(pid):
        time.sleep(_LOOK_INTERVAL)
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
    """Whether a process has ended and nobody has looked, as in a container without an init."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] == "Z"
