"""The clients of the configured URIs: opened on first use, renewed when credentials are refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Protocol, TypeVar

from fsspill.errors import FsspillError, StoragePermissionError, original_cause, translate
from fsspill.metrics import Metrics
from fsspill.storage.client import StorageClient
from fsspill.storage.connection import connect
from fsspill.storage.instances import forget
from fsspill.storage.local_client import LocalClient
from fsspill.storage.meter import Meter
from fsspill.storage.range_reader import ObstoreReader, RangeReader, make_reader
from fsspill.storage.retry import Retrier
from fsspill.storage.s3 import S3Client

__all__ = ["ClientPool", "Location", "open_client"]

T = TypeVar("T")

RENEW_INTERVAL = 60
"""Seconds between two renewals of a URI's client because its credentials were refused."""


class Location(Protocol):
    """A URI, such as that of a `fsspill.storage.layout.SpillLocation`."""

    @property
    def uri(self) -> str:
        """The checked URI."""

    @property
    def local(self) -> bool:
        """True if it is a directory in this machine's own tree of files."""


class ClientPool:
    """Clients by configured URI.

    Parameters
    ----------
    storage_options : mapping
        The user's options for the filesystem.
    engine : str
        Library that issues ranged reads; see `fsspill.storage.range_reader`.
    metrics : Metrics, optional
        Counts the requests of all clients.

    Notes
    -----
    Constructing it makes no request. Credentials that were replaced while the process runs are
    found again: a refusal makes `renew` look for them, at most once a minute for each URI.
    """

    def __init__(
        self,
        storage_options: Mapping[str, Any],
        engine: str = "auto",
        metrics: Metrics | None = None,
    ) -> None:
        self._storage_options = storage_options
        self._engine = engine
        self._metrics = metrics
        self._clients: dict[str, StorageClient] = {}
        self._readers: dict[str, RangeReader] = {}
        self._renewed: dict[str, float] = {}

    def client(self, location: Location) -> StorageClient:
        """Return the client of a URI."""
        if location.uri not in self._clients:
            self._clients[location.uri] = self._open(location.uri)
        return self._clients[location.uri]

    def _open(self, uri: str, *, renew: bool = False) -> StorageClient:
        meter = Meter(self._metrics, uri)
        return open_client(uri, self._storage_options, meter, renew=renew)

    def reader(self, location: Location) -> RangeReader:
        """Return the reader of ranges of a URI's files."""
        if location.uri not in self._readers:
            client = self.client(location)
            reader = make_reader(client.connection, self._engine, client.meter)
            self._readers[location.uri] = reader
        return self._readers[location.uri]

    def check_engine(self, location: Location, path: str, stall_timeout: float) -> None:
        """Raise FsspillError if an engine that was asked for by name cannot read a file.

        One request if it is obstore: the filesystem was checked by itself. Otherwise none, or one
        where certificates are named, which obstore may not accept: a line of the log says so.
        """
        reader = self.reader(location)
        if not isinstance(reader, ObstoreReader):
            return
        client = self.client(location)
        if self._engine == "obstore":
            retrier = Retrier(stall_timeout)
            context = ("cannot read through obstore (engine='obstore') from", location.uri)
            client.run(retrier.attempt, lambda: reader.check(path), *context)
        else:
            client.run(reader.open, path)

    def renew(self, location: Location) -> bool:
        """Renew the credentials of a URI, after they were refused.

        Returns
        -------
        bool
            True if that was done, and a retry makes sense: not within `RENEW_INTERVAL` of the last
            time, nor for local directories, which have no credentials.
        """
        last = self._renewed.get(location.uri, -inf)
        if location.local or time.monotonic() - last < RENEW_INTERVAL:
            return False
        self._renewed[location.uri] = time.monotonic()
        try:
            renewed = self._open(location.uri, renew=True)
        except FsspillError:
            return False  # the refusal of the old credentials is the reason to report
        self._clients[location.uri] = renewed
        self._readers.pop(location.uri, None)
        return True

    def forget(self, location: Location) -> None:
        """Open a new client of a URI for its next call, with all that it reads when it is made.

        So does everybody else in this process who asks for the filesystem from now on.
        """
        client = self._clients.pop(location.uri, None)
        self._readers.pop(location.uri, None)
        if client is not None:
            forget(client.connection.sync_fs)

    def retry_if_refused(
        self, location: Location, call: Callable[[StorageClient], T], action: str, where: str
    ) -> T:
        """Make a call with a URI's client, and again if out-of-date credentials were refused.

        Parameters
        ----------
        location : SpillLocation
            The URI.
        call : callable
            The call.
        action, where : str
            For the message, as in `fsspill.errors.translate`.

        Raises
        ------
        FsspillError
            The call's error, translated.
        """
        try:
            return self._call(location, call, action, where)
        except StoragePermissionError:
            if not self.renew(location):
                raise
        return self._call(location, call, action, where)

    def _call(
        self, location: Location, call: Callable[[StorageClient], T], action: str, where: str
    ) -> T:
        try:
            return call(self.client(location))
        except Exception as error:
            failure = translate(error, action, where)
            raise failure from original_cause(failure, error)


def open_client(
    uri: str,
    storage_options: Mapping[str, Any],
    meter: Meter | None = None,
    *,
    renew: bool = False,
) -> StorageClient:
    """Return the client for a checked URI; parameters, errors and requests as of `connect`."""
    connection = connect(uri, storage_options, renew=renew)
    if connection.traits.is_local:
        return LocalClient(connection, meter)
    client = S3Client if connection.traits.client == "s3" else StorageClient
    return client(connection, meter)
