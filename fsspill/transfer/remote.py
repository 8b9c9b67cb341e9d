"""Moving bytes to and from any fsspec filesystem, many blocks at once, in bounded memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import inf
from typing import Any, TypeVar

from fsspill.errors import (
    CorruptObjectError,
    FsspillError,
    StoragePermissionError,
    original_cause,
    translate,
)
from fsspill.settings import Settings
from fsspill.storage.connection import Endpoint, connect
from fsspill.storage.layout import SpillLocation, find_location
from fsspill.storage.range_reader import RangeReader, make_reader
from fsspill.storage.retry import Retrier
from fsspill.transfer.base import FrameRef, FrameStream, SpillFile, Transfer
from fsspill.transfer.compressed_upload import CompressedUpload
from fsspill.transfer.deletion import delete_with_retry, remove_file
from fsspill.transfer.destroy import destroy, list_files
from fsspill.transfer.download import RemoteFrameStream
from fsspill.transfer.limiter import InFlightLimiter, gather_or_cancel, run_in_thread
from fsspill.transfer.upload import Upload, put

__all__ = ["RemoteTransfer"]

T = TypeVar("T")

CHECK_SECONDS = 10.0
"""Seconds that a check waits for a URI that does not answer, since Ray's start waits for it."""

CHECK_REMOVAL_SECONDS = 2.0
"""Seconds for removing what a check that failed may have written."""

DESTROY_TIMEOUT = 30
"""Seconds that `destroy` may take, since Ray waits for it at every shutdown."""

RENEW_INTERVAL = 60
"""Seconds between two filesystems that are made anew because their credentials were refused."""


class RemoteTransfer(Transfer):
    """Files on filesystems that fsspec reaches.

    Parameters
    ----------
    locations : sequence of SpillLocation
        The configured URIs.
    storage_options : mapping
        The user's options for the filesystem.
    limits : Settings
        Sizes of blocks and bounds of what is in flight.
    engine : str
        Who reads ranges; see `fsspill.storage.range_reader`.

    Notes
    -----
    *Requests.* A file is one request, one above 16 MiB (on S3, 32 MiB elsewhere) several; a
    frame is one per range; a removal is one bulk request per bucket where the filesystem has them.
    Never a listing or a HEAD to write, read or delete (but one HEAD to explain a read that
    failed). What fails for a reason that may pass is asked again; see `fsspill.storage.retry`.

    *Memory.* At most ``limits.max_bytes_in_flight`` of copies. Writing to S3 copies nothing but
    what is compressed; other filesystems want the body of a request as one `bytes`, which copies
    each byte once. Reading copies it once, from the `bytes` that the filesystem returns into the
    object store.

    *Threads.* Requests run on the event loop thread that fsspec shares within the process;
    filesystems without an asynchronous interface get one operation at a time.

    The filesystem of a URI is made when first used, so constructing this makes no request.
    """

    def __init__(
        self,
        locations: Sequence[SpillLocation],
        storage_options: Mapping[str, Any],
        limits: Settings,
        engine: str = "auto",
    ) -> None:
        self._locations = locations
        self._storage_options = storage_options
        self._limits = limits
        self._engine = engine
        self._endpoints: dict[str, Endpoint] = {}
        self._readers: dict[str, RangeReader] = {}
        self._renewed: dict[str, float] = {}

    def check(self, location: SpillLocation) -> None:
        """Write, read and delete a file of 1 byte: three requests."""
        self._twice_if_refused(location, self._check, "cannot spill to")

    def _check(self, location: SpillLocation) -> None:
        endpoint = self._endpoint(location)
        path = endpoint.root + location.relative(location.check_file)
        endpoint.run(_check, endpoint, path, location.uri, self._limits)

    def _twice_if_refused(
        self, location: SpillLocation, call: Callable[[SpillLocation], T], action: str
    ) -> T:
        """Make a call, and again if credentials that are out of date were refused."""
        try:
            return call(location)
        except Exception as error:
            failure = translate(error, action, location.uri)
            refused = isinstance(failure, StoragePermissionError)
            if not refused or not self._renew(location):
                raise failure from original_cause(failure, error)
        return call(location)

    def write_files(
        self, files: Sequence[SpillFile], retriers: Mapping[SpillLocation, Retrier]
    ) -> list[FsspillError | None]:
        """Upload files side by side, as many as the limits let."""
        places = [self._place(file.url) for file in files]
        return places[0][0].run(self._write_all, files, places, retriers)

    async def _write_all(
        self,
        files: Sequence[SpillFile],
        places: Sequence[tuple[Endpoint, str]],
        retriers: Mapping[SpillLocation, Retrier],
    ) -> list[FsspillError | None]:
        in_flight = InFlightLimiter(
            self._limits, all(endpoint.concurrent for endpoint, _ in places)
        )
        writes = [
            _write(*place, file, in_flight, retriers[file.location])
            for file, place in zip(files, places, strict=True)
        ]
        return await asyncio.gather(*writes)

    def open_frame(self, source: FrameRef) -> FrameStream:
        """Ask for all blocks of the frame that the limits let be held."""
        base_url = source.location.base_url
        endpoint, path = self._place(base_url)
        reader = self._reader(self._location(base_url), endpoint)
        return RemoteFrameStream(endpoint, reader, path, source, self._limits)

    def remove(self, urls: Sequence[str], *, seconds: float) -> dict[str, FsspillError]:
        """Delete all files of a filesystem together."""
        failures = self._remove(urls, seconds)
        refused = [url for url, e in failures.items() if isinstance(e, StoragePermissionError)]
        locations = dict.fromkeys(map(self._location, refused))
        renewed = {location for location in locations if self._renew(location)}
        again = [url for url in refused if self._location(url) in renewed]
        return {url: e for url, e in failures.items() if url not in again} | (
            self._remove(again, seconds) if again else {}
        )

    def _remove(self, urls: Sequence[str], seconds: float) -> dict[str, FsspillError]:
        failures: dict[str, FsspillError] = {}
        endpoints: dict[int, tuple[Endpoint, dict[str, str]]] = {}
        for url in urls:
            try:
                endpoint, path = self._place(url)
            except FsspillError as error:
                failures[url] = error
            else:
                endpoints.setdefault(id(endpoint.fs), (endpoint, {}))[1][path] = url
        for endpoint, paths in endpoints.values():
            failed = endpoint.run(delete_with_retry, endpoint, list(paths), self._limits, seconds)
            failures.update({paths[path]: failure for path, failure in failed.items()})
        return failures

    def list_files(self) -> list[str]:
        """List this node's directory under every URI."""
        found = [
            self._twice_if_refused(location, self._list, "cannot list")
            for location in self._locations
        ]
        return [url for urls in found for url in urls]

    def _list(self, location: SpillLocation) -> list[str]:
        endpoint = self._endpoint(location)
        node = endpoint.root + location.relative(location.node_directory)
        paths = endpoint.run(list_files, endpoint, node)
        return [location.root + path[len(endpoint.root) :] for path in paths]

    def write_heartbeat(self, name: str) -> None:
        """Write a file of a few bytes: one request for each URI."""
        for location in self._locations:
            endpoint = self._endpoint(location)
            path = endpoint.root + location.relative(location.heartbeat_file(name))
            endpoint.run(_write_heartbeat, endpoint, path, self._limits)

    def destroy(self) -> None:
        """Delete what lies in this node's directories, until a listing shows nothing."""
        endpoints = {location: self._endpoint(location) for location in self._locations}
        outcomes = endpoints[self._locations[0]].run(self._destroy_all, endpoints)
        for location, error in zip(endpoints, outcomes, strict=True):
            if error is not None:
                failure = translate(error, "cannot remove", location.node_directory)
                raise failure from original_cause(failure, error)

    async def _destroy_all(
        self, endpoints: Mapping[SpillLocation, Endpoint]
    ) -> list[BaseException | None]:
        destructions = [
            asyncio.wait_for(destroy(endpoint, location, self._limits), DESTROY_TIMEOUT)
            for location, endpoint in endpoints.items()
        ]
        return await asyncio.gather(*destructions, return_exceptions=True)

    def _place(self, base_url: str) -> tuple[Endpoint, str]:
        """Return the filesystem of a file, and its path there."""
        location = self._location(base_url)
        endpoint = self._endpoint(location)
        return endpoint, endpoint.root + location.relative(base_url)

    def _location(self, base_url: str) -> SpillLocation:
        location = find_location(self._locations, base_url)
        assert location is not None  # the caller has refused what lies elsewhere
        return location

    def _endpoint(self, location: SpillLocation) -> Endpoint:
        if location.uri not in self._endpoints:
            self._endpoints[location.uri] = connect(location.uri, self._storage_options)
        return self._endpoints[location.uri]

    def _reader(self, location: SpillLocation, endpoint: Endpoint) -> RangeReader:
        if location.uri not in self._readers:
            self._readers[location.uri] = make_reader(endpoint, location.uri, self._engine)
        return self._readers[location.uri]

    def renew(self, base_url: str) -> bool:
        """Make the filesystem of a file anew, unless that was done in the last minute."""
        return self._renew(self._location(base_url))

    def _renew(self, location: SpillLocation) -> bool:
        last = self._renewed.get(location.uri, -inf)
        if time.monotonic() - last < RENEW_INTERVAL:
            return False
        self._renewed[location.uri] = time.monotonic()
        try:
            renewed = connect(location.uri, self._storage_options, renew=True)
        except FsspillError:
            return False  # what the old ones were refused for is the reason to tell
        self._endpoints[location.uri] = renewed
        self._readers.pop(location.uri, None)
        return True


async def _write(
    endpoint: Endpoint, path: str, file: SpillFile, in_flight: InFlightLimiter, retrier: Retrier
) -> FsspillError | None:
    """Upload one file and compute its digests meanwhile; return why it is not stored."""
    try:
        if file.codec:
            await run_in_thread(file.choose)
        kind = CompressedUpload if file.codec else Upload
        upload = kind(endpoint, path, file, in_flight, retrier)
        await gather_or_cancel([upload.run(), file.hash()])
    except Exception as error:
        retrier.stop()
        failure = translate(error, "cannot write", file.url)
        failure.__cause__ = original_cause(failure, error)
        return failure
    return None


async def _write_heartbeat(endpoint: Endpoint, path: str, limits: Settings) -> None:
    retrier = Retrier(limits.stall_timeout)
    await retrier.attempt(lambda: put(endpoint, path, b"alive"), "cannot write", path)


async def _check(endpoint: Endpoint, path: str, uri: str, limits: Settings) -> None:
    retrier = Retrier(min(limits.stall_timeout, CHECK_SECONDS))

    async def attempt(request: Callable[[], Awaitable[T]]) -> T:
        return await retrier.attempt(request, "cannot spill to", uri)

    try:
        await attempt(lambda: put(endpoint, path, b"x"))
        found = await attempt(lambda: endpoint.fs._cat_file(path, start=0, end=1))
    except Exception:
        # It may be there: an attempt whose answer was lost has written it.
        await delete_with_retry(endpoint, [path], limits, CHECK_REMOVAL_SECONDS)
        raise
    # Not the bulk request: some filesystems hide its failures, and here they must show.
    await attempt(lambda: remove_file(endpoint, path))
    if found != b"x":
        raise CorruptObjectError(f"cannot spill to {uri}: wrote b'x' to {path}, read {found!r}")
