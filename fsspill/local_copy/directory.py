"""The directory of one node's copies: ``<cache_dir>/<session>/<node id>``.

Each process that uses it holds a shared lock on a file in it. The system ends the lock with the
process, so what nobody holds is left by processes that were killed, whatever the clock says.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
import weakref
from contextlib import suppress
from math import inf

from fsspill.storage.local_files import PRIVATE, SHARED, OpenDirectory, open_directory
from fsspill.storage.mount import moved

__all__ = ["ALIVE", "PART", "USAGE", "CopyDirectory", "GoneError", "remove_unheld"]

ALIVE = "fsspill.alive"
"""The file that every process of the node has locked."""

USAGE = "fsspill.usage"
"""The file with the number of bytes that the copies take; see `fsspill.local_copy.eviction`."""

PART = ".part"
"""End of the name of a copy that is being written."""

_OWN_NAME = re.compile(r"[0-9a-f]{32}(-multi-\d+-\d+|\.part)|fsspill\.[a-z0-9.-]+")
"""Names that are removed. Whatever else is in a directory is not fsspill's."""

_ATTEMPTS = 50
"""Attempts to make a directory that is being removed, because nobody held it a moment ago."""

_PAUSE = 0.01
"""Seconds between two of them."""

_REMOVED_SECONDS = 60.0
"""Seconds for which a directory that another process has removed is not made again."""

_ALIVE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class GoneError(OSError):
    """The configured directory is not there: a disk that is not mounted, or was removed."""


class CopyDirectory:
    """The directory of one node's copies, as this process uses it.

    Parameters
    ----------
    root : str
        The configured directory, which must exist.
    session_name, node_id : str
        Names of the directories below it.

    Notes
    -----
    Its methods call into the file system: they belong to a thread of its mount. Below the
    configured directory no link is followed. The node's directory is private to the user (0700);
    once it is entered this process holds two open files and the lock, until this object is gone.
    """

    def __init__(self, root: str, session_name: str, node_id: str) -> None:
        self.root = root
        self._session, self._node = session_name, node_id
        self._entered: OpenDirectory | None = None
        self._removed = -inf

    def enter(self, *, make: bool = False) -> OpenDirectory:
        """Return the open directory, locked.

        Parameters
        ----------
        make : bool
            Make it if it is missing; not within a minute of its removal by another process, which
            may have been that of the node's end.

        Raises
        ------
        OSError
            It is missing or cannot be made, or another user has made it; `GoneError` if the
            configured directory is missing.

        Notes
        -----
        The first process of a node removes what nobody holds.
        """
        entered = self._entered
        if entered and _is_removed(entered):
            self._entered = entered = None
            self._removed = time.monotonic()
        if entered is None:
            self._require_stay()
            is_new = make and not os.path.lexists(f"{self.root}/{self._session}/{self._node}")
            entered, lock = self._enter(make)
            # Closed with the last thread that uses it, or a number would be that of another file.
            weakref.finalize(entered, _close, entered.fd, lock)
            self._entered = entered
            if is_new:
                remove_unheld(self.root)
        return entered

    def _require_stay(self) -> None:
        if time.monotonic() - self._removed < _REMOVED_SECONDS:
            _require_root(self.root)
            raise FileNotFoundError(f"the directory of this node in {self.root} was removed")

    def leave(self) -> None:
        """Close the directory, and release the lock, once no other thread uses it."""
        self._entered = None

    def _enter(self, make: bool) -> tuple[OpenDirectory, int]:
        for _ in range(_ATTEMPTS if make else 1):
            with suppress(FileNotFoundError, BlockingIOError):
                return self._try_to_enter(make)
            _require_root(self.root)
            time.sleep(_PAUSE if make else 0)
        raise FileNotFoundError(f"the directory of this node in {self.root} is being removed")

    def _try_to_enter(self, make: bool) -> tuple[OpenDirectory, int]:
        with open_directory(self.root, "") as top:
            if make:
                with top.enter_or_make(self._session, SHARED) as session:
                    directory = session.enter_or_make(self._node, PRIVATE)
            else:
                with top.enter(self._session) as session:
                    directory = session.enter(self._node)
        try:
            directory.require_private()
            return directory, _lock(directory)
        except BaseException:
            directory.close()
            raise

    def remove(self) -> None:
        """Remove the directory with all copies. Never raises: what cannot be removed stays."""
        with suppress(OSError), open_directory(self.root, "") as top:
            with suppress(OSError), top.enter(self._session) as session:
                # Other processes of the node may still be writing.
                for _ in range(_ATTEMPTS):
                    if self._try_to_remove(session):
                        break
                    time.sleep(_PAUSE)
            top.remove_empty_directory(self._session)
        self.leave()

    def _try_to_remove(self, session: OpenDirectory) -> bool:
        """Remove what is there; return False if there is more."""
        with session.enter(self._node) as directory:
            _remove_files(directory)
            session.remove_empty_directory(self._node)
            if _is_removed(directory):
                return True
            # Without it nobody would know the directory as one of copies.
            os.close(os.open(ALIVE, _ALIVE_FLAGS, 0o600, dir_fd=directory.fd))
            return not any(map(_is_copy, directory.names()))


def remove_unheld(root: str) -> None:
    """Remove the directories of all nodes that no process holds. Never raises.

    Parameters
    ----------
    root : str
        The configured directory. What is not fsspill's stays, and so does what belongs to another
        user, unless this one is root.
    """
    with suppress(OSError), open_directory(root, "") as top:
        for name in top.names():
            with suppress(OSError):
                _remove_unheld_nodes(top, name)
            moved()


def _remove_unheld_nodes(top: OpenDirectory, session_name: str) -> None:
    removed = False
    with top.enter(session_name) as session:
        for node in session.names():
            with suppress(OSError), session.enter(node) as directory:
                removed = _remove_unless_held(directory, session, node) or removed
            moved()
    if removed:
        top.remove_empty_directory(session_name)


def _remove_unless_held(directory: OpenDirectory, session: OpenDirectory, node: str) -> bool:
    """Remove a directory of copies that no process holds; return False if it stays."""
    lock = os.open(ALIVE, _ALIVE_FLAGS & ~os.O_CREAT, dir_fd=directory.fd)
    try:
        # Raises where a process holds it, and where the file system has no locks.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove_files(directory)
        session.remove_empty_directory(node)
    finally:
        os.close(lock)
    return True


def _is_copy(name: str) -> bool:
    return bool(_OWN_NAME.fullmatch(name)) and name != ALIVE


def _require_root(root: str) -> None:
    if not os.path.isdir(root):
        raise GoneError(f"expected the directory {root} to exist, and to stay")


def _remove_files(directory: OpenDirectory) -> None:
    """Remove the files of a directory of copies: the lock, by which it is known, after the rest."""
    for name in sorted(directory.names(), key=lambda name: name == ALIVE):
        if _OWN_NAME.fullmatch(name):
            with suppress(OSError):
                directory.remove(name)
        moved()


def _lock(directory: OpenDirectory) -> int:
    """Lock a directory as one that is in use, and return the open file.

    Raises FileNotFoundError or BlockingIOError where it is being removed.
    """
    lock = os.open(ALIVE, _ALIVE_FLAGS, 0o600, dir_fd=directory.fd)
    try:
        _hold(lock)
        named = os.stat(ALIVE, dir_fd=directory.fd, follow_symlinks=False)
        if not os.path.samestat(named, os.fstat(lock)):
            raise FileNotFoundError(f"{directory.path} was removed while it was locked")
    except BaseException:
        os.close(lock)
        raise
    return lock


def _hold(lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass  # no locks in this file system: then nobody removes what is not held, either


def _is_removed(directory: OpenDirectory) -> bool:
    found = os.fstat(directory.fd)
    return stat.S_ISDIR(found.st_mode) and found.st_nlink == 0


def _close(*fds: int) -> None:
    for fd in fds:
        with suppress(OSError):
            os.close(fd)
