"""Files of a few bytes that fsspill writes for itself: checks of a URI, and heartbeats."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from fsspill.errors import CorruptObjectError, FsspillError, translate
from fsspill.storage.client import StorageClient
from fsspill.storage.client_pool import ClientPool
from fsspill.storage.layout import FileRef, SpillLocation
from fsspill.storage.local_files import open_file, remove_file, rewrite_file
from fsspill.storage.retry import Retrier

__all__ = [
    "CHECK_SECONDS",
    "LocalSmallFiles",
    "RemoteSmallFiles",
    "SmallFiles",
    "check_location",
    "parse_heartbeat",
    "write_heartbeats",
]

T = TypeVar("T")

CHECK_SECONDS = 10.0
"""Seconds that a check waits for a URI that does not answer, since Ray's start waits for it."""

CHECK_REMOVAL_SECONDS = 2.0
"""Seconds for deleting the file of a check that failed."""

HEARTBEAT_LENGTH = 32
"""Bytes to read of a heartbeat: more than a time has."""

_DATA = b"x"


class SmallFiles(ABC):
    """Access to files of a few bytes.

    Every method makes one request, retries failures that may pass, and raises FsspillError, whose
    message `action` and `where` are for.
    """

    @abstractmethod
    def put(self, file: FileRef, data: bytes, action: str, where: str) -> None:
        """Write a file, making its directories where there are any."""

    @abstractmethod
    def read(self, file: FileRef, nbytes: int, action: str, where: str) -> bytes:
        """Return the first bytes of a file."""

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

    def put(self, file: FileRef, data: bytes, action: str, where: str) -> None:
        """Write a file in one request."""
        self._retry(file, lambda client: client.put(client.path(file), data), action, where)

    def read(self, file: FileRef, nbytes: int, action: str, where: str) -> bytes:
        """Read in one request."""
        return self._retry(
            file, lambda client: client.read(client.path(file), nbytes), action, where
        )

    def delete(self, file: FileRef, action: str, where: str) -> None:
        """Delete in one request, never a bulk request: filesystems hide its failures."""
        self._retry(file, lambda client: client.delete_file(client.path(file)), action, where)

    def discard(self, file: FileRef, seconds: float) -> None:
        """Delete with retries."""
        try:
            client = self._clients.client(file.location)
            client.run(client.delete_with_retry, [client.path(file)], 1, seconds)
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
    """Small files in directories of this machine, private to the user (0700 and 0600)."""

    def put(self, file: FileRef, data: bytes, action: str, where: str) -> None:
        """Write a file, making its directories."""
        _translated(lambda: _write(file, data), action, where)

    def read(self, file: FileRef, nbytes: int, action: str, where: str) -> bytes:
        """Return the first bytes of a file."""

        def read() -> bytes:
            with open(open_file(file.location.root, file.path), "rb") as opened:
                return opened.read(nbytes)

        return _translated(read, action, where)

    def delete(self, file: FileRef, action: str, where: str) -> None:
        """Delete a file; one that is already gone is fine."""
        try:
            remove_file(file.location.root, file.path)
        except OSError as error:
            raise translate(error, action, where) from error

    def discard(self, file: FileRef, seconds: float) -> None:
        """Delete a file that may be there."""
        try:
            remove_file(file.location.root, file.path)
        except OSError:
            pass


def open_small_files(
    clients: ClientPool, location: SpillLocation, stall_timeout: float
) -> SmallFiles:
    """Return the access to small files of a URI."""
    return LocalSmallFiles() if location.local else RemoteSmallFiles(clients, stall_timeout)


def check_location(
    clients: ClientPool, location: SpillLocation, stall_timeout: float, probe: str | None = None
) -> None:
    """Prove that a URI can be written, read and deleted.

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
    Three requests, on a file of one byte that is gone afterwards; four if obstore must read it too.
    """
    files = open_small_files(clients, location, min(stall_timeout, CHECK_SECONDS))
    file = location.check_file if probe is None else location.probe_file(probe)
    context = ("cannot spill to", location.uri)
    try:
        files.put(file, _DATA, *context)
        found = files.read(file, len(_DATA), *context)
        if not location.local:
            path = clients.client(location).path(file)
            clients.check_engine(location, path, min(stall_timeout, CHECK_SECONDS))
    except Exception:
        # It may be there: an attempt whose answer was lost has written it.
        files.discard(file, CHECK_REMOVAL_SECONDS)
        raise
    files.delete(file, *context)
    if found != _DATA:
        raise CorruptObjectError(
            f"cannot spill to {location.uri}: wrote {_DATA!r} to {file.url}, read {found!r}. "
            "Expected to read what was written: check the storage, and any proxy before it."
        )


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
            files.put(file, format_heartbeat(time.time()), "cannot write", file.url)
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


def _translated(call: Callable[[], T], action: str, where: str) -> T:
    try:
        return call()
    except OSError as error:
        raise translate(error, action, where) from error
