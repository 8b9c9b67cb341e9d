"""Files below a local directory in which other users may be able to write.

The directory itself may be reached through links: those were made on purpose. Below it nothing is
trusted because it exists. No link is followed, and each name is opened relative to the directory
above it, so that one that is replaced meanwhile leads nowhere else.

*Owner.* A directory that spilled files are written to must belong to the user who writes them. The
owner of a file that was just created is that user as the filesystem knows it, which need not be the
user of the process: NFS may map root to another user, and a mount may give all files one owner.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from fsspill.storage.mount import moved

__all__ = [
    "OpenDirectory",
    "create_file",
    "list_names",
    "open_directory",
    "open_file",
    "remove_directory",
    "remove_file",
    "rewrite_file",
]

PRIVATE = 0o700
"""Mode of directories of one user."""

SHARED = 0o1777
"""Mode, before the umask, of directories in which several users may have one of their own. With the
sticky bit none of them can replace that of another."""

# Searching a directory needs no permission to list it, which a temporary directory need not give.
_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a pipe that was put there must not wait for the other end.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_REWRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_ATTEMPTS = 10
"""Attempts to open a file that other processes create or remove at the same time."""


class OpenDirectory:
    """An open directory, in which names are used without following links. A context manager.

    Parameters
    ----------
    path : str
        Its path. Only that of the uppermost one is ever opened; the others are for messages.
    above : OpenDirectory, optional
        The directory above it, relative to which it is opened, without following a link.

    Attributes
    ----------
    fd : int
        The file descriptor.
    chain : tuple of os.stat_result
        The state of each directory from the uppermost one to this one.
    """

    def __init__(self, path: str, above: OpenDirectory | None = None) -> None:
        self.path = path
        self.fd: int = _open_below(path, above.fd) if above else os.open(path, _DIRECTORY)
        found = os.fstat(self.fd)
        self.chain: tuple[os.stat_result, ...] = (*above.chain, found) if above else (found,)

    def __enter__(self) -> OpenDirectory:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)

    def enter(self, name: str) -> OpenDirectory:
        """Open a directory in this one."""
        return OpenDirectory(f"{self.path}/{name}", self)

    def enter_or_make(self, name: str, mode: int) -> OpenDirectory:
        """Open a directory in this one, making it if it is missing."""
        try:
            return self.enter(name)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(name, mode, dir_fd=self.fd)
        return self.enter(name)

    def names(self) -> list[str]:
        """Return the names in it, sorted."""
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def mtime(self, name: str) -> float:
        """Return the time of the last change of a file or directory in it."""
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_mtime

    def create(self, name: str) -> int:
        """Create a file that did not exist, private to the user, and open it for writing."""
        return os.open(name, _CREATE, 0o600, dir_fd=self.fd)

    def open(self, name: str) -> int:
        """Open a file for reading."""
        try:
            return os.open(name, _READ, dir_fd=self.fd)
        except OSError as error:
            _refuse_links(error, f"{self.path}/{name}")
            raise

    def rewrite(self, name: str) -> int:
        """Open a file for writing over what it holds, as a full disk allows; create a missing one.

        Whatever else has its name is removed: a link, a pipe, a file of another user, or one that
        also has a name elsewhere.
        """
        for _ in range(_ATTEMPTS):
            try:
                return self._open_own(name)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    return self.create(name)
            except _NotOwnError as error:
                try:
                    self.remove(name)
                except PermissionError:
                    raise self._foreign_error(name) from error
        raise self._foreign_error(name)

    def _foreign_error(self, name: str) -> PermissionError:
        return PermissionError(
            f"expected a file of this user at {self.path}/{name}, found one of another that cannot "
            "be replaced. Remove it"
        )

    def _open_own(self, name: str) -> int:
        try:
            fd = os.open(name, _REWRITE, dir_fd=self.fd)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EACCES):
                raise _NotOwnError from error
            raise
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1 and found.st_uid == os.geteuid():
            return fd
        os.close(fd)
        raise _NotOwnError

    def remove(self, name: str) -> bool:
        """Remove a file, or a link itself; return False if it is already gone."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        return True

    def remove_directory(self, name: str) -> None:
        """Remove a directory with the files in it. Never raises: what cannot be removed stays."""
        with suppress(OSError), self.enter(name) as below:
            for each in below.names():
                with suppress(OSError):
                    below.remove(each)
                moved()
        self.remove_empty_directory(name)

    def remove_empty_directory(self, name: str) -> None:
        """Remove a directory that is empty. Never raises: one that is not stays."""
        with suppress(OSError):
            os.rmdir(name, dir_fd=self.fd)

    def require_private(self) -> None:
        """Raise PermissionError unless it belongs to this user, and no other may use it."""
        found = self.chain[-1]
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise PermissionError(
                f"expected a private directory of user {os.geteuid()} at {self.path}, found one "
                f"of user {found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}"
            )

    def require_owner(self, owner: int) -> None:
        """Raise PermissionError unless it belongs to a user; prevent others from writing in it."""
        found = self.chain[-1]
        if found.st_uid != owner:
            raise PermissionError(
                f"expected a directory of user {owner} at {self.path}, found one of user "
                f"{found.st_uid}, who could replace the files in it. Remove it"
            )
        if found.st_mode & 0o022:
            self._make_private()

    def require_safe_path(self, owner: int) -> None:
        """Raise PermissionError if another user may have made a directory below the first.

        Where not all users may write in the first one, those who may are trusted.
        """
        first, *below = self.chain
        strangers = {found.st_uid for found in below} - {owner, 0}
        if strangers and first.st_mode & 0o002:
            raise PermissionError(
                f"expected {self.path}, and what is above it, to belong to user {owner}, found a "
                f"directory of user {strangers.pop()}. All users may write in the configured "
                "directory: remove that permission, or the directory"
            )

    def _make_private(self) -> None:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            # Mounts that give all files one mode refuse it.
            with suppress(OSError):
                os.fchmod(fd, PRIVATE)
        finally:
            os.close(fd)


class _NotOwnError(Exception):
    """A file that does not belong to this user alone has the name of one that does."""


Enter = Callable[[OpenDirectory, str], OpenDirectory]


def open_directory(root: str, path: str, enter: Enter = OpenDirectory.enter) -> OpenDirectory:
    """Open a directory at a path below another one, which may be reached through links.

    Parameters
    ----------
    root : str
        The uppermost directory.
    path : str
        Names separated by slashes; none for the uppermost directory itself.
    enter : callable
        Opens, or makes, a directory in another one.
    """
    directory = OpenDirectory(root)
    for name in filter(None, path.split("/")):
        with directory as above:
            directory = enter(above, name)
    return directory


def _make_directory(root: str, path: str) -> OpenDirectory:
    """Open a directory, making those that are missing; the last one is private."""
    if not os.path.isdir(root):
        # The user's own directory has the mode that others are given.
        os.makedirs(root, exist_ok=True)
    above, _, last = path.rpartition("/")
    parent = open_directory(root, above, partial(OpenDirectory.enter_or_make, mode=SHARED))
    if not last:
        return parent
    with parent:
        return parent.enter_or_make(last, PRIVATE)


def create_file(root: str, path: str) -> int:
    """Create a file in a directory of this user alone, and open it for writing.

    Parameters
    ----------
    root : str
        The configured directory; made if it is missing.
    path : str
        Path below it; directories that are missing are made.

    Raises
    ------
    OSError
        Such as FileExistsError, or PermissionError where another user owns the directory.
    """
    parent, _, name = path.rpartition("/")
    with _make_directory(root, parent) as directory:
        fd = directory.create(name)
        with _removed_on_error(directory, name, fd) as owner:
            directory.require_owner(owner)
            directory.require_safe_path(owner)
        return fd


def rewrite_file(root: str, path: str) -> int:
    """Open a file of this user for writing over what it holds, as `create_file` creates one."""
    parent, _, name = path.rpartition("/")
    with _make_directory(root, parent) as directory:
        fd = directory.rewrite(name)
        with _removed_on_error(directory, name, fd) as owner:
            directory.require_safe_path(owner)
        return fd


@contextmanager
def _removed_on_error(directory: OpenDirectory, name: str, fd: int) -> Iterator[int]:
    """Yield the owner of an open file; close and remove the file if the block raises."""
    try:
        yield os.fstat(fd).st_uid
    except BaseException:
        os.close(fd)
        directory.remove(name)
        raise


def open_file(root: str, path: str) -> int:
    """Open a file at a path below a directory for reading."""
    parent, _, name = path.rpartition("/")
    with open_directory(root, parent) as directory:
        return directory.open(name)


def remove_file(root: str, path: str) -> None:
    """Remove a file at a path below a directory; one that is already gone is fine."""
    parent, _, name = path.rpartition("/")
    with suppress(FileNotFoundError), open_directory(root, parent) as directory:
        directory.remove(name)


def remove_directory(root: str, path: str) -> None:
    """Remove a directory with the files in it. Never raises: what cannot be removed stays."""
    parent, _, name = path.rpartition("/")
    with suppress(OSError), open_directory(root, parent) as directory:
        directory.remove_directory(name)


def list_names(root: str, path: str) -> list[str]:
    """Return the names in a directory below another one, sorted; none if it is not there."""
    try:
        with open_directory(root, path) as directory:
            return directory.names()
    except FileNotFoundError:
        return []


def _open_below(path: str, above: int) -> int:
    try:
        return os.open(path.rpartition("/")[2], _DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    except OSError as error:
        _refuse_links(error, path)
        raise


def _refuse_links(error: OSError, path: str) -> None:
    """Raise PermissionError if an error means that a link was not followed."""
    if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR):
        raise PermissionError(
            f"expected a file or directory that fsspill made at {path}, found a link, or "
            "something else. Remove it"
        ) from error
