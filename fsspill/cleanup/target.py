"""The URI that is listed and cleaned."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, TypeVar

from fsspill.errors import FsspillError, StoragePermissionError, is_throttled
from fsspill.storage.client import StorageClient
from fsspill.storage.client_pool import ClientPool
from fsspill.storage.retry import backoff
from fsspill.storage.uri import check_uri, is_local

__all__ = ["RETRIES", "Target"]

T = TypeVar("T")

RETRIES = 4
"""Further attempts of a call that was throttled, in up to 1.5 s: single requests are refused then.
An outage is told to whoever waits for the command."""


class Target:
    """A URI that is listed and cleaned, with credentials that are renewed where they are refused.

    Parameters
    ----------
    uri, storage_options
        As for `fsspill.scan`.
    """

    def __init__(self, uri: str, storage_options: Mapping[str, Any] | None) -> None:
        self.uri = check_uri(uri)
        self.local = is_local(self.uri)
        self._clients = ClientPool(storage_options or {})

    @property
    def client(self) -> StorageClient:
        """The client with the newest credentials."""
        return self._clients.client(self)

    def call(self, call: Callable[[StorageClient], T], action: str) -> T:
        """Make a call, and again up to 4 times if the storage throttled it.

        As `fsspill.storage.client_pool.ClientPool.retry_if_refused` else.
        """
        for pause in islice(backoff(), RETRIES):
            try:
                return self._clients.retry_if_refused(self, call, action, self.uri)
            except FsspillError as error:
                if not is_throttled(error):
                    raise
            time.sleep(pause)
        return self._clients.retry_if_refused(self, call, action, self.uri)

    def remove(
        self, remove: Callable[[StorageClient], dict[str, FsspillError]]
    ) -> dict[str, FsspillError]:
        """Make a call that removes files and returns its failures.

        Again if it was refused, and up to 4 times if the storage throttled it.
        """
        failures = remove(self.client)
        for pause in islice(backoff(), RETRIES):
            if not any(map(is_throttled, failures.values())):
                break
            time.sleep(pause)
            failures = remove(self.client)
        refused = any(isinstance(error, StoragePermissionError) for error in failures.values())
        return remove(self.client) if refused and self._clients.renew(self) else failures
