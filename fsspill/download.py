"""One frame on its way down: read ahead in ranges, handed out in order."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future

from fsspill.errors import CorruptObjectError, translate
from fsspill.filesystem import Endpoint
from fsspill.planning import plan_ranges
from fsspill.transfer import FrameStream, Limits
from fsspill.url import ParsedURL, create_url_with_offset

__all__ = ["RangeStream"]


class RangeStream(FrameStream):
    """One frame, read ahead in ranges.

    The ranges arrive in any order and are handed out in theirs. As soon as one has been copied
    out the next is asked for, so the network works while the object store copies.
    """

    def __init__(self, endpoint: Endpoint, path: str, location: ParsedURL, limits: Limits) -> None:
        self._url = create_url_with_offset(
            url=location.base_url, offset=location.offset, size=location.size
        )
        self._endpoint = endpoint
        self._path = path
        stop = location.offset + location.size
        self._ranges = deque(plan_ranges(location.offset, stop, limits.range_size))
        longest = max((stop - start for start, stop in self._ranges), default=1)
        self._held = limits.max_bytes_in_flight // longest
        self._held = min(self._held, limits.max_requests_in_flight if endpoint.concurrent else 1)
        self._arriving: deque[Future[bytes]] = deque()
        self._current = memoryview(b"")
        self._ask()

    def _ask(self) -> None:
        while self._ranges and len(self._arriving) < self._held:
            start, stop = self._ranges.popleft()
            fetch = _fetch_range(self._endpoint, self._path, start, stop, self._url)
            self._arriving.append(asyncio.run_coroutine_threadsafe(fetch, self._endpoint.fs.loop))

    def _next(self) -> memoryview:
        """Return what is left of the current range, or the next one; empty at the end."""
        if not self._current and self._arriving:
            self._current = memoryview(self._arriving.popleft().result())
            self._ask()
        return self._current

    def read(self, length: int) -> bytes:
        """Return the next `length` bytes, waiting for as many ranges as they lie in."""
        pieces = []
        while length and self._next():
            pieces.append(self._current[:length])
            self._current = self._current[length:]
            length -= len(pieces[-1])
        return b"".join(pieces)

    def prefetch(self) -> None:
        """Wait for every range that was asked for."""
        for arriving in self._arriving:
            arriving.result()

    def readinto(self, buffer: memoryview, /) -> int:
        """Copy what has arrived of the current range into `buffer`."""
        piece = self._next()[: len(buffer)]
        buffer[: len(piece)] = piece
        self._current = self._current[len(piece) :]
        return len(piece)

    def close(self) -> None:
        """Cancel the requests that nobody waits for any more."""
        for arriving in self._arriving:
            arriving.cancel()
        self._arriving.clear()
        self._ranges.clear()


async def _fetch_range(endpoint: Endpoint, path: str, start: int, stop: int, url: str) -> bytes:
    """Read one range in full, by itself: a list of them is coalesced by some filesystems."""
    try:
        answer = await endpoint.fs._cat_ranges([path], [start], [stop], on_error="raise")
        data: bytes | Exception = answer[0]
        if isinstance(data, Exception):  # before fsspec 2025.12 on_error is not heeded
            raise data
    except Exception as error:
        failure = translate(error, "cannot restore", url)
        if isinstance(failure, (FileNotFoundError, PermissionError)):
            raise failure from error
        await _check_length(endpoint, path, stop, url)
        raise failure from error
    if len(data) != stop - start:
        raise _truncated(url, stop, start + len(data))
    return data


async def _check_length(endpoint: Endpoint, path: str, stop: int, url: str) -> None:
    """Tell a file that is too short, which filesystems report in many ways, from a failure."""
    try:
        size = (await endpoint.fs._info(path))["size"]
    except Exception:
        return
    if size is not None and size < stop:
        raise _truncated(url, stop, size)


def _truncated(url: str, expected: int, found: int) -> CorruptObjectError:
    return CorruptObjectError(
        f"cannot restore {url}: expected a file of at least {expected} bytes, found {found}. The "
        "file was truncated or replaced."
    )
