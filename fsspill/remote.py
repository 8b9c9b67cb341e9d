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
    frame is one per range; a removal is one bulk request per bucket where the filesystem has them.
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
            except Exception as error:
                raise translate(error, "cannot spill to", location.uri) from error

    def write_files(self, files: Sequence[SpillFile]) -> tuple[int, Exception | None]:
        """Upload files side by side, as many as the limits let."""
        places = [self._place(file.url) for file in files]
        outcomes = _run(places[0][0], self._write_all(files, places))
        stored = next((i for i, outcome in enumerate(outcomes) if outcome), len(files))
        if stored == len(files):
            return stored, None
        self.remove([file.url for file in files[stored:]])
        return stored, next(e for e in outcomes if e and not isinstance(e, Stopped))

    async def _write_all(
        self, files: Sequence[SpillFile], places: Sequence[tuple[Endpoint, str]]
    ) -> list[Exception | None]:
        in_flight = InFlight(self._limits, all(endpoint.concurrent for endpoint, _ in places))
        writes = [
            _write(file, endpoint, path, in_flight)
            for file, (endpoint, path) in zip(files, places, strict=True)
        ]
        return await asyncio.gather(*writes)

    def open_frame(self, location: ParsedURL) -> FrameStream:
        """Ask for all ranges of the frame that the limits let be held."""
        endpoint, path = self._place(location.base_url)
        return RangeStream(endpoint, path, location, self._limits)

    def remove(self, urls: Sequence[str]) -> dict[str, Exception]:
        """Delete all files of a bucket with one ``rm``."""
        failures: dict[str, Exception] = {}
        buckets: dict[tuple[int, str], dict[str, str]] = {}
        endpoints: dict[tuple[int, str], Endpoint] = {}
        for url in urls:
            try:
                endpoint, path = self._place(url)
            except FsspillError as error:
                failures[url] = error
                continue
            bucket = (id(endpoint.fs), path.lstrip("/").partition("/")[0])
            endpoints[bucket] = endpoint
            buckets.setdefault(bucket, {})[path] = url
        for bucket, paths in buckets.items():
            endpoint = endpoints[bucket]
            failed = _run(endpoint, _remove(endpoint, list(paths), self._limits))
            failures.update({paths[path]: error for path, error in failed.items()})
        return failures

    def list_files(self) -> list[str]:
        """List this node's directory under every URI."""
        urls = []
        for location in self._locations:
            endpoint, node = self._node(location)
            try:
                paths = _run(endpoint, _list(endpoint, node))
            except Exception as error:
                raise translate(error, "cannot list", location.node_directory) from error
            urls += [location.root + path[len(endpoint.root) :] for path in paths]
        return urls

    def destroy(self) -> None:
        """Delete what lies in this node's directories, until a listing shows nothing."""
        for location in self._locations:
            endpoint, node = self._node(location)
            try:
                _run(endpoint, asyncio.wait_for(self._destroy(endpoint, node), DESTROY_TIMEOUT))
            except Exception as error:
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

    def _place(self, base_url: str) -> tuple[Endpoint, str]:
        """Return the filesystem of a file, and its path there."""
        location = next(place for place in self._locations if place.contains(base_url))
        endpoint = self._endpoint(location)
        return endpoint, endpoint.root + location.relative(base_url)

    def _node(self, location: SpillLocation) -> tuple[Endpoint, str]:
        """Return the filesystem of this node's directory, and its path there."""
        endpoint = self._endpoint(location)
        return endpoint, endpoint.root + location.relative(location.node_directory)

    def _endpoint(self, location: SpillLocation) -> Endpoint:
        if location.uri not in self._endpoints:
            self._endpoints[location.uri] = connect(location.uri, self._storage_options)
        return self._endpoints[location.uri]


def _run(endpoint: Endpoint, coroutine: Coroutine[Any, Any, T]) -> T:
    async def run() -> T:
        return await coroutine

    result: T = sync(endpoint.fs.loop, run)
    return result


async def _write(
    file: SpillFile, endpoint: Endpoint, path: str, in_flight: InFlight
) -> Exception | None:
    """Upload one file, or none once another has failed; return why it is not stored."""
    try:
        await upload(endpoint, path, file, in_flight)
    except Exception as error:
        in_flight.stop()
        failure = translate(error, "cannot write", file.url)
        failure.__cause__ = None if failure is error else error
        return failure
    return None


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
