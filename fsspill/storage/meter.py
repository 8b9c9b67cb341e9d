"""Counting of requests, where all of them pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from fsspill.errors import (
    StorageNotFoundError,
    is_throttled,
    is_timeout,
    is_transient,
    translate,
)
from fsspill.metrics import Metrics, Series
from fsspill.storage.throttle import Throttle

__all__ = ["Meter", "MeteredFileSystem", "superseded"]

_WITHOUT_RETRIER = frozenset({"delete", "delete_many"})
"""Operations that wait for their turn here; `fsspill.storage.retry` does so for others."""

superseded: ContextVar[Callable[[], bool]] = ContextVar("superseded", default=lambda: False)
"""Returns True for the requests of a task that is cancelled because another request for the same
bytes has succeeded: none of them has failed."""


class Meter:
    """Metrics of one URI, and the limit of its requests that their outcomes set.

    Parameters
    ----------
    metrics : Metrics, optional
        Counts its events; nobody reads them if not given.
    uri : str
        The URI.
    throttle : Throttle, optional
        Limit of the node's requests; of this process alone if not given. An attribute too.
    """

    def __init__(
        self,
        metrics: Metrics | None = None,
        uri: str = "",
        throttle: Throttle | None = None,
    ) -> None:
        self.throttle = throttle or Throttle(uri)
        self._metrics = metrics or Metrics()
        self._uri = uri
        self._requests = Series("fsspill_requests_in_flight", (uri,))
        self._bytes = Series("fsspill_bytes_in_flight", (uri,))

    @contextmanager
    def request(self, operation: str, nbytes: int = 0) -> Iterator[None]:
        """Count a request that is made in the block, and the `nbytes` that it moves while it is."""
        self._metrics.change((self._requests, 1), (self._bytes, nbytes))
        outcome, sent = "success", self.throttle.clock()
        try:
            yield
        except BaseException as error:
            outcome = _outcome(error)
            raise
        finally:
            self.throttle.note(outcome, sent)
            ended = Series("fsspill_requests", (self._uri, operation, outcome))
            self._metrics.change((self._requests, -1), (self._bytes, -nbytes), (ended, 1))

    def count_retry(self) -> None:
        """Count a request that is made again after a failure."""
        self._metrics.add("fsspill_retries", uri=self._uri)

    def count_hedge(self, operation: str, winner: str) -> None:
        """Count a request that was made twice, by which of the two was faster."""
        self._metrics.add("fsspill_hedges", uri=self._uri, operation=operation, winner=winner)

    def count_mismatch(self, tier: str = "bucket") -> None:
        """Count a block that did not match its digest."""
        self._metrics.add("fsspill_digest_mismatches", uri=self._uri, tier=tier)


def _outcome(error: BaseException) -> str:
    """Return the outcome of a request that raised."""
    if not isinstance(error, Exception):
        return "superseded" if superseded.get()() else "cancelled"
    if is_throttled(error):
        return "throttled"
    if is_timeout(error):
        return "timeout"
    failure = translate(error, "", "")
    if isinstance(failure, StorageNotFoundError):
        return "missing"
    return "failed" if is_transient(failure) else "refused"


class MeteredFileSystem:
    """A filesystem that counts the requests made through it; deletions wait for their turn.

    A call of the filesystem's counts as one request, of s3fs each request of S3 by itself.

    Parameters
    ----------
    fs : fsspec.asyn.AsyncFileSystem
        The filesystem.
    meter : Meter
        Counts them.
    """

    def __init__(self, fs: Any, meter: Meter) -> None:
        self._fs = fs
        self._meter = meter

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._fs, name)
        operation = _OPERATIONS.get(name)
        return partial(self._call, operation, found) if operation else found

    async def _call(self, operation: str, function: Any, *arguments: Any, **options: Any) -> Any:
        nbytes = sum(map(_length, arguments[1:])) if operation == "put" else 0
        await self._take_turn(operation)
        with self._meter.request(operation, nbytes):
            return await function(*arguments, **options)

    async def _call_s3(self, method: str, **options: Any) -> Any:
        operation = _S3_OPERATIONS.get(method, method)
        await self._take_turn(operation)
        with self._meter.request(operation, _length(options.get("Body", b""))):
            return await self._fs._call_s3(method, **options)

    async def _take_turn(self, operation: str) -> None:
        if operation in _WITHOUT_RETRIER and self._meter.throttle.is_limited:
            await self._meter.throttle.turn()


_OPERATIONS: Mapping[str, str] = {
    "_pipe_file": "put",
    "_cat_file": "get",
    "_info": "head",
    "_find": "list",
    "_ls": "list",
    "_rm_file": "delete",
    "_rm_files": "delete",
}
"""The operations that filesystems' methods count as."""

_S3_OPERATIONS: Mapping[str, str] = {
    "put_object": "put",
    "upload_part": "put_part",
    "create_multipart_upload": "create_multipart",
    "complete_multipart_upload": "complete_multipart",
    "abort_multipart_upload": "abort_multipart",
    "get_object": "get",
    "head_object": "head",
    "head_bucket": "head",
    "list_multipart_uploads": "list",
    "list_object_versions": "list",
    "delete_object": "delete",
    "delete_objects": "delete_many",
}
"""The same of S3's methods."""


def _length(body: Any) -> int:
    return len(body) if hasattr(body, "__len__") else 0
