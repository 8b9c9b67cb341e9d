"""Heartbeats for clean-up: small files that are rewritten as long as a node or session lives.

That of the session is written by a process on the head, which lives as long as Ray's own head
process: a session may live, and its objects be needed, when every node that ever spilled is gone.
That of a node is written by its IO workers, from their first spill or restore on, and by a process
that the first of them starts, which lives as long as the node: Ray does not replace an IO worker
that was killed before it needs one.

Each of these processes has a standby: a child that waits for its end, takes over, and starts a
standby of its own. So a heartbeat goes on if either of the two is killed.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from math import inf

from fsspill.child_process import start_in_child
from fsspill.external_storage import ExternalStorage
from fsspill.log import get_logger
from fsspill.placement.shared_state import SharedState
from fsspill.ray.processes import is_alive, open_log
from fsspill.settings import Settings
from fsspill.storage.layout import HEAD

__all__ = [
    "INTERVAL",
    "Heartbeat",
    "run_until_exit",
    "start_head_process",
    "start_node_process",
]

logger = get_logger(__name__)

INTERVAL = 300.0
"""Seconds between two heartbeats."""

_CLOCK_INTERVAL = 5.0
"""Seconds between two looks at the clocks, one of which goes on while a machine is suspended."""

_POLL_INTERVAL = 1.0
"""Seconds between two checks that Ray's process and the standby are alive."""

_RESTART_INTERVAL = 5.0
"""Seconds between two starts of a standby, in case that it ends immediately."""

_LOGGED = 12
"""Of so many failures in a row one is logged: one an hour."""

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
    before_first : callable, optional
        Called on the thread before the first heartbeat.
    """

    def __init__(
        self,
        storage: ExternalStorage,
        name: str,
        before_first: Callable[[], object] = lambda: None,
    ) -> None:
        self._storage = storage
        self._name = name
        self._before_first = before_first
        self._failures = 0
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
        try:
            self._before_first()
        except Exception as error:
            logger.warning(
                "the heartbeat of this node ends with its IO workers, the process for it did not "
                "start: %s",
                error,
            )
        while not self._stopping.is_set():
            self.write()
            self.wait()

    def wait(self) -> None:
        """Wait until a heartbeat is due by either clock, or the thread is stopped.

        The monotonic clock stands still while a machine is suspended. The other does not, so a
        machine that resumes writes a heartbeat within seconds.
        """
        due, due_on_wall = time.monotonic() + INTERVAL, time.time() + INTERVAL
        while time.monotonic() < due and time.time() < due_on_wall:
            if self._stopping.wait(min(_CLOCK_INTERVAL, INTERVAL)):
                return

    def write(self) -> None:
        """Write a heartbeat. Never raises: the next one follows soon."""
        try:
            self._storage.files.write_heartbeat(self._name)
        except Exception as error:
            if self._failures % _LOGGED == 0:
                logger.warning(
                    "could not write heartbeat %r, and after a day without any 'fsspill clean' "
                    "takes what it stands for as dead: %s",
                    self._name,
                    error,
                )
            self._failures += 1
        else:
            self._failures = 0


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
    function = partial(run_until_exit, settings, session_name, HEAD, pid)
    with open_log(log) as output:
        return start_in_child(function, output=output)


def start_node_process(
    settings: Settings, session_name: str, node_id: str
) -> subprocess.Popen[bytes] | None:
    """Start the process that writes the heartbeat of this node, unless there is one.

    Returns
    -------
    subprocess.Popen or None
        None if there is one, if files belong to no session, or if this is no worker of Ray.
    """
    pid = int(os.environ.get("RAY_RAYLET_PID") or 0)
    if settings.node_local or pid <= 0:
        return None
    with _writer_lock(session_name, node_id, pid) as is_free:
        pass
    if not is_free:
        return None
    # Two IO workers may come here at a time; the process that starts second ends.
    return start_in_child(partial(run_until_exit, settings, session_name, node_id, pid))


def run_until_exit(
    settings: Settings, session_name: str, name: str, pid: int, predecessor: int | None = None
) -> None:
    """Write a heartbeat until a process exits; that of a session is removed then if possible.

    It stays while files of the session are left: clean-up needs it to see that the session is dead.

    Parameters
    ----------
    settings : Settings
        The parameters.
    session_name : str
        The session.
    name : str
        The heartbeat's name: a node id, or `fsspill.storage.layout.HEAD`.
    pid : int
        The process of Ray.
    predecessor : int, optional
        The process that writes until it ends, the parent of this one.
    """
    while os.getppid() == predecessor and is_alive(pid):
        time.sleep(_POLL_INTERVAL)
    if not is_alive(pid):
        return
    with _writer_lock(session_name, name, pid) as is_free:
        if is_free:
            _write_until_exit(settings, session_name, name, pid)


def _writer_lock(session_name: str, name: str, pid: int) -> AbstractContextManager[bool]:
    """Hold the lock of the process that writes a heartbeat while a process of Ray lives."""
    return SharedState(session_name, name).lock("heartbeat", str(pid), wait=False)


def _write_until_exit(settings: Settings, session_name: str, name: str, pid: int) -> None:
    storage = ExternalStorage(settings, session_name=session_name, node_id=name)
    heartbeat = Heartbeat(storage, name)
    standby = _Standby(partial(run_until_exit, settings, session_name, name, pid, os.getpid()))
    # That of a node was just written by an IO worker. Another one could come after the removal of
    # a node that lived for a moment, and would stay.
    first = time.monotonic() + (0.0 if name == HEAD else INTERVAL)
    while is_alive(pid):
        standby.keep_alive()
        if time.monotonic() >= first:
            heartbeat.start()
        time.sleep(_POLL_INTERVAL)
    heartbeat.stop()
    if name == HEAD:
        storage.destroy_external_storage()


class _Standby:
    """The child of this process that takes over when it ends.

    Parameters
    ----------
    function : callable
        Called by the child; ends when Ray does.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._process: subprocess.Popen[bytes] | None = None
        self._next_start = -inf

    def keep_alive(self) -> None:
        """Start the child, if it is not alive. Never raises: it is tried again soon."""
        is_alive = self._process is not None and self._process.poll() is None
        if is_alive or time.monotonic() < self._next_start:
            return
        self._next_start = time.monotonic() + _RESTART_INTERVAL
        try:
            self._process = start_in_child(self._function)
        except OSError as error:
            logger.warning("could not start the standby of a heartbeat, and tries again: %s", error)
