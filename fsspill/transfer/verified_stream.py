"""A frame that arrives in blocks, of which remote and shared ones are verified before use."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

from fsspill.errors import CorruptObjectError, StorageNotFoundError, StorageUnavailableError
from fsspill.format.digest import Digests
from fsspill.transfer.base import FrameStream

__all__ = [
    "DIGEST_RETRIES",
    "EQUAL_MISMATCHES",
    "BlockStream",
    "Buffer",
    "bucket_missing_error",
    "digest_mismatch_error",
    "truncated_error",
    "unstable_block_error",
]

Buffer: TypeAlias = bytes | memoryview

DIGEST_RETRIES = 4
"""Reads of a block that does not match its digest. Other wrong bytes each time may be right at rest
and altered on their way."""

EQUAL_MISMATCHES = 3
"""Reads that find the same wrong bytes, through the reader and through the filesystem by turns,
before the file counts as altered."""


class BlockStream(FrameStream):
    """A stream of the blocks that `_next_block` returns."""

    def __init__(self) -> None:
        self._buffers: deque[memoryview] = deque()

    @abstractmethod
    def _next_block(self) -> Sequence[Buffer]:
        """Return the next block as consecutive buffers; nothing after the last."""

    def _available(self) -> memoryview:
        """Return the rest of the current buffer, or the next one; empty at the end."""
        if not self._buffers:
            self._buffers.extend(memoryview(buffer) for buffer in self._next_block())
        return self._buffers[0] if self._buffers else memoryview(b"")

    def _consume(self, length: int) -> None:
        rest = self._buffers.popleft()[length:]
        if rest:
            self._buffers.appendleft(rest)

    def read(self, length: int) -> bytes:
        """Return the next `length` bytes, waiting for the blocks that hold them."""
        found = []
        while length and (available := self._available()):
            found.append(available[:length])
            self._consume(len(found[-1]))
            length -= len(found[-1])
        return b"".join(found)

    def readinto(self, buffer: memoryview, /) -> int:
        """Copy the rest of the current buffer into `buffer`."""
        block = self._available()[: len(buffer)]
        if not block:
            raise CorruptObjectError("the object store asked for more bytes than the frame has")
        buffer[: len(block)] = block
        self._consume(len(block))
        return len(block)

    def close(self) -> None:
        """Drop what was not read."""
        self._buffers.clear()


def truncated_error(url: str, expected: int, found: int) -> CorruptObjectError:
    """Return the error for a file of `found` bytes that should have `expected` or more."""
    return CorruptObjectError(
        f"cannot restore {url}: expected a file of at least {expected} bytes, found {found}. The "
        "file was truncated or replaced."
    )


def bucket_missing_error(failure: StorageNotFoundError, place: str) -> StorageUnavailableError:
    """Return the error for a file that is missing where its whole bucket or directory is."""
    return StorageUnavailableError(
        f"{failure} {place} itself is not visible from this node, so the file may still exist: "
        "check the endpoint, the account, the mount."
    )


def digest_mismatch_error(
    url: str, digests: Digests, index: int, start: int, stop: int
) -> CorruptObjectError:
    """Return the error for a block that does not match its digest."""
    return CorruptObjectError(
        f"{_mismatch(url, digests, index, start, stop)}, found others, the same "
        f"in {EQUAL_MISMATCHES} reads. The file was altered or replaced."
    )


def unstable_block_error(
    url: str, digests: Digests, index: int, start: int, stop: int
) -> StorageUnavailableError:
    """Return the error for a block that was different each time that it was read."""
    return StorageUnavailableError(
        f"{_mismatch(url, digests, index, start, stop)}, found others in {DIGEST_RETRIES} reads, "
        "different each time: the bytes are altered on their way. Check the network, proxies, and "
        "the memory of this machine."
    )


def _mismatch(url: str, digests: Digests, index: int, start: int, stop: int) -> str:
    return (
        f"cannot restore {url}: expected bytes {start} to {stop} of the file to have the "
        f"{digests.algorithm} digest {digests.values[index].hex()}"
    )
