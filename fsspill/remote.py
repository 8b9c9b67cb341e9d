"""Moving bytes to and from any fsspec filesystem, many pieces at once, in bounded memory."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from fsspec.asyn import sync

from fsspill.download import RangeStream
from fsspill.errors import CorruptObjectError, FsspillError, is_missing, translate
from fsspill.filesystem import Endpoint, connect
from fsspill.in_flight import InFlight, Stopped
from fsspill.location import SpillLocation
from fsspill.transfer import FrameStream, Limits, SpillFile, Transfer
from fsspill.upload import put, upload
from fsspill.url import ParsedURL

__all__ = ["RemoteTransfer"]

T = TypeVar("T")

CHECK_TIMEOUT = 60
"""Seconds that a check may take for one URI: above the retries of s3fs (43 to 49 s when the
server answers 503 for ever), so that its own error is the one reported."""

DESTROY_TIMEOUT = 30
"""Seconds that `destroy` may take for one URI, since Ray waits for it at every shutdown."""

_DESTROY_PASSES = 10


class RemoteTransfer(Transfer):
    """Files on filesystems that fsspec reaches.

    Parameters
    ----------
    locations : sequence of SpillLocation
        The configured URIs.
    storage_options : mapping
        The user's options for the filesystem.
    limits : Limits
        Sizes of pieces and bounds of what is in flight.

    Notes
    -----
    *Requests.* A file is one request, one above 16 MiB (on S3, 32 MiB elsewhere) several; a
    frame is one per range; a removal is one bulk request per URI where the filesystem has them.
    Never a listing or a HEAD to write, read or delete (but one HEAD to explain a read that
    failed).

    *Memory.* At most ``limits.max_bytes_in_flight`` of copies. Writing to S3 copies nothing;
    other filesystems want the body of a request as one `bytes`, which copies each byte once.
    Reading copies it once, from the `bytes` that the filesystem returns into the object store.

    *Threads.* Requests run on the event loop thread that fsspec shares within the process;
    filesystems without an asynchronous interface get one operation at a time.

    The filesystem of a URI is made when first used, so constructing this makes no request.
    """

    def __init__(
        self,
        locations: Sequence[SpillLocation],
        storage_options: Mapping[str, Any],
        limits: Limits,
    ) -> None:
        self._locations = locations
        self._storage_options = storage_options
        self._limits = limits
        self._endpoints: dict[str, Endpoint] = {}

    def check(self) -> None:
        """Write, read and delete a file of 1 byte under every URI: three requests each."""
        for location in self._locations:
            endpoint = self._endpoint(location)
            path = f"{endpoint.root}/fsspill-check-{uuid.uuid4().hex}"
            try:
                _run(endpoint, asyncio.wait_for(_check(endpoint, path), CHECK_TIMEOUT))
            except (Exception, asyncio.TimeoutError) as error:
                raise translate(error, "cannot spill to", location.uri) from error

    def write_files(self, files: Sequence[SpillFile]) -> tuple[int, Exception | None]:
        """Upload files side by side, as many as the limits let."""
        endpoints = [self._endpoint(self._location(file.url)) for file in files]
        outcomes = _run(endpoints[0], self._write_all(files, endpoints))
        stored = next((i for i, outcome in enumerate(outcomes) if outcome), len(files))
        if stored == len(files):
            return stored, None
        self.remove([file.url for file in files[stored:]])
        return stored, next(e for e in outcomes if e and not isinstance(e, Stopped))

    async def _write_all(
        self, files: Sequence[SpillFile], endpoints: Sequence[Endpoint]
    ) -> list[Exception | None]:
        in_flight = InFlight(self._limits, all(e.concurrent for e in endpoints))
        writes = [
            self._write(file, endpoint, in_flight)
            for file, endpoint in zip(files, endpoints, strict=True)
        ]
        return await asyncio.gather(*writes)

    async def _write(
        self, file: SpillFile, endpoint: Endpoint, in_flight: InFlight
    ) -> Exception | None:
        """Upload one file, or none once another has failed; return why it is not stored."""
        path = endpoint.root + self._location(file.url).relative(file.url)
        try:
            await upload(endpoint, path, file, in_flight)
        except Exception as error:
            in_flight.stop()
            failure = translate(error, "cannot write", file.url)
            failure.__cause__ = None if failure is error else error
            return failure
        return None

    def open_frame(self, location: ParsedURL) -> FrameStream:
        """Ask for all ranges of the frame that the limits let be held."""
        spill_location = self._location(location.base_url)
        endpoint = self._endpoint(spill_location)
        path = endpoint.root + spill_location.relative(location.base_url)
        return RangeStream(endpoint, path, location, self._limits)

    def remove(self, urls: Sequence[str]) -> dict[str, Exception]:
        """Delete all files under one URI with one ``rm``."""
        failures: dict[str, Exception] = {}
        for location in self._locations:
            mine = [url for url in urls if location.contains(url)]
            if mine:
                failures.update(self._remove_under(location, mine))
        return failures

    def _remove_under(self, location: SpillLocation, urls: Sequence[str]) -> dict[str, Exception]:
        try:
            endpoint = self._endpoint(location)
        except FsspillError as error:
            return dict.fromkeys(urls, error)
        paths = {endpoint.root + location.relative(url): url for url in urls}
        failures = _run(endpoint, _remove(endpoint, list(paths), self._limits))
        return {paths[path]: error for path, error in failures.items()}

    def list_files(self) -> list[str]:
        """List this node's directory under every URI."""
        urls = []
        for location in self._locations:
            endpoint = self._endpoint(location)
            node = endpoint.root + location.relative(location.node_directory)
            try:
                paths = _run(endpoint, _list(endpoint, node))
            except Exception as error:
                raise translate(error, "cannot list", location.node_directory) from error
            urls += [location.root + path[len(endpoint.root) :] for path in paths]
        return urls

    def destroy(self) -> None:
        """Delete what lies in this node's directories, until a listing shows nothing."""
        for location in self._locations:
            endpoint = self._endpoint(location)
            node = endpoint.root + location.relative(location.node_directory)
            try:
                _run(endpoint, asyncio.wait_for(self._destroy(endpoint, node), DESTROY_TIMEOUT))
            except (Exception, asyncio.TimeoutError) as error:
                raise translate(error, "cannot remove", location.node_directory) from error

    async def _destroy(self, endpoint: Endpoint, node: str) -> None:
        for _ in range(_DESTROY_PASSES):
            paths = await _list(endpoint, node)
            if not paths:
                break
            # Other processes may still be writing: look again before it is believed.
            await _remove(endpoint, paths, self._limits)
        if endpoint.tuning.has_directories:
            await _remove_empty_directories(endpoint, [node, node.rpartition("/")[0]])

    def _location(self, base_url: str) -> SpillLocation:
        return next(location for location in self._locations if location.contains(base_url))

    def _endpoint(self, location: SpillLocation) -> Endpoint:
        if location.uri not in self._endpoints:
            self._endpoints[location.uri] = connect(location.uri, self._storage_options)
        return self._endpoints[location.uri]


def _run(endpoint: Endpoint, coroutine: Coroutine[Any, Any, T]) -> T:
    async def run() -> T:
        return await coroutine

    result: T = sync(endpoint.fs.loop, run)
    return result


async def _check(endpoint: Endpoint, path: str) -> None:
    await put(endpoint, path, b"x")
    try:
        found = await endpoint.fs._cat_file(path, start=0, end=1)
    finally:
        # Not the bulk request: s3fs hides its failures, and here they must show.
        await endpoint.fs._rm_file(path)
    if found != b"x":
        raise CorruptObjectError(f"wrote b'x' to {path}, read back {found!r}")


async def _list(endpoint: Endpoint, directory: str) -> list[str]:
    endpoint.fs.invalidate_cache()
    try:
        return list(await endpoint.fs._find(directory))
    except FileNotFoundError:
        return []


async def _remove(endpoint: Endpoint, paths: list[str], limits: Limits) -> dict[str, FsspillError]:
    """Delete with one call; if that fails, one by one, to find out which ones are to blame."""
    try:
        await endpoint.fs._rm(paths)
        return {}
    except Exception:
        in_flight = InFlight(limits, endpoint.concurrent)
        outcomes = await asyncio.gather(*(_remove_one(endpoint, p, in_flight) for p in paths))
    return {path: error for path, error in zip(paths, outcomes, strict=True) if error}


async def _remove_one(endpoint: Endpoint, path: str, in_flight: InFlight) -> FsspillError | None:
    async with in_flight.slot(0):
        try:
            await endpoint.fs._rm_file(path)
        except Exception as error:
            return None if is_missing(error) else translate(error, "cannot delete", path)
    return None


async def _remove_empty_directories(endpoint: Endpoint, directories: Sequence[str]) -> None:
    for directory in directories:
        try:
            await endpoint.fs._rmdir(directory)
        except Exception:
            return  # not empty: other nodes of the session are still using it
