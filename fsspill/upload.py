"""One fused file on its way up: in one request, or part after part."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from fsspec.spec import AbstractBufferedFile

from fsspill.body import UploadBody
from fsspill.filesystem import Endpoint
from fsspill.in_flight import InFlight
from fsspill.transfer import MIB, SpillFile

__all__ = ["SINGLE_PUT_SIZE", "SINGLE_REQUEST_SIZE", "put", "upload"]

logger = logging.getLogger(__name__)
T = TypeVar("T")

SINGLE_REQUEST_SIZE = 32 * MIB
"""Bytes up to which a file goes up in one request where parts would follow one another."""

SINGLE_PUT_SIZE = 16 * MIB
"""Bytes up to which a file goes up in one request on S3, where parts go side by side. Above, they
win in spite of the two requests that they add (measured at 30 ms and 80 MB/s a connection: ten
files of 20 MiB at 595 MiB/s in one request each, at 800 in parts)."""

PART_SIZE = 8 * MIB
_MAX_PARTS = 10_000  # S3's limit

_SENT_AT_ONCE = MIB // 2
"""Bytes that the HTTP client holds of a body that it reads while it sends."""


async def upload(endpoint: Endpoint, path: str, file: SpillFile, in_flight: InFlight) -> None:
    """Store `file` at `path`, and release its objects as soon as they are not needed any more.

    When this raises, the file may be there in part or in full: the caller removes it. A
    multipart upload that failed has been aborted.

    Notes
    -----
    S3: one request up to `SINGLE_PUT_SIZE`, above that a multipart upload with its parts side by
    side; bodies are sent from the objects' own memory. Other filesystems: one request up to
    `SINGLE_REQUEST_SIZE`, above that what their own ``open`` does, one block at a time; each byte
    is copied once.
    """
    try:
        if endpoint.tuning.s3_api and file.nbytes > SINGLE_PUT_SIZE:
            await _upload_multipart(endpoint.fs, path, file, in_flight)
        elif endpoint.tuning.s3_api:
            async with _sending(file.chunks(), file.nbytes, in_flight) as body:
                await put(endpoint, path, body)
        elif file.nbytes <= min(SINGLE_REQUEST_SIZE, in_flight.max_bytes):
            await _upload_copy(endpoint, path, file, in_flight)
        else:
            async with in_flight.slot(2 * PART_SIZE):
                stream = partial(asyncio.to_thread, _upload_stream, endpoint, path, file)
                await _in_directory(endpoint, path, stream)
    finally:
        file.release()


@asynccontextmanager
async def _sending(
    chunks: Iterable[bytes | memoryview], nbytes: int, in_flight: InFlight
) -> AsyncIterator[UploadBody]:
    async with in_flight.slot(min(nbytes, _SENT_AT_ONCE)):
        body = UploadBody(chunks)
        try:
            yield body
        finally:
            body.release()


async def _upload_copy(endpoint: Endpoint, path: str, file: SpillFile, in_flight: InFlight) -> None:
    async with in_flight.slot(file.nbytes):
        # The one copy on the way up: these filesystems take the body as contiguous bytes.
        body = b"".join(file.chunks())
        file.release()
        await put(endpoint, path, body)


async def put(endpoint: Endpoint, path: str, body: bytes | UploadBody) -> None:
    """Store `body` at `path` in one request, making its directory where there are any."""
    await _in_directory(endpoint, path, lambda: endpoint.fs._pipe_file(path, body))


async def _in_directory(endpoint: Endpoint, path: str, write: Callable[[], Awaitable[Any]]) -> None:
    try:
        await write()
    except FileNotFoundError:
        if not endpoint.tuning.has_directories:
            raise
        # The first file of this node on a filesystem that has directories.
        await endpoint.fs._makedirs(path.rpartition("/")[0], exist_ok=True)
        await write()


async def _upload_multipart(fs: Any, path: str, file: SpillFile, in_flight: InFlight) -> None:
    """Upload through S3's multipart API, which s3fs itself only offers for one `bytes`."""
    bucket, key, _ = fs.split_path(path)
    where = {"Bucket": bucket, "Key": key}
    upload_id = (await fs._call_s3("create_multipart_upload", **where))["UploadId"]
    where["UploadId"] = upload_id

    async def send(number: int, part: list[memoryview]) -> dict[str, Any]:
        async with _sending(part, sum(map(len, part)), in_flight) as body:
            answer = await fs._call_s3("upload_part", PartNumber=number, Body=body, **where)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        parts_of_file = file.parts(_part_size(file.nbytes))
        sends = [send(number, part) for number, part in enumerate(parts_of_file, 1)]
        parts = await _all_or_none(sends)
        await fs._call_s3("complete_multipart_upload", MultipartUpload={"Parts": parts}, **where)
    except BaseException:
        await _abort(fs, where)
        raise


async def _abort(fs: Any, upload: Mapping[str, str]) -> None:
    """Give up a multipart upload; that this fails too must not hide why."""
    try:
        await fs._call_s3("abort_multipart_upload", **upload)
    except Exception as error:
        logger.warning("could not abort the upload %s: %s", upload, error)


def _part_size(nbytes: int) -> int:
    """Return the size of nearly equal parts: the header of a frame must not make one of its own."""
    count = min(-(-nbytes // (PART_SIZE + PART_SIZE // 16)), _MAX_PARTS)
    return -(-nbytes // count)


async def _all_or_none(awaitables: Sequence[Awaitable[T]]) -> list[T]:
    """Return all results, or cancel the rest, wait for its end and raise the first error."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _upload_stream(endpoint: Endpoint, path: str, file: SpillFile) -> None:
    target = endpoint.sync_fs.open(path, "wb", block_size=PART_SIZE)
    try:
        for part in file.parts(PART_SIZE):
            target.write(b"".join(part))
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
