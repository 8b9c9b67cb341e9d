"""One fused file on its way up: in one request, or part after part."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from fsspec.spec import AbstractBufferedFile

from fsspill.errors import StorageNotFoundError
from fsspill.format.encoding import Buffers
from fsspill.storage.connection import Endpoint
from fsspill.storage.retry import Retrier
from fsspill.transfer.base import MIB, SpillFile
from fsspill.transfer.limiter import InFlightLimiter, gather_or_cancel
from fsspill.transfer.upload_body import UploadBody

__all__ = [
    "MAX_PARTS",
    "PART_SIZE",
    "SEND_BUFFER_SIZE",
    "SINGLE_PUT_SIZE",
    "SINGLE_REQUEST_SIZE",
    "Upload",
    "put",
]

logger = logging.getLogger(__name__)
T = TypeVar("T")

SINGLE_REQUEST_SIZE = 32 * MIB
"""Bytes up to which a file goes up in one request where parts would follow one another."""

SINGLE_PUT_SIZE = 16 * MIB
"""Bytes up to which a file goes up in one request on S3, where parts go side by side. Above, they
win in spite of the two requests that they add (measured at 30 ms and 80 MB/s a connection: ten
files of 20 MiB at 595 MiB/s in one request each, at 800 in parts)."""

PART_SIZE = 8 * MIB
MAX_PARTS = 10_000  # S3's limit

ABORT_TIMEOUT = 2
"""Seconds that giving up a multipart upload may take; clean-up finds it if that is too short."""

SEND_BUFFER_SIZE = MIB // 2
"""Bytes that the HTTP client holds of a body that it reads while it sends."""


class Upload:
    """One file on its way up.

    Parameters
    ----------
    endpoint : Endpoint
        The filesystem.
    path : str
        Where the file shall lie.
    file : SpillFile
        The file.
    in_flight : InFlightLimiter
        The bound that it shares with the other files of the call.
    retrier : Retrier
        The patience that it shares with the other files for the same location.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        path: str,
        file: SpillFile,
        in_flight: InFlightLimiter,
        retrier: Retrier,
    ) -> None:
        self._endpoint = endpoint
        self._path = path
        self._file = file
        self._in_flight = in_flight
        self._retrier = retrier
        self._farthest = 0

    async def run(self) -> None:
        """Store the file.

        When this raises, the file may be there in part or in full: the caller removes it. A
        multipart upload that failed has been aborted, if the storage let.

        Notes
        -----
        S3: one request up to `SINGLE_PUT_SIZE`, above that a multipart upload with its parts side
        by side; bodies are sent from the objects' own memory. Other filesystems: one request up
        to `SINGLE_REQUEST_SIZE`, above that what their own ``open`` does, one block at a time;
        each byte is copied once.
        """
        if not self._endpoint.traits.s3_api:
            await self._run_copied()
        elif self._file.nbytes > SINGLE_PUT_SIZE:
            await self._run_multipart()
        else:
            async with self._in_flight.reserve(min(self._file.nbytes, SEND_BUFFER_SIZE)):
                await self._put(self._file.buffers())

    async def _attempt(self, request: Callable[[], Awaitable[T]]) -> T:
        return await self._retrier.attempt(request, "cannot write", self._file.url)

    async def _put(self, buffers: Iterable[bytes | memoryview]) -> None:
        """Store the file in one request, from where its bytes lie."""
        with UploadBody(buffers, self._retrier.progress) as body:
            await self._attempt(lambda: put(self._endpoint, self._path, body))

    async def _run_copied(self) -> None:
        if self._file.nbytes <= min(SINGLE_REQUEST_SIZE, self._in_flight.max_bytes):
            async with self._in_flight.reserve(self._file.nbytes):
                # The one copy on the way up: these filesystems take the body as contiguous bytes.
                body = b"".join(self._file.buffers())
                await self._attempt(lambda: put(self._endpoint, self._path, body))
        else:
            await self._run_stream()

    async def _run_stream(self) -> None:
        async with self._in_flight.reserve(2 * PART_SIZE):
            await self._attempt(self._stream)

    async def _stream(self) -> None:
        write = partial(_upload_stream, self._endpoint, self._path, self._parts(), self._written)
        await _in_directory(self._endpoint, self._path, partial(asyncio.to_thread, write))

    def _parts(self) -> Iterable[Buffers]:
        """Return the file as consecutive parts, for one attempt to write one after another."""
        return self._file.parts(PART_SIZE)

    def _written(self, nbytes: int) -> None:
        if nbytes > self._farthest:
            self._farthest = nbytes
            self._retrier.progress()

    async def _run_multipart(self) -> None:
        """Upload through S3's multipart API, which s3fs itself only offers for one `bytes`."""
        bucket, key, _ = self._endpoint.fs.split_path(self._path)
        where = {"Bucket": bucket, "Key": key}
        created = await self._call("create_multipart_upload", where)
        where["UploadId"] = created["UploadId"]
        try:
            parts = [part for part in await gather_or_cancel(self._sends(where)) if part]
            await self._complete({**where, "MultipartUpload": {"Parts": parts}})
        except BaseException:
            await _abort(self._endpoint.fs, where)
            raise

    def _sends(self, where: Mapping[str, Any]) -> Sequence[Awaitable[Mapping[str, Any] | None]]:
        """Return what sends the parts, in their order; a result of None stands for no part."""
        parts = self._file.parts(_part_size(self._file.nbytes))
        return [self._send(where, number, part) for number, part in enumerate(parts, 1)]

    async def _send(
        self, where: Mapping[str, Any], number: int, part: Buffers
    ) -> Mapping[str, Any]:
        async with self._in_flight.reserve(min(sum(map(len, part)), SEND_BUFFER_SIZE)):
            return await self._send_part(where, number, part)

    async def _send_part(
        self, where: Mapping[str, Any], number: int, part: Buffers
    ) -> Mapping[str, Any]:
        with UploadBody(part, self._retrier.progress) as body:
            sent = await self._call("upload_part", {**where, "PartNumber": number, "Body": body})
        return {"PartNumber": number, "ETag": sent["ETag"]}

    async def _complete(self, upload: Mapping[str, Any]) -> None:
        try:
            await self._call("complete_multipart_upload", upload)
        except StorageNotFoundError:
            # An attempt whose answer was lost has completed it: then there is no such upload.
            found = await self._attempt(lambda: self._endpoint.fs._info(self._path))
            if found["size"] != self._length():
                raise

    def _length(self) -> int:
        """Return how many bytes were sent."""
        return self._file.nbytes

    async def _call(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        return await self._attempt(lambda: self._endpoint.fs._call_s3(operation, **arguments))


async def put(endpoint: Endpoint, path: str, body: bytes | UploadBody) -> None:
    """Store `body` at `path` in one request, making its directory where there are any."""
    await _in_directory(endpoint, path, lambda: endpoint.fs._pipe_file(path, body))


async def _in_directory(endpoint: Endpoint, path: str, write: Callable[[], Awaitable[Any]]) -> None:
    try:
        await write()
    except FileNotFoundError:
        if not endpoint.traits.has_directories:
            raise
        # The first file of this node on a filesystem that has directories.
        await endpoint.fs._makedirs(path.rpartition("/")[0], exist_ok=True)
        await write()


async def _abort(fs: Any, upload: Mapping[str, str]) -> None:
    """Give up a multipart upload; that this fails too must not hide why."""
    try:
        abort = fs._call_s3("abort_multipart_upload", **upload)
        await asyncio.wait_for(abort, ABORT_TIMEOUT)
    except Exception as error:
        logger.warning("could not abort the upload %s: %s", upload, error)


def _part_size(nbytes: int) -> int:
    """Return the size of nearly equal parts: the header of a frame must not make one of its own."""
    count = min(-(-nbytes // (PART_SIZE + PART_SIZE // 16)), MAX_PARTS)
    return -(-nbytes // count)


def _upload_stream(
    endpoint: Endpoint, path: str, parts: Iterable[Buffers], written: Callable[[int], None]
) -> None:
    with endpoint.exclusive():
        _stream_into(endpoint.sync_fs.open(path, "wb", block_size=PART_SIZE), parts, written)


def _stream_into(target: Any, parts: Iterable[Buffers], written: Callable[[int], None]) -> None:
    nbytes = 0
    try:
        for part in parts:
            target.write(b"".join(part))
            nbytes += sum(map(len, part))
            written(nbytes)
        target.close()
    except BaseException:
        _discard(target)
        raise


def _discard(target: Any) -> None:
    """Give up a file that is being written: closing it would commit what it has so far."""
    if isinstance(target, AbstractBufferedFile):
        try:
            target.discard()
        except Exception:
            pass  # not every filesystem can; the caller removes the file
        target.closed = True
    else:
        target.close()
