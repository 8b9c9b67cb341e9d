"""Files that are written under a URI to check it, and removed."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import TypeVar

from fsspill.errors import FsspillError
from fsspill.external_storage import ExternalStorage
from fsspill.object_store import InMemoryObjectStore
from fsspill.settings import Settings
from fsspill.storage.client import StorageClient
from fsspill.storage.client_pool import ClientPool
from fsspill.storage.layout import FileRef
from fsspill.storage.mount import Mount
from fsspill.storage.retry import Retrier
from fsspill.storage.small_files import CHECK_REMOVAL_SECONDS, CHECK_SECONDS, open_small_files

__all__ = ["Trial"]

T = TypeVar("T")

_OPENING_SECONDS = 30.0
"""Seconds for making the filesystem, which may look for credentials, or connect."""

_REMOVAL_SECONDS = 5.0
"""Seconds to delete the files whose names are known, before all others."""


class Trial(AbstractContextManager["Trial"]):
    """One URI under check, with a session of its own for all files. A context manager.

    Parameters
    ----------
    settings : Settings
        All parameters.
    uri : str
        The one of its URIs that is checked.

    Attributes
    ----------
    settings : Settings
        The parameters for that URI, without a local copy.
    location : SpillLocation
        The URI, in a session of its own.
    is_written : bool
        True once a file may be there.

    Notes
    -----
    At the end of the block all files are removed, also after an exception such as
    KeyboardInterrupt. After ``kill -9`` ``fsspill ls`` shows them as a session
    ``fsspill-check-...``.
    """

    def __init__(self, settings: Settings, uri: str) -> None:
        self.seconds = min(settings.stall_timeout, CHECK_SECONDS)
        self.settings = replace(
            settings, uri=uri, stall_timeout=self.seconds, cache_dir=None, cache_max_bytes=None
        )
        self.session = f"fsspill-check-{uuid.uuid4().hex[:8]}"
        self.node_id = uuid.uuid4().hex
        self._storage = self.open_storage(InMemoryObjectStore())
        self.location = self._storage.files.locations[0]
        self.clients = ClientPool(settings.storage_options or {}, settings.engine)
        self.small_files = open_small_files(self.clients, self.location, self.seconds)
        self.is_written = False
        self._files: dict[str, FileRef] = {}

    def __exit__(self, *exception: object) -> None:
        self.remove_files()

    @property
    def client(self) -> StorageClient:
        """The client of the URI."""
        return self.clients.client(self.location)

    @property
    def uri(self) -> str:
        """The URI with the prefix."""
        return self.location.uri

    def open(self) -> StorageClient:
        """Make the filesystem, within a time."""
        # FTP and SFTP connect here, and have no limit of their own.
        mount = Mount(self.uri, _OPENING_SECONDS)
        return mount.call(self.clients.client, self.location)

    def open_storage(self, store: InMemoryObjectStore, **parameters: object) -> ExternalStorage:
        """Return a storage in the same session, with other parameters."""
        return ExternalStorage(
            Settings.of(self.settings, **parameters),
            session_name=self.session,
            node_id=self.node_id,
            object_store=store,
        )

    def file(self, name: str) -> FileRef:
        """Return a file of the session, which is there or may be written now."""
        return self._files.setdefault(name, self.location.probe_file(name))

    def put(self, name: str, data: bytes) -> FileRef:
        """Write a file of the session."""
        self.is_written = True
        action = "cannot write", self.uri
        self._files[name] = self.small_files.put(self.file(name), data, *action)
        return self._files[name]

    def discard(self, name: str) -> None:
        """Delete the first file, whose writing has failed: its answer may have been lost."""
        self.small_files.discard(self.file(name), CHECK_REMOVAL_SECONDS)
        self.forget(name)
        self.is_written = False

    def forget(self, name: str) -> None:
        """Leave a file to itself, which has been deleted."""
        self._files.pop(name, None)

    def ask(self, request: Callable[[StorageClient], Awaitable[T]], action: str) -> T:
        """Make a request, with retries within the time of a check.

        Parameters
        ----------
        request : callable
            Makes it.
        action : str
            For the message, as in `fsspill.errors.translate`.

        Raises
        ------
        FsspillError
            It failed.
        """

        def call(client: StorageClient) -> T:
            attempt = partial(Retrier(self.seconds).attempt, lambda: request(client), action)
            result: T = client.run(attempt, client.place(self.uri))
            return result

        return self.clients.retry_if_refused(self.location, call, action, self.uri)

    def remove_files(self) -> None:
        """Remove all files of the session. Never raises: what is left is logged."""
        if self.is_written:
            client = self.client
            # By their names: these credentials may not list.
            paths = [client.deletion_path(file) for file in self._files.values()]
            client.run(client.delete_with_retry, paths, len(paths) or 1, _REMOVAL_SECONDS)
            self._storage.destroy_external_storage()
            self.is_written = False

    def count_left(self) -> int:
        """Return the number of files of the session; 0 where the storage does not list them."""
        try:
            return len(self._storage.list_spilled_files())
        except FsspillError:
            return 0
