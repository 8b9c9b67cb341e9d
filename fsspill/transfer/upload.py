"""Upload of one fused file: in one request, in concurrent parts, or as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import wait
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, closing
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from fsspill.errors import StorageNotFoundError
from fsspill.format.encoding import Buffers
from fsspill.local_copy import copy_file
from fsspill.local_copy.copy_file import FileCopy
from fsspill.storage.client import (
    STREAM_BLOCK_SIZE,
    MakeParts,
    MultipartUpload,
    PartStream,
    StorageClient,
)
from fsspill.storage.layout import FileRef
from fsspill.storage.retry import Progress, Retrier
from fsspill.transfer.cpu import COMPRESS
from fsspill.transfer.limiter import InFlightLimiter, gather_or_cancel
from fsspill.transfer.part_source import Part, PartSource, copied_bytes

__all__ = ["FileUpload"]

T = TypeVar("T")


class FileUpload:
    """The upload of one file.

    Parameters
    ----------
    client : StorageClient
        The storage.
    file : FileRef
        The file.
    source : PartSource
        Its bytes.
    limiter : InFlightLimiter
        Limits shared with the other files of the call.
    retrier : Retrier
        Retrier shared with the other files for the same location.
    copy : FileCopy, optional
        The local copy, which is offered the bytes that are sent.

    Attributes
    ----------
    file : FileRef
        The file that was stored, which has another name than it was given if an attempt that
        could not be ended may still write under that.
    abandoned : list of FileRef
        The files of such attempts.
    """

    def __init__(
        self,
        client: StorageClient,
        file: FileRef,
        source: PartSource,
        limiter: InFlightLimiter,
        retrier: Retrier,
        copy: FileCopy | None = None,
    ) -> None:
        self.file = file
        self.abandoned: list[FileRef] = []
        self._client = client
        self._path = client.path(file)
        self._place = client.place(file.url)
        self._source = source
        self._limiter = limiter
        self._retrier = retrier
        self._copy = copy
        self._farthest = 0

    async def run(self) -> None:
        """Store the file.

        When this raises, the file may be there in part or in full: the caller deletes it. A
        multipart upload that failed has been aborted, if the storage answered.

        Notes
        -----
        One request up to the client's `single_put_size`; above that concurrent parts on S3, whose
        bodies are sent from the objects' own memory, and the filesystem's own ``open`` elsewhere,
        one block at a time. Filesystems other than S3 copy each byte once.

        After a request has timed out, only as much is in flight as the client's window allows.
        Bytes are seen to leave on S3. Elsewhere all but small files then go in small blocks through
        ``open``, each of which is progress.
        """
        if self._source.max_nbytes <= self._single_put_limit():
            await self._put_whole()
            return
        if self._copy and not self._source.copies:
            # At once: the disk is not needed by what follows, and is idle while that waits.
            self._copy.offer(0, chain.from_iterable(self._source.stream()))
            self._copy = None
        if self._client.has_multipart:
            await self._put_parts()
        else:
            await self._put_stream()

    def _single_put_limit(self) -> int:
        copies = max(self._source.copies, int(self._client.copies_bodies))
        room = self._limiter.max_bytes // copies if copies else self._client.single_put_size
        return min(self._client.single_put_size, room)

    async def _attempt(self, request: Callable[[], Awaitable[T]]) -> T:
        client, meter = self._client, self._client.meter
        return await self._retrier.attempt(
            request,
            "cannot write",
            self._place,
            client.window.shrink,
            meter.count_retry,
            meter.throttle,
        )

    def _room(self, nbytes: int) -> AbstractAsyncContextManager[int]:
        return self._client.window.request(nbytes, self._retrier, divisible=False)

    async def _put_whole(self) -> None:
        nbytes = self._source.max_nbytes
        room = max(self._source.copies * nbytes, self._client.body_memory(nbytes))
        async with self._limiter.reserve(room) as reservation:
            self._retrier.require()
            buffers = await self._source.whole()
            held = 0 if self._client.copies_bodies else copied_bytes(buffers)
            making = partial(self._client.body, buffers, self._retrier.progress)
            joined = self._client.copies_bodies and self._source.copies
            sent = [] if joined else buffers
            del buffers
            # Compressed files are joined in the thread that has compressed them.
            with await COMPRESS.run(making, inline=not self._source.copies) as body:
                del making
                await reservation.shrink(held + self._client.body_memory(self._source.nbytes))
                async with self._copied(0, sent or [body]):
                    await self._attempt(lambda: self._put(body))

    @asynccontextmanager
    async def _copied(self, offset: int, buffers: Buffers) -> AsyncIterator[None]:
        """Offer bytes to the local copy for as long as they are held, or a moment longer.

        The objects' own memory is held until the end of the spill, as the copy's.
        """
        piece = self._copy.offer(offset, buffers) if self._copy else None
        try:
            yield
            if piece and self._source.copies:
                await asyncio.wait([asyncio.wrap_future(piece.ended)], timeout=copy_file.PATIENCE)
        finally:
            if self._copy and self._source.copies:
                self._copy.withdraw(piece)

    async def _put(self, body: Any) -> None:
        async with self._room(len(body)):
            if self._in_blocks(len(body)):
                await self._stream(lambda: (part for part in [[body]]))
            else:
                version = await self._client.put(self._client.path(self.file), body)
                self.file = self.file._replace(version=version)

    def _in_blocks(self, nbytes: int) -> bool:
        """Return True if the bytes of a single request would have to move unseen for too long."""
        client = self._client
        limited = client.copies_bodies and not client.window.is_open
        return limited and nbytes > client.block_size

    async def _put_stream(self) -> None:
        async with self._limiter.reserve(2 * STREAM_BLOCK_SIZE):
            await self._attempt(self._put_blocks)

    async def _put_blocks(self) -> None:
        async with self._room(self._source.max_nbytes):
            await self._stream(self._copied_stream)

    def _copied_stream(self) -> PartStream:
        """Return the file's blocks, each of which is offered to the local copy while it is sent."""
        offset = 0
        with closing(self._source.stream()) as blocks:
            for block in blocks:
                piece = self._copy.offer(offset, block) if self._copy else None
                offset += sum(map(len, block))
                yield block
                if self._copy and piece and self._source.copies:
                    wait([piece.ended], timeout=copy_file.PATIENCE)
                    self._copy.withdraw(piece)

    async def _stream(self, make_parts: MakeParts) -> None:
        file = self.file
        try:
            await self._client.write_stream(self._client.path(file), make_parts, self._advance)
        except asyncio.CancelledError:
            # Its thread may go on, and write when this attempt's successor has succeeded.
            self.abandoned.append(file)
            self.file = file.renamed()
            raise

    def _advance(self, nbytes: int) -> None:
        """Count what has been written of the file, and if by no attempt before, as progress."""
        self._retrier.progress(further=nbytes > self._farthest)
        self._farthest = max(self._farthest, nbytes)

    async def _put_parts(self) -> None:
        multipart = await self._attempt(lambda: self._client.create_multipart(self._path))
        try:
            async with self._source.parts(self._client, self._limiter, self._retrier) as parts:
                sent = await gather_or_cancel([self._put_part(multipart, part) for part in parts])
            await self._complete(multipart, [part for part in sent if part])
        except BaseException:
            await multipart.abort()
            raise

    async def _put_part(
        self, multipart: MultipartUpload, entering: AbstractAsyncContextManager[Part | None]
    ) -> Mapping[str, Any] | None:
        async with entering as part:
            if part is None:
                return None
            sending = _PartSending(self._client, multipart, part, self._retrier)
            with closing(sending):

                async def put() -> Mapping[str, Any]:
                    async with self._room(sending.nbytes):
                        return await sending.run()

                async with self._copied(part.offset, part.buffers):
                    return await self._attempt(put)

    async def _complete(self, multipart: MultipartUpload, parts: list[Mapping[str, Any]]) -> None:
        try:
            version = await self._attempt(lambda: multipart.complete(parts))
            self.file = self.file._replace(version=version)
        except StorageNotFoundError:
            # An attempt whose answer was lost has completed it: then there is no such upload.
            if await self._attempt(lambda: self._client.size(self._path)) != self._source.nbytes:
                raise


class _PartSending:
    """The requests that send one part: a second one too, if the first takes longer than usual.

    Both store the same bytes under the same number. A whole file is never sent twice: a bucket with
    versions would keep both, and no answer names the one that lost.
    """

    def __init__(
        self, client: StorageClient, multipart: MultipartUpload, part: Part, retrier: Retrier
    ) -> None:
        self._client = client
        self._multipart = multipart
        self._part = part
        self._retrier = retrier
        self._bodies = ExitStack()
        self._body = self._open(retrier.progress)
        self.nbytes = len(self._body)

    async def run(self) -> Mapping[str, Any]:
        """Send the part, and return its entry for `MultipartUpload.complete`."""
        if not self._multipart.is_repeatable:
            return await self._send()
        return await self._client.hedging.race(self._send, self.nbytes, self._send_again)

    async def _send(self) -> Mapping[str, Any]:
        return await self._multipart.put_part(self._part.number, self._body)

    async def _send_again(self) -> Mapping[str, Any]:
        # A body of its own, which has a position of its own.
        return await self._multipart.put_part(self._part.number, self._open(self._moved))

    def _moved(self, *, further: bool) -> None:
        """Record that bytes of a second body have moved, which the first may have sent before."""
        self._retrier.progress(further=False)

    def _open(self, progress: Progress) -> Any:
        return self._bodies.enter_context(self._client.body(self._part.buffers, progress))

    def close(self) -> None:
        """Release the bodies, also that of a request that is being cancelled."""
        self._bodies.close()
