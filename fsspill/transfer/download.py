"""One frame on its way down: read ahead in ranges, checked block by block, handed out in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice

from fsspill.errors import (
    StorageNotFoundError,
    StorageUnavailableError,
    is_missing,
    is_transient,
    translate,
)
from fsspill.format.compression import INLINE_DECOMPRESS_BYTES, Compression
from fsspill.format.digest import hash_off_loop
from fsspill.format.planning import plan_ranges
from fsspill.settings import Settings
from fsspill.storage.connection import Endpoint
from fsspill.storage.range_reader import RangeReader
from fsspill.storage.retry import Retrier
from fsspill.transfer.base import FrameRef
from fsspill.transfer.limiter import gather_or_cancel
from fsspill.transfer.verified_stream import (
    DIGEST_RETRIES,
    Buffer,
    VerifiedStream,
    bucket_missing_error,
    digest_mismatch_error,
    truncated_error,
)

__all__ = ["RemoteFrameStream"]

Range = tuple[int, int]

_decompressing = ThreadPoolExecutor(1, thread_name_prefix="fsspill-decompress")
"""One thread does what a process restores at most, about 1 GiB/s, and there is but one block that
is held twice meanwhile."""

CONNECTION_BUFFER_SHARE = 8
"""The part of what may be in flight that connections hold, beside the ranges that they fill: what
they have received and not yet handed on (measured: 0.3 to 0.5 MiB each, of 64)."""


class RemoteFrameStream(VerifiedStream):
    """One frame, read ahead in ranges.

    The ranges arrive in any order; a block whose ranges are all there is checked, and blocks are
    handed out in their order. As soon as one is taken the next is asked for, so the network works
    while the object store copies.

    Parameters
    ----------
    endpoint : Endpoint
        The filesystem.
    reader : RangeReader
        Who reads from it.
    path : str
        The file's path there.
    source : FrameRef
        The frame, with its digests.
    limits : Settings
        Bounds of what is in flight.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        reader: RangeReader,
        path: str,
        source: FrameRef,
        limits: Settings,
    ) -> None:
        super().__init__()
        plan = plan_ranges(source.blocks, limits.range_size, reader.bytes_per_request)
        self._file = _RangeFetcher(endpoint, reader, path, source, limits)
        self._loop = endpoint.fs.loop
        self._blocks = deque(enumerate(plan))
        self._held = _count_held(plan, source, limits.max_bytes_in_flight)
        self._arriving: deque[Future[list[Buffer]]] = deque()
        self._ask()

    def _ask(self) -> None:
        while self._blocks and len(self._arriving) < self._held:
            fetch = self._file.fetch_block(*self._blocks.popleft())
            self._arriving.append(asyncio.run_coroutine_threadsafe(fetch, self._loop))

    def _next_block(self) -> Sequence[Buffer]:
        if not self._arriving:
            return ()
        block = self._arriving.popleft().result()
        self._ask()
        return block

    def prefetch(self) -> None:
        """Wait for the whole frame; of one that the limits do not let be held, for half of those.

        The other half arrives while the first is copied and more is asked for in its place: to
        wait for all of it would leave the network idle in between (measured for 200 MiB at 30 ms
        and 80 MB/s a connection: 760 MiB/s instead of 1,000).
        """
        waited = len(self._arriving) // 2 if self._blocks else len(self._arriving)
        for arriving in islice(self._arriving, waited):
            arriving.result()

    def close(self) -> None:
        """Cancel the requests that nobody waits for any more."""
        super().close()
        for arriving in self._arriving:
            arriving.cancel()
        self._arriving.clear()
        self._blocks.clear()


class _RangeFetcher:
    """Reads ranges of one file. Belongs to the event loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        reader: RangeReader,
        path: str,
        source: FrameRef,
        limits: Settings,
    ) -> None:
        assert source.digests is not None
        self._endpoint = endpoint
        self._reader = reader
        self._path = path
        self._url = source.url
        self._digests = source.digests
        self._compression = source.compression
        self._length: int | None = None
        self._retrier = Retrier(limits.stall_timeout)
        self._requests = asyncio.Semaphore(
            limits.max_requests_in_flight if endpoint.concurrent else 1
        )

    async def fetch_block(self, index: int, ranges: Sequence[Range]) -> list[Buffer]:
        """Return a block that matches its digest, decompressed."""
        for _ in range(DIGEST_RETRIES):
            block = await gather_or_cancel([self._fetch_range(*range_) for range_ in ranges])
            if await self._matches(index, block):
                return await self._decompressed(index, block)
        raise digest_mismatch_error(self._url, self._digests, index, ranges[0][0], ranges[-1][1])

    async def _matches(self, index: int, block: Sequence[Buffer]) -> bool:
        match = partial(self._digests.match, index, block)
        return await hash_off_loop(self._digests.algorithm, sum(map(len, block)), match)

    async def _decompressed(self, index: int, block: list[Buffer]) -> list[Buffer]:
        if not self._compression:
            return block
        decompress = partial(_decompress, self._compression, index, block, self._url)
        if self._compression.longest <= INLINE_DECOMPRESS_BYTES:
            return [decompress()]
        return [await asyncio.get_running_loop().run_in_executor(_decompressing, decompress)]

    async def _fetch_range(self, start: int, stop: int) -> Buffer:
        async with self._requests:
            return await self._retrier.attempt(
                lambda: self._read(start, stop), "cannot restore", self._url
            )

    async def _read(self, start: int, stop: int) -> Buffer:
        """Read one range in full."""
        try:
            data = await self._reader.read(self._path, start, stop)
        except Exception as error:
            failure = translate(error, "cannot restore", self._url)
            if is_transient(failure):
                await self._check_length(stop)
            if isinstance(failure, StorageNotFoundError):
                await self._check_bucket(failure)
            raise
        if len(data) != stop - start:
            await self._check_length(stop)
            raise StorageUnavailableError(
                f"cannot restore {self._url}: expected {stop - start} bytes from {start}, found "
                f"{len(data)}, though the file has them. Expected the storage, and what lies in "
                "between, to answer in full."
            )
        return data

    async def _check_bucket(self, failure: StorageNotFoundError) -> None:
        """Tell a file that is gone from a bucket that this node does not see."""
        if self._endpoint.traits.has_directories:
            return
        bucket = self._endpoint.root.partition("/")[0]
        try:
            await self._endpoint.fs._info(bucket)
        except Exception as error:
            if is_missing(error):
                raise bucket_missing_error(failure, bucket) from error

    async def _check_length(self, stop: int) -> None:
        """Tell a file that is too short, which filesystems report in many ways, from a failure."""
        if self._length is None:
            try:
                self._length = (await self._endpoint.fs._info(self._path))["size"]
            except Exception:
                return
        if self._length is not None and self._length < stop:
            raise truncated_error(self._url, stop, self._length)


def _count_held(plan: Sequence[Sequence[Range]], source: FrameRef, max_bytes: int) -> int:
    """Return how many blocks may be held: as they are at rest or before, whichever is more."""
    longest = max((block[-1][1] - block[0][0] for block in plan), default=1)
    if source.compression:
        longest = max(longest, source.compression.longest)
    held = (max_bytes - max_bytes // CONNECTION_BUFFER_SHARE) // longest
    if held < len(plan):
        # One is copied while others arrive, and one that is decompressed is held twice.
        held -= 2 if source.compression else 1
    return max(1, held)


def _decompress(compression: Compression, index: int, block: list[Buffer], url: str) -> bytes:
    """Decompress a block, and let go of the ranges that it came in as soon as they are joined."""
    at_rest = block[0] if len(block) == 1 else b"".join(block)
    block.clear()
    return compression.decompress(index, [at_rest], url)
