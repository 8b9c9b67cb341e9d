"""Files of a few bytes that fsspill writes for itself: checks of a URI, and heartbeats."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from fsspill.errors import (
    ConfigError,
    CorruptObjectError,
    FsspillError,
    StorageNotFoundError,
    translate,
)
from fsspill.log import get_logger
from fsspill.storage.client import StorageClient
from fsspill.storage.client_pool import ClientPool
from fsspill.storage.layout import FileRef, SpillLocation
from fsspill.storage.local_files import list_names, open_file, remove_file, rewrite_file
from fsspill.storage.mount import Mount
from fsspill.storage.retry import Retrier, backoff

__all__ = [
    "CHECK_REMOVAL_SECONDS",
    "CHECK_SECONDS",
    "LocalSmallFiles",
    "RemoteSmallFiles",
    "SmallFiles",
    "check_location",
    "is_listed",
    "open_small_files",
    "parse_heartbeat",
    "write_heartbeats",
]

logger = get_logger(__name__)

T = TypeVar("T")

CHECK_SECONDS = 10.0
"""Seconds that a check waits for a URI that does not answer, since Ray's start waits for it."""

CHECK_REMOVAL_SECONDS = 2.0
"""Seconds for deleting the file of a check that failed."""

HEARTBEAT_LENGTH = 32
"""Bytes to read of a heartbeat: more than a time has."""

LISTING_SECONDS = 2.0
"""Seconds until a file that was written must be in a listing: some storages are slower at that."""

_DATA = b"xy"


class SmallFiles(ABC):
    """Access to files of a few bytes.

    Every method makes one request, retries failures that may pass, and raises FsspillError, whose
    message `action` and `where` are for.
    """

    @abstractmethod
    def put(self, file: FileRef, data: bytes, action: str, where: str) -> FileRef:
        """Write a file, making its directories where there are any; return it with its version."""

    @abstractmethod
    def rewrite(self, file: FileRef, data: bytes, action: str, where: str) -> None:
        """Write a file again, and leave nothing of what this process has written there before."""

    @abstractmethod
    def read(self, file: FileRef, nbytes: int, action: str, where: str, start: int = 0) -> bytes:
        """Return so many bytes of a file from `start`, or fewer at its end."""

    @abstractmethod
    def is_listed(self, file: FileRef, action: str, where: str) -> bool:
        """Return True if a listing has a file."""

    def server(self, file: FileRef) -> str:
        """Return the server that answers for a file, where it is known; no request."""
        return ""

    def keeps_deleted(self, file: FileRef) -> bool:
        """Return True if files are known to stay after their deletion; no request."""
        return False

    @abstractmethod
    def delete(self, file: FileRef, action: str, where: str) -> None:
        """Delete a file; one that is already gone is fine."""

    @abstractmethod
    def discard(self, file: FileRef, seconds: float) -> None:
        """Delete a file that may be there, for so many seconds at most. Never raises."""


class RemoteSmallFiles(SmallFiles):
    """Small files on filesystems that fsspec reaches.

    Parameters
    ----------
    clients : ClientPool
        The clients; credentials that were refused are renewed.
    stall_timeout : float
        Seconds that a request may take, its retries included.
    """

    def __init__(self, clients: ClientPool, stall_timeout: float) -> None:
        self._clients = clients
        self._stall_timeout = stall_timeout

    def put(self, file: FileRef, data: bytes, action: str, where: str) -> FileRef:
        """Write a file in one request."""
        version = self._retry(
            file, lambda client: client.put(client.path(file), data), action, where
        )
        return file._replace(version=version)

    def rewrite(self, file: FileRef, data: bytes, action: str, where: str) -> None:
        """Write a file again; where old versions are kept, one more request removes the last."""
        self._retry(file, lambda client: client.rewrite(client.path(file), data), action, where)

    def read(self, file: FileRef, nbytes: int, action: str, where: str, start: int = 0) -> bytes:
        """Read in one request."""
        return self._retry(
            file, lambda client: client.read(client.path(file), nbytes, start), action, where
        )

    def is_listed(self, file: FileRef, action: str, where: str) -> bool:
        """List in one request."""
        return self._retry(file, lambda client: client.is_listed(client.path(file)), action, where)

    def server(self, file: FileRef) -> str:
        """Return the server that answers."""
        return self._clients.client(file.location).server

    def delete(self, file: FileRef, action: str, where: str) -> None:
        """Delete in one request, never a bulk request: filesystems hide its failures."""
        self._retry(
            file, lambda client: client.delete_file(client.deletion_path(file)), action, where
        )

    def keeps_deleted(self, file: FileRef) -> bool:
        """Return True if files are known to stay after their deletion."""
        return self._clients.client(file.location).keeps_deleted

    def discard(self, file: FileRef, seconds: float) -> None:
        """Delete with retries."""
        try:
            client = self._clients.client(file.location)
            client.run(client.delete_with_retry, [client.deletion_path(file)], 1, seconds)
        except FsspillError:
            pass  # the filesystem cannot even be made: nothing was written

    def _retry(
        self,
        file: FileRef,
        request: Callable[[StorageClient], Awaitable[T]],
        action: str,
        where: str,
    ) -> T:
        def call(client: StorageClient) -> T:
            retrier = Retrier(self._stall_timeout)
            place = client.place(where)
            result: T = client.run(retrier.attempt, lambda: request(client), action, place)
            return result

        return self._clients.retry_if_refused(file.location, call, action, where)


class LocalSmallFiles(SmallFiles):
    """Small files in a directory of this machine, private to the user (0700 and 0600).

    Parameters
    ----------
    mount : Mount
        The directory.
    """

    def __init__(self, mount: Mount) -> None:
        self._mount = mount

    def put(self, file: FileRef, data: bytes, action: str, where: str) -> FileRef:
        """Write a file, making its directories; one that nobody waited for is removed."""
        remove = partial(remove_file, file.location.root, file.path)
        self._call(partial(_write, file, data), action, where, undo=remove)
        return file

    def rewrite(self, file: FileRef, data: bytes, action: str, where: str) -> None:
        """Write a file again."""
        self._call(partial(_write, file, data), action, where)

    def read(self, file: FileRef, nbytes: int, action: str, where: str, start: int = 0) -> bytes:
        """Return so many bytes of a file from `start`, or fewer at its end."""

        def read() -> bytes:
            with open(open_file(file.location.root, file.path), "rb") as opened:
                opened.seek(start)
                return opened.read(nbytes)

        return self._call(read, action, where)

    def is_listed(self, file: FileRef, action: str, where: str) -> bool:
        """Return True if a listing of the directory has a file."""
        directory, _, name = file.path.rpartition("/")
        list_directory = partial(list_names, file.location.root, directory)
        return name in self._call(list_directory, action, where)

    def delete(self, file: FileRef, action: str, where: str) -> None:
        """Delete a file; one that is already gone is fine."""
        self._call(partial(remove_file, file.location.root, file.path), action, where)

    def discard(self, file: FileRef, seconds: float) -> None:
        """Delete a file that may be there."""
        with suppress(OSError):
            self._mount.within(seconds).call(remove_file, file.location.root, file.path)

    def _call(
        self,
        function: Callable[[], T],
        action: str,
        where: str,
        undo: Callable[[], object] | None = None,
    ) -> T:
        try:
            return self._mount.call(function, undo=undo)
        except OSError as error:
            raise translate(error, action, where) from error


def open_small_files(
    clients: ClientPool, location: SpillLocation, stall_timeout: float
) -> SmallFiles:
    """Return the access to small files of a URI."""
    if location.local:
        return LocalSmallFiles(Mount(location.root, stall_timeout))
    return RemoteSmallFiles(clients, stall_timeout)


def check_location(
    clients: ClientPool, location: SpillLocation, stall_timeout: float, probe: str | None = None
) -> None:
    """Prove that a URI can be written, read, listed and deleted.

    Parameters
    ----------
    clients : ClientPool
        The clients of the configured URIs.
    location : SpillLocation
        The URI.
    stall_timeout : float
        Seconds that a request may take, its retries included; at most `CHECK_SECONDS` are used.
    probe : str, optional
        Name of a file in the node's directory, which is checked then, and made if it is missing.
        Concurrent checks need different ones.

    Raises
    ------
    FsspillError
        It cannot; the message says what to do.

    Notes
    -----
    Four requests, on a file of two bytes that is gone afterwards; five if obstore was asked for by
    name, and must read it too. The second byte is read alone, since objects are read in ranges, and
    the file is looked for in a listing, since what cannot be listed cannot be cleaned up. With
    `probe` nothing is listed, where there are many files.
    """
    files = open_small_files(clients, location, min(stall_timeout, CHECK_SECONDS))
    file = location.check_file if probe is None else location.probe_file(probe)
    context = ("cannot spill to", location.uri)
    try:
        file = files.put(file, _DATA, *context)
        found = files.read(file, 1, *context, start=1)
        if not location.local:
            path = clients.client(location).path(file)
            clients.check_engine(location, path, min(stall_timeout, CHECK_SECONDS))
        listed = probe is not None or is_listed(files, file, *context)
    except Exception:
        # It may be there: an attempt whose answer was lost has written it.
        files.discard(file, CHECK_REMOVAL_SECONDS)
        raise
    files.delete(file, *context)
    if probe is None and files.keeps_deleted(file):
        logger.warning(
            "%s keeps what is deleted, and it is billed: the bucket has versions, and these "
            "credentials may not delete them. Allow s3:DeleteObjectVersion and "
            "s3:ListBucketVersions, or end old versions by a lifecycle rule: "
            "NoncurrentVersionExpiration after 1 day, and ExpiredObjectDeleteMarker.",
            location.uri,
        )
    if found == _DATA:
        raise ConfigError(
            f"cannot spill to {location.uri}: asked for one byte of {file.url} and found the whole "
            "file. Expected ranges to be read: a proxy before the storage, or the storage itself, "
            "ignores them."
        )
    if found != _DATA[1:]:
        raise CorruptObjectError(
            f"cannot spill to {location.uri}: wrote {_DATA!r} to {file.url}, read {found!r} for "
            "the last byte. Expected to read what was written: check the storage, and any proxy "
            "before it."
        )
    if not listed:
        server = files.server(file)
        raise ConfigError(
            f"cannot spill to {location.uri}: {file.url} was written and read, but no listing has "
            "it, so that no file could be found to be removed. Expected an endpoint that does not "
            f"contain the bucket{f' (found {server})' if server else ''}, and a storage that lists "
            "its files."
        )


def is_listed(files: SmallFiles, file: FileRef, action: str, where: str) -> bool:
    """Return True if a file that was written is in a listing, or soon is."""
    waited = 0.0
    for pause in backoff():
        try:
            if files.is_listed(file, action, where):
                return True
        except StorageNotFoundError:
            pass  # an answer about the bucket, which has just taken the file
        if waited > LISTING_SECONDS:
            return False
        time.sleep(pause)
        waited += pause
    raise AssertionError("backoff never ends")


def write_heartbeats(
    clients: ClientPool, locations: Sequence[SpillLocation], name: str, stall_timeout: float
) -> None:
    """Write a heartbeat under every URI: one request each.

    Parameters
    ----------
    clients : ClientPool
        The clients of the configured URIs.
    locations : sequence of SpillLocation
        The configured URIs. A node's own directories get none: they go with the node.
    name : str
        A node id, or `fsspill.storage.layout.HEAD`.
    stall_timeout : float
        Seconds that a request may take, its retries included.

    Raises
    ------
    FsspillError
        The first failure, after every URI was tried: one that is down must not make the session
        look dead at another.
    """
    failures: list[FsspillError] = []
    for location in locations:
        if location.session_path is None:
            continue
        files = open_small_files(clients, location, stall_timeout)
        file = location.heartbeat_file(name)
        try:
            files.rewrite(file, format_heartbeat(time.time()), "cannot write", file.url)
        except FsspillError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def format_heartbeat(seconds: float) -> bytes:
    """Return the content of a heartbeat: the time by its writer's clock, in seconds since 1970.

    For clean-up it is independent of the time that the storage gives the file.
    """
    return f"{seconds:.0f}".encode()


def parse_heartbeat(data: bytes) -> float | None:
    """Return the time in a heartbeat by its writer's clock; None if there is none."""
    digits = data.strip()
    return float(digits) if digits.isdigit() else None


def _write(file: FileRef, data: bytes) -> None:
    with open(rewrite_file(file.location.root, file.path), "wb") as opened:
        opened.write(data)
        opened.flush()
        os.utime(opened.fileno())
