"""Download of one frame: read ahead in ranges, verified block by block, returned in order."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import cycle, islice

from fsspill.errors import (
    StorageNotFoundError,
    StorageUnavailableError,
    is_throttled,
    translate,
)
from fsspill.format.compression import INLINE_DECOMPRESS_BYTES, Compression
from fsspill.format.digest import digest_of
from fsspill.format.planning import plan_ranges
from fsspill.settings import Settings
from fsspill.storage.client import StorageClient
from fsspill.storage.range_reader import RangeReader
from fsspill.storage.retry import Retrier, backoff
from fsspill.transfer import cpu
from fsspill.transfer.base import FrameRef
from fsspill.transfer.limiter import gather_or_cancel
from fsspill.transfer.verified_stream import (
    DIGEST_RETRIES,
    EQUAL_MISMATCHES,
    BlockStream,
    Buffer,
    bucket_missing_error,
    digest_mismatch_error,
    truncated_error,
    unstable_block_error,
)

__all__ = ["RemoteFrameStream"]

Range = tuple[int, int]
Read = Callable[[str, int, int, Callable[[], None]], Awaitable[Buffer]]

CONNECTION_BUFFER_SHARE = 8
"""The part of what may be in flight that connections hold, in addition to the ranges that they
fill: bytes received and not yet handed on (measured: 0.3 to 0.5 MiB each, of 64)."""

HEDGE_SHARE = 16
"""The part of the same that hedges may hold. It is half of that of the connections: a request that
is late has as a rule received nothing yet, so that both together hold what one was to."""


class RemoteFrameStream(BlockStream):
    """One frame, read ahead in ranges.

    The ranges arrive in any order; a block whose ranges are all there is verified, and blocks are
    handed out in their order. As soon as one is taken the next is asked for, so the network works
    while the object store copies.

    Parameters
    ----------
    client : StorageClient
        The storage.
    reader : RangeReader
        The reader of its files.
    frame : FrameRef
        The frame, with its digests.
    limits : Settings
        Settings of what is in flight.
    first_block : int
        The block to begin with.
    """

    tier = "bucket"

    def __init__(
        self,
        client: StorageClient,
        reader: RangeReader,
        frame: FrameRef,
        limits: Settings,
        first_block: int = 0,
    ) -> None:
        super().__init__()
        plan = plan_ranges(
            frame.blocks, limits.range_size, reader.bytes_per_request, client.meter.throttle.rate
        )
        self._fetcher = _RangeFetcher(client, reader, frame, limits)
        self._loop = client.connection.fs.loop
        self._blocks = deque(islice(enumerate(plan), first_block, None))
        self._held = _count_held(plan, frame, limits.max_bytes_in_flight)
        self._arriving: deque[Future[list[Buffer]]] = deque()
        self._request_blocks()

    def _request_blocks(self) -> None:
        while self._blocks and len(self._arriving) < self._held:
            fetch = self._fetcher.fetch_block(*self._blocks.popleft())
            self._arriving.append(asyncio.run_coroutine_threadsafe(fetch, self._loop))

    def _next_block(self) -> Sequence[Buffer]:
        if not self._arriving:
            return ()
        block = self._arriving.popleft().result()
        self._request_blocks()
        return block

    def prefetch(self) -> None:
        """Wait for the whole frame; for one that exceeds the limits, for half of what they allow.

        The other half arrives while the first is copied and more is asked for in its place: to
        wait for all of it would leave the network idle in between (measured for 200 MiB at 30 ms
        and 80 MB/s a connection: 760 MiB/s instead of 1,000).
        """
        waited = len(self._arriving) // 2 if self._blocks else len(self._arriving)
        for arriving in islice(self._arriving, waited):
            arriving.result()

    def close(self) -> None:
        """Cancel the requests whose answers are no longer needed."""
        super().close()
        for arriving in self._arriving:
            arriving.cancel()
        self._arriving.clear()
        self._blocks.clear()


class _RangeFetcher:
    """A reader of the blocks of one frame. Belongs to the event loop."""

    def __init__(
        self, client: StorageClient, reader: RangeReader, frame: FrameRef, limits: Settings
    ) -> None:
        assert frame.digests is not None
        self._client = client
        self._reader = reader
        self._path = client.path(frame.file)
        self._url = frame.url
        self._digests = frame.digests
        self._compression = frame.compression
        self._length: int | None = None
        self._retrier = Retrier(limits.stall_timeout)
        self._moved = partial(self._retrier.progress, further=False)
        max_requests = limits.max_requests_in_flight if client.concurrent else 1
        self._requests = asyncio.Semaphore(max_requests)
        self._hedge_room = limits.max_bytes_in_flight // HEDGE_SHARE

    async def fetch_block(self, index: int, ranges: Sequence[Range]) -> list[Buffer]:
        """Return a block that matches its digest, decompressed."""
        place = (self._url, self._digests, index, ranges[0][0], ranges[-1][1])
        wrong: Counter[bytes] = Counter()
        # By turns through the reader and, where that is obstore, through the filesystem.
        readers = cycle((self._reader.read, self._reader.reread))
        for read, pause in zip(islice(readers, DIGEST_RETRIES), backoff(), strict=False):
            block = await gather_or_cancel([self._fetch_range(read, *each) for each in ranges])
            digest = await self._digest(block)
            if digest == self._digests.values[index]:
                return await self._decompress(index, block)
            wrong[digest] += 1
            self._client.meter.count_mismatch()
            if wrong[digest] == EQUAL_MISMATCHES:
                raise digest_mismatch_error(*place)
            await asyncio.sleep(pause)
        raise unstable_block_error(*place)

    async def _digest(self, block: Sequence[Buffer]) -> bytes:
        algorithm = self._digests.algorithm
        inline = sum(map(len, block)) <= cpu.INLINE_HASH_BYTES[algorithm]
        return await cpu.HASH.run(partial(digest_of, algorithm, block), inline=inline)

    async def _decompress(self, index: int, block: list[Buffer]) -> list[Buffer]:
        if not self._compression:
            return block
        decompress = partial(_decompress, self._compression, index, block, self._url)
        inline = self._compression.longest <= INLINE_DECOMPRESS_BYTES
        return [await cpu.DECOMPRESS.run(decompress, inline=inline)]

    async def _fetch_range(self, read: Read, start: int, stop: int) -> Buffer:
        """Read a range: in one request, or on a slow link in several, one after another."""
        found: list[Buffer] = []
        async with self._requests:
            while start < stop:
                request = partial(self._read_next, read, start, stop)
                found.append(await self._attempt(request))
                start += len(found[-1])
        return found[0] if len(found) == 1 else b"".join(found)

    async def _attempt(self, request: Callable[[], Awaitable[Buffer]]) -> Buffer:
        return await self._retrier.attempt(
            request,
            "cannot restore",
            self._client.place(self._url),
            self._reader.window.shrink,
            self._client.meter.count_retry,
            self._client.meter.throttle,
        )

    async def _read_next(self, read: Read, start: int, stop: int) -> Buffer:
        """Read as much from the start of a range as one request may have."""
        async with self._reader.window.request(stop - start, self._retrier) as nbytes:
            request = partial(self._read, read, start, start + nbytes)
            return await self._reader.hedging.race(request, nbytes, room=self._hedge_room)

    async def _read(self, read: Read, start: int, stop: int) -> Buffer:
        """Read the bytes of one request in full."""
        try:
            data = await read(self._path, start, stop, self._moved)
        except Exception as error:
            failure = translate(error, "cannot restore", str(self._client.place(self._url)))
            if isinstance(failure, StorageUnavailableError) and not is_throttled(error):
                await self._check_length(stop)
            if isinstance(failure, StorageNotFoundError) and await self._client.is_bucket_missing():
                raise bucket_missing_error(failure, self._client.bucket) from error
            raise
        if len(data) != stop - start:
            await self._check_length(stop)
            raise StorageUnavailableError(
                f"cannot restore {self._url}: expected {stop - start} bytes from {start}, found "
                f"{len(data)}, though the file has them. Expected the storage, and any proxy "
                "before it, to answer in full."
            )
        return data

    async def _check_length(self, stop: int) -> None:
        """Tell a file that is too short, which filesystems report in many ways, from a failure."""
        if self._length is None:
            try:
                self._length = await self._client.size(self._path)
            except Exception:
                return
        if self._length < stop:
            raise truncated_error(self._url, stop, self._length)


def _count_held(plan: Sequence[Sequence[Range]], frame: FrameRef, max_bytes: int) -> int:
    """Return the number of blocks that may be held: at rest or decompressed, the larger counts."""
    longest = max((block[-1][1] - block[0][0] for block in plan), default=1)
    if frame.compression:
        longest = max(longest, frame.compression.longest)
    held = (max_bytes - max_bytes // CONNECTION_BUFFER_SHARE) // longest
    if held < len(plan):
        # One is copied while others arrive, and one that is decompressed is held twice.
        held -= 2 if frame.compression else 1
    return max(1, held)


def _decompress(compression: Compression, index: int, block: list[Buffer], url: str) -> bytes:
    """Decompress a block, and drop the ranges that it came in as soon as they are joined."""
    at_rest = block[0] if len(block) == 1 else b"".join(block)
    block.clear()
    return compression.decompress(index, [at_rest], url)
