"""State shared by all processes of a node and session, in small files of a private directory."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import Any, NamedTuple

from fsspill.log import get_logger
from fsspill.storage.local_files import PRIVATE, OpenDirectory, open_directory

__all__ = ["SharedState"]

logger = get_logger(__name__)

_KEPT = 7 * 24 * 3600.0
"""Seconds after which unused records are removed."""

_LOCK_SECONDS = 5.0
"""Seconds to wait for a lock: a process that is stopped, or waits for a disk, may keep it."""

_LOCK_INTERVAL = 0.002
"""Seconds between two attempts to get a lock."""

_RETRY_LOCK_SECONDS = 60.0
"""Seconds without another wait for a lock that could not be had: every spill would wait."""

_IN_PLACE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Record = dict[str, Any]
Version = tuple[int, int]
"""Inode and time of the last write of a file, by which one that replaced it is told from it."""


class _Own(NamedTuple):
    """The record that this process wrote last; None for one that it removed.

    `outdated` is the version of the file that it could not replace, and `is_saved` true if it did.
    """

    record: Record | None
    is_saved: bool
    outdated: Version | None = None


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
    process reads half of one. Reading one that does not exist costs some ten system calls. Sessions
    that were killed leave their records behind; a later session removes those that were not used
    for a week.

    Nothing raises but `open_file`. Where a record cannot be written or removed (the disk is full or
    read-only, the directory is gone, or is not the user's own) this process keeps it to itself: it
    counts until another process has replaced the file that it should have replaced.
    """

    def __init__(self, session_name: str, node_id: str) -> None:
        self._names = (f"fsspill-{os.geteuid()}", session_name, node_id)
        self._root = gettempdir()
        self._own: dict[str, _Own] = {}
        self._seen: dict[str, Version | None] = {}
        self._held_by_others: dict[str, float] = {}

    def read(self, kind: str, key: str) -> Record | None:
        """Return a record, or None if there is none."""
        name = _name(kind, key)
        own = self._own.get(name)
        try:
            version, record = self._load(name)
        except OSError:
            return own.record if own else None
        if own and not own.is_saved and own.outdated == version:
            return own.record
        return record

    def write(self, kind: str, key: str, record: Record) -> None:
        """Replace a record."""
        name = _name(kind, key)
        try:
            with self._make() as directory:
                self._seen[name] = _replace(directory, name, json.dumps(record).encode())
        except OSError as error:
            self._keep(name, record, error)
        else:
            self._own[name] = _Own(record, is_saved=True)

    def create(self, kind: str, key: str) -> bool:
        """Create a record without content; return True unless there is one already."""
        name = _name(kind, key)
        own = self._own.get(name)
        if own and own.record is not None and not own.is_saved:
            return False
        try:
            with self._make() as directory:
                os.close(directory.create(name))
        except FileExistsError:
            return False
        except OSError as error:
            self._keep(name, {}, error)
        return True

    def remove(self, kind: str, key: str) -> bool:
        """Remove a record; return True if there was one."""
        name = _name(kind, key)
        own = self._own.pop(name, None)
        existed = own is not None and own.record is not None and not own.is_saved
        try:
            with self._open() as directory:
                existed = directory.remove(name) or existed
        except FileNotFoundError:
            pass
        except OSError as error:
            self._keep(name, None, error)
            is_removed = own is not None and own.record is None
            return existed or (name in self._own and not is_removed)
        self._seen.pop(name, None)
        return existed

    @contextmanager
    def lock(self, kind: str, key: str, *, wait: bool) -> Iterator[bool]:
        """Hold a lock that one process at a time can have, and that ends with the process.

        Yields
        ------
        bool
            True if it is held, and where nothing can be shared. False if another process holds it;
            with `wait`, if it has not released it within 5 seconds. Then no call waits for a
            minute.
        """
        name = _name(kind, key) + ".lock"
        try:
            fd = self._open_in_place(name, create=True)
        except OSError:
            yield True
            return
        try:
            yield self._lock(fd, name, wait)
        finally:
            _unlock(fd)
            os.close(fd)

    def _lock(self, fd: int, name: str, wait: bool) -> bool:
        start = time.monotonic()
        may_wait = wait and start - self._held_by_others.get(name, -inf) >= _RETRY_LOCK_SECONDS
        while not (locked := _try_lock(fd)) and may_wait:
            if time.monotonic() - start >= _LOCK_SECONDS:
                self._held_by_others[name] = time.monotonic()
                break
            time.sleep(_LOCK_INTERVAL)
        return locked

    def open_file(self, kind: str, key: str, *, create: bool) -> int:
        """Return the descriptor of a file that processes change in place. Raises OSError.

        Also where there is no room for it: the file that was created then is removed.
        """
        name = _name(kind, key)
        fd = self._open_in_place(name, create=create)
        try:
            if create and not os.fstat(fd).st_size:
                os.pwrite(fd, b"\0", 0)
        except OSError:
            os.close(fd)
            with suppress(OSError), self._open() as directory:
                directory.remove(name)
            raise
        return fd

    def _open_in_place(self, name: str, *, create: bool) -> int:
        with self._make() if create else self._open() as directory:
            flags = _IN_PLACE | (os.O_CREAT if create else 0)
            return os.open(name, flags, 0o600, dir_fd=directory.fd)

    def discard(self) -> None:
        """Remove all records of this node, and the directories above them once they are empty."""
        self._own.clear()
        self._seen.clear()
        user, session, node = self._names
        with suppress(OSError), open_directory(self._root, "") as root:
            with suppress(OSError), _enter_private(root, user) as mine:
                with suppress(OSError), _enter_private(mine, session) as records:
                    records.remove_directory(node)
                # Other nodes or sessions of this machine may be using them.
                mine.remove_empty_directory(session)
            root.remove_empty_directory(user)

    def _open(self) -> OpenDirectory:
        return open_directory(self._root, "/".join(self._names), _enter_private)

    def _make(self) -> OpenDirectory:
        """Open the directory; if it is missing, make it and remove records of old sessions."""
        with suppress(FileNotFoundError), self._open():
            return self._open()
        with open_directory(self._root, "/".join(self._names), _enter_or_make_private):
            pass
        with open_directory(self._root, self._names[0], _enter_private) as mine:
            _remove_old(mine)
        return self._open()

    def _load(self, name: str) -> tuple[Version | None, Record | None]:
        """Return the version of a file and its record, None without it.

        Raises OSError where there is no directory, or it cannot be read.
        """
        with self._open() as directory:
            try:
                fd = directory.open(name)
            except FileNotFoundError:
                return None, None
        with open(fd, "rb") as file:
            self._seen[name] = _version(fd)
            return self._seen[name], _parse(file.read())

    def _keep(self, name: str, record: Record | None, error: OSError) -> None:
        try:
            outdated, _ = self._load(name)
        except OSError:
            outdated = self._seen.get(name)  # the directory may come back
        if record is None and outdated is None:
            return  # there is nothing that could not be removed
        self._own[name] = _Own(record, is_saved=False, outdated=outdated)
        logger.warning(
            "cannot share state with the other processes of this node, each of them keeps its own: "
            "%s. Make room in the temporary directory, or set TMPDIR for Ray.",
            error,
        )


def gettempdir() -> str:
    """Return the directory for temporary files of this machine.

    Unlike that of `tempfile` it is the same for every process of an environment: a directory that
    is full is not replaced by the next one, nor by the working directory.
    """
    configured = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    existing = (path for path in configured if path and os.path.isdir(path))
    return os.path.abspath(next(existing, "/tmp"))


def _name(kind: str, key: str) -> str:
    return f"{kind}-{hashlib.sha1(key.encode()).hexdigest()}"


def _parse(data: bytes) -> Record | None:
    try:
        record = json.loads(data)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _version(fd: int) -> Version:
    found = os.fstat(fd)
    return found.st_ino, found.st_mtime_ns


def _replace(directory: OpenDirectory, name: str, data: bytes) -> Version:
    """Replace a file atomically, and return its version; leave nothing behind if that fails."""
    temporary = f"{name}.{uuid.uuid4().hex}"
    fd = directory.create(temporary)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            version = _version(fd)
        os.replace(temporary, name, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
    except BaseException:
        with suppress(OSError):
            directory.remove(temporary)
        raise
    return version


def _enter_private(above: OpenDirectory, name: str) -> OpenDirectory:
    return _require_private(above.enter(name))


def _enter_or_make_private(above: OpenDirectory, name: str) -> OpenDirectory:
    return _require_private(above.enter_or_make(name, PRIVATE))


def _require_private(directory: OpenDirectory) -> OpenDirectory:
    try:
        directory.require_private()
    except BaseException:
        directory.close()
        raise
    return directory


def _remove_old(mine: OpenDirectory) -> None:
    """Remove the records of sessions in which no node has written any for a week."""
    limit = time.time() - _KEPT
    for name in mine.names():
        with suppress(OSError):  # another process has just removed it
            with mine.enter(name) as session:
                nodes = session.names()
                if max(map(session.mtime, nodes), default=session.mtime(".")) >= limit:
                    continue
                for node in nodes:
                    session.remove_directory(node)
            mine.remove_empty_directory(name)


def _try_lock(fd: int) -> bool:
    """Return False if another process holds the lock; True also where there are no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _unlock(fd: int) -> None:
    """End a lock also for children that were forked meanwhile: they have the open file too."""
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    except OSError:
        pass
