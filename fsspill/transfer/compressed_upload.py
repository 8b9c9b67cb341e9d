"""One fused file on its way up, compressed as it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from functools import partial
from typing import Any

from fsspill.format.encoding import Buffers
from fsspill.storage.connection import Endpoint
from fsspill.storage.retry import Retrier
from fsspill.transfer.base import MIB, SpillFile
from fsspill.transfer.limiter import InFlightLimiter, run_in_thread
from fsspill.transfer.upload import (
    MAX_PARTS,
    PART_SIZE,
    SEND_BUFFER_SIZE,
    SINGLE_PUT_SIZE,
    SINGLE_REQUEST_SIZE,
    Upload,
    put,
)

__all__ = ["CompressedUpload"]

_SMALLEST_PART = 6 * MIB
"""Bytes from which blocks are a part: S3 takes 5 MiB. With one block more, of up to 8.5 MiB, that
is below the least that may be in flight."""

_MANY_PARTS = MAX_PARTS // 2
"""Parts that a file gets at most, if it does not shrink: compressing must not make it too many."""


class CompressedUpload(Upload):
    """One file with a codec on its way up; parameters as those of `Upload`.

    Notes
    -----
    Up to the sizes of one request the file is compressed as a whole. A larger one is compressed
    part by part, each when there is room for it, while those before it are on their way; on
    filesystems that are not S3, block by block. One thread at a time works on a file, and two on
    all files (measured on two cores: one object of 200 MiB goes up at 260 to 310 MiB/s).
    """

    def __init__(
        self,
        endpoint: Endpoint,
        path: str,
        file: SpillFile,
        in_flight: InFlightLimiter,
        retrier: Retrier,
    ) -> None:
        super().__init__(endpoint, path, file, in_flight, retrier)
        self._packing = file.pack()
        self._blocks: Iterator[Buffers] = iter(())
        self._turn = asyncio.Lock()
        self._taken = 0
        self._ended = False

    async def run(self) -> None:
        """Store the file as `Upload.run` does, and say in its `stored` what lies there."""
        s3_api = self._endpoint.traits.s3_api
        limit = SINGLE_PUT_SIZE if s3_api else SINGLE_REQUEST_SIZE
        if self._file.nbytes <= min(limit, self._in_flight.max_bytes // 2):
            await self._run_whole()
        elif s3_api:
            # A pass that is not finished holds the objects until somebody closes it.
            with closing(iter(self._packing)) as self._blocks:
                await self._run_multipart()
        else:
            await self._run_stream()
        self._file.stored = self._packing.stored

    async def _run_whole(self) -> None:
        # What is compressed, and where it was made contiguous for that or for the request.
        async with self._in_flight.reserve(2 * self._file.nbytes) as reservation:
            self._retrier.require()
            if self._endpoint.traits.s3_api:
                buffers = await run_in_thread(self._pack)
                await reservation.shrink(_copied(buffers) + SEND_BUFFER_SIZE)
                await self._put(buffers)
            else:
                body = await run_in_thread(lambda: b"".join(self._pack()))
                await reservation.shrink(len(body))
                await self._attempt(lambda: put(self._endpoint, self._path, body))

    def _pack(self) -> Buffers:
        return [buffer for block in self._packing for buffer in block]

    def _parts(self) -> Iterable[Buffers]:
        self._packing = self._file.pack()  # its own, since an attempt before it may still go on
        return self._packing

    def _sends(self, where: Mapping[str, Any]) -> Sequence[Awaitable[Mapping[str, Any] | None]]:
        # A part has one block or more; the last of these finds that there are no more.
        return [self._send_next(where) for _ in range(self._packing.count + 1)]

    async def _send_next(self, where: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Make the next part when it is its turn and there is room, and send it."""
        wanted = max(_SMALLEST_PART, self._file.nbytes // _MANY_PARTS)
        part: Buffers = []
        async with AsyncExitStack() as stack:
            stack.callback(part.clear)  # a traceback holds this frame
            async with self._turn:
                if self._ended:
                    return None
                room = min(wanted + 2 * PART_SIZE, self._in_flight.max_bytes)
                reservation = await stack.enter_async_context(self._in_flight.reserve(room))
                self._retrier.require()
                part += await run_in_thread(partial(_take, self._blocks, wanted))
                await reservation.shrink(_copied(part) + SEND_BUFFER_SIZE)
                self._ended = _length(part) < wanted
                self._taken = number = self._taken + 1
            return await self._send_part(where, number, part) if part else None

    def _length(self) -> int:
        return sum(frame.size for frame in self._packing.stored)


def _take(blocks: Iterator[Buffers], nbytes: int) -> Buffers:
    """Return the next blocks, of `nbytes` or more in all; of less only those that are left."""
    part: Buffers = []
    for block in blocks:
        part += block
        if _length(part) >= nbytes:
            break
    return part


def _length(part: Buffers) -> int:
    return sum(map(len, part))


def _copied(buffers: Buffers) -> int:
    """Return how many bytes of memory they take: views are the objects' own."""
    return sum(len(buffer) for buffer in buffers if isinstance(buffer, bytes))
