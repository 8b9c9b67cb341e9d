"""Movement of bytes to and from any fsspec filesystem, concurrently and in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial

from fsspill.errors import (
    FsspillError,
    StoragePermissionError,
    original_cause,
    translate,
)
from fsspill.local_copy.copies import LocalCopies
from fsspill.local_copy.copy_file import FileCopy
from fsspill.local_copy.writer import CopyWriter
from fsspill.log import get_logger
from fsspill.settings import Settings
from fsspill.storage.client import StorageClient
from fsspill.storage.client_pool import ClientPool
from fsspill.storage.deadline import within
from fsspill.storage.layout import FileRef, SpillLocation
from fsspill.storage.retry import RequestSkippedError, Retrier
from fsspill.transfer.base import FrameRef, FrameStream, Transfer
from fsspill.transfer.compressed_parts import select_source
from fsspill.transfer.copied_stream import CopiedFrameStream
from fsspill.transfer.destroy import destroy
from fsspill.transfer.download import RemoteFrameStream
from fsspill.transfer.limiter import InFlightLimiter, gather_or_cancel
from fsspill.transfer.spill_file import FailedWrite, SpillFile, WrittenFile
from fsspill.transfer.upload import FileUpload

__all__ = ["RemoteTransfer"]

logger = get_logger(__name__)

DESTROY_TIMEOUT = 30
"""Seconds that `destroy` may take, since Ray waits for it at every shutdown."""


class RemoteTransfer(Transfer):
    """Files on filesystems that fsspec reaches.

    Parameters
    ----------
    locations : sequence of SpillLocation
        The configured URIs.
    clients : ClientPool
        Their clients.
    limits : Settings
        Sizes, and limits of what is in flight.
    copies : LocalCopies, optional
        Copies of what this node has written, on a disk of its own.

    Notes
    -----
    *Requests.* A file is one request, one above 16 MiB (on S3, 32 MiB elsewhere) several; a
    frame is one per range, and up to 5 % of parts and ranges, those that take longer than usual,
    are asked for twice (`fsspill.storage.hedging`); a deletion is one bulk request per bucket where
    the filesystem has them. Never a listing or a HEAD to write, read or delete (but one HEAD to
    explain a read that failed). Failures that may pass are retried; see `fsspill.storage.retry`.

    *Memory.* At most ``limits.max_bytes_in_flight`` of copies. Writing to S3 copies nothing but
    what is compressed; other filesystems want the body of a request as one `bytes`, which copies
    each byte once. Reading copies it once, from the buffer that the reader returns into the object
    store.

    *Threads.* Requests run on the event loop thread that fsspec shares within the process;
    filesystems without an asynchronous interface get one operation at a time.
    """

    tier = "bucket"

    def __init__(
        self,
        locations: Sequence[SpillLocation],
        clients: ClientPool,
        limits: Settings,
        copies: LocalCopies | None = None,
    ) -> None:
        self._locations = locations
        self._clients = clients
        self._limits = limits
        self._copies = copies

    def write(
        self,
        files: Sequence[tuple[SpillFile, FileRef]],
        retriers: Mapping[SpillLocation, Retrier],
    ) -> list[WrittenFile | FailedWrite]:
        """Upload files concurrently, as many as the limits allow."""
        clients, failures = self._open_clients(retriers)
        placed = [(file, ref) for file, ref in files if ref.location in clients]
        outcomes: Iterator[WrittenFile | FailedWrite] = iter(())
        if placed:
            run = next(iter(clients.values())).run
            with self._copying() as writer:
                outcomes = iter(run(self._write_all, placed, clients, retriers, writer))
        return [
            FailedWrite(failures[ref.location], []) if ref.location in failures else next(outcomes)
            for _, ref in files
        ]

    @contextmanager
    def _copying(self) -> Iterator[CopyWriter | None]:
        """Yield a writer of local copies, which drops at the end what it has not written."""
        writer = self._copies.writer() if self._copies else None
        try:
            yield writer
        finally:
            if writer:
                writer.finish()

    def _open_clients(
        self, locations: Iterable[SpillLocation]
    ) -> tuple[dict[SpillLocation, StorageClient], dict[SpillLocation, FsspillError]]:
        """Return the clients of locations, and the errors of those that cannot be opened."""
        clients: dict[SpillLocation, StorageClient] = {}
        failures: dict[SpillLocation, FsspillError] = {}
        for location in locations:
            try:
                clients[location] = self._clients.client(location)
            except FsspillError as error:
                failures[location] = error
        return clients, failures

    async def _write_all(
        self,
        files: Sequence[tuple[SpillFile, FileRef]],
        clients: Mapping[SpillLocation, StorageClient],
        retriers: Mapping[SpillLocation, Retrier],
        writer: CopyWriter | None,
    ) -> list[WrittenFile | FailedWrite]:
        concurrent = all(client.concurrent for client in clients.values())
        max_requests = self._limits.max_requests_in_flight if concurrent else 1
        limiter = InFlightLimiter(max_requests, self._limits.max_bytes_in_flight)
        writes = [
            _write(clients[ref.location], file, ref, limiter, retriers[ref.location], writer)
            for file, ref in files
        ]
        return await asyncio.gather(*writes)

    def open(self, frame: FrameRef) -> FrameStream:
        """Ask for all blocks of the frame that the limits allow to be held, or open its copy."""
        if self._copies:
            return CopiedFrameStream(self._copies, frame, partial(self._open_remote, frame))
        return self._open_remote(frame)

    def _open_remote(self, frame: FrameRef, first_block: int = 0) -> RemoteFrameStream:
        location = frame.file.location
        client, reader = self._clients.client(location), self._clients.reader(location)
        return RemoteFrameStream(client, reader, frame, self._limits, first_block)

    def delete(self, files: Sequence[FileRef], *, seconds: float) -> dict[FileRef, FsspillError]:
        """Delete all files of a filesystem together, after their local copies."""
        if self._copies:
            self._copies.remove(files)
        failures = self._delete(files, seconds)
        refused = [f for f, error in failures.items() if isinstance(error, StoragePermissionError)]
        locations = dict.fromkeys(file.location for file in refused)
        renewed = {location for location in locations if self._clients.renew(location)}
        again = [file for file in refused if file.location in renewed]
        for file in again:
            del failures[file]
        return failures | (self._delete(again, seconds) if again else {})

    def _delete(self, files: Sequence[FileRef], seconds: float) -> dict[FileRef, FsspillError]:
        opened, closed = self._open_clients(dict.fromkeys(file.location for file in files))
        failures = {file: closed[file.location] for file in files if file.location in closed}
        filesystems: dict[int, tuple[StorageClient, dict[str, FileRef]]] = {}
        for file in files:
            if file not in failures:
                client = opened[file.location]
                key = id(client.connection.fs)
                filesystems.setdefault(key, (client, {}))[1][client.deletion_path(file)] = file
        for client, paths in filesystems.values():
            requests = self._limits.max_requests_in_flight
            failed = client.run(client.delete_with_retry, list(paths), requests, seconds)
            failures.update({paths[path]: failure for path, failure in failed.items()})
        return failures

    def list_files(self) -> list[FileRef]:
        """List this node's directory under every URI."""
        return [file for location in self._locations for file in self._list(location)]

    def _list(self, location: SpillLocation) -> list[FileRef]:
        def find(client: StorageClient) -> list[FileRef]:
            root = client.root
            paths = client.run(client.find, root + location.node_path)
            return [FileRef(location, path[len(root) :]) for path in paths]

        return self._clients.retry_if_refused(location, find, "cannot list", location.uri)

    def destroy(self) -> None:
        """Delete the files in this node's directories, until a listing shows nothing.

        Under every URI, also where another one fails.
        """
        failures = self._destroy(self._locations)
        refused = [
            at for at, error in failures.items() if isinstance(error, StoragePermissionError)
        ]
        renewed = [location for location in refused if self._clients.renew(location)]
        for location in renewed:
            del failures[location]
        failures |= self._destroy(renewed)
        first, *others = failures.values() or [None]
        for failure in others:
            logger.warning("%s", failure)
        if first is not None:
            raise first

    def _destroy(self, locations: Sequence[SpillLocation]) -> dict[SpillLocation, FsspillError]:
        """Delete this node's files under URIs, and return the errors of those that failed."""
        clients, failures = self._open_clients(locations)
        if clients:
            outcomes = next(iter(clients.values())).run(self._destroy_all, clients)
            for location, error in zip(clients, outcomes, strict=True):
                if error is not None:
                    failure = translate(error, "cannot remove", location.node_directory)
                    failure.__cause__ = original_cause(failure, error)
                    failures[location] = failure
        return failures

    async def _destroy_all(
        self, clients: Mapping[SpillLocation, StorageClient]
    ) -> list[BaseException | None]:
        destructions = [
            within(DESTROY_TIMEOUT, destroy(client, location, self._limits))
            for location, client in clients.items()
        ]
        return await asyncio.gather(*destructions, return_exceptions=True)


async def _write(
    client: StorageClient,
    file: SpillFile,
    ref: FileRef,
    limiter: InFlightLimiter,
    retrier: Retrier,
    writer: CopyWriter | None,
) -> WrittenFile | FailedWrite:
    """Upload one file, and compute its digests and write its local copy meanwhile."""
    upload: FileUpload | None = None
    copy: FileCopy | None = None
    try:
        with closing(await select_source(file)) as source:
            copy = writer.begin(source.max_nbytes) if writer else None
            upload = FileUpload(client, ref, source, limiter, retrier, copy)
            await gather_or_cancel([upload.run(), source.encode()])
            if copy:
                copy.keep(upload.file, source.nbytes)
            return WrittenFile(upload.file, source.frames, upload.abandoned)
    except Exception as error:
        if copy:
            copy.drop()
        retrier.stop()
        failure = translate(error, "cannot write", ref.url)
        failure.__cause__ = original_cause(failure, error)
        abandoned = list(upload.abandoned) if upload else []
        if upload and not isinstance(failure, RequestSkippedError):
            abandoned.append(upload.file)
        return FailedWrite(failure, abandoned)
