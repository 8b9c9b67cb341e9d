"""A frame that is read from its file's local copy, and from the bucket where that is wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from fsspill.errors import CorruptObjectError
from fsspill.format.digest import Digests, digest_of
from fsspill.local_copy.copies import LocalCopies
from fsspill.transfer.base import FrameRef
from fsspill.transfer.local_file import LocalFileReader
from fsspill.transfer.verified_stream import BlockStream, Buffer

__all__ = ["CopiedFrameStream"]

_CHUNK = 256 * 2**10
"""Bytes that are read and hashed by turns: they are still in a cache of the CPU then."""

_UNCACHED = 2**20
"""Bytes that are read with one call where the disk must be waited for."""


class CopiedFrameStream(BlockStream):
    """One frame, read from the local copy of its file as far as that is right.

    The first block that is missing or wrong, or that the disk does not return in time, and all
    after it, come from the storage.

    Parameters
    ----------
    copies : LocalCopies
        The copies of the node.
    frame : FrameRef
        The frame, with its digests.
    open_storage : callable
        Begins to read the frame from the storage, from the block of an index on.

    Notes
    -----
    A frame of one block is read with one call, on a thread that may be abandoned, and buffered.
    Later blocks of a larger one are read straight into the object store, whose object is not
    complete then, and verified there; what the system must read from the disk is copied once more.
    Nothing else is held but one block.
    """

    def __init__(
        self, copies: LocalCopies, frame: FrameRef, open_storage: Callable[[int], BlockStream]
    ) -> None:
        super().__init__()
        assert frame.digests is not None
        self._copies = copies
        self._frame = frame
        self._digests: Digests = frame.digests
        self._open_storage = open_storage
        self._storage: BlockStream | None = None
        self._blocks = deque(enumerate(frame.blocks))
        self._file = LocalFileReader(frame, partial(copies.open_file, frame.file))
        self._calls = copies.calls(frame.file, self._file.close)
        if self._calls is None:
            self._turn_to_storage()
            return
        try:
            self._available()
        except BaseException:
            self.close()
            raise

    @property
    def tier(self) -> str:
        """Source of the bytes: "bucket" once one of them came from there."""
        return self._storage.tier if self._storage else "copy"

    def _turn_to_storage(self) -> None:
        """Read all further blocks from the storage."""
        self._close_file()
        first = self._blocks[0][0] if self._blocks else 0
        self._blocks.clear()
        self._storage = self._open_storage(first)

    def _next_block(self) -> Sequence[Buffer]:
        if self._storage:
            return self._storage._next_block()
        if not self._blocks:
            return ()
        index, (start, stop) = self._blocks[0]
        block = self._read_block(index, start, stop)
        if block is None:
            return self._next_block()
        self._blocks.popleft()
        return self._decompress(index, block)

    def _read_block(self, index: int, start: int, stop: int) -> list[bytes] | None:
        """Return a block that matches its digest; None once the storage is to be read."""
        try:
            block = self._read(start, stop)
            self._verify(index, digest_of(self._digests.algorithm, block))
        except (OSError, CorruptObjectError) as error:
            self._reject(error)
            return None
        return block

    def _read(self, start: int, stop: int) -> list[bytes]:
        assert self._calls
        block = self._calls.call(self._file.read, start, stop)
        if sum(map(len, block)) < stop - start:
            raise CorruptObjectError(f"it ends before byte {stop}")
        return block

    def _verify(self, index: int, digest: bytes) -> None:
        if digest != self._digests.values[index]:
            raise CorruptObjectError(f"block {index} of the object does not match its digest")

    def _reject(self, error: OSError | CorruptObjectError) -> None:
        self._copies.reject(self._frame.file, error)
        self._turn_to_storage()

    def _decompress(self, index: int, block: list[bytes]) -> list[bytes]:
        compression = self._frame.compression
        return [compression.decompress(index, block, self._frame.url)] if compression else block

    def prefetch(self) -> None:
        """Wait for what the storage sends; a copy is read when its bytes are wanted."""
        if self._storage:
            self._storage.prefetch()

    def readinto(self, buffer: memoryview, /) -> int:
        """Read a whole block into `buffer`, and verify it there; or copy what there is."""
        if self._buffers or not self._blocks or self._frame.compression:
            return super().readinto(buffer)
        index, (start, stop) = self._blocks[0]
        if len(buffer) < stop - start:
            return super().readinto(buffer)
        try:
            chunks = self._chunks(buffer[: stop - start], start)
            self._verify(index, digest_of(self._digests.algorithm, chunks))
        except (OSError, CorruptObjectError) as error:
            self._reject(error)
            return super().readinto(buffer)
        self._blocks.popleft()
        return stop - start

    def _chunks(self, buffer: memoryview, start: int) -> Iterator[memoryview]:
        """Fill a buffer from a place of the copy, and yield each part of it once it is filled."""
        filled = 0
        while filled < len(buffer):
            room = buffer[filled : filled + _CHUNK]
            count = self._file.read_cached(room, start + filled)
            if not count:
                room = buffer[filled : filled + _UNCACHED]
                read = b"".join(self._read(start + filled, start + filled + len(room)))
                room[:] = read
                count = len(read)
            yield room[:count]
            filled += count

    def close(self) -> None:
        """Close the copy, and cancel the requests whose answers are no longer needed."""
        super().close()
        if self._storage:
            self._storage.close()
        self._close_file()

    def _close_file(self) -> None:
        calls, self._calls = self._calls, None
        if calls is None:
            return
        with calls, suppress(OSError):
            if self._file.is_open and calls.is_usable:
                calls.call(self._file.close)
