"""Operations on one filesystem, as fsspill needs them: the client that every protocol has."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from threading import Event
from typing import Any, NamedTuple, Protocol, TypeVar

from fsspec.asyn import AsyncFileSystem
from fsspec.spec import AbstractBufferedFile

from fsspill.errors import (
    FsspillError,
    StorageUnavailableError,
    format_seconds,
    is_missing,
    is_transient,
    translate,
)
from fsspill.log import get_logger
from fsspill.storage.congestion_window import CongestionWindow
from fsspill.storage.connection import Connection
from fsspill.storage.deadline import within
from fsspill.storage.hedging import Hedging
from fsspill.storage.layout import FileRef, versioned_path
from fsspill.storage.meter import Meter, MeteredFileSystem
from fsspill.storage.retry import Progress, backoff

__all__ = ["MultipartUpload", "StorageClient"]

logger = get_logger(__name__)

MIB = 2**20
T = TypeVar("T")
Buffers = Sequence[bytes | memoryview]
PartStream = Generator[Buffers, None, None]
MakeParts = Callable[[], PartStream]

STREAM_BLOCK_SIZE = 8 * MIB
"""Bytes of a block that is written to an open file."""

MIN_BLOCK_SIZE = MIB // 4
"""Bytes of a block on a slow link, or a multiple: Google's storage takes no other blocks."""


class Place(NamedTuple):
    """A URL with the server that answers for it, for messages: it may be known only afterwards."""

    url: str
    client: StorageClient

    def __str__(self) -> str:
        server = self.client.server
        return f"{self.url} at {server}" if server else self.url


class MultipartUpload(Protocol):
    """A file that is being uploaded in parts; see `fsspill.storage.s3.S3Upload`."""

    target: Mapping[str, str]
    """The upload, as `StorageClient.abort_uploads` takes it."""

    @property
    def is_repeatable(self) -> bool:
        """True if a part may be sent twice concurrently, and either answer completes the file."""

    async def put_part(self, number: int, body: Any) -> Mapping[str, Any]:
        """Upload one part, numbered from 1, and return its entry for `complete`."""

    async def complete(self, parts: Sequence[Mapping[str, Any]]) -> str:
        """Complete the file from its parts, and return its version; "" if it has none."""

    async def abort(self) -> None:
        """Discard the parts. Never raises."""


class StorageClient:
    """Operations on the filesystem of one URI, by what every fsspec filesystem has.

    Parameters
    ----------
    connection : Connection
        The filesystem.
    meter : Meter, optional
        Counts the requests.

    Attributes
    ----------
    root : str
        Path of the URI on the filesystem.
    run : callable
        Calls a coroutine function on the event loop, from any other thread.
    meter : Meter
        Counts the requests.
    concurrent : bool
        True if several operations may run concurrently.
    has_directories : bool
        True if a directory must exist before a file is written to it.
    single_put_size : int
        Bytes up to which a file is stored in one request.
    copies_bodies : bool
        True if a body must be one `bytes`, for which the objects' memory is copied.
    window : CongestionWindow
        Limit of what is in flight on the way up. The caller keeps to it.
    hedging : Hedging
        Second requests for parts that are late.
    reports_missing_buckets : bool
        True if the listing of a bucket that is not there is an error, and not empty.
    has_multipart : bool
        True if a large file is uploaded in concurrent parts; else it is written block by block to
        the filesystem's own ``open``.

    Notes
    -----
    Coroutines belong to the event loop of the filesystem (`run` calls one from any thread), make
    one request each unless they say otherwise, and raise what the filesystem raises.
    """

    single_put_size = 32 * MIB
    copies_bodies = True
    has_multipart = False
    reports_missing_buckets = False

    def __init__(self, connection: Connection, meter: Meter | None = None) -> None:
        self.connection = connection
        self.meter = meter or Meter()
        self.root = connection.root
        self.run = connection.run
        self.concurrent = connection.concurrent
        self.has_directories = connection.traits.has_directories
        self.window = CongestionWindow(concurrent=connection.concurrent)
        self.hedging = Hedging("put_part", self.window, self.meter)
        self._fs: Any = MeteredFileSystem(connection.fs, self.meter)

    def path(self, file: FileRef) -> str:
        """Return the path of a file on the filesystem."""
        return self.root + file.path

    @property
    def server(self) -> str:
        """The server that answers, where errors do not name it and it is known."""
        return ""

    def place(self, url: str) -> Place:
        """Return a URL of this filesystem as messages show it."""
        return Place(url, self)

    def body(self, buffers: Buffers, progress: Progress) -> AbstractContextManager[Any]:
        """Return the body of a request that sends these buffers, valid within the context.

        `progress` is called when bytes of it have left, where that is known.
        """
        # The one copy of an upload: these filesystems take the body as contiguous bytes.
        return nullcontext(b"".join(buffers))

    def body_memory(self, nbytes: int) -> int:
        """Return the bytes of memory that sending a body of `nbytes` takes besides its buffers."""
        return nbytes

    def deletion_path(self, file: FileRef) -> str:
        """Return the path by which a file is deleted, which may name its version."""
        return versioned_path(self.path(file), file.version)

    @property
    def keeps_deleted(self) -> bool:
        """True if files are known to stay, and to be billed, after their deletion."""
        return False

    @property
    def finds_deleted(self) -> bool:
        """True if `find_all` is known to find more than `find`."""
        return False

    async def put(self, path: str, body: Any) -> str:
        """Store a body as a file, making its directory where there are any; return its version."""
        return await self._in_directory(path, lambda: self.create(path, body)) or ""

    async def create(self, path: str, body: Any) -> str:
        """Store a body as a file in a directory that exists.

        Returns
        -------
        str
            The version by which a deletion must name the file, where a storage keeps versions.
        """
        await self._fs._pipe_file(path, body)
        return ""

    async def rewrite(self, path: str, body: Any) -> None:
        """Store a body in place of the one that this client has stored there before."""
        await self.put(path, body)

    async def create_multipart(self, path: str) -> MultipartUpload:
        """Begin a multipart upload, where `has_multipart` is true."""
        raise NotImplementedError

    @property
    def block_size(self) -> int:
        """Bytes of a block that is written to an open file: less on a slow link."""
        size = self.window.request_size(STREAM_BLOCK_SIZE)
        return min(max(size - size % MIN_BLOCK_SIZE, MIN_BLOCK_SIZE), STREAM_BLOCK_SIZE)

    async def write_stream(
        self, path: str, make_parts: MakeParts, written: Callable[[int], None]
    ) -> None:
        """Write a file block by block, reporting the total of bytes to `written`.

        `make_parts` is called for each time that the file is written from its beginning: again
        where its directory turns out to be missing.

        Runs in a thread, which cannot be cancelled: when this is cancelled, the thread takes no
        further part and does not commit what it has. When this raises, the file is discarded as
        far as the filesystem can.
        """
        cancelled = Event()
        write = partial(self._write_stream, path, make_parts, written, cancelled)
        try:
            with self.meter.request("put"):
                await self._in_directory(path, lambda: asyncio.to_thread(write))
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def _write_stream(
        self,
        path: str,
        make_parts: MakeParts,
        written: Callable[[int], None],
        cancelled: Event,
    ) -> None:
        with self.connection.exclusive():
            block_size = self.block_size
            target = self._open(path, block_size)
            _copy_into(target, make_parts(), written, block_size, cancelled)

    def _open(self, path: str, block_size: int) -> Any:
        opened = partial(self.connection.sync_fs.open, path, "wb")
        try:
            return opened(block_size=block_size)
        except ValueError:
            # Some take no blocks as small as those for a slow link.
            return opened(block_size=STREAM_BLOCK_SIZE)

    async def _in_directory(self, path: str, write: Callable[[], Awaitable[T]]) -> T:
        try:
            return await write()
        except Exception as error:
            absent = isinstance(error, FileNotFoundError) or is_missing(error, path)
            if not self.has_directories or not absent:
                raise
            # The first file of this node on a filesystem that has directories.
            await self._fs._makedirs(path.rpartition("/")[0], exist_ok=True)
            return await write()

    async def read(self, path: str, nbytes: int, start: int = 0) -> bytes:
        """Return so many bytes of a file from `start`, or fewer at its end."""
        data: bytes = await self._fs._cat_file(path, start=start, end=start + nbytes)
        return data

    async def size(self, path: str) -> int:
        """Return the length of a file in bytes. Raises IsADirectoryError if it is none."""
        info = await self._fs._info(path)
        if info.get("type") == "directory":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        size = info.get("size")
        if not isinstance(size, int):
            raise StorageUnavailableError(
                f"cannot tell the size of {path}: expected a number of bytes, found {size!r}. "
                "Expected the storage, and any proxy before it, to answer in full."
            )
        return size

    async def is_bucket_missing(self) -> bool:
        """Return True if the bucket itself is not visible from this node.

        Without a request False where there are directories instead.
        """
        if self.has_directories:
            return False
        try:
            await self._fs._info(self.bucket)
        except Exception as error:
            return is_missing(error, self.bucket)
        return False

    @property
    def bucket(self) -> str:
        """Name of the bucket or container."""
        return self.root.partition("/")[0]

    async def is_listed(self, path: str) -> bool:
        """Return True if a listing has a file; one request for any number of files in a bucket."""
        directory, _, name = path.rpartition("/")
        if self.has_directories:
            return path in await self.list_directory(directory)
        self.connection.sync_fs.invalidate_cache()
        return path in await self._fs._find(directory, prefix=name, detail=True)

    async def find(self, directory: str) -> dict[str, Mapping[str, Any]]:
        """Return all files below a directory, by path; none if it is not there.

        Raises what the filesystem raises where the bucket itself is not visible: nothing is known
        of its files then. One more request tells, where nothing was found.
        """
        self.connection.sync_fs.invalidate_cache()
        try:
            found: dict[str, Mapping[str, Any]] = await self._fs._find(directory, detail=True)
        except Exception as error:
            if not self.has_directories or not is_missing(error, directory):
                raise
            return {}
        if not found and not self.reports_missing_buckets and await self.is_bucket_missing():
            raise FileNotFoundError(f"the bucket or container {self.bucket} is not there")
        return dict(found)

    async def find_all(self, directory: str) -> dict[str, Mapping[str, Any]]:
        """Return what `find` does, and the files that are deleted and stay; `delete` removes both.

        The size of a file is that of all that stays of it.
        """
        return await self.find(directory)

    async def list_directory(self, directory: str) -> dict[str, Mapping[str, Any]]:
        """Return the files and directories in one directory, by path; none if it is not there."""
        self.connection.sync_fs.invalidate_cache()
        try:
            infos = await self._fs._ls(directory, detail=True)
        except Exception as error:
            if is_missing(error, directory):
                return {}
            raise
        own = directory.rstrip("/")
        names = [info["name"].rstrip("/") for info in infos]
        return {
            f"{own}/{name.rpartition('/')[2]}": info
            for name, info in zip(names, infos, strict=True)
            if name.lstrip("/") != own.lstrip("/")
        }

    async def delete_file(self, path: str) -> None:
        """Delete one file with a request of its own; one that is already gone is fine."""
        try:
            await self._remove(path)
        except Exception as error:
            if not is_missing(error, path):
                raise

    async def _remove(self, path: str) -> None:
        remove = self.connection.fs._rm_file
        if getattr(remove, "__func__", None) is not AsyncFileSystem._rm_file:
            await self._fs._rm_file(path)
            return
        # adlfs before 2024 has only the deletion of several files.
        container, key, *_ = self._fs.split_path(path)
        await self._fs._rm_files(container, [key])

    async def delete(
        self,
        paths: Sequence[str],
        max_requests: int,
        failures: dict[str, FsspillError] | None = None,
    ) -> dict[str, FsspillError]:
        """Delete files; those that are already gone are fine.

        Parameters
        ----------
        paths : sequence of str
            Files, never patterns. They may be in several buckets.
        max_requests : int
            Concurrent requests; filesystems that are not concurrent get one at a time.
        failures : dict, optional
            Failures of earlier calls: kept up to date with each answer, so that it is right also
            where this is cancelled, and returned.

        Returns
        -------
        dict
            The paths of files that may still be there, and why. Never raises.

        Notes
        -----
        One request for each file; on S3, one for up to 1000 files of a bucket.
        """
        failures = {} if failures is None else failures
        slots = asyncio.Semaphore(max_requests if self.concurrent else 1)
        await self._delete_all(paths, slots, failures)
        return failures

    async def _delete_all(
        self, paths: Sequence[str], slots: asyncio.Semaphore, failures: dict[str, FsspillError]
    ) -> None:
        """Delete files, and keep `failures` up to date with each answer."""
        await self._delete_each(paths, slots, failures)

    async def _delete_each(
        self, paths: Sequence[str], slots: asyncio.Semaphore, failures: dict[str, FsspillError]
    ) -> None:
        await asyncio.gather(*(self._delete_one(path, slots, failures) for path in paths))

    async def _delete_one(
        self, path: str, slots: asyncio.Semaphore, failures: dict[str, FsspillError]
    ) -> None:
        async with slots:
            try:
                await self.delete_file(path)
            except Exception as error:
                failures[path] = translate(error, "cannot delete", path)
            else:
                failures.pop(path, None)

    async def delete_with_retry(
        self, paths: Sequence[str], max_requests: int, seconds: float
    ) -> dict[str, FsspillError]:
        """Delete files, and retry those whose failure may pass, for so many seconds at most.

        Returns what `delete` does. A pass that takes longer than half of the time is cancelled
        and made again for the files that are left: its requests may have been lost.
        """
        failures = dict.fromkeys(paths, self._no_answer_error(seconds))

        async def retry() -> None:
            for pause in backoff():
                deletion = self.delete(list(failures), max_requests, failures)
                try:
                    await within(seconds / 2, deletion)
                except TimeoutError:
                    continue
                if not any(is_transient(failure) for failure in failures.values()):
                    return
                await asyncio.sleep(pause)
                self.meter.count_retry()

        try:
            await within(seconds, retry())
        except TimeoutError:
            pass  # failures says what remains
        return failures

    def _no_answer_error(self, seconds: float) -> FsspillError:
        return StorageUnavailableError(
            f"cannot delete files under {self.root}: no answer within "
            f"{format_seconds(seconds)}. Expected the storage to answer: check the endpoint and "
            "the network."
        )

    async def remove_directories(self, paths: Sequence[str]) -> None:
        """Remove directories that are empty, in this order, where there are directories at all.

        Never raises: one that is not empty stays.
        """
        objects = self.connection.traits.has_directory_objects
        for path in paths if self.has_directories or objects else ():
            try:
                # The object of a directory that is not empty is not deleted: status 409.
                await (self._remove(path) if objects else self._fs._rmdir(path))
            except Exception as error:
                logger.debug("the directory %s stays: %s", path, error)

    async def list_uploads(self, directory: str) -> list[dict[str, Any]]:
        """Return the incomplete multipart uploads below a directory; none without such uploads."""
        return []

    async def abort_uploads(self, uploads: Sequence[Mapping[str, str]]) -> dict[str, FsspillError]:
        """Abort multipart uploads that `list_uploads` returned; those that have ended are fine.

        Returns
        -------
        dict
            The paths of uploads that may still be there, and why. Never raises.
        """
        return {}


def _copy_into(
    target: Any,
    parts: PartStream,
    written: Callable[[int], None],
    block_size: int,
    cancelled: Event,
) -> None:
    nbytes = 0
    part: Buffers = ()
    try:
        for part in parts:
            for block in _split(b"".join(part), block_size):
                _require_running(cancelled)
                target.write(block)
                nbytes += len(block)
                written(nbytes)
        # The parts end early where the objects have been released.
        _require_running(cancelled)
        target.close()
    except BaseException:
        _discard(target)
        raise
    finally:
        # A traceback holds this frame, and a suspended generator the objects.
        part = ()
        parts.close()


def _split(data: bytes, block_size: int) -> Iterator[bytes]:
    if len(data) <= block_size:
        yield data
    else:
        yield from (data[at : at + block_size] for at in range(0, len(data), block_size))


def _require_running(cancelled: Event) -> None:
    if cancelled.is_set():
        raise TimeoutError("the caller no longer waits for this file")


def _discard(target: Any) -> None:
    """Discard a file that is being written: closing it would commit what it has so far."""
    if isinstance(target, AbstractBufferedFile):
        try:
            target.discard()
        except Exception:
            pass  # not every filesystem can; the caller deletes the file
        target.closed = True
    else:
        target.close()
