"""The source of an upload's bytes where frames are compressed while they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

from fsspill.format.encoding import Buffers, FrameEncoder
from fsspill.storage.client import MIB, StorageClient
from fsspill.storage.retry import Retrier
from fsspill.storage.s3 import MAX_PARTS
from fsspill.transfer.cpu import COMPRESS
from fsspill.transfer.limiter import InFlightLimiter, Reservation
from fsspill.transfer.part_source import Part, PartSource, RawParts, copied_bytes
from fsspill.transfer.spill_file import SpillFile

__all__ = ["CompressedParts", "select_source"]

_MIN_PART_SIZE = 6 * MIB
"""Bytes of a part, if a file is not very large: S3 takes 5 MiB or more."""

_ENCODING = 17 * MIB
"""Bytes for one block of up to 8.5 MiB, made contiguous and compressed."""

_MAX_RAW_PARTS = MAX_PARTS // 2
"""Parts that a file gets at most, if it does not shrink: compressing must not make it too many."""


async def select_source(file: SpillFile) -> PartSource:
    """Return the source for a file: compressed if samples show that one of its frames shrinks."""
    if file.encoding.codec is None:
        return RawParts(file)
    codecs = await COMPRESS.run(file.select_codecs)
    return CompressedParts(file, codecs) if any(codecs) else RawParts(file)


class CompressedParts(PartSource):
    """The bytes of a file of which some frames are compressed.

    Parameters
    ----------
    file : SpillFile
        The file. Its encoding has a digest.
    codecs : sequence of str or None
        Codec of each frame; None to store it raw.

    Notes
    -----
    Blocks are compressed one after another, each when there is room for it, while the parts before
    it are being sent. All parts but the last have one length: some stores take no others. One
    thread at a time works on a file, and two on all files (measured on two cores: one object of 200
    MiB goes up at 260 to 310 MiB/s).
    """

    copies = 2  # the compressed bytes, and those made contiguous for compression or the request

    def __init__(self, file: SpillFile, codecs: Sequence[str | None]) -> None:
        assert file.encoding.digest is not None
        self.max_nbytes = file.nbytes
        self.frames = []
        self._make_encoder = partial(FrameEncoder, file.frames, codecs, file.encoding.digest)
        self._encoder = self._make_encoder()
        self._blocks: Generator[Buffers, None, None] | None = None
        self._rest = Rest(_MIN_PART_SIZE)
        self._turn = asyncio.Lock()
        self._taken = 0
        self._ended = False

    async def encode(self) -> None:
        """Do nothing: blocks are hashed when they are compressed."""

    async def whole(self) -> Buffers:
        """Compress the whole file."""
        return await COMPRESS.run(self._compress_all)

    def _compress_all(self) -> Buffers:
        buffers = [buffer for block in self._encoder for buffer in block]
        self.frames = self._encoder.encoded
        return buffers

    def stream(self) -> Generator[Buffers, None, None]:
        """Return the file block by block, by a pass of its own: an earlier one may still go on."""
        encoder = self._make_encoder()
        yield from encoder
        self.frames = encoder.encoded

    @asynccontextmanager
    async def parts(
        self, client: StorageClient, limiter: InFlightLimiter, retrier: Retrier
    ) -> AsyncIterator[Sequence[AbstractAsyncContextManager[Part | None]]]:
        """Yield as many parts as there may be, of one length but the last; some find none left."""
        self._blocks = iter(self._encoder)
        self._rest = Rest(max(_MIN_PART_SIZE, self.max_nbytes // _MAX_RAW_PARTS))
        count = self.max_nbytes * 251 // 250 // self._rest.part_size + 2
        async with limiter.hold() as held:
            yield [self._next_part(held, client, limiter, retrier) for _ in range(count)]

    @asynccontextmanager
    async def _next_part(
        self,
        held: Reservation,
        client: StorageClient,
        limiter: InFlightLimiter,
        retrier: Retrier,
    ) -> AsyncIterator[Part | None]:
        """Compress the next part when it is its turn and there is room."""
        async with AsyncExitStack() as stack:
            buffers: Buffers = []
            stack.callback(buffers.clear)  # a traceback holds this frame
            async with self._turn:
                if not self._ended:
                    reservation = await stack.enter_async_context(limiter.reserve(0))
                    retrier.require()
                    memory = await self._take(buffers, held, limiter.max_bytes)
                    sending = client.body_memory(sum(map(len, buffers)))
                    held.move(reservation, memory + sending)
                    await held.shrink(self._rest.memory)
                number = self._taken
            offset = (number - 1) * self._rest.part_size
            yield Part(number, buffers, offset) if buffers else None

    async def _take(self, buffers: Buffers, held: Reservation, max_bytes: int) -> int:
        """Take the next part, and return the bytes of memory that it holds."""
        rest = self._rest
        while rest.nbytes < rest.part_size and self._blocks is not None:
            await held.grow(min(rest.memory + _ENCODING, max_bytes))
            await COMPRESS.run(self._encode_block)
        part, memory = await COMPRESS.run(rest.cut)
        buffers += part
        self._taken += 1
        self._ended = self._blocks is None and not rest.nbytes
        if self._ended:
            self.frames = self._encoder.encoded
        return memory

    def _encode_block(self) -> None:
        """Encode the next block, and note where there is none."""
        assert self._blocks is not None
        block = next(self._blocks, None)
        if block is None:
            self._blocks = None
        else:
            self._rest.add(block)

    def close(self) -> None:
        """End a pass that is not finished: it holds the objects."""
        if self._blocks is not None:
            self._blocks.close()
        self._rest = Rest(_MIN_PART_SIZE)


class Rest:
    """Encoded bytes that no part has taken yet.

    Parameters
    ----------
    part_size : int
        Length of every part but the last.

    Attributes
    ----------
    nbytes : int
        Their number.
    """

    def __init__(self, part_size: int) -> None:
        self.part_size = part_size
        self.nbytes = 0
        self._buffers: Buffers = []

    @property
    def memory(self) -> int:
        """Bytes of memory that they take: views are the objects' own."""
        return copied_bytes(self._buffers)

    def add(self, block: Buffers) -> None:
        """Append a block."""
        self._buffers += block
        self.nbytes += sum(map(len, block))

    def cut(self) -> tuple[Buffers, int]:
        """Remove and return the next part, with the bytes of memory that it takes.

        A block that is cut in two stays in memory for the first half. The second is copied, so
        that it does not keep the block as well: less than a part, for each part.
        """
        buffers, self._buffers = self._buffers, []
        part: Buffers = []
        memory, room = 0, self.part_size
        for buffer in buffers:
            head = buffer if len(buffer) <= room else memoryview(buffer)[:room]
            if len(head):
                part.append(head)
                memory += copied_bytes([buffer])
            if len(head) < len(buffer):
                tail = memoryview(buffer)[len(head) :]
                self._buffers.append(bytes(tail) if isinstance(buffer, bytes) else tail)
            room -= len(head)
        self.nbytes -= sum(map(len, part))
        return part, memory
