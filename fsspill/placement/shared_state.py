"""State shared by all processes of a node and session, in small files of a private directory."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import gettempdir
from typing import Any

from fsspill.log import get_logger

__all__ = ["SharedState"]

logger = get_logger(__name__)

_KEPT = 7 * 24 * 3600.0
"""Seconds after which unused records are removed."""


class SharedState:
    """State shared by all processes of a node and session: records by kind and key.

    Parameters
    ----------
    session_name, node_id : str
        The session and the node.

    Notes
    -----
    Files are at ``<temporary directory>/fsspill-<user id>/<session name>/<node id>``, private to
    the user (0700) and created with the first record. A record is replaced atomically, so no
    process reads half of one. Reading one that does not exist costs one system call. Sessions
    that were killed leave their records behind; a later session removes those that were not used
    for a week. Where the directory cannot be created, or is not the user's own, each process
    keeps its records to itself.
    """

    def __init__(self, session_name: str, node_id: str) -> None:
        parts = (gettempdir(), f"fsspill-{os.getuid()}", session_name, node_id)
        self._directory = os.path.join(*parts)
        self._own: dict[str, dict[str, Any]] = {}

    def read(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return a record, or None if there is none."""
        path = self._path(kind, key)
        try:
            with open(path, "rb") as file:
                # The temporary directory is writable by all users: another may have put it there.
                mine = os.fstat(file.fileno()).st_uid == os.getuid()
                record: dict[str, Any] | None = json.loads(file.read()) if mine else None
                return record
        except (OSError, ValueError):
            return self._own.get(path)

    def write(self, kind: str, key: str, record: dict[str, Any]) -> None:
        """Replace a record."""
        path = self._path(kind, key)
        try:
            self._make_directory()
            fd, temporary = tempfile.mkstemp(dir=self._directory)
            with open(fd, "w") as file:
                json.dump(record, file)
            os.replace(temporary, path)
        except OSError as error:
            logger.warning("cannot share %s with the other processes of this node: %s", kind, error)
            self._own[path] = record

    def remove(self, kind: str, key: str) -> None:
        """Remove a record if it exists."""
        path = self._path(kind, key)
        self._own.pop(path, None)
        try:
            os.remove(path)
        except OSError:
            pass

    @contextmanager
    def lock(self, kind: str, key: str, *, wait: bool) -> Iterator[bool]:
        """Hold a lock that one process at a time can have, and that ends with the process.

        Yields
        ------
        bool
            True if it is held: always with `wait`, and where nothing can be shared.
        """
        try:
            self._make_directory()
            fd = os.open(self._path(kind, key) + ".lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError:
            yield True
            return
        try:
            yield _lock(fd, wait)
        finally:
            _unlock(fd)
            os.close(fd)

    def discard(self) -> None:
        """Remove all records of this node, and the directories above them once they are empty."""
        shutil.rmtree(self._directory, ignore_errors=True)
        session = os.path.dirname(self._directory)
        for directory in (session, os.path.dirname(session)):
            try:
                os.rmdir(directory)
            except OSError:
                return  # other nodes or sessions of this machine are using it

    def _path(self, kind: str, key: str) -> str:
        return os.path.join(self._directory, f"{kind}-{hashlib.sha1(key.encode()).hexdigest()}")

    def _make_directory(self) -> None:
        if os.path.isdir(self._directory):
            return
        session = os.path.dirname(self._directory)
        for directory in (os.path.dirname(session), session, self._directory):
            try:
                os.mkdir(directory, 0o700)
            except FileExistsError:
                _check_private(directory)
        _remove_old(os.path.dirname(session))


def _remove_old(directory: str) -> None:
    """Remove the records of sessions in which no node has written any for a week."""
    limit = time.time() - _KEPT
    for session in os.scandir(directory):
        try:
            nodes = [node.stat().st_mtime for node in os.scandir(session.path)]
            last = max(nodes, default=session.stat().st_mtime)
        except OSError:
            continue  # another process has just removed it
        if last < limit:
            shutil.rmtree(session.path, ignore_errors=True)


def _lock(fd: int, wait: bool) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _unlock(fd: int) -> None:
    """End a lock also for children that were forked meanwhile: they have the open file too."""
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    except OSError:
        pass


def _check_private(directory: str) -> None:
    """Raise PermissionError unless a directory is private to this user."""
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{directory} is not a private directory of user {os.getuid()}")
