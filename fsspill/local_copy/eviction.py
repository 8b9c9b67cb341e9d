"""The bound of a node's copies, which all of its processes keep together."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from fsspill.local_copy.directory import PART, USAGE
from fsspill.metrics import Metrics
from fsspill.storage.local_files import OpenDirectory
from fsspill.storage.mount import AbandonedError, moved

__all__ = ["Bound", "BusyError"]

FREE_SHARE = 10
"""The part of the disk that stays free, as its inverse: Ray creates no objects above 95 %."""

_BATCH_SHARE = 10
"""The part of all copies, as its inverse, that is evicted together: each file is looked at ten
times."""

_LOCK_SECONDS = 2.0
"""Seconds to wait for another process, which may be looking at all files."""

_LOCK_INTERVAL = 0.002
"""Seconds between two attempts to get the lock."""

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""Errors of file systems without locks, on which the bound is approximate."""

_COUNT = struct.Struct("<Q")


class BusyError(Exception):
    """Another process had the lock for all the time that this one waits for it."""


class _Found(NamedTuple):
    """A file in the directory; sorted by the time of its last use."""

    used: int
    name: str
    nbytes: int


class Bound:
    """Limit of the bytes of a node's copies.

    Parameters
    ----------
    max_bytes : int
        Bytes of all copies of the node.
    metrics : Metrics, optional
        Counts what is written and evicted.

    Notes
    -----
    The number of bytes is in a small file, changed under a lock by the process that adds or removes
    a copy. A copy counts with its full length before its first byte is written, and no more after
    its removal: where a process is killed in between, the number is too high. It is counted again
    from the files whenever some are evicted, which costs a look at each of them, for a tenth of
    them.

    Methods belong to a thread of the directory's mount.
    """

    def __init__(self, max_bytes: int, metrics: Metrics | None = None) -> None:
        self.max_bytes = max_bytes
        self._metrics = metrics or Metrics()

    def used(self, directory: OpenDirectory) -> int:
        """Return the bytes of all copies, without the lock: those of a moment ago."""
        fd = directory.open(USAGE)
        try:
            return _used(directory, fd)
        finally:
            os.close(fd)

    def create(self, directory: OpenDirectory, name: str, nbytes: int) -> int:
        """Create a file of a length, after the removal of others where that is needed.

        Parameters
        ----------
        directory : OpenDirectory
            The node's directory.
        name : str
            Name of the file, which must not exist.
        nbytes : int
            Its length.

        Returns
        -------
        int
            The file, open for writing, without content.

        Raises
        ------
        OSError
            Of ENOSPC if there is no room even without any other copy.
        BusyError
            Other processes have the lock.
        """
        with _locked(directory, _LOCK_SECONDS) as lock:
            used = self._make_room(directory, _used(directory, lock), nbytes)
            _write(lock, used + nbytes)
            fd = directory.create(name)
            try:
                os.ftruncate(fd, nbytes)  # what a later count finds
            except BaseException:
                os.close(fd)
                raise
            return fd

    def remove(self, directory: OpenDirectory, name: str) -> None:
        """Remove a copy, and count it no more; one that is gone is fine. Never waits for long."""
        self._release(directory, partial(_remove, directory, name))

    def truncate(self, directory: OpenDirectory, fd: int, nbytes: int) -> None:
        """Shorten an open copy to its length, and count that. Never waits for long."""
        self._release(directory, partial(_truncate, fd, nbytes))

    def _release(self, directory: OpenDirectory, release: Callable[[], int]) -> None:
        """Release bytes of the disk under the lock, so that no other process counts in between.

        Without the lock where that is not to be had: the number is too high until the next count.
        """
        try:
            with _locked(directory, _LOCK_INTERVAL) as lock:
                used = _used(directory, lock)
                _write(lock, max(0, used - release()))
        except (OSError, BusyError, AbandonedError):
            release()

    def _make_room(self, directory: OpenDirectory, used: int, nbytes: int) -> int:
        """Evict copies if one more has no room, and return the bytes of those that are there."""
        if nbytes > self.max_bytes:
            raise OSError(errno.ENOSPC, "a copy of this file alone is larger than cache_max_bytes")
        lacking = nbytes - _free_bytes(directory)
        if used + nbytes <= self.max_bytes and lacking <= 0:
            return used
        batch = max(nbytes, used // _BATCH_SHARE)
        wanted = lacking + batch - nbytes if lacking > 0 else 0
        used = _evict(directory, self.max_bytes - batch, wanted, self._record_eviction)
        if nbytes > _free_bytes(directory):
            raise OSError(errno.ENOSPC, "a tenth of the disk is to stay free")
        return used

    def record_copy(self, nbytes: int) -> None:
        """Count a copy that is complete."""
        self._metrics.add("fsspill_copied_bytes", nbytes)

    def _record_eviction(self, nbytes: int) -> None:
        self._metrics.add("fsspill_copy_evictions")
        self._metrics.add("fsspill_copy_evicted_bytes", nbytes)


def _evict(directory: OpenDirectory, room: int, wanted: int, evicted: Callable[[int], None]) -> int:
    """Remove the least recently used copies, and return the bytes of those that stay.

    Parameters
    ----------
    directory : OpenDirectory
        The directory.
    room : int
        Bytes that may stay.
    wanted : int
        Bytes that the disk needs, whatever the copies may have.
    evicted : callable
        Called with the bytes of each copy that was removed.
    """
    found = sorted(_look(directory))
    used, freed = sum(file.nbytes for file in found), 0
    for file in found:
        if used <= room and freed >= wanted:
            break
        directory.remove(file.name)
        evicted(file.nbytes)
        used -= file.nbytes
        freed += file.nbytes
        moved()
    return used


def _remove(directory: OpenDirectory, name: str) -> int:
    """Remove a file, and return the bytes that this has released."""
    try:
        nbytes = os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0
    return nbytes if directory.remove(name) else 0


def _truncate(fd: int, nbytes: int) -> int:
    """Shorten a file, and return the bytes that this has released."""
    released = os.fstat(fd).st_size - nbytes
    os.ftruncate(fd, nbytes)
    return released


def _look(directory: OpenDirectory) -> Iterator[_Found]:
    for name in directory.names():
        if "-multi-" in name or name.endswith(PART):
            try:
                found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield _Found(found.st_mtime_ns, name, found.st_size)
        moved()


def _free_bytes(directory: OpenDirectory) -> int:
    """Return the bytes of the disk that may be used: negative ones are to become free."""
    disk = os.statvfs(directory.fd)
    return disk.f_frsize * (disk.f_bavail - disk.f_blocks // FREE_SHARE)


@contextmanager
def _locked(directory: OpenDirectory, seconds: float) -> Iterator[int]:
    """Hold the lock on the number of bytes, and yield the file that has it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(USAGE, flags, 0o600, dir_fd=directory.fd)
    try:
        give_up = time.monotonic() + seconds
        while not _try_lock(fd):
            if time.monotonic() >= give_up:
                raise BusyError
            time.sleep(_LOCK_INTERVAL)
            moved()
        yield fd
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _used(directory: OpenDirectory, lock: int) -> int:
    """Return the bytes of all copies: those of the file, or where it is new, of the copies."""
    data = os.pread(lock, _COUNT.size, 0)
    if len(data) == _COUNT.size:
        return int(_COUNT.unpack(data)[0])
    return sum(file.nbytes for file in _look(directory))


def _write(lock: int, nbytes: int) -> None:
    os.pwrite(lock, _COUNT.pack(nbytes), 0)
